"""How s3fs is told about a server: by whoever opens a store or a source, whether or not it is on S3.

It is apart from the rest of what is known about s3fs, because a quarter of a second of imports comes with that.
A client of S3 is made of 1.5 MB of JSON, which botocore reads anew for each session: over a tenth of a second. Here all
sessions of a process share what the first one has read; nothing else is shared, so each has its own credentials.
FSSPEC_S3_KEY and the like are parsed as JSON, so that a key of digits becomes a number: strings are handed over.
"""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING, Any

import fsspec.config

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

__all__ = ["s3_options"]


def s3_options(endpoint_url: str | None) -> dict[str, Any]:
    """Options of s3fs that a store and a source need alike: endpoint, retries, credentials as text, checksums."""
    endpoint = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config: dict[str, Any] = {"retries": {"max_attempts": 3, "mode": "standard"}}
    configured = fsspec.config.conf.get("s3", {})
    session = _session(configured.get("profile"))
    options: dict[str, Any] = {"session": session, "config_kwargs": config, **_credentials_as_text()}
    if endpoint:
        options["endpoint_url"] = endpoint
    if endpoint or "endpoint_url" in configured:
        # Gateways other than AWS refuse or mishandle the checksums that botocore adds since 1.36.
        config["request_checksum_calculation"] = "when_required"
    return options


def _session(profile: str | None) -> AioSession:
    from aiobotocore.session import AioSession  # noqa: PLC0415 - not for those who use no S3

    session = AioSession(profile=profile)
    session.register_component("data_loader", _models())
    return session


@functools.cache
def _models() -> Any:
    """What reads the descriptions of services, and keeps them."""
    from aiobotocore.session import AioSession  # noqa: PLC0415 - not for those who use no S3

    return AioSession().get_component("data_loader")


def _credentials_as_text() -> dict[str, str]:
    """FSSPEC_S3_KEY=123 reaches s3fs as a number and fails; give the text itself."""
    texts = {}
    for name in ("key", "secret", "token"):
        given = fsspec.config.conf.get("s3", {}).get(name)
        if given is not None:
            texts[name] = os.environ.get(
                f"FSSPEC_S3_{name.upper()}", given if isinstance(given, str) else json.dumps(given)
            )
    return texts

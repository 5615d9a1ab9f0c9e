"""The whole pipeline on object storage, with the endpoint from the config: the same bytes as on a disk."""

from __future__ import annotations

import pytest

from datasets.store import Store
from tests.s3_server import SECRET, moto_endpoint, s3_url
from tests.tiny import Published, build, contents, tiny_config

__all__ = ["moto_endpoint", "s3_url"]


@pytest.fixture
def store_url(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix in a bucket; where the server is, only the config says."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return s3_url


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_object_storage_gives_the_same_bytes(published: Published, store_url: str, moto_endpoint: str) -> None:
    config = tiny_config(store_url, published.source, store__endpoint_url=moto_endpoint)
    made = build(config)
    assert all(artifact.ref.uri.startswith("s3://") for artifact in made.values())
    store = Store.open(config.store)
    assert contents(store) == contents(Store.open(published.config.store))
    assert store.verify() == []
    assert store.storage.find("work") == {}
    assert not any(SECRET in text for text in map(str, (artifact.manifest for artifact in made.values())))
    assert {kind: artifact.ref for kind, artifact in build(config).items()} == {
        kind: artifact.ref for kind, artifact in made.items()
    }


def test_memory_gives_the_same_bytes(published: Published) -> None:
    config = tiny_config("memory://tiny", published.source)
    build(config, "train_prior")
    here, there = contents(Store.open(config.store)), contents(Store.open(published.config.store))
    assert here == {kind: there[kind] for kind in here}
    assert len(here) == 4

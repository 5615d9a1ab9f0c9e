"""Weights of other people's networks, from an explicit path or URL: found, digested, read as tensors only."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

__all__ = ["WeightsError", "file_sha256", "read_tensors", "weights_file"]


class WeightsError(ValueError):
    """Weights that cannot be had or do not fit: names the file and the ways out."""


def weights_file(place: str, *, what: str, remedy: str) -> Path:
    """The file of a path or URL; what a URL names is fetched once, into torch hub's cache.

    Args:
        place: path or URL.
        what: whose weights, for messages: `LPIPS weights`.
        remedy: what to give instead where there are none.

    Raises:
        WeightsError: there is no such file, or the URL cannot be fetched.
    """
    if "://" in place:
        return _fetched(place, what, remedy)
    path = Path(place).expanduser()
    if not path.is_file():
        raise WeightsError(f"{what} {path}: there is no such file; {remedy}")
    return path


def read_tensors(path: Path, *, what: str) -> dict[str, Tensor]:
    """A state dict, from safetensors or from a torch file without a single foreign object.

    Raises:
        WeightsError: it is neither.
    """
    try:
        state: Any = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{what} {path} cannot be read as tensors ({reason}); fetch it anew") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{what} {path}: expected a state dict, got {type(state).__name__}")
    return dict(state)


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetched(url: str, what: str, remedy: str) -> Path:
    name = url.rsplit("/", 1)[-1]
    known_hash = torch.hub.HASH_REGEX.search(name) if url.startswith("https://download.pytorch.org/") else None
    if known_hash is None:
        # The cache is keyed by file name alone: two URLs that end alike must not share a file.
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), known_hash.group(1) if known_hash else None, progress=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{what}: {path} is missing and {url} cannot be fetched ({error}); either put that file there, or "
                f"{remedy}"
            ) from None
    return path

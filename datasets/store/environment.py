"""What an artifact was made with: versions, platform, commit. Nothing heavy is imported to find out."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["environment"]

_PACKAGES = (
    "tessera-pipeline", "torch", "torchvision", "numpy", "pyarrow", "pillow", "safetensors", "prefect", "pydantic",
    "fsspec", "s3fs", "lpips", "scikit-learn",
)  # fmt: skip


def environment(device: str) -> dict[str, Any]:
    """Describe this process; `device` names what computed, for example cpu or the GPU's name."""
    return {**_fixed(), "device": device}


@functools.cache
def _fixed() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that this file is in, with + if files differ from it; None outside of one."""
    git = shutil.which("git")
    root = Path(__file__).resolve().parents[2]
    if git is None or not (root / ".git").exists():
        return None
    # `describe` with an impossible match prints the commit alone, and + where tracked files have changed.
    command = [git, "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 (fixed words)
    return done.stdout.strip() or None

"""Tensors out of files of other projects, without running anything that a file holds.

`.safetensors` has nothing but tensors. `.ckpt`, `.pth`, `.pt`, `.bin` and `.pkl` are pickles, which may run any code
when they are loaded; they are read with `weights_only=True`, which builds tensors and plain containers and refuses the
rest. Lightning's older files hold classes of their callbacks, and DALL·E's are whole modules, so they are refused, with
a line that says how to get at the tensors.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

__all__ = ["Checkpoint", "CheckpointError", "find_weights", "read_checkpoint"]

SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin", ".pkl")
#: Where projects keep the weights inside a pickle, the averaged ones first; as their own loaders choose.
ENTRIES = ("ema", "state_dict", "model", "module")
#: What DistributedDataParallel and torch.compile put before every key.
WRAPPERS = ("module.", "_orig_mod.")

#: What PyTorch calls the class or function that it refuses to make.
_REFUSED = re.compile(r"GLOBAL (\S+)")


class CheckpointError(ValueError):
    """A file that cannot be imported, or not safely."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file."""

    tensors: dict[str, Tensor]
    """By the project's own keys; on the CPU, as they lie in the file."""
    entry: str
    """The entry of the pickle that held them; empty if they were at the top."""


def find_weights(path: Path) -> Path:
    """The file of weights that a path means, absolute: itself, or the only one in a folder.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    if not path.exists():
        raise CheckpointError(f"there is no {path}: give a file of weights, or the folder of one")
    path = path.resolve()  # what lies beside it is found from anywhere
    if path.is_file():
        return path
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    safe = [file for file in found if file.suffix == ".safetensors"]
    usual = [file for file in found if file.suffix != ".pkl"]  # of anything
    chosen = safe or usual or found
    if len(chosen) != 1:
        names = ", ".join(file.name for file in chosen[:5]) or "none"
        raise CheckpointError(f"{path} has not one file of weights ({', '.join(SUFFIXES)}) but {names}: name the file")
    return chosen[0]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file's tensors; nothing in it is run.

    Raises:
        CheckpointError: another kind of file, a damaged one, one with other objects than tensors, or none at all.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path.name}: files of weights end in one of {', '.join(SUFFIXES)}")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    entry, tensors = _weights(content, path)
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in tensors):
            tensors = {key.removeprefix(wrapper): tensor for key, tensor in tensors.items()}
    return Checkpoint(tensors, entry)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load_file(path))
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path.name} is damaged, or no safetensors file: {error}") from None


def _pickle(path: Path) -> Any:
    try:
        # Mapped, so that a file of gigabytes is read as it is used; the format of before 2020 cannot be.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        if refused is None:
            raise CheckpointError(_damaged(path, error)) from None
        raise CheckpointError(_conversion(path, refused[1])) from None
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{path.name} is damaged, or no PyTorch file ({words[-1] if words else 'it ends too early'})"


_LOAD = "map_location='cpu', weights_only=False)"


def _conversion(path: Path, what: str) -> str:
    """What a file holds that is refused, and the command that saves the tensors alone."""
    of_dalle = what.startswith("dall_e.")
    target = "dalle.ckpt" if of_dalle else "tensors.ckpt"
    command = (
        "import torch; halves = {part: torch.load(part + '.pkl', " + _LOAD + " for part in ('encoder', 'decoder')}; "
        "state = {f'{part}.{key}': value for part, half in halves.items() for key, value in half.state_dict().items()}"
        if of_dalle
        else f"import torch; whole = torch.load('{path.name}', " + _LOAD + "; "
        "state = whole.state_dict() if hasattr(whole, 'state_dict') else "
        f"next((whole[name] for name in {ENTRIES} if name in whole), whole)"
    )
    where = ", with DALL·E's package and beside encoder.pkl and decoder.pkl" if of_dalle else ""
    return (
        f"{path.name} holds {what} beside its tensors, and to load that is to run whatever code the file brings: not "
        "done here. If you trust its author, save the tensors alone, in a container without network or "
        f"secrets{where}: python -c \"{command}; torch.save({{'state_dict': state}}, '{target}')\", and import {target}"
    )


def _weights(content: Any, path: Path) -> tuple[str, dict[str, Tensor]]:
    if isinstance(content, Mapping):
        for entry in ("", *ENTRIES):
            inside = content if not entry else content.get(entry)
            if isinstance(inside, Mapping) and inside and all(isinstance(value, Tensor) for value in inside.values()):
                return entry, {str(key): value for key, value in inside.items()}
    kinds = f"entries {sorted(map(str, content))[:6]}" if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(
        f"{path.name} has no state dict at its top or under {', '.join(ENTRIES)}, only {kinds}: save the model's "
        "state_dict() alone"
    )

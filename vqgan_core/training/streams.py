"""Random streams: every random choice of a run comes from its seed, through a stream with a name of its own.

Streams are independent, so that switching one on (condition dropout, dead-code restart) leaves the others as they
were. Dropout draws from PyTorch's global generators; the loop seeds and saves those. Nothing here uses Python's or
numpy's global generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def stream_seed(seed: int, name: str) -> int:
    """The seed of a named stream: 63 bits of sha256."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for a named stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, name))


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Draw from a named stream where code uses the global CPU generator (initial weights), then put that back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, name))
        yield


def seed_global(seed: int, name: str) -> None:
    """Seed PyTorch's global generators, of every device, from a named stream."""
    torch.manual_seed(stream_seed(seed, name))


def global_state(device: torch.device) -> dict[str, Tensor]:
    """States of the global generators that training on this device draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_global_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put the global generators back; a state of a device kind that is not used now is left out."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])

"""Keys, shapes and numbers of a dVAE in the layout that DALL·E's was published in, written down from its description.

Four groups of blocks, widths 1, 2, 4, 8 times n_hid; a block's convolutions are a quarter as wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

PUBLISHED = {"n_hid": 256, "n_init": 128, "num_blocks": 2, "vocab_size": 8192}
SMALL = {"n_hid": 64, "n_init": 8, "num_blocks": 1, "vocab_size": 512}
NUM_GROUPS = 4


def shapes(n_hid: int, n_init: int, num_blocks: int, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Every key of encoder and decoder."""
    widths = [n_hid * 2**group for group in range(NUM_GROUPS)]
    found = dict(_layer("encoder.blocks.input", 3, n_hid, 7))
    for group, pair in enumerate(zip([n_hid, *widths], widths, strict=False), 1):
        found |= _group(f"encoder.blocks.group_{group}", *pair, num_blocks, (3, 3, 3, 1))
    found |= _layer("encoder.blocks.output.conv", widths[-1], vocab_size, 1)
    found |= _layer("decoder.blocks.input", vocab_size, n_init, 1)
    for group, pair in enumerate(zip([n_init, *widths[::-1]], widths[::-1], strict=False), 1):
        found |= _group(f"decoder.blocks.group_{group}", *pair, num_blocks, (1, 3, 3, 3))
    return found | dict(_layer("decoder.blocks.output.conv", n_hid, 6, 1))


def state(**sizes: int) -> dict[str, Tensor]:
    """Tensors of that layout, random, and large enough that every layer can be seen in what comes out."""
    random = np.random.default_rng(7)
    found = {}
    for key, shape in shapes(**sizes).items():
        scale = 1.5 / math.prod(shape[1:]) ** 0.5 if len(shape) == 4 else 0.2
        found[key] = torch.from_numpy(random.standard_normal(shape, dtype=np.float32) * np.float32(scale))
    return found


def _layer(name: str, in_channels: int, out_channels: int, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.w", (out_channels, in_channels, size, size)
    yield f"{name}.b", (out_channels,)


def _group(
    name: str, in_channels: int, channels: int, num_blocks: int, kernels: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    found = {}
    for block in range(1, num_blocks + 1):
        before = in_channels if block == 1 else channels
        if before != channels:
            found |= _layer(f"{name}.block_{block}.id_path", before, channels, 1)
        widths = (before, *[channels // 4] * 3, channels)
        for number, size in enumerate(kernels, 1):
            found |= _layer(f"{name}.block_{block}.res_path.conv_{number}", widths[number - 1], widths[number], size)
    return found

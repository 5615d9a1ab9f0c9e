"""One random stream an image: the noise of image, step and codebook entry is a pure function of the three.

Axes: B batch, K codebook entries.

A stream that is shared by a batch makes an image depend on its neighbours, and a torch.Generator for each image costs a
loop over images at every step. SplitMix64 (Steele, Lea and Flood 2014, OOPSLA) is a counter-based generator of a few
integer operations, so all images' noise is computed at once, and alike on every device. Integers wrap modulo 2⁶⁴.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


GAMMA = _signed(0x9E3779B97F4A7C15)  # 2⁶⁴ / golden ratio, odd: the increment between outputs
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)
LARGEST = 1 - 2**-24  # the largest fp32 number below 1


class ImageStreams:
    """Independent streams of Exp(1) noise, one for each seed.

    Args:
        seeds: one an image, 0 … 2⁶³ - 1; equal seeds give equal streams.
        device: where the noise is wanted.

    Raises:
        ValueError: a seed out of range.
    """

    def __init__(self, seeds: Sequence[int] | Int[Tensor, " B"], device: torch.device) -> None:
        values = seeds.tolist() if isinstance(seeds, Tensor) else [int(seed) for seed in seeds]
        if any(not 0 <= seed < 2**63 for seed in values):
            raise ValueError(f"seeds {values[:8]}: each must be in 0 … 2^63 - 1")
        self._keys = mix(torch.tensor(values, dtype=torch.int64, device=device) + GAMMA)

    def __len__(self) -> int:
        return self._keys.shape[0]

    def exponential(self, step: int, num_entries: int) -> Float[Tensor, "B K"]:
        """Exp(1) noise of one step, in (0, 17)."""
        starts = mix(self._keys + _signed((step + 1) * GAMMA % 2**64))
        counters = torch.arange(1, num_entries + 1, device=starts.device) * GAMMA
        bits = mix(starts[:, None] + counters)
        # 53 bits as fp32: the numbers near 0, which decide a race, keep 24 significant bits.
        uniform = _shift_right(bits, 11).to(torch.float32) * 2.0**-53
        return -torch.log1p(-uniform.clamp(2.0**-53, LARGEST))


def mix(x: Int[Tensor, ...]) -> Int[Tensor, ...]:
    """SplitMix64's bijection of 64-bit integers, after which neighbours look unrelated."""
    x = (x ^ _shift_right(x, 30)) * MIX_1
    x = (x ^ _shift_right(x, 27)) * MIX_2
    mixed: Tensor = x ^ _shift_right(x, 31)
    return mixed


def _shift_right(x: Int[Tensor, ...], bits: int) -> Int[Tensor, ...]:
    """Shift as unsigned numbers: torch's shift repeats the sign bit."""
    shifted: Tensor = (x >> bits) & (2 ** (64 - bits) - 1)
    return shifted

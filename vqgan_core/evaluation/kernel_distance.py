"""Kernel distance (KID in Inception features): is one set of features drawn from the same distribution as another?

Axes: `R real, S samples, M images of a subset, D feature width`.

Source: Bińkowski et al. 2018 (arXiv 1801.01401), eq. 3-4: the unbiased estimate of the squared maximum mean discrepancy
under the kernel (x·y / D + 1)³, averaged over random subsets. Unlike a Fréchet distance it does not grow when there are
fewer images; between two real sets it lies around 0 and can be negative.

The subsets are those of torch-fidelity for the same seed, samples drawn before real images, so values agree with its.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["KernelDistance", "kernel_distance"]


class KernelDistance(NamedTuple):
    """The mean over subsets, their spread, and what they were."""

    value: float
    deviation: float | None
    """Standard deviation of the subsets' values; None where the only subset is the whole."""
    num_subsets: int
    subset_size: int


def kernel_distance(
    real: Float[Tensor, "R D"], samples: Float[Tensor, "S D"], *, num_subsets: int, subset_size: int, seed: int
) -> KernelDistance:
    """Average the discrepancy of random subsets.

    Args:
        real: features of the reference images.
        samples: features of the judged images.
        num_subsets: how many subsets.
        subset_size: images of each; of smaller sets, all. If that is all of both, there is one subset.
        seed: of the choice of subsets.

    Raises:
        ValueError: a set has fewer than two images, or the widths differ.
    """
    if real.ndim != 2 or samples.ndim != 2 or real.shape[1] != samples.shape[1]:
        raise ValueError(f"features of shape {tuple(real.shape)} and {tuple(samples.shape)} cannot be compared")
    size = min(subset_size, len(real), len(samples))
    if size < 2:
        raise ValueError(f"a kernel distance needs at least 2 images, got {len(real)} and {len(samples)}")
    real, samples = real.double(), samples.double()
    if size == len(real) == len(samples):
        return KernelDistance(_discrepancy(samples, real), None, 1, size)
    chooser = np.random.RandomState(seed)
    values = []
    for _ in range(num_subsets):
        chosen = samples[torch.from_numpy(chooser.choice(len(samples), size, replace=False))]
        values.append(_discrepancy(chosen, real[torch.from_numpy(chooser.choice(len(real), size, replace=False))]))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), num_subsets, size)


def _discrepancy(first: Float[Tensor, "M D"], second: Float[Tensor, "M D"]) -> float:
    """The unbiased estimate: pairs of an image with itself are left out."""
    size = len(first)
    within = [_kernel(part, part) for part in (first, second)]
    similar = sum(float(kernel.sum() - kernel.diagonal().sum()) for kernel in within) / (size * (size - 1))
    return similar - 2 * _kernel(first, second).mean().item()


def _kernel(first: Float[Tensor, "A D"], second: Float[Tensor, "M D"]) -> Float[Tensor, "A M"]:
    products: Tensor = first @ second.T / first.shape[1] + 1
    return products**3

"""What is kept of a set of images to compare it with another: sums of its features, and the features of some images.

Axes: `n images, D feature width, P width of the spatial features, Q kept images, L classes`.

A Fréchet distance needs sums alone, however many images there are. Kernel distance, precision, recall, density and
coverage need features themselves: those of a seeded choice of images are kept. The Inception score needs the class
scores of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from vqgan_core.evaluation.extractor import Features
from vqgan_core.evaluation.frechet import GaussianStatistics
from vqgan_core.evaluation.sums import FeatureSums

__all__ = ["SetSummary"]


@dataclass(frozen=True)
class SetSummary:
    """A set of images, seen through an extractor."""

    pooled: GaussianStatistics
    kept: Float[Tensor, "Q D"]
    """Features of the kept images, in the order of the images."""
    spatial: GaussianStatistics | None = None
    logits: Float[Tensor, "n L"] | None = None

    @classmethod
    def of(cls, parts: Iterable[Features], *, count: int, num_kept: int, seed: int, with_logits: bool) -> SetSummary:
        """Summarise a stream of features.

        Args:
            parts: features of all images, batch after batch.
            count: images in all.
            num_kept: keep the features of at most so many.
            seed: of their choice.
            with_logits: keep the class scores of all.

        Raises:
            ValueError: there is no image, or not `count` of them.
        """
        order = np.random.RandomState(seed).permutation(count)
        chosen = np.zeros(count, dtype=bool)
        chosen[order[:num_kept]] = True
        pooled: FeatureSums | None = None
        spatial: FeatureSums | None = None
        kept, logits, done = [], [], 0
        for part in parts:
            pooled = _added(pooled, part.pooled)
            spatial = spatial if part.spatial is None else _added(spatial, part.spatial)
            kept.append(part.pooled[torch.from_numpy(chosen[done : done + len(part.pooled)])])
            if with_logits and part.logits is not None:
                logits.append(part.logits)
            done += len(part.pooled)
        if pooled is None or done != count:
            raise ValueError(f"expected features of {count} images, got {done}: the set is empty or changed meanwhile")
        return cls(
            pooled.statistics(),
            torch.cat(kept),
            None if spatial is None else spatial.statistics(),
            torch.cat(logits) if logits else None,
        )

    @property
    def count(self) -> int:
        """Images of the set."""
        return self.pooled.count

    def to_bytes(self) -> bytes:
        """As a safetensors file, to be kept: statistics of a reference set are computed once."""
        tensors = {"kept": self.kept.contiguous(), **_tensors("pooled", self.pooled)}
        if self.spatial is not None:
            tensors |= _tensors("spatial", self.spatial)
        if self.logits is not None:
            tensors["logits"] = self.logits.contiguous()
        return safetensors.torch.save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> SetSummary:
        """Read `to_bytes`."""
        tensors = safetensors.torch.load(data)
        pooled = _statistics("pooled", tensors)
        assert pooled is not None
        return cls(pooled, tensors["kept"], _statistics("spatial", tensors), tensors.get("logits"))


def _added(sums: FeatureSums | None, features: Tensor) -> FeatureSums:
    part = FeatureSums.of(features)
    return part if sums is None else sums.merged(part)


def _tensors(name: str, statistics: GaussianStatistics) -> dict[str, Tensor]:
    return {
        f"{name}.count": torch.tensor(statistics.count),
        f"{name}.mean": statistics.mean,
        f"{name}.scatter": statistics.scatter,
    }


def _statistics(name: str, tensors: dict[str, Tensor]) -> GaussianStatistics | None:
    if f"{name}.count" not in tensors:
        return None
    return GaussianStatistics(int(tensors[f"{name}.count"]), tensors[f"{name}.mean"], tensors[f"{name}.scatter"])

"""What each comparison is to reach, by the kind of device; a target is reached by the best of the rows that name it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.device import DEVICE


@dataclass(frozen=True)
class Target:
    """A ratio to the plain way, or a share of what the machine allows."""

    name: str
    ratio: float | None = None
    share: float | None = None

    @property
    def wanted(self) -> str:
        """In words."""
        return f"≥ {self.ratio:g} ×" if self.ratio is not None else f"≥ {self.share:.0%} of the bound"


_ON_CPU = DEVICE.type == "cpu"
ENCODE = Target("encode", 2 if _ON_CPU else 4)
TOKENIZER_STEP = Target("tokenizer step", 1.5)
PRIOR_STEP = Target("prior training", 2) if _ON_CPU else Target("prior training, ≥ 300 M parameters", share=0.45)
SAMPLE = Target("sampling of 256 tokens", 10)
SAMPLE_CACHED = Target("sampling of 256 tokens, baseline with a cache", 2.5)

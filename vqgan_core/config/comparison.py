"""Config of the compare stage."""

from __future__ import annotations

from pydantic import Field

from vqgan_core.config.base import Config
from vqgan_core.config.prior import SampleExecution

__all__ = ["CompareConfig"]


class CompareConfig(Config):
    """What is shown of artifacts side by side."""

    num_images: int = Field(8, ge=1, le=64)
    """Images that all tokenizers reconstruct."""
    num_samples: int = Field(8, ge=1, le=64)
    """Images that all priors draw, from the same seeds and of the same classes."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Image i is drawn from a seed derived from this and i alone, as in the sample stage."""
    execution: SampleExecution = SampleExecution()
    """How it runs; not part of the fingerprint."""

"""Config of the evaluate stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from vqgan_core.config.base import LATER, Config
from vqgan_core.config.extractor import ExtractorConfig
from vqgan_core.config.prior import SampleExecution
from vqgan_core.config.protocol import ProtocolConfig
from vqgan_core.config.tokenizer import LpipsConfig


class ClassifierConfig(Config):
    """The domain classifier: a small network trained on the corpus' labels, whose features FD-domain lives in."""

    num_steps: int = Field(1500, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(64, ge=1)
    """Images a step."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak rate of AdamW with a one-cycle schedule."""
    base_channels: int = Field(16, ge=1)
    """Width of the first layer; each halving of the image doubles it."""
    size_px: int = Field(32, ge=8)
    """Images are resized to this before the network."""


class PerturbedConfig(Config):
    """pFID (RobustTok, arXiv 2503.08354): reconstructions from indices some of which a prior has got slightly wrong."""

    probability: float = Field(0.5, gt=0, le=1)
    """Share of indices that are replaced."""
    num_neighbours: int = Field(100, ge=1)
    """Each by one of so many nearest other entries."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Of the replacements; each image has its own."""


class EvaluateExecution(SampleExecution):
    """How the evaluate stage runs."""

    num_processes: int = Field(1, ge=1)
    """Processes that compute features of images side by side, each with num_threads; numbers do not depend on it."""


class EvaluateConfig(Config):
    """Recipe and execution of the evaluate stage."""

    num_images: int = Field(2000, ge=2)
    """At most so many validation images for reconstruction metrics."""
    lpips: LpipsConfig | None = None
    """LPIPS of reconstructions, with weights from an explicit place; null: not measured."""
    classifier: ClassifierConfig = ClassifierConfig()
    """The domain classifier; used where the corpus has at least two classes."""
    num_neighbours: int = Field(3, ge=1)
    """k of precision and recall (Kynkäänniemi et al. 2019)."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the classifier's training."""
    num_pictures: int = Field(15, ge=1, le=256)
    """Originals and reconstructions shown in the report."""
    extractors: Annotated[tuple[ExtractorConfig, ...], LATER] = ()
    """Pretrained networks in whose features reconstructions and samples are compared with real images."""
    protocol: Annotated[ProtocolConfig, LATER] = ProtocolConfig()
    """Which images, how many, and the constants of those comparisons: own, paper, adm or llamagen."""
    perturbation: Annotated[PerturbedConfig | None, LATER] = None
    """Also compare reconstructions from perturbed indices: pFID; null: do not."""
    execution: EvaluateExecution = EvaluateExecution()
    """How it runs; not part of the fingerprint."""


class SweepConfig(Config):
    """Which settings of sampling are tried, and by which metric the best is named."""

    guidance: tuple[float, ...] = Field((1.0, 1.5, 2.0, 3.0), min_length=1, max_length=32)
    """Scales of classifier-free guidance; 1 is off."""
    temperature: tuple[float, ...] = Field((0.9, 1.0), min_length=1, max_length=32)
    """Each with every scale of guidance."""
    num_per_class: int = Field(20, ge=1)
    """Images of each class for each pair of settings."""
    metric: str = Field("FD-domain", min_length=1)
    """Name of the metric that decides; all are in the table."""
    execution: SampleExecution = SampleExecution()
    """How it runs; not part of the fingerprint."""

    @field_validator("guidance", "temperature")
    @classmethod
    def _values_differ(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values) or min(values) < 0:
            raise ValueError("values of at least 0, each once")
        return values

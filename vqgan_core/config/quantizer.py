"""Configs of the quantizers: one variant for each way in which latents become indices.

K is the tokenizer's codebook_size and D its codebook_dim; where a quantizer fixes one of them by construction, a config
that says otherwise is an error.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from vqgan_core.config.base import LATER, Config, variant_of

GradientEstimator = Literal["straight_through", "rotation"]
RestartSteps = Annotated[int, Field(ge=1)] | None


class _QuantizerConfig(Config):
    @property
    def indices_per_latent(self) -> int:
        """R: a row of the grid has so many indices for each latent."""
        return 1

    def check_codebook(self, codebook_size: int, codebook_dim: int) -> None:
        """Refuse a K and D that this quantizer cannot have.

        Raises:
            ValueError: says what was given and what fits.
        """


class VectorQuantizerConfig(_QuantizerConfig):
    """Nearest codebook entry with straight-through gradients (VQ-VAE, VQGAN)."""

    kind: Literal["vector"] = "vector"
    commitment_weight: float = Field(0.25, ge=0)
    """β of the paper's L_VQ."""
    beta_placement: Literal["corrected", "legacy"] = "corrected"
    """Which term β scales: the commitment term (paper), or the codebook term (the original's code)."""
    l2_normalize: bool = False
    """Compare unit vectors (ViT-VQGAN, LlamaGen); keeps large codebooks in use at small codebook_dim."""
    restart_dead_codes_after_steps: RestartSteps = None
    """An entry that no latent chose for this many steps is put on a random latent of the batch; null: never."""
    gradient: Annotated[GradientEstimator, LATER] = "straight_through"
    """How the decoder's gradient reaches the latents: copied, or turned and scaled like the latent (rotation trick)."""


class EmaQuantizerConfig(_QuantizerConfig):
    """Nearest entry of a codebook that follows its latents by moving averages (VQ-VAE, appendix A.1)."""

    kind: Literal["ema"] = "ema"
    commitment_weight: float = Field(0.25, ge=0)
    """β: weight of the only loss term, which keeps latents near their entries."""
    decay: float = Field(0.99, gt=0, lt=1)
    """γ of the moving averages of counts and sums."""
    smoothing: float = Field(1e-5, gt=0)
    """ε of the Laplace smoothing of counts."""
    restart_dead_codes_after_steps: RestartSteps = None
    """An entry that no latent chose for this many steps is put on a random latent of the batch; null: never."""
    gradient: GradientEstimator = "straight_through"
    """How the decoder's gradient reaches the latents: copied, or turned and scaled like the latent (rotation trick)."""


class GumbelQuantizerConfig(_QuantizerConfig):
    """A categorical variable for each position, relaxed in training (Gumbel-softmax: GumbelVQ, DALL·E)."""

    kind: Literal["gumbel"] = "gumbel"
    kl_weight: float = Field(5e-4, ge=0)
    """Weight of the KL divergence from the uniform prior."""
    kl_warmup_steps: Annotated[int, Field(ge=0), LATER] = 0
    """Steps over which that weight rises from 0, by half a cosine."""
    straight_through: bool = True
    """Decode one entry in training, too, with the relaxed gradient; otherwise decode the relaxed mixture."""
    temperature_start: float = Field(0.9, gt=0)
    """τ at step 0."""
    temperature_peak: float = Field(0.9, gt=0)
    """τ after the linear part."""
    temperature_final: float = Field(1 / 16, gt=0)
    """τ at the end of the cosine; 1e-6 in the original's published model, 1/16 in DALL·E."""
    temperature_warmup_steps: int = Field(0, ge=0)
    """Length of the linear part."""
    temperature_decay_steps: int = Field(100_000, ge=1)
    """Step at which temperature_final is reached, counted from the beginning."""

    @model_validator(mode="after")
    def _falls_after_it_rose(self) -> Self:
        if self.temperature_decay_steps < self.temperature_warmup_steps:
            raise ValueError(
                f"temperature_decay_steps {self.temperature_decay_steps} is counted from the beginning, and comes "
                f"before the end of temperature_warmup_steps {self.temperature_warmup_steps}: make it larger"
            )
        return self


class SimvqQuantizerConfig(_QuantizerConfig):
    """Nearest entry of a frozen random codebook seen through a learned linear map (SimVQ)."""

    kind: Literal["simvq"] = "simvq"
    commitment_weight: float = Field(0.25, ge=0)
    """β: weight of the commitment term."""
    gradient: GradientEstimator = "straight_through"
    """How the decoder's gradient reaches the latents: copied, or turned and scaled like the latent (rotation trick)."""


class FsqQuantizerConfig(_QuantizerConfig):
    """Each of a few bounded channels is rounded (finite scalar quantisation): no codebook to learn."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=3, le=255)], ...] = Field((8, 5, 5, 5), min_length=1)
    """Values of each channel. codebook_size is their product, codebook_dim their number. Two values: lfq."""

    def check_codebook(self, codebook_size: int, codebook_dim: int) -> None:
        """K is the product of the levels and D their number."""
        product = math.prod(self.levels)
        if (codebook_size, codebook_dim) != (product, len(self.levels)):
            raise ValueError(
                f"quantizer fsq with levels {list(self.levels)} has codebook_size {product} and codebook_dim "
                f"{len(self.levels)}, got {codebook_size} and {codebook_dim}; set these two, or other levels"
            )


class LfqQuantizerConfig(_QuantizerConfig):
    """The signs of the latents are the index (lookup-free quantisation), kept in use by an entropy loss."""

    kind: Literal["lfq"] = "lfq"
    commitment_weight: float = Field(0.25, ge=0)
    """Weight of the distance between latents and their signs."""
    entropy_weight: float = Field(0.1, ge=0)
    """Weight of the entropy loss: a sure choice for each latent, all entries alike over the batch."""
    diversity_weight: float = Field(1.0, ge=0)
    """Weight of the batch's entropy against each latent's, inside the entropy loss."""
    temperature: float = Field(0.01, gt=0)
    """Temperature of the soft choice in the entropy loss."""

    def check_codebook(self, codebook_size: int, codebook_dim: int) -> None:
        """K is 2^D."""
        if codebook_dim > 24 or codebook_size != 2**codebook_dim:
            raise ValueError(
                f"quantizer lfq has codebook_size 2^codebook_dim, got codebook_size {codebook_size} and codebook_dim "
                f"{codebook_dim}; for example 1024 and 10"
            )


class ResidualQuantizerConfig(_QuantizerConfig):
    """Each latent is a sum of `depth` entries, each nearest to what the ones before left over (RQ-VAE)."""

    kind: Literal["residual"] = "residual"
    depth: int = Field(4, ge=1)
    """Entries that are summed; the grid of indices is so many times wider."""
    commitment_weight: float = Field(0.25, ge=0)
    """β: weight of the only loss term, the mean distance of a latent to its partial sums."""
    decay: float = Field(0.99, gt=0, lt=1)
    """γ of the moving averages of counts and sums."""
    smoothing: float = Field(1e-5, gt=0)
    """ε of the Laplace smoothing of counts."""
    restart_dead_codes_after_steps: RestartSteps = None
    """An entry that nothing chose for this many steps is put on a random residual of the batch; null: never."""

    @property
    def indices_per_latent(self) -> int:
        """R: a row of the grid has so many indices for each latent."""
        return self.depth


QuantizerConfig = Annotated[
    VectorQuantizerConfig
    | EmaQuantizerConfig
    | GumbelQuantizerConfig
    | SimvqQuantizerConfig
    | FsqQuantizerConfig
    | LfqQuantizerConfig
    | ResidualQuantizerConfig,
    Field(discriminator="kind"),
    BeforeValidator(variant_of("vector")),
]

"""Configs of the networks around a quantizer: encoder and decoder. Defaults of each are its paper's.

Sources: `vqgan`, arXiv 2012.09841 §B (names in the original: ch, ch_mult, num_res_blocks, attn_resolutions,
z_channels); `dvae`, arXiv 2102.12092 appendix A (n_hid, group_count, n_blk_per_group).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from vqgan_core.config.base import LATER, Config, variant_of

__all__ = ["AnyAutoencoderConfig", "AutoencoderConfig", "DvaeAutoencoderConfig"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]


class _AutoencoderConfig(Config):
    image_channels: int = Field(3, ge=1, le=1024)
    """Channels of the images: 3 for RGB, 1 for grey or depth, the number of classes for label maps."""
    resolution_px: int = Field(256, ge=1)
    """Training height and width; attention_resolutions refer to it. Other sizes work at inference."""


class AutoencoderConfig(_AutoencoderConfig):
    """The VQGAN's convolutional encoder and decoder."""

    kind: Annotated[Literal["vqgan"], LATER] = "vqgan"
    base_channels: int = Field(128, ge=1)
    """Width of the first level (ch)."""
    channel_multipliers: tuple[PositiveInt, ...] = Field((1, 1, 2, 2, 4), min_length=1)
    """Width of each level as a multiple of base_channels; the downsampling factor f is 2^(number of levels - 1)."""
    num_res_blocks: int = Field(2, ge=1)
    """Residual blocks a level; the decoder has one more."""
    attention_resolutions: tuple[PositiveInt, ...] = (16,)
    """Levels of this height (at resolution_px) get an attention block after each residual block."""
    latent_channels: int = Field(256, ge=1)
    """Channels between encoder and quantizer (z_channels)."""
    num_groups: int = Field(32, ge=1)
    """Groups of every GroupNorm; each level's width must be a multiple of it."""
    dropout: Fraction = 0.0
    """Dropout inside residual blocks."""

    @property
    def downsampling_factor(self) -> int:
        """f: how many pixels one index covers along each axis."""
        return int(2 ** (len(self.channel_multipliers) - 1))

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """Levels with attention, counted from the image's resolution."""
        levels = range(len(self.channel_multipliers))
        return tuple(level for level in levels if self.resolution_px >> level in self.attention_resolutions)

    @model_validator(mode="after")
    def _widths_divide_into_groups(self) -> AutoencoderConfig:
        for multiplier in (1, *self.channel_multipliers):  # the first block works on base_channels itself
            width = self.base_channels * multiplier
            if width % self.num_groups:
                raise ValueError(
                    f"base_channels {self.base_channels} x multiplier {multiplier} = {width} is no multiple of "
                    f"num_groups {self.num_groups}; change one of the three"
                )
        return self


class DvaeAutoencoderConfig(_AutoencoderConfig):
    """DALL·E's encoder and decoder: residual blocks without norms or attention, groups of them between poolings."""

    kind: Literal["dvae"] = "dvae"
    base_channels: int = Field(256, ge=4, multiple_of=4)
    """Width of the first level; each level is twice as wide as the one before."""
    num_levels: int = Field(4, ge=1, le=8)
    """Groups of blocks; the downsampling factor f is 2^(num_levels - 1)."""
    num_res_blocks: int = Field(2, ge=1)
    """Residual blocks a level."""

    @property
    def downsampling_factor(self) -> int:
        """f: how many pixels one index covers along each axis."""
        return int(2 ** (self.num_levels - 1))

    @property
    def channel_multipliers(self) -> tuple[int, ...]:
        """Width of each level as a multiple of base_channels."""
        return tuple(2**level for level in range(self.num_levels))

    @property
    def latent_channels(self) -> int:
        """Channels between encoder and quantizer: the width of the last level."""
        return self.base_channels * self.downsampling_factor

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """None has attention."""
        return ()


AnyAutoencoderConfig = Annotated[
    AutoencoderConfig | DvaeAutoencoderConfig, Field(discriminator="kind"), BeforeValidator(variant_of("vqgan"))
]

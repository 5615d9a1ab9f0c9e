"""From a config to a quantizer: the one place that knows all kinds."""

from __future__ import annotations

from vqgan_core.config import TokenizerConfig
from vqgan_core.quantizers.vector import VectorQuantizer

__all__ = ["build_quantizer"]


def build_quantizer(config: TokenizerConfig) -> VectorQuantizer:
    """The quantizer that a tokenizer's config asks for, freshly initialised."""
    return VectorQuantizer(config.codebook_size, config.codebook_dim, config.quantizer)

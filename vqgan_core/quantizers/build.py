"""From a config to a quantizer: the one place that knows all kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vqgan_core.config import TokenizerConfig, TopLevelConfig
from vqgan_core.quantizers.base import Quantizer
from vqgan_core.quantizers.ema import EmaQuantizer
from vqgan_core.quantizers.fsq import FsqQuantizer
from vqgan_core.quantizers.gumbel import GumbelQuantizer
from vqgan_core.quantizers.lfq import LfqQuantizer
from vqgan_core.quantizers.residual import ResidualQuantizer
from vqgan_core.quantizers.simvq import SimvqQuantizer
from vqgan_core.quantizers.vector import VectorQuantizer

__all__ = ["build_quantizer"]

_KINDS: dict[str, Callable[[int, int, Any], Quantizer]] = {
    "vector": VectorQuantizer,
    "ema": EmaQuantizer,
    "simvq": SimvqQuantizer,
    "fsq": FsqQuantizer,
    "lfq": LfqQuantizer,
    "residual": ResidualQuantizer,
}


def build_quantizer(config: TokenizerConfig | TopLevelConfig) -> Quantizer:
    """The quantizer that the config of a tokenizer or of its top level asks for, freshly initialised."""
    if config.quantizer.kind == "gumbel":  # logits are of latents of any width
        return GumbelQuantizer(config.codebook_size, config.codebook_dim, config.quantizer, config.latent_dim)
    return _KINDS[config.quantizer.kind](config.codebook_size, config.codebook_dim, config.quantizer)

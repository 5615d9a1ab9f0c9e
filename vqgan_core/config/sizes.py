"""Sizes of priors by name: layers, heads and width of what people train.

A name is the number of parameters on a 16×16 grid with the codebook that such a prior usually has (512 codes up to
20m, 16384 above). 110m, 340m and 750m have the depth and width of LlamaGen's B, L and XL, 1.4b those of the paper's
largest prior. `prior_cost` counts any of them without weights.
"""

from __future__ import annotations

from typing import Any

from vqgan_core.config.base import ConfigError
from vqgan_core.config.prior import PriorConfig

PRIOR_SIZES: dict[str, dict[str, int]] = {
    "1m": {"num_layers": 4, "num_heads": 4, "width": 128},
    "5m": {"num_layers": 6, "num_heads": 4, "width": 256},
    "20m": {"num_layers": 6, "num_heads": 8, "width": 512},
    "110m": {"num_layers": 12, "num_heads": 12, "width": 768},
    "340m": {"num_layers": 24, "num_heads": 16, "width": 1024},
    "750m": {"num_layers": 36, "num_heads": 20, "width": 1280},
    "1.4b": {"num_layers": 48, "num_heads": 24, "width": 1536},
}
"""Fields of `PriorConfig` for each name."""


def sized_prior(name: str, **fields: Any) -> PriorConfig:
    """A prior of a named size.

    Args:
        name: one of `PRIOR_SIZES`.
        fields: other fields of the config, which also go before those of the size.

    Raises:
        ConfigError: there is no such size, or a field does not fit.
    """
    if name not in PRIOR_SIZES:
        raise ConfigError(f"there is no prior of size {name!r}: choose one of {', '.join(PRIOR_SIZES)}")
    return PriorConfig.validated({**PRIOR_SIZES[name], **fields}, origin=f"the prior of size {name}")

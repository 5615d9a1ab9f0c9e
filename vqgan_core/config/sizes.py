"""Sizes of priors by name: layers, heads and width of what people train.

A name is the number of parameters on a 16×16 grid with the codebook that such a prior usually has (512 codes up to
20m, 16384 above). 110m, 340m and 750m have the depth and width of LlamaGen's B, L and XL, 1.4b those of the paper's
largest prior. `prior_cost` counts any of them without weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def with_size(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put layers, heads and width in the place of a `size`; what is said of them after it counts, what before does not.

    Raises:
        ValueError: there is no such size.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name != "size":
            found[name] = value
        elif value in PRIOR_SIZES:
            found |= PRIOR_SIZES[value]
        else:
            raise ValueError(f"there is no prior of size {value!r}: choose one of {', '.join(PRIOR_SIZES)}")
    return found

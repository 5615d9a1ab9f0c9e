"""Every kind of quantizer, as overrides of a small tokenizer."""

from __future__ import annotations

from typing import Any

KINDS: dict[str, dict[str, Any]] = {
    "vector": {},
    "l2": {"quantizer__l2_normalize": True},
    "vector with rotation": {"quantizer__gradient": "rotation"},
    "ema": {"quantizer__kind": "ema", "quantizer__decay": 0.9},
    "ema with restart": {"quantizer__kind": "ema", "quantizer__restart_dead_codes_after_steps": 2},
    "gumbel": {"quantizer__kind": "gumbel", "quantizer__temperature_decay_steps": 30},
    "gumbel mixture": {"quantizer__kind": "gumbel", "quantizer__straight_through": False},
    "simvq": {"quantizer__kind": "simvq"},
    "fsq": {"quantizer__kind": "fsq", "quantizer__levels": [3, 4], "codebook_size": 12, "codebook_dim": 2},
    "lfq": {"quantizer__kind": "lfq", "quantizer__temperature": 1.0},
    "residual with restart": {
        "quantizer__kind": "residual",
        "quantizer__depth": 3,
        "quantizer__restart_dead_codes_after_steps": 2,
    },
}

"""The warm-up and cosine schedule has the original's values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vqgan_core.training import warmup_cosine


def _tables(parity_dir: Path) -> dict[str, dict[str, Any]]:
    cases = json.loads((parity_dir / "manifest.json").read_text(encoding="utf-8"))["cases"]
    return {
        f"{name}.{key}": value
        for name, case in cases.items()
        for key, value in case.items()
        if isinstance(value, dict) and {"params", "values"} == set(value) and "max_decay_steps" in value["params"]
    }


def test_schedule_tables(parity_dir: Path) -> None:
    tables = _tables(parity_dir)
    if not tables:
        pytest.skip("these golden cases have no schedule tables")
    for name, table in tables.items():
        params = table["params"]
        for step, expected in table["values"].items():
            value = warmup_cosine(
                int(step),
                warmup_steps=params["warm_up_steps"],
                decay_steps=params["max_decay_steps"],
                start=params["lr_start"],
                peak=params["lr_max"],
                final=params["lr_min"],
            )
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-15), f"{name} at step {step}"

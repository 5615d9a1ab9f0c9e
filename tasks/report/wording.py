"""How numbers, sizes, durations and protocols are written for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = ["byte_size", "depends_on", "duration", "number", "percent", "spread_of", "without_secrets"]

T = TypeVar("T")

_USER_INFO = re.compile(r"://[^/@\s]*@")
_SHORT = 8


def number(value: float) -> str:
    """Four significant digits, thousands grouped; whole numbers whole."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share in whole percent, unless that would say all, or none, of what is neither."""
    whole = f"{share:.0%}"
    if whole == "100%" and share < 1:
        return f"{min(share, 0.999):.1%}"
    return f"{max(share, 0.001):.1%}" if whole == "0%" and share > 0 else whole


def duration(seconds: float) -> str:
    """A time in at most two units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def byte_size(count: int) -> str:
    """A size in the largest decimal unit that leaves a number above one."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def depends_on(metric: Mapping[str, Any]) -> list[str]:
    """What a metric's value would change with, one phrase each."""
    reference = metric.get("reference", "")
    if reference and metric.get("n_reference"):
        reference += f" (n = {metric['n_reference']:,})"
    extractor = metric.get("extractor", "")
    if extractor:
        extractor += f"@{metric['extractor_sha256'][:_SHORT]}"
    named = {
        "against": reference,
        "features": extractor,
        "resize": metric.get("resize", ""),
        "pixels": metric.get("value_range", ""),
        "": metric.get("note", ""),
        "by": metric.get("follows", ""),
        "with": metric.get("library", ""),
    }
    return [f"{name} {text}".strip() for name, text in named.items() if text]


def spread_of(metric: Mapping[str, Any]) -> str:
    """How sure a value is: its 95 % interval over images, or its spread over subsets; else nothing."""
    if metric.get("low") is not None and metric.get("high") is not None:
        return f"{number(metric['low'])} … {number(metric['high'])}"
    return "" if metric.get("deviation") is None else f"± {number(metric['deviation'])}"


def without_secrets(value: T) -> T:
    """Plain data with user names and passwords taken out of its URLs."""
    cleaned: Any = value
    if isinstance(value, str):
        cleaned = _USER_INFO.sub("://…@", value)
    elif isinstance(value, Mapping):
        cleaned = {key: without_secrets(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        cleaned = [without_secrets(item) for item in value]
    return cleaned  # type: ignore[no-any-return]

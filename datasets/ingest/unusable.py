"""Why an image is left out: raised in decoding children, counted and named in the quarantine."""

from __future__ import annotations

import re

__all__ = ["Unusable", "describe"]

_MAX_DETAIL = 160


class Unusable(Exception):
    """An image that is left out, with a reason that is counted and a detail for people."""

    def __init__(self, reason: str, detail: str) -> None:
        """Reason and detail."""
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def describe(error: BaseException) -> str:
    """An error in one line that is the same in every run: no addresses, no object reprs."""
    text = re.sub(r"<[^<>]* object at 0x[0-9a-fA-F]+>", "the file", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:_MAX_DETAIL]

"""A metric value together with everything it depends on: without that, two values must not be compared.

The same photographs give an FD of 37 or 45 depending on who resizes them, and an SSIM of 0.69 or 0.80 depending on the
data range that is assumed. So a value travels with its reference, count, extractor, resize and value range, and only
metrics whose `protocol` is equal can stand in one table.

Departure from common practice: the name FID is refused unless the features are those of the one published Inception
file; a Fréchet distance in other features is named after those (`FD-domain`).
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from vqgan_core.config import Config

__all__ = ["FID_SHA256", "Metric"]

_MEASURED = ("value", "floor", "deviation", "low", "high", "follows")
#: How the sha256 of the one weights file begins whose distances are FID; it is part of the file's name.
FID_SHA256 = "6726825d"


class Metric(Config):
    """One number of an evaluation."""

    name: str = Field(min_length=1)
    """What was measured, for example PSNR or FD-domain."""
    value: float
    """The number."""
    unit: str = ""
    """Unit, for example dB; empty for a ratio or a distance without one."""
    n: int = Field(ge=1)
    """How many images (or tokens, if the unit says so) were judged."""
    higher_is_better: bool
    """Direction in which the value improves."""
    reference: str = ""
    """What the images were compared with: set and split, with the fingerprint of the artifact."""
    n_reference: int | None = Field(None, ge=1)
    """Size of the reference set; null where each image has its own reference."""
    extractor: str = ""
    """Network whose features were compared; empty for metrics on pixels."""
    extractor_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """Digest of that network's weights."""
    resize: str = ""
    """How images were brought to the extractor's size; empty: not resized."""
    value_range: str = ""
    """Range and rounding of the pixels that were compared."""
    library: str = ""
    """Package and version that computed it."""
    note: str = ""
    """Whatever else moves the number: window sizes, k, subsets."""
    follows: str = ""
    """The protocol it follows, by name, and where it departs; what moves the number stands in the other fields."""
    floor: float | None = None
    """The same measure between two real sets of the same sizes: what a perfect generator would get."""
    deviation: float | None = None
    """Standard deviation over the random subsets or splits whose mean the value is."""
    low: float | None = None
    """Lower bound of the 95 % bootstrap interval over images."""
    high: float | None = None
    """Its upper bound."""

    @model_validator(mode="after")
    def _names_are_honest(self) -> Self:
        if "FID" in self.name.upper() and not self.extractor_sha256.startswith(FID_SHA256):
            raise ValueError(
                f"the name {self.name!r} is reserved for features of the FID Inception network; name the distance "
                "after its own features, for example FD-domain"
            )
        if bool(self.extractor) != bool(self.extractor_sha256):
            raise ValueError(f"{self.name}: extractor and extractor_sha256 are given together or not at all")
        return self

    def protocol(self) -> dict[str, Any]:
        """Everything but the outcome: two values may be compared when their protocols are equal."""
        return {name: value for name, value in self.model_dump(mode="json").items() if name not in _MEASURED}

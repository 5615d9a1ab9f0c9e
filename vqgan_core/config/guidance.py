"""How the scale of classifier-free guidance runs over the steps of one image.

Sources: power-cosine, Yu et al. 2024 (RAR, arXiv 2411.00776); interval, Kynkäänniemi et al. 2024 (arXiv 2404.07724).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from vqgan_core.config.base import Config


class ConstantGuidance(Config):
    """The same scale at every step."""

    kind: Literal["constant"] = "constant"


class PowerCosineGuidance(Config):
    """From no guidance at the first token to the full scale at the last: half a cosine over (step / N)^power."""

    kind: Literal["power_cosine"] = "power_cosine"
    power: float = Field(1.0, gt=0)
    """Above 1 the rise comes later."""


class IntervalGuidance(Config):
    """The full scale for some of the steps and no guidance before and after."""

    kind: Literal["interval"] = "interval"
    start: float = Field(0.0, ge=0, lt=1)
    """Share of the steps before the first guided one."""
    end: float = Field(1.0, gt=0, le=1)
    """Share of the steps up to and with the last guided one."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> IntervalGuidance:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} is not after start {self.start}: no step would be guided")
        return self


def _by_name(value: Any) -> Any:
    """Read `interval` as the kind interval with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


GuidanceSchedule = Annotated[
    ConstantGuidance | PowerCosineGuidance | IntervalGuidance, Field(discriminator="kind"), BeforeValidator(_by_name)
]

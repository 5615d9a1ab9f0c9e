"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, eq. 6 with 1 + w as our scale) and its course.

Axes: B images, R rows (B; or 2B: conditional, then unconditional ones), K codebook entries.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from vqgan_core.config import IntervalGuidance, PowerCosineGuidance, SamplingConfig


def guidance_scale(config: SamplingConfig, step: int, num_steps: int) -> float:
    """The scale at one of an image's steps, from 0; 1 is no guidance.

    Args:
        config: full scale and schedule.
        step: index of the token in the order in which they are drawn.
        num_steps: N.
    """
    schedule, done = config.guidance_schedule, step / num_steps
    if isinstance(schedule, PowerCosineGuidance):
        risen = (1 - math.cos(math.pi * done**schedule.power)) / 2
        return 1 + (config.guidance - 1) * risen
    if isinstance(schedule, IntervalGuidance) and not schedule.start <= done < schedule.end:
        return 1.0
    return config.guidance


def guide(logits: Float[Tensor, "R K"], batch_size: int, guidance: float) -> Float[Tensor, "B K"]:
    """Move from the unconditional towards (and beyond) the conditional logits; rows that are not doubled stay."""
    if logits.shape[0] == batch_size:
        return logits
    conditional, unconditional = logits[:batch_size], logits[batch_size:]
    return unconditional + guidance * (conditional - unconditional)

"""Schedules as pure functions of the step: nothing to save, nothing to restore wrongly.

`warmup_cosine` has the form of the original's LambdaWarmUpCosineScheduler (there it only drives the Gumbel temperature;
its learning rates are constant). For learning rates we start the warm-up one notch above zero, so that no step is lost.
"""

from __future__ import annotations

import math

from vqgan_core.config import GumbelQuantizerConfig, TrainingConfig


def warmup_cosine(step: int, *, warmup_steps: int, decay_steps: int, start: float, peak: float, final: float) -> float:
    """Linear from `start` to `peak` over `warmup_steps`, then half a cosine to `final` at `decay_steps`, then flat.

    Args:
        step: steps done.
        warmup_steps: length of the linear part; 0 starts at `peak`.
        decay_steps: step at which `final` is reached, counted from the beginning.
        start: value at step 0.
        peak: value at `warmup_steps`.
        final: value from `decay_steps` on.
    """
    if step < warmup_steps:
        return start + (peak - start) * step / warmup_steps
    if step >= decay_steps:
        return final
    progress = (step - warmup_steps) / (decay_steps - warmup_steps)
    return final + 0.5 * (peak - final) * (1.0 + math.cos(math.pi * progress))


def gumbel_temperature(config: GumbelQuantizerConfig, step: int) -> float:
    """τ of a Gumbel quantizer at a step, from 0."""
    return warmup_cosine(
        step,
        warmup_steps=config.temperature_warmup_steps,
        decay_steps=config.temperature_decay_steps,
        start=config.temperature_start,
        peak=config.temperature_peak,
        final=config.temperature_final,
    )


def learning_rate(config: TrainingConfig, step: int, *, peak: float | None = None) -> float:
    """The learning rate of a step.

    Args:
        config: the run's schedule.
        step: the step about to be taken, from 0.
        peak: another peak than the config's, for a second optimiser.
    """
    peak = config.learning_rate if peak is None else peak
    final = config.final_learning_rate_fraction if config.schedule == "cosine" else 1.0
    factor = warmup_cosine(
        min(step, config.num_steps - 1),
        warmup_steps=config.warmup_steps,
        decay_steps=config.num_steps,
        start=1.0 / (config.warmup_steps + 1),
        peak=1.0,
        final=final,
    )
    return peak * factor

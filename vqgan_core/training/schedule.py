"""Schedules as pure functions of the step: nothing to save, nothing to restore wrongly.

`warmup_cosine` has the form of the original's LambdaWarmUpCosineScheduler (there it only drives the Gumbel temperature;
its learning rates are constant). For learning rates we start the warm-up one notch above zero, so that no step is lost.
`wsd` is warm-up, stable, decay: its last part falls as 1 - √progress (Hägele et al. 2024, arXiv 2405.18392, §4). What
came before that part does not depend on the length of the run.
"""

from __future__ import annotations

import math

from vqgan_core.config import GumbelQuantizerConfig, RandomOrderConfig, TrainingConfig


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


def gumbel_kl_factor(config: GumbelQuantizerConfig, step: int) -> float:
    """How much of a Gumbel quantizer's KL term counts at a step: half a cosine from 0 to 1 (arXiv 2102.12092 A.2)."""
    if step >= config.kl_warmup_steps:
        return 1.0
    return 0.5 * (1.0 - math.cos(math.pi * step / config.kl_warmup_steps))


def wsd(step: int, *, warmup_steps: int, num_steps: int, decay_fraction: float, final: float) -> float:
    """Factor of the peak: linear rise, then 1, then 1 - (1 - final) √progress down to `final` at the last step.

    Args:
        step: steps done.
        warmup_steps: length of the rise, which starts one notch above 0.
        num_steps: steps in all.
        decay_fraction: share of num_steps in the fall; the rise comes first where they overlap.
        final: factor of the last step.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    num_decay = max(round(decay_fraction * num_steps), 1)
    progress = (step + 1 - (num_steps - num_decay)) / num_decay
    return 1.0 - (1.0 - final) * math.sqrt(max(progress, 0.0))


def random_order_probability(config: RandomOrderConfig, step: int, num_steps: int) -> float:
    """How likely a record is read in a random order: 1, then a linear fall, then `config.final`.

    Args:
        config: the course, in shares of the run.
        step: the step about to be taken, from 0.
        num_steps: steps in all.
    """
    done = step / num_steps
    if done < config.anneal_from:
        return 1.0
    if done >= config.anneal_to:
        return config.final
    progress = (done - config.anneal_from) / (config.anneal_to - config.anneal_from)
    return 1.0 - (1.0 - config.final) * progress


def learning_rate(config: TrainingConfig, step: int, *, peak: float | None = None) -> float:
    """The learning rate of a step.

    Args:
        config: the run's schedule.
        step: the step about to be taken, from 0.
        peak: another peak than the config's, for a second optimiser.
    """
    peak = config.learning_rate if peak is None else peak
    if config.schedule == "wsd":
        return peak * wsd(
            min(step, config.num_steps - 1),
            warmup_steps=config.warmup_steps,
            num_steps=config.num_steps,
            decay_fraction=config.decay_fraction,
            final=config.final_learning_rate_fraction,
        )
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

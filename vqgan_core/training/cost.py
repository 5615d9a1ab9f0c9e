"""What a training run costs before it is started: operations of all its steps and validations, bytes of its files.

A multiply-add is two operations. F is one image's forward pass through a network. Backward costs 2·F, half of it for
the weights and half for the input. One step of the tokenizer, for each image (E encoder, D decoder, S search of
entries, P perceptual network, G discriminator):

- forward and backward of the autoencoder: 3·(E + D) + S
- perceptual network, frozen, on both images, backward to one: 3·P; again P for the adaptive weight
- discriminator as judge of the autoencoder, once it counts: 2·G; again G for the adaptive weight
- training of the discriminator, once it has begun, on both images: 6·G

The prior: 3·F an image, 4·F where activations are computed a second time.

Left out: norms, activations, losses and optimisers, and what a backward pass saves because the first layer's input
needs no gradient. Early stops and rolled-back steps are not foreseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from vqgan_core.config import PatchGanConfig, TokenSpec, TrainingConfig, TrainPriorConfig, TrainTokenizerConfig
from vqgan_core.losses.cost import LossCost, loss_cost
from vqgan_core.prior.cost import BACKWARD_FACTOR, prior_cost
from vqgan_core.tokenizer.cost import TokenizerCost, tokenizer_cost

__all__ = ["TrainingCost", "prior_training_cost", "tokenizer_step_flops", "tokenizer_training_cost"]

FLOAT_BYTES = 4
ADAM_COPIES = 3
"""Weights and both moments."""


@dataclass(frozen=True)
class TrainingCost:
    """Costs of one training run."""

    num_parameters: int
    """All that is trained."""
    flops: float
    """Of all steps and validations."""
    published_bytes: int
    """Weights that the run ends with."""
    checkpoint_bytes: int
    """One checkpoint: weights, moments, averaged or best weights."""


def tokenizer_training_cost(config: TrainTokenizerConfig, num_validation_records: int) -> TrainingCost:
    """Count a tokenizer's training.

    Args:
        config: recipe of the run.
        num_validation_records: images that a validation looks at.

    Raises:
        ValueError: sizes that do not fit together, as in building the networks.
    """
    training, autoencoder, gan = config.training, config.autoencoder, config.loss.adversarial
    network = tokenizer_cost(config.model())
    loss = loss_cost(config.loss, autoencoder.image_channels, autoencoder.resolution_px)
    judged, trained = 0, 0
    if isinstance(gan, PatchGanConfig):
        begins = gan.start_step if gan.discriminator_start_step is None else gan.discriminator_start_step
        judged, trained = (max(0, training.num_steps - step) for step in (gan.start_step, begins))
    step_flops = partial(tokenizer_step_flops, config, network, loss)
    plain = step_flops(judges=False, trains_discriminator=False)
    flops = plain * training.num_steps
    flops += (step_flops(judges=True, trains_discriminator=False) - plain) * judged
    flops += (step_flops(judges=False, trains_discriminator=True) - plain) * trained
    looked_at = network.reconstruct_flops + 2 * loss.perceptual_flops
    weights, rival = network.num_parameters, loss.num_parameters
    copies = ADAM_COPIES + (training.ema_decay is not None)
    return TrainingCost(
        num_parameters=weights + rival,
        flops=flops * training.batch_size + looked_at * num_validation_records * _num_validations(training),
        published_bytes=FLOAT_BYTES * (weights + rival),
        checkpoint_bytes=FLOAT_BYTES * (copies * weights + ADAM_COPIES * rival),
    )


def tokenizer_step_flops(
    config: TrainTokenizerConfig,
    network: TokenizerCost,
    loss: LossCost,
    *,
    judges: bool,
    trains_discriminator: bool,
) -> float:
    """Operations of one step for each image.

    Args:
        config: whether λ is adaptive.
        network: the tokenizer's costs.
        loss: the loss' costs.
        judges: the discriminator's opinion counts at this step.
        trains_discriminator: it is trained at this step.
    """
    gan = config.loss.adversarial
    flops = BACKWARD_FACTOR * (network.encoder_flops + network.decoder_flops) + network.search_flops
    flops += config.execution.activation_checkpointing * (network.encoder_flops + network.decoder_flops)
    flops += 3 * loss.perceptual_flops
    if judges:
        adaptive = isinstance(gan, PatchGanConfig) and gan.adaptive
        flops += 2 * loss.discriminator_flops + adaptive * (loss.discriminator_flops + loss.perceptual_flops)
    if trains_discriminator:
        flops += 2 * BACKWARD_FACTOR * loss.discriminator_flops
    return flops


def prior_training_cost(config: TrainPriorConfig, spec: TokenSpec, num_validation_records: int) -> TrainingCost:
    """Count a prior's training.

    Args:
        config: recipe of the run.
        spec: the tokens.
        num_validation_records: records that a validation looks at.

    Raises:
        ValueError: a class condition where the tokens have no classes.
    """
    training = config.training
    cost = prior_cost(config.model(), spec)
    forward = cost.num_tokens * cost.forward_flops_per_token
    per_image = cost.training_flops_per_image + config.execution.activation_checkpointing * forward
    seen = forward * num_validation_records * _num_validations(training)
    return TrainingCost(
        num_parameters=cost.num_parameters,
        flops=per_image * training.batch_size * training.num_steps + seen,
        published_bytes=FLOAT_BYTES * cost.num_parameters,
        checkpoint_bytes=FLOAT_BYTES * (ADAM_COPIES + 1) * cost.num_parameters,
    )


def _num_validations(config: TrainingConfig) -> int:
    """After every `validate_every_steps`, and at the end."""
    return -(-config.num_steps // config.validate_every_steps)

"""Latent perturbation: the decoder learns to bear indices that are nearly right, as priors sample them.

Axes: B batch, D codebook width, h×w grid.

In a share β of the images each index is replaced, with a probability α that falls linearly between two steps, by a
random one of its δ nearest entries (see `quantizers.neighbours`). Latents, indices and the quantizer's loss stay as
they are; the gradient goes straight through to the latents.

Source: RobustTok, as described in words (β 0.1, δ 100, α from 1, annealed between epochs 40 and 120 of 200). Departure:
each image is chosen by a draw of its own, so that small batches and pieces of a batch have the same share.
Each process makes the draws of all, and uses its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan_core import distributed
from vqgan_core.config import PerturbationConfig, TrainTokenizerConfig
from vqgan_core.quantizers import Quantized, Quantizer, replace_by_neighbours
from vqgan_core.training import streams


def build_perturbation(config: TrainTokenizerConfig, quantizer: Quantizer) -> LatentPerturbation | None:
    """The perturbation that a run asks for, with a random stream of its own."""
    if config.perturbation is None:
        return None
    draws = streams.stream(config.training.seed, "latent perturbation")
    return LatentPerturbation(config.perturbation, quantizer, draws)


class LatentPerturbation:
    """Perturbs what the decoder sees.

    Args:
        config: α, β, δ and the schedule.
        quantizer: whose entries they are.
        generator: on the CPU; its state is part of the checkpoint.
    """

    def __init__(self, config: PerturbationConfig, quantizer: Quantizer, generator: torch.Generator) -> None:
        self._config = config
        self._quantizer = quantizer
        self._generator = generator

    def probability(self, step: int) -> float:
        """α at a step."""
        config = self._config
        if config.anneal_end_step is None or step <= config.anneal_start_step:
            return config.probability
        length = config.anneal_end_step - config.anneal_start_step
        progress = min(1.0, (step - config.anneal_start_step) / length)
        return config.probability + progress * (config.final_probability - config.probability)

    def perturb(self, result: Quantized, step: int) -> Float[Tensor, "B D h w"]:
        """What the decoder sees of quantized latents."""
        num_images, world_size = len(result.indices), distributed.world_size()
        chosen = torch.rand(world_size * num_images, generator=self._generator) < self._config.image_fraction
        places = chosen.nonzero().flatten()
        if not len(places):
            return result.quantized
        own = places // num_images == distributed.rank()
        places = (places[own] % num_images).to(result.indices.device)
        before = result.indices[places]
        after = replace_by_neighbours(
            self._quantizer,
            before,
            probability=self.probability(step),
            num_neighbours=self._config.num_neighbours,
            generator=self._generator,
            own=own,
        )
        with torch.no_grad():
            shift = (self._quantizer.decode(after) - self._quantizer.decode(before)).to(result.quantized.dtype)
        return result.quantized.index_add(0, places, shift)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the random stream is."""
        return {"draws": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self._generator.set_state(state["draws"])

"""What a codebook needs around an optimiser step: schedules and noise before, averages, restart and usage after.

Axes: B batch, D width, h×w grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vqgan_core import distributed
from vqgan_core.config.tokenizer import BOTTOM
from vqgan_core.quantizers import GumbelQuantizer, Quantizer, build_restart, restart_hooks
from vqgan_core.tokenizer import Level
from vqgan_core.training import streams
from vqgan_core.training.ema import WeightsEma
from vqgan_core.training.schedule import gumbel_kl_factor, gumbel_temperature


class CodebookCare:
    """One level's codebook.

    Args:
        name: of the level's column; metrics of all but the first level carry its ending.
        quantizer: on the device where it is trained.
        seed: of the run.
        frozen: whether averages stay as they are.
    """

    def __init__(self, name: str, quantizer: Quantizer, seed: int, *, frozen: bool = False) -> None:
        self._frozen = frozen
        self._suffix = name.removeprefix(BOTTOM)
        self._quantizer = quantizer
        self._seed = seed
        self._draws = streams.stream(seed, f"dead-code restart{self._suffix}")
        self.restart = build_restart(quantizer)

    def begin(self, step: int) -> dict[str, float]:
        """Set what schedules say of a step; returns it for the log."""
        if not isinstance(self._quantizer, GumbelQuantizer):
            return {}
        self._quantizer.temperature = gumbel_temperature(self._quantizer.config, step)
        self._quantizer.kl_factor = gumbel_kl_factor(self._quantizer.config, step)
        return {f"temperature{self._suffix}": self._quantizer.temperature}

    def seed_noise(self, step: int, first_record: int) -> None:
        """Let each record's noise follow from its number in the global batch of a step."""
        if isinstance(self._quantizer, GumbelQuantizer):
            seed = streams.stream_seed(self._seed, f"gumbel noise{self._suffix} of step {step}")
            self._quantizer.noise_seed = seed + first_record

    @torch.no_grad()
    def end(
        self, pieces: Sequence[Level], optimizer: torch.optim.Optimizer, ema: WeightsEma | None
    ) -> dict[str, Tensor]:
        """Move averages, restart dead codes; noise is anyone's again.

        Args:
            pieces: what each piece of the step's batch was quantized to.
            optimizer: may train the codebook.
            ema: an average of the weights, if one is kept.
        """
        if isinstance(self._quantizer, GumbelQuantizer):
            self._quantizer.noise_seed = None
        indices = [piece.indices for piece in pieces]
        chosen = torch.zeros(self._quantizer.codebook_size, device=indices[0].device)
        for grid in indices:
            chosen[grid.flatten()] = 1.0
        metrics = {f"usage{self._suffix}": (distributed.total(chosen) > 0).float().mean()}
        targets = [self._quantizer.targets(piece.latents.detach(), piece.indices) for piece in pieces]
        if not self._frozen:
            self._quantizer.end_step(targets, indices)
        if self.restart is not None:
            for grid in indices:
                self.restart.observe(grid)
            moving = self.restart.quantizer
            average = None if ema is None else ema.shadow(moving.codebook)
            hooks = restart_hooks(moving, optimizer, average)
            metrics[f"restarted_codes{self._suffix}"] = self.restart.step(targets, self._draws, hooks)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "draws": self._draws.get_state(),
            "restart": None if self.restart is None else self.restart.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._draws.set_state(state["draws"])
        if self.restart is not None:
            self.restart.load_state_dict(state["restart"])

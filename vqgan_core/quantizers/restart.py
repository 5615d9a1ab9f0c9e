"""Dead-code restart: an entry that nothing chooses is put on a latent of the current batch.

Axes: B batch, D width, h×w grid, K entries, N latents.

Source: the restart of unused codes in arXiv 2203.01941 §4 (after arXiv 2005.00341 §3). Departures: a count of steps
instead of a moving average; it acts once for each optimiser step, however many pieces the batch has; the generator is
the caller's; no two entries restart on one latent while there are enough; the optimiser's memory of a moved entry is
erased, which otherwise drags it away again. No value is read back from the device. Several processes move the same
entries to the same latents, which are drawn from the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqgan_core import distributed
from vqgan_core.quantizers.base import Quantizer
from vqgan_core.quantizers.ema import AveragedCodebook
from vqgan_core.quantizers.vector import VectorQuantizer

__all__ = ["DeadCodeRestart", "RestartHook", "build_restart", "follow_codebook", "forget_moments", "restart_hooks"]

RestartHook = Callable[[Bool[Tensor, " K"], Float[Tensor, "K D"]], None]
"""Called with the mask of moved entries and the new codebook."""


class DeadCodeRestart:
    """Counts the steps since each entry was last chosen, and moves those that waited too long.

    Args:
        quantizer: whose codebook is kept in use, on the device where it will stay.
        after_steps: optimiser steps without a latent after which an entry moves.
    """

    def __init__(self, quantizer: VectorQuantizer | AveragedCodebook, after_steps: int) -> None:
        self.quantizer = quantizer
        self.after_steps = after_steps
        device = quantizer.codebook.device
        self.steps_unused = torch.zeros(quantizer.codebook_size, dtype=torch.int64, device=device)
        self.chosen = torch.zeros(quantizer.codebook_size, dtype=torch.bool, device=device)

    @torch.no_grad()
    def observe(self, indices: Int[Tensor, "B h w"]) -> None:
        """Note which entries a piece of the step's batch chose."""
        self.chosen[indices.flatten()] = True

    @torch.no_grad()
    def step(
        self,
        latents: Sequence[Float[Tensor, "B D h w"]],
        generator: torch.Generator,
        also: Iterable[RestartHook] = (),
    ) -> Int[Tensor, ""]:
        """End an optimiser step: restart the entries that were not chosen for `after_steps` steps.

        Args:
            latents: of the step's pieces, before quantisation; of a residual quantizer, residuals.
            generator: on the CPU; each call draws one permutation of the latents, whether or not an entry is dead.
            also: what else has to know of moved entries, for example `forget_moments`, `follow_codebook`,
                `AveragedCodebook.restart`.

        Returns:
            How many entries were moved, on the device.
        """
        codebook = self.quantizer.codebook
        chosen = distributed.total(self.chosen.int()) > 0
        self.steps_unused = torch.where(chosen, 0, self.steps_unused + 1)
        self.chosen.zero_()
        dead = self.steps_unused >= self.after_steps
        rows = torch.stack(
            [rearrange(self.quantizer.normalize(piece.detach()), "b d h w -> (b h w) d") for piece in latents]
        )
        num_rows = rows.shape[0] * rows.shape[1] * distributed.world_size()
        order = torch.randperm(num_rows, generator=generator).to(codebook.device)
        place = dead.cumsum(dim=0) - 1  # the i-th dead entry takes the i-th latent of the permutation
        fresh = distributed.rows_of_all(rows, order[place.clamp(min=0) % num_rows]).to(codebook.dtype)
        codebook.copy_(torch.where(dead[:, None], fresh, codebook))
        self.steps_unused = torch.where(dead, 0, self.steps_unused)
        for hook in also:
            hook(dead, codebook)
        return dead.sum()

    def state_dict(self) -> dict[str, Tensor]:
        """The counters."""
        return {"steps_unused": self.steps_unused.clone(), "chosen": self.chosen.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from saved counters."""
        self.steps_unused = state["steps_unused"].to(self.steps_unused.device, copy=True)
        self.chosen = state["chosen"].to(self.chosen.device, copy=True)


def build_restart(quantizer: Quantizer) -> DeadCodeRestart | None:
    """The restart that a quantizer's config asks for; None also where no entry can be left behind by construction."""
    if not isinstance(quantizer, VectorQuantizer | AveragedCodebook):
        return None
    after_steps = quantizer.config.restart_dead_codes_after_steps
    return None if after_steps is None else DeadCodeRestart(quantizer, after_steps)


def restart_hooks(
    quantizer: VectorQuantizer | AveragedCodebook,
    optimizer: torch.optim.Optimizer,
    average: Float[Tensor, "K D"] | None,
) -> list[RestartHook]:
    """Everything that has to know of moved entries.

    Args:
        quantizer: whose entries move.
        optimizer: may train the codebook.
        average: of the codebook, if one is kept.
    """
    hooks = [forget_moments(optimizer, quantizer.codebook)]
    if isinstance(quantizer, AveragedCodebook):
        hooks.append(quantizer.restart)
    return hooks if average is None else [*hooks, follow_codebook(average)]


def forget_moments(optimizer: torch.optim.Optimizer, codebook: torch.nn.Parameter) -> RestartHook:
    """A hook that zeroes every per-entry moment which the optimiser keeps of moved entries."""

    def hook(dead: Bool[Tensor, " K"], _: Float[Tensor, "K D"]) -> None:
        for moment in optimizer.state.get(codebook, {}).values():
            if isinstance(moment, Tensor) and moment.shape == codebook.shape:
                moment.masked_fill_(dead[:, None], 0)

    return hook


def follow_codebook(average: Float[Tensor, "K D"]) -> RestartHook:
    """A hook that moves the same entries of an averaged copy of the codebook."""

    def hook(dead: Bool[Tensor, " K"], codebook: Float[Tensor, "K D"]) -> None:
        average.copy_(torch.where(dead[:, None], codebook.to(average.dtype), average))

    return hook

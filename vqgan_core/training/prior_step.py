"""One training step of the prior: next-token likelihood with AdamW, and early stop on validation.

Axes: B batch, N tokens.

Source: arXiv 2012.09841 §3.2, eq. 10; optimiser as in the original (weight decay on matrices of linear layers only).
Departures: the condition is hidden from some records, which makes classifier-free guidance possible (arXiv 2207.12598);
tokens may be corrupted or hidden, and orders be random (`corruption`); warm-up, schedules and gradient clipping; the
weights with the best validation likelihood are published, not the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from vqgan_core import distributed
from vqgan_core.config import TokenSpec, TrainPriorConfig
from vqgan_core.prior import Prior, decay_groups
from vqgan_core.training import streams
from vqgan_core.training.corruption import Corruption, reading
from vqgan_core.training.loop import Batch
from vqgan_core.training.optim import Optimized, require_finite
from vqgan_core.training.pieces import pieces
from vqgan_core.training.precision import autocast, prepare, resolve_device
from vqgan_core.training.sharding import shard, whole_weights
from vqgan_core.training.start import require_same_prior


class PriorStep:
    """Trains a prior on batches of `tokens` `B N`, with classes `labels` `B`, and each condition column `B M` by name.

    Building one sets the process' threads, TF32 and determinism policy (`precision.prepare`).

    Args:
        config: recipe and execution.
        spec: the tokens that are modelled.
        device: where to compute; None asks the config.
        start: a prior whose weights training begins with.

    Raises:
        ValueError: a class condition without classes, a device that is not there, or a start of another architecture or
            of other tokens.
    """

    def __init__(
        self,
        config: TrainPriorConfig,
        spec: TokenSpec,
        device: torch.device | None = None,
        start: Prior | None = None,
    ) -> None:
        training, execution = config.training, config.execution
        self.config = config
        self.device = resolve_device(execution.device) if device is None else device
        prepare(self.device, precision=training.precision, num_threads=execution.num_threads)
        with streams.seeded(training.seed, "prior weights"):
            self.prior = Prior(config.model(), spec).to(self.device)
        if start is not None:
            require_same_prior(start.config, start.spec, config, spec)
            self.prior.load_state_dict(start.state_dict())
        self.prior.train()
        if execution.shard_weights and distributed.world_size() > 1:
            layers = self.prior.transformer.layers
            assert isinstance(layers, nn.ModuleList), "the config refuses other architectures"
            shard(self.prior, layers, self.device, "nll")
        self._trained = Optimized(self.prior, training, groups=decay_groups(self.prior, training.weight_decay))
        self.prior.transformer.activation_checkpointing = execution.activation_checkpointing
        if execution.compile:
            self.prior.transformer.compile(dynamic=False)  # in place: weights keep their names
        self._drops = streams.stream(training.seed, "condition dropout")
        self._corruption = Corruption(config, spec)
        self._best_weights: dict[str, Tensor] | None = None
        self._best_nll = math.inf
        self._validations_since_best = 0

    @property
    def finished_early(self) -> bool:
        """Whether validation has not improved for `early_stop_validations` times."""
        patience = self.config.training.early_stop_validations
        return patience is not None and self._validations_since_best >= patience

    def train_step(self, batch: Batch, step: int) -> dict[str, float | Tensor]:
        """Forward, backward and optimiser step.

        Raises:
            NonFiniteError: loss or gradient norm is NaN or infinite; the weights were not touched.
            ValueError: the batch does not divide into pieces, or is none of this prior's.
        """
        self._trained.zero_grad()
        loss = distributed.mean(self._accumulate_gradients(batch, step))
        self._trained.mean_gradients()
        norm = self._trained.gradient_norm()
        require_finite({"loss": loss, "gradient norm": norm})
        rate = self._trained.update(step, norm)
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Likelihood of the validation tokens in nats a token; keeps the weights if it is the best so far."""
        self.prior.eval()
        total, num_tokens = torch.zeros((), dtype=torch.float64), 0
        for batch in batches:
            (whole,) = pieces(batch, 1, self.device)
            total = total + self._nll(whole, None).sum().double().cpu()
            num_tokens += whole["tokens"].numel()
        self.prior.train()
        num_tokens = int(distributed.total(torch.tensor(num_tokens)))
        if not num_tokens:
            raise ValueError("the validation set is empty: the prior needs held-out tokens to be measured on")
        nll = float(distributed.total(total)) / num_tokens
        self._keep_if_best(nll)
        return {"nll": nll, "best_nll": self._best_nll}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "prior": self._trained.state_dict(),
            "drops": self._drops.get_state(),
            "corruption": self._corruption.state_dict(),
            "best_weights": self._best_weights,
            "best_nll": self._best_nll,
            "validations_since_best": self._validations_since_best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._trained.load_state_dict(state["prior"])
        self._drops.set_state(state["drops"])
        self._corruption.load_state_dict(state["corruption"])
        self._best_weights = state["best_weights"]
        self._best_nll = state["best_nll"]
        self._validations_since_best = state["validations_since_best"]

    def result_files(self) -> dict[str, bytes]:
        """The prior with the best validated weights; before the first validation, with the present ones."""
        if self._best_weights is None:
            return self.prior.to_files()
        with torch.device("meta"):
            best = Prior(self.prior.config, self.prior.spec)
        best.load_state_dict(self._best_weights, assign=True)
        return best.to_files()

    def _accumulate_gradients(self, batch: Batch, step: int) -> Tensor:
        num_pieces = self.config.training.accumulate_batches
        tokens = batch["tokens"]
        batch = {**batch, "condition_drop": self._draw_hidden(len(tokens)), **self._corruption.draw(tokens, step)}
        losses = []
        for piece in pieces(batch, num_pieces, self.device):
            loss = self._nll(piece, piece["condition_drop"]).mean() / num_pieces
            torch.autograd.backward(loss)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _draw_hidden(self, batch_size: int) -> Bool[Tensor, " B"]:
        # Drawn on the CPU for the whole batch: the same records whatever the device and the number of pieces.
        drawn = torch.rand(batch_size * distributed.world_size(), generator=self._drops)
        return distributed.own_rows(drawn, self.config.training.accumulate_batches) < self.config.condition_dropout

    def _nll(self, batch: Mapping[str, Tensor], condition_drop: Tensor | None) -> Tensor:
        with autocast(self.device, self.config.training.precision):
            return self.prior.nll(batch["tokens"], batch.get("labels"), condition_drop, reading(batch), batch)

    def _keep_if_best(self, nll: float) -> None:
        self._validations_since_best += 1
        if nll < self._best_nll:
            self._best_nll, self._validations_since_best = nll, 0
            self._best_weights = whole_weights(self.prior)

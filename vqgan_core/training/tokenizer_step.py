"""One training step of the tokenizer: autoencoder and discriminator in turn.

Axes: B batch, C channels, D codebook width, H×W image, h×w grid, K entries.

Source: arXiv 2012.09841 eq. 4 to 7. Departures from the original:

- One pass through the autoencoder a step: the discriminator sees the reconstruction that the autoencoder's loss was
  computed from, where the original decodes the batch again after the autoencoder's update.
- Both gradients are there before either optimiser moves, so a NaN in one leaves both alone.
- The discriminator's training may start before its influence (`discriminator_start_step`).
- Several processes compute one step together (`vqgan_core.distributed`), each from its share of every piece.
- Gradient clipping, warm-up and cosine, bf16, dead-code restart, EMA of the weights, LeCam regularisation and latent
  perturbation: the original has none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from vqgan_core import distributed
from vqgan_core.config import PatchGanConfig, TrainTokenizerConfig
from vqgan_core.losses import TokenizerLoss
from vqgan_core.tokenizer import Level, Tokenizer, TokenizerOutput
from vqgan_core.tokenizer.blocks import BlockSequence
from vqgan_core.training import streams
from vqgan_core.training.codebooks import CodebookCare
from vqgan_core.training.ema import WeightsEma
from vqgan_core.training.images import check_batch, images_of
from vqgan_core.training.loop import Batch
from vqgan_core.training.optim import Optimized, require_finite
from vqgan_core.training.perturbation import build_perturbation
from vqgan_core.training.pieces import mean_logs, pieces
from vqgan_core.training.precision import autocast, prepare, resolve_device
from vqgan_core.training.reconstruction import ReconstructionTotals
from vqgan_core.training.start import TokenizerStart, freeze_codebook

DISCRIMINATOR_FILE = "discriminator.safetensors"
_MUST_BE_FINITE = ("loss", "gradient_norm", "discriminator", "discriminator_gradient_norm")


class TokenizerStep:
    """Trains a tokenizer on batches of `images` `B C H W` in [-1, 1], or of `label_maps` `B H W` of small integers.

    Building one sets the process' threads, TF32 and determinism policy (`precision.prepare`).

    Args:
        config: recipe and execution.
        device: where to compute; None asks the config.
        start: what training begins with, in place of new weights.

    Raises:
        ValueError: perceptual weights or a device that are not there, or a start of another architecture.
    """

    finished_early = False

    def __init__(
        self, config: TrainTokenizerConfig, device: torch.device | None = None, start: TokenizerStart | None = None
    ) -> None:
        training, execution = config.training, config.execution
        self.config = config
        self.device = resolve_device(execution.device) if device is None else device
        prepare(self.device, precision=training.precision, num_threads=execution.num_threads)
        with streams.seeded(training.seed, "tokenizer weights"):
            self.tokenizer = Tokenizer(config.model()).to(self.device)
        for part in self.tokenizer.modules():
            if isinstance(part, BlockSequence):
                part.activation_checkpointing = execution.activation_checkpointing
        with streams.seeded(training.seed, "discriminator weights"):
            self.loss = TokenizerLoss(config.loss, config.autoencoder.image_channels).to(self.device)
        if start is not None:
            start.give(self.tokenizer, self.loss.discriminator)
        for quantizer in self.tokenizer.quantizers.values() if config.freeze_codebook else ():
            freeze_codebook(quantizer)
        self.tokenizer.train()
        self.loss.train()
        self._autoencoder = Optimized(self.tokenizer, training)
        self._discriminator = _discriminator(self.loss, config)
        self._ema = None if training.ema_decay is None else WeightsEma(self.tokenizer, training.ema_decay)
        self._codebooks = {
            name: CodebookCare(name, quantizer, training.seed, frozen=config.freeze_codebook)
            for name, quantizer in self.tokenizer.quantizers.items()
        }
        self._perturbation = build_perturbation(config, self.tokenizer.quantizer)

    def train_step(self, batch: Batch, step: int) -> dict[str, float | Tensor]:
        """One update of the autoencoder and, once it has started, one of the discriminator.

        Raises:
            NonFiniteError: a loss or gradient norm is NaN or infinite; no weight was touched.
            ValueError: the batch does not divide into pieces, or is none of this tokenizer's.
        """
        discriminator = self._discriminator if self.loss.trains_discriminator(step) else None
        check_batch(batch, self.config)
        self._autoencoder.zero_grad()
        if discriminator is not None:
            discriminator.zero_grad()
        settings = self._begin(step)
        num_pieces = self.config.training.accumulate_batches
        passes = [
            self._backward(images_of(piece, self.config), step, number)
            for number, piece in enumerate(pieces(batch, num_pieces, self.device))
        ]
        metrics: dict[str, Tensor] = mean_logs([logs for logs, _ in passes])
        self._autoencoder.mean_gradients()
        metrics["gradient_norm"] = self._autoencoder.gradient_norm()
        if discriminator is not None:
            discriminator.mean_gradients()
            metrics["discriminator_gradient_norm"] = discriminator.gradient_norm()
        require_finite({name.replace("_", " "): metrics[name] for name in _MUST_BE_FINITE if name in metrics})
        rate = self._autoencoder.update(step, metrics["gradient_norm"])
        if discriminator is not None:
            discriminator.update(step, metrics["discriminator_gradient_norm"])
        self.loss.end_step(metrics)
        metrics |= self._follow_up([levels for _, levels in passes])
        return {**metrics, **settings, "learning_rate": rate}

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Reconstruction and codebook metrics of the weights that would be published (see `ReconstructionTotals`)."""
        totals = ReconstructionTotals(
            self.config.codebook_sizes, self.loss.perceptual, self.device, self.config.loss.pixel
        )
        self.tokenizer.eval()
        with self._published_weights():
            for batch in batches:
                check_batch(batch, self.config)
                images = images_of(pieces(batch, 1, self.device)[0], self.config)
                with autocast(self.device, self.config.training.precision):
                    output = self.tokenizer(images)
                totals.add(images, output)
        self.tokenizer.train()
        return totals.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])

    def result_files(self) -> dict[str, bytes]:
        """The tokenizer's files, with averaged weights if there are any; the discriminator apart, for fine-tuning."""
        with self._published_weights():
            files = self.tokenizer.to_files()
        if self.loss.discriminator is not None:
            weights = {name: value.cpu().contiguous() for name, value in self.loss.discriminator.state_dict().items()}
            files[DISCRIMINATOR_FILE] = safetensors.torch.save(weights)
        return files

    def _begin(self, step: int) -> dict[str, float]:
        """Set what schedules say for a step; returns it for the log."""
        settings = {
            name: value for codebook in self._codebooks.values() for name, value in codebook.begin(step).items()
        }
        if self._perturbation is not None:
            settings["perturbation"] = self._perturbation.probability(step)
        return settings

    def _seed_noise(self, step: int, piece: int, num_records: int) -> None:
        first = (piece * distributed.world_size() + distributed.rank()) * num_records
        for codebook in self._codebooks.values():
            codebook.seed_noise(step, first)

    def _backward(
        self, images: Float[Tensor, "B C H W"], step: int, number: int
    ) -> tuple[dict[str, Tensor], dict[str, Level]]:
        """Add the gradients of one piece; returns scalars, and what each codebook was asked and answered."""
        num_pieces = self.config.training.accumulate_batches
        precision = self.config.training.precision
        self._seed_noise(step, number, len(images))
        with autocast(self.device, precision):
            perturb = None if self._perturbation is None else partial(self._perturbation.perturb, step=step)
            output: TokenizerOutput = self.tokenizer(images, perturb)
            loss, logs = self.loss.autoencoder_loss(images, output, self.tokenizer.last_layer, step)
        torch.autograd.backward(loss / num_pieces)
        if self.loss.trains_discriminator(step):
            with autocast(self.device, precision):
                loss, more = self.loss.discriminator_loss(images, output.reconstruction.detach(), step)
            torch.autograd.backward(loss / num_pieces)
            logs |= more
        return logs, {name: level.detached() for name, level in output.levels.items()}

    @torch.no_grad()
    def _follow_up(self, passes: Sequence[Mapping[str, Level]]) -> dict[str, Tensor]:
        """What follows an optimiser step: codebooks' averages and restarts, EMA of the weights, usage."""
        metrics = {}
        for name, codebook in self._codebooks.items():
            levels = [levels[name] for levels in passes]
            metrics.update(codebook.end(levels, self._autoencoder.optimizer, self._ema))
        if self._ema is not None:
            self._ema.update()
        return metrics

    def _published_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self._ema is None else self._ema.applied()

    def _stateful(self) -> dict[str, Any]:
        parts = {
            "autoencoder": self._autoencoder,
            "discriminator": self._discriminator,
            "ema": self._ema,
            **{f"codebook of {name}": codebook for name, codebook in self._codebooks.items()},
            "lecam": self.loss.lecam,
            "perturbation": self._perturbation,
        }
        return {name: part for name, part in parts.items() if part is not None}


def _discriminator(loss: TokenizerLoss, config: TrainTokenizerConfig) -> Optimized | None:
    gan = config.loss.adversarial
    if loss.discriminator is None or not isinstance(gan, PatchGanConfig):
        return None
    return Optimized(loss.discriminator, config.training, peak=gan.learning_rate)

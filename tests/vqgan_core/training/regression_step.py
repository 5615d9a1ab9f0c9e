"""A small real training step that tests of the loop run: a regression with dropout, Adam, EMA and an own stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from vqgan_core.config import TrainingConfig
from vqgan_core.training import streams
from vqgan_core.training.ema import WeightsEma
from vqgan_core.training.loop import Batch
from vqgan_core.training.optim import adam, clip_gradients, gradient_norm, require_finite, set_learning_rate
from vqgan_core.training.schedule import learning_rate


class RegressionStep:
    """Learns y = sum(x) from noisy inputs; stops when validation did not improve `patience` times."""

    def __init__(self, config: TrainingConfig, patience: int | None = None) -> None:
        self.device = torch.device("cpu")
        self.config = config
        with streams.seeded(config.seed, "weights"):
            self.model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
        self.optimizer = adam(self.model.parameters(), betas=(0.9, 0.95))
        self.ema = WeightsEma(self.model, 0.9)
        self.noise = streams.stream(config.seed, "noise")
        self.patience = patience
        self.best = float("inf")
        self.waited = 0
        self.trained_steps: list[int] = []

    @property
    def finished_early(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def train_step(self, batch: Batch, step: int) -> Mapping[str, float | Tensor]:
        noise = 0.1 * torch.randn(batch["x"].shape, generator=self.noise)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = (self.model(batch["x"] + noise)[:, 0] - batch["y"]).square().mean()
        loss.backward()
        norm = gradient_norm(self.model.parameters())
        require_finite({"loss": loss, "gradient norm": norm})
        clip_gradients(list(self.model.parameters()), norm, self.config.gradient_clip)
        set_learning_rate(self.optimizer, learning_rate(self.config, step))
        self.optimizer.step()
        self.ema.update()
        self.trained_steps.append(step)
        return {"loss": loss.detach(), "gradient_norm": norm, "step": float(step)}

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        self.model.eval()
        with self.ema.applied(), torch.no_grad():
            losses = [(self.model(batch["x"])[:, 0] - batch["y"]).square().mean().item() for batch in batches]
        loss = sum(losses) / len(losses)
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        return {"loss": loss}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "noise": self.noise.get_state(),
            "best": self.best,
            "waited": self.waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.noise.set_state(state["noise"])
        self.best, self.waited = state["best"], state["waited"]

    def result_files(self) -> dict[str, bytes]:
        with self.ema.applied():
            return {"model.safetensors": save({**self.model.state_dict()})}


def batch_of(step: int, size: int = 8) -> Batch:
    """Step s's batch is a function of s alone."""
    x = torch.randn(size, 4, generator=torch.Generator().manual_seed(step))
    return {"x": x, "y": x.sum(dim=1)}


def batches(start_step: int) -> Iterator[Batch]:
    """Endless training data."""
    return map(batch_of, itertools.count(start_step))


def poisoned(*bad_steps: int) -> Any:
    """Training data in which one value of each of these steps is NaN."""

    def stream(start_step: int) -> Iterator[Batch]:
        for step in itertools.count(start_step):
            batch = dict(batch_of(step))
            if step in bad_steps:
                batch["x"][0, 0] = float("nan")
            yield batch

    return stream


def validation() -> list[Batch]:
    """The fixed validation set."""
    return [batch_of(-1 - index) for index in range(2)]

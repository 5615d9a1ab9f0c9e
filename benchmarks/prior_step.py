"""A prior's training step on 256 tokens, against a plain GPT-2 in eager fp32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

from benchmarks.device import DEVICE
from benchmarks.pairs import Pair
from benchmarks.plain import PlainPrior
from benchmarks.targets import PRIOR_STEP
from vqgan_core.config import TokenSpec, TrainPriorConfig
from vqgan_core.prior.cost import BACKWARD_FACTOR, prior_cost
from vqgan_core.training import PriorStep

BATCH, SIDE, ENTRIES, CLASSES = 4, 16, 1024, 10
LAYERS, HEADS, WIDTH = (4, 8, 512) if DEVICE.type == "cpu" else (24, 16, 1024)


def pairs() -> Iterator[Pair]:
    """In fp32 and bf16; the plain way is always fp32."""
    torch.manual_seed(0)
    tokens = torch.randint(ENTRIES, (BATCH, SIDE * SIDE), device=DEVICE)
    labels = torch.randint(CLASSES, (BATCH,), device=DEVICE)
    plain = PlainPrior(ENTRIES, CLASSES, SIDE * SIDE, LAYERS, HEADS, WIDTH).to(DEVICE)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-4, betas=(0.9, 0.95), foreach=False)

    def plain_step() -> None:
        loss = F.cross_entropy(plain(tokens[:, :-1], labels).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    spec = TokenSpec(codebook_size=ENTRIES, height=SIDE, width=SIDE, num_classes=CLASSES)
    for precision in ("fp32", "bf16"):
        config = TrainPriorConfig.model_validate(
            {
                "num_layers": LAYERS, "num_heads": HEADS, "width": WIDTH, "dropout": 0.0,
                "training": {"batch_size": BATCH, "precision": precision},
            }
        )  # fmt: skip
        step = PriorStep(config, spec, device=DEVICE)
        cost = prior_cost(config.model(), spec)
        flops = BACKWARD_FACTOR * tokens.numel() * cost.forward_flops_per_token
        yield Pair(
            f"prior step, {LAYERS} layers of {WIDTH}, {precision}", "tokens/s", tokens.numel(),
            lambda s=step: s.train_step({"tokens": tokens, "labels": labels}, 0),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            plain_step, flops, precision=precision, target=PRIOR_STEP,
        )  # fmt: skip

"""Encoding to indices and decoding from them, against the plain tokenizer, at a size that the device can do."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.device import DEVICE
from benchmarks.pairs import Pair
from benchmarks.plain import PlainTokenizer
from benchmarks.targets import ENCODE
from vqgan_core.config import TokenizerConfig
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.tokenizer.cost import tokenizer_cost
from vqgan_core.training.precision import autocast

BATCH, SIZE_PX = (2, 128) if DEVICE.type == "cpu" else (32, 256)
CONFIG = {
    "codebook_size": 1024,
    "codebook_dim": 128,
    "autoencoder": {
        "resolution_px": SIZE_PX, "base_channels": 64, "channel_multipliers": [1, 1, 2, 4], "num_res_blocks": 2,
        "attention_resolutions": [], "latent_channels": 128,
    },
}  # fmt: skip
PLAIN = (64, (1, 1, 2, 4), 128, 1024)
"""The same for the plain tokenizer."""


def pairs() -> Iterator[Pair]:
    """In fp32 and bf16; the plain way is always fp32."""
    torch.manual_seed(0)
    config = TokenizerConfig.model_validate(CONFIG)
    ours = Tokenizer(config).to(DEVICE).eval()
    plain = PlainTokenizer(*PLAIN).to(DEVICE).eval()
    images = torch.rand(BATCH, 3, SIZE_PX, SIZE_PX, device=DEVICE) * 2 - 1
    indices = plain_encode(plain, images)
    cost = tokenizer_cost(config)
    for precision in ("fp32", "bf16"):
        yield Pair(
            f"encode, {SIZE_PX} px, {precision}", "images/s", BATCH,
            lambda p=precision: encode(ours, images, p),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            lambda: plain_encode(plain, images), BATCH * cost.encode_flops, precision=precision, target=ENCODE,
        )  # fmt: skip
        yield Pair(
            f"decode, {SIZE_PX} px, {precision}", "images/s", BATCH,
            lambda p=precision: decode(ours, indices, p),  # type: ignore[misc]  # as above
            lambda: plain_decode(plain, indices), BATCH * cost.decoder_flops, precision=precision,
        )  # fmt: skip


@torch.no_grad()
def encode(tokenizer: Tokenizer, images: Tensor, precision: str) -> Tensor:
    """As the encode stage does."""
    with autocast(DEVICE, precision):
        return tokenizer.encode(images)


@torch.no_grad()
def decode(tokenizer: Tokenizer, indices: Tensor, precision: str) -> Tensor:
    """As the sample stage does."""
    with autocast(DEVICE, precision):
        return tokenizer.decode(indices)


@torch.no_grad()
def plain_encode(tokenizer: PlainTokenizer, images: Tensor) -> Tensor:
    """Indices."""
    return tokenizer.encode(images)[1]


@torch.no_grad()
def plain_decode(tokenizer: PlainTokenizer, indices: Tensor) -> Tensor:
    """Images."""
    return tokenizer.decode(indices)

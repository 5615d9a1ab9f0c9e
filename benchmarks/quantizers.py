"""All quantizers on the same photographs for the same steps: `python -m benchmarks.quantizers images.tar --steps 300`.

A small run on one thread, to see that each works and what it costs; no ranking of what they do at scale.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqgan_core.config import TrainTokenizerConfig
from vqgan_core.training import TokenizerStep

SIZE_PX, BATCH, NUM_VALIDATION = 32, 16, 256
COMMON: dict[str, Any] = {
    "codebook_size": 1024,
    "codebook_dim": 16,
    "autoencoder.resolution_px": SIZE_PX,
    "autoencoder.base_channels": 16,
    "autoencoder.channel_multipliers": [1, 2, 2],
    "autoencoder.num_res_blocks": 1,
    "autoencoder.attention_resolutions": [],
    "autoencoder.latent_channels": 32,
    "autoencoder.num_groups": 8,
    "loss.perceptual": "none",
    "loss.adversarial": "none",
    "training.learning_rate": 1e-3,
    "training.batch_size": BATCH,
    "execution.device": "cpu",
    "execution.num_threads": 1,
}
KINDS: dict[str, dict[str, Any]] = {
    "vector": {},
    "vector, restart after 20": {"quantizer.restart_dead_codes_after_steps": 20},
    "vector, rotation": {"quantizer.gradient": "rotation"},
    "vector, unit vectors of 8": {"quantizer.l2_normalize": True, "codebook_dim": 8},
    "ema, restart after 20": {"quantizer.kind": "ema", "quantizer.restart_dead_codes_after_steps": 20},
    "gumbel": {"quantizer.kind": "gumbel"},
    "simvq": {"quantizer.kind": "simvq"},
    "fsq 8 5 5 5": {"quantizer.kind": "fsq", "codebook_size": 1000, "codebook_dim": 4},
    "lfq": {"quantizer.kind": "lfq", "codebook_dim": 10, "quantizer.temperature": 1.0},
    "residual, depth 4, restart after 20": {
        "quantizer.kind": "residual",
        "quantizer.restart_dead_codes_after_steps": 20,
    },
    "two levels (VQ-VAE-2), ema, restart after 20": {
        "quantizer.kind": "ema",
        "quantizer.restart_dead_codes_after_steps": 20,
        "top.codebook_size": 1024,
        "top.codebook_dim": 16,
        "top.quantizer.restart_dead_codes_after_steps": 20,
    },
    "gumbel mixture, logit-Laplace (dVAE)": {
        "quantizer.kind": "gumbel",
        "quantizer.straight_through": False,
        "quantizer.temperature_start": 1.0,
        "quantizer.temperature_peak": 1.0,
        "pixels": "logit_laplace",
        "loss.pixel": "logit_laplace",
    },
}


def main() -> None:
    """Print a row of the table for each quantizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="a tar of pictures")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name has one of these in it")
    arguments = parser.parse_args()
    images = read_images(arguments.images)
    sys.stdout.write(
        "| quantizer | PSNR | L1 | usage | perplexity | bits an image | steps/s |\n|---|---|---|---|---|---|---|\n"
    )
    for name, overrides in KINDS.items():
        if any(part in name for part in arguments.only):
            sys.stdout.write(row(name, overrides, images, arguments.steps))
            sys.stdout.flush()


def row(name: str, overrides: dict[str, Any], images: Tensor, num_steps: int) -> str:
    """Train one and measure it on the last images."""
    steps = {"training.num_steps": num_steps, "quantizer.temperature_decay_steps": num_steps}
    if overrides.get("quantizer.kind") != "gumbel":
        del steps["quantizer.temperature_decay_steps"]
    config = TrainTokenizerConfig.load(overrides=COMMON | overrides | steps)
    step, generator = TokenizerStep(config), torch.Generator().manual_seed(0)
    seen, held_out = images[:-NUM_VALIDATION], images[-NUM_VALIDATION:]
    started = time.process_time()
    for index in range(num_steps):
        chosen = torch.randint(len(seen), (BATCH,), generator=generator)
        step.train_step({"images": to_floats(seen[chosen])}, index)
    seconds = time.process_time() - started
    metrics = step.validate({"images": to_floats(batch)} for batch in held_out.split(BATCH))
    grids, sizes = config.grids(SIZE_PX, SIZE_PX), config.codebook_sizes
    bits = sum(height * width * np.log2(sizes[level]) for level, (height, width) in grids.items())
    usage = " + ".join(f"{metrics[name]:.0%}" for name in ("usage", "usage_top") if name in metrics)
    perplexity = " + ".join(f"{metrics[name]:.0f}" for name in ("perplexity", "perplexity_top") if name in metrics)
    return (
        f"| {name} | {metrics['psnr']:.2f} dB | {metrics['l1']:.4f} | {usage} | {perplexity} | {bits:.0f} | "
        f"{num_steps / seconds:.2f} |\n"
    )


def read_images(path: Path) -> Tensor:
    """The pictures of a tar, square, as bytes `N 3 H W`, in the order of their names."""
    pictures = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith((".png", ".jpg", ".jpeg", ".webp")) else None
            if file is not None:
                image = Image.open(io.BytesIO(file.read())).convert("RGB").resize((SIZE_PX, SIZE_PX))
                pictures[member.name] = np.asarray(image)
    ordered = np.stack([pictures[name] for name in sorted(pictures)])
    return torch.from_numpy(ordered).permute(0, 3, 1, 2)


def to_floats(images: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return images.float() / 127.5 - 1


if __name__ == "__main__":
    main()

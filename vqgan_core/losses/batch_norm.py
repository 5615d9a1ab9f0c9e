"""BatchNorm over the batch of all processes.

Axes: B batch, C channels, H×W grid.

    y = γ (x - μ) / √(σ² + ε) + β,   μ and σ² of the global batch

Source: arXiv 1502.03167 algorithm 1. In one process it is PyTorch's own. PyTorch's SyncBatchNorm does the same on GPUs
alone; this one works wherever its processes can talk. Every process has as many values as the others.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core import distributed

__all__ = ["BatchNorm"]


class BatchNorm(nn.BatchNorm2d):
    """As `nn.BatchNorm2d`, with the same state; in training all processes have to call it together."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise with the batch's statistics in training, else with the running ones."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            mean = distributed.mean(values.mean(dim=(0, 2, 3)))
            centred = values - rearrange(mean, "c -> c 1 1")
            variance = distributed.mean(centred.square().mean(dim=(0, 2, 3)))
            self._follow(mean.detach(), variance.detach(), x.numel() // x.shape[1] * distributed.world_size())
            scale = self.weight * (variance + self.eps).rsqrt()
            out = centred * rearrange(scale, "c -> c 1 1") + rearrange(self.bias, "c -> c 1 1")
        return out.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Float[Tensor, " C"], variance: Float[Tensor, " C"], count: int) -> None:
        """Move the running statistics; that of the variance is unbiased, as PyTorch's."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)

"""The four parts that encoder and decoder are made of, and their sequence.

Axes: B batch, C channels, H×W grid.

Source: arXiv 2012.09841 §B (after DDPM, arXiv 2006.11239 §B). The mathematics is the original's: GroupNorm with
ε = 1e-6, swish, padding only at the right and bottom before a strided convolution, one attention head.
Departure: attention goes through `scaled_dot_product_attention`, which never holds the (HW)² matrix where a fused
kernel exists; the numbers agree to fp32 rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["AttentionBlock", "Block", "BlockSequence", "Downsample", "ResidualBlock", "Upsample", "group_norm"]


def group_norm(num_groups: int, channels: int) -> nn.GroupNorm:
    """The GroupNorm of every block; ε is the original's, not PyTorch's default."""
    return nn.GroupNorm(num_groups, channels, eps=1e-6)


class Block(nn.Module):
    """Several layers whose activations need not be kept: they can be computed again from what went in."""


class ResidualBlock(Block):
    """Two normalised 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, *, num_groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(num_groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(num_groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        """Return shortcut(x) + residual(x)."""
        residual = self.conv1(F.silu(self.norm1(x)))
        residual = self.conv2(self.dropout(F.silu(self.norm2(residual))))
        out: Tensor = self.shortcut(x) + residual
        return out


class AttentionBlock(Block):
    """One head of self-attention over all places of the grid, added to its input."""

    def __init__(self, channels: int, *, num_groups: int) -> None:
        super().__init__()
        self.norm = group_norm(num_groups, channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return x + attention(norm(x))."""
        normed = self.norm(x)
        q, k, v = (rearrange(part(normed), "b c h w -> b 1 (h w) c") for part in (self.query, self.key, self.value))
        mixed = rearrange(F.scaled_dot_product_attention(q, k, v), "b 1 (h w) c -> b c h w", h=x.shape[2])
        out: Tensor = x + self.project(mixed)
        return out


class Downsample(nn.Module):
    """Halve height and width by a strided 3×3 convolution, padded at the right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H/2 W/2"]:
        """Return the halved grid."""
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2H 2W"]:
        """Return the doubled grid."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class BlockSequence(nn.Sequential):
    """Layers one after the other; some are sequences of blocks themselves."""

    activation_checkpointing: bool = False
    """Keep what goes into a block and compute the rest again in the backward pass; numbers stay as they are."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Apply all layers."""
        for layer in self:
            for block in layer if isinstance(layer, nn.Sequential) else (layer,):
                # Other layers keep their inputs alone, so there is nothing to win with them.
                if isinstance(block, Block) and self.activation_checkpointing and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
        return x

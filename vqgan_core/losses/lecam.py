"""LeCam regularisation: keeps the discriminator's logits near moving averages of those for the other kind of image.

Axes: B batch, h×w patches of the discriminator.

    R = E (D(x) - α_F)² + E (D(x̂) - α_R)²

α_R and α_F are averages of the logits of real images and of reconstructions. It matters on small corpora, where the
discriminator otherwise learns the training images by heart.

Source: arXiv 2104.03310 eq. 4. Averages start at 0 and move once an optimiser step, whatever the pieces of its batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["LecamAnchors"]


class LecamAnchors(nn.Module):
    """α_R and α_F, and the distance to them.

    Args:
        decay: of the averages.
    """

    real: Tensor
    fake: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def forward(self, real_logits: Float[Tensor, "B 1 h w"], fake_logits: Float[Tensor, "B 1 h w"]) -> Tensor:
        """R, a scalar."""
        return (real_logits - self.fake).square().mean() + (fake_logits - self.real).square().mean()

    @torch.no_grad()
    def follow(self, real_mean: Float[Tensor, ""], fake_mean: Float[Tensor, ""]) -> None:
        """Move the averages towards a step's mean logits."""
        self.real.lerp_(real_mean, 1 - self._decay)
        self.fake.lerp_(fake_mean, 1 - self._decay)

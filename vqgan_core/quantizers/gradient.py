"""How the decoder's gradient passes the step from a latent to its entry, which has no derivative.

Axes: B batch, D codebook width, h×w grid; e a latent and q its entry.

- straight_through: ∂q/∂e = I. Source: arXiv 1711.00937 §3.2.
- rotation: ∂q/∂e = (‖q‖/‖e‖) R, where R is the rotation of e onto q in the plane of both, so that the gradient keeps
  its angle to the vector. Source: arXiv 2410.06424 §4; R by two reflections, as there. Departure: the forward value is
  q itself, not R applied to e, so that rounding and vectors without a direction (0) cannot change what is decoded.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan_core.config.quantizer import GradientEstimator

__all__ = ["pass_gradient"]


def pass_gradient(
    kind: GradientEstimator, latents: Float[Tensor, "B D h w"], entries: Float[Tensor, "B D h w"]
) -> Float[Tensor, "B D h w"]:
    """The entries, with a gradient that reaches the latents and not the entries."""
    carrier = latents if kind == "straight_through" else _rotated(latents, entries.detach())
    return carrier + (entries - carrier).detach()


def _rotated(latents: Float[Tensor, "B D h w"], entries: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    """λ R e, with λ and R constants for the gradient."""
    fixed = latents.detach()
    e, q = F.normalize(fixed, dim=1), F.normalize(entries, dim=1)
    r = F.normalize(e + q, dim=1)
    scale = entries.norm(dim=1, keepdim=True) / fixed.norm(dim=1, keepdim=True).clamp(min=1e-12)

    def along(direction: Tensor) -> Tensor:
        return (direction * latents).sum(dim=1, keepdim=True)

    rotated: Tensor = scale * (latents - 2 * r * along(r) + 2 * q * along(e))
    return rotated

"""Adversarial losses and the adaptive weight.

Axes: B batch, h×w patches of the discriminator.

Source: arXiv 2012.09841 eq. 3, 6 and 7; hinge loss from arXiv 1705.02894 eq. 7-8. δ is 1e-6 in the paper and 1e-4 in
its code; here it is the config's.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqgan_core import distributed

__all__ = ["adaptive_weight", "discriminator_loss", "generator_loss"]


def discriminator_loss(
    kind: Literal["hinge", "vanilla"], real_logits: Float[Tensor, "B 1 h w"], fake_logits: Float[Tensor, "B 1 h w"]
) -> Float[Tensor, ""]:
    """What the discriminator minimises: half the sum of its losses on real and on reconstructed images."""
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
    return 0.5 * (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())


def generator_loss(fake_logits: Float[Tensor, "B 1 h w"]) -> Float[Tensor, ""]:
    """What the autoencoder minimises: that its reconstructions look real, without saturation."""
    return -fake_logits.mean()


def adaptive_weight(
    reconstruction_loss: Float[Tensor, ""],
    gan_loss: Float[Tensor, ""],
    last_layer: Tensor,
    delta: float,
    maximum: float,
) -> Float[Tensor, ""]:
    """λ of eq. 7, detached: the ratio of both losses' gradient norms at the decoder's last layer, at most `maximum`.

    The gradients are those of the global batch: all processes have to ask together.
    """
    (of_reconstruction,) = torch.autograd.grad(reconstruction_loss, last_layer, retain_graph=True)
    (of_gan,) = torch.autograd.grad(gan_loss, last_layer, retain_graph=True)
    both = distributed.total(torch.stack([of_reconstruction.float(), of_gan.float()])) / distributed.world_size()
    norm = torch.linalg.vector_norm
    weight: Tensor = norm(both[0]) / (norm(both[1]) + delta)
    return weight.clamp(0.0, maximum).detach()

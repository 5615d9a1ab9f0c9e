"""The logit-Laplace likelihood of DALL·E's dVAE: pixels that lie in a bounded range, as they are.

Axes: B batch, C image channels, H×W image.

    f(x | μ, b) = 1 / (2 b x (1 - x)) · exp(-|logit(x) - μ| / b),   x in (0, 1)

Laplace and Gauss, the likelihoods behind l1 and l2, put mass outside the range of pixels.

Source: arXiv 2102.12092 appendix A.3. There the loss is -ln f + β KL summed over an image and divided by its values
(C·H·W). With -ln f a mean, as here, and the quantizer's KL a mean over positions, β has to be divided by the values for
one position, C·f²: β = 6.6 of the paper at f8 is kl_weight 6.6 / 192.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan_core.tokenizer.pixels import map_pixels

__all__ = ["logit_laplace_nll"]


def logit_laplace_nll(
    images: Float[Tensor, "B C H W"], statistics: Float[Tensor, "B 2C H W"]
) -> Float[Tensor, "B C H W"]:
    """-ln f of each value of images in [-1, 1], in nats, fp32.

    Args:
        images: what was to be reconstructed.
        statistics: μ of each channel, then ln b of each.
    """
    location, log_scale = statistics.float().chunk(2, dim=1)
    x = map_pixels(images.float())
    density = math.log(2) + log_scale + torch.log(x * (1 - x))
    return density + (torch.logit(x) - location).abs() * torch.exp(-log_scale)

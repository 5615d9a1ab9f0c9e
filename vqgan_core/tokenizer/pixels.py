"""What a decoder says of a pixel: its value, or a distribution of it.

Axes: B batch, C image channels, H×W image.

Logit-Laplace (arXiv 2102.12092 appendix A.3): of each value the decoder gives μ and ln b; logit(x) is Laplace with
location μ and scale b. x lies in (0, 1), so images are squeezed into [ε, 1 - ε] first; the picture shown is σ(μ),
stretched back. Departure: it is not clamped, as no reconstruction here is.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["EPSILON", "central_image", "map_pixels"]

EPSILON = 0.1


def map_pixels(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Images from [-1, 1] to [ε, 1 - ε]."""
    return (images + 1) / 2 * (1 - 2 * EPSILON) + EPSILON


def central_image(statistics: Float[Tensor, "B 2C H W"]) -> Float[Tensor, "B C H W"]:
    """The image at the distributions' medians: the first half of the channels is μ, the second ln b."""
    location = statistics[:, : statistics.shape[1] // 2]
    return (location.sigmoid() - EPSILON) / (1 - 2 * EPSILON) * 2 - 1

"""The logit-Laplace likelihood against torch's distributions, and against what a density has to be."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Laplace, SigmoidTransform, TransformedDistribution

from vqgan_core.losses import logit_laplace_nll
from vqgan_core.tokenizer.pixels import EPSILON, central_image, map_pixels


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_is_a_laplace_seen_through_a_sigmoid() -> None:
    images, location, log_scale = drawn(2, 3, 4, 5), 3 * drawn(2, 3, 4, 5).flip(0), drawn(2, 3, 4, 5).flip(1)
    theirs = TransformedDistribution(Laplace(location, log_scale.exp()), [SigmoidTransform()])
    ours = logit_laplace_nll(images, torch.cat([location, log_scale], dim=1))
    torch.testing.assert_close(ours, -theirs.log_prob(map_pixels(images)), rtol=1e-4, atol=1e-5)


def test_pixels_are_squeezed_and_stretched_back() -> None:
    images = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    x = map_pixels(images)
    assert x.flatten().tolist() == pytest.approx([EPSILON, 0.5, 1 - EPSILON])
    statistics = torch.cat([torch.logit(x), torch.full_like(x, -2.0)], dim=1)
    torch.testing.assert_close(central_image(statistics), images, rtol=0, atol=1e-6)


def test_the_best_location_is_the_image_and_the_best_scale_the_error() -> None:
    images = drawn(1, 1, 8, 8)
    off = torch.logit(map_pixels(images)) + 0.3
    scales = torch.linspace(-3, 1, 81)
    losses = torch.stack(
        [logit_laplace_nll(images, torch.cat([off, torch.full_like(off, s)], dim=1)).mean() for s in scales.tolist()]
    )
    assert scales[losses.argmin()].exp().item() == pytest.approx(0.3, rel=0.05)

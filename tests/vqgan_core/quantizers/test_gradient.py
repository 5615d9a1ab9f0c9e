"""How gradients pass the quantizer: copied, or turned as the latent was turned into its entry."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.quantizers.gradient import pass_gradient


def vectors(seed: int) -> Tensor:
    return torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(seed))


def rotation_matrix(e: Tensor, q: Tensor) -> Tensor:
    """The rotation of e onto q within their plane, in fp64, from an orthonormal basis of it: no reflections."""
    e, q = e.double() / e.double().norm(), q.double() / q.double().norm()
    cosine = float(e @ q)
    across = q - cosine * e
    sine = float(across.norm())
    u, v = e, across / sine
    plane = torch.outer(u, u) + torch.outer(v, v)
    turned = cosine * plane + sine * (torch.outer(v, u) - torch.outer(u, v))
    return torch.eye(len(e), dtype=torch.float64) - plane + turned


@pytest.mark.parametrize("kind", ["straight_through", "rotation"])
def test_the_value_is_the_entry(kind: str) -> None:
    torch.testing.assert_close(pass_gradient(kind, vectors(0), vectors(1)), vectors(1))


def test_straight_through_copies_the_gradient() -> None:
    latents, entries, upstream = vectors(0).requires_grad_(), vectors(1).requires_grad_(), vectors(2)
    pass_gradient("straight_through", latents, entries).backward(upstream)
    assert torch.equal(latents.grad, upstream)
    assert entries.grad is None


def test_rotation_turns_and_scales_the_gradient() -> None:
    """∂q/∂e = (‖q‖/‖e‖) R, against matrices that are built another way."""
    latents, entries, upstream = vectors(0).requires_grad_(), vectors(1).requires_grad_(), vectors(2)
    pass_gradient("rotation", latents, entries).backward(upstream)
    assert entries.grad is None
    rows = [x.detach().permute(0, 2, 3, 1).reshape(-1, 5) for x in (latents, entries, upstream, latents.grad)]
    for e, q, given, got in zip(*rows, strict=True):
        matrix = rotation_matrix(e, q)
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(5, dtype=torch.float64))
        scaled = float(q.norm() / e.norm()) * matrix
        torch.testing.assert_close((scaled @ e.double()).float(), q)
        torch.testing.assert_close(got, (scaled.T @ given.double()).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entry", [[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
@pytest.mark.parametrize("latent", [[0.0, 0.0], [1.0, 0.0]])
def test_vectors_without_a_plane_stay_finite(latent: list[float], entry: list[float]) -> None:
    e = torch.tensor(latent).view(1, 2, 1, 1).requires_grad_()
    q = torch.tensor(entry).view(1, 2, 1, 1)
    value = pass_gradient("rotation", e, q)
    value.sum().backward()
    assert torch.equal(value.detach(), q)
    assert torch.isfinite(e.grad).all()

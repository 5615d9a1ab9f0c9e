"""Residual quantisation: greedy sums, by brute force, and a grid that stays usable as tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.config import ResidualQuantizerConfig
from vqgan_core.quantizers import ResidualQuantizer

NUM_ENTRIES, WIDTH, DEPTH = 8, 3, 4


def quantizer(**config: object) -> ResidualQuantizer:
    torch.manual_seed(0)
    made = ResidualQuantizer(NUM_ENTRIES, WIDTH, ResidualQuantizerConfig.model_validate({"depth": DEPTH} | config))
    torch.nn.init.normal_(made.codebook)
    made.sum_chosen.copy_(made.codebook)
    return made


def latents() -> Tensor:
    return torch.randn(2, WIDTH, 3, 5, generator=torch.Generator().manual_seed(1))


def greedy(made: ResidualQuantizer, latent: Tensor) -> tuple[list[int], list[Tensor]]:
    """Indices and residuals of one latent."""
    chosen, residuals = [], [latent]
    for _ in range(DEPTH):
        chosen.append(int((made.codebook.detach() - residuals[-1]).square().sum(1).argmin()))
        residuals.append(residuals[-1] - made.codebook.detach()[chosen[-1]])
    return chosen, residuals


def test_indices_are_greedy_and_stand_side_by_side() -> None:
    made, z = quantizer(), latents()
    result = made(z)
    assert result.indices.shape == (2, 3, 5 * DEPTH)
    assert torch.equal(made.encode(z), result.indices)
    targets, losses = made.targets(z, result.indices), []
    for b, h, w in ((0, 0, 0), (1, 2, 4), (1, 0, 3)):
        chosen, residuals = greedy(made, z[b, :, h, w])
        span = slice(w * DEPTH, (w + 1) * DEPTH)
        assert result.indices[b, h, span].tolist() == chosen
        torch.testing.assert_close(targets[b, :, h, span].T, torch.stack(residuals[:-1]))
        torch.testing.assert_close(result.quantized[b, :, h, w], z[b, :, h, w] - residuals[-1])
        losses.append(residuals)
    torch.testing.assert_close(made.decode(result.indices), result.quantized)


def test_the_loss_is_the_mean_distance_to_the_partial_sums() -> None:
    made, z = quantizer(commitment_weight=0.3), latents().requires_grad_()
    result = made(z)
    residuals = torch.stack(
        [torch.stack(greedy(made, row)[1][1:]) for row in z.detach().permute(0, 2, 3, 1).reshape(-1, WIDTH)]
    )
    torch.testing.assert_close(result.loss.detach(), 0.3 * residuals.square().mean())
    result.loss.backward()
    expected = 0.3 * 2 * residuals.mean(dim=1) / z.numel()
    torch.testing.assert_close(z.grad.permute(0, 2, 3, 1).reshape(-1, WIDTH), expected)


def test_depth_improves_and_depth_one_is_plain() -> None:
    errors = []
    for depth in (1, 2, 4):
        made = quantizer(depth=depth)
        result = made(latents())
        errors.append(float((result.quantized - latents()).square().mean()))
        if depth == 1:
            entries = made.codebook.detach()
            rows = latents().permute(0, 2, 3, 1)[..., None, :]
            assert torch.equal(result.indices, (rows - entries).square().sum(-1).argmin(-1))
    assert errors[0] > errors[1] > errors[2]


def test_the_shared_codebook_follows_residuals_of_all_depths() -> None:
    made, z = quantizer(decay=0.5), latents()
    indices = made.encode(z)
    before = made.sum_chosen.clone()
    targets = made.targets(z, indices)
    made.end_step([targets], [indices])
    entry = int(indices[0, 0, 0])
    chosen = targets.permute(0, 2, 3, 1)[indices == entry]
    torch.testing.assert_close(made.sum_chosen[entry], 0.5 * before[entry] + 0.5 * chosen.sum(dim=0))
    assert float(made.num_chosen.sum()) == pytest.approx(0.5 * NUM_ENTRIES + 0.5 * indices.numel())


def test_a_grid_of_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="3x6 indices: with depth 4 its width is a multiple of 4"):
        quantizer().decode(torch.zeros(1, 3, 6, dtype=torch.int64))

"""Quantizers without a codebook to learn, against definitions by enumeration: FSQ and LFQ."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vqgan_core.config import FsqQuantizerConfig, LfqQuantizerConfig
from vqgan_core.quantizers import FsqQuantizer, LfqQuantizer
from vqgan_core.quantizers.lfq import choice_entropies

LEVELS = (3, 4, 5, 8)
NUM_CELLS = 3 * 4 * 5 * 8


def fsq(levels: tuple[int, ...] = LEVELS) -> FsqQuantizer:
    return FsqQuantizer(int(torch.tensor(levels).prod()), len(levels), FsqQuantizerConfig(levels=levels))


def lfq(bits: int = 6, **config: object) -> LfqQuantizer:
    return LfqQuantizer(2**bits, bits, LfqQuantizerConfig.model_validate(config))


def latents(width: int, seed: int = 0) -> Tensor:
    return torch.randn(3, width, 6, 5, generator=torch.Generator().manual_seed(seed))


def test_fsq_cells_are_all_combinations_of_values() -> None:
    cells = fsq().decode(torch.arange(NUM_CELLS).view(1, 1, -1))[0, :, 0].T
    values = [[(digit - level // 2) / (level // 2) for digit in range(level)] for level in LEVELS]
    expected = [tuple(reversed(cell)) for cell in itertools.product(*reversed(values))]
    torch.testing.assert_close(cells, torch.tensor(expected))


@pytest.mark.parametrize("levels", [LEVELS, (255, 254), (3,)])
def test_fsq_reaches_every_value_and_no_other(levels: tuple[int, ...]) -> None:
    made = fsq(levels)
    sweep = torch.linspace(-12, 12, 20001).view(1, 1, 1, -1).expand(1, len(levels), 1, -1)
    result = made(sweep)
    for channel, level in enumerate(levels):
        assert result.quantized[0, channel].unique().numel() == level
    assert int(result.indices.min()) >= 0
    assert int(result.indices.max()) < made.codebook_size
    torch.testing.assert_close(made.decode(result.indices), result.quantized)


def test_fsq_puts_zero_at_zero() -> None:
    """The paper's listing has tan where artanh belongs, and moves it."""
    z = torch.zeros(1, 4, 1, 1, requires_grad=True)
    torch.testing.assert_close(fsq()._bounded(z).detach(), torch.zeros(1, 4, 1, 1), atol=1e-6, rtol=0)
    assert float(fsq()(z).quantized.detach().abs().max()) == 0


def test_fsq_gradient_is_that_of_the_bounding() -> None:
    made, z, upstream = fsq(), latents(4).requires_grad_(), latents(4, seed=1)
    result = made(z)
    result.quantized.backward(upstream)
    ours = z.grad.clone()
    z.grad = None
    halves = torch.tensor([level // 2 for level in LEVELS]).view(-1, 1, 1)
    (made._bounded(z) / halves).backward(upstream)
    torch.testing.assert_close(ours, z.grad)
    assert float(result.loss) == 0
    assert made.state_dict() == {}


def test_lfq_corners_are_signs() -> None:
    made, z = lfq(), latents(6)
    result = made(z)
    assert torch.equal(result.quantized.detach() > 0, z > 0)
    torch.testing.assert_close(result.quantized.detach(), torch.where(z > 0, 1.0, -1.0))
    torch.testing.assert_close(made.decode(result.indices), result.quantized.detach())
    weights = 2 ** torch.arange(6).view(-1, 1, 1)
    assert torch.equal(result.indices, ((z > 0) * weights).sum(dim=1))
    assert made.decode(torch.arange(64).view(1, 8, 8)).flatten(2).unique(dim=2).shape[2] == 64


def entropies_by_definition(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Softmax over all corners, by their squared distances, as N × K."""
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=z.shape[1])), dtype=z.dtype)
    p = (-(z[:, None] - corners).square().sum(dim=2) / temperature).softmax(dim=1)
    mean = p.mean(dim=0)
    return torch.special.entr(p).sum(dim=1).mean(), torch.special.entr(mean).sum()


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_lfq_entropies_and_gradients_are_those_of_the_definition(bits: int, temperature: float) -> None:
    z = torch.randn(40, bits, dtype=torch.float64, generator=torch.Generator().manual_seed(bits)).requires_grad_()
    ours, expected = choice_entropies(z, temperature), entropies_by_definition(z, temperature)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)
        gradients = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in (one, other)]
        torch.testing.assert_close(*gradients)


def test_lfq_entropies_of_extremes() -> None:
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)))
    of_each, of_mean = choice_entropies(corners, 0.01)
    assert float(of_each) == pytest.approx(0, abs=1e-6)
    assert float(of_mean) == pytest.approx(4 * torch.tensor(2.0).log().item())
    z = corners[:1].expand(7, -1).clone().requires_grad_()
    of_each, of_mean = choice_entropies(z, 0.01)
    assert float(of_mean.detach()) == pytest.approx(0, abs=1e-6)
    (of_each - of_mean).backward()
    assert torch.isfinite(z.grad).all()


def test_lfq_entropy_fits_in_memory() -> None:
    """By definition this array would have 2048 × 2^20 elements, 8 GiB."""
    z = torch.randn(1, 20, 32, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    made = lfq(20, temperature=1.0)
    made(z).loss.backward()
    assert torch.isfinite(z.grad).all()


def test_lfq_loss() -> None:
    made, z = lfq(commitment_weight=0.3, entropy_weight=0.2, diversity_weight=0.5, temperature=1.0), latents(6)
    of_each, of_mean = choice_entropies(z.permute(0, 2, 3, 1).reshape(-1, 6), 1.0)
    commitment = 0.3 * (z - torch.where(z > 0, 1.0, -1.0)).square().mean()
    torch.testing.assert_close(made(z).loss, commitment + 0.2 * (of_each - 0.5 * of_mean))
    torch.testing.assert_close(lfq(commitment_weight=0.3, entropy_weight=0)(z).loss, commitment)


def test_lfq_training_spreads_the_choices() -> None:
    z = (torch.randn(64, 6, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5).requires_grad_()
    made = lfq(temperature=1.0, entropy_weight=1.0)
    before = made.encode(z).unique().numel()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        made(z).loss.backward()
        optimizer.step()
    assert before < 5
    assert made.encode(z).unique().numel() > 30

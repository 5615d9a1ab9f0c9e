"""The codebook of moving averages: the paper's formulas, once a step, whatever the pieces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.config import EmaQuantizerConfig
from vqgan_core.quantizers import DeadCodeRestart, EmaQuantizer

NUM_ENTRIES, WIDTH = 7, 3


def quantizer(**config: object) -> EmaQuantizer:
    torch.manual_seed(0)
    made = EmaQuantizer(NUM_ENTRIES, WIDTH, EmaQuantizerConfig.model_validate(config))
    torch.nn.init.normal_(made.codebook)
    made.sum_chosen.copy_(made.codebook)
    return made


def latents(seed: int, batch: int = 4) -> Tensor:
    return torch.randn(batch, WIDTH, 2, 3, generator=torch.Generator().manual_seed(seed))


def rows_of(grid: Tensor) -> Tensor:
    return grid.permute(0, 2, 3, 1).reshape(-1, WIDTH)


def test_averages_follow_the_paper() -> None:
    """Appendix A.1 entry by entry, with the Laplace smoothing of counts."""
    gamma, epsilon = 0.8, 0.05
    made = quantizer(decay=gamma, smoothing=epsilon)
    counts, sums = [1.0] * NUM_ENTRIES, [row.clone() for row in made.codebook]
    for step in range(3):
        z = latents(step)
        indices = made.encode(z)
        made.end_step([z], [indices])
        for i in range(NUM_ENTRIES):
            chosen = rows_of(z)[indices.flatten() == i]
            counts[i] = gamma * counts[i] + (1 - gamma) * len(chosen)
            sums[i] = gamma * sums[i] + (1 - gamma) * chosen.sum(dim=0)
        total = sum(counts)
        smoothed = [(count + epsilon) / (total + NUM_ENTRIES * epsilon) * total for count in counts]
        expected = torch.stack([row / count for row, count in zip(sums, smoothed, strict=True)])
        torch.testing.assert_close(made.codebook.detach(), expected)


def test_entries_move_to_the_mean_of_what_chooses_them() -> None:
    made, z = quantizer(decay=0.5), latents(0, batch=32)
    before = float(made(z).loss)
    for _ in range(40):
        made.end_step([z], [made.encode(z)])
    assert float(made(z).loss) < 0.8 * before
    indices = made.encode(z)
    means = [rows_of(z)[indices.flatten() == i].mean(dim=0) for i in indices.unique()]
    torch.testing.assert_close(made.codebook.detach()[indices.unique()], torch.stack(means), rtol=0.02, atol=0.02)


def test_an_entry_that_nothing_chooses_stays() -> None:
    """With counts that begin at 0, the smoothing throws it far away."""
    made = quantizer()
    far = torch.full((1, WIDTH), 50.0)
    with torch.no_grad():
        made.codebook[:1] = made.sum_chosen[:1] = far
    for step in range(100):
        made.end_step([latents(step)], [made.encode(latents(step))])
    torch.testing.assert_close(made.codebook.detach()[:1], far, rtol=1e-3, atol=0)


def test_pieces_of_a_batch_are_one_step() -> None:
    whole, cut, z = quantizer(), quantizer(), latents(0)
    indices = whole.encode(z)
    whole.end_step([z], [indices])
    cut.end_step(z.split(1), indices.split(1))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], value, msg=name)


def test_forward_moves_nothing() -> None:
    """So a second forward of the same latents (activation checkpointing) cannot count twice."""
    made = quantizer().train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made(latents(0).requires_grad_()).loss.backward()
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_the_loss_is_the_commitment_term() -> None:
    made, z = quantizer(commitment_weight=0.3), latents(0).requires_grad_()
    result = made(z)
    result.loss.backward()
    difference = z.detach() - made.decode(result.indices)
    torch.testing.assert_close(result.loss.detach(), 0.3 * difference.square().mean())
    torch.testing.assert_close(z.grad, 0.3 * 2 * difference / difference.numel())
    assert made.codebook.grad is None
    assert [name for name, value in made.named_parameters() if value.requires_grad] == []


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_gradient(gradient: str) -> None:
    z, upstream = latents(0).requires_grad_(), latents(1)
    quantizer(gradient=gradient)(z).quantized.backward(upstream)
    assert torch.equal(z.grad, upstream) == (gradient == "straight_through")


def test_a_restarted_entry_begins_anew() -> None:
    made = quantizer(restart_dead_codes_after_steps=1)
    restart, z = DeadCodeRestart(made, 1), latents(0)
    chosen = torch.zeros(4, 2, 3, dtype=torch.int64)
    made.end_step([z], [chosen])
    restart.observe(chosen)
    assert int(restart.step([z], torch.Generator(), [made.restart])) == NUM_ENTRIES - 1
    assert made.num_chosen[1:].tolist() == [1.0] * (NUM_ENTRIES - 1)
    assert torch.equal(made.sum_chosen[1:], made.codebook.detach()[1:])
    moved = made.codebook.detach()[1:].clone()
    assert all((rows_of(z) == row).all(dim=1).any() for row in moved)
    made.end_step([z], [chosen])
    torch.testing.assert_close(made.codebook.detach()[1:], moved, rtol=1e-3, atol=1e-4)

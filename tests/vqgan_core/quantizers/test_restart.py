"""Dead-code restart: when, where to, who else is told, and that a resumed run does the same."""

from __future__ import annotations

import torch
from torch import Tensor

from vqgan_core.config import VectorQuantizerConfig
from vqgan_core.quantizers import DeadCodeRestart, VectorQuantizer, follow_codebook, forget_moments

NUM_ENTRIES, WIDTH = 6, 2
CHOSEN = torch.tensor([[[0, 1], [1, 0]]])
DEAD = torch.tensor([False, False, True, True, True, True])


def latents(seed: int) -> Tensor:
    return torch.randn(3, WIDTH, 2, 2, generator=torch.Generator().manual_seed(seed))


def made(after_steps: int = 3, *, l2_normalize: bool = False) -> DeadCodeRestart:
    torch.manual_seed(0)
    config = VectorQuantizerConfig(l2_normalize=l2_normalize)
    return DeadCodeRestart(VectorQuantizer(NUM_ENTRIES, WIDTH, config), after_steps)


def test_an_entry_moves_after_exactly_so_many_steps_without_a_latent() -> None:
    restart, generator = made(3), torch.Generator().manual_seed(1)
    before = restart.quantizer.codebook.detach().clone()
    for step in range(2):
        restart.observe(CHOSEN)
        assert int(restart.step([latents(step)], generator)) == 0
    assert torch.equal(restart.quantizer.codebook.detach(), before)
    restart.observe(CHOSEN)
    assert int(restart.step([latents(2)], generator)) == 4
    after = restart.quantizer.codebook.detach()
    assert torch.equal(after[~DEAD], before[~DEAD])
    rows = latents(2).permute(0, 2, 3, 1).reshape(-1, WIDTH)
    places = [(rows == entry).all(dim=1).nonzero().item() for entry in after[DEAD]]
    assert len(set(places)) == 4, "each on a latent of its own"
    restart.observe(CHOSEN)
    assert int(restart.step([latents(3)], generator)) == 0, "a moved entry starts to wait anew"


def test_pieces_of_a_batch_count_as_one_step() -> None:
    restart, generator = made(2), torch.Generator()
    for _ in range(2):
        for piece in (CHOSEN, CHOSEN + 2):
            restart.observe(piece)
        restart.step([latents(0)], generator)
    assert restart.steps_unused.tolist() == [0, 0, 0, 0, 0, 0]  # the last two have just moved
    restart.observe(CHOSEN)
    restart.step([latents(0)], generator)
    assert restart.steps_unused.tolist() == [0, 0, 1, 1, 1, 1]


def test_more_dead_entries_than_latents() -> None:
    restart = made(1)
    assert int(restart.step([latents(0)[:1, :, :1, :1]], torch.Generator())) == NUM_ENTRIES
    row = latents(0)[0, :, 0, 0]
    assert torch.equal(restart.quantizer.codebook.detach(), row.expand(NUM_ENTRIES, -1))


def test_unit_vectors_restart_on_unit_vectors() -> None:
    restart = made(1, l2_normalize=True)
    restart.step([latents(0) * 50], torch.Generator())
    torch.testing.assert_close(restart.quantizer.codebook.detach().norm(dim=1), torch.ones(NUM_ENTRIES))


def test_the_optimiser_forgets_and_the_average_follows() -> None:
    restart = made(1)
    codebook = restart.quantizer.codebook
    optimizer = torch.optim.AdamW([codebook])
    codebook.grad = torch.ones_like(codebook)
    optimizer.step()
    average = torch.full_like(codebook, 7.0, requires_grad=False)
    restart.observe(CHOSEN)
    restart.step([latents(0)], torch.Generator(), [forget_moments(optimizer, codebook), follow_codebook(average)])
    for name in ("exp_avg", "exp_avg_sq"):
        moment = optimizer.state[codebook][name]
        assert bool((moment[DEAD] == 0).all())
        assert bool((moment[~DEAD] != 0).all())
    assert optimizer.state[codebook]["step"] == 1
    assert torch.equal(average[DEAD], codebook.detach()[DEAD])
    assert bool((average[~DEAD] == 7).all())


def test_an_optimiser_that_has_not_stepped_has_nothing_to_forget() -> None:
    restart = made(1)
    codebook = restart.quantizer.codebook
    assert int(restart.step([latents(0)], torch.Generator(), [forget_moments(torch.optim.Adam([codebook]), codebook)]))


def test_a_resumed_run_moves_the_same_entries_to_the_same_places() -> None:
    def run(restart: DeadCodeRestart, generator: torch.Generator, steps: range) -> None:
        for step in steps:
            restart.observe((CHOSEN + step) % NUM_ENTRIES)
            restart.step([latents(step)], generator)

    whole, whole_generator = made(2), torch.Generator().manual_seed(5)
    run(whole, whole_generator, range(7))
    first, generator = made(2), torch.Generator().manual_seed(5)
    run(first, generator, range(3))
    first.observe(torch.tensor([[[5]]]))  # in the middle of a step, too
    resumed = made(2)
    resumed.quantizer.load_state_dict(first.quantizer.state_dict())
    resumed.load_state_dict(first.state_dict())
    assert bool(resumed.chosen[5])
    resumed.chosen[5] = False
    run(resumed, generator, range(3, 7))
    assert torch.equal(resumed.quantizer.codebook, whole.quantizer.codebook)
    assert torch.equal(resumed.steps_unused, whole.steps_unused)


def test_randomness_does_not_depend_on_what_is_dead() -> None:
    """So that the stream's position is a function of the step alone."""
    idle, busy = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    made(100).step([latents(0)], idle)
    made(1).step([latents(0)], busy)
    assert torch.equal(idle.get_state(), busy.get_state())

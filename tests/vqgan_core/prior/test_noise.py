"""The noise streams are Exp(1), independent, and a pure function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from vqgan_core.prior.noise import GAMMA, ImageStreams, mix

CPU = torch.device("cpu")


def test_the_mixing_is_splitmix64() -> None:
    """Outputs after seed 1234567 that the algorithm's reference implementation is known for."""
    state, outputs = torch.tensor([1234567]), []
    for _ in range(3):
        state = state + GAMMA
        outputs.append(int(mix(state)) % 2**64)
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_stream_depends_on_its_seed_and_the_step_alone() -> None:
    together, alone = ImageStreams([5, 7, 9], CPU), ImageStreams(torch.tensor([7]), CPU)
    assert torch.equal(together.exponential(3, 50)[1:2], alone.exponential(3, 50))
    assert torch.equal(alone.exponential(3, 20), alone.exponential(3, 50)[:, :20])
    assert not torch.equal(alone.exponential(3, 50), alone.exponential(4, 50))


def test_noise_is_exponential() -> None:
    noise = ImageStreams(range(20), CPU).exponential(0, 5000).double().numpy()
    assert noise.min() > 0
    assert noise.max() < 17
    assert stats.kstest(noise.ravel(), "expon").pvalue > 0.001


def test_neighbouring_seeds_and_steps_are_uncorrelated() -> None:
    streams = ImageStreams(range(100), CPU)
    noise = np.concatenate([streams.exponential(step, 2000).double().numpy() for step in range(3)])
    correlation = np.corrcoef(noise) - np.eye(300)
    # 44,850 pairs of 2000 numbers: the largest is about 4.4 standard deviations of 1 / √2000.
    assert np.abs(correlation).max() < 6 / np.sqrt(2000)
    assert len(np.unique(noise.astype(np.float32))) > 0.98 * noise.size


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="each must be in 0"):
        ImageStreams([0, seed], CPU)


def test_the_largest_seed_works() -> None:
    assert ImageStreams([2**63 - 1], CPU).exponential(0, 4).isfinite().all()

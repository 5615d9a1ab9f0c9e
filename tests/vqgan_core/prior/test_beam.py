"""Beam search finds what it should, and says how likely it is."""

from __future__ import annotations

import pytest
import torch

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, beam_search, sample_tokens

SPEC = TokenSpec(codebook_size=3, height=2, width=2, num_classes=2)
LABELS = torch.tensor([0, 1])


def make_prior(order: str = "row", architecture: str = "gpt", condition: str = "class") -> Prior:
    torch.manual_seed(2)
    sizes = {"num_layers": 2, "num_heads": 2, "width": 16, "dropout": 0.3}
    config = {"order": order, "architecture": architecture, "condition": condition, **sizes}
    prior = Prior(PriorConfig.model_validate(config), SPEC)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return prior.eval()


@pytest.mark.parametrize("architecture", ["gpt", "modern"])
@pytest.mark.parametrize("order", ["row", "column", "random_annealed"])
def test_enough_beams_find_every_image_in_the_order_of_its_likelihood(order: str, architecture: str) -> None:
    prior = make_prior(order, architecture)
    beams = beam_search(prior.train(), LABELS, num_beams=81)
    assert prior.training
    prior.eval()
    grids = torch.cartesian_prod(*[torch.arange(3)] * 4)
    for image, label in enumerate(LABELS):
        with torch.no_grad():
            scores = -prior.nll(grids, label.expand(81)).sum(-1)
        torch.testing.assert_close(beams.log_probability[image], scores.sort(descending=True).values)
        assert torch.equal(beams.tokens[image, 0], grids[scores.argmax()])


def test_few_beams_know_their_own_likelihood_and_one_is_greedy() -> None:
    prior = make_prior("spiral_in")
    beams = beam_search(prior, LABELS, num_beams=4)
    with torch.no_grad():
        nll = prior.nll(beams.tokens.flatten(0, 1), LABELS.repeat_interleave(4)).sum(-1)
    torch.testing.assert_close(beams.log_probability.flatten(), -nll)
    greedy = sample_tokens(prior, LABELS, range(2), SamplingConfig(temperature=0))
    assert torch.equal(beam_search(prior, LABELS, num_beams=1).tokens[:, 0], greedy)


def test_more_beams_than_images_are_impossible() -> None:
    beams = beam_search(make_prior(condition="none"), None, num_beams=100, batch_size=2)
    assert beams.log_probability.isfinite().sum(-1).tolist() == [81, 81]
    assert len(beams.tokens[0, :81].unique(dim=0)) == 81


def test_what_a_caller_can_do_wrong() -> None:
    with pytest.raises(ValueError, match="num_beams 0"):
        beam_search(make_prior(), LABELS, num_beams=0)
    with pytest.raises(ValueError, match="takes no labels"):
        beam_search(make_prior(condition="none"), LABELS, num_beams=1)
    with pytest.raises(ValueError, match="give a label for each row"):
        beam_search(make_prior(), None, num_beams=1)

"""Samples follow the prior, and depend on nothing that they should not depend on."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, sample_tokens
from vqgan_core.prior.noise import ImageStreams
from vqgan_core.prior.sampling import draw, extend, guide


def make_prior(condition: str = "class", dropout: float = 0.0, std: float = 0.2) -> Prior:
    torch.manual_seed(0)
    config = PriorConfig.model_validate(
        {"condition": condition, "num_layers": 2, "num_heads": 2, "width": 32, "dropout": dropout}
    )
    prior = Prior(config, TokenSpec(codebook_size=64, height=4, width=4, num_classes=5))
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return prior.eval()


PLAIN = SamplingConfig()
SETTINGS = [
    PLAIN,
    SamplingConfig(temperature=0),
    SamplingConfig(temperature=0.7, top_k=20, top_p=0.9),
    SamplingConfig(guidance=2.5, top_p=0.95),
]


@pytest.mark.parametrize("config", SETTINGS)
def test_an_image_depends_on_its_seed_and_label_and_not_on_its_batch(config: SamplingConfig) -> None:
    prior = make_prior()
    labels, seeds = torch.arange(8) % 5, [11, 3, 2**62, 7, 0, 1, 3, 5]
    batch = sample_tokens(prior, labels, seeds, config)
    for index in range(8):
        assert torch.equal(
            sample_tokens(prior, labels[index : index + 1], seeds[index : index + 1], config)[0], batch[index]
        )
    backwards = sample_tokens(prior, labels.flip(0), seeds[::-1], config)
    assert torch.equal(backwards.flip(0), batch)


def test_other_seeds_give_other_images_and_equal_ones_the_same() -> None:
    images = sample_tokens(make_prior(), torch.zeros(50, dtype=torch.int64), [*range(49), 0], PLAIN)
    assert len(images.unique(dim=0)) == 49
    assert torch.equal(images[0], images[49])


def test_greedy_is_the_argmax_of_the_uncached_logits_whatever_the_seed() -> None:
    prior = make_prior()
    labels = torch.arange(5)
    images = sample_tokens(prior, labels, range(5), SamplingConfig(temperature=0))
    with torch.no_grad():
        assert torch.equal(prior(images, labels).argmax(-1), images)
    assert torch.equal(sample_tokens(prior, labels, range(10, 15), SamplingConfig(temperature=0)), images)


def test_drawing_follows_the_filtered_distribution() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1, 1e-12]).log()
    config = SamplingConfig(top_k=3)
    tokens = draw(logits.expand(30_000, 5), config, ImageStreams(range(30_000), torch.device("cpu")), step=2)
    shares = tokens.bincount(minlength=5) / 30_000
    torch.testing.assert_close(shares, torch.tensor([4 / 9, 3 / 9, 2 / 9, 0, 0]), atol=0.01, rtol=0)


def test_samples_have_the_priors_own_entropy() -> None:
    """The mean NLL of exact samples is the entropy; its two halves agree within the error of the mean."""
    prior = make_prior()
    labels = torch.arange(400) % 5
    images = sample_tokens(prior, labels, range(400), PLAIN)
    with torch.no_grad():
        log_p = prior(images, labels).log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1).sum(-1)
    nll = -log_p.gather(-1, images[..., None])[..., 0].sum(-1)
    difference = nll - entropy
    assert abs(difference.mean().item()) < 4 * difference.std().item() / 20
    assert images.unique().numel() > 50


def test_guidance_of_one_is_no_guidance_and_zero_is_unconditional() -> None:
    prior = make_prior(std=0.5)
    labels = torch.arange(5)
    torch.testing.assert_close(guide(torch.ones(5, 64), 5, 1.0), torch.ones(5, 64))
    rows = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(guide(rows, 5, 1.0), rows[:5])
    torch.testing.assert_close(guide(rows, 5, 0.0), rows[5:])
    torch.testing.assert_close(guide(rows, 5, 3.0), 3 * rows[:5] - 2 * rows[5:])
    hidden = sample_tokens(prior, labels, range(5), SamplingConfig(guidance=0))
    assert torch.equal(hidden, sample_tokens(prior, labels.flip(0), range(5), SamplingConfig(guidance=0)))
    assert not torch.equal(hidden, sample_tokens(prior, labels, range(5), PLAIN))


def test_guided_greedy_is_the_argmax_of_guided_uncached_logits() -> None:
    prior = make_prior()
    labels = torch.arange(5)
    images = sample_tokens(prior, labels, range(5), SamplingConfig(temperature=0, guidance=2.0))
    with torch.no_grad():
        told = prior(images, labels)
        not_told = prior(images, labels, torch.ones(5, dtype=torch.bool))
    assert torch.equal((2 * told - not_told).argmax(-1), images)


def test_an_unconditional_prior_samples_without_labels() -> None:
    images = sample_tokens(make_prior("none"), None, range(6), PLAIN)
    assert images.shape == (6, 16)
    assert len(images.unique(dim=0)) == 6


def test_dropout_is_off_while_sampling_and_back_on_after() -> None:
    prior = make_prior(dropout=0.5).train()
    labels = torch.zeros(3, dtype=torch.int64)
    first, second = (sample_tokens(prior, labels, range(3), PLAIN) for _ in range(2))
    assert torch.equal(first, second)
    assert prior.training
    assert all(module.training for module in prior.modules())


def test_bf16_samples_with_fp32_logits_in_the_draw() -> None:
    prior, labels = make_prior(), torch.arange(5)
    with torch.autocast("cpu", torch.bfloat16):
        images = sample_tokens(prior, labels, range(5), SamplingConfig(temperature=0, guidance=2.0))
    with torch.no_grad():
        agreement = (2 * prior(images, labels) - prior(images, labels, torch.ones(5, dtype=torch.bool))).argmax(-1)
    assert (agreement == images).float().mean() > 0.9
    assert sample_tokens(prior.bfloat16(), labels, range(5), PLAIN).shape == images.shape


def test_progress_counts_every_step() -> None:
    seen: list[tuple[int, int]] = []
    sample_tokens(make_prior("none"), None, [1], PLAIN, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 16) for step in range(1, 17)]


def test_a_prompt_is_continued_as_without_a_cache() -> None:
    prior = make_prior("none")
    gpt, prompt = prior.transformer, torch.tensor([[1, 2, 3], [4, 5, 6]])

    def greedy(logits: Tensor, _step: int) -> Tensor:
        return logits.argmax(-1)

    new = extend(gpt, 5, greedy, prompt=prompt)
    whole = torch.cat([prompt, new], dim=1)
    with torch.no_grad():
        assert torch.equal(gpt(whole)[:, 2:-1].argmax(-1), new)


def test_what_a_caller_can_do_wrong() -> None:
    conditional, unconditional, labels = make_prior(), make_prior("none"), torch.arange(3)
    with pytest.raises(ValueError, match="give a label for each"):
        sample_tokens(conditional, None, range(3), PLAIN)
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) for a batch of 4"):
        sample_tokens(conditional, labels, range(4), PLAIN)
    with pytest.raises(ValueError, match="label 7: allowed are 0 … 4"):
        sample_tokens(conditional, labels + 5, range(3), PLAIN)
    with pytest.raises(ValueError, match="unconditional: it takes no labels"):
        sample_tokens(unconditional, labels, range(3), PLAIN)
    with pytest.raises(ValueError, match=r"guidance 2\.0 needs a conditional prior"):
        sample_tokens(unconditional, None, range(3), SamplingConfig(guidance=2))
    with pytest.raises(ValueError, match="no seeds"):
        sample_tokens(unconditional, None, [], PLAIN)
    with pytest.raises(ValueError, match="something to start from"):
        extend(unconditional.transformer, 3, lambda logits, _: logits.argmax(-1))


def test_two_hundred_images_of_the_demo_take_seconds() -> None:
    spec = TokenSpec(codebook_size=512, height=8, width=8, num_classes=10)
    prior = Prior(PriorConfig(num_layers=4, num_heads=4, width=128), spec)
    torch.set_num_threads(1)
    start = time.process_time()  # of this process alone: other work on the machine does not count
    images = sample_tokens(prior, torch.arange(200) % 10, range(200), SamplingConfig(guidance=1.5, top_k=100))
    assert images.shape == (200, 64)
    assert time.process_time() - start < 10  # about 1.5 s

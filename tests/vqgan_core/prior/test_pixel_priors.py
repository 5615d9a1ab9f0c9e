"""Contract: convolutional priors are causal, cached steps equal the whole grid, and they stand in for a transformer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec, TrainPriorConfig
from vqgan_core.config.tokens import ColumnSpec
from vqgan_core.prior import Prior, beam_search, prior_cost, sample_large, sample_tokens
from vqgan_core.prior.completion import UNKNOWN
from vqgan_core.prior.reading import Reading
from vqgan_core.training.prior_step import PriorStep

CODES, GRID, NUM = 11, (4, 5), 20
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
SPEC = TokenSpec(
    codebook_size=CODES, height=4, width=5, num_classes=3,
    columns=(ColumnSpec(name="indices_top", codebook_size=7, height=2, width=3),),
)  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "none": {"condition": "none"},
    "class": {"condition": "class"},
    "top": {"condition": "none", "condition_columns": ("indices_top",)},
    "both": {"condition": "class", "condition_columns": ("indices_top",)},
}
EVERY = pytest.mark.parametrize(
    ("architecture", "kind"), [(name, kind) for name in ("pixelsnail", "pixelcnn") for kind in KINDS]
)
EACH = pytest.mark.parametrize("architecture", ["pixelsnail", "pixelcnn"])


def config(architecture: str, kind: str = "class", **fields: Any) -> PriorConfig:
    sizes = {"num_layers": 2, "num_heads": 2, "width": 12}
    more = {"num_res_blocks": 2} if architecture == "pixelsnail" else {}
    return PriorConfig.model_validate({"architecture": architecture, **sizes, **more, **KINDS[kind], **fields})


def make_prior(architecture: str, kind: str = "class", spec: TokenSpec = SPEC) -> Prior:
    """A small prior in which every parameter matters, also those that start at zero."""
    torch.manual_seed(0)
    prior = Prior(config(architecture, kind), spec)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior.eval()


def told(prior: Prior, count: int = 3) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    top = torch.randint(7, (count, 6), generator=generator)
    return {
        "labels": torch.arange(count) % 3 if prior.takes_labels else None,
        "columns": {"indices_top": top} if prior.config.condition_columns else None,
    }


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(CODES, (3, NUM), generator=torch.Generator().manual_seed(1))


@EVERY
def test_a_logit_sees_all_tokens_before_it_and_no_other(architecture: str, kind: str, tokens: Tensor) -> None:
    prior = make_prior(architecture, kind)
    embedded = prior.transformer.token_embedding(tokens).detach().requires_grad_()
    prior.transformer.token_embedding.forward = lambda given: embedded[:, : given.shape[1]]  # type: ignore[method-assign]  # the only way to the gradient
    logits = prior(tokens, **told(prior))
    for cell in range(NUM):
        (gradient,) = torch.autograd.grad(logits[:, cell].square().sum(), embedded, retain_graph=True)
        reached = gradient.abs().sum((0, 2)) > 0
        assert not reached[cell:].any()
        if architecture == "pixelsnail":  # whose attention reaches everything
            assert reached[:cell].all()
    assert reached[:-1].all()  # on a grid this small, the convolutions reach everything in the end, too


@torch.no_grad()
@EVERY
@pytest.mark.parametrize("num_given", [0, 1, 4, 7, NUM - 1])
def test_cached_logits_are_those_of_the_whole_grid(
    architecture: str, kind: str, num_given: int, tokens: Tensor
) -> None:
    prior = make_prior(architecture, kind)
    whole = prior(tokens, **told(prior))
    prefix = prior.condition(told(prior)["labels"], 3, None, told(prior)["columns"])
    cache = prior.transformer.new_cache(3)
    for _ in range(2):  # a cache that is used again remembers nothing
        cache.reset()
        pieces = [prior.transformer(tokens[:, :num_given], prefix, cache)]
        pieces += [prior.transformer(tokens[:, i : i + 1], None, cache) for i in range(num_given, NUM - 1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **CLOSE)
        assert cache.length == prior.max_length == cache.max_length
    cache.reset()
    prior.transformer(tokens[:, :2], prefix, cache)
    torch.testing.assert_close(prior.transformer(tokens[:, 2:9], None, cache), whole[:, 3:10], **CLOSE)


@torch.no_grad()
@EVERY
def test_what_is_told_matters_everywhere(architecture: str, kind: str, tokens: Tensor) -> None:
    prior, given = make_prior(architecture, kind), told(make_prior(architecture, kind))
    if kind == "none":
        assert not prior.is_conditional
        return
    logits = prior(tokens, **given)
    dropped = prior(tokens, **given, condition_drop=torch.tensor([True, False, False]))
    assert not torch.isclose(logits[0], dropped[0]).all(-1).any()
    torch.testing.assert_close(logits[1:], dropped[1:])
    if given["columns"] is not None:
        for element in range(6):
            other = given["columns"]["indices_top"].clone()
            other[:, element] = (other[:, element] + 1) % 7
            changed = prior(tokens, labels=given["labels"], columns={"indices_top": other})
            assert not torch.isclose(logits, changed).all()


@EACH
def test_it_is_a_distribution_over_whole_images(architecture: str) -> None:
    spec = TokenSpec(codebook_size=3, height=2, width=2)
    prior = make_prior(architecture, "none", spec)
    images = torch.cartesian_prod(*(torch.arange(3),) * 4)
    with torch.no_grad():
        assert prior.nll(images).sum(1).neg().exp().sum().item() == pytest.approx(1, abs=1e-4)
    beams = beam_search(prior, None, num_beams=81)
    assert len(beams.tokens[0].unique(dim=0)) == 81
    with torch.no_grad():
        torch.testing.assert_close(-prior.nll(beams.tokens[0]).sum(1), beams.log_probability[0], atol=1e-4, rtol=1e-4)


@EACH
def test_completions_and_large_images(architecture: str) -> None:
    prior = make_prior(architecture)
    known = torch.randint(CODES, (3, NUM), generator=torch.Generator().manual_seed(5))
    known[:, 7:9] = UNKNOWN
    known[1, 15:] = UNKNOWN
    labels = torch.arange(3)
    drawn = sample_tokens(prior, labels, range(3), SamplingConfig(), known=known)
    assert torch.equal(drawn[known != UNKNOWN], known[known != UNKNOWN])
    own = sample_large(prior, labels, range(3), SamplingConfig(), GRID)
    assert torch.equal(own.flatten(1), sample_tokens(prior, labels, range(3), SamplingConfig()))
    large = sample_large(prior, labels, range(3), SamplingConfig(), (5, 9))
    assert large.shape == (3, 5, 9)
    alone = sample_large(prior, labels[1:2], [1], SamplingConfig(), (5, 9))
    assert torch.equal(alone[0], large[1])


@EACH
@pytest.mark.parametrize("kind", ["none", "both"])
def test_it_learns_by_the_same_step_and_survives_its_files(architecture: str, kind: str, tokens: Tensor) -> None:
    values = config(architecture, kind, dropout=0.05, width=24).model_dump() | {
        "token_dropout": 0.05, "execution": {"device": "cpu", "num_threads": 1, "activation_checkpointing": True},
        "training": {"num_steps": 60, "batch_size": 3, "learning_rate": 1e-2},
    }  # fmt: skip
    step = PriorStep(TrainPriorConfig.model_validate(values), SPEC)
    given = told(step.prior)
    batch = {"tokens": tokens, "labels": torch.arange(3), **(given["columns"] or {})}
    assert step.prior(tokens, **given).abs().max() == 0  # uniform before the first step
    for number in range(60):
        step.train_step(batch, number)
    learned = step.validate([batch])["nll"]
    assert learned < 0.5 * math.log(CODES)
    again = Prior.from_files(step.prior.to_files())
    step.prior.eval()
    with torch.no_grad():
        assert torch.equal(again(tokens, **given), step.prior(tokens, **given))


@EACH
def test_checkpointing_changes_no_gradient(architecture: str, tokens: Tensor) -> None:
    gradients = []
    for saving in (False, True):
        prior = make_prior(architecture, "both").train()
        prior.transformer.activation_checkpointing = saving
        prior.nll(tokens, **told(prior)).mean().backward()
        gradients.append([parameter.grad for parameter in prior.parameters()])
    for plain, saved in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, saved)


@EACH
def test_what_it_costs_is_what_it_computes(architecture: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - used here alone

    prior = make_prior(architecture, "class")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        prior(torch.zeros(1, NUM, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    expected = NUM * prior_cost(prior.config, SPEC).forward_flops_per_token
    # Shifted windows and the padding of the others cover a few cells more; attention is counted without its mask.
    assert expected <= counter.get_total_flops() < 1.6 * expected


@EACH
def test_what_does_not_fit_is_refused(architecture: str, tokens: Tensor) -> None:
    with pytest.raises(ValueError, match="convolutions read row by row"):
        config(architecture, order="spiral_in")
    with pytest.raises(ValueError, match="an option of modern"):
        config(architecture, num_key_value_heads=1)
    with pytest.raises(ValueError, match="an option of architecture pixelsnail"):
        PriorConfig(num_res_blocks=2)
    prior = make_prior(architecture)
    prefix = prior.null_condition(3)
    with pytest.raises(ValueError, match="carries no gradients"):
        prior.transformer(tokens[:, :1], prefix, prior.transformer.new_cache(3))
    with torch.no_grad():
        cache = prior.transformer.new_cache(3)
        with pytest.raises(ValueError, match="at the first call"):
            prior.transformer(tokens[:, :1], None, cache)
        prior.transformer(tokens[:, :1], prefix, cache)
        with pytest.raises(ValueError, match="at the first call"):
            prior.transformer(tokens[:, :1], prefix, cache)
        with pytest.raises(ValueError, match="the last one predicts nothing"):
            prior.transformer(tokens[:, :19], None, cache)
    with pytest.raises(ValueError, match="reads in the order row alone"):
        prior.nll(tokens, torch.arange(3), reading=Reading(orders=torch.arange(NUM).expand(3, -1)))

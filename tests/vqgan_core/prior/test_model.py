"""The prior: what it models, what it refuses, and how it is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqgan_core.config import ConfigError, PriorConfig, TokenSpec
from vqgan_core.prior import Prior

NUM_CLASSES = 3


def make_prior(condition: str = "class") -> Prior:
    torch.manual_seed(0)
    spec = TokenSpec(codebook_size=11, height=2, width=3, num_classes=NUM_CLASSES, tokenizer="abc")
    prior = Prior(
        PriorConfig.model_validate({"condition": condition, "num_layers": 2, "num_heads": 2, "width": 16}), spec
    )
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 1])


def test_logits_predict_each_token_from_those_before_it(tokens: Tensor, labels: Tensor) -> None:
    prior = make_prior()
    logits = prior(tokens, labels)
    assert logits.shape == (4, 6, 11)
    for position in range(6):
        other = tokens.clone()
        other[:, position] = (other[:, position] + 1) % 11
        moved = (prior(other, labels) - logits).abs().amax((0, 2)) > 1e-6
        assert moved.tolist() == [index > position for index in range(6)]


def test_nll_is_minus_the_log_softmax_of_each_token(tokens: Tensor, labels: Tensor) -> None:
    prior = make_prior()
    expected = -prior(tokens, labels).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(prior.nll(tokens, labels), expected)


def test_probabilities_of_all_images_sum_to_one() -> None:
    torch.manual_seed(0)
    prior = Prior(
        PriorConfig(num_layers=1, num_heads=1, width=8),
        TokenSpec(codebook_size=3, height=2, width=2, num_classes=2),
    )
    grids = torch.cartesian_prod(*[torch.arange(3)] * 4)
    for label in range(2):
        nll = prior.nll(grids, torch.full((81,), label)).sum(-1)
        assert nll.neg().exp().sum().item() == pytest.approx(1, rel=1e-5)


def test_bf16_keeps_the_nll_in_fp32(tokens: Tensor, labels: Tensor) -> None:
    prior = make_prior()
    with torch.autocast("cpu", torch.bfloat16):
        nll = prior.nll(tokens, labels)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, prior.nll(tokens, labels), atol=0.1, rtol=0.1)


def test_the_label_matters_and_a_hidden_one_does_not(tokens: Tensor, labels: Tensor) -> None:
    prior = make_prior()
    other = (labels + 1) % NUM_CLASSES
    assert not torch.isclose(prior(tokens, labels), prior(tokens, other)).all(-1).any()
    hidden = torch.tensor([True, True, False, False])
    one, two = prior(tokens, labels, hidden), prior(tokens, other, hidden)
    assert torch.equal(one[:2], two[:2])
    assert not torch.isclose(one[2:], two[2:]).all()
    assert torch.equal(prior.condition(labels, 4, torch.ones(4, dtype=torch.bool)), prior.null_condition(4))


def test_every_condition_row_learns_from_its_own_label(tokens: Tensor) -> None:
    prior = make_prior()
    labels, hidden = torch.tensor([0, 0, 2, 2]), torch.tensor([False, False, False, True])
    prior.nll(tokens, labels, hidden).mean().backward()
    gradient = prior.class_embedding.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(-1).gt(0).tolist() == [True, False, True, True]


def test_an_unconditional_prior_has_one_start_embedding_and_models_tokens_whatever_their_labels(
    tokens: Tensor, labels: Tensor
) -> None:
    prior = make_prior("none")
    assert prior.class_embedding.weight.shape[0] == 1
    assert not prior.is_conditional
    assert torch.equal(prior(tokens), prior(tokens, labels))


def test_what_a_caller_can_do_wrong(tokens: Tensor, labels: Tensor) -> None:
    prior = make_prior()
    with pytest.raises(ValueError, match="label 3: allowed are 0 … 2"):
        prior(tokens, labels + 1)
    with pytest.raises(ValueError, match="label -1"):
        prior(tokens, labels - 1)
    with pytest.raises(ValueError, match="token 11: allowed are 0 … 10"):
        prior(torch.full((4, 6), 11), labels)
    with pytest.raises(ValueError, match=r"shape \(4, 5\): this prior models \(batch, 6\), a grid of 2 x 3"):
        prior(tokens[:, :5], labels)
    with pytest.raises(ValueError, match="give a label for each row"):
        prior(tokens)
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) for a batch of 4"):
        prior(tokens, labels[:3])
    with pytest.raises(ValueError, match=r"no classes: set prior\.condition=none"):
        Prior(PriorConfig(), TokenSpec(codebook_size=4, height=1, width=1))
    with pytest.raises(ConfigError, match="2 class_names for num_classes 3"):
        TokenSpec.validated(
            {"codebook_size": 4, "height": 1, "width": 1, "num_classes": 3, "class_names": ["a", "b"]}, origin="test"
        )


def test_files_are_the_same_bytes_and_give_the_same_prior(tokens: Tensor, labels: Tensor, tmp_path: Path) -> None:
    prior = make_prior()
    prior.save(tmp_path / "prior")
    loaded = Prior.load(tmp_path / "prior")
    assert (loaded.config, loaded.spec) == (prior.config, prior.spec)
    assert not loaded.training
    assert torch.equal(loaded(tokens, labels), prior(tokens, labels))
    assert loaded.to_files() == prior.to_files()
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_files_that_are_no_prior_are_refused() -> None:
    files = make_prior().to_files()
    weights, config = files["model.safetensors"], json.loads(files["config.json"])
    wider = {**config, "config": {**config["config"], "width": 32}}
    bad: list[tuple[dict[str, bytes], str]] = [
        ({"config.json": files["config.json"]}, "needs model.safetensors"),
        ({"model.safetensors": weights}, "needs config.json"),
        ({**files, "config.json": b"{"}, "does not describe a prior"),
        ({**files, "config.json": b"[]"}, "does not describe a prior"),
        ({**files, "config.json": json.dumps({**config, "format": 99}).encode()}, "has format 99"),
        ({**files, "config.json": json.dumps(wider).encode()}, "does not fit config.json"),
        ({**files, "model.safetensors": weights[:-9]}, "does not fit config.json"),
    ]
    for given, message in bad:
        with pytest.raises(ValueError, match=message):
            Prior.from_files(given)

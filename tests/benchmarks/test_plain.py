"""The plain baseline is the same architecture: as many parameters, and with our weights the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import coding, prior_step
from benchmarks.plain import PlainPrior, PlainTokenizer
from vqgan_core.config import PriorConfig, TokenizerConfig, TokenSpec
from vqgan_core.prior import Prior
from vqgan_core.tokenizer import Tokenizer


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_tokenizers_are_alike() -> None:
    with torch.device("meta"):
        ours = Tokenizer(TokenizerConfig.model_validate(coding.CONFIG))
        plain = PlainTokenizer(*coding.PLAIN)
    assert num_parameters(ours) == num_parameters(plain)
    shapes = [sorted(tuple(p.shape) for p in module.parameters()) for module in (ours, plain)]
    assert shapes[0] == shapes[1]


def test_the_priors_are_alike() -> None:
    spec = TokenSpec(codebook_size=prior_step.ENTRIES, height=16, width=16, num_classes=prior_step.CLASSES)
    told = {"num_layers": prior_step.LAYERS, "num_heads": prior_step.HEADS, "width": prior_step.WIDTH}
    with torch.device("meta"):
        ours = Prior(PriorConfig.model_validate(told), spec)
        plain = PlainPrior(prior_step.ENTRIES, prior_step.CLASSES, 256, *told.values())
    # Ours has one class more, which says that none is given.
    assert num_parameters(ours) - num_parameters(plain) == prior_step.WIDTH


def with_our_weights(prior: Prior) -> PlainPrior:
    """A plain GPT of the same size that has our weights, in the order in which both name them."""
    config, spec = prior.config, prior.spec
    plain = PlainPrior(
        spec.codebook_size, spec.num_classes, spec.num_tokens, config.num_layers, config.num_heads, config.width
    )
    ours = prior.transformer.state_dict()
    given = {"classes.weight": prior.state_dict()["class_embedding.weight"][: spec.num_classes]}
    for name in plain.state_dict():
        theirs = name
        for word, own in RENAMED:
            theirs = theirs.replace(word, own) if not name.startswith("norm.") else f"final_{name}"
        if name.endswith("mask"):
            given[name] = plain.state_dict()[name]
        elif name != "classes.weight":
            given[name] = ours[theirs]
    plain.load_state_dict(given)
    return plain.eval()


RENAMED = (
    ("norm1", "attention_norm"), ("norm2", "mlp_norm"), (".q.", ".attention.query."), (".k.", ".attention.key."),
    (".v.", ".attention.value."), (".out.", ".attention.projection."), ("tokens.", "token_embedding."),
    ("positions", "position_embedding"),
)  # fmt: skip


@torch.no_grad()
def test_with_our_weights_it_says_what_ours_says() -> None:
    torch.manual_seed(0)
    config = PriorConfig.model_validate({"num_layers": 2, "num_heads": 2, "width": 32})
    ours = Prior(config, TokenSpec(codebook_size=16, height=4, width=4, num_classes=3)).eval()
    plain = with_our_weights(ours)
    tokens, labels = torch.randint(16, (5, 16)), torch.arange(5) % 3
    torch.testing.assert_close(plain(tokens[:, :-1], labels), ours(tokens, labels), atol=1e-5, rtol=1e-4)
    drawn = [plain_way(labels) for plain_way in map(seeded, (plain.sample, plain.sample_with_cache))]
    assert torch.equal(*drawn), "the cache changes nothing"


def seeded(way: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def drawing(labels: Tensor) -> Tensor:
        torch.manual_seed(1)
        return way(labels)

    return drawing

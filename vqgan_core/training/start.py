"""Beginning with the weights of a trained model: what of its config has to be the same, and what may differ.

What is built from other weights must be the same networks, and what comes out must mean the same: K, widths, levels,
attention; of a prior the tokens as well. What only concerns training (dropout, β, restarts, losses) is free, and so is
the resolution, where attention stays at its levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from vqgan_core.config import PriorConfig, TokenizerConfig, TokenSpec, TopLevelConfig
from vqgan_core.quantizers import Quantizer
from vqgan_core.tokenizer import Tokenizer

__all__ = ["TokenizerStart", "freeze_codebook", "require_same_prior", "require_same_tokenizer"]

#: Fields of quantizers that say what an index means; the others are about training.
_MEANING = ("kind", "l2_normalize", "levels", "depth")
_FREE_OF_AUTOENCODER = {"resolution_px", "attention_resolutions", "dropout"}
_FREE_OF_PRIOR = {"dropout"}
#: Names are not learned.
_FREE_OF_TOKENS = {"class_names"}


@dataclass(frozen=True)
class TokenizerStart:
    """What the training of a tokenizer may begin with."""

    tokenizer: Tokenizer
    """Its weights are copied."""
    discriminator: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights of the discriminator that it was trained against, if they were kept."""

    def give(self, tokenizer: Tokenizer, discriminator: nn.Module | None) -> None:
        """Copy the weights into new networks.

        Raises:
            ValueError: the tokenizer is another architecture.
        """
        require_same_tokenizer(self.tokenizer.config, tokenizer.config)
        tokenizer.load_state_dict(self.tokenizer.state_dict())
        if discriminator is not None and self.fits(discriminator):
            discriminator.load_state_dict(self.discriminator)

    def fits(self, discriminator: nn.Module) -> bool:
        """Whether the kept discriminator has the same layers; otherwise a new one begins."""
        expected = {name: tensor.shape for name, tensor in discriminator.state_dict().items()}
        return {name: tensor.shape for name, tensor in self.discriminator.items()} == expected


def require_same_tokenizer(start: TokenizerConfig, wanted: TokenizerConfig) -> None:
    """Refuse to begin with a tokenizer of another architecture, K or width.

    Raises:
        ValueError: names the fields that differ.
    """
    _require_same("tokenizer", _tokenizer_facts(start), _tokenizer_facts(wanted))


def require_same_prior(
    start: PriorConfig, start_spec: TokenSpec | None, wanted: PriorConfig, spec: TokenSpec | None
) -> None:
    """Refuse to begin with a prior of another architecture, or, where tokens are given, of other ones.

    Raises:
        ValueError: names the fields that differ.
    """
    names = PriorConfig.model_fields.keys() - _FREE_OF_PRIOR
    facts = [{name: getattr(config, name) for name in sorted(names)} for config in (start, wanted)]
    if start_spec is not None and spec is not None:
        free = _FREE_OF_TOKENS if wanted.condition == "class" else {*_FREE_OF_TOKENS, "num_classes"}
        tokens = sorted(TokenSpec.model_fields.keys() - free)
        for found, of in zip(facts, (start_spec, spec), strict=True):
            found |= {f"tokens.{name}": getattr(of, name) for name in tokens}
    _require_same("prior", facts[0], facts[1])


def freeze_codebook(quantizer: Quantizer) -> None:
    """Take the codebook out of the training; what compares latents with it stays in (the projection of `gumbel`)."""
    frozen = [
        parameter for name, parameter in quantizer.named_parameters() if name == "codebook" or name.startswith("map.")
    ]
    assert frozen, f"{type(quantizer).__name__} has no codebook"
    for parameter in frozen:
        parameter.requires_grad_(False)


def _tokenizer_facts(config: TokenizerConfig) -> dict[str, Any]:
    autoencoder = config.autoencoder
    fixed = {
        f"autoencoder.{name}": getattr(autoencoder, name)
        for name in type(autoencoder).model_fields
        if name not in _FREE_OF_AUTOENCODER
    }
    attention = list(autoencoder.attention_levels)
    facts = {**_level_facts(config), **fixed, "attention at levels": attention, "pixels": config.pixels}
    if config.top is None:
        return {**facts, "top": "none"}
    return {**facts, "top": "there", "top.factor": config.top.factor} | {
        f"top.{name}": value for name, value in _level_facts(config.top).items()
    }


def _level_facts(config: TokenizerConfig | TopLevelConfig) -> dict[str, Any]:
    quantizer = {f"quantizer.{name}": getattr(config.quantizer, name, None) for name in _MEANING}
    return {"codebook_size": config.codebook_size, "codebook_dim": config.codebook_dim, **quantizer}


def _require_same(kind: str, start: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    both = [name for name in start if name in wanted]  # one may have a level that the other has not
    differ = [f"{name} {start[name]}, not {wanted[name]}" for name in both if start[name] != wanted[name]]
    if differ:
        raise ValueError(
            f"the {kind} that init_from names has {'; '.join(differ)}: set its values here, or begin with another one"
        )

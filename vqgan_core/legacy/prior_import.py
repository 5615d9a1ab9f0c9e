"""Priors of other projects: from tensors and config to ours, with the account of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vqgan_core.config import TokenSpec
from vqgan_core.legacy import taming_prior
from vqgan_core.legacy.checkpoint_file import CheckpointError
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.their_config import TheirConfig
from vqgan_core.prior import Prior

__all__ = ["ImportedPrior", "PriorFacts", "import_prior"]


@dataclass(frozen=True)
class PriorFacts:
    """What a prior's tensors do not say; None: not known."""

    num_heads: int | None = None
    """Attention heads."""
    num_classes: int | None = None
    """Classes of a class-conditional prior."""
    sos_token: int | None = None
    """The image token that an unconditional one begins with."""

    def completed(self, theirs: TheirConfig | None) -> PriorFacts:
        """The same with what the project's config says of the rest.

        Raises:
            CheckpointError: the prior is told something else than a class, or something is still not known.
        """
        facts = self if theirs is None else self._filled(theirs)
        if facts.num_heads is None:
            raise CheckpointError(
                "the number of attention heads leaves no trace in tensors: give the prior's config with --config, or "
                "--num-heads"
            )
        if (facts.num_classes is None) == (facts.sos_token is None):
            both = "" if facts.num_classes is None else ", not both"
            raise CheckpointError(
                "tensors do not say what a prior was told first: give its config with --config, or --num-classes, or "
                f"--sos-token of an unconditional one{both}"
            )
        return facts

    def _filled(self, theirs: TheirConfig) -> PriorFacts:
        if theirs.other_condition is not None:
            raise CheckpointError(
                f"this prior is told {theirs.other_condition}, not a class: only class-conditional and unconditional "
                "ones can be imported; its tokenizer can, with --tokenizer-only"
            )
        told = self.num_classes is not None or self.sos_token is not None
        return PriorFacts(
            num_heads=theirs.num_heads if self.num_heads is None else self.num_heads,
            num_classes=self.num_classes if told else theirs.num_classes,
            sos_token=self.sos_token if told else theirs.sos_token,
        )


@dataclass(frozen=True)
class ImportedPrior:
    """An imported prior and the account of its keys."""

    prior: Prior
    report: KeyReport
    sos_token: int | None
    """The image token that an unconditional one began with."""


def import_prior(state: Mapping[str, Tensor], spec: TokenSpec, facts: PriorFacts) -> ImportedPrior:
    """Build our prior from a transformer of taming-transformers.

    Args:
        state: their keys and tensors.
        spec: the tokens that it models.
        facts: completed.

    Raises:
        ValueError: something is not known, keys are missing or unknown, or the spec does not fit.
    """
    assert facts.num_heads is not None
    report = taming_prior.import_gpt(state, facts.num_heads).report
    prior = taming_prior.import_prior(state, spec, facts.num_heads, sos_token=facts.sos_token)
    keys = KeyReport(
        used=(*report.used, *report.permuter),
        ignored=(*report.masks, *report.other_stages),
        missing=report.missing,
        left_over=report.left_over,
    )
    return ImportedPrior(prior, keys, facts.sos_token)

"""What a prior's tensors do not say, and what an import of one gives."""

from __future__ import annotations

from dataclasses import dataclass

from vqgan_core.legacy.checkpoint_file import CheckpointError
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.their_config import TheirConfig
from vqgan_core.prior import Prior

__all__ = ["ImportedPrior", "PriorFacts"]


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

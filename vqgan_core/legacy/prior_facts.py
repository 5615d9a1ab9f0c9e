"""What a prior's tensors do not say, and what an import of one gives."""

from __future__ import annotations

from dataclasses import dataclass

from vqgan_core.legacy.checkpoint_file import CheckpointError
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.their_config import Coordinates, TheirConfig
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
    coordinates: Coordinates | None = None
    """Coordinates that it is told."""

    def completed(self, theirs: TheirConfig | None, *, told_image: bool = False) -> PriorFacts:
        """The same with what the project's config says of the rest.

        Args:
            theirs: the prior's config.
            told_image: it is told the tokens of another image, whose tokenizer is in the file.

        Raises:
            CheckpointError: the prior is told what no import understands, or something is still not known.
        """
        facts = self if theirs is None else self._filled(theirs, told_image=told_image)
        if facts.num_heads is None:
            raise CheckpointError(
                "the number of attention heads leaves no trace in tensors: give the prior's config with --config, or "
                "--num-heads"
            )
        told = [facts.num_classes, facts.sos_token, facts.coordinates]
        if told_image and any(value is not None for value in told):
            raise CheckpointError(
                "this prior is told the tokens of another image, whose tokenizer is in the file: leave --num-classes "
                "and --sos-token out"
            )
        if not told_image and sum(value is not None for value in told) != 1:
            both = ", not both" if any(value is not None for value in told) else ""
            raise CheckpointError(
                "tensors do not say what a prior was told first: give its config with --config, or --num-classes, or "
                f"--sos-token of an unconditional one{both}"
            )
        return facts

    def _filled(self, theirs: TheirConfig, *, told_image: bool) -> PriorFacts:
        if theirs.other_condition is not None and not told_image:
            raise CheckpointError(
                f"this prior is told {theirs.other_condition}, whose weights are not in the file: only priors that are "
                "told a class, coordinates, another image's tokens or nothing can be imported; its tokenizer can, with "
                "--tokenizer-only"
            )
        if told_image and theirs.condition_size_px is not None:
            raise CheckpointError(
                f"this prior is told an image that is shrunk to {theirs.condition_size_px} px first "
                "(downsample_cond_size), which is not supported; its tokenizer can be imported, with --tokenizer-only"
            )
        told = self.num_classes is not None or self.sos_token is not None
        return PriorFacts(
            num_heads=theirs.num_heads if self.num_heads is None else self.num_heads,
            num_classes=self.num_classes if told else theirs.num_classes,
            sos_token=self.sos_token if told else theirs.sos_token,
            coordinates=None if told else theirs.coordinates,
        )


@dataclass(frozen=True)
class ImportedPrior:
    """An imported prior and the account of its keys."""

    prior: Prior
    report: KeyReport
    sos_token: int | None
    """The image token that an unconditional one began with."""

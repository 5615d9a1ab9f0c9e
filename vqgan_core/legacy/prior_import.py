"""Priors of other projects: from tensors and config to ours, with the account of every key."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vqgan_core.config import TokenSpec
from vqgan_core.legacy import llamagen_prior, taming_prior
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.prior_facts import ImportedPrior, PriorFacts
from vqgan_core.legacy.their_config import Project, TheirConfig

__all__ = ["complete_facts", "holds_condition", "holds_prior", "import_prior"]


def holds_prior(project: Project, state: Mapping[str, Tensor]) -> bool:
    """Whether there is a prior of this project among the tensors."""
    if project == "llamagen":
        return llamagen_prior.is_prior(state)
    return project == "taming" and taming_prior.is_prior(state)


def holds_condition(project: Project, state: Mapping[str, Tensor]) -> bool:
    """Whether there is, beside a prior, the tokenizer of an image that it is told."""
    return project == "taming" and any(key.startswith(taming_prior.CONDITION_STAGE) for key in state)


def complete_facts(
    project: Project, state: Mapping[str, Tensor], theirs: TheirConfig | None, said: PriorFacts
) -> PriorFacts:
    """What is said of a prior, and what its project's config or its shapes say of the rest.

    Raises:
        CheckpointError: the prior is told what no import understands, or something is still not known.
    """
    if project == "llamagen":
        return llamagen_prior.facts_of(state, said)
    return said.completed(theirs, told_image=holds_condition(project, state))


def import_prior(project: Project, state: Mapping[str, Tensor], spec: TokenSpec, facts: PriorFacts) -> ImportedPrior:
    """Build our prior from another project's transformer.

    Args:
        project: whose it is.
        state: their keys and tensors.
        spec: the tokens that it models.
        facts: from `complete_facts`.

    Raises:
        ValueError: keys are missing or unknown, or the spec does not fit.
    """
    if project == "llamagen":
        return llamagen_prior.import_prior(state, spec, facts)
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

"""Models of other projects as artifacts: the stages import_tokenizer and import_prior.

An import is a stage like any other. Its fingerprint is made of the file's sha256, the project, the part of the file and
the config that it was read with, so the same import twice is one artifact; and what it publishes is used like a trained
model, in `encode`, `train_prior` and `sample`. A prior has the tokenizer whose tokens it reads as its input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from datasets.store import Artifact
from tasks.models import tokenizer_config
from tasks.stage import Product, Request, Stage, input_of
from vqgan_core.config import TokenSpec
from vqgan_core.legacy.checkpoint_file import Checkpoint, find_weights, read_checkpoint
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.prior_facts import ImportedPrior, PriorFacts
from vqgan_core.legacy.prior_import import complete_facts, holds_prior, import_prior
from vqgan_core.legacy.taming_prior import FIRST_STAGE
from vqgan_core.legacy.their_config import Project, TheirConfig, read_config
from vqgan_core.legacy.tokenizer_import import ImportedTokenizer, config_of, import_tokenizer

TOKENIZER = Stage("import_tokenizer", "1", "tokenizer")
PRIOR = Stage("import_prior", "1", "prior")


@dataclass(frozen=True)
class Source:
    """A file of another project, the config beside it, and what a person says of it."""

    project: Project
    path: Path
    """The weights: `find_weights` makes one file of a folder."""
    config_path: Path | None = None
    """The project's own config; None: the one beside the weights, if there is one."""
    resolution_px: int | None = None
    """Height and width of training images; None: the config says it."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Corrections of the tokenizer's config, by dotted keys."""
    facts: PriorFacts = field(default_factory=PriorFacts)
    """What is said of a prior."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """All of the file, by its own keys.

        Raises:
            CheckpointError: the file is none of weights, or cannot be read safely.
        """
        return self._checkpoint.tensors

    @property
    def holds_prior(self) -> bool:
        """Whether there is a prior in the file."""
        return holds_prior(self.project, self.tensors)

    @property
    def holds_tokenizer(self) -> bool:
        """Whether there is a tokenizer in the file: alone, or as the first stage of a prior."""
        return not self.holds_prior or self.part == FIRST_STAGE

    @property
    def part(self) -> str:
        """Beginning of the tokenizer's keys; empty where it is alone in the file."""
        return FIRST_STAGE if any(key.startswith(FIRST_STAGE) for key in self.tensors) else ""

    @cached_property
    def tokenizer(self) -> ImportedTokenizer:
        """The file's tokenizer, in our words; whether it is whole, its report says.

        Raises:
            ValueError: its config is not known, or not one of a tokenizer that we have.
        """
        theirs = self._their_config
        if self.part and theirs is not None:
            theirs = theirs.first_stage
        state = {key.removeprefix(self.part): t for key, t in self.tensors.items() if key.startswith(self.part)}
        config = config_of(self.project, state, theirs, resolution_px=self.resolution_px, overrides=self.overrides)
        return import_tokenizer(self.project, state, config)

    def prior_facts(self) -> PriorFacts:
        """What is known of the file's prior beside its tensors.

        Raises:
            CheckpointError: it is told something else than a class, or something needed is not said.
        """
        return complete_facts(self.project, self.tensors, self._their_config, self.facts)

    def prior(self, tokenizer: Artifact) -> ImportedPrior:
        """The file's prior, over the tokens of a tokenizer.

        Raises:
            ValueError: it is told something else than a class, something needed is not said, or it does not fit.
        """
        facts = self.prior_facts()
        config = tokenizer_config(tokenizer)
        size_px = config.autoencoder.resolution_px
        height, width = config.grid(size_px, size_px)
        spec = TokenSpec(
            codebook_size=config.codebook_size,
            height=height,
            width=width,
            num_classes=facts.num_classes or 0,
            tokenizer=tokenizer.manifest.digest,
        )
        return import_prior(self.project, self.tensors, spec, facts)

    def recipe(self) -> dict[str, Any]:
        """What an import's fingerprint knows of the file."""
        with self.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"project": self.project, "sha256": sha256, "entry": self._checkpoint.entry}

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return read_checkpoint(self.path)

    @cached_property
    def _their_config(self) -> TheirConfig | None:
        return read_config(self.project, self.path, self.config_path)


def open_source(project: Project, path: Path, **said: Any) -> Source:
    """A file of another project, or the only one in a folder; `said` are fields of `Source`.

    Raises:
        CheckpointError: there is no such file, or several.
    """
    return Source(project, find_weights(path), **said)


def tokenizer_request(source: Source) -> Request:
    """Ask for the tokenizer of a file.

    Raises:
        ValueError: see `Source.tokenizer`; keys are missing, or left over inside of the networks.
    """
    imported = source.tokenizer
    config = imported.config
    files = imported.to_files()  # refuses what does not fit before anything is claimed
    size = f"f{config.autoencoder.downsampling_factor} K{config.codebook_size}"
    summary = {"headline": f"{size}, imported from {source.project}", **_origin(source, imported.report)}
    recipe = {**source.recipe(), "part": source.part, "config": config.recipe()}
    return Request(TOKENIZER, recipe, (), lambda _: Product(files=files, summary=summary), f"import {source.path.name}")


def prior_request(source: Source, imported: ImportedPrior, tokenizer: Artifact) -> Request:
    """Ask for the prior of a file, which reads a tokenizer's tokens."""
    prior = imported.prior
    num_parameters = sum(parameter.numel() for parameter in prior.parameters())
    headline = f"{num_parameters / 1e6:.1f} M parameters, imported from {source.project}"
    summary = {"headline": headline, "num_parameters": num_parameters, **_origin(source, imported.report)}
    facts = {"num_classes": prior.num_classes, "sos_token": imported.sos_token}
    recipe = {**source.recipe(), "config": prior.config.recipe(), **facts}
    return Request(
        PRIOR, recipe, (input_of(tokenizer),),
        lambda _: Product(files=prior.to_files(), summary=summary), f"import {source.path.name}",
    )  # fmt: skip


def _origin(source: Source, report: KeyReport) -> dict[str, Any]:
    return {"file": source.path.name, "left_over": list(report.left_over)}

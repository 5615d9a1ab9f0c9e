"""Models of other projects as artifacts: the stages import_tokenizer and import_prior.

An import is a stage like any other. Its fingerprint is made of the file's sha256, the project, the part of the file and
the config that it was read with, so the same import twice is one artifact; and what it publishes is used like a trained
model, in `encode`, `train_prior` and `sample`. A prior has the tokenizer whose tokens it reads as its input, and after
it the one of another image that it is told.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from datasets.store import Artifact
from tasks.models import tokenizer_config
from tasks.stage import Product, Request, Stage, input_of
from vqgan_core.config import TokenizerConfig, TokenSpec
from vqgan_core.config.planes import PLANE_NAME
from vqgan_core.config.tokens import ColumnSpec
from vqgan_core.legacy.checkpoint_file import Checkpoint, CheckpointError, find_weights, read_checkpoint
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.prior_facts import ImportedPrior, PriorFacts
from vqgan_core.legacy.prior_import import complete_facts, holds_condition, holds_prior, import_prior
from vqgan_core.legacy.taming_prior import CONDITION_STAGE, FIRST_STAGE
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
    condition: str | None = None
    """What the corpus calls what a prior is told (`shard.pairs`, `encode.conditions`); None: as the config does."""

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
    def holds_condition_tokenizer(self) -> bool:
        """Whether there is, beside a prior, the tokenizer of an image that it is told."""
        return self.holds_prior and holds_condition(self.project, self.tensors)

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
        return self._imported(self.part, theirs, self.overrides)

    @cached_property
    def condition_tokenizer(self) -> ImportedTokenizer:
        """The tokenizer of what the file's prior is told: a second file of each image.

        Raises:
            ValueError: as `tokenizer`; nothing says what the prior is told.
        """
        theirs = None if self._their_config is None else self._their_config.condition_stage
        plane = {"kind": "stored", "name": self._condition_name()}
        return self._imported(CONDITION_STAGE, theirs, {"plane": plane})

    def prior_facts(self) -> PriorFacts:
        """What is known of the file's prior beside its tensors.

        Raises:
            CheckpointError: it is told what no import understands, or something needed is not said.
        """
        facts = complete_facts(self.project, self.tensors, self._their_config, self.facts)
        if self.holds_condition_tokenizer or facts.coordinates is not None:
            self._condition_name()  # asked for before anything is published
        return facts

    def prior(self, tokenizer: Artifact, condition: Artifact | None = None) -> ImportedPrior:
        """The file's prior, over the tokens of a tokenizer.

        Args:
            tokenizer: of the images.
            condition: of another image that it is told.

        Raises:
            ValueError: it is told what no import understands, something needed is not said, or it does not fit.
        """
        facts = self.prior_facts()
        config = tokenizer_config(tokenizer)
        height, width = _grid(config)
        columns: tuple[ColumnSpec, ...] = ()
        if condition is not None:
            told = tokenizer_config(condition)
            columns = (_column(self._condition_name(), told.codebook_size, _grid(told), condition.manifest.digest),)
        elif facts.coordinates is not None:
            if facts.coordinates.factor != config.autoencoder.downsampling_factor:
                raise CheckpointError(
                    f"this prior is told coordinates of cells of {facts.coordinates.factor} px (down_factor), its "
                    f"images have tokens of {config.autoencoder.downsampling_factor} px: here both grids are the same"
                )
            columns = (_column(self._condition_name(), facts.coordinates.num_levels, (height, width)),)
        spec = TokenSpec(
            codebook_size=config.codebook_size,
            height=height,
            width=width,
            num_classes=facts.num_classes or 0,
            tokenizer=tokenizer.manifest.digest,
            columns=columns,
        )
        return import_prior(self.project, self.tensors, spec, facts)

    def recipe(self) -> dict[str, Any]:
        """What an import's fingerprint knows of the file."""
        with self.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"project": self.project, "sha256": sha256, "entry": self._checkpoint.entry}

    def _imported(self, part: str, theirs: TheirConfig | None, overrides: Mapping[str, Any]) -> ImportedTokenizer:
        state = {key.removeprefix(part): tensor for key, tensor in self.tensors.items() if key.startswith(part)}
        config = config_of(self.project, state, theirs, resolution_px=self.resolution_px, overrides=overrides)
        return import_tokenizer(self.project, state, config)

    def _condition_name(self) -> str:
        theirs = None if self._their_config is None else self._their_config.condition_key
        name = self.condition or theirs
        if name is None or not re.fullmatch(PLANE_NAME, name):
            raise CheckpointError(
                f"this prior is told something beside the image, which its config calls {name!r}: say with --condition "
                "what the corpus calls it, a word of a-z, 0-9 and _ (shard.pairs.NAME, encode.conditions.NAME)"
            )
        return name

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return read_checkpoint(self.path)

    @cached_property
    def _their_config(self) -> TheirConfig | None:
        return read_config(self.project, self.path, self.config_path)


def _grid(config: TokenizerConfig) -> tuple[int, int]:
    return config.grid(config.autoencoder.resolution_px, config.autoencoder.resolution_px)


def _column(name: str, codebook_size: int, grid: tuple[int, int], digest: str = "") -> ColumnSpec:
    return ColumnSpec(name=name, codebook_size=codebook_size, height=grid[0], width=grid[1], tokenizer=digest)


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
    return _tokenizer_request(source, source.tokenizer, source.part)


def condition_request(source: Source) -> Request:
    """Ask for the tokenizer of what the prior of a file is told.

    Raises:
        ValueError: see `Source.condition_tokenizer`; keys are missing, or left over inside of the networks.
    """
    return _tokenizer_request(source, source.condition_tokenizer, CONDITION_STAGE)


def _tokenizer_request(source: Source, imported: ImportedTokenizer, part: str) -> Request:
    config = imported.config
    files = imported.to_files()  # refuses what does not fit before anything is claimed
    size = f"f{config.autoencoder.downsampling_factor} K{config.codebook_size}"
    summary = {"headline": f"{size}, imported from {source.project}", **_origin(source, imported.report)}
    recipe = {**source.recipe(), "part": part, "config": config.recipe()}
    return Request(TOKENIZER, recipe, (), lambda _: Product(files=files, summary=summary), f"import {source.path.name}")


def prior_request(
    source: Source, imported: ImportedPrior, tokenizer: Artifact, condition: Artifact | None = None
) -> Request:
    """Ask for the prior of a file, which reads a tokenizer's tokens, and perhaps is told those of another."""
    prior = imported.prior
    num_parameters = sum(parameter.numel() for parameter in prior.parameters())
    headline = f"{num_parameters / 1e6:.1f} M parameters, imported from {source.project}"
    summary = {"headline": headline, "num_parameters": num_parameters, **_origin(source, imported.report)}
    facts = {"num_classes": prior.num_classes, "sos_token": imported.sos_token}
    recipe = {**source.recipe(), "config": prior.config.recipe(), **facts}
    inputs = tuple(input_of(each) for each in (tokenizer, condition) if each is not None)
    return Request(
        PRIOR, recipe, inputs,
        lambda _: Product(files=prior.to_files(), summary=summary), f"import {source.path.name}",
    )  # fmt: skip


def _origin(source: Source, report: KeyReport) -> dict[str, Any]:
    return {"file": source.path.name, "left_over": list(report.left_over)}

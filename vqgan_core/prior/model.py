"""The prior p(s | c) = Π p(s_i | s_<i, c) over an image's tokens (arXiv 2012.09841, eq. 9 and 10).

Axes: B batch, N tokens, K codebook entries, D width.

The condition is read first, as one embedding from a table of its own; the last row of that table means "not told". It
is the start of unconditional priors, and what conditional ones learn in its place whenever the class is hidden, which
classifier-free guidance (Ho and Salimans 2022) needs.

Departure: the original looks labels up in the table of the image tokens, where label 3 and token 3 share an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import ValidationError
from torch import Tensor, nn

from vqgan_core.config import PriorConfig, TokenSpec, canonical_json
from vqgan_core.prior.transformer import GPT, init_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1


class Prior(nn.Module):
    """Autoregressive model of one image's tokens, class-conditional or not.

    Args:
        config: sizes and kind of condition.
        spec: the tokens that are modelled.

    Raises:
        ValueError: a class condition where the tokens have no classes.
    """

    def __init__(self, config: PriorConfig, spec: TokenSpec) -> None:
        super().__init__()
        if config.condition == "class" and not spec.num_classes:
            raise ValueError("condition is 'class', but these tokens have no classes: set prior.condition=none")
        self.config = config
        self.spec = spec
        self.num_classes = spec.num_classes if config.condition == "class" else 0
        self.class_embedding = nn.Embedding(self.num_classes + 1, config.width)
        self.class_embedding.apply(init_weights)
        self.transformer = GPT(
            vocabulary_size=spec.codebook_size,
            max_length=spec.num_tokens,  # the condition and all tokens but the last
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            width=config.width,
            dropout=config.dropout,
        )

    @property
    def is_conditional(self) -> bool:
        """Whether the prior takes labels."""
        return self.num_classes > 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.class_embedding.weight.device

    def forward(
        self,
        tokens: Int[Tensor, "B N"],
        labels: Int[Tensor, " B"] | None = None,
        label_drop: Bool[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B N K"]:
        """Logits of every token given those before it: `logits[:, i]` predicts `tokens[:, i]`.

        Args:
            tokens: in the order in which the prior reads them.
            labels: needed by a conditional prior; an unconditional one models p(s) whatever they are.
            label_drop: rows whose label is hidden.

        Raises:
            ValueError: another number of tokens, a token or label out of range, or labels missing.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.spec.num_tokens:
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)}: this prior models (batch, {self.spec.num_tokens}), a grid of "
                f"{self.spec.height} x {self.spec.width}"
            )
        _check_range("token", tokens, self.spec.codebook_size, "the codebook's size")
        prefix = self.condition(labels, tokens.shape[0], label_drop)
        logits: Tensor = self.transformer(tokens[:, :-1], prefix)
        return logits

    def nll(
        self,
        tokens: Int[Tensor, "B N"],
        labels: Int[Tensor, " B"] | None = None,
        label_drop: Bool[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B N"]:
        """Negative log-likelihood of every token in nats, in fp32; arguments and errors as `forward`."""
        logits = self(tokens, labels, label_drop).float()
        return F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")

    def condition(
        self, labels: Int[Tensor, " B"] | None, batch_size: int, label_drop: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B 1 D"]:
        """What the prior is told first, as embeddings.

        Raises:
            ValueError: labels missing, of another number than batch_size, or out of range.
        """
        rows = self._null_rows(batch_size)
        if self.is_conditional:
            if labels is None:
                raise ValueError(f"this prior is conditional on {self.num_classes} classes: give a label for each row")
            if labels.shape != (batch_size,):
                raise ValueError(
                    f"labels of shape {tuple(labels.shape)} for a batch of {batch_size}: give one for each"
                )
            _check_range("label", labels, self.num_classes, "the number of classes")
            rows = labels if label_drop is None else torch.where(label_drop, rows, labels)
        embedded: Tensor = self.class_embedding(rows)
        return embedded[:, None]

    def null_condition(self, batch_size: int) -> Float[Tensor, "B 1 D"]:
        """The condition of a prior that is told nothing."""
        embedded: Tensor = self.class_embedding(self._null_rows(batch_size))
        return embedded[:, None]

    def _null_rows(self, batch_size: int) -> Int[Tensor, " B"]:
        return torch.full((batch_size,), self.num_classes, device=self.device)

    def to_files(self) -> dict[str, bytes]:
        """The prior as files; the same weights always give the same bytes."""
        described = {"format": FORMAT_VERSION, "config": _dump(self.config), "spec": _dump(self.spec)}
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return {CONFIG_FILE: canonical_json(described), WEIGHTS_FILE: safetensors.torch.save(weights)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Prior:
        """Rebuild a prior from `to_files`, on the CPU and in eval mode.

        Raises:
            ValueError: a file is missing or of another format, or the weights do not fit the config.
        """
        config, spec = read_config(files)
        with torch.device("meta"):
            prior = cls(config, spec)
        if WEIGHTS_FILE not in files:
            raise ValueError(f"a prior needs {WEIGHTS_FILE}; given: {sorted(files)}")
        try:
            prior.load_state_dict(safetensors.torch.load(files[WEIGHTS_FILE]), strict=True, assign=True)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ValueError(f"{WEIGHTS_FILE} does not fit {CONFIG_FILE}: {' '.join(str(error).split())}") from None
        return prior.requires_grad_().eval()

    def save(self, directory: Path) -> None:
        """Write the files of `to_files` into a directory, which is made if needed."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in self.to_files().items():
            (directory / name).write_bytes(data)

    @classmethod
    def load(cls, directory: Path) -> Prior:
        """Read what `save` wrote; raises as `from_files`."""
        names = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if (directory / name).is_file()]
        return cls.from_files({name: (directory / name).read_bytes() for name in names})


def _dump(config: PriorConfig | TokenSpec) -> dict[str, Any]:
    return config.model_dump(mode="json")


def read_config(files: Mapping[str, bytes]) -> tuple[PriorConfig, TokenSpec]:
    """The config of a prior's files, and the tokens that it models.

    Raises:
        ValueError: it is missing, of another format, or not the config of a prior.
    """
    if CONFIG_FILE not in files:
        raise ValueError(f"a prior needs {CONFIG_FILE}; given: {sorted(files)}")
    try:
        described = json.loads(files[CONFIG_FILE])
        if described["format"] != FORMAT_VERSION:
            raise ValueError(f"{CONFIG_FILE} has format {described['format']!r}; this version reads {FORMAT_VERSION}")
        return PriorConfig.model_validate(described["config"]), TokenSpec.model_validate(described["spec"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"{CONFIG_FILE} does not describe a prior: {' '.join(str(error).split())}") from None


def _check_range(what: str, values: Int[Tensor, ...], limit: int, meaning: str) -> None:
    if values.is_meta or not values.numel():
        return
    # On a GPU this waits for the device once a call; an index out of range would otherwise end the whole process there.
    low, high = (int(value) for value in torch.aminmax(values))
    if low < 0 or high >= limit:
        worst = low if low < 0 else high
        raise ValueError(f"{what} {worst}: allowed are 0 … {limit - 1} ({meaning} is {limit})")

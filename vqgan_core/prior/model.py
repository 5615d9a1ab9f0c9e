"""The prior p(s | c) = Π p(s_i | s_<i, c) over an image's tokens (arXiv 2012.09841, eq. 9 and 10).

Axes: B batch, N tokens, K codebook entries, D width, R rows (B, or 1 for all alike).

Callers see raster order alone: tokens, logits and likelihoods are those of the grid's cells, row by row. In which order
they are read (s_<i) is the prior's own business, except where training or a completion tells it another (`Reading`).

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
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import ValidationError
from torch import Tensor, nn

from vqgan_core.config import PriorConfig, TokenSpec, canonical_json
from vqgan_core.prior.architectures import build_transformer, reads_cells
from vqgan_core.prior.decoder import Placement, init_weights
from vqgan_core.prior.orders import inverse, token_order
from vqgan_core.prior.reading import Reading

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
        self.transformer = build_transformer(config, spec)
        self.target_embedding = nn.Embedding(spec.num_tokens, config.width) if reads_cells(config) else None
        if self.target_embedding is not None:
            self.target_embedding.apply(init_weights)
        order = token_order(config.order, spec.height, spec.width, config.order_seed)
        self.register_buffer("order", order, persistent=False)  # follows from the config

    order: Int[Tensor, " N"]
    """The cells in the order in which they are read."""

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
        reading: Reading | None = None,
    ) -> Float[Tensor, "B N K"]:
        """Logits of every token given those read before it: `logits[:, i]` predicts `tokens[:, i]`.

        Args:
            tokens: row by row.
            labels: needed by a conditional prior; an unconditional one models p(s) whatever they are.
            label_drop: rows whose label is hidden.
            reading: what is read in place of the tokens, and in which order; None: they themselves, in the prior's.

        Raises:
            ValueError: another number of tokens, a token or label out of range, or labels missing.
        """
        reading = Reading() if reading is None else reading
        orders = self._orders(reading)
        logits = self._sequence_logits(tokens, labels, label_drop, reading)
        if orders is None:
            return logits
        return logits.gather(1, inverse(orders)[..., None].expand_as(logits))

    def nll(
        self,
        tokens: Int[Tensor, "B N"],
        labels: Int[Tensor, " B"] | None = None,
        label_drop: Bool[Tensor, " B"] | None = None,
        reading: Reading | None = None,
    ) -> Float[Tensor, "B N"]:
        """Negative log-likelihood of every token in nats, in fp32; arguments and errors as `forward`."""
        reading = Reading() if reading is None else reading
        orders = self._orders(reading)
        logits = self._sequence_logits(tokens, labels, label_drop, reading).float()
        losses = F.cross_entropy(logits.transpose(1, 2), in_order(tokens, orders), reduction="none")
        return in_order(losses, None if orders is None else inverse(orders))

    def placement(self, orders: Int[Tensor, "R N"], start: int, end: int) -> Placement:
        """Where elements start … end - 1 of the sequence stand: the condition, then all tokens but the last.

        Args:
            orders: cells in the order in which they are read.
            start: index of the first element, of which 0 is the condition.
            end: index after the last one.
        """
        if self.target_embedding is None:
            return Placement()
        cells = orders[:, max(start - 1, 0) : end - 1] + 1
        positions = F.pad(cells, (1, 0)) if start == 0 else cells
        return Placement(positions, self.target_embedding(orders[:, start:end]))

    def _sequence_logits(
        self, tokens: Tensor, labels: Tensor | None, label_drop: Tensor | None, reading: Reading
    ) -> Float[Tensor, "B N K"]:
        """Logits in the order of reading."""
        if tokens.ndim != 2 or tokens.shape[1] != self.spec.num_tokens:
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)}: this prior models (batch, {self.spec.num_tokens}), a grid of "
                f"{self.spec.height} x {self.spec.width}"
            )
        inputs = tokens if reading.inputs is None else reading.inputs
        for given in {id(values): values for values in (tokens, inputs)}.values():
            check_range("token", given, self.spec.codebook_size, "the codebook's size")
        orders = self._orders(reading)
        placement = self.placement(self.order[None] if orders is None else orders, 0, self.spec.num_tokens)
        if reading.hidden is not None:
            hidden = in_order(reading.hidden, orders)[:, :-1]
            placement = placement._replace(hidden=F.pad(hidden, (1, 0)))  # the condition is told
        prefix = self.condition(labels, tokens.shape[0], label_drop)
        logits: Tensor = self.transformer(in_order(inputs, orders)[:, :-1], prefix, placement=placement)
        return logits

    def _orders(self, reading: Reading) -> Int[Tensor, "R N"] | None:
        """The orders of a batch; None: row by row, where nothing has to be moved."""
        if reading.orders is not None:
            if self.config.order != "random_annealed":
                raise ValueError(
                    f"this prior reads in the order {self.config.order} alone; only one with order random_annealed "
                    "can be told another"
                )
            return reading.orders
        return None if self.config.order in ("row", "random_annealed") else self.order[None]

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
            check_range("label", labels, self.num_classes, "the number of classes")
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


def in_order(values: Shaped[Tensor, "B N"], orders: Int[Tensor, "R N"] | None) -> Shaped[Tensor, "B N"]:
    """Values of cells in the order in which they are visited; None leaves them."""
    return values if orders is None else values.gather(1, orders.expand(len(values), -1))


def check_range(what: str, values: Int[Tensor, ...], limit: int, meaning: str) -> None:
    """Refuse values outside of 0 … limit - 1.

    Raises:
        ValueError: names the value and what is allowed.
    """
    if values.is_meta or not values.numel():
        return
    # On a GPU this waits for the device once a call; an index out of range would otherwise end the whole process there.
    low, high = (int(value) for value in torch.aminmax(values))
    if low < 0 or high >= limit:
        worst = low if low < 0 else high
        raise ValueError(f"{what} {worst}: allowed are 0 … {limit - 1} ({meaning} is {limit})")

"""The prior p(s | c) = Π p(s_i | s_<i, c) over an image's tokens (arXiv 2012.09841, eq. 9 and 10).

Axes: B batch, N tokens, K codebook entries, D width, P condition elements, M tokens of a condition column, R rows (B,
or 1 for all alike).

Callers see raster order alone: tokens, logits and likelihoods are those of the grid's cells, row by row. In which order
they are read (s_<i) is the prior's own business, except where training or a completion tells it another (`Reading`).

The condition is read first: the class, if there is one, as one embedding, and then the tokens of each condition column
(another image of the same record, say). Each has a table of its own, whose last row means "not told". That row of the
classes is the start of unconditional priors. Conditional ones learn what stands in place of the condition whenever it
is hidden, which classifier-free guidance (Ho and Salimans 2022) needs: all of it at once, since guidance compares with
the model that is told nothing. Only the image's own tokens are predicted: p(s | c), never p(c).

Departure: the original looks labels up in the table of the image tokens, where label 3 and token 3 share an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import ValidationError
from torch import Tensor, nn

from vqgan_core.config import PriorConfig, TokenSpec, canonical_json
from vqgan_core.prior.architectures import build_transformer, prefix_length, reads_cells
from vqgan_core.prior.condition import ColumnEmbedding, Columns
from vqgan_core.prior.decoder import Placement, init_weights
from vqgan_core.prior.orders import inverse, token_order
from vqgan_core.prior.ranges import check_range
from vqgan_core.prior.reading import Reading

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1


class Prior(nn.Module):
    """Autoregressive model of one image's tokens, told a class, other tokens of the same record, both or nothing.

    Args:
        config: sizes and kind of condition.
        spec: the tokens that are modelled.

    Raises:
        ValueError: a class condition where the tokens have no classes, or a condition column that they lack.
    """

    def __init__(self, config: PriorConfig, spec: TokenSpec) -> None:
        super().__init__()
        if config.condition == "class" and not spec.num_classes:
            raise ValueError("condition is 'class', but these tokens have no classes: set prior.condition=none")
        self.config = config
        self.spec = spec
        self.num_classes = spec.num_classes if config.condition == "class" else 0
        self.num_prefix = prefix_length(config, spec)
        """P: elements of the condition."""
        self.class_embedding: nn.Embedding | None = None
        """Of the class, or of the start; a prior that is told columns alone needs neither."""
        if config.condition == "class" or not config.condition_columns:
            self.class_embedding = nn.Embedding(self.num_classes + 1, config.width)
            self.class_embedding.apply(init_weights)
        self.transformer = build_transformer(config, spec)
        has_positions = config.architecture == "modern"  # which leaves the condition unturned
        self.column_embeddings = nn.ModuleList(
            ColumnEmbedding(spec.column(name), config.width, has_positions=has_positions)
            for name in config.condition_columns
        )
        self.target_embedding = nn.Embedding(spec.num_tokens, config.width) if reads_cells(config) else None
        if self.target_embedding is not None:
            self.target_embedding.apply(init_weights)
        order = token_order(config.order, spec.height, spec.width, config.order_seed)
        self.register_buffer("order", order, persistent=False)  # follows from the config

    order: Int[Tensor, " N"]
    """The cells in the order in which they are read."""

    @property
    def takes_labels(self) -> bool:
        """Whether the prior is told a class."""
        return self.num_classes > 0

    @property
    def is_conditional(self) -> bool:
        """Whether the prior is told anything, so that guidance means something."""
        return self.takes_labels or bool(self.config.condition_columns)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.head.weight.device

    @property
    def max_length(self) -> int:
        """Positions that a cache needs: the condition, and all tokens but the last."""
        return self.num_prefix + self.spec.num_tokens - 1

    def forward(
        self,
        tokens: Int[Tensor, "B N"],
        labels: Int[Tensor, " B"] | None = None,
        condition_drop: Bool[Tensor, " B"] | None = None,
        reading: Reading | None = None,
        columns: Columns | None = None,
    ) -> Float[Tensor, "B N K"]:
        """Logits of every token given those read before it: `logits[:, i]` predicts `tokens[:, i]`.

        Args:
            tokens: row by row.
            labels: needed by a class-conditional prior; another one does not look at them.
            condition_drop: rows whose whole condition is hidden.
            reading: what is read in place of the tokens, and in which order; None: they themselves, in the prior's.
            columns: tokens of each condition column; others are not looked at.

        Raises:
            ValueError: another number of tokens, a token or label out of range, or labels or a column missing.
        """
        reading = Reading() if reading is None else reading
        orders = self._orders(reading)
        prefix = self.condition(labels, tokens.shape[0], condition_drop, columns)
        logits = self._sequence_logits(tokens, prefix, reading)
        if orders is None:
            return logits
        return logits.gather(1, inverse(orders)[..., None].expand_as(logits))

    def nll(
        self,
        tokens: Int[Tensor, "B N"],
        labels: Int[Tensor, " B"] | None = None,
        condition_drop: Bool[Tensor, " B"] | None = None,
        reading: Reading | None = None,
        columns: Columns | None = None,
    ) -> Float[Tensor, "B N"]:
        """Negative log-likelihood of every token in nats, in fp32; arguments and errors as `forward`."""
        reading = Reading() if reading is None else reading
        orders = self._orders(reading)
        prefix = self.condition(labels, tokens.shape[0], condition_drop, columns)
        logits = self._sequence_logits(tokens, prefix, reading).float()
        losses = F.cross_entropy(logits.flatten(0, 1), in_order(tokens, orders).flatten(), reduction="none")
        losses = losses.view_as(tokens)
        return in_order(losses, None if orders is None else inverse(orders))

    def placement(self, orders: Int[Tensor, "R N"], start: int, end: int) -> Placement:
        """Where elements start … end - 1 of the sequence stand: the condition, then all tokens but the last.

        Args:
            orders: cells in the order in which they are read.
            start: index of the first element; the first P are the condition's.
            end: index after the last one.
        """
        if self.target_embedding is None:
            return Placement()
        told = torch.arange(start, max(start, min(end, self.num_prefix)), device=orders.device)
        cells = orders[:, max(start - self.num_prefix, 0) : max(end - self.num_prefix, 0)] + self.num_prefix
        positions = torch.cat([told.expand(len(orders), -1), cells], dim=1)
        first = self.num_prefix - 1  # the condition's last element predicts the first token, those before it nothing
        targets = self.target_embedding(orders[:, max(start - first, 0) : max(end - first, 0)])
        return Placement(positions, F.pad(targets, (0, 0, end - start - targets.shape[1], 0)))

    def _sequence_logits(
        self, tokens: Int[Tensor, "B N"], prefix: Float[Tensor, "B P D"], reading: Reading
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
        placement = self.placement(self.order[None] if orders is None else orders, 0, self.max_length)
        if reading.hidden is not None:
            hidden = in_order(reading.hidden, orders)[:, :-1]
            placement = placement._replace(hidden=F.pad(hidden, (self.num_prefix, 0)))  # the condition is told
        given = in_order(inputs, orders)[:, :-1]
        logits: Tensor = self.transformer(given, prefix, placement=placement, num_last=self.spec.num_tokens)
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
        self,
        labels: Int[Tensor, " B"] | None,
        batch_size: int,
        condition_drop: Bool[Tensor, " B"] | None = None,
        columns: Columns | None = None,
    ) -> Float[Tensor, "B P D"]:
        """What the prior is told first, as embeddings.

        Raises:
            ValueError: labels or a column missing, of another number than batch_size, or out of range.
        """
        parts = [] if self.class_embedding is None else [self._class(labels, batch_size, condition_drop)]
        for embedding in self._columns():
            name = embedding.spec.name
            if columns is None or name not in columns:
                raise ValueError(f"this prior is told the tokens of column {name}: give them for each row")
            if len(columns[name]) != batch_size:
                raise ValueError(f"{len(columns[name])} rows of column {name} for a batch of {batch_size}")
            parts.append(embedding(columns[name], condition_drop))
        return torch.cat(parts, dim=1)

    def null_condition(self, batch_size: int) -> Float[Tensor, "B P D"]:
        """The condition of a prior that is told nothing."""
        parts = [embedding.untold(batch_size) for embedding in self._columns()]
        if self.class_embedding is not None:
            parts.insert(0, self.class_embedding(self._null_rows(batch_size))[:, None])
        return torch.cat(parts, dim=1)

    def _columns(self) -> Iterator[ColumnEmbedding]:
        for embedding in self.column_embeddings:
            assert isinstance(embedding, ColumnEmbedding)
            yield embedding

    def _class(
        self, labels: Int[Tensor, " B"] | None, batch_size: int, drop: Bool[Tensor, " B"] | None
    ) -> Float[Tensor, "B 1 D"]:
        assert self.class_embedding is not None
        rows = self._null_rows(batch_size)
        if self.takes_labels:
            if labels is None:
                raise ValueError(f"this prior is conditional on {self.num_classes} classes: give a label for each row")
            if labels.shape != (batch_size,):
                raise ValueError(
                    f"labels of shape {tuple(labels.shape)} for a batch of {batch_size}: give one for each"
                )
            check_range("label", labels, self.num_classes, "the number of classes")
            rows = labels if drop is None else torch.where(drop, rows, labels)
        embedded: Tensor = self.class_embedding(rows)
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
    return config.recipe()  # what came later only where it is used: older priors keep their bytes


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

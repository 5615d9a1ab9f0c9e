"""A token dataset for its readers: all tokens of an artifact, shuffled batches, every record once.

Axes: B batch, R records of a split, V views, N tokens, K entries.

A record is one image, whatever the number of its views: an epoch reads it once, in a view that is drawn from (seed,
epoch, key). Records are in the order of their keys. Tokens are held as 16 bits (32 above K = 65,536): ImageNet's 1.28
million records of 256 tokens take 0.66 GB.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt64
from torch import Tensor

from datasets.errors import TokenError, TokenMismatch
from datasets.files import Files, ListedFiles
from datasets.image_batches import Batch
from datasets.order import Order, record_words
from datasets.prefetch import prefetched
from datasets.shares import Shared
from datasets.token_file import TokenFile, TokenMeta, read_token_file
from vqgan_core.config.tokens import TARGET

__all__ = ["Read", "Split", "TokenBatches", "TokenDataset", "common_meta"]

_NUM_READERS = 4


class Split:
    """Records of one split in key order, with all their views."""

    def __init__(self, name: str, files: Sequence[TokenFile], views: Sequence[str]) -> None:
        by_view = {view: [file for file in files if file.view == view] for view in views}
        if not by_view[views[0]]:
            raise TokenError(f"split {name!r} has no tokens of view {views[0]!r}, other splits have")
        self.keys, order, self.counts = _merged(name, by_view[views[0]])
        self.by_file: Int64[np.ndarray, " R"] = np.argsort(order)
        """Record numbers, file after file: the joined list that an Order permutes."""
        self.labels = np.concatenate([file.labels for file in by_view[views[0]]])[order]
        self.key_words: UInt64[np.ndarray, " R"] = np.array([int(key[:16], 16) for key in self.keys], np.uint64)
        self.num_views = len(views)
        self.crops: dict[str, Int64[np.ndarray, "R 5"]] = {}
        """Of random views."""
        stacks: dict[str, list[Integer[np.ndarray, "R N"]]] = {column: [] for column in files[0].meta.all_columns}
        for view in views:
            keys, order, _ = _merged(name, by_view[view])
            if keys != self.keys:
                raise TokenError(f"split {name!r}: views {views[0]!r} and {view!r} are not of the same records")
            crops = [file.crops for file in by_view[view] if file.crops is not None]
            if crops:
                self.crops[view] = np.concatenate(crops)[order]
            for column, stack in stacks.items():
                stack.append(np.concatenate([file.tokens[column] for file in by_view[view]])[order])
        self.tokens: dict[str, Integer[np.ndarray, "V R N"]] = {name: np.stack(of) for name, of in stacks.items()}

    def batch(
        self, read: Read, views: int | Int64[np.ndarray, " B"], records: slice | Int64[np.ndarray, " B"]
    ) -> Batch:
        """Records in views, as tensors."""
        columns = {"tokens": read.target, **{name: name for name in read.columns}}
        found = {
            key: torch.from_numpy(self.tokens[name][views, records].astype(np.int64)) for key, name in columns.items()
        }
        return {**found, "labels": torch.from_numpy(self.labels[records].copy())}


@dataclass(frozen=True)
class Read:
    """Which columns a batch holds: one as `tokens`, others under their own names."""

    target: str
    columns: tuple[str, ...]


class TokenDataset:
    """The tokens of an artifact, read and verified."""

    def __init__(self, files: Files, paths: Iterable[str]) -> None:
        """Read all token files.

        Args:
            files: where they are read from.
            paths: the token files, in any order.

        Raises:
            TokenError: there is none, or one is damaged.
            TokenMismatch: they come from different tokenizers.
        """
        names = sorted(paths)
        if not names:
            raise TokenError("a token dataset has at least one Parquet file, this one has none")
        read = list(
            prefetched(lambda i: read_token_file(files.read(names[i]), names[i]), range(len(names)), _NUM_READERS)
        )
        self.meta: TokenMeta = common_meta({name: file.meta for name, file in zip(names, read, strict=True)})
        """What the indices mean; with the classes of all generations, and nothing about windows: views differ there."""
        read.sort(key=lambda file: (file.split, file.view, file.keys[0]))  # whatever the files are called
        self.views: tuple[str, ...] = tuple(sorted({file.view for file in read}))
        """Views in alphabetical order; `center` comes first."""
        splits = sorted({file.split for file in read})
        self._splits = {s: Split(s, [file for file in read if file.split == s], self.views) for s in splits}

    @classmethod
    def open(cls, artifact: ListedFiles) -> TokenDataset:
        """The tokens of a published artifact.

        Raises:
            TokenError: as the constructor.
        """
        return cls(artifact, [entry.path for entry in artifact.manifest.files if entry.path.endswith(".parquet")])

    @property
    def splits(self) -> dict[str, int]:
        """Records of each split that has any."""
        return {name: len(split.keys) for name, split in self._splits.items()}

    def num_records(self, split: str) -> int:
        """Records of a split, each counted once however many views it has; 0 for one that is empty."""
        return self.splits.get(split, 0)

    def check_compatible(self, tokenizer_digest: str, codebook_size: int, column: str = TARGET) -> None:
        """Refuse tokens that do not mean what a prior takes them for.

        Raises:
            TokenError: there is no such column.
            TokenMismatch: they are of another tokenizer or another codebook size.
        """
        about = self.meta.column(column)
        if (tokenizer_digest, codebook_size) != (about.tokenizer_digest, about.codebook_size):
            raise TokenMismatch(
                f"these tokens ({column}) were made by tokenizer {about.tokenizer_digest[:12]} with "
                f"{about.codebook_size} codes, the prior expects tokenizer {tokenizer_digest[:12]} with "
                f"{codebook_size} codes: encode the corpus with that tokenizer"
            )

    def keys(self, split: str) -> list[str]:
        """Keys of a split's records, ascending."""
        return list(self._split(split).keys)

    def labels(self, split: str) -> Int64[Tensor, " R"]:
        """Class numbers in key order, -1 without classes."""
        return torch.from_numpy(self._split(split).labels.copy())

    def tokens(self, split: str, view: str | None = None, column: str = TARGET) -> Int64[Tensor, "R N"]:
        """All tokens of a split in key order, as int64: four times the room that they take here.

        Raises:
            TokenError: there is no such split, view or column.
        """
        self.meta.column(column)
        return torch.from_numpy(self._split(split).tokens[column][self._view(view)].astype(np.int64))

    def crops(self, split: str, view: str) -> Int64[Tensor, "R 5"]:
        """Windows of a random view in key order: top, left, height and width in px of the stored image, 1 if mirrored.

        Raises:
            TokenError: there is no such split, or no such random view.
        """
        found = self._split(split).crops
        if view not in found:
            raise TokenError(f"view {view!r} has no windows of its own; random views of these tokens: {sorted(found)}")
        return torch.from_numpy(found[view].copy())

    def code_histogram(self, split: str | None = None, column: str = TARGET) -> Int64[Tensor, " K"]:
        """How often each code occurs, over all views, in a split or everywhere.

        Raises:
            TokenError: there is no such split or column.
        """
        chosen = self._splits.values() if split is None else [self._split(split)]
        size = self.meta.column(column).codebook_size
        counts = np.zeros(size, np.int64)
        for rows in (
            row
            for part in chosen
            for view in part.tokens[column]
            for row in np.array_split(view, len(view) // 8192 + 1)
        ):
            counts += np.bincount(rows.reshape(-1), minlength=size)
        return torch.from_numpy(counts)

    def batches(
        self, split: str, batch_size: int, *, seed: int, target: str = TARGET, columns: Sequence[str] = ()
    ) -> TokenBatches:
        """Endless shuffled batches: call the result with the step to start at.

        Args:
            split: which records.
            batch_size: records a batch.
            seed: names the order, and the views.
            target: the column that batches hold as `tokens`.
            columns: further columns, which batches hold under their own names.

        Raises:
            TokenError: the split is empty, or there is no such column.
        """
        return TokenBatches(self._split(split), batch_size, seed, self._read(target, columns))

    def sequential(
        self,
        split: str,
        batch_size: int,
        *,
        limit: int | None = None,
        view: str | None = None,
        target: str = TARGET,
        columns: Sequence[str] = (),
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Every record once, in key order and one view (None: the first); the last batch is short.

        A share (rank, number of processes) is every so-manieth record: together, the processes pass each once.

        Raises:
            TokenError: there is no such view or column.
        """
        number, read = self._view(view), self._read(target, columns)
        total = self.num_records(split) if limit is None else min(limit, self.num_records(split))
        own = range(share[0], total, share[1])
        for start in range(0, len(own), batch_size):
            some = own[start : start + batch_size]
            yield self._split(split).batch(read, number, slice(some.start, some.stop, some.step))

    def _read(self, target: str, columns: Sequence[str]) -> Read:
        for name in (target, *columns):
            self.meta.column(name)
        return Read(target, tuple(columns))

    def _split(self, name: str) -> Split:
        if name not in self._splits:
            raise TokenError(f"these tokens have no record in split {name!r}; they have {self.splits}")
        return self._splits[name]

    def _view(self, name: str | None) -> int:
        if name is not None and name not in self.views:
            raise TokenError(f"these tokens have no view {name!r}; they have {', '.join(self.views)}")
        return 0 if name is None else self.views.index(name)


class TokenBatches(Shared):
    """Endless shuffled batches `{"tokens": int64 B N, "labels": int64 B}`, and further columns, int64 `B M`, by name.

    Step s's is a pure function of s, and reading more columns moves nothing.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, read: Read) -> None:
        """Made by TokenDataset.batches."""
        self._split, self._batch_size, self._seed, self._read = split, batch_size, seed, read
        self._order = Order(split.counts, seed)

    def __call__(self, start_step: int) -> Iterator[Batch]:
        """Batches from a step on. No threads: a batch is a gather from memory."""
        return map(self.batch, itertools.count(start_step))

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        position = self._order.batch(step, self._batch_size, *self._share)
        records = self._split.by_file[position.records]
        words = record_words(1, self._seed, position.epochs, self._split.key_words[records])[:, 0]
        views = (words % np.uint64(self._split.num_views)).astype(np.int64)
        return self._split.batch(self._read, views, records)


def common_meta(metas: Mapping[str, TokenMeta]) -> TokenMeta:
    """What the indices of several files mean, by the files' names.

    Raises:
        TokenMismatch: not the same in all of them.
    """
    most = max(metas, key=lambda name: len(metas[name].class_names))
    for name, meta in metas.items():
        if not _agree(meta, metas[most]):
            raise TokenMismatch(f"{most} and {name} differ in {_differences(metas[most], meta)}")
    return metas[most].model_copy(update={"crops": None})


def _merged(split: str, files: Sequence[TokenFile]) -> tuple[list[str], Int64[np.ndarray, " R"], list[int]]:
    """Keys of several files in order, where each was in the joined list, and the records of each file."""
    joined = [key for file in files for key in file.keys]
    order = sorted(range(len(joined)), key=joined.__getitem__)
    keys = [joined[i] for i in order]
    for before, key in itertools.pairwise(keys):
        if before == key:
            raise TokenError(f"record {key} of split {split!r} is in two token files: it would count twice")
    return keys, np.array(order, np.int64), [len(file.keys) for file in files]


def _agree(earlier: TokenMeta, latest: TokenMeta) -> bool:
    """Whether two files are of one data set.

    A corpus that grows may get classes, behind those that it has, and each view has windows of its own.
    """
    names = latest.class_names[: len(earlier.class_names)]
    return earlier == latest.model_copy(update={"class_names": names, "crops": earlier.crops})


def _differences(first: TokenMeta, second: TokenMeta) -> str:
    names = [name for name in TokenMeta.model_fields if getattr(first, name) != getattr(second, name)]
    return ", ".join(f"{name} ({_brief(first, name)} and {_brief(second, name)})" for name in names)


def _brief(meta: TokenMeta, name: str) -> str:
    text = str(getattr(meta, name))
    return text if len(text) <= 40 else text[:37] + "..."

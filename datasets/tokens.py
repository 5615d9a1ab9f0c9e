"""A token dataset for its readers: all tokens of an artifact, shuffled batches, every record once.

Axes: B batch, R records of a split, V views, N tokens, K entries.

A record is one image, whatever the number of its views: an epoch reads it once, in a view that is drawn from (seed,
epoch, key). Records are in the order of their keys. Tokens are held as 16 bits (32 above K = 65,536): ImageNet's 1.28
million records of 256 tokens take 0.66 GB.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt64
from torch import Tensor

from datasets.errors import TokenError, TokenMismatch
from datasets.files import Files, ListedFiles
from datasets.image_batches import Batch
from datasets.order import Order, record_words
from datasets.prefetch import prefetched
from datasets.token_file import TokenFile, TokenMeta, read_token_file

__all__ = ["TokenBatches", "TokenDataset"]

_NUM_READERS = 4


class _Split:
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
        tokens = []
        for view in views:
            keys, order, _ = _merged(name, by_view[view])
            if keys != self.keys:
                raise TokenError(f"split {name!r}: views {views[0]!r} and {view!r} are not of the same records")
            tokens.append(np.concatenate([file.indices for file in by_view[view]])[order])
        self.tokens: Integer[np.ndarray, "V R N"] = np.stack(tokens)


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
        most = max(range(len(read)), key=lambda i: len(read[i].meta.class_names))
        for name, file in zip(names, read, strict=True):
            if not _agree(file.meta, read[most].meta):
                raise TokenMismatch(f"{names[most]} and {name} differ in {_differences(read[most].meta, file.meta)}")
        self.meta: TokenMeta = read[most].meta
        """What the indices mean; with the classes of all generations."""
        read.sort(key=lambda file: (file.split, file.view, file.keys[0]))  # whatever the files are called
        self.views: tuple[str, ...] = tuple(sorted({file.view for file in read}))
        """Views in alphabetical order; `center` comes first."""
        splits = sorted({file.split for file in read})
        self._splits = {s: _Split(s, [file for file in read if file.split == s], self.views) for s in splits}

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

    def check_compatible(self, tokenizer_digest: str, codebook_size: int) -> None:
        """Refuse tokens that do not mean what a prior takes them for.

        Raises:
            TokenMismatch: they are of another tokenizer or another codebook size.
        """
        if (tokenizer_digest, codebook_size) != (self.meta.tokenizer_digest, self.meta.codebook_size):
            raise TokenMismatch(
                f"these tokens were made by tokenizer {self.meta.tokenizer_digest[:12]} with "
                f"{self.meta.codebook_size} codes, the prior expects tokenizer {tokenizer_digest[:12]} with "
                f"{codebook_size} codes: encode the corpus with that tokenizer"
            )

    def keys(self, split: str) -> list[str]:
        """Keys of a split's records, ascending."""
        return list(self._split(split).keys)

    def labels(self, split: str) -> Int64[Tensor, " R"]:
        """Class numbers in key order, -1 without classes."""
        return torch.from_numpy(self._split(split).labels.copy())

    def tokens(self, split: str, view: str | None = None) -> Int64[Tensor, "R N"]:
        """All tokens of a split in key order, as int64: four times the room that they take here.

        Raises:
            TokenError: there is no such split or view.
        """
        return torch.from_numpy(self._split(split).tokens[self._view(view)].astype(np.int64))

    def code_histogram(self, split: str | None = None) -> Int64[Tensor, " K"]:
        """How often each code occurs, over all views, in a split or everywhere."""
        chosen = self._splits.values() if split is None else [self._split(split)]
        counts = np.zeros(self.meta.codebook_size, np.int64)
        for rows in (
            row for part in chosen for view in part.tokens for row in np.array_split(view, len(view) // 8192 + 1)
        ):
            counts += np.bincount(rows.reshape(-1), minlength=self.meta.codebook_size)
        return torch.from_numpy(counts)

    def batches(self, split: str, batch_size: int, *, seed: int) -> TokenBatches:
        """Endless shuffled batches: call the result with the step to start at.

        Raises:
            TokenError: the split is empty.
        """
        return TokenBatches(self._split(split), batch_size, seed)

    def sequential(
        self, split: str, batch_size: int, *, limit: int | None = None, view: str | None = None
    ) -> Iterator[Batch]:
        """Every record once, in key order and one view (None: the first); the last batch is short.

        Raises:
            TokenError: there is no such view.
        """
        number = self._view(view)
        total = self.num_records(split) if limit is None else min(limit, self.num_records(split))
        for start in range(0, total, batch_size):
            rows = slice(start, min(start + batch_size, total))
            part = self._split(split)
            yield _batch(part.tokens[number, rows], part.labels[rows])

    def _split(self, name: str) -> _Split:
        if name not in self._splits:
            raise TokenError(f"these tokens have no record in split {name!r}; they have {self.splits}")
        return self._splits[name]

    def _view(self, name: str | None) -> int:
        if name is not None and name not in self.views:
            raise TokenError(f"these tokens have no view {name!r}; they have {', '.join(self.views)}")
        return 0 if name is None else self.views.index(name)


class TokenBatches:
    """Endless shuffled batches `{"tokens": int64 B N, "labels": int64 B}`; step s's is a pure function of s."""

    def __init__(self, split: _Split, batch_size: int, seed: int) -> None:
        """Made by TokenDataset.batches."""
        self._split, self._batch_size, self._seed = split, batch_size, seed
        self._order = Order(split.counts, seed)

    def __call__(self, start_step: int) -> Iterator[Batch]:
        """Batches from a step on. No threads: a batch is a gather from memory."""
        return map(self.batch, itertools.count(start_step))

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        position = self._order.batch(step, self._batch_size)
        records = self._split.by_file[position.records]
        words = record_words(1, self._seed, position.epochs, self._split.key_words[records])[:, 0]
        views = (words % np.uint64(len(self._split.tokens))).astype(np.int64)
        return _batch(self._split.tokens[views, records], self._split.labels[records])


def _batch(tokens: Integer[np.ndarray, "B N"], labels: Int64[np.ndarray, " B"]) -> Batch:
    return {"tokens": torch.from_numpy(tokens.astype(np.int64)), "labels": torch.from_numpy(labels.copy())}


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
    """Whether two files are of one data set: a corpus that grows may get classes, behind those that it has."""
    names = latest.class_names[: len(earlier.class_names)]
    return earlier == latest.model_copy(update={"class_names": names})


def _differences(first: TokenMeta, second: TokenMeta) -> str:
    names = [name for name in TokenMeta.model_fields if getattr(first, name) != getattr(second, name)]
    return ", ".join(f"{name} ({_brief(first, name)} and {_brief(second, name)})" for name in names)


def _brief(meta: TokenMeta, name: str) -> str:
    text = str(getattr(meta, name))
    return text if len(text) <= 40 else text[:37] + "..."

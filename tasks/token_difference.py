"""How two token datasets differ, column by column: in what codes mean, in records, and in how often each code occurs.

Codes of a column are compared only where they mean the same in both. Everything is plain values, ready for JSON.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from datasets.store import Artifact
from datasets.token_file import TokenColumn
from datasets.tokens import TokenDataset
from vqgan_core.evaluation.divergence import divergence_floor, jensen_shannon, per_code_divergence

__all__ = ["difference", "divergence"]

MOST_CODES = 8
CHUNK = 8192

Part = tuple[TokenDataset, str]
"""A split of a token dataset."""


def difference(first: Artifact, second: Artifact) -> dict[str, Any]:
    """How two token datasets differ: columns, records, and frequencies of codes where they mean the same."""
    one, other = TokenDataset.open(first), TokenDataset.open(second)
    return {
        "fingerprints": [first.manifest.fingerprint, second.manifest.fingerprint],
        "class_names": [list(tokens.meta.class_names) for tokens in (one, other)],
        "columns": {name: _column_difference(one, other, name) for name in _names(one, other)},
        "splits": {split: _split_difference((one, split), (other, split)) for split in _splits(one, other)},
    }


def divergence(one: Part, other: Part, column: str) -> dict[str, float] | None:
    """Divergence of a column's codes in two splits, and what chance alone gives.

    None where one has no record, or lacks the column, or its codes mean something else there.
    """
    (first, split), (second, other_split) = one, other
    sizes = first.num_records(split), second.num_records(other_split)
    if not all(sizes) or not _mean_the_same(first, second, column):
        return None
    found = {"bits": jensen_shannon(first.code_histogram(split, column), second.code_histogram(other_split, column))}
    about = first.meta.column(column)
    if _num_tokens(about) == _num_tokens(second.meta.column(column)):
        parts = (tokens.sequential(name, CHUNK, target=column) for tokens, name in (one, other))
        batches = (batch["tokens"] for batch in chain.from_iterable(parts))
        found["floor_bits"] = divergence_floor(batches, sizes, about.codebook_size)
    return found


def _names(one: TokenDataset, other: TokenDataset) -> list[str]:
    """Columns of either, in order."""
    return list(dict.fromkeys([*one.meta.all_columns, *other.meta.all_columns]))


def _splits(one: TokenDataset, other: TokenDataset) -> list[str]:
    return sorted({*one.splits, *other.splits})


def _mean_the_same(one: TokenDataset, other: TokenDataset, name: str) -> bool:
    """Whether both have the column, of one tokenizer, or made in one way where no tokenizer is known."""
    columns = [tokens.meta.all_columns.get(name) for tokens in (one, other)]
    meanings = [
        (about.tokenizer_digest, about.codebook_size, {} if about.tokenizer_digest else about.preprocessing)
        for about in columns
        if about is not None
    ]
    return len(meanings) == 2 and meanings[0] == meanings[1]


def _column_difference(one: TokenDataset, other: TokenDataset, name: str) -> dict[str, Any]:
    """Which of the two have a column, and which of its fields differ."""
    found = [tokens.meta.all_columns.get(name) for tokens in (one, other)]
    fields: dict[str, Any] = {}
    if found[0] is not None and found[1] is not None:
        said = [about.model_dump(mode="json") for about in found if about is not None]
        fields = {field: [side[field] for side in said] for field in said[0] if said[0][field] != said[1][field]}
    return {
        "there": [about is not None for about in found],
        "fields": fields,
        "comparable": _mean_the_same(one, other, name),
    }


def _split_difference(one: Part, other: Part) -> dict[str, Any]:
    rows = [_rows(*part) for part in (one, other)]
    shared = sorted(rows[0].keys() & rows[1].keys())
    return {
        "records": [len(side) for side in rows],
        "shared": len(shared),
        "columns": {
            name: _codes_difference(one, other, name, [[side[key] for key in shared] for side in rows])
            for name in _names(one[0], other[0])
            if _mean_the_same(one[0], other[0], name) and all(rows)
        },
    }


def _codes_difference(one: Part, other: Part, name: str, shared: list[list[int]]) -> dict[str, Any]:
    """How far a column's codes are apart, by record and by frequency.

    Args:
        one: split of the first.
        other: split of the second.
        name: the column, which both have.
        shared: rows of the records that both have.
    """
    parts = (one, other)
    grids = [(about.height, about.width) for about in (tokens.meta.column(name) for tokens, _ in parts)]
    same = None
    if shared[0] and grids[0] == grids[1]:
        mine, theirs = (
            tokens.tokens(split, column=name)[rows] for (tokens, split), rows in zip(parts, shared, strict=True)
        )
        same = (mine == theirs).double().mean().item()
    counts = [tokens.code_histogram(split, name) for tokens, split in parts]
    each = per_code_divergence(*counts)
    worst = [code for code in each.argsort(descending=True, stable=True)[:MOST_CODES].tolist() if each[code] > 0]
    shares = [side.double() / side.sum() for side in counts]
    return {
        "same_tokens": same,
        "divergence": divergence(one, other, name),
        "codes": [{"code": code, "shares": [side[code].item() for side in shares]} for code in worst],
    }


def _rows(tokens: TokenDataset, split: str) -> dict[str, int]:
    """Row of each record by key."""
    return {key: row for row, key in enumerate(tokens.keys(split))} if tokens.num_records(split) else {}


def _num_tokens(about: TokenColumn) -> int:
    return about.height * about.width

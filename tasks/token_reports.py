"""What can be said of a token dataset without an image: contents, use of the codebook, and how two of them differ.

Everything is plain values, ready for JSON.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from datasets.store import Artifact
from datasets.tokens import TokenDataset
from vqgan_core.evaluation.divergence import divergence_floor, jensen_shannon, per_code_divergence
from vqgan_core.quantizers import CodeUsage

MOST_CODES = 8
CHUNK = 8192


def contents(artifact: Artifact) -> dict[str, Any]:
    """What a token dataset holds, and how its codes are used: in each split, over all views."""
    tokens = TokenDataset.open(artifact)
    meta = tokens.meta
    histograms = {split: tokens.code_histogram(split) for split in tokens.splits}
    return {
        "fingerprint": artifact.manifest.fingerprint,
        "digest": artifact.manifest.digest,
        "grid": [meta.height, meta.width],
        "factor": meta.factor,
        "codebook_size": meta.codebook_size,
        "tokenizer": {"fingerprint": meta.tokenizer_fingerprint, "digest": meta.tokenizer_digest},
        "preprocessing": dict(meta.preprocessing),
        "class_names": list(meta.class_names),
        "views": list(tokens.views),
        "columns": [_column(tokens, name) for name in meta.all_columns],
        "files": sum(entry.path.endswith(".parquet") for entry in artifact.manifest.files),
        "bytes": sum(entry.bytes for entry in artifact.manifest.files),
        "splits": {split: _split(tokens, split, counts) for split, counts in histograms.items()},
        "train_val_divergence": _between(tokens, "train", tokens, "val"),
    }


def difference(first: Artifact, second: Artifact) -> dict[str, Any]:
    """How two token datasets differ: meaning, records, and frequencies of codes where they mean the same."""
    one, other = TokenDataset.open(first), TokenDataset.open(second)
    return {
        "fingerprints": [first.manifest.fingerprint, second.manifest.fingerprint],
        "same_tokenizer": one.meta.tokenizer_digest == other.meta.tokenizer_digest,
        "meta": {
            name: [_plain(getattr(one.meta, name)), _plain(getattr(other.meta, name))]
            for name in type(one.meta).model_fields
            if getattr(one.meta, name) != getattr(other.meta, name)
        },
        "splits": {split: _split_difference(one, other, split) for split in sorted({*one.splits, *other.splits})},
    }


def rows(artifact: Artifact, split: str, count: int) -> dict[str, Any]:
    """The first records of a split, in key order and the first view.

    Raises:
        TokenError: there is no such split.
    """
    tokens = TokenDataset.open(artifact)
    meta, keys = tokens.meta, tokens.keys(split)
    batch: dict[str, Tensor] = next(islice(tokens.sequential(split, count), 1))
    grids = batch["tokens"].reshape(-1, meta.height, meta.width).tolist()
    labels = [_label(tokens, number) for number in batch["labels"].tolist()]
    listed = [
        {"key": key, "label": label, "indices": grid} for key, label, grid in zip(keys, labels, grids, strict=False)
    ]
    return {"split": split, "view": tokens.views[0], "num_records": len(keys), "rows": listed}


def _column(tokens: TokenDataset, name: str) -> dict[str, Any]:
    """What a column is, and how its codebook is used in all splits."""
    column, usage = tokens.meta.column(name), CodeUsage(tokens.code_histogram(column=name))
    return {
        "name": name,
        "grid": [column.height, column.width],
        "codebook_size": column.codebook_size,
        "tokenizer": {"fingerprint": column.tokenizer_fingerprint, "digest": column.tokenizer_digest},
        "kind": column.preprocessing.get("kind"),
        "usage": usage.usage,
        "perplexity": usage.perplexity,
    }


def _split(tokens: TokenDataset, split: str, counts: Tensor) -> dict[str, Any]:
    usage = CodeUsage(counts)
    labels = torch.bincount(tokens.labels(split).clamp(min=-1) + 1, minlength=len(tokens.meta.class_names) + 1)
    return {
        "records": tokens.num_records(split),
        "tokens": int(counts.sum()),
        "usage": usage.usage,
        "num_dead": usage.num_dead,
        "perplexity": usage.perplexity,
        "records_of_class": labels[1:].tolist(),
        "histogram": counts.tolist(),
    }


def _between(one: TokenDataset, split: str, other: TokenDataset, other_split: str) -> dict[str, float] | None:
    """Divergence of two splits' codes, and its floor; None where one has no record, or codes mean something else."""
    if not one.num_records(split) or not other.num_records(other_split):
        return None
    if (one.meta.tokenizer_digest, one.meta.codebook_size) != (other.meta.tokenizer_digest, other.meta.codebook_size):
        return None
    counts = one.code_histogram(split), other.code_histogram(other_split)
    found = {"bits": jensen_shannon(*counts)}
    if one.meta.height * one.meta.width == other.meta.height * other.meta.width:
        batches = chain(one.sequential(split, CHUNK), other.sequential(other_split, CHUNK))
        sizes = one.num_records(split), other.num_records(other_split)
        found["floor_bits"] = divergence_floor((batch["tokens"] for batch in batches), sizes, one.meta.codebook_size)
    return found


def _split_difference(one: TokenDataset, other: TokenDataset, split: str) -> dict[str, Any]:
    keys = [_keys(tokens, split) for tokens in (one, other)]
    shared = keys[0].keys() & keys[1].keys()
    found: dict[str, Any] = {
        "records": [len(side) for side in keys],
        "shared": len(shared),
        "divergence": _between(one, split, other, split),
        "same_tokens": None,
        "codes": [],
    }
    if found["divergence"] is None:
        return found
    if shared and (one.meta.height, one.meta.width) == (other.meta.height, other.meta.width):
        mine, theirs = (
            tokens.tokens(split)[[side[key] for key in sorted(shared)]]
            for tokens, side in zip((one, other), keys, strict=True)
        )
        found["same_tokens"] = (mine == theirs).double().mean().item()
    counts = [tokens.code_histogram(split) for tokens in (one, other)]
    worst = per_code_divergence(*counts).argsort(descending=True, stable=True)[:MOST_CODES].tolist()
    shares = [side.double() / side.sum() for side in counts]
    found["codes"] = [{"code": code, "shares": [side[code].item() for side in shares]} for code in worst]
    return found


def _keys(tokens: TokenDataset, split: str) -> dict[str, int]:
    return {key: row for row, key in enumerate(tokens.keys(split))} if tokens.num_records(split) else {}


def _label(tokens: TokenDataset, number: int) -> str | None:
    return None if number < 0 else tokens.meta.class_names[number]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""What can be said of a token dataset without an image: contents, use of each column's codebook, the first records.

Everything is plain values, ready for JSON. How two of them differ is in token_difference.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor

from datasets.store import Artifact
from datasets.token_file import TokenColumn
from datasets.tokens import TokenDataset
from tasks.token_difference import divergence
from vqgan_core.config.tokens import TARGET
from vqgan_core.quantizers import CodeUsage


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
        "train_val_divergence": divergence((tokens, "train"), (tokens, "val"), TARGET),
    }


def rows(artifact: Artifact, split: str, count: int) -> dict[str, Any]:
    """The first records of a split, in key order and the first view.

    Raises:
        TokenError: there is no such split.
    """
    tokens = TokenDataset.open(artifact)
    meta, keys = tokens.meta, tokens.keys(split)
    names = [name for name in meta.all_columns if name != TARGET]
    batch: dict[str, Tensor] = next(islice(tokens.sequential(split, count, columns=names), 1))
    grids = {name: _grids(batch["tokens" if name == TARGET else name], meta.column(name)) for name in meta.all_columns}
    labels = [_label(tokens, number) for number in batch["labels"].tolist()]
    listed = [
        {"key": key, "label": label, "columns": {name: grid[row] for name, grid in grids.items()}}
        for row, (key, label) in enumerate(zip(keys, labels, strict=False))
    ]
    return {"split": split, "view": tokens.views[0], "num_records": len(keys), "rows": listed}


def _grids(tokens: Tensor, about: TokenColumn) -> list[list[list[int]]]:
    found: list[list[list[int]]] = tokens.reshape(-1, about.height, about.width).tolist()
    return found


def _column(tokens: TokenDataset, name: str) -> dict[str, Any]:
    """What a column is, and how its codebook is used in all splits."""
    column, counts = tokens.meta.column(name), tokens.code_histogram(column=name)
    usage = CodeUsage(counts)
    return {
        "name": name,
        "grid": [column.height, column.width],
        "codebook_size": column.codebook_size,
        "tokenizer": {"fingerprint": column.tokenizer_fingerprint, "digest": column.tokenizer_digest},
        "kind": column.preprocessing.get("kind"),
        "usage": usage.usage,
        "perplexity": usage.perplexity,
        "histogram": counts.tolist(),
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


def _label(tokens: TokenDataset, number: int) -> str | None:
    return None if number < 0 else tokens.meta.class_names[number]

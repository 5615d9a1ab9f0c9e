"""Stage import_tokens: tokens that were made elsewhere → an ordinary token dataset, under its own fingerprint.

It is known by what it holds, not by where it is. Tokens of another store keep their origin in the lineage. The unit
that survives a kill is one file.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch

from datasets.config import ImportTokensConfig, ImportTokensExecution, StoreConfig
from datasets.files import MemoryFiles
from datasets.foreign_tokens import ForeignFile, ForeignTokens, list_parquet
from datasets.store import ArtifactMissing, InputRef, Part, Store
from datasets.tokens import TokenDataset
from tasks.report.wording import percent
from tasks.stage import Product, Request, Stage, Work, input_of
from vqgan_core.config import ConfigError, canonical_json, sha256_json
from vqgan_core.quantizers import CodeUsage

STAGE = Stage("import_tokens", "1", "tokens")
_ARTIFACT = re.compile(r"(?P<root>.+)/tokens/(?P<fingerprint>[0-9a-f]{64})/?")


def request(config: ImportTokensConfig) -> Request:
    """Ask for foreign tokens as a token dataset of this store.

    Raises:
        ConfigError: no URL.
        SourceError: they cannot be reached.
        TokenError: there is no Parquet file.
    """
    if not config.execution.url:
        raise ConfigError(
            "import_tokens.execution.url is empty: give the URL of a Parquet file, or of a folder with some"
        )
    files, origin = _listed(config.execution)
    label = f"import tokens · {len(files)} files"
    return Request(STAGE, config.recipe(), (origin,), partial(_build, config, files), label)


def wanted(config: ImportTokensConfig, tokens: str | None, store: Store) -> ImportTokensConfig | None:
    """What has to be imported before a prior can read `tokens`; None: nothing.

    Args:
        config: URL and what the files do not say.
        tokens: fingerprint of a token dataset, its URI in this store, or the URL of tokens elsewhere; None: the
            config's own URL, if it has one.
        store: where the prior will read.
    """
    if not tokens:
        return config if config.execution.url else None
    is_fingerprint = "/" not in tokens and not tokens.endswith(".parquet")
    if is_fingerprint or tokens.startswith(f"{store.url}/tokens/"):
        return None
    return config.at(tokens)


def _listed(where: ImportTokensExecution) -> tuple[list[ForeignFile], InputRef]:
    """The files, and what the artifact is made from: an artifact of another store, or a source known by its files."""
    elsewhere = _ARTIFACT.fullmatch(where.url)
    if elsewhere is None:
        files = list_parquet(where.url, where.endpoint_url)
        digest = sha256_json([[file.path, file.checksum] for file in files])
        return files, InputRef(kind="source", fingerprint=digest, digest=digest)
    store = Store.open(StoreConfig(url=elsewhere["root"], endpoint_url=where.endpoint_url))
    artifact = store.lookup("tokens", elsewhere["fingerprint"])
    if artifact is None:
        raise ArtifactMissing(f"there is no whole token dataset at {where.url}: `tessera tokens ls` lists a store's")
    entries = [entry for entry in artifact.manifest.files if entry.path.endswith(".parquet")]
    files = [
        ForeignFile(entry.path.rsplit("/", 1)[-1], entry.sha256, partial(artifact.read, entry.path))
        for entry in entries
    ]
    return files, input_of(artifact)


def _build(config: ImportTokensConfig, files: list[ForeignFile], work: Work) -> Product:
    tokens = ForeignTokens(files, config)
    parts: list[Part] = []
    with work.reporter.bar("import tokens", len(files), "files") as bar:
        for number, file in enumerate(files):
            key = tokens.key(file, STAGE.version)
            part = work.store.part("tokens", key)
            if part is None:
                work.lease.check()
                part = work.store.put_part("tokens", key, tokens.convert(number))
            parts.append(part)
            bar.update(number + 1)
    dataset = _checked(work.store, parts)
    counts = {split: dataset.code_histogram(split).tolist() for split in dataset.splits}
    return Product(files={"codes.json": canonical_json(counts)}, parts=parts, summary=_summary(dataset))


def _checked(store: Store, parts: list[Part]) -> TokenDataset:
    """All of it as its readers will see it: a record that comes twice, or files that differ, are told now."""
    names = {entry.path: (part, entry.path.rsplit("/", 1)[-1]) for part in parts for entry in part.files}
    data = {path: store.read_part(part, name) for path, (part, name) in names.items()}
    return TokenDataset(MemoryFiles(data), data)


def _summary(dataset: TokenDataset) -> dict[str, Any]:
    meta, usage = dataset.meta, CodeUsage(torch.as_tensor(dataset.code_histogram()))
    records = sum(dataset.splits.values())
    return {
        "headline": f"{records:,} images × {meta.height * meta.width} tokens, usage {percent(usage.usage)}, imported",
        "records": dataset.splits,
        "views": list(dataset.views),
        "grid": [meta.height, meta.width],
        "codebook_size": meta.codebook_size,
        "usage": usage.usage,
        "perplexity": usage.perplexity,
        "num_dead": usage.num_dead,
    }

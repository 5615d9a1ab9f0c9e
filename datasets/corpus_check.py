"""Whether a published corpus holds what it says: more than hashes of files, which `tessera verify` compares.

Every shard is read once as a tar, by a reader that notices every damage; every record of the index has to be in it with
the bytes that it says, its JSON has to be that of the record, and the record has to be in the split that its key names.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from datasets.corpus import Corpus
from datasets.errors import CorpusError
from datasets.images import decode
from datasets.ingest.build import split_of
from datasets.ingest.rows import read_table
from datasets.ingest.tar import TarDamaged, read_tar
from datasets.store import Artifact, StoreError

__all__ = ["check_corpus"]


def check_corpus(artifact: Artifact, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """What is wrong with a corpus, a line each; nothing, if all is well.

    Args:
        artifact: the corpus.
        progress: told how many shards of how many are done.
    """
    try:
        corpus = Corpus.open(artifact)
    except (CorpusError, StoreError) as error:
        return [str(error)]
    problems = list(_account(artifact, corpus))
    by_shard: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for table in corpus.tables().values():
        for row in table.to_pylist():
            by_shard[row["shard"]].append(row)
    fraction = artifact.manifest.recipe["validation_fraction"]
    for done, (shard, rows) in enumerate(sorted(by_shard.items()), start=1):
        problems += _shard(artifact, shard, rows, corpus.channels)
        for row in rows:
            if split_of(row["key"], fraction) != row["split"]:
                problems.append(f"record {row['key']} is in {row['split']}, by its key it belongs elsewhere")
        if progress is not None:
            progress(done, len(by_shard))
    return problems


def _account(artifact: Artifact, corpus: Corpus) -> Iterator[str]:
    """Every listed file is a record or a row of the quarantine."""
    summary = artifact.manifest.summary
    kept, left_out = sum(corpus.splits.values()), read_table(artifact.read("quarantine.parquet")).num_rows
    if kept + left_out != summary["listed"]:
        yield f"{summary['listed']} files were listed, {kept} records and {left_out} rows of the quarantine are there"


def _shard(artifact: Artifact, shard: str, rows: list[dict[str, Any]], channels: int) -> Iterator[str]:
    try:
        data = artifact.read(shard)
        members = {member.offset: (member.name, content) for member, content in read_tar(io.BytesIO(data))}
    except (StoreError, TarDamaged) as error:
        yield f"{shard}: {error}"
        return
    abouts = {name: content for name, content in members.values() if name.endswith(".json")}
    for row in rows:
        name, content = members.get(row["offset"], ("", b""))
        if not name.startswith(row["key"]) or hashlib.sha256(content).hexdigest() != row["sha256"]:
            yield f"{shard}: at byte {row['offset']} is not the image of record {row['key']}"
            continue
        about = json.loads(abouts.get(f"{row['key']}.json", b"{}"))
        if about.get("source_sha256") != row["source_sha256"]:
            yield f"{shard}: {row['key']}.json is not that of the record"
        try:
            height, width = decode(content, channels).shape[:2]
        except CorpusError as error:
            yield f"{shard}: record {row['key']}: {error}"
            continue
        if (height, width) != (row["height"], row["width"]):
            yield f"{shard}: record {row['key']} has {width}×{height} pixels, the index says otherwise"

"""Compaction: a corpus of many generations as one, without what is gone, out of its own shards.

What is asked for is the corpus that the shard stage would make anew of the same listing, so it has that one's
fingerprint and, byte for byte, its content; only the source is not read for it.
"""

from __future__ import annotations

from functools import partial

from datasets.config import ShardConfig
from datasets.errors import CorpusError
from datasets.ingest.build import UnitResult, pack_unit
from datasets.ingest.compaction import StoredCorpus
from datasets.ingest.finish import finish
from datasets.ingest.plan import Unit, plan_units
from datasets.store import Artifact, Part
from tasks import shard
from tasks.generations import SOURCE, parent_of
from tasks.stage import Product, Request, Work


def request(corpus: Artifact) -> Request:
    """Ask for the corpus that a fresh ingest of the same listing would be.

    Raises:
        CorpusError: it is the first of its line, or of another version of the stage.
    """
    manifest = corpus.manifest
    if parent_of(manifest) is None:
        raise CorpusError(f"corpus {manifest.fingerprint[:12]} has no parent: there is nothing to compact")
    if (manifest.stage, manifest.stage_version) != (shard.STAGE.name, shard.STAGE.version):
        raise CorpusError(
            f"corpus {manifest.fingerprint[:12]} was made by {manifest.stage} v{manifest.stage_version}, this is "
            f"v{shard.STAGE.version}: shard the source anew with shard.parent=null"
        )
    origin = next(ref for ref in manifest.inputs if ref.kind == SOURCE)
    label = f"compact corpus {manifest.fingerprint[:8]}"
    return Request(shard.STAGE, manifest.recipe, (origin,), partial(_build, corpus), label)


def _build(corpus: Artifact, work: Work) -> Product:
    manifest = corpus.manifest
    values = {**manifest.recipe, "source": manifest.summary["source"]}
    config = ShardConfig.validated(values, origin=f"the recipe of corpus {manifest.fingerprint[:12]}")
    stored = StoredCorpus(corpus)
    parts: dict[int, Part] = {}
    done = 0
    with work.reporter.bar("compact", len(stored.listing), "images") as bar:
        for unit in plan_units(stored.listing, config):
            work.lease.check()
            part = work.store.part("corpus", unit.key)
            if part is None:
                result = pack_unit(unit, stored.outcomes(unit), config)
                part = work.store.put_part("corpus", unit.key, result.to_files(), shard.counts_of(result))
            parts[unit.index] = part
            done += len(unit.entries)
            bar.update(done)
    results = (
        UnitResult.from_files(Unit(index, part.key, ()), partial(work.store.read_part, part))
        for index, part in parts.items()
    )
    locations = {entry.path.rpartition("/")[2]: entry.path for part in parts.values() for entry in part.files}
    finished = finish(stored.listing, results, config, locations)
    summary = {"headline": shard.headline_of(finished.summary), "source": values["source"], **finished.summary}
    return Product(files=finished.files, parts=list(parts.values()), summary=summary)

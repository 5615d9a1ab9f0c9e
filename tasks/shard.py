"""Stage shard: source → corpus (WebDataset shards, an index, a quarantine, the classes).

The unit that survives a kill is one unit of the plan: its shards and tables are a part of the store, named by what they
were made from, so a later run, or a grown corpus, finds them there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from datasets.config import ShardConfig
from datasets.ingest.build import UnitResult, build_unit
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.finish import finish
from datasets.ingest.plan import Unit, plan_units
from datasets.sources import Listing, Source, open_source
from datasets.store import InputRef, Part, Store, Workspace
from tasks.progress import Quiet, Reporter
from tasks.stage import Headway, Product, Request, Stage, Work

STAGE = Stage("shard", "1", "corpus")


def request(config: ShardConfig, listing: Listing | None = None, reporter: Reporter | None = None) -> Request:
    """Ask for a corpus of what the source holds now. The source is known by its listing, not by where it is.

    Args:
        config: source and recipe.
        listing: of the source, if it is at hand; None: it is made.
        reporter: told of the listing's progress.

    Raises:
        SourceError: the source cannot be read, or has no image.
    """
    source = open_source(config.source, config.pairs)
    if listing is None:
        with (reporter or Quiet()).bar("list source", None, "images") as bar:
            listing = source.list(lambda done, _total: bar.update(done))
    recipe = {name: value for name, value in config.recipe().items() if name != "source"}
    origin = InputRef(kind="source", fingerprint=listing.digest, digest=listing.digest)
    label = f"shard · {config.source.kind} · {len(listing)} images"
    build, headway = partial(_build, config, source, listing), partial(_headway, config, listing)
    return Request(STAGE, recipe, (origin,), build, label, headway)


def _build(config: ShardConfig, source: Source, listing: Listing, work: Work) -> Product:
    parts: list[Part] = []
    results: list[UnitResult] = []
    with work.reporter.bar("shard", len(listing), "images") as bar, _Decoders(config) as decoders:
        done = 0
        for unit in plan_units(listing, config):
            part = work.store.part("corpus", unit.key)
            if part is None:
                work.lease.check()
                tick = partial(_advance, bar.update, done)
                result = build_unit(unit, source, config, decoders.pool(), tick)
                part = work.store.put_part("corpus", unit.key, result.to_files(), _counts(result))
            parts.append(part)
            results.append(_tables_of(work.store, part, unit))
            done += len(unit.entries)
            bar.update(done)
    locations = {_name(entry.path): entry.path for part in parts for entry in part.files}
    finished = finish(listing, results, config, locations)
    summary = {
        "headline": _headline(finished.summary),
        "source": config.source.model_dump(mode="json"),
        **finished.summary,
    }
    return Product(files=finished.files, parts=parts, summary=summary)


def _headway(config: ShardConfig, listing: Listing, store: Store, _workspace: Workspace) -> Headway:
    there = (unit for unit in plan_units(listing, config) if store.part("corpus", unit.key) is not None)
    return Headway(sum(len(unit.entries) for unit in there), len(listing), "images")


class _Decoders:
    """Child processes that are started when the first unit needs them, and not at all where every unit is there."""

    def __init__(self, config: ShardConfig) -> None:
        self._config = config
        self._pool: DecodePool | None = None

    def __enter__(self) -> _Decoders:
        return self

    def pool(self) -> DecodePool:
        """The running pool."""
        if self._pool is None:
            self._pool = DecodePool(self._config.execution).__enter__()
        return self._pool

    def __exit__(self, *exc: Any) -> None:
        if self._pool is not None:
            self._pool.__exit__(*exc)


def _tables_of(store: Store, part: Part, unit: Unit) -> UnitResult:
    """A unit's records and quarantine from its part, whether this run made it or another."""
    return UnitResult.from_files(unit, partial(store.read_part, part))


def _advance(update: Callable[[int], None], before: int, done: int) -> None:
    update(before + done)


def _counts(result: UnitResult) -> dict[str, int]:
    return {"records": len(result.records), "quarantined": len(result.quarantined)}


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _headline(summary: dict[str, Any]) -> str:
    splits = summary["splits"]
    text = f"{splits['train']:,} train + {splits['val']:,} validation images, {summary['num_classes']} classes"
    left_out = summary["quarantined"] + summary["duplicates"]
    return text + (f", {left_out:,} left out" if left_out else "")

"""Stage shard: source → corpus (WebDataset shards, an index, a quarantine, the classes).

The unit that survives a kill is one unit of the plan: its shards and tables are a part of the store, named by what they
were made from, so a later run finds them there. A grown corpus refers to its parent's parts and adds units of what is
new; what is gone stays in its shard and leaves the index.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets.config import ShardConfig
from datasets.ingest.build import UnitResult, build_unit
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.finish import Parentage, finish
from datasets.ingest.growth import compare
from datasets.ingest.parent import Parent
from datasets.ingest.plan import Unit, plan_units
from datasets.sources import Listing, Source, open_source
from datasets.store import InputRef, Part, Store, Workspace
from tasks.fan_out import check_reachable, fan_out
from tasks.generations import SOURCE
from tasks.progress import Quiet, Reporter
from tasks.stage import Headway, Product, Request, Stage, Work
from vqgan_core.config import ConfigError

STAGE = Stage("shard", "1", "corpus")


def request(
    config: ShardConfig,
    listing: Listing | None = None,
    parent: InputRef | None = None,
    reporter: Reporter | None = None,
) -> Request:
    """Ask for a corpus of what the source holds now. The source is known by its listing, not by where it is.

    Args:
        config: source and recipe.
        listing: of the source, if it is at hand; None: it is made.
        parent: the corpus that it grows from, see `tasks.generations`; None: it is made anew.
        reporter: told of the listing's progress.

    Raises:
        SourceError: the source cannot be read, or has no image.
    """
    source = open_source(config.source, config.pairs)
    if listing is None:
        with (reporter or Quiet()).bar("list source", None, "images") as bar:
            listing = source.list(lambda done, _total: bar.update(done))
    recipe = {name: value for name, value in config.recipe().items() if name not in ("source", "parent")}
    origin = InputRef(kind=SOURCE, fingerprint=listing.digest, digest=listing.digest)
    inputs = (origin,) if parent is None else (origin, parent)
    label = f"shard · {config.source.kind} · {len(listing)} images"
    if parent is not None:
        label += f", grown from {parent.fingerprint[:8]}"
    build = partial(_build, config, source, listing, parent)
    return Request(STAGE, recipe, inputs, build, label, partial(_headway, config, listing, parent))


class _Ingest:
    """What there is to do: the units of the parent that stay, and the new ones."""

    def __init__(self, config: ShardConfig, listing: Listing, parent: InputRef | None, store: Store) -> None:
        self._config, self._listing, self._store = config, listing, store
        self.parent = None if parent is None else Parent(store.get(parent))
        self.growth = None if self.parent is None else compare(listing, self.parent.units())
        self.num_known = 0 if self.growth is None else self.growth.num_known

    def new_units(self) -> Iterator[Unit]:
        """Units that the parent does not have, one at a time."""
        if self.parent is None or self.growth is None:
            return plan_units(self._listing, self._config)
        return plan_units(self.growth.entries(), self._config, self.parent.next_index)

    def finish(self, parts: Mapping[int, Part]) -> Product:
        """The corpus of all units, given the new units' parts."""
        old = {} if self.parent is None else self.parent.parts
        everything = [*old.values(), *parts.values()]
        locations = {_name(entry.path): entry.path for part in everything for entry in part.files}
        results: Iterator[UnitResult] = (self._result(index, part) for index, part in parts.items())
        if self.parent is not None and self.growth is not None:
            results = itertools.chain(self.parent.results(self.growth), results)
        finished = finish(self._listing, results, self._config, locations, self._parentage())
        counts = finished.summary | ({} if self.growth is None else {"new": len(self.growth.new)})
        source = self._config.source.model_dump(mode="json")
        summary = {"headline": headline_of(counts), "source": source, **counts}
        return Product(files=finished.files, parts=everything, summary=summary)

    def _result(self, index: int, part: Part) -> UnitResult:
        """A unit's records and quarantine from its part, whether this run made it or another."""
        return UnitResult.from_files(Unit(index, part.key, ()), partial(self._store.read_part, part))

    def _parentage(self) -> Parentage | None:
        if self.parent is None or self.growth is None:
            return None
        return Parentage(
            class_names=self.parent.class_names,
            generations=self.parent.generations,
            first_unit=self.parent.next_index,
            tombstones=self.growth.tombstones,
        )


def _build(config: ShardConfig, source: Source, listing: Listing, parent: InputRef | None, work: Work) -> Product:
    check_reachable(config.execution.fan_out, work.store.url)
    ingest = _Ingest(config, listing, parent, work.store)
    with work.reporter.bar("shard", len(listing), "images") as bar, _Decoders(config) as decoders:
        tally = _Tally(bar.update, ingest.num_known)

        def missing() -> Iterator[Unit]:
            for unit in ingest.new_units():
                part = work.store.part("corpus", unit.key)
                if part is None:
                    work.lease.check()
                    yield unit
                else:
                    tally.add(unit, part)

        def open_here() -> _UnitMaker:
            return _UnitMaker(config, source, work.store, lambda: nullcontext(decoders.pool()), tally.tick)

        fanned_out = config.execution.fan_out.kind != "none"
        open_maker = partial(_open_maker, config, work.store) if fanned_out else open_here
        for unit, part in fan_out(config.execution.fan_out, open_maker, missing(), name=_unit_name):
            tally.add(unit, part)
    return ingest.finish(dict(sorted(tally.parts.items())))


class _Tally:
    """The parts that are there, and how many images of the listing are done."""

    def __init__(self, update: Callable[[int], None], done: int) -> None:
        self.parts: dict[int, Part] = {}
        self._update, self._done = update, done
        update(done)

    def add(self, unit: Unit, part: Part) -> None:
        """A unit is done."""
        self.parts[unit.index] = part
        self._done += len(unit.entries)
        self._update(self._done)

    def tick(self, done: int) -> None:
        """Of a unit that is not done yet, so many images are."""
        self._update(self._done + done)


@dataclass(frozen=True)
class _UnitMaker:
    """Makes the parts of units, in whichever process it is."""

    config: ShardConfig
    source: Source
    store: Store
    decoders: Callable[[], AbstractContextManager[DecodePool]]
    tick: Callable[[int], None] | None = None

    def __call__(self, unit: Unit) -> Part:
        """A unit's part."""
        with self.decoders() as pool:
            result = build_unit(unit, self.source, self.config, pool, self.tick)
        return self.store.put_part("corpus", unit.key, result.to_files(), counts_of(result))


def _open_maker(config: ShardConfig, store: Store) -> _UnitMaker:
    """In a worker: the source opened anew, and decoders for each unit."""
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "images are decoded in child processes, which the workers of this cluster may not have: start them with "
            "DASK_DISTRIBUTED__WORKER__DAEMON=False"
        )
    source = open_source(config.source, config.pairs)
    execution = config.execution.model_copy(update={"num_processes": config.execution.num_processes or 1})
    return _UnitMaker(config, source, store, partial(DecodePool, execution))


def _unit_name(unit: Unit) -> str:
    return f"shard · unit {unit.index}"


def _headway(
    config: ShardConfig, listing: Listing, parent: InputRef | None, store: Store, _workspace: Workspace
) -> Headway:
    ingest = _Ingest(config, listing, parent, store)
    there = (unit for unit in ingest.new_units() if store.part("corpus", unit.key) is not None)
    return Headway(ingest.num_known + sum(len(unit.entries) for unit in there), len(listing), "images")


class _Decoders(ExitStack):
    """Child processes that are started when the first unit needs them, and not at all where every unit is there."""

    def __init__(self, config: ShardConfig) -> None:
        super().__init__()
        self._config = config
        self._pool: DecodePool | None = None

    def pool(self) -> DecodePool:
        """The running pool."""
        if self._pool is None:
            self._pool = self.enter_context(DecodePool(self._config.execution))
        return self._pool


def counts_of(result: UnitResult) -> dict[str, int]:
    """What is said of a unit's part."""
    return {"records": len(result.records), "quarantined": len(result.quarantined)}


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def headline_of(summary: dict[str, Any]) -> str:
    """A corpus in one line."""
    splits = summary["splits"]
    text = f"{splits['train']:,} train + {splits['val']:,} validation images, {summary['num_classes']} classes"
    left_out = summary["quarantined"] + summary["duplicates"]
    text += f", {left_out:,} left out" if left_out else ""
    if "generation" in summary:
        text += f"; generation {summary['generation']}: {summary['new']:,} new, {summary['tombstones']:,} gone"
    return text

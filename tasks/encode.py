"""Stage encode: corpus + tokenizers → token dataset, one Parquet a shard and view.

Beside the image's own tokens there can be columns of condition tokens (`tasks.conditions`), most of them from another
tokenizer. A part is named by what it was made from: all tokenizers' digests, the shard's sha256 and the encode recipe.
So a restart does only what is missing, and the token dataset of a grown corpus refers to the old parts. Of a
shard that lost images the rows that are left are cut out of its old token file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.corpus import Corpus, Record
from datasets.shard_cache import with_shard_cache
from datasets.store import Artifact, InputRef, Part, Store, Workspace
from datasets.token_file import TokenMeta, TokenRows, read_token_file, token_parquet, without_others
from datasets.views import VIEWS
from tasks.conditions import Shown, conditions_of, planes_and
from tasks.drift import Drift, judge, measure, trained_on
from tasks.fan_out import check_reachable, fan_out
from tasks.levels import upper_levels
from tasks.models import load_tokenizer, tokenizer_config
from tasks.plane import require_plane
from tasks.stage import Headway, Product, Request, Stage, Work, input_of
from vqgan_core.config import EncodeConfig, ImagePlane, TokenizerConfig, canonical_json, sha256_json
from vqgan_core.config.tokens import TARGET
from vqgan_core.quantizers import CodeUsage
from vqgan_core.training import autocast, prepare, resolve_device
from vqgan_core.training.images import images_of

STAGE = Stage("encode", "1", "tokens")
SPLITS = ("train", "val")


def request(
    config: EncodeConfig, corpus: Artifact, tokenizer: Artifact, others: Mapping[str, Artifact] | None = None
) -> Request:
    """Ask for a corpus' tokens.

    Args:
        config: views and conditions.
        corpus: the images.
        tokenizer: theirs.
        others: the tokenizer of each condition that has one of its own.

    Raises:
        ValueError: sizes that do not fit together.
        SourceError: annotations that cannot be read.
    """
    others = {name: (others or {})[name] for name in sorted(others or {}) if name in config.conditions}
    inputs = tuple(map(input_of, (corpus, tokenizer, *others.values())))
    label = " · ".join(("encode", ", ".join(config.views), *sorted(config.conditions)))
    recipe = config.recipe()
    if config.conditions:
        columns = conditions_of(config, Corpus.open(corpus), tokenizer, others)
        recipe["conditions"] = {each.column.name: each.column.preprocessing for each in columns}
    given = (config, corpus, tokenizer, others)
    return Request(STAGE, recipe, inputs, partial(_build, *given), label, partial(_headway, *given))


@dataclass(frozen=True)
class _Unit:
    """One shard seen in one view: what becomes one Parquet file."""

    split: str
    shard: str
    view: str

    @property
    def name(self) -> str:
        """Name of the token file: the shard's own, and the view."""
        stem = self.shard.rsplit("/", 1)[-1].removesuffix(".tar")
        return f"{stem}-{self.view}.parquet"


class _Units:
    """Which units there are, and what each is made from; no weights are read."""

    def __init__(
        self, config: EncodeConfig, corpus: Artifact, tokenizer: Artifact, others: Mapping[str, Artifact]
    ) -> None:
        self.config = config
        self.corpus = Corpus.open(with_shard_cache(corpus, config.execution.shard_cache_bytes))
        model = tokenizer_config(tokenizer)
        require_plane(model, self.corpus)
        self.model = model
        self.conditions = conditions_of(config, self.corpus, tokenizer, others)
        meta = _meta(config, model, self.corpus, tokenizer)
        columns = (*upper_levels(meta, model), *(condition.column for condition in self.conditions))
        self.meta = meta.model_copy(update={"columns": columns})
        self._corpus_artifact = corpus

    def units(self) -> list[_Unit]:
        """All units, in the corpus' order."""
        splits = [split for split in SPLITS if self.corpus.num_records(split)]
        return [
            _Unit(split, shard, view)
            for split in splits
            for shard in self.corpus.shards(split)
            for view in self.config.views
        ]

    def meta_of(self, unit: _Unit) -> TokenMeta:
        """What the unit's rows mean, with the classes of its own generation: later ones do not concern it."""
        return self.meta.model_copy(update={"class_names": self.corpus.class_names_of(unit.shard)})

    def keys_of(self, unit: _Unit) -> list[str]:
        """The unit's records. A shard can hold others, too: duplicates, and what is gone from a grown corpus."""
        return [record.key for record in self.corpus.shard_records(unit.split, unit.shard)]

    def part_key(self, unit: _Unit, keys: list[str]) -> str:
        """Everything that the rows of these records depend on."""
        shard = self._corpus_artifact.entry(unit.shard).sha256
        return sha256_json([STAGE.version, self.meta_of(unit).recipe(), shard, unit.split, unit.view, keys])

    def part(self, unit: _Unit, store: Store) -> Part | None:
        """The unit's part, if it is there."""
        return store.part("tokens", self.part_key(unit, self.keys_of(unit)))


class _Encoder:
    """A tokenizer over a corpus: makes units."""

    def __init__(self, plan: _Units, tokenizer: Artifact) -> None:
        self.plan = plan
        self.device = resolve_device(plan.config.execution.device)
        prepare(self.device, precision=plan.config.precision, num_threads=plan.config.execution.num_threads)
        self.tokenizer = load_tokenizer(tokenizer, self.device)

    def make_part(self, unit: _Unit, store: Store) -> Part:
        """The unit's part: encoded, or cut out of an earlier corpus' token file of the same shard."""
        keys = self.plan.keys_of(unit)
        data = self._cut_out(unit, keys, store) or self.encode(unit)
        return store.put_part("tokens", self.plan.part_key(unit, keys), {unit.name: data})

    def _cut_out(self, unit: _Unit, keys: list[str], store: Store) -> bytes | None:
        """Where images are gone from a shard that was encoded whole, what is left of its rows."""
        stored = self.plan.corpus.stored_keys(unit.shard)
        part = None if stored == keys else store.part("tokens", self.plan.part_key(unit, stored))
        if part is None:
            return None
        return without_others(store.read_part(part, unit.name), unit.name, set(keys))

    @torch.no_grad()
    def encode(self, unit: _Unit) -> bytes:
        """The unit's token file."""
        records = self.plan.corpus.shard_records(unit.split, unit.shard)
        batches = list(self._tokens(unit, records))
        tokens = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        rows = TokenRows(
            split=unit.split,
            view=unit.view,
            keys=[record.key for record in records],
            labels=[record.label for record in records],
            source_sha256=[record.source_sha256 for record in records],
            indices=tokens.pop(TARGET),
            columns=tokens,
        )
        return token_parquet(self.plan.meta_of(unit), rows)

    def _tokens(self, unit: _Unit, records: Sequence[Record]) -> Iterator[dict[str, NDArray[np.int64]]]:
        """Every column's tokens, batch by batch."""
        plan, view = self.plan, VIEWS[unit.view]
        batch_size = plan.config.execution.batch_size
        batches = plan.corpus.sequential(
            unit.split, batch_size, shard=unit.shard, size_px=plan.model.window_px,
            planes=planes_and(plan.model, plan.conditions), view=view,
        )  # fmt: skip
        size = (plan.model.window_px, plan.model.window_px)
        for start, batch in zip(range(0, len(records), batch_size), batches, strict=True):
            seen = records[start : start + batch_size]
            windows = [view.window((record.height, record.width), size) for record in seen]
            shown = Shown(batch, seen, windows, self.device)
            own = {plan.model.batch_name: batch[plan.model.batch_name].to(self.device)}
            with autocast(self.device, plan.config.precision):
                grids = self.tokenizer.encode_levels(images_of(own, plan.model))
            levels = {name: grid.flatten(1).cpu().numpy() for name, grid in grids.items()}
            yield levels | {each.column.name: each.tokens(shown) for each in plan.conditions}


def _build(
    config: EncodeConfig, corpus: Artifact, tokenizer: Artifact, others: Mapping[str, Artifact], work: Work
) -> Product:
    check_reachable(config.execution.fan_out, work.store.url)
    plan = _Units(config, corpus, tokenizer, others)

    def open_here() -> _Make:
        return partial(_make_part, _Encoder(plan, tokenizer), work.store)

    refs = [input_of(corpus), input_of(tokenizer)]
    open_there = partial(_open_maker, config, work.store, refs, {name: input_of(others[name]) for name in others})
    parts, device = _parts(plan, open_here if config.execution.fan_out.kind == "none" else open_there, work)
    known = trained_on(tokenizer, work.store)
    reference, *of_splits = (np.zeros(plan.meta.codebook_size, np.int64) for _ in ("known", *SPLITS))
    histograms = dict(zip(SPLITS, of_splits, strict=True))
    for unit, part in parts.items():
        counts = _histogram(work, part, plan.meta)
        histograms[unit.split] += counts
        reference += counts * (unit.shard in known)
    new = sum(of_splits) - reference
    drift = measure(reference, new, request(config, corpus, tokenizer, others), tokenizer, work.store)
    if warning := judge(drift, config.execution):
        work.reporter.say(f"encode: {warning}")
    files = {"codes.json": canonical_json({s: counts.tolist() for s, counts in histograms.items() if counts.any()})}
    summary = _summary(plan, histograms, drift)
    return Product(files=files, parts=list(parts.values()), summary=summary, device=device)


_Make = Callable[[_Unit], tuple[Part, str]]


def _parts(plan: _Units, open_maker: Callable[[], _Make], work: Work) -> tuple[dict[_Unit, Part], str]:
    """Every unit's part in the corpus' order, and the device on which those were made that were not there."""
    units = plan.units()
    parts: dict[_Unit, Part] = {}
    devices = set()
    encoded, started = 0, time.monotonic()
    with work.reporter.bar("encode", len(units), "shards") as bar:

        def missing() -> Iterator[_Unit]:
            for unit in units:
                part = plan.part(unit, work.store)
                if part is None:
                    work.lease.check()
                    yield unit
                else:
                    parts[unit] = part
                    bar.update(len(parts))

        for unit, (part, device) in fan_out(plan.config.execution.fan_out, open_maker, missing(), name=_unit_name):
            parts[unit] = part
            devices.add(device)
            encoded += len(plan.keys_of(unit))
            bar.update(len(parts), {"images/s": encoded / (time.monotonic() - started)})
    return {unit: parts[unit] for unit in units}, max(devices, default="cpu")


def _open_maker(config: EncodeConfig, store: Store, refs: Sequence[InputRef], others: Mapping[str, InputRef]) -> _Make:
    """In a worker: what encodes units there."""
    corpus, tokenizer = map(store.get, refs)
    plan = _Units(config, corpus, tokenizer, {name: store.get(ref) for name, ref in others.items()})
    return partial(_make_part, _Encoder(plan, tokenizer), store)


def _make_part(encoder: _Encoder, store: Store, unit: _Unit) -> tuple[Part, str]:
    """A unit's part, and the device on which it was made."""
    return encoder.make_part(unit, store), str(encoder.device)


def _unit_name(unit: _Unit) -> str:
    return f"encode · {unit.name.removesuffix('.parquet')}"


def _headway(
    config: EncodeConfig,
    corpus: Artifact,
    tokenizer: Artifact,
    others: Mapping[str, Artifact],
    store: Store,
    _workspace: Workspace,
) -> Headway:
    units = _Units(config, corpus, tokenizer, others)
    wanted = units.units()
    return Headway(sum(units.part(unit, store) is not None for unit in wanted), len(wanted), "token files")


def _meta(config: EncodeConfig, model: TokenizerConfig, corpus: Corpus, artifact: Artifact) -> TokenMeta:
    size_px = model.autoencoder.resolution_px
    height, width = model.grid(size_px, size_px)
    plane = {} if model.plane == ImagePlane() else {"plane": model.plane.recipe()}
    return TokenMeta(
        tokenizer_fingerprint=artifact.manifest.fingerprint,
        tokenizer_digest=artifact.manifest.digest,
        codebook_size=model.codebook_size,
        factor=model.autoencoder.downsampling_factor,
        height=height,
        width=width,
        class_names=corpus.class_names,
        preprocessing={
            "size_px": size_px, "channels": model.autoencoder.image_channels, "precision": config.precision, **plane
        },
    )  # fmt: skip


def _histogram(work: Work, part: Part, meta: TokenMeta) -> NDArray[np.int64]:
    """How often each code occurs in a part."""
    entry = part.files[0]
    file = read_token_file(work.store.read_part(part, entry.path.rsplit("/", 1)[-1]), entry.path)
    return np.bincount(file.indices.reshape(-1), minlength=meta.codebook_size)


def _summary(plan: _Units, histograms: dict[str, NDArray[np.int64]], drift: Drift | None) -> dict[str, Any]:
    meta = plan.meta
    usage = CodeUsage(torch.from_numpy(sum(histograms.values(), np.zeros(meta.codebook_size, np.int64))))
    records = sum(plan.corpus.splits.values())
    headline = f"{records:,} images × {meta.height * meta.width} tokens, usage {usage.usage:.0%}"
    if meta.columns:
        headline += ", told " + ", ".join(f"{column.name} {column.height}×{column.width}" for column in meta.columns)
    return {
        "headline": headline,
        "records": plan.corpus.splits,
        "views": list(plan.config.views),
        "grid": [meta.height, meta.width],
        "codebook_size": meta.codebook_size,
        "usage": usage.usage,
        "perplexity": usage.perplexity,
        "num_dead": usage.num_dead,
        "drift": None if drift is None else drift.to_json(),
    }

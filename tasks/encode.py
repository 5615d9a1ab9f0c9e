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
from datasets.images import Window
from datasets.shard_cache import with_shard_cache
from datasets.store import Artifact, InputRef, Part, Store, Workspace
from datasets.token_file import TokenMeta, TokenRows, token_parquet, without_others
from datasets.views import view_of
from tasks.code_counts import CodeCounts, counted
from tasks.conditions import Shown, conditions_of, planes_and
from tasks.drift import judge, measure, trained_on
from tasks.encode_damage import DAMAGE, Damage, lost_shards
from tasks.encoded_size import encoded_px, own_grid, plane_px, said
from tasks.fan_out import check_reachable, fan_out
from tasks.levels import upper_levels
from tasks.models import load_tokenizer, tokenizer_config
from tasks.plane import require_plane
from tasks.report.wording import percent
from tasks.stage import Headway, Product, Request, Stage, Work, input_of
from vqgan_core.config import EncodeConfig, ImagePlane, TokenizerConfig, canonical_json, sha256_json
from vqgan_core.config.tokens import TARGET
from vqgan_core.quantizers import CodeUsage
from vqgan_core.training import autocast, prepare, resolve_device
from vqgan_core.training.images import images_of

STAGE = Stage("encode", "2", "tokens")
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
    label = " · ".join(("encode", ", ".join(config.all_views), *sorted(config.conditions)))
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
        self.size_px = encoded_px(config, model)
        self.conditions = conditions_of(config, self.corpus, tokenizer, others)
        meta = _meta(config, model, self.corpus, tokenizer)
        columns = (*upper_levels(meta, model), *(condition.column for condition in self.conditions))
        self.meta = meta.model_copy(update={"columns": columns})
        self._corpus_artifact = corpus

    @property
    def splits(self) -> list[str]:
        """Those that have records."""
        return [split for split in SPLITS if self.corpus.num_records(split)]

    def units(self) -> list[_Unit]:
        """All units, in the corpus' order."""
        return [
            _Unit(split, shard, view)
            for split in self.splits
            for shard in self.corpus.shards(split)
            for view in self.config.all_views
        ]

    def meta_of(self, unit: _Unit) -> TokenMeta:
        """What the unit's rows mean, with the classes of its own generation: later ones do not concern it."""
        drawn = self.config.random_views if unit.view not in self.config.views else None
        crops = None if drawn is None else drawn.model_dump(mode="json", exclude={"count"})
        return self.meta.model_copy(update={"class_names": self.corpus.class_names_of(unit.shard), "crops": crops})

    def windows_of(self, unit: _Unit, records: Sequence[Record]) -> list[Window]:
        """Which part of each record the unit's view shows."""
        view, size = view_of(unit.view, self.config), self.size_px
        return [view.window((record.height, record.width), size, int(record.key[:16], 16)) for record in records]

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


class _Encoder(_Units):
    """A tokenizer over a corpus: what every unit needs."""

    def __init__(
        self, config: EncodeConfig, corpus: Artifact, tokenizer: Artifact, others: Mapping[str, Artifact]
    ) -> None:
        super().__init__(config, corpus, tokenizer, others)
        self.device = resolve_device(config.execution.device)
        prepare(self.device, precision=config.precision, num_threads=config.execution.num_threads)
        self.tokenizer = load_tokenizer(tokenizer, self.device)

    def make_part(self, unit: _Unit, store: Store) -> Part | Damage:
        """The unit's part: encoded, or cut out of an earlier corpus' token file of the same shard.

        Raises:
            CorpusError, StoreError: the shard is damaged, and that is to end the stage.
        """
        keys = self.keys_of(unit)
        try:
            data = self._cut_out(unit, keys, store) or self.encode(unit)
        except DAMAGE as error:
            if self.config.damaged_shards == "stop":
                raise
            return Damage(str(error))
        codes = counted(data, unit.name, self.meta.codebook_size)
        return store.put_part("tokens", self.part_key(unit, keys), {unit.name: data}, codes)

    def _cut_out(self, unit: _Unit, keys: list[str], store: Store) -> bytes | None:
        """Where images are gone from a shard that was encoded whole, what is left of its rows."""
        stored = self.corpus.stored_keys(unit.shard)
        part = None if stored == keys else store.part("tokens", self.part_key(unit, stored))
        if part is None:
            return None
        return without_others(store.read_part(part, unit.name), unit.name, set(keys))

    @torch.no_grad()
    def encode(self, unit: _Unit) -> bytes:
        """The unit's token file."""
        meta, records = self.meta_of(unit), self.corpus.shard_records(unit.split, unit.shard)
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
            crops=None if meta.crops is None else np.array([w.row() for w in self.windows_of(unit, records)]),
        )
        return token_parquet(meta, rows)

    def _tokens(self, unit: _Unit, records: Sequence[Record]) -> Iterator[dict[str, NDArray[np.int64]]]:
        """Every column's tokens, batch by batch."""
        batch_size = self.config.execution.batch_size
        batches = self.corpus.sequential(
            unit.split, batch_size, shard=unit.shard, size_px=self.size_px,
            planes=planes_and(self.model, self.conditions), view=view_of(unit.view, self.config),
        )  # fmt: skip
        for start, batch in zip(range(0, len(records), batch_size), batches, strict=True):
            seen = records[start : start + batch_size]
            shown = Shown(batch, seen, self.windows_of(unit, seen), self.device)
            own = {self.model.batch_name: batch[self.model.batch_name].to(self.device)}
            with autocast(self.device, self.config.precision):
                grids = self.tokenizer.encode_levels(images_of(own, self.model))
            levels = {name: grid.flatten(1).cpu().numpy() for name, grid in grids.items()}
            yield levels | {each.column.name: each.tokens(shown) for each in self.conditions}


def _build(
    config: EncodeConfig, corpus: Artifact, tokenizer: Artifact, others: Mapping[str, Artifact], work: Work
) -> Product:
    check_reachable(config.execution.fan_out, work.store.url)
    plan: _Units
    if config.execution.fan_out.kind == "none":
        plan = encoder = _Encoder(config, corpus, tokenizer, others)
        open_maker: Callable[[], _Make] = partial(_maker_of, encoder, work.store)
    else:
        plan = _Units(config, corpus, tokenizer, others)
        refs = [input_of(corpus), input_of(tokenizer)]
        open_maker = partial(_open_maker, config, work.store, refs, {name: input_of(others[name]) for name in others})
    counts = CodeCounts(plan.meta.codebook_size, trained_on(tokenizer, work.store), work.store)
    made, device = _made(plan, open_maker, counts, work)
    lost = lost_shards(made, plan.corpus, list(plan.splits), work.reporter.say)
    for unit in (unit for unit in made if unit.shard in lost):
        if part := plan.part(unit, work.store):  # another view of it was encoded while it was sound
            counts.remove(unit, part)
    parts = [part for unit, part in made.items() if isinstance(part, Part) and unit.shard not in lost]
    given = request(config, corpus, tokenizer, others)
    drift = measure(counts.known, counts.total - counts.known, given, tokenizer, work.store)
    if warning := judge(drift, config.execution):
        work.reporter.say(f"encode: {warning}")
    files = {"codes.json": canonical_json({split: of.tolist() for split, of in counts.by_split.items() if of.any()})}
    summary = _summary(plan, counts.total, lost) | {"drift": None if drift is None else drift.to_json()}
    return Product(files=files, parts=parts, summary=summary, device=device)


_Make = Callable[[_Unit], tuple[Part | Damage, str]]


def _made(
    plan: _Units, open_maker: Callable[[], _Make], counts: CodeCounts, work: Work
) -> tuple[dict[_Unit, Part | Damage], str]:
    """What every unit became, in the corpus' order, and the device on which those were made that were not there."""
    units = plan.units()
    made: dict[_Unit, Part | Damage] = {}
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
                    made[unit] = counts.add(unit, part)
                    bar.update(len(made), {"images/s": encoded / (time.monotonic() - started)})

        for unit, (part, device) in fan_out(plan.config.execution.fan_out, open_maker, missing(), name=_unit_name):
            made[unit] = counts.add(unit, part) if isinstance(part, Part) else part
            devices.add(device)
            encoded += len(plan.keys_of(unit))
            bar.update(len(made), {"images/s": encoded / (time.monotonic() - started)})
    return {unit: made[unit] for unit in units}, max(devices, default="cpu")


def _open_maker(config: EncodeConfig, store: Store, refs: Sequence[InputRef], others: Mapping[str, InputRef]) -> _Make:
    """In a worker: what encodes units there."""
    corpus, tokenizer = map(store.get, refs)
    opened = {name: store.get(ref) for name, ref in others.items()}
    return _maker_of(_Encoder(config, corpus, tokenizer, opened), store)


def _maker_of(encoder: _Encoder, store: Store) -> _Make:
    return partial(_make_part, encoder, store)


def _make_part(encoder: _Encoder, store: Store, unit: _Unit) -> tuple[Part | Damage, str]:
    """What a unit became, and the device on which it was made."""
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
    height, width = own_grid(config, model)
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
            "size_px": said(plane_px(encoded_px(config, model), model)),
            "channels": model.autoencoder.image_channels,
            "precision": config.precision,
            **plane,
        },
    )


def _summary(plan: _Units, counts: NDArray[np.int64], lost: Mapping[str, int]) -> dict[str, Any]:
    meta, usage = plan.meta, CodeUsage(torch.from_numpy(counts))
    records = {
        split: plan.corpus.num_records(split) - sum(lost.get(shard, 0) for shard in plan.corpus.shards(split))
        for split in plan.corpus.splits
    }
    headline = f"{sum(records.values()):,} images × {meta.height * meta.width} tokens, usage {percent(usage.usage)}"
    if meta.columns:
        headline += ", told " + ", ".join(f"{column.name} {column.height}×{column.width}" for column in meta.columns)
    return {
        "headline": headline,
        "records": records,
        "views": list(plan.config.all_views),
        "grid": [meta.height, meta.width],
        "codebook_size": meta.codebook_size,
        "usage": usage.usage,
        "perplexity": usage.perplexity,
        "num_dead": usage.num_dead,
        **({"damaged_shards": dict(lost)} if plan.config.damaged_shards == "skip" else {}),
    }

"""Group of metrics: reconstructions and samples against real images, in the features of every given network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

from datasets.store import Part, Workspace
from tasks.evaluation_units import Bench
from tasks.image_sets import ImageSet, SetReader, parts_to_json, require_comparable
from tasks.sample import num_samples
from tasks.stage import Work
from vqgan_core.evaluation import JudgedSet, Metric, set_distances

_PARTS = "statistics.json"


def distances(bench: Bench, work: Work) -> list[Metric]:
    """FID and its relatives of reconstructions, perturbed reconstructions and samples."""
    require_comparable(bench)
    metrics: list[Metric] = []
    parts: list[Part] = []
    for config in bench.config.extractors:
        with closing(SetReader(bench, work, config)) as reader:
            for sets in _judged(bench, reader):
                metrics += set_distances(sets, reader.extractor, bench.config.protocol)
            parts += reader.parts
    work.workspace.put(_PARTS, parts_to_json(parts))
    return metrics


def statistics_parts(workspace: Workspace) -> list[Part]:
    """Summaries of real images that the distances rest on; the artifact refers to them, so that they stay."""
    data = workspace.get(_PARTS)
    return [] if data is None else [Part.model_validate(part) for part in json.loads(data)]


def _judged(bench: Bench, reader: SetReader) -> Iterator[JudgedSet]:
    protocol, corpus = bench.config.protocol, bench.corpus
    split = protocol.reconstruction_split if corpus.num_records(protocol.reconstruction_split) else "train"
    count = min(protocol.num_reconstructions, corpus.num_records(split))
    originals, name = reader.summary(ImageSet("real", split, count)), _name(bench, split)
    yield JudgedSet("r", reader.summary(ImageSet("reconstructed", split, count)), originals, name)
    if (config := bench.config.perturbation) is not None:
        note = f"{config.probability:g} of the indices replaced by one of {config.num_neighbours} neighbours"
        perturbed = reader.summary(ImageSet("perturbed", split, count))
        yield JudgedSet("p", perturbed, originals, name, note)
    split = protocol.generation_split if corpus.num_records(protocol.generation_split) else "train"
    count = min(protocol.num_reference or corpus.num_records(split), corpus.num_records(split))
    drawn = num_samples(bench.subjects.samples)
    other = "" if protocol.num_samples in (None, drawn) else f"that is of {protocol.num_samples:,} samples"
    real = reader.summary(ImageSet("real", split, count))
    yield JudgedSet("g", reader.summary(ImageSet("samples", "", drawn)), real, _name(bench, split), departure=other)


def _name(bench: Bench, split: str) -> str:
    return f"{split} split of corpus {bench.subjects.corpus.manifest.fingerprint[:12]}"

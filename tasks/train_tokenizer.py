"""Stage train_tokenizer: corpus → tokenizer (weights, config, curves, a grid of reconstructions)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from datasets.corpus import Corpus, ImageBatches
from datasets.shard_cache import with_shard_cache
from datasets.store import Artifact
from tasks.plane import pictures, planes_of, require_plane
from tasks.report.pictures import grid
from tasks.report.wording import percent
from tasks.stage import Product, Request, Stage, Work, input_of
from tasks.start import load_start, require_opened
from tasks.together import join_training, train_together
from tasks.training import run_training, training_headway
from vqgan_core import distributed
from vqgan_core.config import TrainTokenizerConfig
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import TrainResult, history_bytes, prepare, resolve_device
from vqgan_core.training.images import images_of
from vqgan_core.training.tokenizer_step import TokenizerStep

STAGE = Stage("train_tokenizer", "3", "tokenizer")
LABEL = "train tokenizer"
NUM_PICTURES = 16


def request(config: TrainTokenizerConfig, corpus: Artifact, start: Artifact | None = None) -> Request:
    """Ask for a tokenizer trained on a corpus, from new weights or those of another tokenizer (`tasks.start`).

    Raises:
        ValueError: init_from names a tokenizer, but none is given.
    """
    require_opened(config.init_from, start)
    label = f"train tokenizer · f{config.autoencoder.downsampling_factor} · K{config.codebook_size}"
    build, headway = partial(_build, config, corpus, start), partial(training_headway, config.training)
    inputs = (input_of(corpus),) if start is None else (input_of(corpus), input_of(start))
    join = partial(join_training, partial(_trained, config, corpus, start), config.training, config.execution, LABEL)
    return Request(
        STAGE, config.recipe(), inputs, build, label, headway, join if config.execution.num_nodes > 1 else None
    )


def _build(config: TrainTokenizerConfig, artifact: Artifact, start: Artifact | None, work: Work) -> Product:
    train = partial(_trained, config, artifact, start)
    train_together(train, config.training, config.execution, work, label=LABEL)
    trained = train(work)
    files, history = trained.step.result_files(), trained.result.history
    tokenizer = Tokenizer.from_files(files).to(trained.step.device).eval()
    last = history[-1] if history else {}
    return Product(
        files={
            **files,
            "curves.jsonl": history_bytes(history),
            "reconstructions.png": _reconstructions(config, tokenizer, trained),
        },
        summary=_summary(config, last) | _damage(trained.batches, work),
        device=str(trained.step.device),
    )


@dataclass(frozen=True)
class _Trained:
    step: TokenizerStep
    result: TrainResult
    corpus: Corpus
    batches: ImageBatches


def _trained(config: TrainTokenizerConfig, artifact: Artifact, start: Artifact | None, work: Work) -> _Trained:
    """Train to the end; in one of several processes, its share."""
    training, execution = config.training, config.execution
    device = resolve_device(execution.device)
    prepare(device, precision=training.precision, num_threads=execution.num_threads)
    corpus = Corpus.open(with_shard_cache(artifact, execution.shard_cache_bytes))
    rank, world_size = distributed.rank(), distributed.world_size()
    require_plane(config, corpus)
    size_px, planes = config.window_px, planes_of(config)
    batches = corpus.batches(
        "train", training.batch_size, seed=training.seed, size_px=size_px, augment=config.augment, planes=planes,
        cache_bytes=execution.cache_bytes,
    ).share(rank, world_size, training.accumulate_batches)  # fmt: skip
    if config.damaged_shards == "skip":
        batches = batches.skipping_damaged()
    validation = corpus.sequential(
        "val", training.batch_size, size_px=size_px, limit=training.num_validation_records, planes=planes
    ).share(rank, world_size)
    step = TokenizerStep(config, device=device, start=None if start is None else load_start(start))
    result = run_training(
        step, batches, lambda: validation, config=training, execution=execution, work=work, label=LABEL
    )
    return _Trained(step, result, corpus, batches)


def _reconstructions(config: TrainTokenizerConfig, tokenizer: Tokenizer, trained: _Trained) -> bytes:
    """A picture: validation images, and below them what the tokenizer makes of them."""
    size_px, planes = config.window_px, planes_of(config)
    some = trained.corpus.sequential("val", NUM_PICTURES, size_px=size_px, limit=NUM_PICTURES, planes=planes)
    original = next(iter(some))[config.batch_name]
    with torch.no_grad():
        images = images_of({config.batch_name: original.to(trained.step.device)}, config)
        reconstruction = tokenizer(images).reconstruction
    pairs = [*pictures(original, config), *pictures(reconstruction, config)]
    return grid(pairs, columns=len(original), row_labels=("original", "reconstruction"))


def _damage(batches: ImageBatches, work: Work) -> dict[str, object]:
    """Which shards were skipped, said and counted."""
    if batches.replacements is None:
        return {}
    for reason in batches.replacements.reasons.values():
        work.reporter.say(f"train tokenizer: a shard was skipped: {reason}")
    return {"damaged_shards": dict(batches.replacements.counts)}


def _summary(config: TrainTokenizerConfig, last: dict[str, float | int | None]) -> dict[str, object]:
    validation = {
        name.removeprefix("validation/"): value for name, value in last.items() if name.startswith("validation/")
    }
    psnr, accuracy, usage = (validation.get(name) for name in ("psnr", "pixel_accuracy", "usage"))
    headline = f"f{config.autoencoder.downsampling_factor} K{config.codebook_size}"
    if psnr is not None and usage is not None:
        headline += f", PSNR {psnr:.1f} dB, usage {percent(usage)}"
    if accuracy is not None and usage is not None:
        headline += f", pixels right {accuracy:.1%}, usage {percent(usage)}"
    return {"headline": headline, "steps": last.get("step"), "validation": validation}

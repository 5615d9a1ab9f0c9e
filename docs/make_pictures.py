"""Draw the README's picture from a store: originals, reconstructions, samples.

`python docs/make_pictures.py demo-store docs/pictures/digits.png`
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from datasets.corpus import Corpus
from datasets.store import Store
from tasks.models import load_tokenizer
from tasks.plane import to_pixels
from tasks.report.pictures import grid
from tasks.sample import read_samples

COLUMNS = 16


def main(url: str, out: str) -> None:
    """One row of held-out originals, one of their reconstructions, two of samples, class by class."""
    store = Store.open(url)
    newest = {manifest.kind: store.get(manifest) for manifest in store.artifacts()}
    corpus = Corpus.open(newest["corpus"])
    tokenizer = load_tokenizer(newest["tokenizer"], torch.device("cpu"))
    size_px = tokenizer.config.autoencoder.resolution_px
    images = next(iter(corpus.sequential("val", COLUMNS, size_px=size_px)))["images"]
    with torch.no_grad():
        reconstructions = tokenizer(images).reconstruction
    samples = [pixels for pixels, _ in read_samples(newest["samples"])]
    chosen = samples[:: max(1, len(samples) // (2 * COLUMNS))][: 2 * COLUMNS]
    rows = ("originals", "reconstructions", "samples", "")
    pictures = [*to_pixels(images), *to_pixels(reconstructions), *chosen]
    Path(out).write_bytes(grid(pictures, columns=COLUMNS, row_labels=rows))


if __name__ == "__main__":
    main(*sys.argv[1:])

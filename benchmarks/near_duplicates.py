"""Which distance of perceptual hashes tells copies from other images, and what looking for them costs.

    python -m benchmarks.near_duplicates IMAGES.tar

Of each image (the first 400) a copy is made: 100 px high and wide, and as JPEG of quality 70. Printed is which share of
the copies is within each distance of its image, and how many pairs of different images are. Then the time of the search
among random hashes, a hundredth of which has a near one.
"""

from __future__ import annotations

import io
import sys
import tarfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.config import NearDuplicates, ShardConfig
from datasets.ingest.canonical import Recipe, Unusable, canonicalize
from datasets.ingest.near_duplicates import left_out

NUM_IMAGES, DISTANCES, NUM_HASHES = 400, (0, 2, 4, 6, 8), (10**5, 10**6)


def main(path: Path) -> None:
    """Print both tables."""
    for kind in ("phash", "dhash"):
        recipe = Recipe.of(ShardConfig(size_px=128, near_duplicates=NearDuplicates(hash=kind)))
        started = time.process_time()
        pairs = np.array(list(islice(_hashes(path, recipe), NUM_IMAGES)), np.uint64)
        seconds = (time.process_time() - started) / (2 * len(pairs))
        images, copies = pairs.T
        copied = np.bitwise_count(images ^ copies)
        others = np.bitwise_count(images[:, None] ^ images)[np.triu_indices(len(images), 1)]
        _say(f"{kind}: {len(pairs)} images, {len(others)} pairs, {1e3 * seconds:.2f} ms an image with its decoding")
        for most in DISTANCES:
            _say(f"  within {most}: {(copied <= most).mean():6.1%} of the copies, {(others <= most).sum()} pairs")
    for count in NUM_HASHES:
        _say(f"search among {count:,} hashes, distance 4: {_search_seconds(count):.2f} s of processor time")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _hashes(path: Path, recipe: Recipe) -> Iterator[tuple[int, int]]:
    """Of each image and of its copy."""
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            try:
                image = canonicalize(file.read(), member.name, recipe)
            except Unusable:
                continue
            small, buffer = Image.open(io.BytesIO(image.data)).resize((100, 100)), io.BytesIO()
            small.save(buffer, "JPEG", quality=70)
            copy = canonicalize(buffer.getvalue(), "copy.jpg", recipe)
            assert image.perceptual_hash is not None
            assert copy.perceptual_hash is not None
            yield image.perceptual_hash, copy.perceptual_hash


def _search_seconds(count: int) -> float:
    hashes = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    hashes[-count // 100 :] = hashes[: count // 100] ^ np.uint64(0b101)
    started = time.process_time()
    found = left_out(hashes, 4)
    assert len(found) >= count // 100
    return time.process_time() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))

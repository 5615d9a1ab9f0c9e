"""A sample set for other evaluators: one .npz for ADM's, a folder of PNG files for torch-fidelity and clean-fid.

Axes: `N samples, H×W pixels`.

ADM's evaluator reads `arr_0`, uint8 `N H W 3`, and, if it is there, `arr_1`, the classes. Grey samples are repeated
to three channels, as they are wherever a network looks at them. Images are never all in memory.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.store import Artifact
from tasks.report.pictures import png_bytes
from tasks.sample import num_samples, read_samples

__all__ = ["write_npz", "write_pngs"]


def write_npz(samples: Artifact, path: Path) -> int:
    """Write all samples into one .npz; it is there when it is whole.

    Returns:
        How many there are.

    Raises:
        ValueError: the file has another ending, or the samples are of several sizes.
    """
    if path.suffix != ".npz":
        raise ValueError(f"{path}: ADM's evaluator reads files that end in .npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            labels = _write_images(samples, archive)
            if all(label is not None for label in labels):
                with archive.open("arr_1.npy", "w") as member:
                    np.lib.format.write_array(member, np.array(labels, dtype=np.int64))
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return len(labels)


def write_pngs(samples: Artifact, folder: Path) -> int:
    """Write each sample into a file of its own, `00000000.png` and so on.

    Returns:
        How many there are.

    Raises:
        ValueError: the folder holds something already: an evaluator would count it in.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: whatever lies there would be evaluated, too; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, (pixels, _) in enumerate(_in_colour(samples), start=1):
        (folder / f"{count - 1:08d}.png").write_bytes(png_bytes(pixels))
    return count


def _write_images(samples: Artifact, archive: zipfile.ZipFile) -> list[int | None]:
    total, labels = num_samples(samples), []
    shape: tuple[int, ...] | None = None
    with archive.open("arr_0.npy", "w", force_zip64=True) as member:
        for pixels, label in _in_colour(samples):
            if shape is None:
                shape = pixels.shape
                header = {"descr": "|u1", "fortran_order": False, "shape": (total, *shape)}
                np.lib.format.write_array_header_1_0(member, header)
            if pixels.shape != shape:
                raise ValueError(f"samples of sizes {shape} and {pixels.shape} do not fit into one array; use --png")
            member.write(np.ascontiguousarray(pixels).tobytes())
            labels.append(label)
    assert len(labels) == total, "a published sample set holds as many images as its summary says"
    return labels


def _in_colour(samples: Artifact) -> Iterator[tuple[NDArray[np.uint8], int | None]]:
    for pixels, label in read_samples(samples):
        image = np.atleast_3d(pixels)
        yield (image if image.shape[2] == 3 else image.repeat(3, axis=2)), label

"""Samples for other people's evaluators: what they read is what was drawn."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.fid import get_folder_features
from PIL import Image
from torch_fidelity.datasets import ImagesPathDataset

from flows.cli import main
from tasks.sample import read_samples
from tests.tiny import Published


def drawn(published: Published) -> tuple[np.ndarray, list[int | None]]:
    pairs = list(read_samples(published.artifacts["samples"]))
    return np.stack([np.atleast_3d(pixels).repeat(3, axis=2) for pixels, _ in pairs]), [label for _, label in pairs]


def export(published: Published, *arguments: str) -> int:
    name = published.artifacts["samples"].manifest.fingerprint[:10]
    return main(["export-samples", name, *arguments, "--store", str(published.root)])


def test_one_array_for_adms_evaluator(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "new" / "samples.npz"
    assert export(published, "--npz", str(path)) == 0
    images, labels = drawn(published)
    with np.load(path) as arrays:
        assert arrays.files == ["arr_0", "arr_1"]
        assert arrays["arr_0"].dtype == np.uint8
        assert np.array_equal(arrays["arr_0"], images)
        assert arrays["arr_1"].tolist() == labels
    assert [file.name for file in path.parent.iterdir()] == ["samples.npz"], "nothing unfinished is left"


def test_adms_evaluator_streams_it(published: Published, tmp_path: Path) -> None:
    """Step by step what its reader does: a version 1 or 2 header in C order, or it would load everything at once."""
    path = tmp_path / "samples.npz"
    assert export(published, "--npz", str(path)) == 0
    images, _ = drawn(published)
    with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
        assert np.lib.format.read_magic(member) == (1, 0)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(member)
        assert (shape, is_fortran, dtype) == (images.shape, False, np.uint8)
        for batch in np.array_split(images, 3):
            assert member.read(batch.nbytes) == batch.tobytes()
        assert member.read(1) == b""


def test_a_folder_as_clean_fid_reads_it(published: Published, tmp_path: Path) -> None:
    assert export(published, "--png", str(tmp_path / "png")) == 0
    images, _ = drawn(published)
    found = get_folder_features(
        str(tmp_path / "png"), model=lambda batch: batch.flatten(1), num_workers=0, device=torch.device("cpu"),
        mode="legacy_tensorflow", verbose=False,
    )  # fmt: skip
    assert np.array_equal(found, images.transpose(0, 3, 1, 2).reshape(len(images), -1)), "each once, in order"


def test_a_folder_as_torch_fidelity_reads_it(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(published, "--png", str(tmp_path / "png"), "--json") == 0
    images, _ = drawn(published)
    assert json.loads(capsys.readouterr().out)["num_images"] == len(images)
    found = ImagesPathDataset(sorted((tmp_path / "png").iterdir()))
    assert len(found) == len(images)
    for index in (0, len(images) - 1):
        assert np.array_equal(found[index].permute(1, 2, 0).numpy(), images[index])
    assert Image.open(tmp_path / "png" / "00000000.png").mode == "RGB"


def test_what_would_be_evaluated_by_mistake_is_refused(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.png").write_bytes(b"")
    assert export(published, "--png", str(tmp_path)) == 1
    assert "is not empty" in capsys.readouterr().err
    assert export(published, "--npz", str(tmp_path / "samples.zip")) == 1
    assert "files that end in .npz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export(published)
    assert "one of the arguments --npz --png is required" in capsys.readouterr().err

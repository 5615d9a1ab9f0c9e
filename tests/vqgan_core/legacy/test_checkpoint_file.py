"""Files of others: their tensors are found, and nothing that they hold is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vqgan_core.legacy.checkpoint_file import CheckpointError, find_weights, read_checkpoint

STATE = {"encoder.weight": torch.arange(6.0).view(2, 3), "encoder.count": torch.tensor(3)}


class Callback:
    """What a Lightning file holds beside its tensors; loaded by pickle, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (STATE, ""),
        ({"state_dict": STATE, "epoch": 3, "lr_schedulers": []}, "state_dict"),
        ({"model": STATE, "steps": 7}, "model"),
        ({"model": {key: torch.zeros(1) for key in STATE}, "ema": STATE}, "ema"),
        ({"state_dict": {f"module.{key}": value for key, value in STATE.items()}}, "state_dict"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["today's format", "the format before 1.6"])
def test_tensors_are_found(tmp_path: Path, content: dict[str, Any], entry: str, zipped: bool) -> None:
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(find_weights(tmp_path))
    assert checkpoint.entry == entry
    assert checkpoint.tensors.keys() == STATE.keys()
    assert all(torch.equal(checkpoint.tensors[key], value) for key, value in STATE.items())


def test_safetensors_come_before_pickles(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "model.bin")
    save_file(STATE, tmp_path / "model.safetensors")
    assert find_weights(tmp_path).name == "model.safetensors"
    assert read_checkpoint(find_weights(tmp_path)).tensors.keys() == STATE.keys()


@pytest.mark.parametrize("entry", ["state_dict", "model"])
def test_a_file_with_other_objects_is_refused_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """As Lightning's files and those of LlamaGen's trainings; the way out that the message gives leads out."""
    folder = tmp_path / "made by a pickle"
    torch.save({entry: STATE, "callbacks": Callback(folder)}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt holds .*mkdir beside its tensors.*container") as refused:
        read_checkpoint(tmp_path / "last.ckpt")
    assert not folder.exists()
    command = str(refused.value).split('python -c "')[1].split('", and import')[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(command, "the advice", "exec"), {})  # noqa: S102 - what the message tells people to run
    assert folder.exists(), "this file is as dangerous as the message says"
    assert read_checkpoint(tmp_path / "tensors.ckpt").tensors.keys() == STATE.keys()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"\x00" * 64, "damaged, or no safetensors file"),
        ("last.ckpt", b"not a checkpoint", "damaged, or no PyTorch file"),
        ("last.ckpt", b"", "damaged, or no PyTorch file"),
        ("last.ckpt", b"PK\x03\x04 cut off", "damaged, or no PyTorch file"),
        ("model.onnx", b"", r"files of weights end in one of \.safetensors"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as refused:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_file_without_a_state_dict_says_what_it_has(tmp_path: Path) -> None:
    torch.save({"optimizer": {"lr": 1.0}, "epoch": 3}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"only entries \['epoch', 'optimizer'\]"):
        read_checkpoint(tmp_path / "last.pt")


def test_a_folder_needs_one_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has not one file of weights .* but none"):
        find_weights(tmp_path)
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"but a\.ckpt, b\.ckpt: name the file"):
        find_weights(tmp_path)
    with pytest.raises(CheckpointError, match="there is no"):
        find_weights(tmp_path / "nothing")

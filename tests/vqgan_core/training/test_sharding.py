"""FSDP2 of two gloo processes: they go on from one process' checkpoint, one goes on from theirs; nothing is lost."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import Marked
from tests.vqgan_core.training.steps import prior_config
from tests.vqgan_core.training.test_two_processes import assert_same, leaves
from tests.vqgan_core.training.two_shards import STOPS, step_of, trained
from vqgan_core.training import DirectoryCheckpoints


def _checkpoint(folder: Path, step: int) -> Any:
    """What was written after so many steps."""
    for path in folder.glob("step-*.ckpt"):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()
    found = DirectoryCheckpoints(folder).load_latest()
    assert found is not None
    assert found[0] == step
    return torch.load(io.BytesIO(found[1]), weights_only=True)["step"]


@pytest.mark.slow
def test_one_two_one(tmp_path: Path, marked: Marked) -> None:
    folder, alone = tmp_path / "in turns", tmp_path / "alone"
    trained(step_of(), folder, STOPS["one"])
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    process = marked.start(*torchrun, "tests.vqgan_core.training.two_shards", str(folder))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    held = [torch.load(folder / f"held-{rank}.pt", weights_only=True) for rank in range(2)]
    whole = sum(parameter.numel() for parameter in step_of().prior.parameters())
    assert all(all(of["sharded"]) for of in held)
    assert sum(of["elements"] for of in held) == whole
    assert max(of["elements"] for of in held) < 0.7 * whole, "each holds about half"

    theirs = _checkpoint(folder, STOPS["two"])
    loaded = step_of()
    loaded.load_state_dict(theirs)
    assert_same(loaded.state_dict(), theirs)  # weights, moments, streams: to the bit
    ours = trained(step_of(), alone, STOPS["two"]).state_dict()
    assert [name for name, _ in leaves(theirs)] == [name for name, _ in leaves(ours)]
    _assert_close(theirs, ours)

    end = trained(step_of(), folder).state_dict()
    _assert_close(end, trained(step_of(), alone).state_dict())


def _assert_close(state: Any, expected: Any) -> None:
    """Equal but for the order of sums."""
    for (name, one), (_, other) in zip(leaves(state), leaves(expected), strict=True):
        if isinstance(one, torch.Tensor) and one.is_floating_point():
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4, msg=name)
        elif isinstance(one, torch.Tensor):
            assert torch.equal(one, other), name
        elif isinstance(one, float):
            assert one == pytest.approx(other, rel=1e-4), name
        else:
            assert one == other, name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architecture": "pixelcnn"}, "only gpt and modern are spread over processes"),
        ({"execution__compile": True}, "do not go together"),
    ],
)
def test_what_cannot_be_sharded_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prior_config(execution__shard_weights=True, **fields)

"""Two processes that talk through gloo: they hold equal state to the bit, and it is that of one process.

Started as users start them, by torchrun, once for all variants (`two_processes`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

from tests.processes import Marked
from tests.vqgan_core.training.two_processes import NUM_STEPS, VARIANTS, trained, trained_prior
from vqgan_core import distributed


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder, started = tmp_path_factory.mktemp("ranks"), Marked()
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    process = started.start(*torchrun, "tests.vqgan_core.training.two_processes", str(folder))
    try:
        _, errors = process.communicate(timeout=200)
    finally:
        started.stop_all()
    assert process.returncode == 0, errors
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def leaves(state: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and tensor of a state, with its path."""
    if isinstance(state, Mapping | list | tuple):
        items = state.items() if isinstance(state, Mapping) else enumerate(state)
        for key, value in items:
            yield from leaves(value, f"{name}/{key}")
    else:
        yield name, state


def assert_same(one: Any, other: Any) -> None:
    pairs = zip(leaves(one), leaves(other), strict=True)
    assert [left[0] for left, right in pairs if left[0] != right[0] or not _equal(left[1], right[1])] == []


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@pytest.mark.parametrize("variant", [*VARIANTS, "prior"])
def test_both_hold_the_same_and_what_one_process_holds(variant: str, ranks: list[dict[str, Any]]) -> None:
    one, other = (rank["prior"] if variant == "prior" else rank["variants"][variant] for rank in ranks)
    assert_same(one, other)
    alone = trained_prior() if variant == "prior" else trained(variant)
    assert len(alone["metrics"]) == NUM_STEPS
    torch.testing.assert_close(one["metrics"], alone["metrics"], rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(one["validation"], alone["validation"], rtol=2e-4, atol=1e-6)
    for (name, ours), (_, expected) in zip(leaves(one["state"]), leaves(alone["state"]), strict=True):
        if isinstance(ours, torch.Tensor) and ours.is_floating_point():
            # Adam divides by the gradient's size: where that is rounding error, a weight moves either way.
            off = (ours - expected).abs() > 1e-5 + 1e-3 * expected.abs()
            assert off.float().mean() < 0.02, name
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=NUM_STEPS * 2e-3, msg=name)
        elif isinstance(ours, float):
            torch.testing.assert_close(ours, expected, rtol=2e-4, atol=1e-6, msg=name)
        else:
            assert _equal(ours, expected), name


def test_a_loop_of_two(ranks: list[dict[str, Any]]) -> None:
    """One's signal stops both, one's NaN sends both back, one alone writes; what they hold is the same at the end."""
    one, other = (rank["loop"] for rank in ranks)
    assert (one["interrupted"], other["interrupted"]) == (1, 1)
    assert one["skipped"] == other["skipped"] == [3]
    assert one["curves"] == other["curves"]
    assert [json.loads(row)["step"] for row in one["curves"].splitlines()] == [3, 6]
    assert_same(one["state"], other["state"])
    assert one["checkpoints"] == [4, 6]
    assert other["checkpoints"] == []
    assert one["num_messages"] > 0
    assert other["num_messages"] == 0


def test_half_of_torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ValueError, match="RANK, WORLD_SIZE in the environment, but not MASTER_ADDR, MASTER_PORT"),
        distributed.process_group(),
    ):
        pass


def test_without_torchrun_a_process_is_alone() -> None:
    with distributed.process_group():
        assert (distributed.rank(), distributed.world_size(), distributed.local_rank()) == (0, 1, None)

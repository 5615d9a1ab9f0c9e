"""The gates, as a table: what passes, what does not, and what is compared with what."""

from __future__ import annotations

import pytest

from tasks.gates import gates
from tasks.retrain_config import PromoteConfig

CURRENT = {"PSNR": 29.0, "codebook usage": 0.9, "prior NLL": 2.0, "unigram NLL": 3.0, "rFID": 10.0}
CONFIG = PromoteConfig(min_usage=0.5, max_psnr_loss_db=0.25, max_nll_rise=0.125, max_rfid_rise=0.5)


@pytest.mark.parametrize(
    ("change", "same_tokens", "fails"),
    [
        ({}, True, ""),
        ({"PSNR": 28.75, "prior NLL": 2.125, "codebook usage": 0.5, "rFID": 15.0}, True, ""),
        ({"PSNR": 28.5}, True, "reconstruction PSNR"),
        ({"codebook usage": 0.25}, True, "codebook usage"),
        ({"prior NLL": 2.25}, True, "validation NLL"),
        ({"rFID": 16.0}, True, "reconstruction FID"),
        ({"rFID": None}, True, "reconstruction FID"),
        ({"PSNR": None}, True, "reconstruction PSNR"),
        # Another tokenizer: two more nats a token are no loss where the unigram has them, too.
        ({"prior NLL": 4.0, "unigram NLL": 5.0}, False, ""),
        ({"prior NLL": 4.0, "unigram NLL": 5.0}, True, "validation NLL"),
        ({"prior NLL": 4.0, "unigram NLL": 4.75}, False, "gain over unigram"),
    ],
)
def test_a_gate(change: dict[str, float | None], same_tokens: bool, fails: str) -> None:
    candidate = {name: value for name, value in (CURRENT | change).items() if value is not None}
    judged = gates(candidate, CURRENT, CONFIG, same_tokens=same_tokens)
    assert [gate.name for gate in judged if not gate.passed and fails and gate.name.startswith(fails)] == [
        gate.name for gate in judged if not gate.passed
    ]
    assert all(gate.passed for gate in judged) is (fails == "")


def test_the_first_has_only_itself_to_answer_for() -> None:
    assert [gate.name for gate in gates(CURRENT, None, CONFIG, same_tokens=False)] == ["codebook usage"]
    assert not gates({"codebook usage": 0.1}, None, CONFIG, same_tokens=False)[0].passed


def test_a_gate_says_what_it_compared() -> None:
    judged = {gate.name: str(gate) for gate in gates(CURRENT | {"PSNR": 28.0}, CURRENT, CONFIG, same_tokens=True)}
    assert judged["reconstruction PSNR, dB"] == "reconstruction PSNR, dB 28, at least 28.75: NOT PASSED"
    assert judged["validation NLL, nats/token"] == "validation NLL, nats/token 2, at most 2.125: ok"

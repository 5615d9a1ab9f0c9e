"""`tessera promote` and `tessera current`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasets.store import Draft, Store
from tests.flows.command_line import CommandLine
from tests.tiny import Published

STRICT = "promote: {min_usage: 0.0, max_psnr_loss_db: 0, max_nll_rise: 0}\n"


@pytest.fixture
def root(published: Published, tmp_path: Path) -> Path:
    return published.copy(tmp_path / "store").root


def _worse(published: Published, root: Path) -> str:
    """An evaluation of the same models with a lower PSNR; its fingerprint."""
    evaluation = published.artifacts["evaluation"]
    rows = json.loads(evaluation.read("metrics.json"))
    for row in rows:
        row["value"] = row["value"] - 1 if row["name"] == "PSNR" else row["value"]
    draft = Draft(
        "evaluation",
        "e" * 64,
        "evaluate",
        "1",
        {},
        evaluation.manifest.inputs,
        {"metrics.json": json.dumps(rows).encode()},
    )
    return Store.open(str(root)).publish(draft).fingerprint


def test_promote_and_look(cli: CommandLine, published: Published, root: Path, tmp_path: Path) -> None:
    evaluation = published.artifacts["evaluation"].manifest
    gates = tmp_path / "strict.yaml"
    gates.write_text(STRICT, encoding="utf-8")
    assert "nothing was promoted" in cli("current", "--store", root).err
    assert cli("current", "faces", "--store", root).status == 1

    done = cli("promote", "faces", evaluation.fingerprint[:10], "--json", "--store", root)
    assert (done.status, done.json["number"]) == (0, 1)
    (entry,) = cli("current", "--json", "--store", root).json
    assert entry["artifact"]["fingerprint"] == evaluation.fingerprint
    assert entry["figures"]["PSNR"] > 0
    assert {ref["kind"] for ref in entry["inputs"]} == {"corpus", "tokenizer", "tokens", "prior", "samples"}

    # What is current passes against itself, and promoting it once more changes nothing.
    again = cli("promote", "faces", evaluation.fingerprint, "--gates", gates, "--store", root)
    assert again.status == 0, again.err
    assert len(cli("current", "faces", "--history", "--json", "--store", root).json) == 1

    refused = cli("promote", "faces", _worse(published, root), "--gates", gates, "--store", root)
    assert refused.status == 1
    assert "reconstruction PSNR" in refused.err
    assert refused.err.count("NOT PASSED") == 1
    assert cli("current", "faces", "--json", "--store", root).json == [entry]
    assert cli("promote", "faces", "e" * 64, "--force", "--json", "--store", root).json["number"] == 2


def test_anything_else_is_promoted_by_hand(cli: CommandLine, published: Published, root: Path) -> None:
    tokenizer = published.artifacts["tokenizer"].manifest
    assert cli("promote", "best-tokenizer", tokenizer.fingerprint, "--store", root).status == 0
    shown = cli("current", "best-tokenizer", "--store", root).out
    assert tokenizer.fingerprint[:12] in shown
    assert "by hand" in shown


def test_a_name_that_cannot_be_one(cli: CommandLine, published: Published, root: Path) -> None:
    said = cli("promote", "My Faces", published.artifacts["prior"].manifest.fingerprint, "--store", root)
    assert said.status == 1
    assert "lower-case letters, digits and dashes" in said.err

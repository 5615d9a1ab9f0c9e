"""`tessera tokens ls|show|diff|head|add`, called in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.tokens import TokenDataset
from flows.text_histogram import text_histogram
from tests.flows.command_line import CommandLine
from tests.tiny import Published


@pytest.fixture
def fingerprint(published: Published) -> str:
    return published.artifacts["tokens"].manifest.fingerprint


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    grids = np.random.default_rng(3).integers(0, 16, (60, 4, 4))
    pq.write_table(pa.table({"indices": grids.tolist(), "label": [i % 10 for i in range(60)]}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("command", ["ls", "show", "diff", "head", "add"])
def test_every_command_has_help(cli: CommandLine, command: str) -> None:
    said = cli("tokens", command, "--help")
    assert said.status == 0
    assert all(option in said.out for option in ("--json", "--store", "--debug"))


def test_ls(cli: CommandLine, published: Published, fingerprint: str) -> None:
    assert [row["fingerprint"] for row in cli("tokens", "ls", "--json", "--store", published.root).json] == [
        fingerprint
    ]


def test_show(cli: CommandLine, published: Published, fingerprint: str) -> None:
    report = cli("tokens", "show", fingerprint[:8], "--json", "--store", published.root).json
    tokens = TokenDataset.open(published.artifacts["tokens"])
    assert report["grid"] == [4, 4]
    assert report["tokenizer"]["digest"] == published.artifacts["tokenizer"].manifest.digest
    for split, figures in report["splits"].items():
        assert figures["histogram"] == tokens.code_histogram(split).tolist()
        assert figures["records"] == tokens.splits[split] == sum(figures["records_of_class"])
        assert 1 <= figures["perplexity"] <= 16
        assert figures["usage"] == 1 - figures["num_dead"] / 16
    assert 0 <= report["train_val_divergence"]["bits"] <= 1
    said = cli("tokens", "show", fingerprint, "--store", published.root)
    assert (said.status, said.err) == (0, "")
    assert all(
        words in said.out for words in ("4 × 4 = 16 tokens", "perplexity", "█", "most frequent", "dealt at random")
    )


def test_head(cli: CommandLine, published: Published, fingerprint: str) -> None:
    report = cli("tokens", "head", fingerprint, "-n", 2, "--split", "val", "--json", "--store", published.root).json
    tokens = TokenDataset.open(published.artifacts["tokens"])
    assert [row["key"] for row in report["rows"]] == tokens.keys("val")[:2]
    grids = [row["columns"]["indices"] for row in report["rows"]]
    assert [np.ravel(grid).tolist() for grid in grids] == tokens.tokens("val")[:2].tolist()
    said = cli("tokens", "head", fingerprint, "--store", published.root)
    assert said.out.count("\n\n") == 3
    refused = cli("tokens", "head", fingerprint, "--split", "test", "--store", published.root)
    assert "no record in split 'test'" in refused.complaint
    assert cli("tokens", "head", fingerprint, "-n", "0", "--store", published.root).status == 2


def test_add_and_diff(cli: CommandLine, published: Published, fingerprint: str, theirs: Path, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    here = ("--store", copy.root)
    digest = copy.artifacts["tokenizer"].manifest.digest
    added = cli("tokens", "add", theirs, "codebook_size=16", f"tokenizer_digest={digest}", "--json", *here).json
    assert added["kind"] == "tokens"
    assert cli("tokens", "add", theirs, "codebook_size=16", f"tokenizer_digest={digest}", *here).status == 0
    assert len(cli("tokens", "ls", "--json", *here).json) == 2
    report = cli("tokens", "diff", fingerprint, added["fingerprint"], "--json", *here).json
    assert report["columns"]["indices"]["comparable"] is True
    train = report["splits"]["train"]
    assert (train["shared"], train["columns"]["indices"]["same_tokens"]) == (0, None)
    far = train["columns"]["indices"]["divergence"]
    assert far["bits"] > far["floor_bits"]
    itself = cli("tokens", "diff", fingerprint, fingerprint, "--json", *here).json
    assert itself["columns"] == {"indices": {"there": [True, True], "fields": {}, "comparable": True}}
    same = itself["splits"]["val"]["columns"]["indices"]
    assert (same["same_tokens"], same["divergence"]["bits"]) == (1, 0)
    text = cli("tokens", "diff", fingerprint, added["fingerprint"], *here).out
    assert all(words in text for words in ("factor: 4 against 1", "records, 0 in both", "Jensen-Shannon", "code"))


def test_codes_of_different_tokenizers_are_not_compared(
    cli: CommandLine, published: Published, fingerprint: str, theirs: Path, tmp_path: Path
) -> None:
    copy = published.copy(tmp_path / "store")
    other = cli("tokens", "add", theirs, "codebook_size=16", "--json", "--store", copy.root).json["fingerprint"]
    report = cli("tokens", "diff", fingerprint, other, "--json", "--store", copy.root).json
    assert report["columns"]["indices"]["comparable"] is False
    assert report["splits"]["train"]["columns"] == {}
    assert "do not mean the same" in cli("tokens", "diff", fingerprint, other, "--store", copy.root).out


def test_add_says_what_is_missing(cli: CommandLine, theirs: Path, tmp_path: Path) -> None:
    said = cli("tokens", "add", theirs, "--store", tmp_path / "store")
    assert said.status == 1
    assert "give codebook_size" in said.complaint
    assert cli("tokens", "add", theirs, "colour=3", "--store", tmp_path / "store").status == 2


@pytest.mark.parametrize(("counts", "columns"), [([5], 64), ([1] * 16, 64), (list(range(100)), 64), ([3, 2, 1], 63)])
def test_a_histogram_fits_its_width(counts: list[int], columns: int) -> None:
    lines = text_histogram(counts, width=64, height=4)
    assert len(lines) == 4 + 2
    assert lines[4].count("─") == columns
    assert lines[3][11:].rstrip(" ")  # the lowest line is never empty
    assert lines[0][11] == "█"


def test_a_histogram_of_nothing() -> None:
    assert text_histogram([0, 0]) == ["(no tokens)"]

"""`tessera …` without Prefect: help, usage, and the commands that look into a store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets.store import Store
from flows.grammar import READS, STAGES
from tests.flows.command_line import CommandLine
from tests.flows.conftest import ROOT
from tests.tiny import KINDS, Published, write_preset

COMMANDS = ("run", *STAGES, "plan", "ls", "show", "verify", "gc")
GROUPS = {"import": ("taming", "llamagen", "diffusers", "dalle"), "export": ("taming", "diffusers")}


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("import", "taming", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "flows.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in imported
    heavy = {"torch", "prefect", "pydantic", "rich", "numpy", "yaml", "fsspec", "PIL", "sklearn"}
    assert imported & heavy == set()
    assert "usage: tessera" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: CommandLine, command: str) -> None:
    said = cli(command, "--help")
    assert said.status == 0
    assert {"--json", "--debug", "--store"} <= set(re.findall(r"--\w+", said.out))
    for kind in READS.get(command, ()):
        assert f"--{kind} FINGERPRINT" in said.out


def test_the_help_names_all_commands(cli: CommandLine) -> None:
    out = cli("--help").out
    assert all(f"    {command}" in out for command in (*COMMANDS, *GROUPS))
    for group, words in GROUPS.items():
        out = cli(group, "--help").out
        assert all(f"    {word}" in out for word in words)
        assert all("--store" in cli(group, word, "--help").out for word in words)


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("fly",), ("run",), ("ls", "--colour"), ("ls", "corpus", "tokens"), ("run", "digits", "--prior", "ab"),
        ("show",), ("gc", "--older-than-hours", "soon"), ("sample", "digits", "--corpus", "ab"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_status_2(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    said = cli(*arguments)
    assert said.complaint
    assert said.status == 2
    assert "--help" in said.err


def test_overrides_and_options_come_in_any_order(cli: CommandLine, published: Published, tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", published.root, published.source)
    orders = [
        ("plan", preset, "sample.seed=7", "--json"),
        ("plan", "--json", preset, "sample.seed=7"),
        ("plan", preset, "--json", "sample.seed=7"),
    ]
    plans = [[row["fingerprint"] for row in cli(*order).json] for order in orders]
    assert plans[0] == plans[1] == plans[2]
    assert plans[0] != [row["fingerprint"] for row in cli("plan", preset, "--json").json]


def test_ls_lists_newest_last(cli: CommandLine, published: Published) -> None:
    rows = cli("ls", "--json", "--store", published.root).json
    assert [row["kind"] for row in rows] == list(KINDS)
    assert rows == sorted(rows, key=lambda row: row["created"])
    for row in rows:
        assert set(row) == {"kind", "fingerprint", "digest", "uri", "created", "summary"}
        manifest = published.artifacts[row["kind"]].manifest
        assert (row["fingerprint"], row["digest"]) == (manifest.fingerprint, manifest.digest)
        assert (Path(row["uri"]) / "manifest.json").is_file()
        assert row["summary"]["headline"]
    table = cli("ls", "--store", published.root)
    assert table.err == ""
    assert all(row["fingerprint"][:12] in table.out and row["summary"]["headline"] in table.out for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_ls_of_a_kind(cli: CommandLine, published: Published, kind: str) -> None:
    assert [row["kind"] for row in cli("ls", kind, "--json", "--store", published.root).json] == [kind]


def test_ls_of_no_kind(cli: CommandLine, published: Published) -> None:
    said = cli("ls", "checkpoints", "--store", published.root)
    assert said.status == 2
    assert "choose one of corpus, tokenizer, tokens" in said.complaint


def test_the_store_can_come_from_the_environment(
    cli: CommandLine, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_STORE", str(published.root))
    assert len(cli("ls", "--json").json) == len(KINDS)


@pytest.mark.parametrize("command", ["ls", "verify", "gc"])
def test_an_empty_store_is_said_to_be_empty(cli: CommandLine, tmp_path: Path, command: str) -> None:
    said = cli(command, "--store", tmp_path / "nothing here")
    assert said.status == 0
    assert "nothing here" in said.out + said.err
    assert not (tmp_path / "nothing here").exists()
    assert cli(command, "--json", "--store", tmp_path / "nothing here").json == []


def test_show_tells_recipe_and_lineage(cli: CommandLine, published: Published) -> None:
    manifest = published.artifacts["samples"].manifest
    shown = cli("show", manifest.fingerprint[:10], "--json", "--store", published.root).json
    assert shown["recipe"] == json.loads(json.dumps(manifest.recipe))
    assert shown["fingerprint"] == manifest.fingerprint
    assert shown["uri"].endswith(manifest.folder)
    assert [entry["kind"] for entry in shown["lineage"]] == list(KINDS[:-1])
    text = cli("show", manifest.fingerprint, "--store", published.root).out
    assert all(
        words in text for words in ("guidance", "lineage", manifest.stage, shown["lineage"][0]["fingerprint"][:12])
    )


def test_show_takes_a_uri(cli: CommandLine, published: Published) -> None:
    ref = published.artifacts["prior"].ref
    assert cli("show", ref.uri + "/", "--json", "--store", published.root).json["digest"] == ref.digest


@pytest.mark.parametrize(("name", "words"), [("beef" * 4, "see `tessera ls`"), ("", "give more of it")])
def test_show_of_none_or_many(cli: CommandLine, published: Published, name: str, words: str) -> None:
    said = cli("show", name, "--store", published.root)
    assert said.status == 1
    assert words in said.complaint


def test_verify_finds_a_flipped_byte(cli: CommandLine, published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    good = cli("verify", "--store", copy.root)
    assert (good.status, good.err) == (0, "")
    assert good.out.count(" ok\n") == len(KINDS)
    manifest = copy.artifacts["prior"].manifest
    path = copy.root / manifest.folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    bad = cli("verify", "--store", copy.root)
    assert bad.status == 1
    assert bad.out.count(" ok\n") == len(KINDS) - 1
    assert "DAMAGED" in bad.out
    assert "model.safetensors" in bad.out
    alone = cli("verify", manifest.fingerprint[:12], "--json", "--store", copy.root)
    (row,) = json.loads(alone.out)
    assert (alone.status, row["fingerprint"], len(row["problems"])) == (1, manifest.fingerprint, 1)
    others = cli("verify", copy.artifacts["corpus"].manifest.fingerprint, "--store", copy.root)
    assert others.status == 0


def test_gc_tells_first_and_deletes_when_told(cli: CommandLine, published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    leftover = copy.root / "work" / "prior" / copy.artifacts["prior"].manifest.fingerprint / "checkpoint"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(bytes(2000))
    young = cli("gc", "--json", "--store", copy.root)
    assert young.json == []
    long_ago = time.time() - 25 * 3600
    os.utime(leftover, (long_ago, long_ago))
    told = cli("gc", "--store", copy.root)
    assert "would delete (say --delete to do it): 1 files, 2.0 kB" in told.out
    assert "checkpoint" in told.out
    assert leftover.exists()
    (row,) = cli("gc", "--json", "--store", copy.root).json
    assert set(row) == {"path", "bytes", "reason"}
    done = cli("gc", "--delete", "--store", copy.root)
    assert "deleted: 1 files" in done.out
    assert not leftover.exists()
    store = Store.open(copy.config.store)
    assert len(store.artifacts()) == len(KINDS)
    assert store.verify() == []


def test_gc_of_everything_old_keeps_what_is_published(cli: CommandLine, published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    cli("gc", "--delete", "--older-than-hours", "0", "--store", copy.root)
    assert Store.open(copy.config.store).verify() == []
    assert len(cli("ls", "--json", "--store", copy.root).json) == len(KINDS)


def test_debug_shows_where(cli: CommandLine, published: Published) -> None:
    said = cli("show", "beef" * 4, "--debug", "--store", published.root)
    assert said.status == 1
    assert "Traceback (most recent call last)" in said.err
    assert said.err.splitlines()[-1].startswith("tessera: no artifact in")


def test_a_closed_pipe_is_no_error(published: Published) -> None:
    command = f"{sys.executable} -m flows.cli ls --json --store {published.root} | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "["
    assert done.stderr == ""


def test_a_foreign_datasets_package_is_explained(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("__version__ = '5.2.0'\n")
    program = "import datasets, sys; sys.path.insert(0, sys.argv[1]); from flows.cli import main; main(['ls'])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "`datasets` was imported from" in done.stderr
    assert "make setup" in done.stderr


def test_an_evaluation_shows_its_numbers_with_their_counts(cli: CommandLine, published: Published) -> None:
    evaluation = published.artifacts["evaluation"]
    said = cli("show", evaluation.manifest.fingerprint[:12], "--store", published.root)
    for row in json.loads(evaluation.read("metrics.json")):
        (line,) = [
            line for line in said.out.splitlines() if line.strip().startswith((f"{row['name']} ↑", f"{row['name']} ↓"))
        ]
        assert f" {row['n']:,} " in line
        assert ("…" in line) == (row["low"] is not None)

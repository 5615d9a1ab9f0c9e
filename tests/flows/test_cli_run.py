"""`tessera run` and the stage commands: summaries, caching, and what signals do to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from datasets.store import Store
from flows.grammar import STAGES
from tasks.pipeline import STEPS
from tests.flows.command_line import CommandLine
from tests.flows.conftest import NewHome
from tests.processes import Marked
from tests.tiny import Published, contents, write_preset

MOST_SECONDS_TO_STOP = 25.0
_PROGRESS = re.compile(r"^(shard|list source|train tokenizer): \d+")


@pytest.mark.slow
@pytest.mark.usefixtures("harness")
def test_a_run_and_the_same_again(cli: CommandLine, published: Published, tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", tmp_path / "elsewhere", published.source)
    store = tmp_path / "store"
    first = cli("run", preset, "--store", store, "--json").json
    assert [row["state"] for row in first["stages"]] == ["Completed"] * 6
    assert [row["stage"] for row in first["stages"]] == list(STEPS)
    assert all(set(row) >= {"stage", "state", "fingerprint", "digest", "seconds", "summary"} for row in first["stages"])
    assert first["result"]["kind"] == "evaluation"
    assert contents(Store.open(str(store))) == contents(Store.open(str(published.root)))
    assert not (tmp_path / "elsewhere").exists()

    second = cli("run", preset, f"store.url={store}", "--json").json
    assert [row["state"] for row in second["stages"]] == ["Cached"] * 6
    assert second["result"] == first["result"]
    table = cli("run", preset, "--store", store)
    assert table.status == 0
    assert table.out.count("Cached") == 6
    report = next(line for line in table.out.splitlines() if line.startswith("report: "))
    assert Path(report.removeprefix("report: ")).read_text().startswith("<!doctype html>")
    assert all(row["fingerprint"][:12] in table.out for row in first["stages"])
    plan = cli("plan", preset, "--store", store, "--json").json
    assert {row["state"] for row in plan} == {"cached"}


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize("command", STAGES)
def test_a_stage_command(cli: CommandLine, published: Published, tmp_path: Path, command: str) -> None:
    step = STEPS[command.replace("-", "_")]
    copy = published.without(step.stage.kind, tmp_path / "store")
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)
    options = [f"--{kind}={published.artifacts[kind].manifest.fingerprint}" for kind in step.reads]
    answer = cli(command, preset, "--json", *options).json
    assert answer["result"]["digest"] == published.artifacts[step.stage.kind].manifest.digest
    assert [row["stage"] for row in answer["stages"]] == [step.stage.name]


@pytest.mark.parametrize("command", list(STAGES)[1:])
@pytest.mark.usefixtures("harness")
def test_a_stage_before_its_inputs(cli: CommandLine, published: Published, tmp_path: Path, command: str) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", tmp_path / "store", published.source)
    said = cli(command, preset)
    assert said.status == 1
    assert "run `tessera shard` with the same config first" in said.complaint


@pytest.fixture(scope="module")
def own_server(new_home: NewHome) -> dict[str, str]:
    """An environment in which a command starts a Prefect server of its own, which has to end with it."""
    return {"PREFECT_HOME": str(new_home("own-server")), "PREFECT_API_URL": ""}


def _wait_for(root: Path, place: str, process: subprocess.Popen[str]) -> None:
    """Wait until something is written there."""
    while not list(root.glob(f"{place}/*/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_leaves_no_process_and_goes_on(
    published: Published, tmp_path: Path, marked: Marked, own_server: dict[str, str]
) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", tmp_path / "store", published.source)
    command = ("-m", "flows.cli", "run", str(preset), "--json")
    first = marked.start(*command, environment=own_server)
    _wait_for(tmp_path / "store", "work/tokenizer", first)
    assert len(marked.survivors()) >= 2  # itself and the server
    first.kill()
    first.communicate()
    marked.assert_gone(30)
    second = marked.start(*command, environment=own_server)
    output, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert [row["state"] for row in json.loads(output)["stages"]] == ["Cached"] + ["Completed"] * 5
    assert contents(Store.open(str(tmp_path / "store"))) == contents(Store.open(str(published.root)))
    marked.assert_gone(30)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("sign", "stage", "status", "words"),
    [
        (signal.SIGINT, "tokenizer", 130, "interrupted; what is finished is kept"),
        (signal.SIGINT, "corpus", 130, "interrupted; what is finished is kept"),
        (signal.SIGTERM, "tokenizer", 1, "checkpoint"),
    ],
)
def test_an_interrupted_run_says_so_in_one_line(
    published: Published, tmp_path: Path, marked: Marked, own_server: dict[str, str], sign: signal.Signals,
    stage: str, status: int, words: str,
) -> None:  # fmt: skip
    preset = write_preset(tmp_path / "tiny.yaml", tmp_path / "store", published.source)
    run = marked.start("-m", "flows.cli", "run", str(preset), environment=own_server, start_new_session=True)
    _wait_for(tmp_path / "store", f"parts/{stage}" if stage == "corpus" else f"work/{stage}", run)
    asked = time.monotonic()
    if sign is signal.SIGINT:
        os.killpg(run.pid, sign)  # a terminal sends Ctrl-C to the command and to all that it started
    else:
        os.kill(run.pid, sign)
    output, errors = run.communicate(timeout=100)
    assert time.monotonic() - asked < MOST_SECONDS_TO_STOP
    assert (run.returncode, output) == (status, ""), errors
    (line,) = [line for line in errors.splitlines() if not _PROGRESS.match(line)]
    assert line.startswith("tessera: ")
    assert words in line
    there = {manifest.kind for manifest in Store.open(str(tmp_path / "store")).artifacts()}
    assert there == (set() if stage == "corpus" else {"corpus"})
    marked.assert_gone(30)

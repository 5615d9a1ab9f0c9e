"""Each flow as a person or a worker calls it: states, results, what is computed and what is not."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.results import ResultRecord

from datasets.config import StoreConfig
from datasets.store import ArtifactRef, Store, StoreNotWritable, StoreUnavailable
from flows.encode import encode
from flows.end_to_end import end_to_end
from flows.evaluate import evaluate
from flows.run import Ledger, current_ledger
from flows.sample import sample
from flows.shard import shard
from flows.train_prior import train_prior
from flows.train_tokenizer import train_tokenizer
from tasks import orchestrate
from tasks.pipeline import STEPS, NotPublished, Pipeline
from tasks.stage import Product, Request, Stage, Work
from tests.flows.command_line import CommandLine
from tests.flows.server.service import until
from tests.tiny import KINDS, STAGES, Published, Recorder, contents, write_preset

FLOWS: dict[str, Callable[..., Any]] = {
    "shard": shard, "train_tokenizer": train_tokenizer, "encode": encode, "train_prior": train_prior,
    "sample": sample, "evaluate": evaluate,
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("harness")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def ledger(recorder: Recorder) -> Iterator[Ledger]:
    """What a command line would see: outcomes and progress."""
    ledger = Ledger(recorder)
    token = current_ledger.set(ledger)
    yield ledger
    current_ledger.reset(token)


def _states(ledger: Ledger) -> list[str]:
    states = [outcome[1] for outcome in ledger.outcomes]
    ledger.outcomes.clear()
    return states


def _worked(recorder: Recorder) -> set[str]:
    """What was worked on. To know what a source holds is no work: it is how a change is noticed."""
    return {label for label, _ in recorder.updates} - {"list source"}


@pytest.fixture(scope="module")
def ran(harness: str, published: Published, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published, Any]:
    """The pipeline, run once as a flow in an empty store: its preset, what it published, its final state."""
    place = tmp_path_factory.mktemp("flow")
    preset = write_preset(place / "tiny.yaml", place / "store", published.source)
    state = end_to_end(preset=str(preset), return_state=True)
    return preset, published.copy(place / "unused", store__url=str(place / "store")), state


@pytest.mark.slow
def test_the_pipeline_is_completed(ran: tuple[Path, Published, Any], published: Published) -> None:
    _, copy, state = ran
    assert state.name == "Completed"
    store = Store.open(copy.config.store)
    assert contents(store) == contents(Store.open(published.config.store))
    assert state.result() == store.get(ArtifactRef(**state.result())).ref.model_dump(mode="json")
    assert state.result()["kind"] == "evaluation"


def test_every_stage_is_a_task_of_the_run(ran: tuple[Path, Published, Any]) -> None:
    run_id = ran[2].state_details.flow_run_id
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    with get_client(sync_client=True) as client:

        def at_their_ends() -> list[TaskRun] | None:
            tasks = client.read_task_runs(flow_run_filter=of_run)
            return tasks if len(tasks) >= len(STEPS) and all(task.end_time for task in tasks) else None

        tasks = until(at_their_ends, "the ends of all tasks, which the server is told of by events", seconds=200)
        run = client.read_flow_run(run_id)
    tasks.sort(key=lambda task: str(task.start_time))
    assert [task.name.split(" · ")[0] for task in tasks] == [
        "shard", "train tokenizer", "encode", "train prior", "sample", "evaluate",
    ]  # fmt: skip
    assert {task.state_name for task in tasks} == {"Completed"}
    assert run.name.startswith("end to end · ")
    assert run.state_name == "Completed"


def test_the_result_is_json(ran: tuple[Path, Published, Any]) -> None:
    record = ran[2].data
    assert isinstance(record, ResultRecord)
    assert record.metadata.serializer.type == "json"
    assert set(json.loads(json.dumps(record.result))) == {"kind", "fingerprint", "digest", "uri"}


def test_a_second_run_computes_nothing(ran: tuple[Path, Published, Any], ledger: Ledger, recorder: Recorder) -> None:
    preset, copy, state = ran
    before = {path: path.stat().st_mtime_ns for kind in KINDS for path in Path(copy.config.store.url, kind).rglob("*")}
    assert end_to_end(preset=str(preset)) == state.result()
    assert _states(ledger) == ["Cached"] * 6
    assert _worked(recorder) == set()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_only_what_depends_on_a_change_runs_again(
    ran: tuple[Path, Published, Any], ledger: Ledger, recorder: Recorder
) -> None:
    preset = ran[0]
    end_to_end(preset=str(preset), num_per_class=1, overrides={"sample.temperature": 0.5})
    assert _states(ledger) == ["Cached"] * 4 + ["Completed"] * 2
    assert _worked(recorder) == {"sample", "evaluate", "classifier"}


def test_a_lost_artifact_is_made_again_and_not_served(ran: tuple[Path, Published, Any], ledger: Ledger) -> None:
    preset, copy, state = ran
    store = Store.open(copy.config.store)
    prior = Pipeline(copy.config).artifact("prior")
    Path(store.storage.url(prior.manifest.folder), "model.safetensors").unlink()
    assert end_to_end(preset=str(preset)) == state.result()
    # It comes out with the same digest, so what was made from it is still good.
    assert _states(ledger) == ["Cached"] * 3 + ["Completed"] + ["Cached"] * 2
    assert store.verify() == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_alone(published: Published, tmp_path: Path, ledger: Ledger, stage: str) -> None:
    """From a store that has its inputs, by the config and by fingerprints."""
    kind = STEPS[stage].stage.kind
    copy = published.without(kind, tmp_path / "store")
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)
    given = {name: published.artifacts[name].manifest.fingerprint[:16] for name in STEPS[stage].reads}
    first = FLOWS[stage](preset=str(preset))
    second = FLOWS[stage](preset=str(preset), **given)
    assert first == second == {**published.artifacts[kind].ref.model_dump(mode="json"), "uri": first["uri"]}
    assert _states(ledger) == ["Completed", "Cached"]
    json.dumps(first)


def test_a_prior_of_tokens_made_elsewhere(published: Published, tmp_path: Path, ledger: Ledger) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", tmp_path / "store", tmp_path / "no images")
    url = published.artifacts["tokens"].ref.uri
    for states in (["Completed", "Completed"], ["Cached", "Cached"]):
        prior = train_prior(preset=str(preset), tokens=url)
        assert [outcome[0] for outcome in ledger.outcomes] == ["import_tokens", "train_prior"]
        assert _states(ledger) == states
    assert prior["kind"] == "prior"
    tokens = Store.open(str(tmp_path / "store")).artifacts("tokens")
    assert [manifest.inputs for manifest in tokens] == [[published.artifacts["tokens"].ref.as_input()]]


def test_a_sweep_draws_each_set_once(cli: CommandLine, published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)
    cli("run", preset)  # from now on Prefect, too, knows what the store has
    told = (preset, "sweep.guidance=[1.5, 3]", "sweep.temperature=[1.0]", "sweep.num_per_class=2")
    found = cli("sweep", *told, "--json").json
    assert [row["state"] for row in found["stages"]] == ["Cached", "Completed", "Completed"]  # 1.5 is the config's own
    assert found["result"]["kind"] == "sweep"
    said = cli("sweep", *told)
    assert (said.status, said.out.count("best")) == (0, 1)
    assert "FD-domain" in said.out
    assert "report.html" in said.out


def test_experiments(cli: CommandLine, published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)
    cli("run", preset)  # from now on Prefect, too, knows what the store has
    changes = "priors={gpt: {}, cnn: {architecture: pixelcnn, num_layers: 1, width: 8, training.num_steps: 5}}"
    found = cli("experiment", "priors", preset, changes, "--json").json
    states = [(row["stage"], row["state"]) for row in found["stages"]]
    assert states[:3] == [("shard", "Cached"), ("train_tokenizer", "Cached"), ("encode", "Cached")]
    assert states[3:] == [(name, state) for name, state in zip(
        ("train_prior", "train_prior", "experiment_priors"), ("Cached", "Completed", "Completed"), strict=True
    )]  # fmt: skip
    short = ("tokenizer.training.num_steps=2", "evaluate.classifier.num_steps=2", "prior_pflop=1e-6")
    said = cli("experiment", "factors", preset, "factors=[16]", *short)
    assert (said.status, "f 16" in said.out, "report.html" in said.out) == (0, True, True)
    wrong = cli("experiment", "priors", preset, "priors={wrong: {widht: 3}}")
    assert (wrong.status, "priors.wrong: widht" in wrong.complaint) == (2, True)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_before_its_inputs(published: Published, tmp_path: Path, stage: str) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", tmp_path / "store", published.source)
    with pytest.raises(NotPublished, match="run `tessera shard` with the same config first") as caught:
        FLOWS[stage](preset=str(preset))
    assert "\n" not in str(caught.value)


# ---- what is tried again


class Flaky:
    """A stage that fails some times before it succeeds."""

    def __init__(self, published: Published, root: Path, failures: list[Exception]) -> None:
        self.config = StoreConfig(url=str(root))
        self.tries = 0
        self._failures = failures
        request = Pipeline(published.config).request("shard")
        self._build = request.build
        self.request = dataclasses.replace(request, build=self.build)

    def build(self, work: Any) -> Any:
        self.tries += 1
        if self._failures:
            raise self._failures.pop(0)
        return self._build(work)


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrate, "publish", orchestrate.publish.with_options(retry_delay_seconds=0))


@pytest.mark.usefixtures("no_delay")
def test_an_outage_is_tried_again(published: Published, tmp_path: Path) -> None:
    stage = Flaky(published, tmp_path / "store", [StoreUnavailable("gone"), StoreUnavailable("still gone")])
    outcome = _in_a_flow(lambda: orchestrate.run(stage.request, stage.config, "tiny"))
    assert (outcome[1], stage.tries) == ("Completed", 3)
    assert outcome[2].digest == published.artifacts["corpus"].manifest.digest


@pytest.mark.usefixtures("no_delay")
@pytest.mark.parametrize("error", [ValueError("wrong"), StoreNotWritable("read-only"), KeyError("bug")])
def test_nothing_else_is(published: Published, tmp_path: Path, error: Exception) -> None:
    stage = Flaky(published, tmp_path / "store", [error])
    with pytest.raises(type(error), match=error.args[0]):
        _in_a_flow(lambda: orchestrate.run(stage.request, stage.config, "tiny"))
    assert stage.tries == 1


@pytest.mark.usefixtures("no_delay")
def test_a_stage_that_hangs_is_tried_again(tmp_path: Path) -> None:
    naps = iter([36_000])

    def build(_work: Work) -> Product:
        for _ in range(next(naps, 0)):
            time.sleep(0.1)  # Prefect cannot break off a longer one beside pytest's own alarm
        return Product(files={"one.txt": b"done"})

    request = Request(Stage("hang", "1", "corpus"), recipe={}, inputs=(), build=build, label="hang")
    store = StoreConfig(url=str(tmp_path / "store"))
    outcome = _in_a_flow(lambda: orchestrate.run(request, store, "tiny", timeout_seconds=3))
    assert outcome[1] == "Completed"
    assert Store.open(store).get(outcome[2]).read("one.txt") == b"done"
    assert next(naps, None) is None, "the first try did hang"


@pytest.mark.usefixtures("no_delay")
def test_an_outage_that_lasts_fails(published: Published, tmp_path: Path) -> None:
    stage = Flaky(published, tmp_path / "store", [StoreUnavailable(f"gone {i}") for i in range(9)])
    with pytest.raises(StoreUnavailable, match="gone 3"):
        _in_a_flow(lambda: orchestrate.run(stage.request, stage.config, "tiny"))
    assert stage.tries == 1 + 3


def _in_a_flow(function: Callable[[], Any]) -> Any:
    @flow
    def around() -> Any:
        return function()

    return around()


def test_fine_tuning_in_the_pipeline(harness: str, published: Published, tmp_path: Path, ledger: Ledger) -> None:
    """A start of the wrong size is told before anything runs; a right one is an input of the new prior."""
    start = published.artifacts["prior"].manifest
    copy = published.copy(tmp_path / "store")
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)
    fields = {"preset": str(preset), "store": str(copy.root)}
    wrong = {"prior.init_from": start.fingerprint, "prior.num_layers": 3}
    with pytest.raises(ValueError, match="num_layers 2, not 3"):
        end_to_end(**fields, overrides=wrong)
    assert _states(ledger) == []
    tuned = {"prior.init_from": start.fingerprint[:10], "prior.training.num_steps": 2, "sample.num_per_class": 1}
    end_to_end(**fields, overrides=tuned)
    prior = next(ref for stage, _, ref in ledger.outcomes if stage == "train_prior")
    store = Store.open(copy.config.store)
    assert start.as_input() in store.get(prior).manifest.inputs
    assert [len(store.artifacts(kind)) for kind in KINDS] == [1, 1, 1, 2, 2, 2], "only what depends on it is made anew"

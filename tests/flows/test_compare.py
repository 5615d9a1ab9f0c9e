"""Artifacts side by side through Prefect: the flow's result, its task, and a page that shows both on the run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from datasets.store import ArtifactRef, Store
from flows.compare import compare
from tests import tiny
from tests.flows.command_line import CommandLine
from tests.tiny import Published

pytestmark = pytest.mark.usefixtures("harness")


@pytest.fixture(scope="module")
def two(published: Published, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[str]]:
    """Evaluations of the tiny pipeline and of one that draws more coldly, in one store."""
    copy = published.copy(tmp_path_factory.mktemp("compared") / "store")
    colder = tiny.build(tiny.tiny_config(copy.root, copy.source, sample__temperature=0.5))
    evaluations = [copy.artifacts["evaluation"], colder["evaluation"]]
    return Store.open(copy.config.store), [artifact.manifest.fingerprint for artifact in evaluations]


def test_a_flow_shows_both_on_its_page(two: tuple[Store, list[str]]) -> None:
    store, fingerprints = two
    state = compare([name[:12] for name in fingerprints], str(store.url), 4, 5, return_state=True)
    assert state.name == "Completed"
    artifact = store.get(ArtifactRef.model_validate(state.result()))
    assert {ref.fingerprint for ref in artifact.manifest.inputs} > set(fingerprints)
    run_id = state.state_details.flow_run_id
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
        shown = {item.key: str(item.data) for item in client.read_artifacts(artifact_filter=of_run)}
    assert run.name.startswith("compare · "), run.name
    page = shown[f"comparison-{artifact.manifest.fingerprint[:12]}"]
    for name in (*(fingerprint[:8] for fingerprint in fingerprints), "sample.temperature", "FD-domain", "PSNR"):
        assert name in page
    assert len(re.findall(r"!\[[^\]]*\]\(data:image/png;base64,", page)) == 5, "originals, two sides, two sample sets"
    assert set(shown) >= {f"evaluation-{fingerprint[:12]}" for fingerprint in fingerprints}, "what it read"
    again = compare(fingerprints, str(store.url), 4, 5)
    assert again == state.result(), "served from the store"


def test_the_command_names_the_page(two: tuple[Store, list[str]], cli: CommandLine) -> None:
    store, fingerprints = two
    said = cli("compare", *fingerprints, "--num-images", "4", "--num-samples", "5", "--store", str(store.url))
    assert said.status == 0, said.err
    path = said.out.split("page: ")[-1].strip()
    assert "FD-domain" in Path(path.removeprefix("file://")).read_text()

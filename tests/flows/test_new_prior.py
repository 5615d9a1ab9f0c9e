"""Another prior on a token dataset that is there, compared with what is current."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from datasets.store import Store
from datasets.store.pointers import current, promote
from flows.new_prior import new_prior
from flows.run import Ledger, current_ledger
from tests.tiny import Published, Recorder, write_preset
from vqgan_core.config import ConfigError

pytestmark = pytest.mark.usefixtures("harness")
FAIR = {"promote.max_nll_rise": 10.0, "promote.max_psnr_loss_db": 0.0}


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger(Recorder())
    token = current_ledger.set(ledger)
    yield ledger
    current_ledger.reset(token)


def test_a_prior_is_trained_compared_and_promoted(published: Published, tmp_path: Path, ledger: Ledger) -> None:
    copy = published.copy(tmp_path / "store")
    store = Store.open(str(copy.root))
    promote(store, "tiny", copy.artifacts["evaluation"].ref)
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)
    tokens = copy.artifacts["tokens"].manifest.fingerprint[:12]

    def run(**more: Any) -> dict[str, Any]:
        ledger.outcomes.clear()
        found: dict[str, Any] = new_prior(tokens=tokens, preset=str(preset), prior_steps=10, promote=True, **more)
        return found

    refused = run(overrides={"promote.max_nll_rise": 0.0})
    assert [(stage, state) for stage, state, _ in ledger.outcomes] == [
        ("train_prior", "Completed"), ("sample", "Completed"), ("evaluate", "Completed"),
    ]  # fmt: skip
    assert refused["promoted"] is False, "ten steps are worse than forty"
    assert [text.split(" nats/token")[0] for text in refused["gates"] if "NOT PASSED" in text] == [
        text.split(" nats/token")[0] for text in refused["gates"] if text.startswith("validation NLL")
    ]
    now = current(store, "tiny")
    assert now is not None
    assert now.artifact == copy.artifacts["evaluation"].ref.as_input()

    accepted = run(overrides=FAIR)
    assert [state for _, state, _ in ledger.outcomes] == ["Cached"] * 3, "gates are in no fingerprint"
    assert accepted["promoted"] is True
    now = current(store, "tiny")
    assert now is not None
    assert (now.artifact.fingerprint, now.number) == (accepted["fingerprint"], 2)
    key = ArtifactFilterKey(any_=[f"evaluation-{accepted['fingerprint'][:12]}-compared"])
    with get_client(sync_client=True) as client:
        tables = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    (row,) = [row for row in json.loads(str(tables[-1].data)) if row["metric"] == "prior NLL"]
    assert re.fullmatch(r"[\d.]+ \(n = \d+\)", row["candidate"])
    assert re.fullmatch(r"[\d.]+ \(n = \d+\)", row["current"])


def test_tokens_of_which_nothing_is_known_are_refused(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    store = Store.open(str(copy.root))
    manifest = copy.artifacts["tokens"].manifest
    path = f"{manifest.folder}/manifest.json"
    store.storage.write(path, manifest.model_copy(update={"inputs": []}).to_bytes())
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)
    with pytest.raises(ConfigError, match="name no corpus that they were made from"):
        new_prior(tokens=manifest.fingerprint, preset=str(preset))

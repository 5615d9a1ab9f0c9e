"""What a person sees, in a real browser: the form, a run, an artifact's page with its pictures."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from flows.end_to_end import end_to_end
from tests.flows.server.browser import Browser, browser
from tests.flows.server.conftest import Journey
from tests.flows.server.service import Service, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
#: The server has two UIs, which people can switch between; where each is.
UIS = ("", "v2/")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with browser(found, tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


def _page(service: Service, path: str) -> str:
    return f"{service.url.removesuffix('/api')}/{path}"


def _form(service: Service, ui: str) -> str:
    return _page(service, f"{ui}deployments/deployment/{service.deployment('end-to-end')['id']}/run")


@pytest.mark.parametrize("ui", UIS)
def test_the_form_explains_its_fields(service: Service, tab: Browser, ui: str) -> None:
    described = re.findall(r"(?m)^ {4,8}(\w+): (.+)$", end_to_end.fn.__doc__ or "")
    assert len(described) == 15
    tab.open(_form(service, ui))
    tab.reads(*(text for field in described for text in field))


@pytest.mark.parametrize("ui", UIS)
def test_a_wrong_value_is_refused_before_there_is_a_run(service: Service, tab: Browser, ui: str) -> None:
    """The form is filled in as by a link to it, and submitted by its button."""
    deployment = service.deployment("end-to-end")["id"]
    path, of_it = "/flow_runs/filter", {"deployments": {"id": {"any_": [deployment]}}}
    before = service.found(path, of_it)
    tab.open(f"{_form(service, ui)}?parameters={quote(json.dumps({'size_px': 0}))}")
    tab.press("Submit")
    tab.hears("0 is not valid under any of the given schemas")
    assert service.found(path, of_it) == before


def test_a_run_shows_what_it_did(service: Service, tab: Browser, journey: Journey) -> None:
    tab.open(_page(service, f"v2/runs/flow-run/{journey.runs[1]}"))
    tab.reads("end to end · tiny", "Completed", "6 Task runs")


def test_an_artifact_shows_its_pictures(service: Service, tab: Browser, journey: Journey) -> None:
    (tokenizer,) = [row for row in service.artifacts(journey.runs[0]) if str(row["key"]).startswith("tokenizer-")]
    tab.open(_page(service, f"v2/artifacts/artifact/{tokenizer['id']}"))
    loaded = "[...document.images].filter(i => i.src.startsWith('data:image/{}') && i.naturalWidth > 0).length"
    until(lambda: tab.run(loaded.format("png")) == 1, "the picture of reconstructions")
    until(lambda: tab.run(loaded.format("svg")) == 3, "the curves")
    link = "Boolean(document.querySelector('a[href^=\"/v2/artifacts/key/corpus-\"]'))"
    until(lambda: tab.run(link), "the link to the corpus' page")

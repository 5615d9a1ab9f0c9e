"""What a person sees, in a real browser: the form, a run, an artifact's page with its pictures."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.end_to_end import end_to_end
from tests.flows.server.conftest import Journey
from tests.flows.server.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1400,2400", "--virtual-time-budget=30000",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    return found


def seen(chromium: str, service: Service, path: str, profile: Path) -> str:
    """The page as its scripts have left it."""
    url = f"{service.url.removesuffix('/api')}/v2/{path}"
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
    return html.unescape(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def test_the_form_explains_its_fields(service: Service, chromium: str, tmp_path: Path) -> None:
    page = seen(chromium, service, f"deployments/deployment/{service.deployment('end-to-end')['id']}/run", tmp_path)
    described = re.findall(r"(?m)^ {4,8}(\w+): (.+)$", end_to_end.fn.__doc__ or "")
    assert len(described) == 15
    missing = [(field, text) for field, text in described if field not in page or text not in page]
    assert missing == []


def test_a_run_shows_what_it_did(service: Service, chromium: str, journey: Journey, tmp_path: Path) -> None:
    page = seen(chromium, service, f"runs/flow-run/{journey.runs[1]}", tmp_path)
    assert "end to end · tiny" in page
    assert "Completed" in page
    assert "6 Task runs" in page


def test_an_artifact_shows_its_pictures(service: Service, chromium: str, journey: Journey, tmp_path: Path) -> None:
    (tokenizer,) = [row for row in service.artifacts(journey.runs[0]) if str(row["key"]).startswith("tokenizer-")]
    page = seen(chromium, service, f"artifacts/artifact/{tokenizer['id']}", tmp_path)
    assert len(re.findall(r'<img[^>]+src="data:image/png;base64,', page)) == 1
    assert len(re.findall(r'<img[^>]+src="data:image/svg\+xml;base64,', page)) == 3
    assert 'href="/v2/artifacts/key/corpus-' in page

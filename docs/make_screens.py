"""Pictures of Prefect's pages for the documentation, taken from a running `make server` with headless Chromium.

    make server &                                   # and wait until it says where it is
    .venv/bin/python docs/make_screens.py           # runs digits twice through the API, as the form does

Needs Chromium (Debian: apt-get install chromium). Writes docs/pictures/ui-*.png.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

PICTURES = Path(__file__).parent / "pictures"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
WIDTH_PX = 1400
NUM_COLOURS = 96
MARGIN_PX = 24
MENU_PX = 260


def main() -> int:
    """Take all pictures; status 1 without Chromium."""
    options = _options()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.stderr.write("there is no chromium: apt-get install chromium\n")
        return 1
    api = httpx.Client(base_url=f"{options.server}/api", timeout=180)
    deployment = _first(api, "/deployments/filter", {"deployments": {"name": {"any_": ["end-to-end"]}}})["id"]
    pages = {"form": (f"deployments/deployment/{deployment}/run", 2800)}
    if not options.form_only:
        pages |= _pages_of_a_run(api, deployment, options.preset)
    for name, (path, height_px) in pages.items():
        _screenshot(chromium, f"{options.server}/v2/{path}", PICTURES / f"ui-{name}.png", height_px)
        _shrink(PICTURES / f"ui-{name}.png")
        sys.stdout.write(f"{PICTURES / f'ui-{name}.png'}\n")
    return 0


def _pages_of_a_run(api: httpx.Client, deployment: str, preset: str) -> dict[str, tuple[str, int]]:
    """Run a preset twice; name → path and height of the pages of the second run, which found everything cached."""
    _, run = (_run(api, deployment, preset) for _ in range(2))
    made = _artifacts(api, run)
    return {
        "run": (f"runs/flow-run/{run}", 800),
        "report": (f"artifacts/artifact/{made['evaluation']}", 2300),
        "tokenizer": (f"artifacts/artifact/{made['tokenizer']}", 2300),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:4200", help="where it is (http://127.0.0.1:4200)")
    parser.add_argument("--preset", default="digits", help="what to run (digits)")
    parser.add_argument("--form-only", action="store_true", help="only the form, which needs no run")
    return parser.parse_args()


def _run(api: httpx.Client, deployment: str, preset: str) -> str:
    """Run a preset through the API, as the form does; returns the run's id when it is at its end."""
    asked = {"parameters": {"preset": preset}, "state": {"type": "SCHEDULED"}}
    run = str(api.post(f"/deployments/{deployment}/create_flow_run", json=asked).raise_for_status().json()["id"])
    while (state := api.get(f"/flow_runs/{run}").raise_for_status().json()["state"])["type"] not in FINAL:
        time.sleep(2)
    if state["type"] != "COMPLETED":
        raise SystemExit(f"the run ended as {state}")
    return run


def _artifacts(api: httpx.Client, run: str) -> dict[str, str]:
    """The pages of a run: kind → id."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    rows = api.post("/artifacts/filter", json=wanted).raise_for_status().json()
    return {row["key"].split("-")[0]: row["id"] for row in rows if row["key"]}


def _first(api: httpx.Client, path: str, content: Any) -> dict[str, Any]:
    rows: list[dict[str, Any]] = api.post(path, json=content).raise_for_status().json()
    return rows[0]


def _screenshot(chromium: str, url: str, path: Path, height_px: int) -> None:
    with tempfile.TemporaryDirectory() as profile:
        command = [
            chromium, *FLAGS, f"--user-data-dir={profile}", f"--window-size={WIDTH_PX},{height_px}",
            "--virtual-time-budget=30000", f"--screenshot={path}", url,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)  # noqa: S603 - fixed arguments


def _shrink(path: Path) -> None:
    """Cut off the empty end of a page, and save it with few colours: a picture is cloned by everybody."""
    page = Image.open(path).convert("RGB")
    rows = np.asarray(page)[:, MENU_PX:-MARGIN_PX]  # beside the menu, which goes down to the end
    used = np.flatnonzero((rows != rows[:, :1]).any(axis=(1, 2)))
    height = min(page.height, int(used[-1]) + MARGIN_PX) if len(used) else page.height
    page.crop((0, 0, page.width, height)).quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())

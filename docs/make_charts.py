"""Write the charts of an artifact's page (an experiment, a sweep, an evaluation) as SVG files.

`python docs/make_charts.py demo-store experiment FINGERPRINT docs/pictures/priors "Validation NLL by steps"`
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from datasets.store import Store
from datasets.store.lineage import find_artifact
from tasks.report.figures import standalone


def main(url: str, kind: str, name: str, prefix: str, *titles: str) -> None:
    """One file for each of the titles, or for every chart of the page."""
    page = find_artifact(Store.open(url), name, kind).read("report.html").decode()
    for title, drawing in re.findall(r'(?s)(?=<svg [^>]*aria-label="([^"]*)")(<svg .*?</svg>)', page):
        if not titles or title in titles:
            slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
            Path(f"{prefix}-{slug}.svg").write_text(standalone(drawing), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The summary for Prefect: small, and no markup of others in it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
from PIL import Image

from tasks.report import ReportInputs, SampleRow, summary_markdown
from tests.tasks.report.example import metric


def pictures_of(text: str) -> list[Image.Image]:
    found = re.findall(r"!\[[a-z]+\]\(data:image/png;base64,([^)]+)\)", text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_it_holds_numbers_pictures_and_metrics(inputs: ReportInputs) -> None:
    text = summary_markdown(inputs)
    assert text.startswith("# digits\n")
    assert "| FD-domain ↓ | 4.871 |  | 200 | 1.213 |" in text
    assert "| PSNR ↑ | 27.31 dB |  | 90 |  |" in text
    reconstructions, samples = pictures_of(text)
    assert reconstructions.size == (8 * 68 + 4, 2 * 68 + 4)
    assert samples.size == (10 * 68 + 4, 10 * 68 + 4), "a row a class"


def test_it_stays_below_a_mebibyte_whatever_the_pictures(inputs: ReportInputs) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    rows = [SampleRow(str(i), [noise] * 20) for i in range(40)]
    text = summary_markdown(replace(inputs, originals=[noise] * 50, reconstructions=[noise] * 50, samples=rows))
    assert len(text.encode()) < 1 << 20
    assert len(pictures_of(text)) == 2


def test_markup_in_data_stays_text(inputs: ReportInputs) -> None:
    evil = "<b>x</b> | `y` [z](http://e)\n# head"
    picture = inputs.originals[0]
    dirty = replace(
        inputs, name=evil, sentence=evil, samples=[SampleRow(evil, [picture])], metrics=[metric(evil, 1.0, unit=evil)]
    )
    text = summary_markdown(dirty)
    assert "<b>" not in text
    assert "[z](" not in text
    assert "\n# head" not in text
    row = next(line for line in text.splitlines() if "&lt;b&gt;" in line and line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6  # five cells


def test_an_empty_run_is_a_heading(inputs: ReportInputs) -> None:
    assert summary_markdown(ReportInputs(name="n", sentence="s.")) == "# n\n\ns.\n"

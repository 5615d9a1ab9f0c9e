"""The page is whole, asks for nothing from outside, shows what it is given, and lets nobody inject markup."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.report import Curves, KeyNumber, ReportInputs, SampleRow, render
from tests.tasks.report.example import manifests, metric

CHECKOUT = Path(__file__).resolve().parents[3]
VOID = {"meta", "img", "link", "br"}
EVIL = "<b>bold</b><script>alert('x')</script>\" onload=\"x"


class Tree(HTMLParser):
    """Tags and attributes of a page; checks that what opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [value for found, key, value in self.attributes if (found, key) == (tag, name)]


@pytest.fixture(scope="module")
def page(inputs: ReportInputs) -> str:
    return render(inputs)


def test_every_section_is_there(page: str) -> None:
    sections = ["reconstructions", "samples", "training", "tokens", "metrics", "lineage", "cost", "recipe"]
    assert Tree(page).values("section", "id") == sections


def test_arrows_lead_to_what_was_made_from_the_one_before(inputs: ReportInputs, page: str) -> None:
    assert Tree(page).values("li", "class") == ["follows"] * len(inputs.manifests), "from the source on"
    siblings = [manifest for manifest in inputs.manifests if manifest["kind"] in ("tokenizer", "prior")]
    assert Tree(render(replace(inputs, manifests=siblings))).values("li", "class") == []


def test_nothing_is_asked_from_outside(page: str) -> None:
    tree = Tree(page)
    assert not {"script", "link", "iframe", "object", "embed"} & set(tree.tags)
    references = [value for _, name, value in tree.attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert references
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in references)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert "default-src 'none'" in page  # the browser is told to refuse what slips through


def test_figures_refer_only_to_their_own_parts(page: str) -> None:
    tree = Tree(page)
    ids = [value for tag, name, value in tree.attributes if name == "id" and tag != "section"]
    uses = [value[1:] for _, name, value in tree.attributes if name == "href"]
    uses += re.findall(r"url\(#([^)]+)\)", page)
    assert set(uses) <= set(ids)
    assert len(ids) == len(set(ids)), "two figures on one page share an id"


def test_pictures_are_the_ones_given(inputs: ReportInputs, page: str) -> None:
    sources = Tree(page).values("img", "src")
    decoded = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]
    num_pairs = len(inputs.originals)
    for index, (original, reconstruction) in enumerate(zip(inputs.originals, inputs.reconstructions, strict=True)):
        assert np.array_equal(np.asarray(decoded[2 * index]), np.asarray(original))
        assert np.array_equal(np.asarray(decoded[2 * index + 1]), np.asarray(reconstruction))
    samples = [picture for row in inputs.samples for picture in row.pictures]
    assert len(decoded) == 2 * num_pairs + len(samples)
    assert np.array_equal(np.asarray(decoded[-1]), np.asarray(samples[-1]))


def test_numbers_are_written_with_what_they_depend_on(page: str) -> None:
    text = " ".join(Tree(page).text.split())
    for expected in (
        "PSNR ↑ 27.31 dB 90",
        "FD-domain ↓ 4.871 200 1.213",
        "domain-classifier@a1b2c3d4",
        "against digits@1c0ffee0 (n = 1,597)",
        "37.1 % below",
        "94.1 % of 256 codes in use (15 never chosen)",
        "train_tokenizer 2 min 21 s 700 kB",
        "4 min 26 s in all",
        "from corpus 1c0ffee0, tokenizer 2c0ffee1",
        "torch 2.14.1",
    ):
        assert expected in text


def test_the_same_inputs_give_the_same_page(inputs: ReportInputs, page: str) -> None:
    assert render(inputs) == page


@pytest.mark.parametrize("field", ["name", "sentence", "class", "key", "curve", "metric", "manifest", "recipe"])
def test_markup_in_data_stays_text(inputs: ReportInputs, field: str) -> None:
    picture = inputs.originals[0]
    evil_manifest = manifests()[0] | {"kind": EVIL, "stage": EVIL, "summary": {EVIL: EVIL}, "environment": {EVIL: EVIL}}
    dirty = {
        "name": replace(inputs, name=EVIL),
        "sentence": replace(inputs, sentence=EVIL),
        "class": replace(inputs, samples=[SampleRow(EVIL, [picture])]),
        "key": replace(inputs, key_numbers=[KeyNumber(EVIL, EVIL, EVIL)]),
        "curve": replace(inputs, curves=[Curves(EVIL, EVIL, {EVIL: [(1, 2.0), (2, 1.0)]})]),
        "metric": replace(inputs, metrics=[metric(EVIL, 1.0, unit=EVIL, note=EVIL, reference=EVIL)]),
        "manifest": replace(inputs, manifests=[evil_manifest]),
        "recipe": replace(inputs, recipe={EVIL: EVIL}),
    }
    tree = Tree(render(dirty[field]))
    assert not {"b", "script"} & (set(tree.tags) - set(Tree(render(inputs)).tags))
    assert "script" not in tree.tags
    assert not any(name == "onload" for _, name, _ in tree.attributes)
    assert "<b>bold</b>" in tree.text


def test_secrets_in_urls_are_left_out(inputs: ReportInputs) -> None:
    source = {"kind": "folder", "url": "s3://key:hunter2@host/images"}
    dirty = replace(inputs, manifests=[manifests()[0] | {"recipe": {"source": source}}], recipe={"shard": source})
    page = render(dirty)
    assert "hunter2" not in page
    assert "s3://…@host/images" in page


def test_empty_sections_are_left_out() -> None:
    tree = Tree(render(ReportInputs(name="nothing", sentence="A run that has only begun.")))
    assert tree.values("section", "id") == []
    assert "A run that has only begun." in tree.text


def test_a_prior_worse_than_the_baseline_is_said_to_be(inputs: ReportInputs) -> None:
    assert inputs.likelihood is not None
    page = render(replace(inputs, likelihood=replace(inputs.likelihood, prior=4.0)))
    assert "15.2 % above" in " ".join(Tree(page).text.split())


def test_every_original_needs_its_reconstruction(inputs: ReportInputs) -> None:
    with pytest.raises(ValueError, match="16 originals, but 15 reconstructions"):
        replace(inputs, reconstructions=inputs.reconstructions[1:])


def test_large_photographs_are_shrunk(inputs: ReportInputs) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 768, 3), dtype=np.uint8)
    page = render(replace(inputs, originals=[noise], reconstructions=[noise], samples=[SampleRow("", [noise])]))
    sources = Tree(page).values("img", "src")
    sizes = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size for source in sources]
    assert sizes == [(192, 256), (192, 256), (96, 128)]


def test_the_template_is_found_from_any_directory(tmp_path: Path) -> None:
    code = "from tasks.report import ReportInputs, render; print(render(ReportInputs(name='n', sentence='s'))[:15])"
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "<!doctype html>"

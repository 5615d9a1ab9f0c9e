"""Two pipelines side by side: what differs, what may be compared, the same images and seeds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.store import Artifact, Store
from tasks import compare
from tasks.comparison_sides import differing_recipes, sides_of
from tasks.stage import execute
from tests import tiny
from tests.tiny import Published
from vqgan_core.config import CompareConfig


@pytest.fixture(scope="module")
def both(published: Published, tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Artifact, Artifact]:
    """The tiny pipeline, and one with a narrower prior, in one store."""
    copy = published.copy(tmp_path_factory.mktemp("two") / "store")
    other = tiny.tiny_config(copy.root, copy.source, prior__width=16, sample__temperature=0.5)
    return copy, copy.artifacts["evaluation"], tiny.build(other)["evaluation"]


@pytest.fixture(scope="module")
def comparison(both: tuple[Published, Artifact, Artifact]) -> Artifact:
    copy, *evaluations = both
    store = Store.open(copy.config.store)
    sides = sides_of(store, [artifact.manifest.fingerprint[:12] for artifact in evaluations])
    config = CompareConfig(num_images=4, num_samples=5)
    return store.get(execute(compare.request(config, sides), store))


def test_what_differs_is_all_that_differs(comparison: Artifact) -> None:
    told = json.loads(comparison.read("comparison.json"))
    assert told["differences"] == {"sample.temperature": [1.0, 0.5], "train_prior.width": [32, 16]}


def test_the_page_shows_numbers_pictures_and_curves(comparison: Artifact) -> None:
    page = comparison.read("comparison.html").decode()
    assert page.count('alt="original ') == 4
    assert page.count('alt="A ') == page.count('alt="B ') == 4
    assert page.count('of A">') == page.count('of B">') == 5
    for name in ("PSNR", "prior NLL", "FD-domain", "train_prior.width", "Prior: validation NLL"):
        assert name in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is fetched from elsewhere"
    assert comparison.read("summary.md").decode().count("data:image/png") == 5


def test_the_same_tokenizer_reconstructs_the_same(comparison: Artifact) -> None:
    page = comparison.read("comparison.html").decode()
    strips = [re.findall(rf'src="([^"]+)" alt="{letter} \d', page) for letter in "AB"]
    assert strips[0] == strips[1]
    samples = [re.findall(rf'src="([^"]+)" alt="Sample \d of {letter}', page) for letter in "AB"]
    assert samples[0] != samples[1], "but the priors differ"


def test_the_best_is_marked_only_among_comparable_numbers(comparison: Artifact) -> None:
    rows = re.findall(r'<tr>\s*<td class="name">(.*?)</tr>', comparison.read("comparison.html").decode(), re.DOTALL)
    found = {row.split("&nbsp;<")[0]: row for row in rows}
    assert found["prior NLL"].count("(best)") == 1
    assert '<td class="depends"></td>' in found["prior NLL"]
    assert found["FD-domain"].count("(best)") <= 1


def test_numbers_in_the_run_s_page_have_counts_intervals_and_directions(comparison: Artifact) -> None:
    text = comparison.read("summary.md").decode()
    assert "| metric | A | B | n | not comparable: what differs |" in text
    row = next(line for line in text.splitlines() if line.startswith("| prior NLL ↓"))
    assert re.fullmatch(r"\| prior NLL ↓ \|( (\*\*)?\S+ nats/token(\*\*)? \(\S+ … \S+\) \|){2} [\d,]+ \|  \|", row), row
    assert row.count("**") == 2, "one is the best"


def test_a_prior_brings_its_evaluation(both: tuple[Published, Artifact, Artifact]) -> None:
    copy = both[0]
    store = Store.open(copy.config.store)
    prior = copy.artifacts["prior"].manifest.fingerprint
    side = sides_of(store, [prior, copy.artifacts["tokenizer"].manifest.fingerprint])[0]
    assert side.artifacts["evaluation"].manifest.fingerprint == copy.artifacts["evaluation"].manifest.fingerprint
    assert "PSNR" in side.metrics()
    assert differing_recipes([side, side]) == []


def test_defaults_that_no_fingerprint_holds_are_no_difference(both: tuple[Published, Artifact, Artifact]) -> None:
    """Later fields are left out of a recipe while they hold their default."""
    store = Store.open(both[0].config.store)
    sides = sides_of(store, [artifact.manifest.fingerprint for artifact in both[1:]])
    told = {
        "evaluation": {"protocol": {"kind": "own", "num_neighbours": 5}}, "tokenizer": {"damaged_shards": "skip"}
    }  # fmt: skip
    artifacts = dict(sides[1].artifacts)
    for kind, fields in told.items():
        manifest = artifacts[kind].manifest
        recipe = {**manifest.recipe, **fields}
        artifacts[kind] = replace(artifacts[kind], manifest=manifest.model_copy(update={"recipe": recipe}))
    changed = replace(sides[1], artifacts=artifacts)
    assert dict(differing_recipes([sides[0], changed])) == {
        "train_tokenizer.damaged_shards": ["stop", "skip"], "train_prior.width": [32, 16],
        "sample.temperature": [1.0, 0.5], "evaluate.protocol.num_neighbours": [3, 5],
    }  # fmt: skip


def test_a_stage_that_a_side_has_not_is_no_difference(both: tuple[Published, Artifact, Artifact]) -> None:
    store = Store.open(both[0].config.store)
    tokenizer = both[0].artifacts["tokenizer"].manifest.fingerprint
    side = sides_of(store, [tokenizer, both[2].manifest.fingerprint])
    assert not [name for name, _ in differing_recipes(side) if name.startswith(("train_prior", "sample"))]


def test_what_cannot_be_compared_is_refused(both: tuple[Published, Artifact, Artifact], tmp_path: Path) -> None:
    store = Store.open(both[0].config.store)
    one, corpus = (both[0].artifacts[kind].manifest.fingerprint for kind in ("prior", "corpus"))
    with pytest.raises(ValueError, match="2 artifacts, 1 of them different: give 2 to 26"):
        sides_of(store, [one, one])
    with pytest.raises(ValueError, match="is a corpus: give one of tokenizer"):
        sides_of(store, [one, corpus])

"""`tessera sample --top-prior`: one prior draws the coarser of two levels, and another, told it, the finer."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.store import Artifact, Store
from datasets.tokens import TokenDataset
from tasks.models import load_prior, load_tokenizer, prior_config
from tasks.sample import read_samples
from tests import tiny
from tests.flows.command_line import CommandLine
from vqgan_core.config import SamplingConfig
from vqgan_core.prior import sample_tokens
from vqgan_core.training.streams import stream_seed

pytestmark = pytest.mark.usefixtures("harness")

CPU = torch.device("cpu")
TWO_LEVELS = {**tiny.TWO_LEVELS, "encode__views": ["center"], "sample__images_per_shard": 4}
OF_THE_TOP = ("prior.target=indices_top", "prior.condition_columns=[]")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("levels") / "store"


@pytest.fixture(scope="module")
def made(root: Path, digit_folder: Path) -> dict[str, Artifact]:
    return tiny.build(tiny.tiny_config(root, digit_folder, **TWO_LEVELS), last="train_prior")


@pytest.fixture
def preset(root: Path, digit_folder: Path, tmp_path: Path) -> Path:
    return tiny.write_preset(tmp_path / "two.yaml", root, digit_folder, **TWO_LEVELS)


def test_both_levels_are_drawn_and_decoded(
    cli: CommandLine, preset: Path, root: Path, made: dict[str, Artifact]
) -> None:
    top_name = cli("train-prior", preset, *OF_THE_TOP, "--json").json["result"]["fingerprint"]
    store = Store.open(str(root))
    told = cli("sample", preset, "--json").json["result"]["fingerprint"]
    drawn = cli("sample", preset, "--top-prior", top_name, "--json").json["result"]["fingerprint"]
    assert drawn != told, "what two priors draw is another sample set than what is told records"
    samples, top = store.lookup("samples", drawn), store.lookup("prior", top_name)
    assert samples is not None
    assert top is not None
    assert prior_config(top)[0].target == "indices_top"
    assert [ref.kind for ref in samples.manifest.inputs] == ["prior", "tokenizer", "prior"]
    assert samples.manifest.inputs[2].digest == top.manifest.digest
    assert samples.manifest.summary["num_images"] == 10, "one of each class"
    abouts = [_about(samples, number) for number in range(10)]
    assert [about["class"] for about in abouts] == list(range(10))
    assert not any("told" in about for about in abouts)
    upper, lower, tokenizer = (
        load_prior(top, CPU),
        load_prior(made["prior"], CPU),
        load_tokenizer(made["tokenizer"], CPU),
    )
    settings, labels = SamplingConfig(guidance=1.5), torch.arange(10)
    seeds = [about["seed"] for about in abouts]
    with torch.no_grad():
        coarse = sample_tokens(upper, labels, [stream_seed(seed, "indices_top") for seed in seeds], settings)
        fine = sample_tokens(lower, labels, seeds, settings, columns={"indices_top": coarse})
        images = tokenizer.decode(fine.view(-1, 4, 4), coarse.view(-1, 2, 2))
    assert len(coarse.unique(dim=0)) > 1
    expected = ((images[:, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    for (pixels, _), image in zip(read_samples(samples), expected, strict=True):
        assert np.array_equal(pixels, image)


def _about(samples: Artifact, number: int) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(samples.read(f"samples-{number // 4:06d}.tar"))) as tar:
        member = tar.extractfile(f"{number:08d}.json")
        assert member is not None
        found: dict[str, Any] = json.loads(member.read())
        return found


def test_priors_that_make_no_image_together(cli: CommandLine, preset: Path, made: dict[str, Artifact]) -> None:
    prior = made["prior"].ref.fingerprint
    complaint = cli("sample", preset, "--top-prior", prior).complaint
    assert "--top-prior is of indices, told ['indices_top']: it is to be of indices_top alone" in complaint
    top = cli("train-prior", preset, *OF_THE_TOP, "prior.training.num_steps=1", "--json").json["result"]["fingerprint"]
    swapped = cli("sample", preset, "--prior", top, "--top-prior", top).complaint
    assert "the prior is told no column: it is to be told indices_top alone" in swapped
    assert (
        "sample.size_px with --top-prior"
        in cli("sample", preset, "--top-prior", top, "sample.size_px=[32,32]").complaint
    )


def test_tokens_are_shown_and_compared_column_by_column(
    cli: CommandLine, preset: Path, root: Path, made: dict[str, Artifact], published: tiny.Published
) -> None:
    here, tokens = ("--store", root), TokenDataset.open(made["tokens"])
    fingerprint = made["tokens"].ref.fingerprint
    first = cli("tokens", "head", fingerprint, "-n", 1, "--json", *here).json["rows"][0]["columns"]
    assert {name: np.ravel(grid).tolist() for name, grid in first.items()} == {
        name: tokens.tokens("train", column=name)[0].tolist() for name in ("indices", "indices_top")
    }
    assert "indices_top\n" in cli("tokens", "head", fingerprint, *here).out
    assert "indices_top: all splits, usage" in cli("tokens", "show", fingerprint, *here).out
    mirrored = cli("encode", preset, "encode.views=[center_flip]", "--json").json["result"]["fingerprint"]
    report = cli("tokens", "diff", fingerprint, mirrored, "--json", *here).json
    flipped = TokenDataset.open(_tokens(root, mirrored))
    for name, column in report["splits"]["val"]["columns"].items():
        grids = [each.tokens("val", column=name) for each in (tokens, flipped)]
        assert column["same_tokens"] == pytest.approx((grids[0] == grids[1]).double().mean().item())
        assert 0 < column["same_tokens"] < 1
        assert 0 < column["divergence"]["bits"] < 1
    assert list(report["splits"]["val"]["columns"]) == ["indices", "indices_top"]
    shutil.copytree(published.root, root, dirs_exist_ok=True)
    plain = published.artifacts["tokens"].ref.fingerprint
    other = cli("tokens", "diff", fingerprint, plain, *here).out
    assert f"indices_top: only in {fingerprint[:12]}" in other
    assert "indices: codes of different origin do not mean the same" in other
    assert cli("tokens", "diff", plain, fingerprint, "--json", *here).json["columns"]["indices_top"]["there"] == [
        False, True,
    ]  # fmt: skip


def _tokens(root: Path, fingerprint: str) -> Artifact:
    found = Store.open(str(root)).lookup("tokens", fingerprint)
    assert found is not None
    return found

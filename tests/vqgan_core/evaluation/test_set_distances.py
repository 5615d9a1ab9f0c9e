"""Distances between summarised sets: names, counts and everything that they depend on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqgan_core.config import ConfigError, ProtocolConfig
from vqgan_core.config.base import Config
from vqgan_core.evaluation import Features, JudgedSet, Metric, SetSummary, set_distances

ANY_SHA256, PUBLISHED_SHA256 = "ab" * 32, "6726825d" + "0" * 56


class Network:
    """Features that a test made up."""

    name, resize, library = "inception-v3", "299×299 px", "none"

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256

    def features(self, images: Tensor) -> Features:
        raise AssertionError


def summary(count: int, seed: int, *, shift: float = 0.0, num_kept: int = 1000) -> SetSummary:
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(count, 8, generator=generator) + shift
    spatial = torch.randn(count, 6, generator=generator) + shift
    logits = torch.randn(count, 5, generator=generator)
    parts = zip(*(torch.split(value, 7) for value in (pooled, spatial, logits)), strict=True)
    return SetSummary.of((Features(*part) for part in parts), count=count, num_kept=num_kept, seed=0, with_logits=True)


def measured(letter: str, sha256: str = PUBLISHED_SHA256, **protocol: object) -> dict[str, Metric]:
    sets = JudgedSet(letter, summary(60, 1, shift=0.1), summary(50, 2), "val split of corpus 0123")
    config = ProtocolConfig.model_validate({"num_subsets": 3, **protocol})
    return {metric.name: metric for metric in set_distances(sets, Network(sha256), config)}


def test_the_published_networks_numbers_have_the_fields_names() -> None:
    samples = measured("g")
    assert list(samples) == [
        "gFID@60", "gsFID@60", "gKID", "precision-inception-v3", "recall-inception-v3", "density-inception-v3",
        "coverage-inception-v3", "IS",
    ]  # fmt: skip
    assert list(measured("r"))[:3] == ["rFID@60", "rsFID@60", "rKID"]


def test_other_weights_have_other_names() -> None:
    names = measured("g", ANY_SHA256)
    assert {"gFD-inception-v3@60", "gsFD-inception-v3@60", "gKD-inception-v3", "IS-inception-v3"} <= set(names)
    assert not any("FID" in name or "KID" in name for name in names)


def test_a_number_holds_what_it_depends_on() -> None:
    metric = measured("p", num_neighbours=4)["pKID"]
    assert (metric.n, metric.n_reference) == (60, 50)
    assert metric.extractor_sha256 == PUBLISHED_SHA256
    assert metric.value_range == "bytes, rounded"
    assert metric.note == "3 subsets of 50, seed 2020"
    assert metric.follows == "protocol own with num_neighbours = 4, num_subsets = 3"
    assert metric.deviation is not None


def test_numbers_are_comparable_unless_something_moves_them() -> None:
    one, other = measured("g", num_neighbours=3), measured("g", num_neighbours=4)
    moved = {name for name in one if one[name].protocol() != other[name].protocol()}
    assert moved == {"precision-inception-v3", "recall-inception-v3"}, "k, and not the name of the protocol"
    seeded = measured("g", seed=1)
    assert {name for name in one if one[name].protocol() != seeded[name].protocol()} == {"gKID", "IS"}
    chosen = JudgedSet("g", summary(60, 1, num_kept=30), summary(50, 2), "")
    metrics = set_distances(chosen, Network(PUBLISHED_SHA256), ProtocolConfig())
    notes = {metric.name: metric.note for metric in metrics}
    assert notes["recall-inception-v3"] == "k = 3, border included; chosen by seed 2020"


def test_rounding_is_that_of_the_judged_bytes() -> None:
    ranges = {letter: measured(letter, rounding="truncate")[f"{letter}KID"].value_range for letter in "rpg"}
    assert ranges == {"r": "bytes, truncated", "p": "bytes, truncated", "g": "bytes, rounded"}


def test_fewer_images_than_features_are_told() -> None:
    sets = JudgedSet("r", summary(6, 1), summary(50, 2), "")
    metrics = {metric.name: metric for metric in set_distances(sets, Network(PUBLISHED_SHA256), ProtocolConfig())}
    assert metrics["rFID@6"].note == "too few images for 8 features: much above what more would give"
    assert metrics["rsFID@6"].note.startswith("too few images for 6 features")
    assert metrics["rKID"].note == "100 subsets of 6, seed 2020", "KID is not biased"
    assert measured("r")["rFID@60"].note == ""


def test_whole_sets_have_no_spread_of_subsets() -> None:
    sets = JudgedSet("r", summary(50, 1), summary(50, 2), "")
    metrics = {metric.name: metric for metric in set_distances(sets, Network(PUBLISHED_SHA256), ProtocolConfig())}
    assert (metrics["rKID"].deviation, metrics["rKID"].note) == (None, "all images in one set")


def test_samples_have_the_floor_of_two_real_sets() -> None:
    real = summary(400, 2)
    config = ProtocolConfig.model_validate({"num_subsets": 3})

    def of(letter: str, judged: SetSummary, reference: SetSummary = real) -> dict[str, Metric]:
        sets = JudgedSet(letter, judged, reference, "")
        return {metric.name: metric for metric in set_distances(sets, Network(PUBLISHED_SHA256), config)}

    perfect, shifted = of("g", summary(100, 1)), of("g", summary(100, 1, shift=0.6))
    with_floor = {name for name, metric in perfect.items() if metric.floor is not None}
    assert with_floor == {
        "gFID@100", "gKID", "precision-inception-v3", "recall-inception-v3", "density-inception-v3",
        "coverage-inception-v3",
    }  # fmt: skip
    for name in with_floor:
        assert perfect[name].floor == shifted[name].floor, "it is of real images alone"
    floor = perfect["gFID@100"].floor
    assert floor is not None
    assert perfect["gFID@100"].value == pytest.approx(floor, rel=0.5)
    assert shifted["gFID@100"].value > 3 * floor
    assert abs((perfect["precision-inception-v3"].floor or 0) - perfect["precision-inception-v3"].value) < 0.1
    many = of("g", summary(300, 1))
    assert many["gFID@300"].floor is None, "400 real images do not give 300 and as many others"
    assert many["gKID"].floor is not None
    assert all(metric.floor is None for metric in of("r", summary(100, 1)).values())


def test_a_summary_survives_its_file(tmp_path: Path) -> None:
    before = summary(30, 3)
    after = SetSummary.from_bytes(before.to_bytes())
    assert torch.equal(before.kept, after.kept)
    assert before.spatial is not None
    assert after.spatial is not None
    assert torch.equal(before.spatial.scatter, after.spatial.scatter)
    assert after.pooled.count == 30
    assert before.to_bytes() == after.to_bytes()


def test_kept_features_are_a_seeded_choice() -> None:
    whole, some = summary(40, 4), summary(40, 4, num_kept=10)
    assert len(some.kept) == 10
    rows = {tuple(row) for row in whole.kept.tolist()}
    assert {tuple(row) for row in some.kept.tolist()} < rows
    assert not torch.equal(some.kept, whole.kept[:10]), "not simply the first"


def test_a_set_that_changed_is_noticed() -> None:
    parts = [Features(torch.zeros(3, 2))]
    with pytest.raises(ValueError, match="expected features of 4 images, got 3"):
        SetSummary.of(parts, count=4, num_kept=1, seed=0, with_logits=False)


def test_protocols_by_name_and_with_changes() -> None:
    adm = ProtocolConfig.model_validate("adm")
    assert (adm.num_kept_reference, adm.num_samples) == (10_000, 50_000)
    assert adm.described == "protocol adm"
    changed = ProtocolConfig.model_validate({"kind": "adm", "num_samples": 5000})
    assert changed.described == "protocol adm with num_samples = 5000"
    assert changed.num_kept_judged == adm.num_kept_judged
    own, llamagen = ProtocolConfig(), ProtocolConfig.model_validate("llamagen")
    assert (adm.rounding, llamagen.rounding, own.rounding) == ("truncate", "round", "round"), "as their code does"

    class Holder(Config):
        protocol: ProtocolConfig = ProtocolConfig()

    assert Holder.load(None, ["protocol=llamagen", "protocol.rounding=truncate"]).protocol.kind == "llamagen"
    with pytest.raises(ConfigError, match=r"own.*paper.*adm.*llamagen"):
        Holder.load(None, ["protocol=fid"])

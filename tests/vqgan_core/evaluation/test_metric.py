"""A metric keeps its protocol, and is not called what it is not."""

from __future__ import annotations

import pytest

from vqgan_core.config import ConfigError
from vqgan_core.evaluation import Metric
from vqgan_core.evaluation.metric import FID_SHA256

GOOD = {"name": "PSNR", "value": 26.5, "unit": "dB", "n": 90, "higher_is_better": True}


@pytest.mark.parametrize("name", ["FID", "rFID", "gFID-50k", "fid"])
def test_no_other_distance_is_called_fid(name: str) -> None:
    for features in ({}, {"extractor": "inception-v3", "extractor_sha256": "0" * 64}):
        with pytest.raises(ConfigError, match="reserved for features of the FID Inception network"):
            Metric.validated(GOOD | features | {"name": name}, origin="metric")


def test_the_published_network_may_say_fid() -> None:
    published = {"extractor": "inception-v3", "extractor_sha256": FID_SHA256 + "0" * 56}
    assert Metric(**GOOD | published | {"name": "rFID@90"}).name == "rFID@90"


def test_a_metric_survives_json() -> None:
    metric = Metric(**GOOD, extractor="domain-classifier", extractor_sha256="0" * 64, floor=1.5)
    assert Metric.model_validate_json(metric.model_dump_json()) == metric


def test_features_without_the_digest_of_their_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="extractor and extractor_sha256"):
        Metric.validated(GOOD | {"extractor": "inception"}, origin="metric")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_no_metric(value: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        Metric.validated(GOOD | {"value": value}, origin="metric")


def test_protocols_tell_what_may_be_compared() -> None:
    metric = Metric(**GOOD)
    assert metric.protocol() == Metric(**GOOD | {"value": 30.0}).protocol()
    assert metric.protocol() != Metric(**GOOD | {"n": 91}).protocol()
    assert metric.protocol() != Metric(**GOOD, resize="32×32 px").protocol()
    near, far = (Metric(**GOOD, note=f"k = {k}, border included") for k in (3, 5))
    assert near.protocol() != far.protocol(), "a constant that moves the number stands in the note"
    assert near.protocol() == near.model_copy(update={"floor": 1.0, "deviation": 0.1, "low": 2.0}).protocol()

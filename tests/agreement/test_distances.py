"""Distances between sets against torch-fidelity, torchmetrics, clean-fid and prdc, to their own tests' tolerances."""

from __future__ import annotations

import numpy as np
import prdc
import pytest
import torch
from cleanfid import fid as cleanfid
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.fid import _compute_fid

from vqgan_core.evaluation import (
    FeatureSums,
    GaussianStatistics,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)

RELATIVE = 1e-6  # torchmetrics' test of FID allows 1e-3, torch-fidelity's three digits
Sets = tuple[Tensor, Tensor]


def test_frechet_distance(feature_sets: Sets) -> None:
    real, judged = feature_sets
    ours = frechet_distance(*(FeatureSums.of(features).statistics() for features in feature_sets))
    assert ours == pytest.approx(frechet_distance(*map(GaussianStatistics.of, feature_sets)), rel=RELATIVE)
    statistics = map(fid_features_to_statistics, (judged, real))
    fidelity = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(fidelity, rel=1e-5)
    moments = [(part.double().mean(0), torch.cov(part.double().T)) for part in feature_sets]
    assert ours == pytest.approx(_compute_fid(*moments[0], *moments[1]).item(), rel=RELATIVE)
    arrays = [np.asarray(value) for pair in moments for value in pair]
    assert ours == pytest.approx(cleanfid.frechet_distance(*arrays), rel=RELATIVE)


def test_kernel_distance(feature_sets: Sets) -> None:
    real, judged = feature_sets
    ours = kernel_distance(real, judged, num_subsets=20, subset_size=100, seed=2020)
    told = {"kid_subsets": 20, "kid_subset_size": 100, "rng_seed": 2020, "verbose": False}
    theirs = kid_features_to_metric(judged, real, **told)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert ours.deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
    whole = kernel_distance(real[:260], judged, num_subsets=1, subset_size=1000, seed=0)
    assert whole.subset_size == 260
    clean = cleanfid.kernel_distance(real[:260].numpy(), judged.numpy(), num_subsets=1, max_subset_size=260)
    assert whole.value == pytest.approx(clean, rel=1e-4)  # of whole sets, whatever its seed is


def test_inception_score(feature_sets: Sets) -> None:
    logits = feature_sets[1] * 3
    ours = inception_score(logits, num_splits=10, seed=2020)
    told = {"splits": 10, "shuffle": True, "rng_seed": 2020}
    theirs = isc_features_to_metric(logits, **told)
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert ours.deviation == pytest.approx(theirs["inception_score_std"], rel=1e-9)


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall(feature_sets: Sets, k: int, capsys: pytest.CaptureFixture[str]) -> None:
    real, judged = feature_sets
    ours = precision_recall(real, judged, num_neighbours=k)
    fidelity = prc_features_to_metric(judged, real, prc_neighborhood=k, prc_batch_size=100, verbose=False)
    assert (ours.precision, ours.recall) == pytest.approx((fidelity["precision"], fidelity["recall"]), abs=1e-6)
    naver = prdc.compute_prdc(real.double().numpy(), judged.double().numpy(), nearest_k=k)
    capsys.readouterr()  # it prints
    # Its border is left out, ours included: no distance of real numbers lies exactly on one.
    assert (ours.precision, ours.recall) == pytest.approx((naver["precision"], naver["recall"]), abs=1e-12)
    assert 0.1 < ours.precision < 0.999, "or nothing was compared"


@pytest.mark.parametrize("k", [3, 5])
def test_density_and_coverage(feature_sets: Sets, k: int, capsys: pytest.CaptureFixture[str]) -> None:
    real, judged = feature_sets
    ours = density_coverage(real, judged, num_neighbours=k, batch_size=64)
    naver = prdc.compute_prdc(real.double().numpy(), judged.double().numpy(), nearest_k=k)
    capsys.readouterr()
    assert (ours.density, ours.coverage) == pytest.approx((naver["density"], naver["coverage"]), abs=1e-12)

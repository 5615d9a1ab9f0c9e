"""Artifacts side by side on one page: the `compare` stage alone."""

from __future__ import annotations

import os
from typing import Any

from prefect import flow

from datasets.config import StoreConfig
from flows.run import StageRunner
from tasks import compare as stage
from tasks.comparison_sides import sides_of
from tasks.config import PipelineConfig
from vqgan_core.config import CompareConfig


@flow(name="compare", persist_result=True, result_serializer="json")
def compare(
    fingerprints: list[str],
    store: str | None = None,
    num_images: int = 8,
    num_samples: int = 8,
) -> dict[str, Any]:
    """Put artifacts side by side on one page.

    Args:
        fingerprints: evaluations, sample sets, priors or tokenizers: two or more fingerprints, or their beginnings.
        store: URL of the artifact store; empty: TESSERA_STORE, or ./store.
        num_images: images that all tokenizers reconstruct.
        num_samples: images that all priors draw, from the same seeds and of the same classes.

    Returns:
        The reference of the published comparison.
    """
    where = store or os.environ.get("TESSERA_STORE") or StoreConfig().url
    run = StageRunner(PipelineConfig.load(None, {"name": "compare", "store.url": where}))
    sides = sides_of(run.store, fingerprints)
    config = CompareConfig.validated({"num_images": num_images, "num_samples": num_samples}, origin="compare")
    return run.alone(stage.request(config, sides)).ref.model_dump(mode="json")

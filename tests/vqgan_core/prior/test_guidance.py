"""The course of the guidance scale over an image's steps."""

from __future__ import annotations

import math

import pytest
import torch

from tests.vqgan_core.prior.test_reading_orders import SPEC, make_prior
from vqgan_core.config import SamplingConfig
from vqgan_core.prior import sample_tokens
from vqgan_core.prior.guidance import guidance_scale

LABELS = torch.tensor([0, 1, 2, 1])


def config(**schedule: object) -> SamplingConfig:
    return SamplingConfig.model_validate({"temperature": 0, "guidance": 5.0, "guidance_schedule": schedule})


def course(**schedule: object) -> list[float]:
    return [guidance_scale(config(**schedule), step, 8) for step in range(9)]


def test_constant() -> None:
    assert course(kind="constant") == [5.0] * 9


def test_power_cosine_rises_from_no_guidance_to_the_full_scale() -> None:
    linear = course(kind="power_cosine")
    assert (linear[0], linear[4], linear[8]) == pytest.approx((1, 3, 5))
    assert linear[2] == pytest.approx(1 + 4 * (1 - math.cos(math.pi / 4)) / 2)
    late = course(kind="power_cosine", power=3.0)
    assert late == sorted(late)
    assert all(a < b for a, b in zip(late[1:8], linear[1:8], strict=True))
    assert late[8] == pytest.approx(5)


def test_an_interval_is_guided_and_the_rest_is_not() -> None:
    assert course(kind="interval", start=0.25, end=0.75) == [1, 1, 5, 5, 5, 5, 1, 1, 1]
    assert course(kind="interval")[:8] == [5] * 8


@torch.no_grad()
@pytest.mark.parametrize("schedule", [{"kind": "power_cosine", "power": 2.0}, {"kind": "interval", "end": 0.5}])
@pytest.mark.parametrize("order", ["row", "spiral_in"])
def test_samples_are_guided_as_scheduled(schedule: dict[str, object], order: str) -> None:
    prior, settings = make_prior(order), config(**schedule)
    images = sample_tokens(prior, LABELS, range(4), settings)
    told, not_told = prior(images, LABELS), prior(images, LABELS, torch.ones(4, dtype=torch.bool))
    when = prior.order.argsort().tolist()
    scales = torch.tensor([guidance_scale(settings, when[cell], SPEC.num_tokens) for cell in range(SPEC.num_tokens)])
    guided = not_told + scales[:, None] * (told - not_told)
    assert torch.equal(guided.argmax(-1), images)

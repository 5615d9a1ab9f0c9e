"""Configs of priors and sampling refuse what does not fit together, and say what would."""

from __future__ import annotations

from typing import Any

import pytest

from vqgan_core.config import Config, ConfigError, PriorConfig, SamplingConfig, TrainPriorConfig


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (PriorConfig, {"num_key_value_heads": 2}, "option of modern"),
        (PriorConfig, {"architecture": "modern", "width": 36, "num_heads": 6}, "36 / num_heads 6 is no multiple of 4"),
        (PriorConfig, {"architecture": "modern", "num_key_value_heads": 5}, "5 does not divide num_heads 12"),
        (PriorConfig, {"order": "diagonal"}, "order: input should be 'row', 'column'"),
        (TrainPriorConfig, {"random_order.anneal_to": 0.2}, r"anneal_to 0\.2 is before anneal_from 0\.5"),
        (SamplingConfig, {"guidance_schedule.kind": "linear"}, "guidance_schedule"),
        (
            SamplingConfig,
            {"guidance_schedule.kind": "interval", "guidance_schedule.start": 0.5, "guidance_schedule.end": 0.5},
            "no step would be guided",
        ),
    ],
)
def test_what_does_not_fit_is_refused(config: type[Config], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(overrides=values)


def test_a_guidance_schedule_can_be_given_by_its_name() -> None:
    config = SamplingConfig.load(overrides=["guidance_schedule=interval", "guidance_schedule.end=0.5"])
    assert config.model_dump()["guidance_schedule"] == {"kind": "interval", "start": 0.0, "end": 0.5}


def test_activation_checkpointing_is_no_part_of_the_recipe() -> None:
    plain, saving = TrainPriorConfig(), TrainPriorConfig.load(overrides=["execution.activation_checkpointing=true"])
    assert saving.execution.activation_checkpointing
    assert saving.recipe() == plain.recipe()


def test_what_only_training_needs_is_not_stored_with_the_weights() -> None:
    config = TrainPriorConfig(order="z_curve", architecture="modern", token_corruption=0.1)
    stored = config.model()
    assert (stored.order, stored.architecture) == ("z_curve", "modern")
    assert not {"token_corruption", "random_order"} & set(stored.model_dump())


def test_a_size_stands_for_its_fields_and_what_comes_later_counts() -> None:
    sizes = ("num_layers", "num_heads", "width")
    config = TrainPriorConfig.load(overrides=["num_layers=2", "width=8", "num_heads=1", "size=110m"])
    assert [getattr(config, name) for name in sizes] == [12, 12, 768]
    config = TrainPriorConfig.load(overrides=["num_layers=9", "size=5m", "num_layers=2"])
    assert [getattr(config, name) for name in sizes] == [2, 4, 256]
    assert "size" not in config.recipe()
    preset = {"num_layers": 3, "num_heads": 1, "width": 4}
    assert TrainPriorConfig.model_validate({**preset, "size": "1m"}).width == 128
    with pytest.raises(ConfigError, match="there is no prior of size '2m': choose one of 1m, 5m, 20m"):
        TrainPriorConfig.load(overrides=["size=2m"])

"""What holds for the whole house: whose packages these are, what they import, that presets and configs are sound."""

from __future__ import annotations

import importlib
import itertools
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from pydantic import BaseModel

from tasks.config import PRESETS, PipelineConfig, find_preset
from tests.conftest import LONGEST_FIRST, SHARING_A_SERVER
from vqgan_core.config import Config, ConfigError, ExecutionConfig, PatchGanConfig, canonical_json
from vqgan_core.config.base import INPUT, LATER
from vqgan_core.losses import PatchDiscriminator
from vqgan_core.tokenizer.cost import num_parameters, tokenizer_cost

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("flows", "tasks", "datasets", "vqgan_core")
VGG16 = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)  # widths of its 3×3 convolutions
PRESET_NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _modules() -> Iterator[str]:
    for room in ROOMS:
        yield room
        for info in pkgutil.walk_packages([str(ROOT / room)], prefix=f"{room}."):
            yield info.name


MODULES = list(_modules())


@pytest.mark.parametrize("room", ROOMS)
def test_the_packages_are_ours(room: str) -> None:
    """The name `datasets` also belongs to a package of Hugging Face."""
    assert Path(importlib.import_module(room).__file__ or "").parent == ROOT / room


@pytest.mark.parametrize("prefix", [*LONGEST_FIRST, *itertools.chain(*SHARING_A_SERVER.values())])
def test_tests_that_are_named_are_there(prefix: str) -> None:
    assert (ROOT / prefix).exists(), "tests/conftest.py names tests that have moved"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_keeps_its_promises(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), f"{name} does not say what it is for"
    public = getattr(module, "__all__", [])
    assert [entry for entry in public if not hasattr(module, entry)] == []
    assert len(set(public)) == len(public)


def _without(blocked: str, modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules in a fresh process in which some others do not exist."""
    program = f"""
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}.split():
            raise ModuleNotFoundError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
for name in {modules!r}:
    importlib.import_module(name)
print(len(sys.modules))
"""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize(
    ("room", "blocked"),
    [
        ("vqgan_core", "prefect flows tasks datasets pyarrow s3fs"),
        ("datasets", "prefect flows tasks lpips"),
    ],
)
def test_a_room_stands_without_those_above_it(room: str, blocked: str) -> None:
    done = _without(blocked, [name for name in MODULES if name.split(".")[0] == room])
    assert done.returncode == 0, done.stderr


def test_a_pipeline_starts_without_what_only_some_need() -> None:
    """It takes seconds of every start: LPIPS, figures, Fréchet distances, S3; sympy comes along with spread models."""
    done = _without("lpips torchvision matplotlib scipy aiohttp sympy", ["tasks.pipeline"])
    assert done.returncode == 0, done.stderr


def test_the_block_blocks() -> None:
    done = _without("prefect", ["flows.end_to_end"])
    assert done.returncode == 1
    assert "prefect is blocked" in done.stderr


# ---- configs


def _configs(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A config model and all that its fields may hold."""
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for found in _models_in(field.annotation):
                _configs(found, seen)
    return seen


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


CONFIGS = sorted(_configs(PipelineConfig, set()), key=lambda model: model.__name__)


@pytest.mark.parametrize("model", CONFIGS, ids=lambda model: model.__name__)
def test_every_field_says_what_it_is(model: type[BaseModel]) -> None:
    assert issubclass(model, Config)
    assert (model.__doc__ or "").strip()
    silent = [name for name, field in model.model_fields.items() if not field.description and name != "kind"]
    assert silent == []


def test_the_defaults_are_a_config() -> None:
    config = PipelineConfig.load()
    assert PipelineConfig.validated(json.loads(config.model_dump_json()), origin="its dump") == config


def test_there_are_presets() -> None:
    assert {"digits", "folder"} <= set(PRESET_NAMES)
    assert find_preset("digits") == PRESETS / "digits.yaml"


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_preset_says_what_to_expect(name: str) -> None:
    text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    opening = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert re.search(rf"tessera (run|train-tokenizer) {name}\b|make demo", opening)
    for pattern in ("command: ", "hardware: ", r"\d (minutes|hours)|time:     not run here", "expect: "):
        assert re.search(pattern, opening), f"{name}.yaml opens without its {pattern}"


#: In millions, with LPIPS' VGG (14.7) and the discriminator where their count has them: those of the published models.
PUBLISHED_PARAMETERS: dict[str, tuple[str, dict[str, Any], bool, float]] = {
    "taming f16, 1,024": ("vqgan-f16-k1024", {}, True, 89.6),
    "taming f16, 16,384": ("vqgan-f16-k16384", {}, True, 93.6),
    "taming Gumbel f8": (
        "vqgan-f8-k16384", {"tokenizer.codebook_size": 8192, "tokenizer.quantizer.kind": "gumbel"}, False, 69.0,
    ),
    "taming depth": ("depth", {}, False, 72.137),
    "taming COCO-Stuff": ("segmentation", {}, False, 72.557),
    "LlamaGen VQ-16": ("vq16-large", {}, False, 71.9),
    "DALL·E's dVAE": ("dvae-f8", {}, False, 97.6),
}  # fmt: skip


@pytest.mark.parametrize("model", PUBLISHED_PARAMETERS)
def test_presets_have_as_many_parameters_as_what_they_follow(model: str) -> None:
    name, overrides, with_losses, expected = PUBLISHED_PARAMETERS[model]
    config = PipelineConfig.preset(name, overrides).tokenizer
    millions = tokenizer_cost(config.model()).num_parameters / 1e6
    if with_losses:
        assert isinstance(config.loss.adversarial, PatchGanConfig)
        with torch.device("meta"):
            millions += num_parameters(PatchDiscriminator(config.loss.adversarial, 3)) / 1e6
        millions += sum(9 * wide * deep + deep for wide, deep in itertools.pairwise(VGG16)) / 1e6
    assert millions == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_preset_survives_its_manifest(name: str) -> None:
    """What is written into a manifest is the whole recipe: the same config comes out of it."""
    config = PipelineConfig.preset(name)
    assert PipelineConfig.validated(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))), origin="") == config
    for section in ("shard", "tokenizer", "encode", "prior", "sample", "evaluate"):
        stage = getattr(config, section)
        recipe = json.loads(canonical_json(stage.recipe()))
        again = type(stage).validated(recipe, origin="its recipe")
        assert canonical_json(again.recipe()) == canonical_json(stage.recipe())
        assert "execution" not in recipe


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_preset_with_a_typing_mistake_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"sample\.temprature: there is no such field"):
        PipelineConfig.preset(name, {"sample.temprature": 1.0})


#: Of the pipeline's config: a title, where, and what flows decide.
NO_STAGES = {"name", "store", "stage_timeout_seconds", "promote", "retrain"}


def test_execution_is_no_recipe() -> None:
    """Where a stage runs, and how fast, is in no fingerprint; everything else is."""
    stages = [field.annotation for name, field in PipelineConfig.model_fields.items() if name not in NO_STAGES]
    for annotation in stages:
        *_, stage = get_args(annotation) or (annotation,)  # of several by name: of each
        assert isinstance(stage, type)
        assert issubclass(stage, Config)
        config = stage()
        fields = type(config).model_fields
        later = {name for name, field in fields.items() if {LATER, INPUT} & set(field.metadata)}
        assert set(fields) - set(config.recipe()) - later == {"execution"}
        assert isinstance(getattr(config, "execution"), ExecutionConfig)  # noqa: B009 - Config itself has none

"""prefect.yaml says what it means: keys that Prefect knows, entrypoints that are flows, parameters that fit."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy import _models as models
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel

from flows.form import FIELDS
from tasks.config import PipelineConfig
from tests.flows.conftest import ROOT

SHARED = "x-shared"
PLAIN = {"string", "integer", "number", "boolean"}
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength")
PROCESS_JOB_VARIABLES = {"env", "command", "labels", "name", "stream_output", "working_dir"}


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """prefect.yaml with its anchors merged."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def deployments(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {deployment["name"]: deployment for deployment in content["deployments"]}


def flow_of(deployment: Mapping[str, Any]) -> Flow[..., Any]:
    module, _, name = deployment["entrypoint"].rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, Flow), f"{deployment['entrypoint']} is a {type(found).__name__}, not a flow"
    return found


def unknown_keys(value: Mapping[str, Any], model: type[BaseModel], where: str) -> list[str]:
    """Keys that Prefect would ignore in silence."""
    known = {field.alias or name for name, field in model.model_fields.items()}
    return [f"{where}.{key}" for key in value if key not in known]


def lint(content: Mapping[str, Any]) -> Iterator[str]:
    """Every key of the file that means nothing to Prefect."""
    yield from unknown_keys({k: v for k, v in content.items() if k != SHARED}, models.PrefectYamlModel, "top")
    for number, deployment in enumerate(content["deployments"]):
        where = f"deployments[{deployment.get('name', number)}]"
        yield from unknown_keys(deployment, models.DeploymentConfig, where)
        yield from unknown_keys(deployment["work_pool"], models.WorkPoolConfig, f"{where}.work_pool")
        variables = deployment["work_pool"].get("job_variables", {})
        yield from (f"{where}.job_variables.{name}" for name in variables if name not in PROCESS_JOB_VARIABLES)
        limit = deployment.get("concurrency_limit")
        if isinstance(limit, dict):
            yield from unknown_keys(limit, models.ConcurrencyLimitSpec, f"{where}.concurrency_limit")
        for schedule in deployment.get("schedules", []):
            yield from unknown_keys(schedule, models.RawScheduleConfig, f"{where}.schedules")
    for section in ("build", "push", "pull"):
        for step in content.get(section) or []:
            yield from unknown_arguments(step, section)


def unknown_arguments(step: Mapping[str, Any], section: str) -> Iterator[str]:
    """A step is a function by its full name, with its arguments; `id` names its output."""
    for name, arguments in step.items():
        module, _, function = name.rpartition(".")
        accepted = inspect.signature(getattr(importlib.import_module(module), function)).parameters
        yield from (f"{section}.{name}.{key}" for key in arguments if key not in accepted and key != "id")


def test_no_key_is_misspelled(content: dict[str, Any]) -> None:
    assert list(lint(content)) == []
    models.PrefectYamlModel.model_validate(content)


def test_every_shared_block_is_used(content: dict[str, Any]) -> None:
    for name, block in content[SHARED].items():
        users = [d["name"] for d in content["deployments"] if all(d.get(key) == value for key, value in block.items())]
        assert users, f"{SHARED}.{name} is used by no deployment"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (("deployments", 0, "concurency_limit"), "deployments[end-to-end].concurency_limit"),
        (("deployments", 1, "work_pool", "queue"), "deployments[shard].work_pool.queue"),
        (("deployments", -1, "concurrency_limit", "limt"), "deployments[retrain].concurrency_limit.limt"),
        (("pulls",), "top.pulls"),
        (("pull", 0, "prefect.deployments.steps.set_working_directory", "dir"), "pull.prefect.deployments.steps"),
    ],
)
def test_the_lint_finds_what_prefect_ignores(path: tuple[Any, ...], found: str) -> None:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = 3
    complaints = list(lint(content))  # several where the changed block is shared
    assert any(complaint.startswith(found) for complaint in complaints), complaints


def test_there_is_one_for_each_flow(deployments: dict[str, dict[str, Any]]) -> None:
    flows = {path.stem for path in (ROOT / "flows").glob("*.py") if _defines_a_flow(path.stem)}
    assert {deployment["entrypoint"] for deployment in deployments.values()} == {f"flows.{n}.{n}" for n in flows}
    for name, deployment in deployments.items():
        assert flow_of(deployment).name == name, "a deployment is named like its flow"
        assert deployment["description"]
    gpu = {name for name, deployment in deployments.items() if deployment["work_pool"]["name"] == "gpu"}
    assert gpu == {
        "end-to-end",
        "train-tokenizer",
        "encode",
        "train-prior",
        "sample",
        "sweep",
        "experiment-priors",
        "experiment-factors",
        "new-prior",
        "retrain",
    }
    for name, deployment in deployments.items():
        assert deployment["tags"] == ["tessera", "gpu" if name in gpu else "cpu"], "automations go by the tag"


def test_retraining_is_scheduled_and_waits_to_be_switched_on(deployments: dict[str, dict[str, Any]]) -> None:
    assert [schedule["active"] for schedule in deployments["retrain"]["schedules"]] == [False]
    assert not any("schedules" in deployment for name, deployment in deployments.items() if name != "retrain")


def test_parameters_fit_their_flows_and_presets(deployments: dict[str, dict[str, Any]]) -> None:
    chosen_by_people = {"new-prior": {"tokens": "3f2a"}}
    for name, deployment in deployments.items():
        flow_of(deployment).validate_parameters(deployment["parameters"] | chosen_by_people.get(name, {}))
        if name != "compare":
            PipelineConfig.preset(deployment["parameters"]["preset"])


def test_every_form_explains_its_fields(deployments: dict[str, dict[str, Any]]) -> None:
    for name, deployment in deployments.items():
        for field, schema in form_of(flow_of(deployment)).items():
            assert schema.get("description", "").strip(), f"{name}: {field} has no line in the docstring's Args"


def test_the_form_of_the_pipeline_is_short_and_plain(deployments: dict[str, dict[str, Any]]) -> None:
    form = form_of(flow_of(deployments["end-to-end"]))
    assert 10 <= len(form) <= 15
    assert list(form)[-1] == "overrides"
    for field, schema in form.items():
        kinds = {choice["type"] for choice in schema.get("anyOf", [schema])} - {"null"}
        assert kinds == ({"object"} if field == "overrides" else kinds & PLAIN), f"{field} is {kinds}"
        assert len(kinds) == 1, f"{field} is a union, which both UIs mishandle: {kinds}"
    assert set(form) - {"preset", "overrides"} == set(FIELDS)


def test_the_form_has_the_bounds_of_the_config(deployments: dict[str, dict[str, Any]]) -> None:
    """Whatever the config refuses, the form refuses before a run exists."""
    form = form_of(flow_of(deployments["end-to-end"]))
    checked = 0
    for field, keys in FIELDS.items():
        offered = bounds_of(form[field])
        for key in keys:
            for bound, value in bounds_of(config_schema(key)).items():
                if bound != "minLength":  # an empty text leaves the preset's value
                    assert offered.get(bound) == value, f"{field} has {offered}, {key} has {bound} {value}"
                    checked += 1
    assert checked >= 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size_px", 0), ("size_px", 20000), ("size_px", "large"), ("codebook_size", 1), ("codebook_size", 2**25),
        ("tokenizer_steps", 0), ("tokenizer_batch_size", -1), ("tokenizer_learning_rate", 0.0), ("prior_steps", 1.5),
        ("prior_learning_rate", -1e-3), ("num_per_class", 0), ("guidance", -0.1), ("seed", -1), ("overrides", 3),
        ("colour", "red"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(deployments: dict[str, dict[str, Any]], field: str, value: Any) -> None:
    with pytest.raises(Exception, match=field) as refused:
        flow_of(deployments["end-to-end"]).validate_parameters({field: value})
    assert type(refused.value).__name__ in {"ParameterTypeError", "SignatureMismatchError"}


def form_of(flow: Flow[..., Any]) -> dict[str, dict[str, Any]]:
    """The fields that the UI shows, in order."""
    properties: dict[str, dict[str, Any]] = parameter_schema(flow).properties
    return dict(sorted(properties.items(), key=lambda item: int(item[1]["position"])))


def bounds_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds of a field, whether or not it may be null."""
    choices = schema.get("anyOf", [schema])
    return {bound: choice[bound] for choice in choices for bound in BOUNDS if bound in choice}


def config_schema(dotted: str) -> dict[str, Any]:
    """The JSON schema of a config's field."""
    *path, last = dotted.split(".")
    model: Any = PipelineConfig
    for name in path:
        if name == "source":
            model = importlib.import_module("datasets.config").FolderSource
            continue
        annotation = model.model_fields[name].annotation
        choices = [choice for choice in get_args(annotation) if isinstance(choice, type)] or [annotation]
        model = choices[0]  # of several kinds, the one that presets have
    found: dict[str, Any] = model.model_json_schema()["properties"][last]
    return found


def _defines_a_flow(module: str) -> bool:
    return isinstance(getattr(importlib.import_module(f"flows.{module}"), module, None), Flow)

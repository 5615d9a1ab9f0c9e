"""deploy/: what Kubernetes and Prefect would say of the files there, as far as that is known without a cluster."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.templating import apply_values
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

from tests.flows.conftest import ROOT
from tests.flows.test_deployments import lint, unknown_arguments

DEPLOY = ROOT / "deploy"
SCALAR = {"str", "int", "bool", "float", "object", "datetime", "date"}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "kubernetes.json").read_text(encoding="utf-8"))
    return loaded


def _job(template: Mapping[str, Any], **variables: Any) -> dict[str, Any]:
    """The job that Prefect's worker would create for a run."""
    defaults = {name: field.get("default") for name, field in template["variables"]["properties"].items()}
    values = {name: value for name, value in defaults.items() if value is not None} | {"name": "run"} | variables
    configuration = KubernetesWorkerJobConfiguration(**apply_values(dict(template["job_configuration"]), values))
    configuration.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="digits"))
    manifest: dict[str, Any] = configuration.job_manifest
    return manifest


def unknown_fields(value: Any, kind: str, where: str) -> Iterator[str]:
    """Fields that Kubernetes does not know: it would drop them, or refuse the job."""
    models = importlib.import_module("kubernetes_asyncio.client.models")
    if listed := re.fullmatch(r"list\[(.*)\]", kind):
        for number, item in enumerate(value):
            yield from unknown_fields(item, listed[1], f"{where}[{number}]")
    elif mapped := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for name, item in value.items():
            yield from unknown_fields(item, mapped[1], f"{where}.{name}")
    elif kind not in SCALAR:
        model = getattr(models, kind)
        fields = {wire: model.openapi_types[name] for name, wire in model.attribute_map.items()}
        for name, item in value.items():
            if name in fields:
                yield from unknown_fields(item, fields[name], f"{where}.{name}")
            else:
                yield f"{where}.{name}"


def test_the_pools_template_makes_a_job(template: dict[str, Any]) -> None:
    job = _job(template, gpus=4, image="registry/tessera:abc")
    assert list(unknown_fields(job, "V1Job", "job")) == []
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry/tessera:abc"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert container["envFrom"] == [{"secretRef": {"name": "tessera"}}]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert "{{" not in json.dumps(job), "every placeholder is filled"
    assert pod["terminationGracePeriodSeconds"] > 30, "a checkpoint is written on SIGTERM"


def test_the_lint_finds_what_kubernetes_ignores(template: dict[str, Any]) -> None:
    job = _job(template)
    job["spec"]["template"]["spec"]["parallelism"] = 1
    assert list(unknown_fields(job, "V1Job", "job")) == ["job.spec.template.spec.parallelism"]


def test_every_variable_is_used_and_there(template: dict[str, Any]) -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])
    theirs = KubernetesWorker.get_default_base_job_template()
    assert set(template["job_configuration"]) <= set(theirs["job_configuration"])
    assert {"name", "command", "env", "labels"} <= used, "the worker gives these"


def test_the_variant_by_git_is_a_prefect_yaml() -> None:
    head = (DEPLOY / "prefect.git.yaml").read_text(encoding="utf-8")
    _, _, rest = (ROOT / "prefect.yaml").read_text(encoding="utf-8").partition("\n# What deployments share")
    content = yaml.safe_load(head + "# What deployments share" + rest)
    assert list(lint(content)) == []
    assert [list(unknown_arguments(step, "pull")) for step in content["pull"]] == [[]]
    (clone,) = content["pull"]
    assert clone["prefect.deployments.steps.git_clone"]["commit_sha"] == "{{ commit.stdout }}"
    assert len(content["deployments"]) == len(yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"])


def test_the_image_holds_what_setup_makes() -> None:
    """Hadolint has nothing to say; what the file names is there, and it installs as `make setup` does."""
    hadolint = Path(sys.executable).with_name("hadolint")
    # DL3008: Debian keeps one version of a package, so a pinned one is soon not there.
    done = subprocess.run(
        [hadolint, "--no-color", "--ignore", "DL3008", DEPLOY / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    instructions = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    verbs = [line.split()[0] for line in instructions if line.strip()]
    assert set(verbs) <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    for line in instructions:
        if line.startswith("COPY") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert name.startswith("--") or (ROOT / name).exists(), line
    assert "--requirement requirements.lock" in text
    assert verbs.index("USER") < verbs.index("CMD"), "nothing runs as root"
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ".venv" in ignored
    assert ".git" not in ignored, "manifests name the commit"

"""`tessera import taming` of transformers that are told something beside the image: its tokenizer comes along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from datasets.store import Artifact, Store
from tasks.models import load_prior, load_tokenizer, prior_config, tokenizer_config
from tasks.pipeline import Pipeline
from tasks.stage import execute
from tests.flows.command_line import CommandLine
from tests.tiny import tiny_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(parity_dir: Path) -> Mapping[str, Any]:
    return json.loads((parity_dir / "manifest.json").read_text())["cases"]


@pytest.fixture(scope="module")
def golden(parity_dir: Path, cases: Mapping[str, Any]) -> dict[str, Tensor]:
    """The original's transformer that is told a depth map's tokens: what it is given, and what it answers."""
    return load_file(parity_dir / cases["f4_net2net_vqcond"]["file"])


@pytest.fixture(scope="module")
def drin(
    parity_dir: Path, cases: Mapping[str, Any], golden: Mapping[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its checkpoint, with both tokenizers inside."""
    first = load_file(parity_dir / cases["f2_net2net_class"]["file"])
    state = {key[3:]: value for key, value in first.items() if key.startswith("sd.first_stage_model.")}
    state |= {key[3:]: value for key, value in golden.items() if key.startswith("sd.")}
    path = tmp_path_factory.mktemp("drin") / "drin.safetensors"
    save_file(state, path)
    return path


def project(cases: Mapping[str, Any], **changes: Any) -> str:
    """The project's YAML, as configs/drin_transformer.yaml."""
    config = cases["f4_net2net_vqcond"]["config"]
    params = {
        "first_stage_key": "image",
        "cond_stage_key": "depth",
        "transformer_config": {"target": "taming.modules.transformer.mingpt.GPT", "params": config["transformer"]},
        "first_stage_config": {
            "target": "taming.models.vqgan.VQModel", "params": cases["f2_net2net_class"]["config"]["first_stage"],
        },
        "cond_stage_config": {"target": "taming.models.vqgan.VQModel", "params": config["cond_stage"]},
    }  # fmt: skip
    model = {"target": "taming.models.cond_transformer.Net2NetTransformer", "params": params | changes}
    return yaml.safe_dump({"model": model})


def artifacts(store: Path, said: list[dict[str, Any]]) -> dict[str, Artifact]:
    opened = Store.open(str(store))
    found = {}
    for row in said:
        artifact = opened.lookup(row["kind"].rpartition(" ")[2], row["artifact"]["fingerprint"])
        assert artifact is not None
        found[row["kind"]] = artifact
    return found


def test_three_artifacts_that_answer_as_the_original(
    cli: CommandLine, drin: Path, cases: Mapping[str, Any], golden: Mapping[str, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "drin.yaml").write_text(project(cases))
    arguments = ("import", "taming", drin, "--config", tmp_path / "drin.yaml", "--store", tmp_path / "store", "--json")
    said = cli(*arguments).json
    assert [row["kind"] for row in said] == ["tokenizer", "condition tokenizer", "prior"]
    assert not any(row["keys"]["missing"] + row["keys"]["left_over"] for row in said)
    made = artifacts(tmp_path / "store", said)
    tokenizer, condition = (load_tokenizer(made[kind], CPU) for kind in ("tokenizer", "condition tokenizer"))
    tokens, told = tokenizer.encode(golden["x"]), condition.encode(golden["cond"])
    assert torch.equal(tokens.flatten(1), golden["z_indices"])
    assert torch.equal(told.flatten(1), golden["c_indices"])
    config, spec = prior_config(made["prior"])
    assert config.condition_columns == ("depth",)
    (column,) = spec.columns
    assert (column.height, column.width, column.codebook_size) == (8, 8, 128)
    assert (spec.tokenizer, column.tokenizer) == tuple(
        made[kind].manifest.digest for kind in ("tokenizer", "condition tokenizer")
    )
    assert [ref.digest for ref in made["prior"].manifest.inputs] == [spec.tokenizer, column.tokenizer]
    with torch.no_grad():
        logits = load_prior(made["prior"], CPU)(tokens.flatten(1), columns={"depth": told.flatten(1)})
    torch.testing.assert_close(logits, golden["logits"], atol=2e-5, rtol=1e-4)
    plane = tokenizer_config(made["condition tokenizer"]).plane
    assert plane.model_dump() == {"kind": "stored", "name": "depth"}
    assert cli(*arguments).json == said, "the same file is the same artifacts"


def test_images_are_drawn_for_the_depth_of_records(
    cli: CommandLine, drin: Path, cases: Mapping[str, Any], digit_folder: Path, tmp_path: Path
) -> None:
    """All three in the stages: the corpus keeps depth maps, encode writes their column, samples are told it."""
    (tmp_path / "drin.yaml").write_text(project(cases))
    imported = ("import", "taming", drin, "--config", tmp_path / "drin.yaml", "--store", tmp_path / "store", "--json")
    name = {row["kind"]: row["artifact"]["fingerprint"] for row in cli(*imported).json}
    shutil.copytree(digit_folder, tmp_path / "depth")
    config = tiny_config(
        tmp_path / "store", digit_folder, shard__channels=3, tokenizer__autoencoder__image_channels=3,
        shard__pairs={"depth": {"kind": "files", "url": str(tmp_path / "depth"), "holds": {"kind": "values"}}},
        encode__views=["center"], sample__num_conditions=2, sample__num_per_class=1,
        encode__conditions={"depth": {"kind": "plane", "tokenizer": name["condition tokenizer"]}},
    )  # fmt: skip
    stages = Pipeline(config, {"tokenizer": name["tokenizer"], "prior": name["prior"]})
    for stage in ("shard", "encode", "sample"):
        made = execute(stages.request(stage), stages.store)
    samples = stages.store.get(made)
    assert samples.manifest.summary["told"] == {"split": "val", "columns": ["depth"]}
    assert samples.manifest.summary["num_images"] == 2
    assert [ref.kind for ref in samples.manifest.inputs] == ["prior", "tokenizer", "tokens"]


def test_without_a_config_the_name_is_asked_for(cli: CommandLine, drin: Path, tmp_path: Path) -> None:
    arguments = ("import", "taming", drin, "--resolution", 16, "--num-heads", 4, "--store", tmp_path / "store")
    assert "say with --condition" in cli(*arguments).complaint
    assert "leave --num-classes" in cli(*arguments, "--num-classes", 3, "--condition", "depth").complaint
    assert "a word of a-z" in cli(*arguments, "--condition", "My Depth").complaint
    assert not list((tmp_path / "store").glob("*/*/manifest.json"))
    made = artifacts(tmp_path / "store", cli(*arguments, "--condition", "far", "--json").json)
    assert prior_config(made["prior"])[0].condition_columns == ("far",)
    assert tokenizer_config(made["condition tokenizer"]).plane.model_dump() == {"kind": "stored", "name": "far"}
    (row,) = cli(*arguments, "--tokenizer-only", "--json").json
    assert row["kind"] == "tokenizer"


def test_what_is_told_is_shrunk_or_not_in_the_file(
    cli: CommandLine, drin: Path, cases: Mapping[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "project.yaml"
    arguments = ("import", "taming", drin, "--config", path, "--store", tmp_path / "store")
    path.write_text(project(cases, downsample_cond_size=8))
    assert "shrunk to 8 px first (downsample_cond_size)" in cli(*arguments).complaint
    path.write_text(project(cases))
    state = {key: value for key, value in load_file(drin).items() if not key.startswith("cond_stage_model.")}
    save_file(state, tmp_path / "less.safetensors")
    less = cli("import", "taming", tmp_path / "less.safetensors", *arguments[3:])
    assert "told taming.models.vqgan.VQModel, whose weights are not in the file" in less.complaint
    state["cond_stage_model.encoder.conv_in.weight"] = torch.zeros(3, 3)
    save_file(state, tmp_path / "broken.safetensors")
    broken = cli("import", "taming", tmp_path / "broken.safetensors", *arguments[3:])
    assert "this is no tokenizer of taming" in broken.err
    assert not list((tmp_path / "store").glob("*/*/manifest.json"))


def test_coordinates_are_told_by_no_model(
    cli: CommandLine, drin: Path, cases: Mapping[str, Any], tmp_path: Path
) -> None:
    """As the faces' transformer: a level for each cell of the image's grid."""
    stage: dict[str, Any] = {
        "target": "taming.modules.misc.coord.CoordStage",
        "params": {"n_embed": 100, "down_factor": 2},
    }
    (tmp_path / "faces.yaml").write_text(project(cases, cond_stage_key="coord", cond_stage_config=stage))
    state = {key: value for key, value in load_file(drin).items() if not key.startswith("cond_stage_model.")}
    save_file(state, tmp_path / "faces.safetensors")
    said = cli("import", "taming", tmp_path / "faces.safetensors", "--store", tmp_path / "store", "--json").json
    assert [row["kind"] for row in said] == ["tokenizer", "prior"]
    (column,) = prior_config(artifacts(tmp_path / "store", said)["prior"])[1].columns
    stage["params"]["down_factor"] = 4
    (tmp_path / "faces.yaml").write_text(project(cases, cond_stage_key="coord", cond_stage_config=stage))
    coarser = cli("import", "taming", tmp_path / "faces.safetensors", "--store", tmp_path / "other").err
    assert "coordinates of cells of 4 px (down_factor), its images have tokens of 2 px" in coarser
    assert column.model_dump() == {"name": "coord", "codebook_size": 100, "height": 8, "width": 8, "tokenizer": ""}


def test_a_segmentation_model_reads_label_maps(
    cli: CommandLine, parity_dir: Path, cases: Mapping[str, Any], tmp_path: Path
) -> None:
    """With its YAML or without: what its channels are, the palette says; and back again."""
    tensors = load_file(parity_dir / cases["c_vqseg"]["file"])
    save_file({key[3:]: value for key, value in tensors.items() if key.startswith("sd.")}, tmp_path / "m.safetensors")
    params = cases["c_vqseg"]["config"]
    text = yaml.safe_dump({"model": {"target": "taming.models.vqgan.VQSegmentationModel", "params": params}})
    (tmp_path / "project.yaml").write_text(text)
    arguments = ("import", "taming", tmp_path / "m.safetensors", "--json", "--store")
    said = cli(*arguments, tmp_path / "one").json
    artifact = artifacts(tmp_path / "one", said)["tokenizer"]
    config = tokenizer_config(artifact)
    assert (config.takes_label_maps, config.batch_name) == (True, "label_maps")
    assert config.plane.model_dump() == {"kind": "stored", "name": "segmentation"}
    assert torch.equal(load_tokenizer(artifact, CPU).encode(tensors["x"]).flatten(), tensors["indices"].flatten())
    name = artifact.manifest.fingerprint
    assert cli("export", "taming", name, tmp_path / "there", "--store", tmp_path / "one").status == 0
    back = cli("import", "taming", tmp_path / "there", "--json", "--store", tmp_path / "two").json
    assert tokenizer_config(artifacts(tmp_path / "two", back)["tokenizer"]) == config
    (tmp_path / "project.yaml").unlink()
    said = cli(*arguments, tmp_path / "three", "--resolution", 32, "plane.name=parts").json
    config = tokenizer_config(artifacts(tmp_path / "three", said)["tokenizer"])
    assert (config.takes_label_maps, config.plane.model_dump()["name"]) == (True, "parts")

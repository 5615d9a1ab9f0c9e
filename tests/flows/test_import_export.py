"""`tessera import` and `tessera export`: models of others become artifacts that the stages use, and go back."""

from __future__ import annotations

import json
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
from vqgan_core.config import AutoencoderConfig, TokenizerConfig
from vqgan_core.legacy.layouts import LLAMAGEN, TAMING, export_state
from vqgan_core.tokenizer import Tokenizer

CPU = torch.device("cpu")
LLAMAGEN_CONFIG = TokenizerConfig(
    codebook_size=64,
    codebook_dim=8,
    autoencoder=AutoencoderConfig(
        resolution_px=16, base_channels=32, channel_multipliers=(1, 2), attention_resolutions=(8,), latent_channels=32
    ),
    quantizer={"kind": "vector", "l2_normalize": True},
)
FACTS = ("--resolution", 16, "--num-heads", 4, "--num-classes", 10)


@pytest.fixture(scope="module")
def cases(parity_dir: Path) -> Mapping[str, Any]:
    return json.loads((parity_dir / "manifest.json").read_text())["cases"]


def golden(parity_dir: Path, cases: Mapping[str, Any], name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The original's state dict of a case, and its config."""
    tensors = load_file(parity_dir / cases[name]["file"])
    return {key[3:]: value for key, value in tensors.items() if key.startswith("sd.")}, cases[name]["config"]


def vqmodel_yaml(params: Mapping[str, Any], target: str = "VQModel") -> str:
    return yaml.safe_dump({"model": {"target": f"taming.models.vqgan.{target}", "params": dict(params)}})


def only(store: Path, kind: str) -> Artifact:
    opened = Store.open(str(store))
    (manifest,) = opened.artifacts(kind)
    found = opened.lookup(kind, manifest.fingerprint)
    assert found is not None
    return found


def test_a_vqmodel_with_its_project_yaml(
    cli: CommandLine, parity_dir: Path, cases: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a log folder of theirs: checkpoints/last.ckpt, configs/…-project.yaml, and Lightning's own YAML."""
    state, config = golden(parity_dir, cases, "a_vqmodel")
    for folder in ("checkpoints", "configs"):
        (tmp_path / folder).mkdir()
    torch.save({"state_dict": state | {"colorize": torch.zeros(3)}, "epoch": 1}, tmp_path / "checkpoints/last.ckpt")
    del config["beta"]
    (tmp_path / "configs/2020-project.yaml").write_text(vqmodel_yaml(config))
    (tmp_path / "configs/2020-lightning.yaml").write_text("lightning: {trainer: {gpus: 0,}}")
    said = cli("import", "taming", tmp_path / "checkpoints/last.ckpt", "--store", tmp_path / "store", "--json")
    (row,) = said.json
    assert (row["keys"]["missing"], row["keys"]["left_over"], row["keys"]["ignored"]) == ([], [], ["colorize"])
    assert set(row["keys"]["used"]) == set(state)
    artifact = only(tmp_path / "store", "tokenizer")
    assert row["artifact"]["fingerprint"] == artifact.manifest.fingerprint
    assert artifact.manifest.stage == "import_tokenizer"
    assert tokenizer_config(artifact).quantizer.beta_placement == "legacy"
    tensors = load_file(parity_dir / cases["a_vqmodel"]["file"])
    tokenizer = load_tokenizer(artifact, CPU)
    assert torch.equal(tokenizer.encode(tensors["x"]).flatten(), tensors["indices"])
    assert {file.path for file in artifact.manifest.files} == {"config.json", "model.safetensors"}

    monkeypatch.chdir(tmp_path / "checkpoints")
    again = cli("import", "taming", "last.ckpt", "--store", tmp_path / "store", "--json").json
    assert again == said.json, "the same file is the same artifact"
    text = cli("import", "taming", tmp_path / "checkpoints", "--store", tmp_path / "store").out
    assert f"tokenizer keys: {len(state)} used, 1 ignored, 0 missing, 0 left over" in text

    corrected = "quantizer.beta_placement=corrected"
    (row,) = cli("import", "taming", tmp_path / "checkpoints", corrected, "--store", tmp_path / "s2", "--json").json
    assert row["artifact"]["fingerprint"] != artifact.manifest.fingerprint
    assert tokenizer_config(only(tmp_path / "s2", "tokenizer")).quantizer.beta_placement == "corrected"


@pytest.mark.parametrize("name", ["b_gumbelvq", "c_vqseg"])
def test_shapes_alone_are_enough_but_for_the_resolution(
    cli: CommandLine, parity_dir: Path, cases: Mapping[str, Any], tmp_path: Path, name: str
) -> None:
    state, config = golden(parity_dir, cases, name)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    arguments = ("import", "taming", tmp_path / "model.safetensors", "--store", tmp_path / "store")
    assert "--resolution" in cli(*arguments).complaint
    assert cli(*arguments, "--resolution", 32).status == 0
    ours = tokenizer_config(only(tmp_path / "store", "tokenizer"))
    dd = config["ddconfig"]
    assert (ours.autoencoder.image_channels, ours.autoencoder.attention_resolutions) == (dd["in_channels"], (8,))
    assert ours.quantizer.kind == ("gumbel" if name == "b_gumbelvq" else "vector")


VECTOR = {"kind": "vector", "beta_placement": "legacy"}
GUMBEL = {"kind": "gumbel", "temperature_final": 0.25, "kl_weight": 1e-8}


@pytest.mark.parametrize(("project", "quantizer"), [("taming", VECTOR), ("taming", GUMBEL), ("diffusers", VECTOR)])
def test_there_and_back_gives_equal_tensors(
    cli: CommandLine, tmp_path: Path, project: str, quantizer: dict[str, Any]
) -> None:
    """With a discriminator for taming, which has a place for it; export says its config, so import needs no word."""
    # A GumbelVQ's logits are of z_channels, whatever embed_dim is.
    config = LLAMAGEN_CONFIG.model_dump(mode="json") | {"quantizer": quantizer, "codebook_dim": 32}
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig.model_validate(config))
    first, second = tmp_path / "first", tmp_path / "second"
    torch.save({"state_dict": _taming_state(tokenizer)}, tmp_path / "model.ckpt")
    said = [f"quantizer.{name}={value}" for name, value in quantizer.items() if name != "kind"]
    (made,) = cli(
        "import", "taming", tmp_path / "model.ckpt", "--resolution", 16, "--store", first, "--json", *said
    ).json
    name = made["artifact"]["fingerprint"][:10]
    written = cli("export", project, name, tmp_path / "there", "--store", first, "--json").json
    assert sorted(Path(path).name for path in written) == sorted(path.name for path in (tmp_path / "there").iterdir())
    assert cli("import", project, tmp_path / "there", "--store", second).status == 0
    before, after = only(first, "tokenizer"), only(second, "tokenizer")
    assert tokenizer_config(after) == tokenizer_config(before)
    for file in ("model.safetensors", *(["discriminator.safetensors"] if project == "taming" else [])):
        assert after.read(file) == before.read(file)
    assert "is there already" in cli("export", project, name, tmp_path / "there", "--store", first).complaint


def _taming_state(tokenizer: Tokenizer) -> dict[str, Tensor]:
    return export_state(tokenizer, TAMING) | {"loss.discriminator.main.0.weight": torch.rand(8, 3, 4, 4)}


def test_a_llamagen_tokenizer(cli: CommandLine, tmp_path: Path) -> None:
    tokenizer = Tokenizer(LLAMAGEN_CONFIG).eval()
    state = export_state(tokenizer, LLAMAGEN) | {"quantize.codebook_used": torch.zeros(5)}
    torch.save({"model": {key: value.half() for key, value in state.items()}}, tmp_path / "vq.pt")
    arguments = ("import", "llamagen", tmp_path / "vq.pt", "--resolution", 16, "--store", tmp_path / "store")
    (row,) = cli(*arguments, "--json").json
    assert row["keys"]["ignored"] == ["quantize.codebook_used"]
    artifact = only(tmp_path / "store", "tokenizer")
    imported = load_tokenizer(artifact, CPU)
    assert imported.config == LLAMAGEN_CONFIG
    assert all(value.dtype == torch.float32 for value in imported.state_dict().values())
    assert torch.equal(imported.quantizer.codebook, tokenizer.quantizer.codebook.half().float())
    name = artifact.manifest.fingerprint
    refused = cli("export", "taming", name, tmp_path / "out", "--store", tmp_path / "store").complaint
    assert "compares no unit vectors" in refused
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def net2net(parity_dir: Path, cases: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden class-conditional Net2NetTransformer, as a file with its tokenizer inside."""
    state, _ = golden(parity_dir, cases, "f2_net2net_class")
    path = tmp_path_factory.mktemp("net2net") / "net2net.safetensors"
    save_file(state, path)
    return path


def test_an_imported_prior_and_its_tokenizer_in_the_stages(
    cli: CommandLine, parity_dir: Path, cases: Mapping[str, Any], net2net: Path, digit_folder: Path, tmp_path: Path
) -> None:
    """Tokens of the imported tokenizer train a new prior, and the imported prior is scored on them and draws."""
    rows = cli("import", "taming", net2net, *FACTS, "--store", tmp_path / "store", "--json").json
    assert [row["kind"] for row in rows] == ["tokenizer", "prior"]
    assert all(not row["keys"]["missing"] and not row["keys"]["left_over"] for row in rows)
    given = {row["kind"]: row["artifact"]["fingerprint"] for row in rows}
    tokenizer, prior = only(tmp_path / "store", "tokenizer"), only(tmp_path / "store", "prior")
    assert prior.manifest.inputs == [tokenizer.manifest.as_input()]
    assert prior_config(prior)[1].tokenizer == tokenizer.manifest.digest
    tensors = load_file(parity_dir / cases["f2_net2net_class"]["file"])
    logits = load_prior(prior, CPU)(tensors["z_indices"].view(-1, 64), tensors["cond"])
    torch.testing.assert_close(logits, tensors["logits"], atol=2e-5, rtol=1e-4)

    config = tiny_config(
        tmp_path / "store", digit_folder, shard__channels=3, tokenizer__autoencoder__image_channels=3,
        encode__views=["center"], prior__training__num_steps=4, prior__training__validate_every_steps=4,
        sample__num_per_class=1,
    )  # fmt: skip
    stages = Pipeline(config, {"tokenizer": given["tokenizer"]})
    for stage in ("shard", "encode", "train_prior"):
        execute(stages.request(stage), stages.store)
    scored = Pipeline(config, given)
    for stage in ("sample", "evaluate"):
        execute(scored.request(stage), scored.store)
    evaluation = only(tmp_path / "store", "evaluation")
    nats = {metric["name"]: metric["value"] for metric in json.loads(evaluation.read("metrics.json"))}
    assert 0 < nats["prior NLL"] < 100
    report = evaluation.read("report.html").decode()
    assert "class 9" in report, "the imported prior has classes without names"
    assert "Prior: NLL" not in report, "and no curves: nobody here trained it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resolution", 16, "--num-classes", 10), "--num-heads"),
        (("--resolution", 16, "--num-heads", 4), "--num-classes"),
        ((*FACTS, "--sos-token", 0), "not both"),
        (("--num-heads", 4, "--num-classes", 10), "--resolution"),
        (("--resolution", 17, *FACTS[2:]), "resolution 17 is no multiple"),
        ((*FACTS, "--tokenizer", "abc"), "no artifact"),
        ((*FACTS, "--tokenizer-only", "--tokenizer", "abc"), "no prior is to be imported"),
        ((*FACTS, "autoencoder.resolution_px=32"), "say --resolution 32"),
        ((*FACTS, "codebook_sice=32"), "codebook_sice: there is no such field"),
    ],
)
def test_what_is_not_said_of_a_prior_is_asked_for(
    cli: CommandLine, net2net: Path, tmp_path: Path, arguments: tuple[Any, ...], message: str
) -> None:
    assert message in cli("import", "taming", net2net, *arguments, "--store", tmp_path / "store").complaint
    assert not list((tmp_path / "store").glob("*/*/manifest.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("autoencoder.num_res_blocks=2",), "missing or of another shape"),
        (
            ("codebook_size=64",),
            "f2 K64 × 32 with this config: 1 key (quantize.embedding.weight: 128 × 32, not 64 × 32)",
        ),
        (("codebook_dim=16",), "missing or of another shape"),
        (("autoencoder.attention_resolutions=[]",), "left over"),
    ],
)
def test_another_architecture_k_or_size_is_one_line(
    cli: CommandLine, net2net: Path, tmp_path: Path, arguments: tuple[Any, ...], message: str
) -> None:
    said = cli("import", "taming", net2net, *FACTS, *arguments, "--store", tmp_path / "store", "--json")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert message in said.err
    (row,) = json.loads(said.out)
    assert row["artifact"] is None
    assert row["keys"]["missing"] or row["keys"]["left_over"]
    assert not list((tmp_path / "store").glob("*/*/manifest.json"))


def test_a_model_of_another_project_is_named(cli: CommandLine, net2net: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(LLAMAGEN_CONFIG)
    torch.save(export_state(tokenizer, LLAMAGEN), tmp_path / "vq.pt")
    store = ("--store", tmp_path / "store")
    assert "of a llamagen tokenizer" in cli("import", "taming", tmp_path / "vq.pt", *store).complaint
    torch.save({"weight": torch.zeros(2)}, tmp_path / "vq.pt")
    assert "this is no tokenizer of diffusers" in cli("import", "diffusers", tmp_path / "vq.pt", *store).complaint


def test_an_image_conditional_prior_leaves_its_tokenizer(
    cli: CommandLine, net2net: Path, tmp_path: Path, cases: Mapping[str, Any]
) -> None:
    """Its YAML says what it is told; its first stage is a tokenizer like any other."""
    stage = {"target": "taming.models.vqgan.VQModel", "params": cases["f2_net2net_class"]["config"]["first_stage"]}
    params = {
        "first_stage_config": stage,
        "cond_stage_config": stage,
        "transformer_config": {"params": {"n_head": 4}},
    }
    path = tmp_path / "drin.yaml"
    path.write_text(yaml.safe_dump({"model": {"target": "a.Net2NetTransformer", "params": params}}))
    arguments = ("import", "taming", net2net, "--config", path, "--store", tmp_path / "store")
    assert "--tokenizer-only" in cli(*arguments).complaint
    (row,) = cli(*arguments, "--tokenizer-only", "--json").json
    assert row["kind"] == "tokenizer"
    params["cond_stage_config"] = {"target": "taming.modules.util.Labelator", "params": {"n_classes": 10}}
    path.write_text(yaml.safe_dump({"model": {"target": "a.Net2NetTransformer", "params": params}}))
    assert [row["kind"] for row in cli(*arguments, "--json").json] == ["tokenizer", "prior"]


def test_a_llamagen_gpt_reads_an_imported_tokenizers_tokens(cli: CommandLine, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store")
    torch.save(export_state(Tokenizer(LLAMAGEN_CONFIG), LLAMAGEN), tmp_path / "vq.pt")
    assert cli("import", "llamagen", tmp_path / "vq.pt", "--resolution", 16, *store).status == 0
    tokenizer = only(tmp_path / "store", "tokenizer")
    torch.save({"model": llamagen_gpt()}, tmp_path / "gpt.pt")
    arguments = ("import", "llamagen", tmp_path / "gpt.pt", *store)
    assert "--num-heads" in cli(*arguments, "--tokenizer", tokenizer.manifest.fingerprint).complaint
    assert "--tokenizer" in cli(*arguments, "--num-heads", 4).complaint
    (row,) = cli(*arguments, "--num-heads", 4, "--tokenizer", tokenizer.manifest.fingerprint, "--json").json
    assert not row["keys"]["missing"] + row["keys"]["left_over"]
    config, spec = prior_config(only(tmp_path / "store", "prior"))
    assert (config.architecture, config.qk_norm, config.condition_rotation) == ("modern", False, "zero")
    assert (spec.num_classes, spec.height, spec.tokenizer) == (3, 8, tokenizer.manifest.digest)


def llamagen_gpt() -> dict[str, Tensor]:
    """A GPT of LlamaGen with one layer, for 64 tokens and three classes."""
    shapes = {
        "cls_embedding.embedding_table.weight": (4, 16),
        "tok_embeddings.weight": (64, 16),
        "layers.0.attention.wqkv.weight": (48, 16),
        "layers.0.attention.wo.weight": (16, 16),
        "layers.0.feed_forward.w1.weight": (256, 16),
        "layers.0.feed_forward.w3.weight": (256, 16),
        "layers.0.feed_forward.w2.weight": (16, 256),
        "layers.0.attention_norm.weight": (16,),
        "layers.0.ffn_norm.weight": (16,),
        "norm.weight": (16,),
        "output.weight": (64, 16),
    }
    return {key: torch.rand(shape) for key, shape in shapes.items()}

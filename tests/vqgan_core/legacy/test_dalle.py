"""DALL·E's dVAE computes here what it computes there, and every key of the published one has its place."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.vqgan_core.legacy.dalle_layout import PUBLISHED, SMALL, shapes, state
from vqgan_core.config import GumbelQuantizerConfig
from vqgan_core.legacy.checkpoint_file import CheckpointError, find_weights, read_checkpoint
from vqgan_core.legacy.layouts import DIFFUSERS, TAMING, export_state
from vqgan_core.legacy.tokenizer_import import config_of, import_tokenizer
from vqgan_core.tokenizer import Tokenizer

# What the package DALL-E 0.1 computes of `state(**SMALL)` and of these images in [0, 1].
IMAGES = torch.from_numpy(np.random.default_rng(3).random((1, 3, 32, 48), dtype=np.float32))
INDICES = [84, 87, 87, 14, 87, 87, 84, 87, 14, 14, 14, 14, 84, 87, 14, 14, 14, 87, 84, 14, 84, 14, 87, 84]
FIRST_LOGITS = [0.636062741279602, -1.8608109951019287, -0.17315828800201416, -4.655501365661621]
STATISTICS = [
    -3.4748282432556152, 0.9722288846969604, -0.3575829863548279, 0.7802076935768127, 0.07883148640394211,
    -0.6794495582580566,
]  # fmt: skip
PIXEL = [0.0, 0.8110201358795166, 0.6133517026901245]


def small() -> Tokenizer:
    given = state(**SMALL)
    imported = import_tokenizer("dalle", given, config_of("dalle", given, None))
    tokenizer = Tokenizer(imported.config)
    tokenizer.load_state_dict(imported.state)
    return tokenizer.eval()


def test_numbers_of_the_original() -> None:
    tokenizer = small()
    with torch.no_grad():
        output = tokenizer(IMAGES * 2 - 1)
        assert isinstance(tokenizer.quantizer.project, nn.Module)
        logits = tokenizer.quantizer.get_submodule("project")(output.latents)
    torch.testing.assert_close(logits[0, :4, 0, 0], torch.tensor(FIRST_LOGITS), rtol=1e-4, atol=1e-5)
    assert output.indices.flatten().tolist() == INDICES
    assert torch.equal(tokenizer.encode(IMAGES * 2 - 1), output.indices)
    assert output.statistics is not None
    torch.testing.assert_close(output.statistics[0, :, 17, 30], torch.tensor(STATISTICS), rtol=1e-4, atol=1e-5)
    shown = ((tokenizer.decode(output.indices) + 1) / 2).clamp(0, 1).detach()
    torch.testing.assert_close(shown[0, :, 3, 4], torch.tensor(PIXEL), rtol=1e-4, atol=1e-5)


def test_every_key_of_the_published_model_is_used() -> None:
    theirs = {key: torch.empty(shape, device="meta") for key, shape in shapes(**PUBLISHED).items()}
    config = config_of("dalle", theirs, None)
    imported = import_tokenizer("dalle", theirs, config)
    assert (imported.report.missing, imported.report.left_over, imported.report.ignored) == ((), (), ())
    assert set(imported.report.used) == set(theirs)
    with torch.device("meta"):
        tokenizer = Tokenizer(config)
    assert {name: t.shape for name, t in imported.state.items()} == {
        n: t.shape for n, t in tokenizer.state_dict().items()
    }
    counts = {
        side: sum(math.prod(shape) for key, shape in shapes(**PUBLISHED).items() if key.startswith(side))
        for side in ("encoder", "decoder")
    }
    assert counts == {"encoder": 53_786_240, "decoder": 43_829_766}
    ours = sum(parameter.numel() for parameter in tokenizer.parameters())
    assert ours == sum(counts.values()) - config.codebook_dim, "the bias of the decoder's first layer is in the entries"
    assert (config.codebook_size, config.codebook_dim, config.autoencoder.downsampling_factor) == (8192, 128, 8)
    assert isinstance(config.quantizer, GumbelQuantizerConfig)
    assert (config.quantizer.kl_weight, config.quantizer.temperature_start) == (6.6 / 192, 1 / 16)
    assert config_of("dalle", theirs, None, resolution_px=128).autoencoder.resolution_px == 128


def test_what_is_missing_or_left_over_is_named() -> None:
    given = state(**SMALL)
    config = config_of("dalle", given, None)
    del given["decoder.blocks.input.b"]
    given["encoder.blocks.group_2.block_1.id_path.w"] = torch.zeros(128, 64, 3, 3)
    given["encoder.blocks.group_5.block_1.id_path.w"] = torch.zeros(1)
    report = import_tokenizer("dalle", given, config).report
    assert report.missing == ("encoder.blocks.group_2.block_1.id_path.w", "decoder.blocks.input.b")
    assert set(report.left_over) == {
        "encoder.blocks.group_2.block_1.id_path.w", "encoder.blocks.group_5.block_1.id_path.w",
    }  # fmt: skip
    alone = {key: value for key, value in given.items() if key.startswith("encoder.")}
    with pytest.raises(CheckpointError, match="an encoder and a decoder; save the tensors of both in one file"):
        config_of("dalle", alone, None)


@pytest.mark.parametrize("layout", [TAMING, DIFFUSERS])
def test_others_have_no_such_network(layout: object) -> None:
    with pytest.raises(ValueError, match="has no autoencoder dvae"):
        export_state(small(), layout)  # type: ignore[arg-type]  # of parametrize


#: A package of that name, with which the pickles below are made.
PACKAGE = """
import torch

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.Linear(2, 3)

class Decoder(Encoder):
    pass
"""


@pytest.fixture
def pickles(tmp_path: Path) -> Path:
    """encoder.pkl and decoder.pkl as published: whole modules of a package that is not installed here."""
    for half in ("encoder", "decoder"):
        module = ModuleType(f"dall_e.{half}")
        exec(PACKAGE, module.__dict__)  # noqa: S102 - our own text
        modules = {"dall_e": ModuleType("dall_e"), module.__name__: module}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in modules.items():
                patch.setitem(sys.modules, name, value)
            torch.save(getattr(module, half.title())(), tmp_path / f"{half}.pkl")
    return tmp_path


def test_pickled_modules_are_refused_with_the_way_to_their_tensors(pickles: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"encoder\.pkl holds dall_e\.encoder\.Encoder.*container") as refused:
        read_checkpoint(pickles / "encoder.pkl")
    assert "\n" not in str(refused.value)
    with pytest.raises(CheckpointError, match=r"but decoder\.pkl, encoder\.pkl: name the file"):
        find_weights(pickles)
    command = str(refused.value).split('python -c "')[1].split('", and import')[0]
    for half in ("encoder", "decoder"):
        (pickles / "dall_e").mkdir(exist_ok=True)
        (pickles / "dall_e" / f"{half}.py").write_text(PACKAGE)
    subprocess.run([sys.executable, "-c", command], cwd=pickles, check=True, timeout=60)
    saved: dict[str, Tensor] = read_checkpoint(find_weights(pickles)).tensors
    assert set(saved) == {f"{half}.blocks.{name}" for half in ("encoder", "decoder") for name in ("weight", "bias")}

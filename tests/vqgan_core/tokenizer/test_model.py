"""The tokenizer: shapes, errors, determinism, placement of attention, files."""

from __future__ import annotations

import doctest
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vqgan_core.tokenizer
from vqgan_core.config import AutoencoderConfig, TokenizerConfig
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.tokenizer.blocks import AttentionBlock
from vqgan_core.tokenizer.encoder import Encoder


def config(**autoencoder: Any) -> TokenizerConfig:
    defaults: dict[str, Any] = {
        "base_channels": 8,
        "channel_multipliers": (1, 2, 2),
        "num_res_blocks": 1,
        "resolution_px": 16,
        "attention_resolutions": (4,),
        "latent_channels": 6,
        "num_groups": 4,
    }
    return TokenizerConfig(codebook_size=32, codebook_dim=5, autoencoder=AutoencoderConfig(**(defaults | autoencoder)))


def make(**autoencoder: Any) -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(config(**autoencoder)).eval()
    torch.nn.init.normal_(tokenizer.quantizer.codebook)  # else a few entries take all latents
    return tokenizer


@pytest.mark.parametrize("num_levels", [1, 2, 3, 4])
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 16, 16), (1, 8, 40), (7, 24, 16)])
def test_any_factor_channels_and_aspect_ratio(num_levels: int, channels: int, height: int, width: int) -> None:
    tokenizer = make(channel_multipliers=(1, 2, 1, 2)[:num_levels], image_channels=channels)
    f = 2 ** (num_levels - 1)
    assert tokenizer.factor == f
    images = torch.rand(2, channels, height, width) * 2 - 1
    output = tokenizer(images)
    assert output.reconstruction.shape == images.shape
    assert output.indices.shape == (2, height // f, width // f)
    assert output.indices.dtype == torch.int64
    assert output.latents.shape == output.quantized.shape == (2, 5, height // f, width // f)
    assert torch.equal(tokenizer.encode(images), output.indices)
    # Straight-through rounds: z + (e - z) is e to the last bits only.
    torch.testing.assert_close(tokenizer.decode(output.indices), output.reconstruction, atol=1e-4, rtol=1e-4)


def test_a_size_that_f_does_not_divide_is_refused() -> None:
    """The original crops in silence: 30x30 comes back as 28x28."""
    with pytest.raises(ValueError, match=r"30x44 px.*multiples of f = 4.*height 28 or 32 and width 44"):
        make()(torch.zeros(1, 3, 30, 44))
    with pytest.raises(ValueError, match="nearest are height 4 and width 4"):
        make().encode(torch.zeros(1, 3, 2, 0))


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (3, 16, 16), (1, 4, 16, 16)])
def test_wrong_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \(batch, 3, H, W\)"):
        make().encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (torch.tensor([[[32]]]), "index 32 is outside the codebook: allowed are 0 to 31"),
        (torch.tensor([[[-1]]]), "index -1 is outside"),
        (torch.zeros(1, 1, 1), "expected integers"),
        (torch.zeros(1, 4, dtype=torch.int64), "expected integers"),
        (torch.zeros(0, 4, 4, dtype=torch.int64), "empty"),
    ],
)
def test_indices_that_cannot_be_decoded(indices: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().decode(indices)


def test_indices_of_token_files_are_decoded() -> None:
    tokenizer = make()
    indices = torch.randint(0, 32, (1, 2, 3))
    assert torch.equal(tokenizer.decode(indices.to(torch.uint16)), tokenizer.decode(indices))


def test_encode_is_deterministic_in_training_too() -> None:
    tokenizer = make(dropout=0.5).train()
    images = torch.rand(2, 3, 16, 16)
    first = tokenizer.encode(images)
    assert torch.equal(tokenizer.encode(images), first)
    assert tokenizer.encoder.training, "the mode is as before"
    assert torch.equal(tokenizer.eval()(images).indices, first)
    assert not first.requires_grad


def test_latents_are_fp32_under_autocast() -> None:
    tokenizer = make()
    images = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        output = tokenizer(images)
    assert output.latents.dtype == torch.float32
    assert output.reconstruction.dtype == torch.bfloat16
    assert output.loss.dtype == torch.float32


def test_gradients_reach_every_parameter() -> None:
    tokenizer = make().train()
    output = tokenizer(torch.rand(2, 3, 16, 16))
    (output.reconstruction.square().mean() + output.loss).backward()
    assert [name for name, parameter in tokenizer.named_parameters() if parameter.grad is None] == []
    assert tokenizer.last_layer is tokenizer.decoder.conv_out.weight


def _attention(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, AttentionBlock)]


def test_attention_is_placed_by_the_configs_resolution() -> None:
    tokenizer = make(attention_resolutions=(8,), num_res_blocks=2)
    assert _attention(tokenizer.encoder) == ["level1.attention0", "level1.attention1", "middle.attention0"]
    assert _attention(tokenizer.decoder) == [
        "middle.attention0", "level1.attention0", "level1.attention1", "level1.attention2"
    ]  # fmt: skip
    assert _attention(make(attention_resolutions=()).encoder) == ["middle.attention0"], "the middle always has it"


def test_decoder_counts_resolutions_from_the_grid_upwards() -> None:
    """Where f does not divide resolution_px: 18 → 9 → 4 in the encoder, 4 → 8 → 16 in the decoder."""
    tokenizer = make(resolution_px=18, attention_resolutions=(9, 16))
    assert _attention(tokenizer.encoder) == ["level1.attention0", "middle.attention0"]
    assert _attention(tokenizer.decoder) == ["middle.attention0", "level0.attention0", "level0.attention1"]


def test_attention_equals_its_formula() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(8, num_groups=4)
    x = torch.randn(2, 8, 3, 5)
    normed = block.norm(x)
    q, k, v = (part(normed).flatten(2) for part in (block.query, block.key, block.value))
    weights = (q.transpose(1, 2) @ k / 8**0.5).softmax(dim=-1)
    mixed = (v @ weights.transpose(1, 2)).view_as(x)
    torch.testing.assert_close(block(x), x + block.project(mixed))


def test_encoder_keeps_no_activation() -> None:
    """The original keeps the output of every layer until the end, though it has no skip connections."""
    encoder = Encoder(config().autoencoder).eval()
    outputs: dict[str, weakref.ref[Tensor]] = {}
    alive: list[str] = []
    for name, layer in encoder.named_modules():
        layer.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: weakref.ref(out)}))
    encoder.get_submodule("norm_out").register_forward_pre_hook(
        lambda *_: alive.extend(name for name, output in outputs.items() if output() is not None)
    )
    with torch.no_grad():
        encoder(torch.zeros(1, 3, 16, 16))
    assert alive == ["middle.block1"]


def test_base_channels_must_fit_the_groups_too() -> None:
    with pytest.raises(ValueError, match="no multiple of num_groups 4"):
        config(base_channels=6, channel_multipliers=(2, 2))


def test_files_are_a_pure_function_of_the_weights() -> None:
    tokenizer = make()
    files = tokenizer.to_files()
    assert sorted(files) == ["config.json", "model.safetensors"]
    state = torch.random.get_rng_state()
    again = Tokenizer.from_files(files)
    assert torch.equal(torch.random.get_rng_state(), state), "loading draws no random number"
    assert again.to_files() == files
    assert tokenizer.to(memory_format=torch.channels_last).to_files() == files
    assert not again.training
    assert again.config == tokenizer.config
    images = torch.rand(1, 3, 16, 24)
    assert torch.equal(again.encode(images), make().encode(images))
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_save_and_load(tmp_path: Path) -> None:
    tokenizer = make()
    tokenizer.save(tmp_path / "new" / "folder")
    assert Tokenizer.load(tmp_path / "new" / "folder").to_files() == tokenizer.to_files()
    (tmp_path / "new" / "folder" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors, only \['config\.json'\]"):
        Tokenizer.load(tmp_path / "new" / "folder")


def test_files_that_do_not_belong_together() -> None:
    files = make().to_files()
    other = make(latent_channels=7).to_files()
    with pytest.raises(ValueError, match=r"tensors differ, first decoder\.conv_in\.weight"):
        Tokenizer.from_files({**files, "model.safetensors": other["model.safetensors"]})
    with pytest.raises(ValueError, match="damaged"):
        Tokenizer.from_files({**files, "model.safetensors": files["model.safetensors"][:-5]})
    with pytest.raises(ValueError, match="there is no such field"):
        Tokenizer.from_files({**files, "config.json": json.dumps({"codebok_size": 3}).encode()})
    for text in (b"{", b"[]"):
        with pytest.raises(ValueError, match=r"config\.json of the tokenizer"):
            Tokenizer.from_files({**files, "config.json": text})


def test_the_notebook_example_runs() -> None:
    result = doctest.testmod(vqgan_core.tokenizer)
    assert result.attempted >= 8
    assert result.failed == 0

"""Two levels: what each says, that both are needed, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vqgan_core.config import ConfigError, TokenizerConfig, TrainTokenizerConfig
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.tokenizer.cost import tokenizer_cost

SMALL: dict[str, Any] = {
    "codebook_size": 16,
    "codebook_dim": 4,
    "autoencoder.resolution_px": 16,
    "autoencoder.base_channels": 8,
    "autoencoder.channel_multipliers": [1, 2],
    "autoencoder.num_res_blocks": 1,
    "autoencoder.attention_resolutions": [],
    "autoencoder.latent_channels": 8,
    "autoencoder.num_groups": 4,
    "autoencoder.dropout": 0.5,
    "top.factor": 4,
    "top.codebook_size": 8,
    "top.codebook_dim": 3,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    made = Tokenizer(TokenizerConfig.load(overrides=SMALL)).eval()
    for quantizer in made.quantizers.values():
        torch.nn.init.normal_(quantizer.codebook)  # type: ignore[arg-type]  # a parameter of both
    return made


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_each_level_has_a_grid_and_a_codebook(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    grids = tokenizer.encode_levels(images)
    shapes = {name: tuple(grid.shape[1:]) for name, grid in grids.items()}
    assert shapes == tokenizer.config.grids(32, 16) == {"indices": (16, 8), "indices_top": (4, 2)}
    assert tokenizer.config.codebook_sizes == {"indices": 16, "indices_top": 8}
    assert int(grids["indices_top"].max()) < 8
    with torch.no_grad():
        output = tokenizer(images)
        assert {name: level.indices.tolist() for name, level in output.levels.items()} == {
            name: grid.tolist() for name, grid in grids.items()
        }
        torch.testing.assert_close(tokenizer.decode(*grids.values()), output.reconstruction, rtol=1e-4, atol=1e-5)
    tokenizer.train()
    assert torch.equal(tokenizer.encode_levels(images)["indices"], grids["indices"]), "no dropout in encoding"
    assert all(part.training for part in tokenizer.children())
    tokenizer.eval()


def test_latents_of_both_levels_are_fp32_under_autocast(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = tokenizer(images)
    assert {name: level.latents.dtype for name, level in output.levels.items()} == {
        "indices": torch.float32,
        "indices_top": torch.float32,
    }
    assert output.reconstruction.dtype == torch.bfloat16


def test_the_top_decides_of_the_image_and_of_the_bottom(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    grids = tokenizer.encode_levels(images)
    other = (grids["indices_top"] + 1) % 8
    with torch.no_grad():
        assert not torch.allclose(tokenizer.decode(grids["indices"], other), tokenizer.decode(*grids.values()))
        features, told = tokenizer.encoder(images), tokenizer.top
        assert told is not None
        bottoms = [
            tokenizer.quantizer.encode(tokenizer._latents(features, told.context(told.quantizer.decode(top))))
            for top in (grids["indices_top"], other)
        ]
    assert torch.equal(bottoms[0], grids["indices"])
    assert not torch.equal(bottoms[1], grids["indices"])


def test_what_does_not_fit_is_named(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    grids = tokenizer.encode_levels(images)
    with pytest.raises(ValueError, match="two grids of indices for an image: use encode_levels"):
        tokenizer.encode(images)
    with pytest.raises(ValueError, match="1 grids of indices: this tokenizer has 2 levels"):
        tokenizer.decode(grids["indices"])
    with pytest.raises(ValueError, match=r"grids \(16, 8\) and \(2, 2\): the first is to be 4 times the second"):
        tokenizer.decode(grids["indices"], grids["indices_top"][:, :2])
    with pytest.raises(ValueError, match="index 8 is outside the codebook: allowed are 0 to 7"):
        tokenizer.decode(grids["indices"], grids["indices_top"] * 0 + 8)
    with pytest.raises(ValueError, match="must be multiples of f = 8"):
        tokenizer.encode_levels(images[:, :, :, :12])
    single = Tokenizer(TokenizerConfig.load(overrides={**SMALL, "top": None}))
    with pytest.raises(ValueError, match="2 grids of indices: this tokenizer has 1 levels"):
        single.decode(*grids.values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"top.factor": 3}, "top.factor"),
        ({"autoencoder.latent_channels": 6}, "latent_channels 6 is no multiple of num_groups 4, as a top level needs"),
        ({"perturbation.image_fraction": 0.1}, "which a tokenizer with a top level has not"),
        ({"pixels": "logit_laplace"}, "pixels logit_laplace and loss.pixel l1 do not go together"),
        ({"loss.pixel": "logit_laplace"}, "pixels values and loss.pixel logit_laplace do not go together"),
        ({"top.quantizer.kind": "lfq", "top.codebook_dim": 4}, "quantizer lfq has codebook_size 2"),
    ],
)
def test_configs_that_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainTokenizerConfig.load(overrides={**SMALL, "top.factor": 2, **overrides})


def test_cost_counts_both_levels(tokenizer: Tokenizer) -> None:
    cost = tokenizer_cost(tokenizer.config)
    assert cost.num_parameters == sum(p.numel() for p in tokenizer.parameters())
    single = tokenizer_cost(TokenizerConfig.load(overrides={**SMALL, "top": None}))
    assert cost.search_flops == single.search_flops + 2 * 2**2 * 8 * 3
    assert cost.encoder_flops > single.encoder_flops
    assert cost.decoder_flops > single.decoder_flops


def test_one_level_keeps_its_recipe() -> None:
    recipe = TokenizerConfig().recipe()
    assert "top" not in recipe
    assert "pixels" not in recipe
    assert "kl_warmup_steps" not in TokenizerConfig.load(overrides=["quantizer.kind=gumbel"]).recipe()["quantizer"]

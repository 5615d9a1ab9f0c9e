"""What other projects have no room for is refused, not left out."""

from __future__ import annotations

from typing import Any

import pytest

from vqgan_core.config import TokenizerConfig
from vqgan_core.legacy.tokenizer_export import ExportProject, export_files
from vqgan_core.tokenizer import Tokenizer

SMALL: dict[str, Any] = {
    "codebook_size": 8,
    "codebook_dim": 32,
    "autoencoder.base_channels": 32,
    "autoencoder.channel_multipliers": [1],
    "autoencoder.attention_resolutions": [],
    "autoencoder.latent_channels": 32,
}


@pytest.mark.parametrize("project", ["taming", "diffusers"])
@pytest.mark.parametrize(
    ("more", "what"), [({"top.codebook_dim": 2}, "a second level"), ({"pixels": "logit_laplace"}, "pixels logit_")]
)
def test_tokenizers_that_others_have_not(project: ExportProject, more: dict[str, Any], what: str) -> None:
    tokenizer = Tokenizer(TokenizerConfig.load(overrides={**SMALL, **more}))
    with pytest.raises(ValueError, match=f"{project} has no tokenizer with {what}"):
        export_files(project, tokenizer, {})
    assert export_files(project, Tokenizer(TokenizerConfig.load(overrides=SMALL)), {})

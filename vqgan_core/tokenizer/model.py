"""The tokenizer: encoder, quantizer, decoder.

Axes: B batch, C image channels, D codebook width, H×W image, h×w grid (h = H / f), K entries. Of a residual quantizer
with depth R, grids of indices are R times wider.

Source: arXiv 2012.09841 §3.1, eq. 2. Departures: a size that f does not divide is an error (the original crops in
silence); `decode` takes indices (the original's is broken); latents reach the quantizer in fp32 under autocast too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.config import TokenizerConfig
from vqgan_core.quantizers import Quantized, build_quantizer
from vqgan_core.tokenizer.decoder import Decoder
from vqgan_core.tokenizer.encoder import Encoder
from vqgan_core.tokenizer.files import CONFIG_FILE, WEIGHTS_FILE, dump_files, load_into, read_config

__all__ = ["Tokenizer", "TokenizerOutput"]


Perturb = Callable[[Quantized], Float[Tensor, "B D h w"]]
"""From quantized latents to what is decoded in their place."""


@dataclass(frozen=True)
class TokenizerOutput:
    """Everything that one pass through the tokenizer computes."""

    reconstruction: Float[Tensor, "B C H W"]
    """The decoded image, not clamped."""
    latents: Float[Tensor, "B D h w"]
    """Before quantisation."""
    quantized: Float[Tensor, "B D h w"]
    """Codebook entries, with a gradient to the latents; what was decoded."""
    indices: Int[Tensor, "B h w"]
    """int64."""
    loss: Float[Tensor, ""]
    """The quantizer's."""


class Tokenizer(nn.Module):
    """Images in [-1, 1] to a grid of indices and back."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        autoencoder = config.autoencoder
        self.config = config
        self.factor = autoencoder.downsampling_factor
        self.codebook_size = config.codebook_size
        self.encoder = Encoder(autoencoder)
        self.quant_conv = nn.Conv2d(autoencoder.latent_channels, config.codebook_dim, 1)
        self.quantizer = build_quantizer(config)
        self.post_quant_conv = nn.Conv2d(config.codebook_dim, autoencoder.latent_channels, 1)
        self.decoder = Decoder(autoencoder)

    @property
    def last_layer(self) -> Tensor:
        """The weight at which the adaptive weight compares gradients."""
        return self.decoder.conv_out.weight

    def forward(self, images: Float[Tensor, "B C H W"], perturb: Perturb | None = None) -> TokenizerOutput:
        """Reconstruct images through the codebook.

        Args:
            images: in [-1, 1].
            perturb: changes what the decoder sees, in training.

        Raises:
            ValueError: wrong number of channels, or a size that is no multiple of f.
        """
        latents = self.latents(images)
        result: Quantized = self.quantizer(latents)
        quantized = result.quantized if perturb is None else perturb(result)
        return TokenizerOutput(self._decode(quantized), latents, quantized, result.indices, result.loss)

    def latents(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """What the encoder makes of images, before quantisation.

        Raises:
            ValueError: wrong number of channels, or a size that is no multiple of f.
        """
        self._check_images(images)
        hidden = self.encoder(images)
        # bf16 here would round the quantizer's input, and one index in twelve with it.
        with torch.autocast(images.device.type, enabled=False):
            out: Tensor = self.quant_conv(hidden.to(self.quant_conv.weight.dtype))
        return out

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "B C H W"]) -> Int[Tensor, "B h w"]:
        """The indices of images; no dropout, no noise, no gradient: the same image always gives the same indices.

        Raises:
            ValueError: wrong number of channels, or a size that is no multiple of f.
        """
        was_training = self.encoder.training  # dropout would make the indices random
        self.encoder.eval()
        try:
            return self.quantizer.encode(self.latents(images))
        finally:
            self.encoder.train(was_training)

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B C H W"]:
        """The images of indices, not clamped.

        Raises:
            ValueError: not a `B h w` grid of integers, or an index outside the codebook, or a width that the depth of
                a residual quantizer does not divide.
        """
        return self._decode(self.quantizer.decode(self._checked(indices)))

    def to_files(self) -> dict[str, bytes]:
        """The tokenizer as files; the same weights always give the same bytes."""
        return dump_files(self.config, self.state_dict())

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Tokenizer:
        """Rebuild a tokenizer, in eval mode on the CPU; draws no random number.

        Raises:
            ValueError: a file is missing, or the weights are not those of the config.
        """
        with torch.device("meta"):
            tokenizer = cls(read_config(files))
        load_into(tokenizer, files)
        return tokenizer.eval()

    def save(self, directory: str | Path) -> None:
        """Write the files into a directory, which is made if need be."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        for name, data in self.to_files().items():
            (path / name).write_bytes(data)

    @classmethod
    def load(cls, directory: str | Path) -> Tokenizer:
        """Rebuild a tokenizer from a directory that `save` wrote.

        Raises:
            ValueError: a file is missing, or the weights are not those of the config.
        """
        paths = [Path(directory) / name for name in (CONFIG_FILE, WEIGHTS_FILE)]
        return cls.from_files({path.name: path.read_bytes() for path in paths if path.is_file()})

    def _decode(self, quantized: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C H W"]:
        out: Tensor = self.decoder(self.post_quant_conv(quantized.to(self.post_quant_conv.weight.dtype)))
        return out

    def _check_images(self, images: Tensor) -> None:
        channels = self.config.autoencoder.image_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"images of shape {tuple(images.shape)}: this tokenizer takes (batch, {channels}, H, W)")
        f = self.factor
        if any(size == 0 or size % f for size in images.shape[2:]):
            height, width = images.shape[2:]
            near = " and ".join(
                f"{name} {' or '.join(str(size) for size in _nearest_multiples(given, f))}"
                for name, given in (("height", height), ("width", width))
            )
            raise ValueError(
                f"image of {height}x{width} px: height and width must be multiples of f = {f}; "
                f"resize or crop it, nearest are {near}"
            )

    def _checked(self, indices: Tensor) -> Int[Tensor, "B h w"]:
        if indices.ndim != 3 or indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
            raise ValueError(
                f"indices of shape {tuple(indices.shape)}, {indices.dtype}: expected integers (batch, h, w)"
            )
        if indices.numel() == 0:
            raise ValueError(f"indices of shape {tuple(indices.shape)}: the grid is empty")
        indices = indices.long()  # of any integer type that token files use
        low, high = (int(bound) for bound in torch.aminmax(indices))
        if low < 0 or high >= self.codebook_size:
            raise ValueError(
                f"index {low if low < 0 else high} is outside the codebook: allowed are 0 to {self.codebook_size - 1}; "
                "do these tokens belong to another tokenizer?"
            )
        return indices


def _nearest_multiples(size: int, f: int) -> list[int]:
    below = size // f * f
    return [size] if size and below == size else [multiple for multiple in (below, below + f) if multiple > 0]

"""The tokenizer: encoder, quantizer, decoder.

Axes: B batch, C image channels, D codebook width, H×W image, h×w grid (h = H / f), K entries. Of a residual quantizer
with depth R, grids of indices are R times wider.

With a top level (`hierarchical`) there are two grids: the finer conditioned on the coarser.

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
from vqgan_core.config.tokenizer import BOTTOM, TOP
from vqgan_core.quantizers import Quantized, Quantizer, build_quantizer
from vqgan_core.tokenizer.build import build_decoder, build_encoder
from vqgan_core.tokenizer.files import CONFIG_FILE, WEIGHTS_FILE, dump_files, load_into, read_config
from vqgan_core.tokenizer.hierarchical import TopLevel
from vqgan_core.tokenizer.pixels import central_image

__all__ = ["Level", "Tokenizer", "TokenizerOutput"]


Perturb = Callable[[Quantized], Float[Tensor, "B D h w"]]
"""From quantized latents to what is decoded in their place."""


@dataclass(frozen=True)
class Level:
    """What one of the codebooks was asked and answered."""

    latents: Float[Tensor, "B D h w"]
    """Before quantisation."""
    indices: Int[Tensor, "B h w"]
    """int64."""

    def detached(self) -> Level:
        """The same without the graph behind it."""
        return Level(self.latents.detach(), self.indices)


@dataclass(frozen=True)
class TokenizerOutput:
    """Everything that one pass through the tokenizer computes."""

    reconstruction: Float[Tensor, "B C H W"]
    """The decoded image, not clamped; of a distribution, its median."""
    latents: Float[Tensor, "B D h w"]
    """Before quantisation."""
    quantized: Float[Tensor, "B D h w"]
    """Codebook entries, with a gradient to the latents; what was decoded."""
    indices: Int[Tensor, "B h w"]
    """int64."""
    loss: Float[Tensor, ""]
    """The quantizer's."""
    statistics: Float[Tensor, "B 2C H W"] | None = None
    """Where the decoder gives a distribution of each pixel: this."""
    top: Level | None = None
    """Of two levels, the coarser; latents, quantized and indices are the finer's."""

    @property
    def levels(self) -> dict[str, Level]:
        """Each level by the name of its column in token datasets."""
        bottom = {BOTTOM: Level(self.latents, self.indices)}
        return bottom if self.top is None else {**bottom, TOP: self.top}


class Tokenizer(nn.Module):
    """Images in [-1, 1] to a grid of indices and back."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        autoencoder = config.autoencoder
        self.config = config
        self.factor = autoencoder.downsampling_factor
        self.size_multiple = config.size_multiple
        self.codebook_size = config.codebook_size
        self.gives_distributions = config.pixels == "logit_laplace"
        features, entries = autoencoder.latent_channels, config.codebook_dim
        told = 0 if config.top is None else features
        projects = autoencoder.kind == "vqgan"  # a dVAE's quantizer takes features, and its decoder entries
        self.encoder = build_encoder(config)
        self.quant_conv = nn.Conv2d(features + told, entries, 1) if projects else nn.Identity()
        self.quantizer = build_quantizer(config)
        self.post_quant_conv = nn.Conv2d(entries + told, features, 1) if projects else nn.Identity()
        self.decoder = build_decoder(config, values_per_channel=2 if self.gives_distributions else 1)
        self.top = None if config.top is None else TopLevel(config.top, autoencoder)

    @property
    def quantizers(self) -> dict[str, Quantizer]:
        """Each level's, by the name of its column in token datasets."""
        return {BOTTOM: self.quantizer} | ({} if self.top is None else {TOP: self.top.quantizer})

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
        self.check_images(images)
        features = self.encoder(images)
        top, context, chosen = None, None, None
        if self.top is not None:
            above = self.top.latents(features)
            chosen = self.top.quantizer(above)
            top, context = Level(above, chosen.indices), self.top.context(chosen.quantized)
        latents = self._latents(features, context)
        result: Quantized = self.quantizer(latents)
        quantized = result.quantized if perturb is None else perturb(result)
        decoded = self._decode(quantized, context)
        return TokenizerOutput(
            reconstruction=self._image(decoded),
            latents=latents,
            quantized=quantized,
            indices=result.indices,
            loss=result.loss if chosen is None else result.loss + chosen.loss,
            statistics=decoded if self.gives_distributions else None,
            top=top,
        )

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "B C H W"]) -> Int[Tensor, "B h w"]:
        """The indices of images; no dropout, no noise, no gradient: the same image always gives the same indices.

        Raises:
            ValueError: wrong number of channels, a size that is no multiple of f, or a tokenizer of two levels.
        """
        if self.top is not None:
            raise ValueError("this tokenizer has two grids of indices for an image: use encode_levels")
        return self.encode_levels(images)[BOTTOM]

    @torch.no_grad()
    def encode_levels(self, images: Float[Tensor, "B C H W"]) -> dict[str, Int[Tensor, "B h w"]]:
        """As `encode`, the grid of each level by the name of its column: `indices` and, of two, `indices_top`.

        Raises:
            ValueError: wrong number of channels, or a size that is no multiple of f.
        """
        self.check_images(images)
        parts = [part for part in (self.encoder, self.top) if part is not None]
        were_training = [part.training for part in parts]
        for part in parts:
            part.eval()  # dropout would make the indices random
        try:
            features, context = self.encoder(images), None
            above = {}
            if self.top is not None:
                above = {TOP: self.top.quantizer.encode(self.top.latents(features))}
                context = self.top.context(self.top.quantizer.decode(above[TOP]))
            return {BOTTOM: self.quantizer.encode(self._latents(features, context)), **above}
        finally:
            for part, was_training in zip(parts, were_training, strict=True):
                part.train(was_training)

    def decode(
        self, indices: Int[Tensor, "B h w"], top: Int[Tensor, "B t u"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """The images of indices, not clamped.

        Args:
            indices: the grid; of two levels, the finer.
            top: of two levels, the coarser.

        Raises:
            ValueError: not a `B h w` grid of integers, or an index outside the codebook, or a width that the depth of
                a residual quantizer does not divide; or not as many grids as levels, or grids that do not fit.
        """
        grids = {BOTTOM: indices} | ({} if top is None else {TOP: top})
        if set(grids) != set(self.quantizers):
            raise ValueError(f"{len(grids)} grids of indices: this tokenizer has {len(self.quantizers)} levels")
        found = {name: self._entries(name, grid) for name, grid in grids.items()}
        if self.top is None:
            return self._image(self._decode(found[BOTTOM], None))
        context = self.top.context(found[TOP])
        if context.shape[2:] != found[BOTTOM].shape[2:]:
            raise ValueError(
                f"grids {tuple(indices.shape[1:])} and {tuple(grids[TOP].shape[1:])}: the first is to be "
                f"{self.size_multiple // self.factor} times the second along each axis"
            )
        return self._image(self._decode(found[BOTTOM], context))

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

    def _image(self, decoded: Tensor) -> Float[Tensor, "B C H W"]:
        return central_image(decoded) if self.gives_distributions else decoded

    def _latents(self, features: Tensor, context: Tensor | None) -> Float[Tensor, "B D h w"]:
        # bf16 here would round the quantizer's input, and one index in twelve with it.
        with torch.autocast(features.device.type, enabled=False):
            out: Tensor = self.quant_conv(_beside(features, context).to(self._dtype))
        return out

    def _decode(self, quantized: Float[Tensor, "B D h w"], context: Tensor | None) -> Tensor:
        out: Tensor = self.decoder(self.post_quant_conv(_beside(quantized.to(self._dtype), context)))
        return out

    @property
    def _dtype(self) -> torch.dtype:
        return self.last_layer.dtype

    def _entries(self, name: str, indices: Tensor) -> Float[Tensor, "B D h w"]:
        quantizer = self.quantizers[name]
        return quantizer.decode(_checked(indices, quantizer.codebook_size))

    def check_images(self, images: Tensor) -> None:
        """Refuse what this tokenizer does not take.

        Raises:
            ValueError: wrong number of channels, or a size that is no multiple of f.
        """
        channels = self.config.autoencoder.image_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"images of shape {tuple(images.shape)}: this tokenizer takes (batch, {channels}, H, W)")
        f = self.size_multiple
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


def _beside(grid: Float[Tensor, "B D h w"], context: Tensor | None) -> Float[Tensor, "B D2 h w"]:
    return grid if context is None else torch.cat([grid, context.to(grid.dtype)], dim=1)


def _checked(indices: Tensor, codebook_size: int) -> Int[Tensor, "B h w"]:
    if indices.ndim != 3 or indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise ValueError(f"indices of shape {tuple(indices.shape)}, {indices.dtype}: expected integers (batch, h, w)")
    if indices.numel() == 0:
        raise ValueError(f"indices of shape {tuple(indices.shape)}: the grid is empty")
    indices = indices.long()  # of any integer type that token files use
    low, high = (int(bound) for bound in torch.aminmax(indices))
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"index {low if low < 0 else high} is outside the codebook: allowed are 0 to {codebook_size - 1}; do these "
            "tokens belong to another tokenizer?"
        )
    return indices


def _nearest_multiples(size: int, f: int) -> list[int]:
    below = size // f * f
    return [size] if size and below == size else [multiple for multiple in (below, below + f) if multiple > 0]

"""From a config to what reads and predicts its tokens."""

from __future__ import annotations

from vqgan_core.config import PriorConfig, TokenSpec
from vqgan_core.prior.decoder import Decoder
from vqgan_core.prior.modern import ModernTransformer
from vqgan_core.prior.pixelcnn import PixelCnn
from vqgan_core.prior.pixels import PixelDecoder, PixelShape
from vqgan_core.prior.pixelsnail import PixelSnail
from vqgan_core.prior.transformer import GPT


def reads_cells(config: PriorConfig) -> bool:
    """Whether elements are told which cell they are and which one they predict, and not just their index.

    The learned positions of a fixed order do that by themselves. A random order says nothing of the next cell, and
    neither do rotary positions once cells that follow each other are no neighbours.
    """
    return config.order == "random_annealed" or (config.architecture == "modern" and config.order != "row")


def prefix_length(config: PriorConfig, spec: TokenSpec) -> int:
    """P: elements that stand before the first token.

    One for the class, which is also the start where nothing is told, and one for each token of the condition columns.

    Raises:
        ValueError: the tokens have no such column.
    """
    told = sum(spec.column(name).num_tokens for name in config.condition_columns)
    return told + (config.condition == "class" or not told)


def build_transformer(config: PriorConfig, spec: TokenSpec) -> Decoder | PixelDecoder:
    """Build the network of a prior, whose sequence is the condition and all tokens but the last.

    A transformer's positions are indices in that sequence, or, where `reads_cells`, 0 … P - 1 for the condition and P +
    cell. A convolutional network takes the same sequence.
    """
    if config.architecture in ("pixelsnail", "pixelcnn"):
        return _build_convolutions(config, spec)
    num_prefix = prefix_length(config, spec)
    if config.architecture == "modern":
        return ModernTransformer(config, spec.codebook_size, (spec.height, spec.width), num_prefix)
    return GPT(
        vocabulary_size=spec.codebook_size,
        max_length=num_prefix + spec.num_tokens - 1 + reads_cells(config),
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        width=config.width,
        dropout=config.dropout,
    )


def _build_convolutions(config: PriorConfig, spec: TokenSpec) -> PixelDecoder:
    columns = tuple((spec.column(name).height, spec.column(name).width) for name in config.condition_columns)
    has_class = config.condition == "class" or not columns
    shape = PixelShape(spec.codebook_size, (spec.height, spec.width), config.width, has_class, columns)
    if config.architecture == "pixelcnn":
        return PixelCnn(shape, config.num_layers, dropout=config.dropout)
    return PixelSnail(
        shape, config.num_layers, num_res_blocks=config.num_res_blocks, num_heads=config.num_heads,
        dropout=config.dropout,
    )  # fmt: skip

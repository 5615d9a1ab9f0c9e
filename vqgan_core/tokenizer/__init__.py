"""Encoder, quantizer and decoder: images to indices and back.

Five lines in a notebook (`load` instead of the first two for a trained one):

    >>> import torch
    >>> from vqgan_core.config import AutoencoderConfig, TokenizerConfig
    >>> from vqgan_core.tokenizer import Tokenizer
    >>> autoencoder = AutoencoderConfig(base_channels=32, channel_multipliers=(1, 2, 2), num_res_blocks=1)
    >>> tokenizer = Tokenizer(TokenizerConfig(codebook_size=512, codebook_dim=8, autoencoder=autoencoder)).eval()
    >>> images = torch.rand(2, 3, 64, 48) * 2 - 1
    >>> indices = tokenizer.encode(images)
    >>> indices.shape
    torch.Size([2, 16, 12])
    >>> tokenizer.decode(indices).shape
    torch.Size([2, 3, 64, 48])

Read in this order: blocks, encoder, decoder, model, hierarchical; files says how a tokenizer lies on disk, label_maps
how classes become channels, pixels what a decoder can say of one, tiling how images of any size go through.
"""

from vqgan_core.tokenizer.label_maps import check_labels, one_hot
from vqgan_core.tokenizer.model import Level, Tokenizer, TokenizerOutput
from vqgan_core.tokenizer.tiling import Tiling, decode_tiled, encode_tiled

__all__ = [
    "Level",
    "Tiling",
    "Tokenizer",
    "TokenizerOutput",
    "check_labels",
    "decode_tiled",
    "encode_tiled",
    "one_hot",
]

"""From a config to the networks around the quantizer: the one place that knows all kinds."""

from __future__ import annotations

from vqgan_core.config import DvaeAutoencoderConfig, TokenizerConfig
from vqgan_core.tokenizer.decoder import Decoder
from vqgan_core.tokenizer.dvae import DvaeDecoder, DvaeEncoder
from vqgan_core.tokenizer.encoder import Encoder

__all__ = ["build_decoder", "build_encoder"]


def build_encoder(config: TokenizerConfig) -> Encoder | DvaeEncoder:
    """Images to features."""
    autoencoder = config.autoencoder
    return DvaeEncoder(autoencoder) if isinstance(autoencoder, DvaeAutoencoderConfig) else Encoder(autoencoder)


def build_decoder(config: TokenizerConfig, values_per_channel: int) -> Decoder | DvaeDecoder:
    """Entries, of a VQGAN projected to the width of features, to what is said of each channel of a pixel."""
    autoencoder = config.autoencoder
    if isinstance(autoencoder, DvaeAutoencoderConfig):
        return DvaeDecoder(autoencoder, config.codebook_dim, values_per_channel)
    return Decoder(autoencoder, values_per_channel)

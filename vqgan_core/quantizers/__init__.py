"""From continuous latents to indices, one file a paper."""

from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.build import build_quantizer
from vqgan_core.quantizers.ema import AveragedCodebook, EmaQuantizer
from vqgan_core.quantizers.fsq import FsqQuantizer
from vqgan_core.quantizers.gumbel import GumbelQuantizer
from vqgan_core.quantizers.lfq import LfqQuantizer
from vqgan_core.quantizers.neighbours import replace_by_neighbours
from vqgan_core.quantizers.residual import ResidualQuantizer
from vqgan_core.quantizers.restart import (
    DeadCodeRestart,
    RestartHook,
    build_restart,
    follow_codebook,
    forget_moments,
    restart_hooks,
)
from vqgan_core.quantizers.simvq import SimvqQuantizer
from vqgan_core.quantizers.usage import CodeUsage, code_histogram, divergence_bits
from vqgan_core.quantizers.vector import VectorQuantizer

__all__ = [
    "AveragedCodebook",
    "CodeUsage",
    "DeadCodeRestart",
    "EmaQuantizer",
    "FsqQuantizer",
    "GumbelQuantizer",
    "LfqQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "RestartHook",
    "SimvqQuantizer",
    "VectorQuantizer",
    "build_quantizer",
    "build_restart",
    "code_histogram",
    "divergence_bits",
    "follow_codebook",
    "forget_moments",
    "replace_by_neighbours",
    "restart_hooks",
]

"""From continuous latents to indices, one file a paper."""

from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.build import build_quantizer
from vqgan_core.quantizers.ema import AveragedCodebook, EmaQuantizer
from vqgan_core.quantizers.fsq import FsqQuantizer
from vqgan_core.quantizers.gumbel import GumbelQuantizer
from vqgan_core.quantizers.lfq import LfqQuantizer
from vqgan_core.quantizers.residual import ResidualQuantizer
from vqgan_core.quantizers.restart import DeadCodeRestart, RestartHook, follow_codebook, forget_moments
from vqgan_core.quantizers.simvq import SimvqQuantizer
from vqgan_core.quantizers.usage import CodeUsage, code_histogram
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
    "code_histogram",
    "follow_codebook",
    "forget_moments",
]

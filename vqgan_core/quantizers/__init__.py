"""From continuous latents to indices, one file a paper."""

from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.build import build_quantizer
from vqgan_core.quantizers.restart import DeadCodeRestart, RestartHook, follow_codebook, forget_moments
from vqgan_core.quantizers.usage import CodeUsage, code_histogram
from vqgan_core.quantizers.vector import VectorQuantizer

__all__ = [
    "CodeUsage",
    "DeadCodeRestart",
    "Quantized",
    "Quantizer",
    "RestartHook",
    "VectorQuantizer",
    "build_quantizer",
    "code_histogram",
    "follow_codebook",
    "forget_moments",
]

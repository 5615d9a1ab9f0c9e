"""Autoregressive models of tokens, and sampling from them."""

from vqgan_core.config import TokenSpec
from vqgan_core.prior.beam import Beams, beam_search
from vqgan_core.prior.cost import PriorCost, prior_cost
from vqgan_core.prior.decay import decay_groups
from vqgan_core.prior.model import Prior
from vqgan_core.prior.reading import Reading
from vqgan_core.prior.sampling import Sampler, sample_tokens
from vqgan_core.prior.sliding import sample_large
from vqgan_core.prior.transformer import GPT

__all__ = [
    "GPT",
    "Beams",
    "Prior",
    "PriorCost",
    "Reading",
    "Sampler",
    "TokenSpec",
    "beam_search",
    "decay_groups",
    "prior_cost",
    "sample_large",
    "sample_tokens",
]

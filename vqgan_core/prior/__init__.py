"""Autoregressive models of tokens, and sampling from them."""

from vqgan_core.config import TokenSpec
from vqgan_core.prior.cost import PriorCost, prior_cost
from vqgan_core.prior.decay import decay_groups
from vqgan_core.prior.model import Prior
from vqgan_core.prior.sampling import sample_tokens
from vqgan_core.prior.transformer import GPT

__all__ = [
    "GPT",
    "Prior",
    "PriorCost",
    "TokenSpec",
    "decay_groups",
    "prior_cost",
    "sample_tokens",
]

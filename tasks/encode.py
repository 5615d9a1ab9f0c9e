"""Stage encode: corpus + tokenizer → token dataset, one Parquet a shard and view.

A part is named by what it was made from: the tokenizer's digest, the shard's sha256 and the encode recipe. So a restart
does only what is missing, and the token dataset of a grown corpus refers to the old parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from datasets.corpus import SPLITS, Corpus
from datasets.store import Artifact, Part
from datasets.tokens import TokenMetadata, TokenRow, token_parquet
from tasks.stage import Product, Request, Stage, Work, input_of
from vqgan_core.config import EncodeConfig, canonical_json, sha256_json
from vqgan_core.quantizers import CodeUsage
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import autocast, prepare, resolve_device

STAGE = Stage("encode", "1", "tokens")


def request(config: EncodeConfig, corpus: Artifact, tokenizer: Artifact) -> Request:
    """Ask for a corpus' tokens."""
    inputs = (input_of(corpus), input_of(tokenizer))
    label = f"encode · {', '.join(config.views)}"
    return Request(STAGE, config.recipe(), inputs, partial(_build, config, corpus, tokenizer), label)

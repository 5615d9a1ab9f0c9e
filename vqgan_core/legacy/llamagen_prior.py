"""Class-conditional GPTs of LlamaGen: from their state dict to our modern transformer and Prior.

Axes: V vocabulary, D width, h heads, g key and value heads, d head width.

Their queries, keys and values are one matrix of (h + 2 g) d rows, without QK-norm; the perceptron is 8/3 of the width,
rounded up to a multiple of 256; the last row of the class table is the hidden class; and their condition stands in the
rotary table with cosine and sine 0, which the stored config keeps (`condition_rotation: zero`). Sizes are read off the
shapes. Only the number of heads leaves no trace; it is known for the sizes that they name, and asked for otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, TokenSpec
from vqgan_core.legacy.checkpoint_file import CheckpointError
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.prior_facts import ImportedPrior, PriorFacts
from vqgan_core.prior import Prior

__all__ = ["facts_of", "import_prior", "is_prior"]

TOKENS = "tok_embeddings.weight"
CLASSES = "cls_embedding.embedding_table.weight"
#: Their names of our tensors.
_WHOLE = {"token_embedding.weight": TOKENS, "final_norm.weight": "norm.weight", "head.weight": "output.weight"}
_IN_LAYER = {
    "attention_norm": "attention_norm",
    "attention.projection": "attention.wo",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "feed_forward.w1",
    "mlp.up": "feed_forward.w3",
    "mlp.down": "feed_forward.w2",
}
#: Heads of the sizes that they name, by layers and width: B, L, XL, XXL, XXXL, 3B, 1B, 7B.
HEADS = {
    (12, 768): 12, (24, 1024): 16, (36, 1280): 20, (48, 1536): 24, (48, 2560): 40, (24, 3200): 32, (22, 2048): 32,
    (32, 4096): 32,
}  # fmt: skip
_IGNORED = re.compile(r"freqs_cis|causal_mask|layers\.\d+\.attention\.kv_cache\.[kv]_cache")


def is_prior(state: Mapping[str, Tensor]) -> bool:
    """Whether this is a state dict of one of their GPTs."""
    return TOKENS in state


def facts_of(state: Mapping[str, Tensor], said: PriorFacts) -> PriorFacts:
    """What is said of a GPT, and what its shapes say of the rest.

    Raises:
        CheckpointError: it is told a text; or its number of heads is not known.
    """
    if CLASSES not in state:
        raise CheckpointError(
            f"this GPT has no {CLASSES}: only class-conditional ones can be imported, not those told a text"
        )
    if said.sos_token is not None:
        raise CheckpointError("--sos-token is of unconditional priors of taming-transformers; this GPT has classes")
    size = (_num_layers(state), state[TOKENS].shape[1])
    num_heads = said.num_heads or HEADS.get(size)
    if num_heads is None:
        raise CheckpointError(
            f"{size[0]} layers of width {size[1]} are none of LlamaGen's sizes, and the number of heads leaves no "
            "trace in tensors: say --num-heads"
        )
    num_classes = len(state[CLASSES]) - 1 if said.num_classes is None else said.num_classes
    return replace(said, num_heads=num_heads, num_classes=num_classes)


def import_prior(state: Mapping[str, Tensor], spec: TokenSpec, facts: PriorFacts) -> ImportedPrior:
    """Build our Prior from one of their GPTs.

    Args:
        state: their keys and tensors.
        spec: the tokens that it models.
        facts: from `facts_of`.

    Raises:
        CheckpointError: keys are missing or left over, or it models other tokens.
    """
    table, classes = state[TOKENS], state[CLASSES]
    if len(table) != spec.codebook_size:
        raise CheckpointError(f"this GPT has {len(table)} tokens, the tokenizer a codebook of {spec.codebook_size}")
    if len(classes) not in {spec.num_classes, spec.num_classes + 1}:
        raise CheckpointError(f"this GPT has {len(classes) - 1} classes, --num-classes says {spec.num_classes}")
    config = _config(state, facts)
    prior = Prior(config, spec)
    expected = prior.state_dict()
    places = {name: _place(name, config) for name in expected}
    found = {}
    for name, (key, rows) in places.items():
        tensor = state.get(key)
        tensor = tensor[rows] if tensor is not None else None
        if key == CLASSES and tensor is not None and len(tensor) == spec.num_classes:
            tensor = torch.cat([tensor, tensor.mean(0, keepdim=True)])  # trained without a hidden class
        if tensor is not None and tensor.shape == expected[name].shape:
            found[name] = tensor.float().contiguous()
    report = _account(state, {name: key for name, (key, _) in places.items()}, found.keys())
    report.require_exact(f"GPT of LlamaGen with {facts.num_heads} heads", ("",))
    prior.load_state_dict(found, strict=True)
    return ImportedPrior(prior.eval(), report, None)


def _config(state: Mapping[str, Tensor], facts: PriorFacts) -> PriorConfig:
    width, num_heads = state[TOKENS].shape[1], facts.num_heads
    assert num_heads is not None
    if width % num_heads:
        raise CheckpointError(f"--num-heads {num_heads} does not divide the width {width} of this GPT")
    joined, gate = (state.get(f"layers.0.{part}.weight") for part in ("attention.wqkv", "feed_forward.w1"))
    key_value_rows = 2 * width if joined is None else len(joined) - width
    num_key_value_heads = max(1, key_value_rows * num_heads // (2 * width))
    return PriorConfig(
        architecture="modern",
        condition="class",
        num_layers=_num_layers(state),
        num_heads=num_heads,
        width=width,
        num_key_value_heads=None if num_key_value_heads == num_heads else num_key_value_heads,
        qk_norm=False,
        mlp_width=None if gate is None else len(gate),
        condition_rotation="zero",
    )


def _num_layers(state: Mapping[str, Tensor]) -> int:
    """At least one: what lacks all layers is not refused for that, but for its missing keys."""
    return max(1, len({key.split(".")[1] for key in state if key.startswith("layers.")}))


def _place(name: str, config: PriorConfig) -> tuple[str, slice]:
    """Their key of one of our tensors, and its rows there."""
    if name == "class_embedding.weight":
        return CLASSES, slice(None)
    ours = name.removeprefix("transformer.")
    if ours in _WHOLE:
        return _WHOLE[ours], slice(None)
    match = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", ours)
    assert match is not None, f"LlamaGen has nothing like {name}"
    number, part = match.groups()
    if part in _IN_LAYER:
        return f"layers.{number}.{_IN_LAYER[part]}.weight", slice(None)
    return f"layers.{number}.attention.wqkv.weight", _rows(part, config)


def _rows(part: str, config: PriorConfig) -> slice:
    """Of queries, keys or values in their one matrix."""
    width, groups = config.width, config.num_key_value_heads or config.num_heads
    of_groups = groups * width // config.num_heads
    starts = {"attention.query": 0, "attention.key": width, "attention.value": width + of_groups}
    return slice(starts[part], starts[part] + (width if part == "attention.query" else of_groups))


def _account(state: Mapping[str, Tensor], keys: Mapping[str, str], found: Collection[str]) -> KeyReport:
    missing = list(dict.fromkeys(key for name, key in keys.items() if name not in found))
    used = [key for key in state if key in keys.values() and key not in missing]
    rest = [key for key in state if key not in used]
    ignored = [key for key in rest if _IGNORED.fullmatch(key)]
    return KeyReport(tuple(used), tuple(ignored), tuple(missing), tuple(key for key in rest if key not in ignored))

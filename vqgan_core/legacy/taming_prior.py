"""Transformers of taming-transformers: from their state dict to our GPT and Prior, with an account of every key.

Axes: V vocabulary, T positions, D width.

A `GPT` state dict stands alone or, in a `Net2NetTransformer`, under `transformer.`, beside the tokenizers'
(`first_stage_model.`, `cond_stage_model.`) and the token order's (`permuter.`) keys. Sizes are read off the shapes;
only the number of heads leaves no trace in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vqgan_core.config import OrderName, PriorConfig, TokenSpec
from vqgan_core.prior.model import Prior
from vqgan_core.prior.orders import inverse, name_of
from vqgan_core.prior.transformer import GPT

TRANSFORMER = "transformer."
FIRST_STAGE = "first_stage_model."
CONDITION_STAGE = "cond_stage_model."
OTHER_STAGES = (FIRST_STAGE, CONDITION_STAGE)
PERMUTER = "permuter."

_WHOLE = {
    "pos_emb": "position_embedding",
    "tok_emb.weight": "token_embedding.weight",
    "ln_f.weight": "final_norm.weight",
    "ln_f.bias": "final_norm.bias",
    "head.weight": "head.weight",
}
_IN_BLOCK = {
    "ln1": "attention_norm",
    "ln2": "mlp_norm",
    "attn.query": "attention.query",
    "attn.key": "attention.key",
    "attn.value": "attention.value",
    "attn.proj": "attention.projection",
    "mlp.0": "mlp.0",
    "mlp.2": "mlp.2",
}
_BLOCK_KEY = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")
_MASK_KEY = re.compile(r"blocks\.\d+\.attn\.mask")


@dataclass(frozen=True)
class MappingReport:
    """Where every key of the state dict went; keys are spelled as they were given."""

    used: tuple[str, ...]
    """Mapped to a parameter of ours."""
    masks: tuple[str, ...]
    """Causal mask buffers, which follow from num_unmasked."""
    permuter: tuple[str, ...]
    """The token order: not weights, but tokens must be given in it."""
    other_stages: tuple[str, ...]
    """The tokenizers' keys, mapped elsewhere."""
    missing: tuple[str, ...]
    """What a transformer of this size should have and the state dict has not."""
    left_over: tuple[str, ...]
    """Nobody knows these."""

    @property
    def is_exact(self) -> bool:
        """Nothing missing and nothing left over."""
        return not self.missing and not self.left_over


@dataclass(frozen=True)
class TamingGPT:
    """An imported transformer."""

    gpt: GPT
    report: MappingReport
    order: Int[Tensor, " N"] | None
    """The permuter's forward_shuffle_idx: token i of the sequence is grid cell order[i]; None for raster order."""


def is_prior(state: Mapping[str, Tensor]) -> bool:
    """Whether this is a state dict of a transformer, alone or with its other stages."""
    return "tok_emb.weight" in state or f"{TRANSFORMER}tok_emb.weight" in state


def our_name(key: str) -> str | None:
    """Our name of a GPT parameter, given the original's without `transformer.`; None where there is none."""
    if key in _WHOLE:
        return _WHOLE[key]
    match = _BLOCK_KEY.fullmatch(key)
    if match is None or match[2] not in _IN_BLOCK:
        return None
    return f"layers.{match[1]}.{_IN_BLOCK[match[2]]}.{match[3]}"


def import_gpt(state: Mapping[str, Tensor], num_heads: int, *, dropout: float = 0.0) -> TamingGPT:
    """Build our GPT from a state dict of a GPT or a Net2NetTransformer.

    It shares the given tensors' memory, on whatever device they are (also meta): these models have gigabytes.

    Args:
        state: the original's keys and tensors.
        num_heads: n_head of its config.
        dropout: rate for further training.

    Raises:
        ValueError: keys are missing or unknown, or shapes do not belong to one transformer.
    """
    prefix = TRANSFORMER if any(key.startswith(TRANSFORMER) for key in state) else ""
    own = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    with torch.device("meta"):
        gpt = _empty_gpt(own, num_heads, dropout)
    report = _account(state, prefix, gpt)
    if not report.is_exact:
        raise ValueError(
            f"not a transformer of taming-transformers: {len(report.missing)} keys missing {list(report.missing[:5])}, "
            f"{len(report.left_over)} unknown {list(report.left_over[:5])}"
        )
    mapped = {name: tensor for key, tensor in own.items() if (name := our_name(key)) is not None}
    try:
        gpt.load_state_dict(mapped, strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(f"shapes do not belong to one transformer: {' '.join(str(error).split())}") from None
    return TamingGPT(gpt.requires_grad_(), report, state.get(f"{PERMUTER}forward_shuffle_idx"))


def import_prior(
    state: Mapping[str, Tensor], spec: TokenSpec, num_heads: int, *, sos_token: int | None = None
) -> Prior:
    """Build our Prior from a Net2NetTransformer that is told a class, other tokens or nothing, permuted or not.

    The original looks the condition (or the start token) up among the image tokens; here those rows are copied into the
    prior's own condition tables. A conditional original never learned the hidden condition: its row is the mean of the
    told ones, so samples with guidance other than 1 mean little before further training.

    Args:
        state: the original's keys and tensors.
        spec: the tokens; columns, if the model is told other tokens, in their order and without classes; num_classes 0
            for an unconditional model.
        num_heads: n_head of its config.
        sos_token: the start token of an unconditional model, which must then be given.

    Raises:
        ValueError: as `import_gpt`; a spec that does not fit; sos_token missing or superfluous; a permuted order
            that is none of ours on the spec's grid.
    """
    imported = import_gpt(state, num_heads)
    gpt = imported.gpt
    table = gpt.token_embedding.weight.detach()
    order = _order_of(state, spec)
    if gpt.num_unmasked:
        raise ValueError(
            f"the model reads its first {gpt.num_unmasked} positions at once, which no prior here does: import_gpt has "
            "the transformer alone"
        )
    config = PriorConfig(
        condition="class" if spec.num_classes else "none",
        condition_columns=tuple(column.name for column in spec.columns),
        order=order,
        num_layers=len(gpt.layers),
        num_heads=num_heads,
        width=gpt.width,
    )
    prior = Prior(config, spec)
    if gpt.vocabulary_size != spec.codebook_size or gpt.max_length < prior.max_length:
        raise ValueError(
            f"the model has {gpt.vocabulary_size} tokens and {gpt.max_length} positions; these tokens are of a "
            f"codebook of {spec.codebook_size} and need {prior.max_length}, a grid of {spec.height} x {spec.width}"
        )
    weights = {f"transformer.{name}": tensor for name, tensor in gpt.state_dict().items()}
    weights["transformer.position_embedding"] = weights["transformer.position_embedding"][:, : prior.max_length]
    prior.load_state_dict({**weights, **_condition_tables(spec, sos_token, table)}, strict=True)
    return prior.eval()


def _condition_tables(spec: TokenSpec, sos_token: int | None, table: Tensor) -> dict[str, Tensor]:
    """The rows that the original looks its condition up in, each table with its row for what is not told."""
    if not spec.columns:
        _check_start(spec.num_classes, sos_token, len(table))
        told = table[: spec.num_classes]
        start = told.mean(0, keepdim=True) if sos_token is None else table[sos_token : sos_token + 1]
        return {"class_embedding.weight": torch.cat([told, start])}
    if spec.num_classes or sos_token is not None:
        raise ValueError(
            f"columns with {spec.num_classes} classes and sos_token {sos_token}: the original is told a class or other "
            "tokens, give either"
        )
    if too_large := [column.name for column in spec.columns if column.codebook_size > len(table)]:
        raise ValueError(
            f"columns {too_large} have more tokens than the {len(table)} that the model looks them up among"
        )
    tables = [table[: column.codebook_size] for column in spec.columns]
    return {
        f"column_embeddings.{i}.tokens.weight": torch.cat([told, told.mean(0, keepdim=True)])
        for i, told in enumerate(tables)
    }


def _order_of(state: Mapping[str, Tensor], spec: TokenSpec) -> OrderName:
    """The name of the permuter's order; an identity permuter has no buffers, or says row."""
    forward, backward = (state.get(f"{PERMUTER}{name}_shuffle_idx") for name in ("forward", "backward"))
    if forward is None:
        return "row"
    name = name_of(forward, spec.height, spec.width)
    if name is None or (backward is not None and not torch.equal(backward, inverse(forward))):
        raise ValueError(
            f"this model reads tokens in a permuted order that is none of ours on a grid of {spec.height} x "
            f"{spec.width}: check the grid, or use import_gpt and its order"
        )
    return name


def _check_start(num_classes: int, sos_token: int | None, vocabulary_size: int) -> None:
    if (sos_token is None) != (num_classes > 0):
        raise ValueError(
            f"{num_classes} classes and sos_token {sos_token}: give the start token of an unconditional model, and "
            "none for a class-conditional one"
        )
    if num_classes > vocabulary_size or not 0 <= (sos_token or 0) < vocabulary_size:
        raise ValueError(
            f"{num_classes} classes, sos_token {sos_token}: they are looked up among {vocabulary_size} tokens"
        )


def _empty_gpt(own: Mapping[str, Tensor], num_heads: int, dropout: float) -> GPT:
    try:
        (vocabulary_size, width), max_length = own["tok_emb.weight"].shape, own["pos_emb"].shape[1]
    except KeyError as error:
        raise ValueError(
            f"not a transformer of taming-transformers: no key {error}; keys: {sorted(own)[:5]} …"
        ) from None
    except (ValueError, IndexError):
        raise ValueError("tok_emb.weight must have 2 axes and pos_emb 3; these are of something else") from None
    layers = {int(match[1]) for key in own if (match := _BLOCK_KEY.fullmatch(key))}
    return GPT(
        vocabulary_size=vocabulary_size,
        max_length=max_length,
        num_layers=len(layers),  # a hole in the numbering shows up as missing and left over keys
        num_heads=num_heads,
        width=width,
        dropout=dropout,
        num_unmasked=_num_unmasked(own),
    )


def _num_unmasked(own: Mapping[str, Tensor]) -> int:
    """How many keys the very first query sees: 1 in a causal model, more with a bidirectional prefix."""
    mask = next((tensor for key, tensor in own.items() if _MASK_KEY.fullmatch(key)), None)
    if mask is None or mask.is_meta:
        return 0
    seen = int(mask[0, 0, 0].sum())
    return seen if seen > 1 else 0


def _account(state: Mapping[str, Tensor], prefix: str, gpt: GPT) -> MappingReport:
    expected = set(gpt.state_dict())
    kinds: dict[str, list[str]] = {"used": [], "masks": [], "permuter": [], "other_stages": [], "left_over": []}
    for key in state:
        kinds[_kind_of(key, prefix, expected)].append(key)
    found = {our_name(key.removeprefix(prefix)) for key in kinds["used"]}
    return MappingReport(missing=tuple(sorted(expected - found)), **{kind: tuple(keys) for kind, keys in kinds.items()})


def _kind_of(key: str, prefix: str, expected: set[str]) -> str:
    if key.startswith(prefix):
        own = key.removeprefix(prefix)
        if our_name(own) in expected:
            return "used"
        if _MASK_KEY.fullmatch(own):
            return "masks"
    if prefix and key.startswith(OTHER_STAGES):
        return "other_stages"
    return "permuter" if prefix and key.startswith(PERMUTER) else "left_over"

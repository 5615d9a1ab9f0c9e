"""GPTs of LlamaGen: logits against a plain transcription of what its transformer computes, and the account of keys.

Axes: B batch, T positions, h heads, d head width.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vqgan_core.config import ConfigError, PriorConfig, SamplingConfig, TokenSpec, TrainPriorConfig
from vqgan_core.legacy.checkpoint_file import CheckpointError
from vqgan_core.legacy.llamagen_prior import HEADS, facts_of, import_prior
from vqgan_core.legacy.prior_facts import PriorFacts
from vqgan_core.prior import Prior, sample_tokens

WIDTH, HIDDEN, CODES, CLASSES, SIDE = 32, 96, 11, 5, 3
SPEC = TokenSpec(codebook_size=CODES, height=SIDE, width=SIDE, num_classes=CLASSES)
FACTS = PriorFacts(num_heads=4)


def state_of(num_key_value_heads: int = 4) -> dict[str, Tensor]:
    """A state dict of theirs with two layers."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    rows = WIDTH + 2 * num_key_value_heads * WIDTH // 4
    state = {
        "cls_embedding.embedding_table.weight": draw(CLASSES + 1, WIDTH),
        "tok_embeddings.weight": draw(CODES, WIDTH),
    }
    for layer in range(2):
        state |= {
            f"layers.{layer}.attention.wqkv.weight": draw(rows, WIDTH),
            f"layers.{layer}.attention.wo.weight": draw(WIDTH, WIDTH),
            f"layers.{layer}.feed_forward.w1.weight": draw(HIDDEN, WIDTH),
            f"layers.{layer}.feed_forward.w3.weight": draw(HIDDEN, WIDTH),
            f"layers.{layer}.feed_forward.w2.weight": draw(WIDTH, HIDDEN),
            f"layers.{layer}.attention_norm.weight": 1 + draw(WIDTH),
            f"layers.{layer}.ffn_norm.weight": 1 + draw(WIDTH),
        }
    return state | {"norm.weight": 1 + draw(WIDTH), "output.weight": draw(CODES, WIDTH)}


def complex_angles(head_width: int) -> Tensor:
    """e^{i·angle} of each position and pair; of the condition 0, not 1."""
    quarter = head_width // 4
    frequencies = [10_000 ** (-pair / quarter) for pair in range(quarter)]
    cells = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    angles = [[row * f for f in frequencies] + [column * f for f in frequencies] for row, column in cells]
    turned = torch.polar(torch.ones(len(cells), 2 * quarter), torch.tensor(angles))
    return torch.cat([torch.zeros(1, 2 * quarter, dtype=turned.dtype), turned])


def reference(state: dict[str, Tensor], labels: Tensor, tokens: Tensor, num_key_value_heads: int) -> Tensor:
    """Logits of every token: attention written out head by head."""

    def norm(x: Tensor, key: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * state[key]

    def turn(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * complex_angles(x.shape[-1])[: x.shape[1]]).flatten(-2)

    told = state["cls_embedding.embedding_table.weight"][labels][:, None]
    x = torch.cat([told, state["tok_embeddings.weight"][tokens[:, :-1]]], dim=1)
    width = WIDTH // 4
    causal = torch.ones(x.shape[1], x.shape[1]).tril().bool()
    for layer in ("layers.0.", "layers.1."):
        joined = norm(x, layer + "attention_norm.weight") @ state[layer + "attention.wqkv.weight"].T
        heads = []
        for head in range(4):
            group = head * num_key_value_heads // 4
            key_start = WIDTH + group * width
            value_start = key_start + num_key_value_heads * width
            query = turn(joined[..., head * width : (head + 1) * width])
            key = turn(joined[..., key_start : key_start + width])
            scores = (query @ key.mT / math.sqrt(width)).masked_fill(~causal, -math.inf)
            heads.append(scores.softmax(-1) @ joined[..., value_start : value_start + width])
        x = x + torch.cat(heads, dim=-1) @ state[layer + "attention.wo.weight"].T
        y = norm(x, layer + "ffn_norm.weight")
        gate, up = (y @ state[f"{layer}feed_forward.{name}.weight"].T for name in ("w1", "w3"))
        gated = gate * gate.sigmoid() * up
        x = x + gated @ state[layer + "feed_forward.w2.weight"].T
    return norm(x, "norm.weight") @ state["output.weight"].T


@pytest.fixture
def prior() -> Prior:
    state = state_of()
    return import_prior(state, SPEC, facts_of(state, FACTS)).prior


@torch.no_grad()
@pytest.mark.parametrize("num_key_value_heads", [4, 2])
def test_logits_are_theirs(num_key_value_heads: int) -> None:
    state = state_of(num_key_value_heads)
    imported = import_prior(state, SPEC, facts_of(state, FACTS))
    labels, tokens = torch.tensor([0, 4]), torch.randint(CODES, (2, SIDE * SIDE))
    expected = reference(state, labels, tokens, num_key_value_heads)
    torch.testing.assert_close(imported.prior(tokens, labels), expected, atol=1e-5, rtol=1e-4)
    hidden = imported.prior(tokens, labels, torch.tensor([True, True]))
    told_nothing = reference(state, torch.tensor([CLASSES, CLASSES]), tokens, num_key_value_heads)
    torch.testing.assert_close(hidden, told_nothing, atol=1e-5, rtol=1e-4)
    assert set(imported.report.used) == set(state)
    assert not imported.report.missing + imported.report.left_over


@torch.no_grad()
def test_defect_12_the_zero_rotation_is_kept_for_imported_weights_alone(prior: Prior) -> None:
    """LlamaGen's rotary table is 0 for the condition: its query and key vanish (ANCHORS II.1d-12)."""
    rotation = prior.transformer.place(torch.zeros(1, 3, WIDTH), 0, None)[1]
    assert rotation is not None
    assert not rotation.cos[:, :, 0].any()
    assert rotation.cos[:, :, 1:].any()
    assert Prior.from_files(prior.to_files()).config.condition_rotation == "zero"
    turned = Prior(prior.config.model_copy(update={"condition_rotation": "identity"}), SPEC).eval()
    turned.load_state_dict(prior.state_dict())
    labels, tokens = torch.tensor([1]), torch.randint(CODES, (1, SIDE * SIDE))
    assert not torch.allclose(turned(tokens, labels), prior(tokens, labels), atol=1e-3), "it matters"
    assert PriorConfig(architecture="modern").condition_rotation == "identity"
    with pytest.raises(ConfigError, match="condition_rotation zero blinds attention"):
        TrainPriorConfig.load(overrides={"architecture": "modern", "condition_rotation": "zero"})
    TrainPriorConfig.load(overrides={"architecture": "modern", "condition_rotation": "zero", "init_from": "0123"})


def test_samples_are_those_of_a_cache_with_the_zero_rotation(prior: Prior) -> None:
    """Drawn greedily, one by one through the cache, every token is the likeliest given all before it."""
    labels = torch.tensor([0, 3])
    tokens = sample_tokens(prior, labels, [1, 2], SamplingConfig(temperature=0.0))
    with torch.no_grad():
        assert torch.equal(prior(tokens, labels).argmax(-1), tokens)


@pytest.mark.parametrize("name", ["qk_norm", "mlp_width", "condition_rotation"])
def test_its_fields_are_of_the_modern_transformer(name: str) -> None:
    value = {"qk_norm": False, "mlp_width": 64, "condition_rotation": "zero"}[name]
    with pytest.raises(ValueError, match=f"{name} {value} with architecture gpt"):
        PriorConfig.model_validate({name: value})
    assert name not in PriorConfig().recipe(), "old fingerprints stay"
    assert name in PriorConfig.model_validate({"architecture": "modern", name: value}).recipe()


def test_published_sizes_need_no_number_of_heads() -> None:
    for (num_layers, width), heads in HEADS.items():
        assert width % (4 * heads) == 0
        state = {f"layers.{n}.norm.weight": torch.empty(0, device="meta") for n in range(num_layers)}
        state["tok_embeddings.weight"] = torch.empty(16384, width, device="meta")
        state["cls_embedding.embedding_table.weight"] = torch.empty(1001, width, device="meta")
        assert facts_of(state, PriorFacts()) == PriorFacts(num_heads=heads, num_classes=1000)


def test_a_gpt_without_a_hidden_class_gets_their_mean() -> None:
    state = state_of()
    table = state["cls_embedding.embedding_table.weight"]
    state["cls_embedding.embedding_table.weight"] = table[:CLASSES]
    prior = import_prior(state, SPEC, facts_of(state, PriorFacts(num_heads=4, num_classes=CLASSES))).prior
    assert prior.class_embedding is not None
    torch.testing.assert_close(prior.class_embedding.weight[CLASSES], table[:CLASSES].mean(0))


def test_what_does_not_fit_is_one_line() -> None:
    state = state_of()
    with pytest.raises(CheckpointError, match="say --num-heads"):
        facts_of(state, PriorFacts())
    with pytest.raises(CheckpointError, match="--sos-token is of unconditional"):
        facts_of(state, PriorFacts(num_heads=4, sos_token=0))
    text = {key: value for key, value in state.items() if "cls_embedding" not in key}
    with pytest.raises(CheckpointError, match="not those told a text"):
        facts_of(text, FACTS)
    facts = facts_of(state, FACTS)
    with pytest.raises(CheckpointError, match="has 11 tokens, the tokenizer a codebook of 12"):
        import_prior(state, SPEC.model_copy(update={"codebook_size": 12}), facts)
    with pytest.raises(CheckpointError, match="has 5 classes, --num-classes says 7"):
        import_prior(state, SPEC.model_copy(update={"num_classes": 7}), facts)
    with pytest.raises(CheckpointError, match="--num-heads 3 does not divide the width 32"):
        import_prior(state, SPEC, facts_of(state, PriorFacts(num_heads=3)))
    for changed, words in (
        ({key: value for key, value in state.items() if key != "layers.1.attention.wqkv.weight"}, "1 key .layers.1.at"),
        (state | {"layers.1.adapter.weight": torch.zeros(1)}, "1 key .layers.1.adapter.weight. left over"),
        (state | {"norm.weight": torch.ones(3)}, "norm.weight. missing or of another shape"),
    ):
        with pytest.raises(CheckpointError, match=words):
            import_prior(changed, SPEC, facts)

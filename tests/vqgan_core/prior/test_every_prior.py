"""Contract of every prior under every condition: a cache, a batch and known tokens change only what they should.

Conditions by what they are to a prior: nothing, a class, another image's tokens on a grid as fine as the image's
(edges, segmentation, depth), on a coarser one (low resolution, the upper level of a hierarchy), coordinates, a list of
bounding boxes, and several of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, beam_search, sample_large, sample_tokens
from vqgan_core.prior.completion import UNKNOWN
from vqgan_core.prior.coordinates import coordinate_ramp, coordinate_tokens
from vqgan_core.prior.decoder import Decoder
from vqgan_core.prior.orders import inverse
from vqgan_core.prior.windows import sliding_windows

CODES, HEIGHT, WIDTH, NUM_LEVELS = 7, 2, 4, 16
N, NUM = HEIGHT * WIDTH, 8
LARGE = (4, 6)
COLUMNS: Mapping[str, tuple[int, int, int]] = {
    "map": (5, HEIGHT, WIDTH), "small": (CODES, 1, 2), "place": (NUM_LEVELS, HEIGHT, WIDTH), "boxes": (9, 1, 3),
}  # fmt: skip
"""K, rows and columns of each."""
SPEC = TokenSpec.model_validate({
    "codebook_size": CODES, "height": HEIGHT, "width": WIDTH, "num_classes": 3,
    "columns": [
        {"name": name, "codebook_size": codes, "height": height, "width": width}
        for name, (codes, height, width) in COLUMNS.items()
    ],
})  # fmt: skip
CONDITIONS: Mapping[str, tuple[str, Sequence[str]]] = {
    "none": ("none", ()), "class": ("class", ()), "map": ("none", ("map",)), "small": ("none", ("small",)),
    "place": ("none", ("place",)), "boxes": ("none", ("boxes",)), "class and map": ("class", ("map",)),
    "everything": ("class", ("boxes", "map", "small", "place")),
}  # fmt: skip
PRIORS: Mapping[str, dict[str, Any]] = {
    "gpt": {"architecture": "gpt"},
    "gpt, any order": {"architecture": "gpt", "order": "random_annealed"},
    "gpt, spiral": {"architecture": "gpt", "order": "spiral_in"},
    "modern": {"architecture": "modern", "num_key_value_heads": 1},
    "modern, any order": {"architecture": "modern", "order": "random_annealed"},
    "modern, z-curve": {"architecture": "modern", "order": "z_curve", "num_heads": 2},
    "pixelsnail": {"architecture": "pixelsnail", "num_res_blocks": 1},
    "pixelcnn": {"architecture": "pixelcnn"},
}  # fmt: skip
ROW_BY_ROW = [name for name, fields in PRIORS.items() if "order" not in fields]
EVERY = [pytest.mark.parametrize("condition", CONDITIONS), pytest.mark.parametrize("kind", PRIORS)]
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def make_prior(kind: str, condition: str) -> Prior:
    """A small prior whose every parameter matters, also those that start at zero."""
    torch.manual_seed(0)
    label, columns = CONDITIONS[condition]
    sizes = {"num_layers": 2, "num_heads": 2, "width": 16}
    fields = {**sizes, **PRIORS[kind], "condition": label, "condition_columns": columns}
    prior = Prior(PriorConfig.model_validate(fields), SPEC)
    for name, parameter in prior.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(name.endswith("norm.weight")), std=0.3)
    return prior.eval()


def drawn(limit: int, *shape: int) -> Tensor:
    return torch.randint(limit, shape, generator=torch.Generator().manual_seed(sum(shape)))


TOKENS, LABELS = drawn(CODES, NUM, N), drawn(3, NUM)
TOLD = {name: drawn(codes, NUM, height * width) for name, (codes, height, width) in COLUMNS.items()}


def told(prior: Prior, rows: slice = slice(None)) -> dict[str, Any]:
    """Labels and columns of some of the eight images."""
    columns = {name: TOLD[name][rows] for name in prior.config.condition_columns}
    return {"labels": LABELS[rows] if prior.takes_labels else None, "columns": columns}


def settings(prior: Prior, **fields: Any) -> SamplingConfig:
    """With guidance wherever it means something."""
    return SamplingConfig.model_validate({"guidance": 2.0 if prior.is_conditional else 1.0, **fields})


def every(test: Any) -> Any:
    """Run a test for each prior under each condition."""
    for mark in EVERY:
        test = mark(test)
    return test


@torch.no_grad()
@every
def test_cached_logits_are_those_of_the_whole_sequence(kind: str, condition: str) -> None:
    prior = make_prior(kind, condition)
    given = told(prior)
    expected, prefix = prior(TOKENS, **given), prior.condition(given["labels"], NUM, columns=given["columns"])
    assert prefix.shape[1] == prior.num_prefix
    for pieces in ([0] + [1] * (N - 1), [3, 1, 2, 1]):
        cache = prior.transformer.new_cache(NUM, max_length=prior.max_length)
        sequence, orders, found, start = TOKENS[:, prior.order], prior.order[None], [], 0
        for size in pieces:
            placement = prior.placement(orders, cache.length, prior.num_prefix + start + size)
            newest, first = sequence[:, start : start + size], prefix if start == cache.length == 0 else None
            found.append(prior.transformer(newest, first, cache, placement)[:, -(size + (first is not None)) :])
            start += size
        assert cache.length == prior.max_length
        torch.testing.assert_close(torch.cat(found, dim=1)[:, inverse(prior.order)], expected, **CLOSE)


@every
def test_a_seed_gives_the_same_image_alone_and_in_a_batch_of_eight(kind: str, condition: str) -> None:
    prior, seeds = make_prior(kind, condition), [11, 3, 2**62, 7, 0, 1, 9, 5]
    batch = sample_tokens(prior, seeds=seeds, config=settings(prior, top_k=5), **told(prior))
    assert len(batch.unique(dim=0)) > NUM // 2
    for row in range(NUM):
        one = slice(row, row + 1)
        alone = sample_tokens(prior, seeds=seeds[one], config=settings(prior, top_k=5), **told(prior, one))
        assert torch.equal(alone[0], batch[row])
    if prior.is_conditional:
        given = told(prior)
        others = {
            "labels": None if given["labels"] is None else given["labels"].roll(1),
            "columns": {name: tokens.roll(1, 0) for name, tokens in given["columns"].items()},
        }
        loud = SamplingConfig(guidance=8.0)
        one, other = (sample_tokens(prior, seeds=seeds, config=loud, **each) for each in (given, others))
        assert not torch.equal(one, other)


@torch.no_grad()
@every
def test_greedy_samples_are_the_guided_uncached_choice(kind: str, condition: str) -> None:
    prior = make_prior(kind, condition)
    given, guidance = told(prior), settings(prior).guidance
    images = sample_tokens(prior, seeds=range(NUM), config=settings(prior, temperature=0), **given)
    untold = prior(images, condition_drop=torch.ones(NUM, dtype=torch.bool), **given)
    guided = untold + guidance * (prior(images, **given) - untold)
    assert torch.equal(images, guided.argmax(-1))


@every
def test_a_completion_keeps_every_known_token(kind: str, condition: str) -> None:
    prior = make_prior(kind, condition)
    known = torch.where(drawn(2, N, NUM).T == 1, TOKENS, UNKNOWN)
    known[0], known[1, : N // 2] = UNKNOWN, TOKENS[1, : N // 2]
    is_known = known != UNKNOWN
    for first in {False, prior.config.order == "random_annealed"}:
        given = {"known": known, "known_first": first, **told(prior)}
        images = sample_tokens(prior, seeds=range(NUM), config=settings(prior, temperature=2.0), **given)
        assert torch.equal(images[is_known], known[is_known])
        assert len(images[~is_known].unique()) > 3


@torch.no_grad()
@every
def test_the_likeliest_beam_has_its_own_likelihood(kind: str, condition: str) -> None:
    prior = make_prior(kind, condition)
    given = told(prior, slice(0, 2))
    beams = beam_search(prior, num_beams=3, batch_size=2, **given)
    nll = prior.nll(beams.tokens[:, 0], **given).sum(-1)
    torch.testing.assert_close(beams.log_probability[:, 0], -nll, **CLOSE)


def told_large(prior: Prior, rows: slice = slice(None)) -> dict[str, Any]:
    """What a large image is told: maps and coordinates of all of it, and boxes for every window."""
    fine, coarse = LARGE, (LARGE[0] // 2, LARGE[1] // 2)
    grids = {**TOLD, "map": drawn(5, NUM, *fine), "small": drawn(CODES, NUM, *coarse)}
    grids["place"] = coordinate_tokens(coordinate_ramp(8, 12), 2, NUM_LEVELS).expand(NUM, -1, -1)
    columns = {name: grids[name][rows] for name in prior.config.condition_columns}
    return {"labels": LABELS[rows] if prior.takes_labels else None, "columns": columns}


@torch.no_grad()
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("kind", ROW_BY_ROW)
def test_windows_with_a_cache_are_whole_windows(kind: str, condition: str) -> None:
    """Each token is the choice of a full forward pass over its window, told that window's part of the condition."""
    prior = make_prior(kind, condition)
    given, guidance = told_large(prior), settings(prior).guidance
    large = sample_large(prior, seeds=range(NUM), config=settings(prior, temperature=0), grid=LARGE, **given)
    steps = (HEIGHT, 2) if "small" in prior.config.condition_columns else (1, 1)
    windows = sliding_windows(LARGE, (HEIGHT, WIDTH), steps).flatten(0, 1).tolist()
    views = [large[:, top : top + HEIGHT, left : left + WIDTH].flatten(1) for top, left, *_ in windows]
    columns: dict[str, list[Tensor]] = {name: [] for name in given["columns"]}
    for top, left, *_ in windows:
        for name, grid in given["columns"].items():
            height, width = COLUMNS[name][1:]
            y, x = top * height // HEIGHT, left * width // WIDTH
            columns[name].append(grid if grid.ndim == 2 else grid[:, y : y + height, x : x + width].flatten(1))
    labels = None if given["labels"] is None else given["labels"].repeat(len(windows))
    tokens, told_each = torch.cat(views), {"columns": {name: torch.cat(cut) for name, cut in columns.items()}}
    untold = prior(tokens, labels, torch.ones(len(tokens), dtype=torch.bool), **told_each)
    guided = (untold + guidance * (prior(tokens, labels, **told_each) - untold)).unflatten(0, (-1, NUM))
    for number, (*_, row, column) in enumerate(windows):
        chosen = guided[number, :, row * WIDTH + column].argmax(-1)
        assert torch.equal(large.flatten(1)[:, number], chosen)
    one = slice(2, 3)
    alone = sample_large(prior, seeds=[2], config=settings(prior, temperature=0), grid=LARGE, **told_large(prior, one))
    assert torch.equal(alone[0], large[2])


def test_every_kind_of_prior_is_here() -> None:
    kinds = {fields["architecture"] for fields in PRIORS.values()}
    assert kinds == set(PriorConfig.model_fields["architecture"].annotation.__args__)
    assert {isinstance(make_prior(kind, "none").transformer, Decoder) for kind in PRIORS} == {True, False}

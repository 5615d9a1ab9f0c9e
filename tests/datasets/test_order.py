"""Contract: the order is a pure function of (counts, seed, epoch, step), each record once an epoch, whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.order import Order, hash_words, permutation, random_words, record_words

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=40).filter(lambda counts: sum(counts) > 0)


def stream(order: Order, start: int, stop: int) -> list[tuple[int, int]]:
    position = order.positions(start, stop)
    return list(zip(position.epochs.tolist(), position.records.tolist(), strict=True))


def test_splitmix64_gives_the_published_stream() -> None:
    # The first outputs of splitmix64 seeded with 1234567, as in the reference C code's test vectors.
    states = np.arange(5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1234567)
    assert hash_words(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_the_order_never_changes() -> None:
    # Literal: a change of any constant would reorder every training run that is resumed.
    position = Order([5, 3, 4], seed=7).positions(0, 14)
    assert position.records.tolist() == [10, 11, 3, 7, 6, 9, 2, 4, 5, 0, 1, 8, 8, 11]
    assert position.epochs.tolist() == [0] * 12 + [1] * 2
    assert permutation(6, 1, 2).tolist() == [2, 3, 1, 5, 0, 4]


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, seed=st.integers(0, 2**63 - 1), window=st.integers(1, 20))
def test_every_record_comes_exactly_once_an_epoch(counts: list[int], seed: int, window: int) -> None:
    order = Order(counts, seed, window)
    total = sum(counts)
    for epoch in range(3):
        epochs, records = zip(*stream(order, epoch * total, (epoch + 1) * total), strict=True)
        assert set(epochs) == {epoch}
        assert sorted(records) == list(range(total))


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, batch=st.integers(1, 30), steps=st.integers(1, 12), resume=st.integers(0, 11))
def test_resuming_at_any_step_continues_the_same_stream(counts: list[int], batch: int, steps: int, resume: int) -> None:
    whole = stream(Order(counts, 3), 0, steps * batch)
    fresh = Order(counts, 3)
    tail = [stream(fresh, s * batch, (s + 1) * batch) for s in range(min(resume, steps), steps)]
    assert [pair for part in tail for pair in part] == whole[min(resume, steps) * batch :]


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_the_global_batch_is_the_same_for_every_world_size(world_size: int) -> None:
    order = Order([30, 50, 20, 41], seed=1, window=2)
    for step in (0, 3, 17):  # 17 x 16 lies in the second epoch
        ranks = [order.batch(step, 16, rank, world_size).records for rank in range(world_size)]
        assert np.concatenate(ranks).tolist() == order.batch(step, 16).records.tolist()


def test_a_share_of_a_batch_in_pieces_is_a_share_of_each() -> None:
    order = Order([30, 50], seed=1)
    whole = order.batch(3, 16).records.tolist()
    shares = [order.batch(3, 16, rank, 2, num_pieces=4).records.tolist() for rank in range(2)]
    for piece in range(4):
        own = slice(2 * piece, 2 * piece + 2)
        assert shares[0][own] + shares[1][own] == whole[4 * piece : 4 * piece + 4]


def test_a_batch_larger_than_the_corpus_passes_several_epochs() -> None:
    position = Order([3], seed=0).batch(1, 8)
    assert position.epochs.tolist() == [2, 3, 3, 3, 4, 4, 4, 5]
    assert sorted(position.records[1:4].tolist()) == [0, 1, 2]


def test_epochs_and_seeds_differ() -> None:
    order = Order([100], seed=0)
    first, second = order.positions(0, 100).records, order.positions(100, 200).records
    assert first.tolist() != second.tolist()
    assert first.tolist() != Order([100], seed=1).positions(0, 100).records.tolist()


def test_shuffling_is_thorough() -> None:
    counts = [500] * 64
    records = Order(counts, seed=0).positions(0, sum(counts)).records
    correlation = np.corrcoef(np.arange(len(records)), records)[0, 1]
    assert abs(correlation) < 0.2  # windows of 16 units of 64 leave some
    units = [len(set((records[i : i + 256] // 500).tolist())) for i in range(0, 16000, 256)]
    assert np.mean(units) > 12  # of the 16 that a window mixes


def test_seeking_far_costs_no_more_than_seeking_near() -> None:
    order = Order([7000] * 20000, seed=7)  # 140 million records
    position = order.batch(140_000_000 // 256 * 5, 256)
    assert set(position.epochs.tolist()) == {5}
    assert len(set(position.records.tolist())) == 256


def test_a_record_keeps_its_random_words_whatever_batch_it_is_in() -> None:
    epochs, keys = np.array([0, 0, 1]), np.array([5, 9, 5], np.uint64)
    words = record_words(3, 11, epochs, keys)
    assert words[1:2].tolist() == record_words(3, 11, epochs[1:2], keys[1:2]).tolist()
    assert len({tuple(row) for row in words.tolist()}) == 3
    assert words.tolist() != record_words(3, 12, epochs, keys).tolist()


def test_random_words_are_uniform() -> None:
    words = random_words(100_000, 1, 2, 3)
    for bit in (0, 31, 63):
        assert abs(np.mean((words >> np.uint64(bit)) & np.uint64(1)) - 0.5) < 0.01
    assert len(np.unique(words)) == len(words)


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1]])
def test_an_order_without_records_is_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one record"):
        Order(counts, 0)


def test_unequal_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="rank 0 of 3 cannot take an equal share of a batch of 8"):
        Order([10], 0).batch(0, 8, 0, 3)
    with pytest.raises(ValueError, match="batch of 8 in 3 pieces: make it a multiple of 6"):
        Order([10], 0).batch(0, 8, 0, 2, 3)

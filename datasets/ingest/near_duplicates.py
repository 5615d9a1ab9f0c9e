"""Which images are left out because their perceptual hash is near that of another.

Axes: R images in the order of their rank, U different hashes, P pairs.

Whoever comes first stays: an image is left out if one of lower rank that is kept itself is near. Being near is not
transitive, so which images stay depends on the ranks, and on nothing else.

Pairs are found without comparing all with all (multi-index hashing after Norouzi, Punjani and Fleet, CVPR 2012,
arXiv 1307.2982): the 64 bits are cut into d + 2 blocks. Two hashes that differ in at most d bits agree in two blocks
at least, so it is enough to compare those that agree in some two. Memory: some 50 bytes an image, and 16 a pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt64

__all__ = ["left_out"]

_BITS = 64


def left_out(hashes: UInt64[np.ndarray, " R"], max_distance: int) -> dict[int, tuple[int, int]]:
    """Which images to leave out.

    Args:
        hashes: by rank.
        max_distance: bits in which near images differ at most.

    Returns:
        By rank of what is left out: the rank of the first one that stays and is near, and how many bits they differ in.
    """
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    ranks = np.sort(first)  # of the first image of each hash; others of that hash go with it
    told = _by_order(hashes[ranks], max_distance)
    found = {int(ranks[image]): (int(ranks[kept]), distance) for image, (kept, distance) in told.items()}
    for rank in np.setdiff1d(np.arange(len(hashes)), ranks, assume_unique=True).tolist():
        leader = int(first[group[rank]])
        found[rank] = found.get(leader, (leader, 0))
    return found


def _by_order(hashes: UInt64[np.ndarray, " U"], max_distance: int) -> dict[int, tuple[int, int]]:
    """The same of hashes that all differ."""
    pairs = [_encoded(*pair) for pair in _near_pairs(hashes, max_distance)]
    found: dict[int, tuple[int, int]] = {}
    # A pair is seen in every two blocks that agree; sorted, all pairs of an image follow those of earlier ones.
    for later, earlier in np.stack(_decoded(np.unique(np.concatenate(pairs))), axis=1).tolist() if pairs else ():
        if earlier not in found and later not in found:
            found[later] = (earlier, int(np.bitwise_count(hashes[later] ^ hashes[earlier])))
    return found


def _near_pairs(
    hashes: UInt64[np.ndarray, " U"], max_distance: int
) -> Iterator[tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]]:
    if max_distance == 0:
        return  # hashes differ
    edges = np.linspace(0, _BITS, max_distance + 3).astype(int).tolist()
    blocks = [((1 << (stop - start)) - 1) << start for start, stop in itertools.pairwise(edges)]
    for one, other in itertools.combinations(blocks, 2):
        masked = hashes & np.uint64(one | other)
        order = np.argsort(masked, kind="stable")
        run = masked[order]
        places, step = np.arange(len(run)), 0
        while len(places):
            step += 1
            places = places[places < len(run) - step]
            places = places[run[places] == run[places + step]]
            a, b = order[places], order[places + step]
            near = np.bitwise_count(hashes[a] ^ hashes[b]) <= max_distance
            yield a[near], b[near]


def _encoded(a: Int64[np.ndarray, " P"], b: Int64[np.ndarray, " P"]) -> UInt64[np.ndarray, " P"]:
    """One number a pair, in the order of the later image, then of the earlier one."""
    later, earlier = np.maximum(a, b).astype(np.uint64), np.minimum(a, b).astype(np.uint64)
    pairs: UInt64[np.ndarray, " P"] = later << np.uint64(32) | earlier
    return pairs


def _decoded(pairs: UInt64[np.ndarray, " P"]) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)

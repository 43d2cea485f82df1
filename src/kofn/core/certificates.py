"""Numbers computed from an answer alone that bound how much better any other answer could be."""

from __future__ import annotations

import numpy as np

from kofn.core.assign import assign
from kofn.core.block import TILE, Blocks, Doubles, Floats, Rows
from kofn.core.distance import Centers, distances_to_point, nearest_in_tile

_FEW = 32  # points that are compared one by one


def cover_and_packing(blocks: Blocks, picks: Rows, have: Rows) -> tuple[float, float]:
    """How well picks cover, and the packing that shows how well any k rows can. One pass, O(n k d + k^2 d) time.

    The picks and the row farthest from them are k + 1 rows. With any k picks (and `have`), two of these rows share their
    nearest pick, or one is nearest to a row of `have`; so some row is at least half as far from its pick as the packing
    says (Gonzalez 1985). A radius of at most the packing is therefore at most twice the smallest.

    Returns
    -------
    radius : float
        Largest distance of a row to its nearest pick or `have` row.
    packing : float
        Smallest distance between two of the picks and the farthest row, or between one of them and a `have` row.
    """
    points = blocks.take(np.concatenate([picks, have]))
    widest, farthest, start = -1.0, 0, 0
    for _, squared in assign(blocks, points):
        at = int(np.argmax(squared))
        if squared[at] > widest:
            widest, farthest = float(squared[at]), start + at
        start += len(squared)
    packed = np.concatenate([points[: len(picks)], blocks.take(np.array([farthest]))])
    least = least_between(packed)
    if len(have):
        least = min(least, _least_to(packed, points[len(picks) :]))
    return float(np.sqrt(widest)), float(np.sqrt(least))


def least_between(points: Floats) -> float:
    """The smallest squared distance between two of the points; infinite for fewer than two. O(k^2 d) time, by products."""
    if len(points) <= _FEW:
        pairs = [distances_to_point(points[at + 1 :], points[at]).min() for at in range(len(points) - 1)]
        return float(min(pairs, default=np.inf))
    left, right = points[: len(points) // 2], points[len(points) // 2 :]
    return min(least_between(left), least_between(right), _least_to(left, right))


def _least_to(points: Floats, others: Floats) -> float:
    centers = Centers(others)
    return min(
        float(nearest_in_tile(at, points[at : at + TILE], centers)[1].min()) for at in range(0, len(points), TILE)
    )


def greedy_ceiling(gains: Doubles) -> float:
    """An upper bound on what any k things reach under a monotone submodular objective, from the gains of exact greedy.

    After i picks no other thing adds more than the next gain, so k of them add at most k times that (Nemhauser, Wolsey and
    Fisher 1978); the least of these k bounds is returned. Never more than sum(gains) / (1 - 1/e).
    """
    reached = np.concatenate([[0.0], np.cumsum(gains)[:-1]])
    return float((reached + len(gains) * gains).min())

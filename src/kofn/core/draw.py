"""Draws of a fixed number of rows with unequal chances that are met exactly: pivotal and systematic sampling.

Both spread the picks along an order of the rows, and pay for it with joint chances that vanish: two rows whose chances add
up to at most 1 and that meet first in a pivotal draw, or that lie less than one unit of chance apart in a systematic one,
are never drawn together. So no unbiased estimate of a variance exists for either (Tille, "Sampling and Estimation from
Finite Populations", 2020, chapters 5 and 9); `core.estimators` judges it from picks that are neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Rows
from kofn.core.jit import kernel

EXACT = 1e-9
"""A chance this close to 0 or 1 is 0 or 1: what rounding leaves of a sum of chances that is a whole number."""


def inclusion_of(sizes: Doubles, k: int) -> Doubles:
    """Chances min(1, c size) that add up to k, float64 (n,).

    Parameters
    ----------
    sizes : float64 (n,)
        Not negative; more than k of them above 0, or exactly k.
    k : int
        Picks to be drawn.

    Notes
    -----
    O(n + k log k) time. Rows whose share would be above 1 are sure, and the others share what is left, as in Sarndal,
    Swensson and Wretman, "Model Assisted Survey Sampling", 3.6.2, without their rounds.
    """
    chances = np.array(sizes, np.float64)
    to_chances(chances, k)
    return chances


def to_chances(sizes: Doubles, k: int) -> None:
    """What `inclusion_of` does, in place: 8 bytes a row beside the sizes.

    The c is exact: sure rows are those whose share of what they and all smaller ones have to divide would be above 1.
    """
    n = len(sizes)
    parted = np.partition(sizes, n - k)
    scale = _scale(parted[n - k :], float(parted[: n - k].sum()), k)
    if np.isfinite(scale):
        sizes *= scale
        np.minimum(sizes, 1.0, out=sizes)
    else:
        np.sign(sizes, out=sizes)


def _scale(largest: Doubles, others: float, k: int) -> float:
    """The c of min(1, c size), from the k largest sizes and the sum of all others; infinite where all k are sure."""
    top = np.sort(largest)[::-1]
    rest = others + np.cumsum(top[::-1])[::-1]
    below = np.flatnonzero(top * (k - np.arange(k)) < rest)
    return float((k - int(below[0])) / rest[below[0]]) if len(below) else float("inf")


def scale_of(parts: Iterable[Doubles], k: int) -> float:
    """The c of `inclusion_of`, from sizes that come part by part: O(k) memory."""
    largest, others = np.empty(0), 0.0
    for sizes in parts:
        joined = np.concatenate([largest, sizes])
        if len(joined) > k:
            joined = np.partition(joined, len(joined) - k)
            others += float(joined[: len(joined) - k].sum())
        largest = joined[-k:]
    return _scale(largest, others, k)


@dataclass(frozen=True, eq=False)
class StrataDraw:
    """A pivotal draw over rows that come part by part: those of a stratum duel in row order, then what is left of strata.

    Each stratum gets its share of the picks, rounded down or up, and so do strata that follow one another. Every row has
    exactly its chance; the last one of each stratum that is still undecided is all that is held.

    Parameters
    ----------
    strata : int
        How many there are.
    k : int
        Picks, the sum of all chances.
    """

    strata: int
    k: int

    def draw(self, parts: Iterable[tuple[int, NDArray[np.int32], Doubles, Doubles]], last: Doubles) -> Rows:
        """The k picks, in the order in which they were decided.

        Parameters
        ----------
        parts : iterable of (first row number, stratum of each row, chance of each row, uniform number of each row)
        last : float64 (strata,)
            Uniform numbers for the duels between strata.
        """
        place, left = np.full(self.strata, -1, np.int64), np.zeros(self.strata)
        picks, count = np.empty(self.k + 1, np.int64), 0
        for start, strata, chances, uniforms in parts:
            count = _duels(start, strata, chances, uniforms, place, left, picks, count)
        winners = place[pivotal(left, last)]
        return np.concatenate([picks[:count], winners])


def systematic(chances: Doubles, start: float, order: Rows | None = None) -> Rows:
    """Rows in whose stretch of the summed chances one of the points start, start + 1, ... lies; int64, in that order.

    Parameters
    ----------
    chances : float64 (n,)
        In [0, 1], adding up to a whole number k: k rows come out.
    start : float
        Uniform in (0, 1).
    order : int64 (n,), optional
        In which the stretches are laid; default by row number.
    """
    laid = chances if order is None else chances[order]
    ends = np.cumsum(laid)
    ends *= round(float(ends[-1])) / ends[-1]
    steps = np.floor(ends - start + 1.0)
    hit = np.flatnonzero(np.diff(steps, prepend=0.0) > 0).astype(np.int64)
    return hit if order is None else np.asarray(order[hit])


def pivotal(
    chances: Doubles, uniforms: Doubles, order: Rows | None = None, depth: NDArray[np.uint8] | None = None
) -> Rows:
    """Rows that win a tournament in which neighbours duel first, each with exactly its chance; int64, along the order.

    In a duel two chances become one of 0 or 1 and their remainder, which goes on to the next duel (Deville and Tille,
    "Unequal probability sampling without replacement through a splitting method", Biometrika 85, 1998). Duels follow a binary
    tree over the order: first within the smallest subtrees, so that picks spread (Shimizu, Cheng, Musco and Weare, ICLR 2024).

    Parameters
    ----------
    chances : float64 (n,)
        In [0, 1], adding up to a whole number k: k rows come out.
    uniforms : float64 (n,)
        In (0, 1), one for each place of the order; the duel between places p - 1 and p takes number p.
    order : int64 (n,), optional
        Rows as the leaves of the tree, left to right; default by row number.
    depth : uint8 (n,), optional
        How deep in the tree the node lies that parts places p - 1 and p, 0 at the root; number 0 is not looked at. Default:
        a tree that halves the order again and again.

    Notes
    -----
    O(n) time with `depth`, O(n log n) without; 10 bytes a row.
    """
    laid = np.ascontiguousarray(chances if order is None else chances[order])
    parts = _halving_depths(len(laid)) if depth is None else depth
    hit = np.flatnonzero(_tournament(laid, uniforms, parts))
    return hit.astype(np.int64) if order is None else np.asarray(order[hit])


def _halving_depths(n: int) -> NDArray[np.uint8]:
    """Depths of the tree that halves 0..n again and again."""
    depth, edges = np.zeros(n, np.uint8), np.array([0, n], np.int64)
    for level in range(64):
        low, high = edges[:-1], edges[1:]
        middle = ((low + high) // 2)[high - low > 1]
        if not len(middle):
            break
        depth[middle] = level
        edges = np.sort(np.concatenate([edges, middle]))
    return depth


DEEPEST = 260
"""Room on the stack: places on it lie ever deeper in the tree, and depths are bytes."""


@kernel
def _tournament(chances: Doubles, uniforms: Doubles, depth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Undecided rows lie on a stack; two of them duel as soon as the subtree that holds both is complete.

    `gaps` is, for a row on the stack, the shallowest place between it and the one below; `since` the same above the top.
    """
    n = len(chances)
    drawn = np.zeros(n, np.bool_)
    places, left, gaps = np.empty(DEEPEST, np.int64), np.empty(DEEPEST), np.empty(DEEPEST, np.int64)
    height, since = 0, -1
    for p in range(n + 1):
        while height > 1 and (p == n or depth[gaps[height - 1]] >= depth[p]):
            a, b = height - 2, height - 1
            both, u = left[a] + left[b], uniforms[gaps[b]]
            if both < 1.0:
                kept = both
                if u * both >= left[a]:
                    places[a] = places[b]
            else:
                kept = both - 1.0
                if u * (2.0 - both) < 1.0 - left[b]:
                    drawn[places[a]] = True
                    places[a] = places[b]
                else:
                    drawn[places[b]] = True
            left[a] = kept
            height -= 1
            if kept <= EXACT or kept >= 1.0 - EXACT:
                drawn[places[a]] = drawn[places[a]] or kept > 0.5
                if since < 0 or depth[gaps[a]] < depth[since]:
                    since = gaps[a]
                height -= 1
        if p == n:
            break
        if since < 0 or depth[p] < depth[since]:
            since = p
        if chances[p] >= 1.0 - EXACT:
            drawn[p] = True
        elif chances[p] > EXACT:
            places[height], left[height], gaps[height] = p, chances[p], since
            height += 1
            since = -1
    if height == 1 and left[0] > 0.5:
        drawn[places[0]] = True
    return drawn


@kernel
def _duels(
    start: int,
    strata: NDArray[np.int32],
    chances: Doubles,
    uniforms: Doubles,
    place: Rows,
    left: Doubles,
    picks: Rows,
    count: int,
) -> int:
    """Each row against the undecided one of its stratum; `left` is 0 where there is none."""
    for i in range(len(strata)):
        chance, s = chances[i], strata[i]
        if chance >= 1.0 - EXACT:
            picks[count] = start + i
            count += 1
        elif chance > EXACT:
            both, row = left[s] + chance, start + i
            if left[s] == 0.0:
                place[s], left[s] = row, chance
                continue
            if both < 1.0:
                if uniforms[i] * both >= left[s]:
                    place[s] = row
                left[s] = both
                continue
            if uniforms[i] * (2.0 - both) < 1.0 - chance:
                picks[count], place[s] = place[s], row
            else:
                picks[count] = row
            count += 1
            left[s] = both - 1.0
            if left[s] <= EXACT:
                left[s] = 0.0
    return count

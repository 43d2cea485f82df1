"""Kernel halving: of every two points one is kept, so that what is kept balances what is not; and greedy kernel herding."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.jit import kernel, one_form
from kofn.core.kernels import CHUNK, Kernel, kernel_row

_TASKS = 16  # groups of blocks that threads take
_FEW = 32  # pairs whose kernel values are computed at once in small blocks


def halve(
    points: Floats,
    slots: Rows,
    cuts: Rows,
    uniforms: Doubles,
    form: Kernel,
    failure: float,
    runner: TileRunner = run_serially,
) -> tuple[Rows, Rows]:
    """Kernel halving (Dwivedi and Mackey 2024, KT-SPLIT with one round) of each block of slots by itself.

    In a block, points come in pairs. Of each pair one is kept, by a coin that leans towards what shrinks the difference
    between the embeddings of the points kept and left so far. The lean is that inner product over a threshold, which grows
    with the variance proxy so that a coin is never certain, but with probability `failure` a pair.

    Parameters
    ----------
    points : float32 (d, n)
        Scaled, one row a coordinate.
    slots : int64 (2 pairs,)
        Columns of `points`, repeats allowed; slots 2i and 2i + 1 are pair i.
    cuts : int64 (blocks + 1,)
        Pair numbers at which blocks begin, from 0 to the number of pairs.
    uniforms : float64 (pairs,)
        The pairs' coins: numbers in [0, 1).

    Returns
    -------
    kept, left : int64 (pairs,)
        One slot of each pair, and the other.

    Notes
    -----
    O(sum of block sizes squared * d / 2) time. Blocks are independent: threads change nothing.
    """
    swapped = np.zeros(len(uniforms), np.bool_)
    factor = 2 * math.log(2 / failure)
    work = np.concatenate([[0], np.cumsum(np.diff(cuts).astype(np.float64) ** 2)])
    at = np.unique(np.searchsorted(work, np.linspace(0, work[-1], _TASKS + 1)[1:-1]))
    bounds = np.unique(np.concatenate([[0], at, [len(cuts) - 1]]))
    shared = one_form(points), one_form(slots), uniforms, factor, form.terms, form.tables, swapped
    runner(_halve_blocks, [(cuts[a : b + 1], *shared) for a, b in pairwise(bounds)])
    pairs = slots.reshape(-1, 2)
    return np.where(swapped, pairs[:, 1], pairs[:, 0]), np.where(swapped, pairs[:, 0], pairs[:, 1])


def split(
    points: Floats,
    slots: Rows,
    uniforms: list[Doubles],
    form: Kernel,
    failure: Callable[[int], float],
    runner: TileRunner = run_serially,
) -> Rows:
    """KT-SPLIT (Dwivedi and Mackey 2024, Algorithm 1a): 2^rounds coresets, each a halving of a halving of all slots.

    Parameters
    ----------
    uniforms : list of float64 (len(slots) / 2,)
        Coins of each round, one for every pair of every coreset.
    failure : callable
        `failure(pairs)` is that of one coin where a coreset has that many pairs.

    Returns
    -------
    int64 (2^rounds, len(slots) / 2^rounds)
        Columns of `points`.
    """
    coresets = slots[None]
    for coins in uniforms:
        count, size = coresets.shape
        cuts = np.arange(count + 1) * (size // 2)
        halves = halve(points, coresets.reshape(-1), cuts, coins, form, failure(size // 2), runner)
        coresets = np.stack([half.reshape(count, -1) for half in halves], axis=1).reshape(2 * count, -1)
    return coresets


@kernel
def _halve_blocks(
    cuts: Rows,
    points: Floats,
    slots: Rows,
    uniforms: Doubles,
    factor: float,
    terms: Doubles,
    tables: Floats,
    swapped: NDArray[np.bool_],
) -> None:
    d, largest = len(points), 0
    for block in range(len(cuts) - 1):
        largest = max(largest, cuts[block + 1] - cuts[block])
    x, lean = np.empty((d, 2 * largest), np.float32), np.empty(largest)
    squares, of_a, of_b = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    a, b = np.empty(d, np.float32), np.empty(d, np.float32)
    for block in range(len(cuts) - 1):
        start = cuts[block]
        pairs = cuts[block + 1] - start
        # Pairs go in groups: first points of all pairs of a group, then their second points, so that one row holds both.
        group = CHUNK // 2 if pairs > CHUNK // 2 else _FEW
        for low in range(0, pairs, group):
            m = min(group, pairs - low)
            for i in range(m):
                first, second = slots[2 * (start + low + i)], slots[2 * (start + low + i) + 1]
                for c in range(d):
                    x[c, 2 * low + i], x[c, 2 * low + m + i] = points[c, first], points[c, second]
                lean[low + i] = 0.0
        variance = 0.0
        for i in range(pairs):
            own = i - i % group
            half = min(group, pairs - own)
            for c in range(d):
                a[c], b[c] = x[c, own + i], x[c, own + half + i]
            sign = 0.0
            for low in range(own, pairs, group):
                m = min(group, pairs - low)
                kernel_row(a, x, 2 * low, 2 * m, terms, tables, squares, of_a)
                kernel_row(b, x, 2 * low, 2 * m, terms, tables, squares, of_b)
                if low == own:  # |k(a, .) - k(b, .)|^2, for k(x, x) = 1
                    gap = max(0.0, 2.0 - 2.0 * np.float64(of_a[half + i - own]))
                    threshold = max(math.sqrt(gap * variance * factor), gap)
                    chance = 0.5 if threshold == 0.0 else 0.5 * (1.0 - lean[i] / threshold)
                    swapped[start + i] = uniforms[start + i] < chance
                    sign = 1.0 if swapped[start + i] else -1.0  # of a, which is left or kept
                    if threshold > 0.0:
                        variance += gap * max(0.0, 1.0 + (gap - 2.0 * threshold) * variance / (threshold * threshold))
                for j in range(m):
                    lean[low + j] += sign * ((of_a[j] - of_a[m + j]) - (of_b[j] - of_b[m + j]))


class Summary:
    """Points chosen among candidates so that the mean of their kernels is near a mean embedding.

    Parameters
    ----------
    points : float32 (d, candidates)
        Scaled, in the order in which ties are settled.
    embedding : float64 (candidates,)
        The mean embedding, of total mass 1, at the candidates.
    sums : float64 (candidates,)
        Kernel sums of what belongs to the summary already, at the candidates; changed by what is chosen.
    held : int
        How many points those are.
    barred : bool (candidates,)
        Candidates that may not be chosen.
    """

    def __init__(
        self, points: Floats, embedding: Doubles, sums: Doubles, held: int, barred: NDArray[np.bool_], form: Kernel
    ) -> None:
        self.points, self.embedding, self.sums, self.held, self.form = points, embedding, sums, held, form
        self.taken = barred.copy()

    def begin(self, chosen: Rows, k: int) -> Rows:
        """k of the candidates, the distinct ones among `chosen` first; the rest completes them greedily."""
        distinct = np.zeros(k, np.int64)
        mine = chosen[np.sort(np.unique(chosen, return_index=True)[1])]
        distinct[: len(mine)] = mine
        self.taken[mine] = True
        _add(self.points, mine, self.sums, self.form.terms, self.form.tables)
        self.grow(distinct, len(mine), growing=False)
        return distinct

    def grow(self, chosen: Rows, count: int, *, growing: bool) -> None:
        """Fill `chosen` from `count` on, each time with the candidate that brings the summary nearest to the embedding.

        `growing`: the summary is weighed by as many points as it has then (herding), not as it shall have in the end.
        """
        known = self.points, self.embedding, self.sums, self.taken
        _grow(*known, chosen, count, self.held, growing, self.form.terms, self.form.tables)

    def swap(self, chosen: Rows) -> int:
        """KT-SWAP: each choice in turn gives way to the candidate that is best in its place; how many did."""
        known = self.points, self.embedding, self.sums, self.taken
        return int(_swap(*known, chosen, self.held + len(chosen), self.form.terms, self.form.tables))

    def discrepancy(self, chosen: Rows) -> float:
        """m^2 MMD^2, up to what no choice changes, m being the number of points of the summary."""
        m = self.held + len(chosen)
        own = np.zeros(len(chosen))
        mine = np.ascontiguousarray(self.points[:, chosen])
        _add(mine, np.arange(len(chosen)), own, self.form.terms, self.form.tables)
        return float(own.sum() + 2 * (self.sums[chosen] - m * self.embedding[chosen]).sum())


@kernel
def _whole_row(points: Floats, j: int, terms: Doubles, tables: Floats, squares: Floats, out: Floats) -> None:
    point = np.empty(len(points), np.float32)
    for c in range(len(points)):
        point[c] = points[c, j]
    for at in range(0, points.shape[1], CHUNK):
        m = min(CHUNK, points.shape[1] - at)
        kernel_row(point, points, at, m, terms, tables, squares, out[at : at + m])


@kernel
def _add(points: Floats, chosen: Rows, sums: Doubles, terms: Doubles, tables: Floats) -> None:
    squares, row = np.empty(CHUNK, np.float32), np.empty(points.shape[1], np.float32)
    for j in chosen:
        _whole_row(points, j, terms, tables, squares, row)
        for z in range(len(row)):
            sums[z] += row[z]


@kernel
def _grow(
    points: Floats,
    embedding: Doubles,
    sums: Doubles,
    taken: NDArray[np.bool_],
    chosen: Rows,
    count: int,
    held: int,
    growing: bool,
    terms: Doubles,
    tables: Floats,
) -> None:
    squares, row = np.empty(CHUNK, np.float32), np.empty(points.shape[1], np.float32)
    for at in range(count, len(chosen)):
        mass = held + (at + 1 if growing else len(chosen))
        best, least = -1, np.inf
        for z in range(len(sums)):
            if not taken[z]:
                score = sums[z] - mass * embedding[z]
                if score < least:
                    best, least = z, score
        chosen[at] = best
        taken[best] = True
        _whole_row(points, best, terms, tables, squares, row)
        for z in range(len(row)):
            sums[z] += row[z]


@kernel
def _swap(
    points: Floats,
    embedding: Doubles,
    sums: Doubles,
    taken: NDArray[np.bool_],
    chosen: Rows,
    mass: int,
    terms: Doubles,
    tables: Floats,
) -> int:
    squares, changed = np.empty(CHUNK, np.float32), 0
    out, into = np.empty(points.shape[1], np.float32), np.empty(points.shape[1], np.float32)
    for at in range(len(chosen)):
        gone = chosen[at]
        _whole_row(points, gone, terms, tables, squares, out)
        taken[gone] = False
        best, least = -1, np.inf
        for z in range(len(sums)):
            sums[z] -= out[z]
            if not taken[z]:
                score = sums[z] - mass * embedding[z]
                if score < least:
                    best, least = z, score
        taken[best] = True
        if best == gone:
            for z in range(len(sums)):
                sums[z] += out[z]
            continue
        changed += 1
        chosen[at] = best
        _whole_row(points, best, terms, tables, squares, into)
        for z in range(len(sums)):
            sums[z] += into[z]
    return changed

"""Kernel halving: of every two points one is kept, so that what is kept balances what is not; and greedy kernel herding."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kofn.core.blas import one_blas_thread
from kofn.core.block import Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.jit import kernel, one_form
from kofn.core.kernels import Kernel, kernel_rows, lengths, mean_embedding, product_tile, rows_of, taken
from kofn.core.kerneltiles import VALUES, balance, decide, tile
from kofn.core.scratch import scratch

_TASKS = 16  # groups of blocks that threads take
_GROUP = 16  # pairs that are taken together: their values among themselves fit a tile
_TEAM, _LATER = 128, 512  # the same where rows are multiplied, and later pairs that are measured against them at once
_SERIAL = 1_500_000  # squared pairs times coordinates (and 4 for the rest) that are not worth threads
_BATCH = 32  # picks whose rows of the kernel exist at once


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
    factor, d = 2 * math.log(2 / failure), len(points)
    work = np.concatenate([[0], np.cumsum(np.diff(cuts).astype(np.float64) ** 2)])
    at = np.unique(np.searchsorted(work, np.linspace(0, work[-1], _TASKS + 1)[1:-1]))
    bounds = np.unique(np.concatenate([[0], at, [len(cuts) - 1]]))
    if work[-1] * (d + 4) < _SERIAL:
        bounds = bounds[[0, -1]]
    parts = [cuts[a : b + 1] for a, b in pairwise(bounds)]
    if form.by_products(d):
        rows = rows_of(points)
        known = rows, lengths(rows), slots, uniforms, factor, form, swapped
        with one_blas_thread():
            if len(cuts) == 2:
                _halve_by_products(cuts, *known, runner)
            else:
                runner(_halve_by_products, [(part, *known) for part in parts])
    else:
        shared = one_form(points), one_form(slots), uniforms, factor, form.terms, form.tables, swapped
        runner(_halve_blocks, [(part, *shared) for part in parts])
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
    x, lean, signs = np.empty((d, 2 * largest), np.float32), np.empty(largest), np.empty(_GROUP)
    squares, values = np.empty(VALUES, np.float32), np.empty(VALUES, np.float32)
    for block in range(len(cuts) - 1):
        start = cuts[block]
        pairs, variance = cuts[block + 1] - start, 0.0
        for low in range(0, pairs, _GROUP):
            m = min(_GROUP, pairs - low)
            for i in range(m):
                first, second = slots[2 * (start + low + i)], slots[2 * (start + low + i) + 1]
                for c in range(d):
                    x[c, 2 * low + i], x[c, 2 * low + m + i] = points[c, first], points[c, second]
                lean[low + i] = 0.0
        for own in range(0, pairs, _GROUP):
            half = min(_GROUP, pairs - own)
            tile(x, 2 * own, 2 * half, x, 2 * own, 2 * half, terms, tables, squares, values)
            mine = slice(start + own, start + own + half)
            variance = decide(values, lean[own : own + half], uniforms[mine], factor, variance, signs, swapped[mine])
            wide = VALUES // (4 * half) // _GROUP * _GROUP
            for low in range(own + _GROUP, pairs, wide):
                m = min(wide, pairs - low)
                tile(x, 2 * own, 2 * half, x, 2 * low, 2 * m, terms, tables, squares, values)
                balance(values, signs, half, _GROUP, lean[low : low + m])


def _halve_by_products(
    cuts: Rows,
    rows: Floats,
    of_rows: Floats,
    slots: Rows,
    uniforms: Doubles,
    factor: float,
    form: Kernel,
    swapped: NDArray[np.bool_],
    runner: TileRunner = run_serially,
) -> None:
    """As `_halve_blocks`, from products of rows; the runner shares out the later pairs of a block."""
    signs = np.empty(_TEAM)
    for start, stop in pairwise(cuts.tolist()):
        pairs, lean, variance = slots[2 * start : 2 * stop].reshape(-1, 2), np.zeros(stop - start), 0.0
        for own in range(0, len(pairs), _TEAM):
            team = pairs[own : own + _TEAM].T.reshape(-1)
            half = len(team) // 2
            mine, of_mine, coins = rows[team], of_rows[team], slice(start + own, start + own + half)
            values = scratch("kernel", len(team), len(team))
            product_tile(mine, of_mine, mine, of_mine, form, values)
            decided = lean[own : own + half], uniforms[coins], factor, variance, signs, swapped[coins]
            variance = decide(values.reshape(-1), *decided)
            later = range(own + _TEAM, len(pairs), _LATER)
            spans = [slice(low, low + _LATER) for low in later]
            known = mine, of_mine, rows, of_rows, form, signs
            runner(_balance_by_products, [(*known, pairs[span], lean[span]) for span in spans])


def _balance_by_products(
    mine: Floats,
    of_mine: Floats,
    rows: Floats,
    of_rows: Floats,
    form: Kernel,
    signs: Doubles,
    pairs: Rows,
    lean: Doubles,
) -> None:
    later = pairs.T.reshape(-1)
    values = scratch("kernel", len(mine), len(later))
    product_tile(mine, of_mine, rows[later], of_rows[later], form, values)
    balance(values.reshape(-1), signs, len(mine) // 2, len(pairs), lean)


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
        self,
        points: Floats,
        embedding: Doubles,
        sums: Doubles,
        held: int,
        barred: NDArray[np.bool_],
        form: Kernel,
        runner: TileRunner = run_serially,
    ) -> None:
        self.points, self.embedding, self.sums, self.held, self.form = points, embedding, sums, held, form
        self.taken, self.runner = barred.copy(), runner
        self.by_products = form.by_products(len(points))
        if self.by_products:
            self.rows = rows_of(points)
            self.lengths = lengths(self.rows)
            self.kept: Floats | None = None

    def begin(self, chosen: Rows, k: int) -> Rows:
        """k of the candidates, the distinct ones among `chosen` first; the rest completes them greedily."""
        distinct = np.zeros(k, np.int64)
        mine = chosen[np.sort(np.unique(chosen, return_index=True)[1])]
        distinct[: len(mine)] = mine
        self.taken[mine] = True
        self._add(mine)
        self.grow(distinct, len(mine), growing=False)
        return distinct

    def grow(self, chosen: Rows, count: int, *, growing: bool) -> None:
        """Fill `chosen` from `count` on, each time with the candidate that brings the summary nearest to the embedding.

        `growing`: the summary is weighed by as many points as it has then (herding), not as it shall have in the end.
        """
        if self.by_products:
            for at in range(count, len(chosen)):
                mass = self.held + (at + 1 if growing else len(chosen))
                chosen[at] = _best(self.sums, self.embedding, self.taken, mass)
                self.taken[chosen[at]] = True
                self._add(chosen[at : at + 1])
            return
        known = self.points, self.embedding, self.sums, self.taken
        _grow(*known, chosen, count, self.held, growing, self.form.terms, self.form.tables)

    def swap(self, chosen: Rows) -> int:
        """KT-SWAP: each choice in turn gives way to the candidate that is best in its place; how many did."""
        if self.by_products:
            return self._swap_by_products(chosen)
        known = self.points, self.embedding, self.sums, self.taken
        return int(_swap(*known, chosen, self.held + len(chosen), self.form.terms, self.form.tables))

    def discrepancy(self, chosen: Rows) -> float:
        """m^2 MMD^2, up to what no choice changes, m being the number of points of the summary."""
        m = self.held + len(chosen)
        mine = taken(self.points, chosen)
        own = mean_embedding(mine, np.ones(len(chosen)), mine, self.form)
        return float(own.sum() + 2 * (self.sums[chosen] - m * self.embedding[chosen]).sum())

    def _add(self, chosen: Rows) -> None:
        if not self.by_products:
            _add(self.points, chosen, self.sums, self.form.terms, self.form.tables)
            return
        for low in range(0, len(chosen), _BATCH):
            for row in self._kernel_rows(chosen[low : low + _BATCH]):
                self.sums += row

    def _swap_by_products(self, chosen: Rows) -> int:
        changed, mass = 0, self.held + len(chosen)
        # Picks that stay keep their rows of the kernel, where these take no more memory than the candidates themselves.
        if self.kept is None and len(chosen) * len(self.rows) <= self.rows.size:
            self.kept = np.concatenate(
                [self._kernel_rows(chosen[low : low + _BATCH]) for low in range(0, len(chosen), _BATCH)]
            )
        for low in range(0, len(chosen), _BATCH):
            some = slice(low, low + _BATCH)
            batch = self._kernel_rows(chosen[some]) if self.kept is None else self.kept[some]
            for at, row in enumerate(batch, low):
                gone = int(chosen[at])
                self.taken[gone] = False
                self.sums -= row
                best = _best(self.sums, self.embedding, self.taken, mass)
                self.taken[best] = True
                if best != gone:
                    changed, chosen[at] = changed + 1, best
                    row[:] = self._kernel_rows(chosen[at : at + 1])[0]
                self.sums += row
        return changed

    def _kernel_rows(self, chosen: Rows) -> Floats:
        return kernel_rows(self.rows, self.lengths, chosen, self.form, self.runner)


@kernel
def _best(sums: Doubles, embedding: Doubles, taken: NDArray[np.bool_], mass: float) -> int:
    best, least = -1, np.inf
    for z in range(len(sums)):
        if not taken[z]:
            score = sums[z] - mass * embedding[z]
            if score < least:
                best, least = z, score
    return best


@kernel
def _whole_row(points: Floats, j: int, terms: Doubles, tables: Floats, squares: Floats, out: Floats) -> None:
    for at in range(0, points.shape[1], VALUES):
        m = min(VALUES, points.shape[1] - at)
        tile(points, j, 1, points, at, m, terms, tables, squares, out[at : at + m])


@kernel
def _add(points: Floats, chosen: Rows, sums: Doubles, terms: Doubles, tables: Floats) -> None:
    squares, row = np.empty(VALUES, np.float32), np.empty(points.shape[1], np.float32)
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
    squares, row = np.empty(VALUES, np.float32), np.empty(points.shape[1], np.float32)
    for at in range(count, len(chosen)):
        mass = held + (at + 1 if growing else len(chosen))
        best = _best(sums, embedding, taken, mass)
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
    squares, changed = np.empty(VALUES, np.float32), 0
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

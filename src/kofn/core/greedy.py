"""Lazy greedy: the exact greedy choice, with most gains never computed.

For a monotone submodular f a gain can only fall as picks join. So an old gain bounds today's, and a candidate whose bound
is below the best gain found needs no look (Minoux, "Accelerated greedy algorithms for maximizing submodular set functions",
1978). Candidates are looked at in batches, because that is how products run fast, and what a batch says may be off by
rounding: those that rounding cannot tell apart are settled by exact gains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.designs import smallest
from kofn.core.jit import kernel
from kofn.core.neighbors import Graph, Points
from kofn.core.products import finite_product
from kofn.core.scratch import scratch

PIECE = 1024  # rows in one product with a batch of candidates

TIE = 1e-9
"""Gains that agree to this, relative to the larger, are equal: the lowest row number wins."""

SMALL, LARGE = 32, 256  # candidates in a batch: a few when the first looks settle it, then ever more

Mask = NDArray[np.bool_]


class Objective(Protocol):
    """A monotone submodular function of picks, as lazy greedy sees it.

    Attributes
    ----------
    bounds : float64 (n,)
        No candidate's gain is larger than its bound and `slack`.
    fresh : bool (n,)
        Candidates whose bound is their gain now, give or take `slack`.
    slack : float
        What rounding may have done to any bound.
    """

    bounds: Doubles
    fresh: Mask
    slack: float

    def refresh(self, candidates: Rows) -> None:
        """Bring the bounds of these candidates up to date."""

    def exact(self, candidates: Rows) -> Doubles:
        """Gains of these candidates, the same numbers whatever was asked before; float64."""

    def commit(self, pick: int) -> float:
        """Add a pick; its exact gain."""


@dataclass(frozen=True, eq=False)
class Greedy:
    """What greedy chose.

    Attributes
    ----------
    picks : int64 (k,)
        In the order of choice.
    gains : float64 (k,)
        Increase of the objective by each; their running sum is the objective.
    idle : int
        How many of the last picks gained nothing and were filled in by row number.
    """

    picks: Rows
    gains: Doubles
    idle: int


def lazy_greedy(
    objective: Objective,
    k: int,
    open_rows: Mask,
    *,
    closes: Callable[[int], Rows] | None = None,
    tell: Callable[[str, int, int], None] | None = None,
) -> Greedy:
    """Pick k candidates, each of largest gain given those before it.

    Parameters
    ----------
    objective : Objective
        Changed by the picks.
    k : int
        At most the number of open rows; a constraint may stop it earlier.
    open_rows : bool (n,)
        Candidates that may be picked; not modified.
    closes : callable, optional
        A constraint: the rows that may not be picked any more once this pick is in (a full group, a spent budget).
    tell : callable, optional
        Called as `tell("pick", done, k)`.

    Returns
    -------
    Greedy
    """
    allowed = open_rows.copy()
    picks, gains = np.empty(k, np.int64), np.zeros(k)
    done = 0
    while done < k:
        pick = _best(objective, allowed)
        gain = 0.0 if pick is None else objective.commit(pick)
        if pick is None or gain <= 0.0:
            break
        picks[done], gains[done] = pick, gain
        done += 1
        _close(allowed, pick, closes)
        if tell and (done % 16 == 0 or done == k):
            tell("pick", done, k)
    filled = done
    while filled < k and allowed.any():
        picks[filled] = int(np.argmax(allowed))
        _close(allowed, int(picks[filled]), closes)
        filled += 1
    return Greedy(picks[:filled], gains[:filled], filled - done)


def upper_bound(value: float, gains: Doubles, k: int) -> float:
    """No k candidates reach more than this, whatever the picks so far: value + the k largest current gains.

    Submodularity: f(best) <= f(picks and best) <= f(picks) + the sum of the gains of the best set's members (Leskovec et
    al., "Cost-effective outbreak detection in networks", KDD 2007, theorem 4). Gains of candidates that may not be picked
    are left out by the caller.
    """
    largest = np.sort(gains)[max(0, len(gains) - k) :]
    return float(value + np.maximum(largest, 0.0).sum())


def _best(objective: Objective, allowed: Mask) -> int | None:
    """The open candidate of largest exact gain, the lowest number among equals; None when none is open."""
    batch = SMALL
    while True:
        known = objective.bounds[allowed & objective.fresh]
        best = float(known.max()) if len(known) else -np.inf
        limit = best - 2 * objective.slack - 1e-9 * abs(best) if best > -np.inf else -np.inf
        near = allowed & (objective.bounds >= limit)  # what a bound must reach to matter
        found = np.flatnonzero(near & ~objective.fresh)
        if len(found) == 0:
            break
        if len(found) > batch:
            found = np.sort(found[smallest(-objective.bounds[found], batch)])
        objective.refresh(found)
        objective.fresh[found] = True
        batch = min(2 * batch, LARGE)
    if limit == -np.inf:
        return None
    final = np.flatnonzero(near)
    if len(final) == 1:
        return int(final[0])
    exact = objective.exact(final)
    return int(final[np.argmax(exact >= exact.max() * (1 - TIE))])


def _close(allowed: Mask, pick: int, closes: Callable[[int], Rows] | None) -> None:
    allowed[pick] = False
    if closes is not None:
        allowed[closes(pick)] = False


class Coverage:
    """f(S) = sum_i w_i (b_i - min(b_i, min_{j in S} dist(i, j))), as lazy greedy wants it.

    The gain of j is split at a radius r_i of each row into sum_i w_i max(0, min(b_i, r_i) - dist(i, j)), `within`, kept exact
    along the lists of a graph that is complete up to r_i, and sum_i w_i max(0, b_i - max(dist(i, j), r_i)), `beyond`, which
    only rows with b_i > r_i have and products compute when asked. `beyond` only falls, so an old one is a bound, and as
    picks come near to every row nothing is left of it: what remains of greedy walks along lists.

    Parameters
    ----------
    points : Points
        The rows.
    weights : float64 (n,)
        w.
    reach : float64 (n,)
        b: the distance to what covers the row already, or a bound on all distances. Copied.
    radii : float (n,)
        r.
    graph : Graph or None
        Lists of all pairs nearer than the larger of their radii; None where all radii are 0.
    """

    def __init__(
        self,
        points: Points,
        weights: Doubles,
        reach: Doubles,
        radii: Doubles | Floats,
        graph: Graph | None,
        runner: TileRunner = run_serially,
    ) -> None:
        n = points.n
        self.points, self.weights, self.runner = points, weights, runner
        self.reach, self.radii = reach.astype(np.float64, copy=True), radii.astype(np.float64)
        self.graph = graph or Graph(np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0))
        self.within, self.beyond = np.empty(n), np.full(n, np.inf)
        self.fresh: Mask = np.zeros(n, np.bool_)
        self.foreseen: tuple[int, Doubles] | None = None
        cuts = np.linspace(0, n, 9).astype(np.int64)
        runner(self._sum_within, [(int(low), int(high)) for low, high in pairwise(cuts)])
        self.drift = 1e-12 * float(self.within.max())  # `within` is changed by additions: what rounding may add up to
        self._list_far()
        self.bounds = self.beyond + self.within

    def know(self, beyond: Doubles, foreseen: tuple[int, Doubles] | None = None) -> None:
        """Take over every `beyond` of now, and of the time after a pick that is foreseen."""
        self.beyond, self.foreseen = beyond, foreseen
        self.fresh[:] = True
        self.bounds = self.beyond + self.within

    def refresh(self, candidates: Rows) -> None:
        """Compute `beyond` of these candidates anew."""
        self.beyond[candidates] = self.far.gains(candidates, self.runner)
        self.bounds[candidates] = self.beyond[candidates] + self.within[candidates]

    def exact(self, candidates: Rows) -> Doubles:
        """Gains from distances by differences; rows that are copies of one another are measured once."""
        _, first, copies = np.unique(self.points.rows[candidates], axis=0, return_index=True, return_inverse=True)
        runner = self.runner if len(first) * len(self.far.rows) > 1 << 14 else run_serially
        found = runner(self._cover, [(int(pick), False) for pick in candidates[first]])
        return np.array([gain for gain, _, _ in found])[copies.ravel()]

    def commit(self, pick: int) -> float:
        """Let the pick cover the rows it is nearest to; its gain, as `exact` gives it."""
        gain, left, moved = self._cover(pick, True)
        foreseen, self.foreseen = self.foreseen, None
        if foreseen is not None and foreseen[0] == pick:
            self.beyond = foreseen[1]
        elif moved:
            self.fresh[:] = False
        if foreseen is not None or left < 0.75 * len(self.far.rows):
            self._list_far()
        np.add(self.beyond, self.within, out=self.bounds)
        return gain

    def _list_far(self) -> None:
        rows = np.flatnonzero(self.reach > self.radii)
        self.far = Far(self.points, rows, self.weights[rows], self.reach[rows], self.radii[rows])
        self.slack = self.far.slack + self.drift
        if len(rows) == 0:
            self.beyond[:] = 0.0
            self.fresh[:] = True

    def _cover(self, pick: int, apply: bool) -> tuple[float, int, bool]:
        lists, far = self.graph, self.far
        return _cover(
            pick, apply, far.rows, far.reach, self.points.distances_to(pick, far.rows), self.weights, self.reach, self.radii,
            lists.starts, lists.ids, lists.distances, self.within,
        )  # fmt: skip

    def _sum_within(self, low: int, high: int) -> None:
        lists = self.graph
        _sum_within(
            low, high, self.weights, self.reach, self.radii, lists.starts, lists.ids, lists.distances, self.within
        )


class Far:
    """Rows farther from what covers them than their radius, laid out for products with candidates."""

    def __init__(self, points: Points, rows: Rows, weights: Doubles, reach: Doubles, radii: Doubles) -> None:
        whole = len(rows) == points.n
        self.points, self.rows = points, rows
        self.reach, self.radii = reach.astype(np.float32), radii.astype(np.float32)
        self.shifted = points.shifted if whole else points.shifted[rows]
        self.squares = points.squares if whole else points.squares[rows]
        self.weights = weights.astype(np.float32)
        # A candidate that saves a row something is no farther from it than b, so its own length is at most |x| + b.
        squares = self.squares.astype(np.float64)
        noise = points.noise * (squares + (np.sqrt(squares) + reach) ** 2)
        loss = noise / (2 * np.maximum(np.maximum(radii, np.sqrt(noise)), np.finfo(np.float64).tiny)) + 2.4e-7 * reach
        self.slack = float(np.dot(weights, loss))

    def gains(self, candidates: Rows, runner: TileRunner) -> Doubles:
        """sum_i w_i max(0, b_i - max(dist(i, j), r_i)) of each candidate, within `slack`; float64."""
        if len(self.rows) == 0:
            return np.zeros(len(candidates))
        others, squares = self.points.shifted[candidates], self.points.squares[candidates]
        parts = runner(self._gains_of, [(start, others, squares) for start in range(0, len(self.rows), PIECE)])
        return np.asarray(sum(parts))

    def _gains_of(self, start: int, others: Floats, squares: Floats) -> Doubles:
        cut = slice(start, start + PIECE)
        rows, gains = self.shifted[cut], np.zeros(len(others))
        products = finite_product(rows, others.T, out=scratch("products", len(rows), len(others)))
        _add_savings(products, self.squares[cut], self.weights[cut], self.reach[cut], self.radii[cut], squares, gains)
        return gains


@kernel
def _add_savings(
    product: Floats, q_i: Floats, w_i: Floats, b_i: Floats, r_i: Floats, q_j: Floats, gains: Doubles
) -> None:
    m, c = product.shape
    two, zero = np.float32(2.0), np.float32(0.0)
    for i in range(m):
        p, q, w, b, near = product[i], q_i[i], w_i[i], b_i[i], r_i[i] * r_i[i]
        if b > r_i[i]:
            for j in range(c):
                squared = q + q_j[j] - two * p[j]
                saved = b - np.sqrt(squared if squared > near else near)
                gains[j] += w * (saved if saved > zero else zero)


@kernel
def _sum_within(
    low: int, high: int, weights: Doubles, reach: Doubles, radii: Doubles,
    starts: Rows, ids: Any, distances: Doubles, within: Doubles,
) -> None:  # fmt: skip
    for j in range(low, high):
        total = 0.0
        for t in range(starts[j], starts[j + 1]):
            i = ids[t]
            saved = min(reach[i], radii[i]) - distances[t]
            if saved > 0.0:
                total += weights[i] * saved
        within[j] = total


@kernel
def _cover(
    pick: int, apply: bool, far: Rows, far_reach: Floats, apart: Doubles, weights: Doubles, reach: Doubles, radii: Doubles,
    starts: Rows, ids: Any, distances: Doubles, within: Doubles,
) -> tuple[float, int, bool]:  # fmt: skip
    """(gain of the pick, rows still far, whether a far row came nearer); with `apply` the rows it covers are updated."""
    gain, left, moved = 0.0, 0, False
    for t in range(len(far)):
        i = far[t]
        b = reach[i]
        if b > radii[i]:
            if apart[t] < b:
                gain += weights[i] * (b - apart[t])
                moved = True
                if apply:
                    _lower(i, apart[t], weights, reach, radii, starts, ids, distances, within)
                    far_reach[t] = apart[t]
            left += reach[i] > radii[i]
    for t in range(starts[pick], starts[pick + 1]):
        i = int(ids[t])  # as above: one form of `_lower` to compile
        b = reach[i]
        if distances[t] < b and b <= radii[i]:
            gain += weights[i] * (b - distances[t])
            if apply:
                _lower(i, distances[t], weights, reach, radii, starts, ids, distances, within)
    return gain, left, moved


@kernel
def _lower(
    i: int, to: float, weights: Doubles, reach: Doubles, radii: Doubles,
    starts: Rows, ids: Any, distances: Doubles, within: Doubles,
) -> None:  # fmt: skip
    """Set a row's reach, and take what it can no longer save from the candidates on its list."""
    low, new, w = min(reach[i], radii[i]), to, weights[i]
    reach[i] = to
    if new < low:
        for t in range(starts[i], starts[i + 1]):
            there = distances[t]
            if there < low:
                within[ids[t]] -= w * (low - max(there, new))

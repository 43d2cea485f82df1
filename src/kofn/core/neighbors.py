"""Who is near whom: all pairs of rows within a radius, by blocked products.

Products only screen. Every distance that leaves this module was computed by differences in float64, so that it does not
depend on the processor's BLAS, and no pair is lost to the rounding of a product: `NOISE` is allowed for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.distance import WIDE, squared_distance
from kofn.core.jit import kernel
from kofn.core.products import finite_product
from kofn.core.scratch import scratch

NOISE = 1e-6
"""What rounding may add to a squared distance from float32 products, relative to the two squared lengths together."""

STRIP = 1024  # rows in one call of a thread
PIECE, CHUNK, LANES = 256, 2048, 16  # a product's result is 2 MiB: it stays in the cache until it is scanned
WAVE = 4  # strips between two looks at how many pairs were found
SAMPLE = 1024

Ids = NDArray[np.int32]
Pairs = tuple[Ids, Ids, Doubles]


@dataclass(frozen=True, eq=False)
class Points:
    """n rows made ready for products.

    Parameters
    ----------
    rows : float32 (n, d), C-contiguous
        The rows as they came.
    """

    rows: Floats

    @cached_property
    def shifted(self) -> Floats:
        """Rows less their mean, float32 (n, d): squares are expanded around it."""
        mean = self.rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        return np.ascontiguousarray(self.rows - mean)

    @cached_property
    def squares(self) -> Floats:
        """Squared length of each shifted row, float32 (n,)."""
        return np.einsum("ij,ij->i", self.shifted, self.shifted, dtype=np.float64).astype(np.float32)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @cached_property
    def noise(self) -> float:
        """`NOISE`, grown with the length of the sums for very long rows."""
        return float(NOISE * max(1.0, np.sqrt(self.rows.shape[1] / 1024)))

    def distances_to(self, row: int, which: Rows | None = None) -> Doubles:
        """Distance of every row, or of these, to this one, float64 (n,)."""
        first = np.arange(self.n, dtype=np.int32) if which is None else which.astype(np.int32)
        out = np.empty(len(first))
        pair_distances(self.rows, first, self.rows, np.full(len(first), row, np.int32), out)
        return out


@dataclass(frozen=True, eq=False)
class Graph:
    """Lists of neighbours, one for each row.

    Attributes
    ----------
    starts : int64 (n + 1,)
        Row i's list is `starts[i]:starts[i + 1]`.
    ids : int32 (entries,)
        The neighbours' row numbers.
    distances : float64 (entries,)
        Their distances, by differences.
    """

    starts: Rows
    ids: Ids
    distances: Doubles

    def of(self, row: int) -> tuple[Ids, Doubles]:
        """Neighbours of a row and their distances."""
        cut = slice(self.starts[row], self.starts[row + 1])
        return self.ids[cut], self.distances[cut]


def spread_rows(n: int, count: int) -> Rows:
    """`count` row numbers spread over 0..n-1 and free of any period, ascending; a fixed choice, int64.

    Multiples of the golden ratio modulo one fill the interval evenly (Weyl's sequence); rows that two of them share are
    taken once.
    """
    if count >= n:
        return np.arange(n, dtype=np.int64)
    at = np.arange(count) * 0.6180339887498949
    return np.unique((n * (at - np.floor(at))).astype(np.int64))


def local_radii(
    points: Points, wanted: int, weights: Doubles, runner: TileRunner = run_serially, *, wide: bool = False
) -> tuple[Floats, Doubles]:
    """For each row a radius within which about `wanted` rows lie, judged by a sample of the rows; O(n sample d) time.

    A radius that products cannot tell from 0 is 0 or, with `wide`, so large that they can: it then holds every row of a
    cluster that is very tight for its distance to the mean, and every copy of the row.

    Returns
    -------
    radii : float32 (n,)
    typical : float64 (n,)
        An estimate of each row's weighted total distance to all rows.
    """
    n = points.n
    sample = spread_rows(n, max(SAMPLE, -(-8 * n // wanted)))
    rank = min(max(1, round(wanted * len(sample) / n)), len(sample) - 1)
    shared = (points, points.shifted[sample], points.squares[sample], weights[sample].astype(np.float32), rank, wide)
    parts = runner(_radii_of_rows, [(start, *shared) for start in range(0, n, PIECE)])
    return np.concatenate([radii for radii, _ in parts]), np.concatenate([typical for _, typical in parts])


def _radii_of_rows(
    start: int, points: Points, others: Floats, squares: Floats, weights: Floats, rank: int, wide: bool
) -> tuple[Floats, Doubles]:
    if rank < 1:
        m = len(points.shifted[start : start + PIECE])
        return np.zeros(m, np.float32), np.zeros(m)
    rows, own = points.shifted[start : start + PIECE], points.squares[start : start + PIECE]
    squared = finite_product(rows, others.T, out=scratch("sample", len(rows), len(others)))
    squared *= -2.0
    squared += own[:, None]
    squared += squares
    np.maximum(squared, 0.0, out=squared)
    limit = np.partition(squared, rank, axis=1)[:, rank].astype(np.float64)
    loss = 3 * points.noise * (own + (np.sqrt(own) + np.sqrt(limit)) ** 2)
    np.sqrt(squared, out=squared)
    blurred = np.where(wide, limit + loss, 0.0)
    return np.sqrt(np.where(limit > loss, limit - loss, blurred)).astype(np.float32), (squared @ weights).astype(
        np.float64
    )


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one pass over all pairs of rows found; see `sweep`."""

    totals: Doubles
    savings: Doubles
    graph: Graph | None


def pairs_within(points: Points, radii: Floats, *, limit: int, runner: TileRunner = run_serially) -> Graph | None:
    """Lists of all pairs nearer than the larger of their two radii, each row in its own list too where its radius is
    not 0; None when there are more than `limit` pairs. One product for every pair: O(n^2 d) time."""
    none = np.zeros(points.n, np.float32)
    return sweep(points, none, none, radii, limit=limit, runner=runner).graph


def sweep(
    points: Points,
    weights: Floats,
    reach: Floats,
    radii: Floats,
    *,
    limit: int,
    runner: TileRunner = run_serially,
    tell: Any = None,
) -> Sweep:
    """Visit every pair of rows once, both ways.

    Parameters
    ----------
    weights, reach, radii : float32 (n,)
        w, b, r below.
    limit : int
        Give up on the graph beyond so many pairs; 0: collect none.

    Returns
    -------
    Sweep
        totals, float64 (n,): sum_i w_i max(dist(i, j), r_i); savings, float64 (n,): sum_i w_i max(0, b_i - max(dist(i, j),
        r_i)), both from float32 products; graph: the pairs with dist(i, j) < max(r_i, r_j), complete, as exact distances;
        None where there are too many or none were wanted.
    """
    n = points.n
    own = np.maximum(reach.astype(np.float64) - radii, 0.0)
    totals, savings = (
        weights.astype(np.float64) * radii,
        weights.astype(np.float64) * own,
    )  # a row and itself: distance 0
    nearest = np.where(radii > 0, radii.astype(np.float64) ** 2, -np.inf).astype(np.float32)
    found: list[Pairs] = []
    count, collect = 0, limit > 0
    strips = list(range(0, n, STRIP))
    share = limit if len(strips) <= 2 * WAVE else limit // WAVE  # what a wave may overshoot by is bounded
    for at in range(0, len(strips), WAVE):
        calls = [
            (start, points, weights, reach, radii, nearest, share if collect else 0) for start in strips[at : at + WAVE]
        ]
        for start, part in zip(strips[at : at + WAVE], runner(_sweep_strip, calls), strict=True):
            totals[start:] += part[0]
            savings[start:] += part[1]
            count += len(part[2][0])
            collect = collect and part[3] and count <= limit
            found = [*found, part[2]] if collect else []
        if tell:
            done = min((at + WAVE) * STRIP, n)
            tell("pairs", n * n - (n - done) ** 2, n * n)
    return Sweep(totals, savings, lists_of(n, found, radii, runner) if collect else None)


def _sweep_strip(
    start: int, points: Points, weights: Floats, reach: Floats, radii: Floats, nearest: Floats, limit: int
) -> tuple[Doubles, Doubles, Pairs, bool]:
    """A strip's rows against themselves and all later rows."""
    n = points.n
    totals, savings = np.zeros(n - start), np.zeros(n - start)
    lanes = np.empty((2, LANES))
    ids = scratch("pairs", 2, PIECE * CHUNK).view(np.int32)
    found: list[Pairs] = []
    count, whole = 0, limit > 0
    for top, left, right in _tiles(start, min(start + STRIP, n), n):
        rows, columns = slice(top, min(top + PIECE, n)), slice(left, right)
        products = scratch("products", rows.stop - top, right - left)
        finite_product(points.shifted[rows], points.shifted[columns].T, out=products)
        hits = _scan(
            products, left == top, np.float32(points.noise),
            points.squares[rows], weights[rows], reach[rows], radii[rows], nearest[rows],
            points.squares[columns], weights[columns], reach[columns], radii[columns], nearest[columns],
            totals[top - start :], savings[top - start :], totals[left - start :], savings[left - start :],
            lanes, ids[0], ids[1],
        )  # fmt: skip
        if whole and hits:
            pairs = (ids[0, :hits] + np.int32(top), ids[1, :hits] + np.int32(left), np.empty(hits))
            pair_distances(points.rows, pairs[0], points.rows, pairs[1], pairs[2])
            kept = pairs[2] < np.maximum(radii[pairs[0]], radii[pairs[1]])
            found.append((pairs[0][kept], pairs[1][kept], pairs[2][kept]))
            count += len(found[-1][0])
            if count > limit:
                whole, found = False, []
    return totals, savings, _joined(found), whole or limit == 0


def _tiles(start: int, stop: int, n: int) -> Iterator[tuple[int, int, int]]:
    """(first row, first column, end of columns) of a strip's products: the square on the diagonal, then what is right of it."""
    for top in range(start, stop, PIECE):
        edge = min(top + PIECE, n)
        yield top, top, edge
        for left in range(edge, n, CHUNK):
            yield top, left, min(left + CHUNK, n)


def _joined(found: list[Pairs]) -> Pairs:
    if not found:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
    first, second, distances = zip(*found, strict=True)
    return np.concatenate(first), np.concatenate(second), np.concatenate(distances)


@kernel
def _scan(
    product: Floats, diagonal: bool, noise: Any,
    q_i: Floats, w_i: Floats, b_i: Floats, r_i: Floats, near_i: Floats,
    q_j: Floats, w_j: Floats, b_j: Floats, r_j: Floats, near_j: Floats,
    totals_i: Doubles, savings_i: Doubles, totals_j: Doubles, savings_j: Doubles,
    lanes: Doubles, first: Ids, second: Ids,
) -> int:  # fmt: skip
    """Add what each pair of a product gives to either side; note the pairs that may be near enough."""
    m, c = product.shape
    two, zero = np.float32(2.0), np.float32(0.0)
    hits = 0
    for i in range(m):
        p = product[i]
        q, w, b, r, near = q_i[i], w_i[i], b_i[i], r_i[i], near_i[i]
        whole = 0 if diagonal else c - c % LANES
        for lane in range(LANES):
            lanes[0, lane] = 0.0
            lanes[1, lane] = 0.0
        for j in range(0, whole, LANES):
            close = 0
            for lane in range(LANES):
                t = j + lane
                both = q + q_j[t]
                squared = both - two * p[t]
                bound = near_j[t] if near_j[t] > near else near
                close += squared - noise * both < bound
                distance = np.sqrt(squared if squared > zero else zero)
                there = distance if distance > r else r
                totals_j[t] += w * there
                saved = b - there
                savings_j[t] += w * (saved if saved > zero else zero)
                back = distance if distance > r_j[t] else r_j[t]
                lanes[0, lane] += w_j[t] * back
                saved = b_j[t] - back
                lanes[1, lane] += w_j[t] * (saved if saved > zero else zero)
            if close:
                for t in range(j, j + LANES):
                    both = q + q_j[t]
                    if both - two * p[t] - noise * both < max(near, near_j[t]):
                        first[hits] = i
                        second[hits] = t
                        hits += 1
        total = saving = 0.0
        for lane in range(LANES):
            total += lanes[0, lane]
            saving += lanes[1, lane]
        for t in range(i + 1 if diagonal else whole, c):
            both = q + q_j[t]
            squared = both - two * p[t]
            distance = np.sqrt(max(squared, zero))
            totals_j[t] += w * max(distance, r)
            savings_j[t] += w * max(b - max(distance, r), zero)
            total += w_j[t] * max(distance, r_j[t])
            saving += w_j[t] * max(b_j[t] - max(distance, r_j[t]), zero)
            if squared - noise * both < max(near, near_j[t]):
                first[hits] = i
                second[hits] = t
                hits += 1
        totals_i[i] += total
        savings_i[i] += saving
    return hits


def lists_of(n: int, found: list[Pairs], radii: Any, runner: TileRunner) -> Graph:
    """Both ends' lists from pairs; the order within a list is that of the pairs, after the row itself."""
    counts = (radii > 0).astype(np.int64)
    for first, second, _ in found:
        counts += np.bincount(first, minlength=n)
        counts += np.bincount(second, minlength=n)
    starts = np.zeros(n + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    ids, distances = np.empty(starts[-1], np.int32), np.empty(starts[-1])
    cuts = np.linspace(0, n, 5).astype(np.int64)
    runner(_fill, [(int(low), int(high), found, radii, starts, ids, distances) for low, high in pairwise(cuts)])
    return Graph(starts, ids, distances)


def _fill(low: int, high: int, found: list[Pairs], radii: Any, starts: Rows, ids: Ids, distances: Doubles) -> None:
    filled = starts[low:high].copy()
    own = np.flatnonzero(radii[low:high] > 0)
    ids[filled[own]], distances[filled[own]] = own + low, 0.0
    filled[own] += 1
    for first, second, measured in found:
        _append(low, high, first, second, measured, filled, ids, distances)


@kernel
def _append(
    low: int, high: int, first: Ids, second: Ids, measured: Doubles, filled: Rows, ids: Ids, distances: Doubles
) -> None:
    for t in range(len(first)):
        i, j = first[t], second[t]
        if low <= i < high:
            at = filled[i - low]
            ids[at] = j
            distances[at] = measured[t]
            filled[i - low] = at + 1
        if low <= j < high:
            at = filled[j - low]
            ids[at] = i
            distances[at] = measured[t]
            filled[j - low] = at + 1


@kernel
def pair_distances(x: Floats, first: Ids, y: Floats, second: Ids, out: Doubles) -> None:
    """out[t] = the distance of x[first[t]] and y[second[t]]: differences, squares and sums in float64.

    The order of additions is fixed, and the same both ways round.
    """
    sums = np.empty(WIDE)
    for t in range(len(first)):
        out[t] = np.sqrt(squared_distance(x[first[t]], y[second[t]], sums))

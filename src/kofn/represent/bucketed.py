"""Bucketed k-median coresets: intervals on a line, cells of a grid in few dimensions, each replaced by its mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.blas import one_blas_thread
from kofn.core.block import Doubles
from kofn.core.jit import kernel, one_form
from kofn.core.numbers import is_whole
from kofn.errors import DataError, UsageError
from kofn.items import Items
from kofn.represent.clusterings import best_centers, clustering_cost
from kofn.represent.coreset import measure
from kofn.rng import Rng

FEW_DIMENSIONS = 8
"""Most columns for a grid: the number of cells grows as (1 / epsilon)^d."""

APPROXIMATION = 2.0
FIRST, FINER = 1 / 64, 4.0  # of the 1-median cost: error of a fine bucket at first; by how much it shrinks
SLACK = 0.1  # the best cost is known to that share of itself, from below
STEPS = 12  # halvings of the range in which the size of a grid's cells is looked for


def bucketed_coreset(
    x: Any, clusters: int, epsilon: float, weights: Any = None, *, approximation: float | None = None, seed: int = 0
) -> tuple[Doubles, Doubles]:
    """Weighted points whose k-median cost is within 1 +- epsilon of the rows' for every set of `clusters` centers.

    On a line, buckets are intervals, each replaced by its mean with its weight (Har-Peled and Kushal, "Smaller coresets for
    k-median and k-means clustering", 2005). Let e(B), the cumulative error of a bucket, be the weighted sum of the distances
    of its rows to their mean. A bucket within which the distance to the nearest center is linear loses nothing. One that holds
    a center loses at most e(B), one that holds the middle between two centers gains at most e(B); there are at most
    `clusters` of the first and `clusters` - 1 of the second kind. So

    - `clusters` > 1: e(B) <= epsilon OPT / clusters for every bucket is enough: at most 4.5 clusters / epsilon + 2 clusters
      buckets, and no construction needs fewer than order clusters / epsilon in the worst case. OPT is found from below
      to 10 % by dynamic programming over finer buckets.
    - `clusters` = 1: only the bucket with the center loses, and centers far out are dear: e(B) <= epsilon cost(nearest point of
      B to the median) is enough, which leaves order epsilon^(-1/2) buckets up to logarithms (Huang, Huang, Huang and Wu,
      "On coresets for clustering in small dimensional Euclidean spaces", ICML 2023).

    Buckets are made as long as they can be from left to right, which is the fewest that keep these conditions.

    In 2 to 8 dimensions it is a grid around near-optimal centers whose cells grow with the distance (Har-Peled and Mazumdar,
    "On coresets for k-means and k-median clustering", STOC 2004), order clusters epsilon^-d log n cells. Cells are as wide as
    they can be while the rows' distances to their cells' means sum to epsilon OPT at most: then no set of centers, however
    many, is off by more. That sum is measured, not bounded, which makes cells several times wider than the paper's.

    Parameters
    ----------
    x : (n,) or (n, d) numbers, d at most 8
        The rows.
    clusters : int
        Centers of the sets that are to be served.
    epsilon : float
        More than 0, less than 1.
    weights : (n,) positive, optional
        How much each row counts; default 1.
    approximation : float, optional
        For d > 1: by what factor the cost found by seeding and 100 Weiszfeld rounds may exceed OPT, which is taken as the cost
        found over this number; default 2. It cannot be known, so the guarantee stands on it. On a line OPT is known, and giving
        it is an error.
    seed : int
        Of the seeds, for d > 1; a line needs none.

    Returns
    -------
    points : float64 (m,) or (m, d)
        Means of buckets or cells; no rows of x.
    weights : float64 (m,)
        Summing to the rows' weight.

    Notes
    -----
    On a line O(n log n) time, and O(clusters m^2) at worst for the best cost over m fine buckets, at most some 300 for each of
    the clusters. In a grid that of a k-median clustering of all rows, and a dozen sorts. O(n) memory.
    """
    values = np.asarray(x)
    items = Items(embeddings=values[:, None] if values.ndim == 1 else values, weights=weights)
    _check(items, clusters, epsilon, approximation)
    w = np.asarray(items.row_weights)
    if items.d > 1:
        center = values.mean(
            axis=0, dtype=np.float64
        )  # rows far from the origin would lose their differences in float32
        moved = values.astype(np.float64) - center
        near = Items(embeddings=moved, weights=weights)
        points, sums = _grid(near, moved, w, clusters, epsilon / (approximation or APPROXIMATION), seed)
        return points + center, sums
    order = np.argsort(values.reshape(-1), kind="stable")
    line, w = values.reshape(-1).astype(np.float64)[order], w[order]
    ends = _buckets_of_one(line, w, epsilon) if clusters == 1 else _buckets_of_many(line, w, clusters, epsilon)
    means, sums = _means(line, w, ends)
    return (means if values.ndim == 1 else means[:, None]), sums


def best_on_a_line(x: Any, clusters: int, weights: Any = None) -> float:
    """The least k-median cost of numbers (n,), from below, within 10 %: what `bucketed_coreset` rests on.

    It is exact where every bucket is one number. A bucketing within e(B) <= error adds (clusters - 1) error at most to the cost
    of any centers and takes clusters error at most from it, so the best cost lies that near to the buckets' own best.
    """
    items = Items(embeddings=np.asarray(x)[:, None], weights=weights)
    order = np.argsort(np.asarray(x), kind="stable")
    return _best_cost(np.asarray(x, np.float64)[order], np.asarray(items.row_weights)[order], clusters)


def _check(items: Items, clusters: int, epsilon: float, approximation: float | None) -> None:
    if not is_whole(clusters, 1):
        raise UsageError(f"clusters={clusters!r} is not a whole number of at least 1")
    if not 0 < epsilon < 1:
        raise UsageError(f"epsilon={epsilon} is out of range; give a number between 0 and 1, such as 0.1")
    if items.sparse or items.d > FEW_DIMENSIONS:
        raise DataError(
            f"rows of {items.d} columns{' in a sparse matrix' if items.sparse else ''} are too many for buckets, at most "
            f"{FEW_DIMENSIONS} dense ones work; take the method coreset"
        )
    if approximation is not None and (items.d == 1 or not approximation >= 1):
        wanted = "at least 1" if items.d > 1 else "not given for rows of one column, whose best cost is computed"
        raise UsageError(f"approximation={approximation} cannot be used: it must be {wanted}")
    bad = np.flatnonzero(~np.isfinite(np.asarray(items.embeddings, np.float64)).all(axis=1))
    if len(bad):
        raise DataError(
            f"{len(bad):,} of {items.n:,} rows hold NaN or infinity, the first is row {bad[0]}; mend or drop them"
        )


def _buckets_of_one(x: Doubles, w: Doubles, epsilon: float) -> NDArray[np.int64]:
    """Ends of buckets whose cumulative error is at most epsilon times the cost of any center among them."""
    half = np.searchsorted(np.cumsum(w), 0.5 * w.sum())
    middle = int(min(half, len(x) - 1))
    return _longest(one_form(x), one_form(w), one_form(epsilon * _costs_of_one(x, w)), middle)


def _buckets_of_many(x: Doubles, w: Doubles, clusters: int, epsilon: float) -> NDArray[np.int64]:
    limit = epsilon * _best_cost(x, w, clusters) / clusters
    return _longest(one_form(x), one_form(w), one_form(np.full(len(x), limit)), 0)


def _costs_of_one(x: Doubles, w: Doubles) -> Doubles:
    """The 1-median cost of a center at each of the sorted points. Sums go from the ends inwards: far rows may weigh little."""
    gaps = np.diff(x)
    left = np.concatenate([[0.0], np.cumsum(np.cumsum(w)[:-1] * gaps)])
    right = np.concatenate([[0.0], np.cumsum(np.cumsum(w[::-1])[:-1] * gaps[::-1])])[::-1]
    return np.asarray(left + right)


def _best_cost(x: Doubles, w: Doubles, clusters: int) -> float:
    """A lower bound, to `SLACK` of itself, on the k-median cost of sorted points: exact on fine buckets, less their error."""
    different = int((np.diff(x) > 0).sum()) + 1
    if different <= clusters:
        return 0.0
    error, most = FIRST * float(_costs_of_one(x, w).min()), np.inf
    while True:
        ends = _longest(one_form(x), one_form(w), one_form(np.full(len(x), error)), 0)
        means, sums = _means(x, w, ends)
        best = _cheapest(one_form(means), one_form(sums), clusters, most + clusters * error)
        if len(means) == different:
            return best
        if (2 * clusters - 1) * error <= SLACK * (best + clusters * error):
            return best - (clusters - 1) * error
        most = best + clusters * error
        error /= FINER


def _means(x: Doubles, w: Doubles, ends: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Mean and weight of each bucket, measured from its first point so that a far origin costs no digits."""
    starts = np.concatenate([[0], ends[:-1]])
    sums = np.add.reduceat(w, starts)
    first = x[starts]
    offsets = x - np.repeat(first, np.diff(np.concatenate([starts, [len(x)]])))
    return first + np.add.reduceat(w * offsets, starts) / sums, sums


@kernel
def _longest(x: Doubles, w: Doubles, limits: Doubles, middle: int) -> NDArray[np.int64]:
    """Ends (past the last point) of the longest buckets from left to right that keep their limit.

    A bucket's limit is that of its point nearest to `middle`. Lengths are doubled, then halved: what is allowed for a bucket is
    allowed for every part of it.
    """
    n = len(x)
    ends = np.empty(n, np.int64)
    found = 0
    start = 0
    while start < n:
        good, step = start + 1, 1
        while good < n:
            tried = min(n, good + step)
            nearest = min(max(middle, start), tried - 1)
            if _error(x, w, start, tried) <= limits[nearest]:
                good = tried
                step *= 2
            elif step == 1:
                break
            else:
                step //= 2
                while step >= 1:
                    tried = good + step
                    if tried <= n:
                        nearest = min(max(middle, start), tried - 1)
                        if _error(x, w, start, tried) <= limits[nearest]:
                            good = tried
                    step //= 2
                break
        ends[found] = good
        found += 1
        start = good
    return ends[:found]


@kernel
def _error(x: Doubles, w: Doubles, start: int, stop: int) -> float:
    """Weighted sum of the distances of a bucket's points to their mean."""
    total = moment = 0.0
    for i in range(start, stop):
        total += w[i]
        moment += w[i] * (x[i] - x[start])
    mean = x[start] + moment / total
    error = 0.0
    for i in range(start, stop):
        error += w[i] * abs(x[i] - mean)
    return error


@kernel
def _cheapest(x: Doubles, w: Doubles, clusters: int, most: float) -> float:
    """The least k-median cost of sorted points, known to be `most` at most. O(clusters m^2) time at worst, O(m) memory."""
    m = len(x)
    before = np.full(m + 1, np.inf)
    before[0] = 0.0
    for _ in range(clusters):
        after = np.full(m + 1, np.inf)
        after[0] = 0.0
        for first in range(m):
            if before[first] == np.inf:
                continue
            median = first
            left, right = w[first], 0.0  # weight up to the median, and beyond it
            cost = 0.0
            for last in range(first, m):
                if last > first:
                    right += w[last]
                    cost += w[last] * (x[last] - x[median])
                while left < right:
                    cost += (left - right) * (x[median + 1] - x[median])
                    median += 1
                    left += w[median]
                    right -= w[median]
                total = before[first] + cost
                if total > most:
                    break
                after[last + 1] = min(after[last + 1], total)
        before = after
    return float(before[m])


def _grid(items: Items, x: Doubles, w: Doubles, clusters: int, epsilon: float, seed: int) -> tuple[Doubles, Doubles]:
    """Cells around near-optimal centers, as wide as their rows' distances to the means allow: epsilon times the cost found."""
    with one_blas_thread():
        centers = best_centers(items, clusters, Rng(seed), "k-median")
        shares = measure(items, items.blocks(), centers, "k-median")
    budget = epsilon * clustering_cost(items, centers, "k-median")
    offsets = x - centers.astype(np.float64)[shares.labels]
    radius = budget / (epsilon * float(w.sum()))
    if radius == 0.0:
        return _cell_means(x, w, shares.labels[:, None].astype(np.int64))[:2]
    rings = np.maximum(np.ceil(np.log2(np.maximum(np.linalg.norm(offsets, axis=1), radius) / radius)), 0)
    best = None
    fine, wide = -20.0, 4.0  # logarithms of the cells' width, of their ring's radius
    while best is None:
        best = _within(x, w, offsets, shares.labels, rings, radius * 2.0**fine, budget)
        fine -= 20.0 * (best is None)
    for _ in range(STEPS):
        width = 0.5 * (fine + wide)
        cells = _within(x, w, offsets, shares.labels, rings, radius * 2.0**width, budget)
        if cells is None:
            wide = width
        else:
            fine, best = width, cells
    return best


def _within(
    x: Doubles,
    w: Doubles,
    offsets: Doubles,
    labels: NDArray[np.int32],
    rings: Doubles,
    width: float,
    budget: float,
) -> tuple[Doubles, Doubles] | None:
    """Means and weights of the cells of this width, or None where rows are farther from them than the budget allows."""
    cells = np.floor(offsets / (width * 2.0 ** rings[:, None]))
    means, sums, home = _cell_means(x, w, np.column_stack([labels, rings, cells]))
    moved = float(np.dot(w, np.linalg.norm(x - means[home], axis=1)))
    return (means, sums) if moved <= budget else None


def _cell_means(x: Doubles, w: Doubles, keys: NDArray[Any]) -> tuple[Doubles, Doubles, NDArray[np.int64]]:
    """Mean and weight of the rows that share a key, in the keys' order, and the cell of each row."""
    order = np.lexsort(keys.T)
    begins = np.concatenate([[True], (keys[order[1:]] != keys[order[:-1]]).any(axis=1)])
    home = np.empty(len(x), np.int64)
    home[order] = np.cumsum(begins) - 1
    first = order[begins]
    sums = np.bincount(home, w)
    origin = x[first]
    moments = [np.bincount(home, w * (x[:, j] - origin[home, j])) for j in range(x.shape[1])]
    means: Doubles = origin + np.stack(moments, axis=1) / sums[:, None]
    return means, sums.astype(np.float64), home

"""Sparse rows against centers, by an inverted index: only what rows and centers share is multiplied, and not all of that.

A row's best center so far (its last one, in rounds of k-means) says how much another must reach. Columns whose largest
possible share cannot lift any center that high are left out of the sum; what they could add at most decides which centers are
multiplied out. So the answer is that of all products, whatever was left out. After "Efficient Sparse Spherical k-Means for
Document Clustering" (Knittel, Koch and Ertl, DocEng 2021); the bound by columns is MaxScore's (Turtle and Flood, 1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.distance import WIDE, squared_distance
from kofn.core.jit import kernel, one_form

SLACK = 1e-12
"""What rounding may do to a product in float64, relative to the squared lengths of row and center together."""

CLOSE = 1e-6
"""A squared distance this small, relative to the same, is computed again by differences: 0 comes out as 0."""

LEFT_OUT = 0.5
"""How much of what could be left out is: the less is known of the others, the more centers must be multiplied out."""

Ids = NDArray[np.int32]
Labels = tuple[NDArray[np.int32], Floats]


@dataclass(frozen=True, eq=False)
class CenterIndex:
    """Which centers have something in a column.

    Parameters
    ----------
    points : float32 (k, d)
        The centers.
    """

    points: Floats

    def prepare(self) -> None:
        """Make everything that is made once."""
        _ = self.columns, self.reach, self.half

    @cached_property
    def columns(self) -> tuple[NDArray[np.int64], Ids, Floats]:
        """Column j's centers and their values are at `starts[j]:starts[j + 1]` of the second and third array."""
        points = one_form(self.points)
        starts = np.zeros(points.shape[1] + 1, np.int64)
        _count(points, starts)
        np.cumsum(starts, out=starts)
        ids, entries = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
        _list(points, starts[:-1].copy(), ids, entries)
        return starts, ids, entries

    @cached_property
    def reach(self) -> tuple[Floats, Floats]:
        """The largest and the smallest value in each column, 0 among them, float32 (d,)."""
        return np.maximum(self.points.max(axis=0), 0), np.minimum(self.points.min(axis=0), 0)

    @cached_property
    def half(self) -> Doubles:
        """Half the squared length of each center, float64 (k,)."""
        wide = np.zeros(len(self.points))
        _, ids, entries = self.columns
        _half_squares(one_form(ids), one_form(entries), wide)
        return wide


def nearest_of_sparse(x: Any, index: CenterIndex, hints: Ids | None = None) -> tuple[Labels, int]:
    """For each sparse row: the nearest center (lowest number on ties), and the squared distance to it.

    Parameters
    ----------
    x : csr (m, d) of float32
        The rows.
    index : CenterIndex
        What to measure against.
    hints : int32 (m,), optional
        A center that is likely near to each row. It never changes the answer.

    Returns
    -------
    (labels int32 (m,), squared float32 (m,))
    products : int
        Pairs of a row and a center that were multiplied out; m k without an index.
    """
    m = x.shape[0]
    labels, squared = np.empty(m, np.int32), np.empty(m, np.float32)
    likely = np.full(m, -1, np.int32) if hints is None else hints
    rows = one_form(x.indptr.astype(np.int64)), one_form(x.indices.astype(np.int32)), one_form(x.data)
    lists = tuple(one_form(part) for part in index.columns)
    products = _nearest(rows, lists, index.reach, index.half, one_form(index.points), one_form(likely), labels, squared)
    return (labels, squared), int(products)


def fold_sparse(x: Any, index: CenterIndex, bound: Floats) -> Floats:
    """min(bound, squared distance to the nearest of the centers), float32 (m,)."""
    return np.minimum(bound, nearest_of_sparse(x, index)[0][1])


def squares_of_sparse(x: Any, index: CenterIndex, start: int, out: Doubles) -> None:
    """Squared distances of `len(out)` rows from `start` on to every center, float64 (rows, k)."""
    part = x[start : start + len(out)]
    rows = one_form(part.indptr.astype(np.int64)), one_form(part.indices.astype(np.int32)), one_form(part.data)
    _squares(rows, tuple(one_form(each) for each in index.columns), index.half, one_form(index.points), out)


def add_sparse(x: Any, labels: Ids, weights: Doubles, sums: Doubles) -> None:
    """Add each row, times its weight, to the sum of its label; float64 (k, d)."""
    rows = one_form(x.indptr.astype(np.int64)), one_form(x.indices.astype(np.int32)), one_form(x.data)
    _add(*rows, labels, weights, sums)


@kernel
def _count(points: Floats, starts: NDArray[np.int64]) -> None:
    for c in range(len(points)):
        point = points[c]
        for j in range(len(point)):
            if point[j] != 0:
                starts[j + 1] += 1


@kernel
def _list(points: Floats, free: NDArray[np.int64], ids: Ids, entries: Floats) -> None:
    for c in range(len(points)):
        point = points[c]
        for j in range(len(point)):
            if point[j] != 0:
                ids[free[j]], entries[free[j]] = c, point[j]
                free[j] += 1


@kernel
def _half_squares(ids: Ids, entries: Floats, out: Doubles) -> None:
    for p in range(len(ids)):  # column by column: each center's squares are added in the order of its columns
        out[ids[p]] += 0.5 * (np.float64(entries[p]) * np.float64(entries[p]))


@kernel
def product_with(columns: Ids, values: Floats, point: Floats) -> float:
    """Product of a sparse row and a dense one, float64, added in the order of the sparse row's columns."""
    total = 0.0
    for at in range(len(columns)):
        total += np.float64(values[at]) * np.float64(point[columns[at]])
    return total


@kernel
def _left_out(
    columns: Ids, values: Floats, starts: Any, high: Floats, low: Floats, budget: float, out: Any
) -> tuple[float, float]:
    """Mark long columns that may be left out: how much the marked can add at most, and take away at most."""
    m = len(columns)
    typical = np.float64(starts[-1]) / len(high)  # entries of a column: shorter ones are not worth leaving out
    above, below = 0.0, 0.0
    for at in range(m):
        out[at] = False
    for share in (0.125, 0.5, 1.0):  # first what is cheap for the entries it saves
        for at in range(m):
            j, v = columns[at], np.float64(values[at])
            entries = starts[j + 1] - starts[j]
            most = max(v * high[j], v * low[j])
            if not out[at] and entries > typical and most <= share * budget and above + most < budget:
                above += most
                below += min(v * high[j], v * low[j])
                out[at] = True
    return above, below


@kernel
def _gather(
    columns: Ids, values: Floats, skipped: Any, starts: Any, ids: Ids, entries: Floats, scores: Doubles
) -> None:
    for at in range(len(columns)):
        if not skipped[at]:
            j, v = columns[at], np.float64(values[at])
            for p in range(starts[j], starts[j + 1]):
                scores[ids[p]] += v * np.float64(entries[p])


@kernel
def _apart(columns: Ids, values: Floats, point: Floats, row: Floats, sums: Doubles) -> float:
    """Squared distance by differences; `row` is room for a dense row, zeros before and after."""
    for at in range(len(columns)):
        row[columns[at]] += values[at]
    squared = squared_distance(row, point, sums)
    for at in range(len(columns)):
        row[columns[at]] = 0.0
    return squared


@kernel
def _nearest(
    rows: Any, lists: Any, reach: Any, half: Doubles, points: Floats, hints: Ids, labels: Ids, squared: Floats
) -> int:
    indptr, indices, data = rows
    starts, ids, entries = lists
    high, low = reach
    k, d = points.shape
    least, widest = half.min(), half.max()
    longest = 0
    for i in range(len(labels)):
        longest = max(longest, indptr[i + 1] - indptr[i])
    scores, skipped, products = np.empty(k), np.zeros(longest, np.bool_), 0
    row, sums = np.zeros(d, np.float32), np.empty(WIDE)
    for i in range(len(labels)):
        columns, values = indices[indptr[i] : indptr[i + 1]], data[indptr[i] : indptr[i + 1]]
        length = 0.0
        for v in values:
            length += np.float64(v) * np.float64(v)
        slack = SLACK * (length + 2.0 * widest)
        found, best, above, below = -1, -np.inf, 0.0, 0.0
        if hints[i] >= 0:
            found = hints[i]
            best = product_with(columns, values, points[found]) - half[found]
            products += 1
            above, below = _left_out(columns, values, starts, high, low, LEFT_OUT * (best + least - slack), skipped)
        else:
            skipped[: len(columns)] = False
        for c in range(k):
            scores[c] = -half[c]
        _gather(columns, values, skipped, starts, ids, entries, scores)
        limit = best
        for c in range(k):
            limit = max(limit, scores[c] + below)
        limit -= above + slack
        for c in range(k):
            if scores[c] >= limit and c != hints[i]:
                score = product_with(columns, values, points[c]) - half[c]
                products += 1
                if score > best or (score == best and c < found):
                    best, found = score, c
        labels[i] = found
        apart = length - 2.0 * best
        if apart <= CLOSE * (length + 2.0 * half[found]):
            apart = _apart(columns, values, points[found], row, sums)
        squared[i] = apart
    return products


@kernel
def _squares(rows: Any, lists: Any, half: Doubles, points: Floats, out: Doubles) -> None:
    indptr, indices, data = rows
    starts, ids, entries = lists
    k, d = points.shape
    longest = 0
    for i in range(len(out)):
        longest = max(longest, indptr[i + 1] - indptr[i])
    skipped, row, sums = np.zeros(longest, np.bool_), np.zeros(d, np.float32), np.empty(WIDE)
    for i in range(len(out)):
        columns, values = indices[indptr[i] : indptr[i + 1]], data[indptr[i] : indptr[i + 1]]
        length = 0.0
        for v in values:
            length += np.float64(v) * np.float64(v)
        out[i] = 0.0
        _gather(columns, values, skipped, starts, ids, entries, out[i])
        for c in range(k):
            apart = length + 2.0 * half[c] - 2.0 * out[i, c]
            if apart <= CLOSE * (length + 2.0 * half[c]):
                apart = _apart(columns, values, points[c], row, sums)
            out[i, c] = apart


@kernel
def _add(indptr: NDArray[np.int64], indices: Ids, data: Floats, labels: Ids, weights: Doubles, sums: Doubles) -> None:
    for i in range(len(labels)):
        total, w = sums[labels[i]], weights[i]
        for at in range(indptr[i], indptr[i + 1]):
            total[indices[at]] += w * np.float64(data[at])

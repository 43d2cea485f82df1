"""Centers of sparse rows that stay sparse: sums of clusters by what their rows hold, and how far centers move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.jit import kernel, one_form

Ids = NDArray[np.int32]
Starts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SparseSums:
    """Sums of the rows of k clusters: cluster c's columns and their sums are at `starts[c]:starts[c + 1]`.

    Columns are in the order in which the rows bring them. That, and the order of additions, follows from the rows' order
    alone, so `a + b` gives the same bits on any engine.

    Attributes
    ----------
    starts : int64 (k + 1,)
    columns : int32 (nnz,)
    sums : float64 (nnz,)
    d : int
        Number of columns there may be.
    """

    starts: Starts
    columns: Ids
    sums: Doubles
    d: int

    def __add__(self, other: SparseSums) -> SparseSums:
        """Sums over both; O(nnz) time."""
        room = min(len(self.columns) + len(other.columns), (len(self.starts) - 1) * self.d)
        starts, columns, sums = np.zeros_like(self.starts), np.empty(room, np.int32), np.empty(room)
        used = _merge(self.parts, other.parts, np.empty(self.d), np.zeros(self.d, np.int64), starts, columns, sums)
        return SparseSums(starts, columns[:used].copy(), sums[:used].copy(), self.d)

    @property
    def lengths(self) -> Doubles:
        """Length of each sum, float64 (k,)."""
        return np.sqrt(2.0 * half_squares(self.parts))

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        """The arrays, as kernels take them."""
        return one_form(self.starts), one_form(self.columns), one_form(self.sums)


def sums_of_clusters(x: Any, labels: Ids, weights: Doubles, k: int) -> SparseSums:
    """Sum of each cluster's rows, times their weights. O(nnz + d) time, 12 bytes a number at most.

    Parameters
    ----------
    x : csr (m, d) of float32
        The rows.
    labels : int32 (m,)
        Cluster of each row, below k.
    weights : float64 (m,)
        How much each row counts.
    """
    d = int(x.shape[1])
    ends = np.cumsum(np.bincount(labels, minlength=k))
    order = np.argsort(labels, kind="stable")  # rows in their own order within a cluster
    room = min(x.nnz, k * d)
    starts, columns, sums = np.zeros(k + 1, np.int64), np.empty(room, np.int32), np.empty(room)
    used = _sum(rows_of(x), order, ends, weights, np.empty(d), np.zeros(d, np.int64), starts, columns, sums)
    return SparseSums(starts, columns[:used].copy(), sums[:used].copy(), d)


def rows_of(x: Any) -> tuple[Any, Any, Any]:
    """(starts int64, columns int32, values float32) of sparse rows, as kernels take them; views where they can be."""
    return (
        one_form(x.indptr.astype(np.int64)),
        one_form(x.indices.astype(np.int32, copy=False)),
        one_form(x.data.astype(np.float32, copy=False)),
    )


def column_lists(rows: tuple[Any, Any, Any], d: int) -> tuple[Any, Any, Any]:
    """Sparse rows by column. O(nnz + d) time.

    Returns
    -------
    (starts int64 (d + 1,), ids int32 (nnz,), values float32 (nnz,))
        The rows that have something in column j, ascending, and their values are at `starts[j]:starts[j + 1]`.
    """
    columns = rows[1]
    starts = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=d))]).astype(np.int64)
    ids, values = np.empty(len(columns), np.int32), np.empty(len(columns), np.float32)
    _list(rows, starts[:-1].copy(), ids, values)
    return one_form(starts), one_form(ids), one_form(values)


def half_squares(rows: tuple[Any, Any, Any]) -> Doubles:
    """Half the squared length of each sparse row, float64."""
    out = np.empty(len(rows[0]) - 1)
    _half_squares(rows, out)
    return out


@dataclass(frozen=True, eq=False)
class Moved:
    """How centers moved: each is the old one times a factor, plus a rest.

    The factor is what the cluster's scale has changed by. So the rest is what the rows bring that joined or left, which is
    little in all but the first rounds: rows without its columns gain nothing by it.

    Attributes
    ----------
    changed : bool (k,)
        Which centers have changed in any bit.
    factors : (float, float)
        The smallest and the largest, 1 among them.
    halves : (float, float)
        The smallest and the largest half squared length before.
    shorter : float
        By how much a half squared length has fallen at most; at least 0.
    least, most : float64 (d,)
        The smallest and the largest value of a rest in each column, 0 among them.
    """

    changed: NDArray[np.bool_]
    factors: tuple[float, float]
    halves: tuple[float, float]
    shorter: float
    least: Doubles
    most: Doubles


class SparseCenters:
    """k centers that remember which of their columns are not 0.

    Parameters
    ----------
    x : csr (k, d) of float32
        The centers.

    Attributes
    ----------
    points : float32 (k, d)
        The same, dense: moves write only what changes.
    half : float64 (k,)
        Half of each squared length.
    """

    def __init__(self, x: Any) -> None:
        self.rows = rows_of(x)
        self.points: Floats = x.toarray()
        self.half = half_squares(self.rows)
        self._scale = np.ones(len(self.half))

    def move(self, totals: SparseSums, scale: Doubles, kept: NDArray[np.bool_]) -> Moved:
        """Put each center where its cluster's sum over its scale is, but for those that are kept. O(nnz + d) time."""
        sizes = np.where(kept, np.diff(self.rows[0]), np.diff(totals.starts))
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
        _place(self.rows, totals.parts, scale, kept, starts, columns, values)
        scale = np.where(kept, self._scale, scale)
        scale = np.where(kept, self._scale, scale)
        return self._become((one_form(starts), one_form(columns), one_form(values)), scale)

    def replaced(self, which: Any, x: Any) -> SparseCenters:
        """The same centers, but for these: they are where the rows `x`, csr, are."""
        from scipy.sparse import csr_matrix, vstack

        starts, columns, values = self.rows
        order = np.arange(len(self.half))
        order[which] = len(order) + np.arange(len(which))
        both = vstack([csr_matrix((values, columns, starts), shape=self.points.shape), x]).tocsr()
        return SparseCenters(both[order])

    def _become(self, rows: tuple[Any, Any, Any], scale: Doubles) -> Moved:
        k, d = self.points.shape
        factors, changed, least, most = self._scale / scale, np.empty(k, np.bool_), np.zeros(d), np.zeros(d)
        _move(self.rows, rows, factors, np.zeros(d, np.float32), self.points, changed, least, most)
        before, self.rows, self.half, self._scale = self.half, rows, half_squares(rows), scale
        factors = factors[changed]
        return Moved(
            changed,
            (float(factors.min(initial=1.0)), float(factors.max(initial=1.0))),
            (float(before.min()), float(before.max())),
            max(float((before - self.half).max()), 0.0),
            least,
            most,
        )


@kernel
def _sum(
    rows: Any, order: Starts, ends: Starts, weights: Doubles, total: Doubles, last: Starts, starts: Starts, columns: Ids,
    sums: Doubles,
) -> int:  # fmt: skip
    """Cluster by cluster into `total`, a dense row; `last` says for which cluster it was last begun."""
    indptr, indices, data = rows
    used, first = 0, 0
    for c in range(len(ends)):
        for i in order[first : ends[c]]:
            w = weights[i]
            for at in range(indptr[i], indptr[i + 1]):
                j = indices[at]
                if last[j] != c + 1:
                    last[j] = c + 1
                    total[j] = 0.0
                    columns[used] = j
                    used += 1
                total[j] += w * np.float64(data[at])
        first = ends[c]
        starts[c + 1] = used
        for p in range(starts[c], used):
            sums[p] = total[columns[p]]
    return used


@kernel
def _merge(left: Any, right: Any, total: Doubles, last: Starts, starts: Starts, columns: Ids, sums: Doubles) -> int:
    used = 0
    for c in range(len(starts) - 1):
        for part_starts, part_columns, part_sums in (left, right):
            for at in range(part_starts[c], part_starts[c + 1]):
                j = part_columns[at]
                if last[j] != c + 1:
                    last[j] = c + 1
                    total[j] = 0.0
                    columns[used] = j
                    used += 1
                total[j] += part_sums[at]
        starts[c + 1] = used
        for p in range(starts[c], used):
            sums[p] = total[columns[p]]
    return used


@kernel
def _place(
    old: Any, totals: Any, scale: Doubles, kept: NDArray[np.bool_], starts: Starts, columns: Ids, values: Floats
) -> None:
    old_starts, old_columns, old_values = old
    sum_starts, sum_columns, sums = totals
    for c in range(len(kept)):
        if kept[c]:
            for at in range(starts[c + 1] - starts[c]):
                columns[starts[c] + at] = old_columns[old_starts[c] + at]
                values[starts[c] + at] = old_values[old_starts[c] + at]
        else:
            for at in range(starts[c + 1] - starts[c]):
                columns[starts[c] + at] = sum_columns[sum_starts[c] + at]
                values[starts[c] + at] = sums[sum_starts[c] + at] / scale[c]


@kernel
def _list(rows: Any, free: Starts, ids: Ids, values: Floats) -> None:
    starts, columns, entries = rows
    for c in range(len(starts) - 1):
        for at in range(starts[c], starts[c + 1]):
            j = columns[at]
            ids[free[j]], values[free[j]] = c, entries[at]
            free[j] += 1


@kernel
def _half_squares(rows: Any, out: Doubles) -> None:
    starts, _, values = rows
    for c in range(len(out)):
        total = 0.0
        for at in range(starts[c], starts[c + 1]):
            total += 0.5 * (np.float64(values[at]) * np.float64(values[at]))
        out[c] = total


@kernel
def _move(
    old: Any, new: Any, factors: Doubles, before: Floats, points: Floats, changed: NDArray[np.bool_], least: Doubles,
    most: Doubles,
) -> None:  # fmt: skip
    """Rewrite the dense centers and note the rests; `before` is room for a dense row, zeros before and after."""
    old_starts, old_columns, old_values = old
    starts, columns, values = new
    for c in range(len(changed)):
        first, size = old_starts[c], old_starts[c + 1] - old_starts[c]
        same, at = size == starts[c + 1] - starts[c], 0
        while same and at < size:  # a cluster of the same rows brings the same columns in the same order
            was, now = first + at, starts[c] + at
            same = old_columns[was] == columns[now] and old_values[was] == values[now]
            at += 1
        changed[c] = not same
        if same:
            continue
        for at in range(first, first + size):
            before[old_columns[at]] = old_values[at]
            points[c, old_columns[at]] = 0.0
        for at in range(starts[c], starts[c + 1]):
            j = columns[at]
            rest = np.float64(values[at]) - factors[c] * np.float64(before[j])
            least[j], most[j] = min(least[j], rest), max(most[j], rest)
            points[c, j] = values[at]
            before[j] = 0.0
        for at in range(first, first + size):  # columns that are gone
            j = old_columns[at]
            rest = -factors[c] * np.float64(before[j])
            least[j], most[j] = min(least[j], rest), max(most[j], rest)
            before[j] = 0.0


@kernel
def apart_of_sparse(columns: Ids, values: Floats, center_columns: Ids, center_values: Floats, room: Floats) -> float:
    """Squared distance of two sparse rows by differences; `room` is a dense row, zeros before and after."""
    squared = 0.0
    for at in range(len(columns)):
        room[columns[at]] += values[at]
    for at in range(len(center_columns)):
        change = np.float64(room[center_columns[at]]) - np.float64(center_values[at])
        squared += change * change
        room[center_columns[at]] = 0.0
    for at in range(len(columns)):  # what the center has not
        rest = np.float64(room[columns[at]])
        squared += rest * rest
        room[columns[at]] = 0.0
    return squared

"""What rows are apart: blocks of dissimilarities for a metric, a callable or a matrix, in fixed shapes.

A block's entry (i, j) says how badly row `first[i]` stands for row `second[j]`. Every consumer asks for blocks by lists of row
numbers, so what it computes depends on the lists alone, never on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import TILE, Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.distance import WIDE, Centers, nearest_in_tile, squared_distance
from kofn.core.jit import kernel, one_form
from kofn.core.products import finite_product
from kofn.core.scratch import scratch
from kofn.errors import DataError, InvalidRows

PIECE, CHUNK = 256, 2048
"""Rows and columns of a block that is filled at once: 2 MiB, so it stays in the cache until it is read."""

LANES = 64  # fewer are not made into vector instructions

FEW, SOME = 64, 1024  # the same for a caller's function, which may hold (FEW, SOME, d) numbers

NEAR = 1e-3
"""Squared distances below this share of the two squared lengths are computed by differences: products lose them."""

METRICS = ("euclidean", "sqeuclidean", "manhattan", "cosine", "precomputed")

Labels = NDArray[np.int32]
Function = Callable[..., Any]


class Dissimilarity(Protocol):
    """n rows, and what any of them are apart."""

    @property
    def n(self) -> int:
        """Number of rows."""

    def fill(self, first: Rows, second: Rows, out: Floats) -> None:
        """Write the dissimilarities of at most `PIECE` rows to at most `CHUNK` rows into `out`, float32 (m, c)."""


@dataclass(frozen=True, eq=False)
class Euclidean:
    """Euclidean distances of vectors, or their squares, by products; what products cannot tell, by differences.

    Parameters
    ----------
    rows : float32 (n, d)
        The vectors.
    root : bool
        False: the squares.

    Notes
    -----
    4 bytes a row beside the rows. Relative error of a distance at most about 1e-4.
    """

    rows: Floats
    root: bool = True

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @cached_property
    def mean(self) -> Floats:
        """The rows' mean, float32 (d,): squares are expanded around it."""
        return self.rows.mean(axis=0, dtype=np.float64).astype(np.float32)

    @cached_property
    def squares(self) -> Floats:
        """Squared length of each row less the mean, float32 (n,)."""
        out = np.empty(self.n, np.float32)
        for at in range(0, self.n, CHUNK):
            shifted = self.rows[at : at + CHUNK] - self.mean
            with np.errstate(over="ignore"):
                out[at : at + CHUNK] = np.einsum("ij,ij->i", shifted, shifted, dtype=np.float64)
        if not np.isfinite(4 * out.max()):
            raise DataError(
                "squared distances between these rows do not fit in float32; scale the rows down, "
                "for example to a largest absolute value of 1"
            )
        return out

    def fill(self, first: Rows, second: Rows, out: Floats) -> None:
        """O(m c d) time."""
        a, b = self.rows[first], self.rows[second]
        a -= self.mean
        b -= self.mean
        products = finite_product(a, b.T, out=scratch("products", len(first), len(second)))
        _from_products(products, self.squares[first], self.squares[second], self.rows, first, second, self.root, out)


@dataclass(frozen=True, eq=False)
class Manhattan:
    """Sums of absolute differences of vectors, accumulated in float64."""

    rows: Floats

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def fill(self, first: Rows, second: Rows, out: Floats) -> None:
        """O(m c d) time."""
        _absolute(one_form(self.rows[first]), one_form(self.rows[second]), out)


@dataclass(frozen=True, eq=False)
class Given:
    """What a caller's function says of vectors: `function(a (m, d), b (c, d))` gives (m, c) numbers."""

    rows: Floats
    function: Function

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def fill(self, first: Rows, second: Rows, out: Floats) -> None:
        """Calls with at most `FEW` and `SOME` rows each. Raises `DataError` for a result that is no such table."""
        for at in range(0, len(first), FEW):
            for left in range(0, len(second), SOME):
                part = out[at : at + FEW, left : left + SOME]
                a, b = self.rows[first[at : at + FEW]], self.rows[second[left : left + SOME]]
                values = np.asarray(self.function(a, b))
                if values.shape != part.shape:
                    raise DataError(
                        f"metric gave an array of shape {values.shape} for {len(a)} and {len(b)} rows; "
                        f"it must give one number for each pair, shape {part.shape}"
                    )
                if not (values.dtype.kind in "fiub" and np.isfinite(values).all() and (values >= 0).all()):
                    raise DataError("metric gave values that are no finite numbers >= 0; a dissimilarity must be one")
                part[...] = values


@dataclass(frozen=True, eq=False)
class Matrix:
    """Dissimilarities that are known: entry (i, j) of a square matrix says how badly row i stands for row j.

    Parameters
    ----------
    matrix : float32 or float64 (n, n), C-contiguous
        Need not be symmetric. May be memory-mapped: it is read row by row, never copied as a whole.
    """

    matrix: NDArray[Any]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.matrix)

    def fill(self, first: Rows, second: Rows, out: Floats) -> None:
        """O(m c) time."""
        _gather(self.matrix, first, second, out)


def between(x: Any, metric: str | Function) -> Dissimilarity:
    """The dissimilarity of rows.

    Parameters
    ----------
    x : float32 (n, d)
        Rows, of length one under "cosine"; with "precomputed" the (n, n) matrix, float32 or float64.
    metric : one of `METRICS`, or a callable
        "euclidean" and "cosine" are not squared.
    """
    if not isinstance(metric, str):
        return Given(x, metric)
    if metric == "precomputed":
        return Matrix(x)
    if metric == "manhattan":
        return Manhattan(x)
    euclidean = Euclidean(one_form(x), root=metric != "sqeuclidean")
    assert len(euclidean.squares) == euclidean.n  # made before threads could make them twice
    return euclidean


def checked_matrix(x: Any, runner: TileRunner = run_serially) -> NDArray[Any]:
    """A caller's (n, n) matrix as a read-only array, checked to be square, finite and not negative; never copied.

    Raises `DataError` with the mend, `InvalidRows` with the count and the first row that holds a wrong number.
    """
    shape = tuple(x.shape)
    if shape[0] != shape[1]:
        raise DataError(
            f"metric='precomputed' needs a square matrix of dissimilarities, not {shape[0]} x {shape[1]}; "
            "for vectors name their metric, such as 'euclidean'"
        )
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64) or not x.flags.c_contiguous:
        kind = f"{x.dtype}, {'not C-contiguous' if isinstance(x, np.ndarray) else 'sparse'}"
        raise DataError(
            f"metric='precomputed' needs float32 or float64 rows in C order, not {kind}; "
            "give np.ascontiguousarray(matrix, np.float32), of a sparse one matrix.toarray()"
        )
    matrix = one_form(np.asarray(x))
    wrong = _wrong_rows(matrix, runner)
    if len(wrong):
        low = np.nanmin(matrix[wrong[0]])
        what, mend = ("a negative number", "give dissimilarities, for example 1 - similarity")
        if not low < 0:
            what, mend = "NaN or infinity", "mend them"
        raise InvalidRows(
            f"the matrix holds {what} in {len(wrong):,} of {len(matrix):,} rows, the first at row {wrong[0]}; {mend}",
            int(wrong[0]),
        )
    return matrix


def _wrong_rows(matrix: NDArray[Any], runner: TileRunner) -> Rows:
    calls = [(matrix[at : at + PIECE],) for at in range(0, len(matrix), PIECE)]
    return np.flatnonzero(np.concatenate(runner(_wrong, calls)))


def table(dis: Dissimilarity, first: Rows, second: Rows, runner: TileRunner = run_serially) -> NDArray[Any]:
    """All dissimilarities of `first` to `second`, float32 (len(first), len(second)); a whole matrix is handed out as it is."""
    if isinstance(dis, Matrix) and len(first) == len(second) == dis.n:
        everything = np.arange(dis.n)
        if np.array_equal(first, everything) and np.array_equal(second, everything):
            return dis.matrix
    out = np.empty((len(first), len(second)), np.float32)
    runner(
        _fill_strip, [(dis, first[at : at + PIECE], second, out[at : at + PIECE]) for at in range(0, len(first), PIECE)]
    )
    return one_form(out)


def _fill_strip(dis: Dissimilarity, first: Rows, second: Rows, out: Floats) -> None:
    for left in range(0, len(second), CHUNK):
        dis.fill(first, second[left : left + CHUNK], out[:, left : left + CHUNK])


def nearest(
    dis: Dissimilarity, points: Rows, runner: TileRunner = run_serially, rows: Rows | None = None
) -> tuple[Labels, Floats]:
    """For every row, or for these, the nearest of `points`: its position among them (the lowest on ties), and how far it is.

    Returns
    -------
    labels : int32 (n,)
    distances : float32 (n,)
        O(n len(points)) dissimilarities, 8 bytes a row.
    """
    if isinstance(dis, Euclidean):
        return _nearest_vectors(dis, points, runner, rows)
    rows = np.arange(dis.n) if rows is None else rows
    labels, distances = np.zeros(len(rows), np.int32), np.full(len(rows), np.inf, np.float32)
    cuts = [slice(at, at + CHUNK) for at in range(0, len(rows), CHUNK)]
    runner(_nearest_in_chunk, [(dis, points, rows[cut], labels[cut], distances[cut]) for cut in cuts])
    return labels, distances


def _nearest_vectors(dis: Euclidean, points: Rows, runner: TileRunner, rows: Rows | None) -> tuple[Labels, Floats]:
    """By the pass that all of kofn assigns rows with: its distances are exact to rounding."""
    centers = Centers(dis.rows[points])
    count = dis.n if rows is None else len(rows)
    cuts: list[Any] = [slice(at, at + TILE) for at in range(0, count, TILE)]
    found = runner(_nearest_in_tile, [(dis, cut if rows is None else rows[cut], centers) for cut in cuts])
    distances = np.concatenate([squared for _, squared in found])
    return np.concatenate([labels for labels, _ in found]), np.sqrt(distances) if dis.root else distances


def _nearest_in_tile(dis: Euclidean, rows: Any, centers: Centers) -> tuple[Labels, Floats]:
    return nearest_in_tile(0, dis.rows[rows], centers)


def _nearest_in_chunk(dis: Dissimilarity, points: Rows, rows: Rows, labels: Labels, distances: Floats) -> None:
    for at in range(0, len(points), PIECE):
        part = points[at : at + PIECE]
        block = scratch("nearest", len(part), len(rows))
        dis.fill(part, rows, block)
        _lower(block, at, labels, distances)


def nearest_among(dis: Dissimilarity, points: Rows, rows: Rows) -> Floats:
    """Distance of each of these rows to the nearest of `points`, float32."""
    distances = np.full(len(rows), np.inf, np.float32)
    for at in range(0, len(points), PIECE):
        part = points[at : at + PIECE]
        for left in range(0, len(rows), CHUNK):
            some = rows[left : left + CHUNK]
            block = scratch("nearest", len(part), len(some))
            dis.fill(part, some, block)
            np.minimum(distances[left : left + CHUNK], block.min(axis=0), out=distances[left : left + CHUNK])
    return distances


def totals(dis: Dissimilarity, first: Rows, second: Rows, weights: Doubles) -> Doubles:
    """Weighted sums of the dissimilarities of each of `first` to all of `second`, float64; `weights` go with `second`."""
    sums = np.zeros(len(first))
    for at in range(0, len(first), PIECE):
        part = first[at : at + PIECE]
        for left in range(0, len(second), CHUNK):
            others = second[left : left + CHUNK]
            block = scratch("totals", len(part), len(others))
            dis.fill(part, others, block)
            add_rows(block, weights[left : left + CHUNK], sums[at : at + PIECE])
    return sums


@kernel
def add_rows(block: NDArray[Any], weights: Doubles, sums: Doubles) -> None:
    """Add each row's weighted sum; sixteen partial sums in a fixed order, float64."""
    lanes = np.empty(16)
    c = block.shape[1]
    whole = c - c % 16
    for i in range(block.shape[0]):
        for lane in range(16):
            lanes[lane] = 0.0
        for j in range(0, whole, 16):
            for lane in range(16):
                lanes[lane] += weights[j + lane] * block[i, j + lane]
        total = 0.0
        for lane in range(16):
            total += lanes[lane]
        for j in range(whole, c):
            total += weights[j] * block[i, j]
        sums[i] += total


@kernel
def _lower(block: Floats, at: int, labels: Labels, distances: Floats) -> None:
    for i in range(block.shape[0]):
        row, label = block[i], np.int32(at + i)
        for j in range(len(row)):
            better = row[j] < distances[j]
            labels[j] = label if better else labels[j]
            distances[j] = row[j] if better else distances[j]


@kernel
def _from_products(
    product: Floats, q_i: Floats, q_j: Floats, rows: Floats, first: Rows, second: Rows, root: bool, out: Floats
) -> None:
    sums = np.empty(WIDE)
    two, zero, share = np.float32(2.0), np.float32(0.0), np.float32(NEAR)
    for i in range(product.shape[0]):
        p, q, into = product[i], q_i[i], out[i]
        close = np.int32(0)
        for j in range(len(p)):  # plain loops over single numbers are what is made into vector instructions
            both = q + q_j[j]
            squared = both - two * p[j]
            close += np.int32(squared <= share * both)
            into[j] = squared if squared > zero else zero
        if root:
            for j in range(len(p)):
                into[j] = np.sqrt(into[j])
        if close:
            _by_differences(p, q, q_j, rows, first[i], second, root, into, sums)


@kernel
def _by_differences(
    p: Floats, q: Any, q_j: Floats, rows: Floats, row: int, second: Rows, root: bool, into: Floats, sums: Doubles
) -> None:
    """Compute again what a row's products lose; such columns are few, and found by lanes."""
    two, share = np.float32(2.0), np.float32(NEAR)
    for start in range(0, len(p), LANES):
        stop, close = min(start + LANES, len(p)), np.int32(0)
        if stop - start == LANES:
            for lane in range(LANES):
                both = q + q_j[start + lane]
                close += np.int32(both - two * p[start + lane] <= share * both)
        if close or stop - start < LANES:
            for j in range(start, stop):
                both = q + q_j[j]
                if both - two * p[j] <= share * both:
                    exact = squared_distance(rows[row], rows[second[j]], sums)
                    into[j] = np.sqrt(exact) if root else exact


@kernel
def _absolute(a: Floats, b: Floats, out: Floats) -> None:
    d = a.shape[1]
    whole = d - d % 16
    lanes = np.empty(16)
    for i in range(len(a)):
        for j in range(len(b)):
            for lane in range(16):
                lanes[lane] = 0.0
            for t in range(0, whole, 16):
                for lane in range(16):
                    lanes[lane] += abs(np.float64(a[i, t + lane]) - np.float64(b[j, t + lane]))
            total = 0.0
            for lane in range(16):
                total += lanes[lane]
            for t in range(whole, d):
                total += abs(np.float64(a[i, t]) - np.float64(b[j, t]))
            out[i, j] = total


@kernel
def _gather(matrix: NDArray[Any], first: Rows, second: Rows, out: Floats) -> None:
    for i in range(len(first)):
        row = matrix[first[i]]
        for j in range(len(second)):
            out[i, j] = row[second[j]]


@kernel
def _wrong(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row holds anything but finite numbers >= 0."""
    bad = np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        row, count = rows[i], 0
        for j in range(len(row)):
            count += not (row[j] >= 0 and row[j] < np.inf)
        bad[i] = count > 0
    return bad

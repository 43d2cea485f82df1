"""Squared Euclidean distances by products, made safe: a mean taken off first, close calls settled by differences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.jit import kernel, one_form
from kofn.core.products import finite_product
from kofn.core.scratch import scratch

CLOSE = 1e-5
"""Scores this close, relative to the squared lengths behind them, are compared again by differences in float64."""

_PRODUCT = 1 << 20  # numbers in a product's result: it stays in the cache between the product and the scan
LANES, FEW = 64, 16

WIDE = 32
"""Partial sums of a distance: wide enough for any processor's vectors, and the same order of additions on all."""


@dataclass(frozen=True, eq=False)
class Centers:
    """k points that rows are measured against, made ready for products.

    Parameters
    ----------
    points : float32 (k, d)
        The centers.
    """

    points: Floats

    @cached_property
    def shift(self) -> Floats:
        """The centers' mean, float32 (d,): taken off rows and centers before squares are expanded."""
        return self.points.mean(axis=0, dtype=np.float64).astype(np.float32)

    @cached_property
    def shifted(self) -> Floats:
        """Centers less `shift`, float32 (k, d)."""
        return np.ascontiguousarray(self.points - self.shift)

    @cached_property
    def half_squares(self) -> Floats:
        """Half the squared length of each shifted center, float32 (k,)."""
        return (0.5 * np.einsum("ij,ij->i", self.shifted, self.shifted, dtype=np.float64)).astype(np.float32)

    @cached_property
    def index(self) -> Any:
        """The centers as sparse rows are measured against them: a `kofn.core.sparse.CenterIndex`."""
        from kofn.core.sparse import CenterIndex

        return CenterIndex(np.ascontiguousarray(self.points))

    @cached_property
    def piece(self) -> int:
        """Rows in one product: a power of two fixed by k alone, at most a tile."""
        return int(2 ** np.clip(np.floor(np.log2(_PRODUCT / max(1, len(self.points)))), 5, 12))


def nearest_in_tile(start: int, x: Any, centers: Centers, hints: Any = None) -> tuple[NDArray[np.int32], Floats]:
    """For each row of a tile: the nearest center (lowest number on ties), and the squared distance to it.

    Parameters
    ----------
    start : int
        Number of the tile's first row; unused.
    x : float32 (m, d), or csr
        The tile.
    centers : Centers
        What to measure against.
    hints : int32 (m,), optional
        A center that is likely near to each row: sparse rows leave out more for it. Never changes the answer.

    Returns
    -------
    labels : int32 (m,)
    squared : float32 (m,)
        Computed by differences in float64, so exact to rounding whatever the product lost.
    """
    if not isinstance(x, np.ndarray):
        from kofn.core.sparse import nearest_of_sparse

        return nearest_of_sparse(x, centers.index, hints)[0]
    return nearest_two(x, centers, only_nearest=True)[:2]


def nearest_two(x: Floats, centers: Centers, *, only_nearest: bool = False) -> tuple[NDArray[np.int32], Floats, Floats]:
    """As `nearest_in_tile` for dense rows, and a lower bound of each row's distance to every other center, float32 (m,)."""
    m = len(x)
    labels, squared = np.empty(m, np.int32), np.empty(m, np.float32)
    second = np.empty(0 if only_nearest else m, np.float32)
    size, lanes, sums = centers.piece, np.empty(LANES + FEW, np.float32), np.empty(WIDE)
    points = one_form(centers.points)
    for at in range(0, m, size):
        rows = one_form(x[at : at + size])
        shifted = np.subtract(rows, centers.shift, out=scratch("shifted", *rows.shape))
        products = finite_product(shifted, centers.shifted.T, out=scratch("products", len(rows), len(centers.points)))
        lengths = np.einsum("ij,ij->i", shifted, shifted)
        settled = labels[at : at + size], squared[at : at + size], second[at : at + size]
        _settle(products, lengths, centers.half_squares, rows, points, lanes, sums, *settled)
    return labels, squared, second


@kernel
def squared_distance(a: NDArray[Any], b: NDArray[Any], sums: Doubles) -> float:
    """Squared distance of two rows by differences, float64; `sums` is room for `WIDE` numbers.

    Additions go in an order that does not depend on the processor, nor on which row comes first. The room is lent because
    a loop over an array is what compilers turn into vector instructions.
    """
    d = len(a)
    whole, fours = d - d % WIDE, d - d % 4
    s0 = s1 = s2 = s3 = 0.0
    if whole:
        for lane in range(WIDE):
            sums[lane] = 0.0
        for j in range(0, whole, WIDE):
            for lane in range(WIDE):
                t = np.float64(a[j + lane]) - np.float64(b[j + lane])
                sums[lane] += t * t
        for lane in range(0, WIDE, 4):
            s0 += sums[lane]
            s1 += sums[lane + 1]
            s2 += sums[lane + 2]
            s3 += sums[lane + 3]
    for j in range(whole, fours, 4):
        t0 = np.float64(a[j]) - np.float64(b[j])
        t1 = np.float64(a[j + 1]) - np.float64(b[j + 1])
        t2 = np.float64(a[j + 2]) - np.float64(b[j + 2])
        t3 = np.float64(a[j + 3]) - np.float64(b[j + 3])
        s0 += t0 * t0
        s1 += t1 * t1
        s2 += t2 * t2
        s3 += t3 * t3
    for j in range(fours, d):
        t = np.float64(a[j]) - np.float64(b[j])
        s0 += t * t
    return (s0 + s2) + (s1 + s3)


@kernel
def _lane_minima(product: Floats, half_squares: Floats, lanes: Floats) -> np.float32:
    """Smallest score of a row; `lanes[LANES + l]` gets the smallest among centers l, l + FEW, ...

    Loops over lanes are what the compiler turns into vector instructions; a plain minimum over j it does not.
    """
    k = len(product)
    for lane in range(LANES):
        lanes[lane] = np.inf
    for step in range(k // LANES):
        for lane in range(LANES):
            v = half_squares[step * LANES + lane] - product[step * LANES + lane]
            lanes[lane] = min(v, lanes[lane])
    for j in range(k - k % LANES, k):
        lanes[j % LANES] = min(half_squares[j] - product[j], lanes[j % LANES])
    for lane in range(FEW):
        lanes[LANES + lane] = min(
            min(lanes[lane], lanes[lane + FEW]), min(lanes[lane + 2 * FEW], lanes[lane + 3 * FEW])
        )
    best = np.float32(np.inf)
    for lane in range(FEW):
        best = min(best, lanes[LANES + lane])
    return best


@kernel
def _settle(
    products: Floats,
    lengths: Floats,
    half_squares: Floats,
    rows: Floats,
    points: Floats,
    lanes: Floats,
    sums: Doubles,
    labels: NDArray[np.int32],
    squared: Floats,
    second: Floats,
) -> None:
    """Nearest center of each row from its products; centers within `CLOSE` of the best are compared by differences.

    Where `second` has room, it gets what the product leaves of the distance to the second nearest.
    """
    m, k = products.shape
    widest = np.float32(0.0)
    for j in range(k):
        widest = max(widest, half_squares[j])
    for i in range(m):
        best = _lane_minima(products[i], half_squares, lanes)
        limit = best + np.float32(CLOSE) * (np.float32(0.5) * lengths[i] + widest)
        found = -1
        least = np.inf
        for lane in range(FEW):
            if lanes[LANES + lane] <= limit:
                for j in range(lane, k, FEW):
                    if half_squares[j] - products[i, j] <= limit:
                        exact = squared_distance(rows[i], points[j], sums)
                        if exact < least or (exact == least and j < found):
                            least = exact
                            found = j
        labels[i] = found
        squared[i] = least
        if len(second):
            other = np.float32(np.inf)
            for lane in range(FEW):
                if lane != found % FEW:
                    other = min(other, lanes[LANES + lane])
            for j in range(found % FEW, k, FEW):
                if j != found:
                    other = min(other, half_squares[j] - products[i, j])
            lost = np.float64(CLOSE) * (np.float64(lengths[i]) + 2.0 * np.float64(widest))
            second[i] = np.sqrt(max(0.0, np.float64(lengths[i]) + 2.0 * np.float64(other) - lost))


def distances_to_point(x: Floats, point: Floats) -> Doubles:
    """Squared distance of every row to one point by differences, float64 (m,)."""
    out = np.empty(len(x), np.float64)
    _to_point(one_form(x), one_form(point), out)
    return out


@kernel
def _to_point(x: Floats, point: Floats, out: Doubles) -> None:
    sums = np.empty(WIDE)
    for i in range(len(x)):
        out[i] = squared_distance(x[i], point, sums)

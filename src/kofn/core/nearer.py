"""Which rows come nearer when centers are added: products to rule rows out, differences in float64 for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Doubles, Floats, Rows
from kofn.core.distance import CLOSE, LANES, Centers, nearest_in_tile
from kofn.core.jit import kernel
from kofn.core.scratch import scratch

WIDE = 32
"""Partial sums of a distance: wide enough for any processor's vectors, and the same order of additions on all."""

FEW = 2
"""Up to so many centers, differences cost less than a product and its check."""


def nearer_in_block(block: Block, centers: Centers, bound: Floats) -> Floats:
    """min(bound, squared distance to the nearest of the centers) of a slab's rows, float32 (m,)."""
    return np.concatenate(block.map_tiles(_nearer_in_tile, centers, each=bound))


def improvements_in_block(
    block: Block, candidates: Centers, bound: Floats
) -> tuple[NDArray[np.int32], Rows, Floats]:
    """Every pair of a candidate and a row that is nearer to it than its bound, by row and then candidate.

    Returns
    -------
    which : int32 (p,)
        Candidate.
    rows : int64 (p,)
        Global row number.
    squared : float32 (p,)
        Squared distance of the two, less than the row's bound.
    """
    parts = block.map_tiles(_improvements_in_tile, candidates, each=bound)
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def dense(x: Any) -> Floats:
    """Rows as an array, where they may be sparse."""
    return x if isinstance(x, np.ndarray) else np.asarray(x.toarray())


def _nearer_in_tile(start: int, x: Any, centers: Centers, bound: Floats) -> Floats:
    if len(centers.points) > FEW and np.isinf(bound[0]):
        return nearest_in_tile(start, x, centers)[1]  # nothing to rule a row out by
    rows, nearer = dense(x), bound.copy()
    if len(centers.points) <= FEW:
        _fold_few(rows, centers.points, nearer, np.empty(WIDE))
        return nearer
    size = centers.piece
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        products, lengths = _products(part, centers)
        _fold(products, lengths, centers.half_squares, part, centers.points, nearer[at : at + size], np.empty(WIDE))
    return nearer


def _improvements_in_tile(
    start: int, x: Any, candidates: Centers, bound: Floats
) -> tuple[NDArray[np.int32], Rows, Floats]:
    rows, size, found = dense(x), candidates.piece, []
    for at in range(0, len(rows), size):
        part, limit = rows[at : at + size], bound[at : at + size]
        products, lengths = _products(part, candidates)
        room = products.size
        which, offsets, squared = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32)
        count = _improvements(
            products, lengths, candidates.half_squares, part, candidates.points, limit, np.empty(WIDE),
            which, offsets, squared,
        )  # fmt: skip
        found.append((which[:count].copy(), offsets[:count] + np.int64(start + at), squared[:count].copy()))
    return (
        np.concatenate([each[0] for each in found]),
        np.concatenate([each[1] for each in found]),
        np.concatenate([each[2] for each in found]),
    )


def _products(rows: Floats, centers: Centers) -> tuple[Floats, Floats]:
    """Products of shifted rows and centers, and the rows' squared lengths; valid until this thread's next call."""
    shifted = np.subtract(rows, centers.shift, out=scratch("shifted", *rows.shape))
    products = np.matmul(shifted, centers.shifted.T, out=scratch("products", len(rows), len(centers.points)))
    return products, np.einsum("ij,ij->i", shifted, shifted)


@kernel
def wide_squared_distance(a: Floats, b: Floats, sums: Doubles) -> float:
    """Squared distance of two rows by differences, float64; `sums` is room for `WIDE` numbers.

    Additions go in an order that does not depend on the processor. The room is lent because a loop over an array is what
    compilers turn into vector instructions.
    """
    d = len(a)
    whole = d - d % WIDE
    for lane in range(WIDE):
        sums[lane] = 0.0
    for j in range(0, whole, WIDE):
        for lane in range(WIDE):
            t = np.float64(a[j + lane]) - np.float64(b[j + lane])
            sums[lane] += t * t
    for j in range(whole, d):
        t = np.float64(a[j]) - np.float64(b[j])
        sums[j - whole] += t * t
    for lane in range(16):
        sums[lane] += sums[lane + 16]
    for lane in range(8):
        sums[lane] += sums[lane + 8]
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))


@kernel
def _fold_few(x: Floats, points: Floats, nearer: Floats, sums: Doubles) -> None:
    for i in range(len(x)):
        for j in range(len(points)):
            squared = np.float32(wide_squared_distance(x[i], points[j], sums))
            if squared < nearer[i]:
                nearer[i] = squared


@kernel
def largest(values: Floats) -> float:
    """The largest of these numbers; 0 at least."""
    found = np.float32(0.0)
    for value in values:
        found = max(found, value)
    return found


@kernel
def any_above(p: Floats, half: Floats, start: int, stop: int, limit: np.float32) -> bool:
    """Whether p - half is more than the limit anywhere in start..stop-1."""
    hit = 0
    for j in range(start, stop):
        hit |= (p[j] - half[j]) > limit
    return hit > 0


@kernel
def row_limit(length: np.float32, bound: float, widest: float) -> np.float32:
    """What `product - half a center's squared length` exceeds wherever the center may be nearer than `bound`.

    Half of |x|^2 - bound, less what the product may have lost.
    """
    return np.float32(0.5 * (np.float64(length) - bound) - CLOSE * (0.5 * np.float64(length) + widest))


@kernel
def _fold(
    products: Floats, lengths: Floats, half: Floats, x: Floats, points: Floats, nearer: Floats, sums: Doubles
) -> None:
    """Lower the bound of each row to its nearest center's squared distance, where that is less."""
    m, k = products.shape
    widest = largest(half)
    lanes = np.empty(LANES, np.float32)
    for i in range(m):
        p = products[i]
        if not any_above(p, half, 0, k, row_limit(lengths[i], nearer[i], widest)):
            continue
        best = _best(p, half, lanes)
        limit = np.float32(best - CLOSE * (0.5 * lengths[i] + widest))
        for start in range(0, k, LANES):
            stop = min(k, start + LANES)
            if any_above(p, half, start, stop, limit):
                for j in range(start, stop):
                    if p[j] - half[j] > limit:
                        squared = np.float32(wide_squared_distance(x[i], points[j], sums))
                        if squared < nearer[i]:
                            nearer[i] = squared


@kernel
def _best(p: Floats, half: Floats, lanes: Floats) -> np.float32:
    k = len(p)
    whole = k - k % LANES
    for lane in range(LANES):
        lanes[lane] = -np.inf
    for j in range(0, whole, LANES):
        for lane in range(LANES):
            v = p[j + lane] - half[j + lane]
            lanes[lane] = v if v > lanes[lane] else lanes[lane]
    for j in range(whole, k):
        v = p[j] - half[j]
        lanes[j - whole] = v if v > lanes[j - whole] else lanes[j - whole]
    best = lanes[0]
    for lane in range(1, LANES):
        best = lanes[lane] if lanes[lane] > best else best
    return best


@kernel
def _improvements(
    products: Floats,
    lengths: Floats,
    half: Floats,
    x: Floats,
    points: Floats,
    bound: Floats,
    sums: Doubles,
    which: NDArray[np.int32],
    offsets: NDArray[np.int32],
    squared: Floats,
) -> int:
    """Write down every (candidate, row, squared distance) that is less than the row's bound; how many there are."""
    m, k = products.shape
    widest = largest(half)
    count = 0
    for i in range(m):
        p = products[i]
        limit = row_limit(lengths[i], bound[i], widest)
        for start in range(0, k, LANES):
            stop = min(k, start + LANES)
            if any_above(p, half, start, stop, limit):
                for j in range(start, stop):
                    if p[j] - half[j] > limit:
                        found = np.float32(wide_squared_distance(x[i], points[j], sums))
                        if found < bound[i]:
                            which[count], offsets[count], squared[count] = j, i, found
                            count += 1
    return count

"""Which rows come nearer when centers are added: products to rule rows out, differences in float64 for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Doubles, Floats, Rows
from kofn.core.distance import CLOSE, WIDE, Centers, nearest_in_tile, squared_distance
from kofn.core.jit import kernel
from kofn.core.products import finite_product
from kofn.core.scratch import scratch
from kofn.core.sparse import squares_of_sparse

FEW = 2
"""Up to so many centers, differences cost less than a product and its check."""


def nearer_in_block(block: Block, centers: Centers, bound: Floats) -> Floats:
    """min(bound, squared distance to the nearest of the centers) of a slab's rows, float32 (m,)."""
    return np.concatenate(block.map_tiles(_nearer_in_tile, centers, each=bound))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidates and the rows that are nearer to them than their bounds, by row and then candidate.

    Attributes
    ----------
    which : int16 (p,)
        Candidate.
    rows : int64 (p,)
        Global row number.
    squared : float32 (p,)
        Squared distance of the two, less than the row's bound.
    usable : int
        Only the first so many candidates are complete: there was no room for the pairs of all.
    """

    which: NDArray[np.int16]
    rows: Rows
    squared: Floats
    usable: int


def _nearer_in_tile(start: int, x: Any, centers: Centers, bound: Floats) -> Floats:
    if len(centers.points) > FEW or not isinstance(x, np.ndarray):
        return np.minimum(bound, nearest_in_tile(start, x, centers)[1])
    nearer = bound.copy()
    _fold_few(x, centers.points, nearer, np.empty(WIDE))
    return nearer


def improvements_in_tile(start: int, x: Any, candidates: Centers, room: int, bound: Floats) -> Pairs:
    """The pairs of a tile, `room` of them at most, and at most 32,767 candidates."""
    rows, size = x, candidates.piece
    which, offsets, squared = np.empty(room, np.int16), np.empty(room, np.int32), np.empty(room, np.float32)
    count, usable = 0, len(candidates.points)
    for at in range(0, x.shape[0], size):
        limit = bound[at : at + size]
        if not isinstance(x, np.ndarray):
            apart = np.empty((len(limit), len(candidates.points)))
            squares_of_sparse(x, candidates.index, at, apart)
            count, usable = _below_bound(apart, limit, which, offsets, squared, at, count, usable)
            continue
        part = rows[at : at + size]
        products, lengths = _products(part, candidates)
        count, usable = _improvements(
            products, lengths, candidates.half_squares, part, candidates.points, limit, np.empty(WIDE),
            which, offsets, squared, at, count, usable,
        )  # fmt: skip
    return Pairs(which[:count].copy(), offsets[:count] + np.int64(start), squared[:count].copy(), usable)


def _products(rows: Floats, centers: Centers) -> tuple[Floats, Floats]:
    """Products of shifted rows and centers, and the rows' squared lengths; valid until this thread's next call."""
    shifted = np.subtract(rows, centers.shift, out=scratch("shifted", *rows.shape))
    products = finite_product(shifted, centers.shifted.T, out=scratch("products", len(rows), len(centers.points)))
    return products, np.einsum("ij,ij->i", shifted, shifted)


@kernel
def _fold_few(x: Floats, points: Floats, nearer: Floats, sums: Doubles) -> None:
    for i in range(len(x)):
        for j in range(len(points)):
            squared = np.float32(squared_distance(x[i], points[j], sums))
            if squared < nearer[i]:
                nearer[i] = squared


@kernel
def largest(values: Floats) -> np.float32:
    """The largest of these numbers; 0 at least."""
    found = np.float32(0.0)
    for value in values:
        found = max(found, value)
    return found


@kernel
def any_above(p: Floats, half: Floats, limit: np.float32) -> bool:
    """Whether p - half is more than the limit anywhere."""
    hit = 0
    for j in range(len(p)):
        hit |= (p[j] - half[j]) > limit
    return hit > 0


@kernel
def row_limit(length: np.float32, bound: float, widest: np.float32) -> np.float32:
    """What `product - half a center's squared length` exceeds wherever the center may be nearer than `bound`.

    Half of |x|^2 - bound, less what the product may have lost.
    """
    return np.float32(0.5 * (np.float64(length) - bound) - CLOSE * (0.5 * np.float64(length) + widest))


@kernel
def _improvements(
    products: Floats,
    lengths: Floats,
    half: Floats,
    x: Floats,
    points: Floats,
    bound: Floats,
    sums: Doubles,
    which: NDArray[np.int16],
    offsets: NDArray[np.int32],
    squared: Floats,
    first: int,
    count: int,
    usable: int,
) -> tuple[int, int]:
    """Write down every (candidate, row, squared distance) that is less than the row's bound.

    Where there is no room, the second half of the candidates is given up. Returns how many pairs there are now, and how many
    candidates are complete.
    """
    widest = largest(half)
    near = np.zeros(-(-usable // 8) * 8, np.uint8)  # one byte a candidate, looked through eight at a time
    words = near.view(np.uint64)
    for i in range(len(x)):
        p = products[i]
        limit = row_limit(lengths[i], bound[i], widest)
        for j in range(usable):
            near[j] = (p[j] - half[j]) > limit
        for word in range(len(words)):
            if words[word] == 0:
                continue
            for j in range(8 * word, min(usable, 8 * word + 8)):
                if near[j]:
                    found = np.float32(squared_distance(x[i], points[j], sums))
                    if found < bound[i]:
                        count, usable = note_pair(which, offsets, squared, j, first + i, found, count, usable)
    return count, usable


@kernel
def _below_bound(
    apart: Doubles,
    bound: Floats,
    which: NDArray[np.int16],
    offsets: NDArray[np.int32],
    squared: Floats,
    first: int,
    count: int,
    usable: int,
) -> tuple[int, int]:
    """As `_improvements`, from squared distances that are all there."""
    for i in range(len(apart)):
        for j in range(len(apart[i])):
            found = np.float32(apart[i, j])
            if j < usable and found < bound[i]:
                count, usable = note_pair(which, offsets, squared, j, first + i, found, count, usable)
    return count, usable


@kernel
def note_pair(
    which: NDArray[np.int16],
    offsets: NDArray[np.int32],
    squared: Floats,
    candidate: int,
    row: int,
    found: np.float32,
    count: int,
    usable: int,
) -> tuple[int, int]:
    """Write a pair down, after giving up candidates where there is no room; the counts after it."""
    while count == len(which) and usable > 0:
        usable //= 2
        count = _give_up(which, offsets, squared, count, usable)
    if candidate < usable:
        which[count], offsets[count], squared[count] = candidate, row, found
        count += 1
    return count, usable


@kernel
def _give_up(which: NDArray[np.int16], offsets: NDArray[np.int32], squared: Floats, count: int, usable: int) -> int:
    """Keep the pairs of the first `usable` candidates; how many they are."""
    kept = 0
    for at in range(count):
        if which[at] < usable:
            which[kept], offsets[kept], squared[kept] = which[at], offsets[at], squared[at]
            kept += 1
    return kept

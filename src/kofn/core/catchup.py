"""Rows that catch up: the nearest center of each, when centers were added since it was last measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Doubles, Floats, Rows
from kofn.core.distance import CLOSE, WIDE, Centers, nearest_in_tile, squared_distance
from kofn.core.jit import kernel
from kofn.core.products import finite_product

Labels = NDArray[np.int32]

BETWEEN = 1 << 19
"""Distances between centers that are held at a time."""

DEARER = 4
"""How many times dearer than by a product a distance is by differences."""


def catch_up_block(block: Block, points: Floats, held: int, known: Doubles) -> tuple[Doubles, Labels]:
    """Nearest center of each row of a block, given what is known of them.

    Parameters
    ----------
    block : Block
        m rows, best ordered by the center that they know: what is too far from it is ruled out for all of them.
    points : float32 (c, d)
        The centers, in the order in which they came.
    held : int
        The first so many centers give way on ties; otherwise the earlier center keeps the row.
    known : float64 (m, 3)
        Squared distance to the nearest of the centers seen, its position, and the number of centers seen.

    Returns
    -------
    gaps : float64 (m,)
        Squared distance to the nearest center by differences.
    nearest : int32 (m,)
        Its position in `points`.
    """
    parts = block.map_tiles(_catch_up_tile, points, held, each=known)
    return np.concatenate([gaps for gaps, _ in parts]), np.concatenate([nearest for _, nearest in parts])


def _catch_up_tile(start: int, x: Floats, points: Floats, held: int, known: Doubles) -> tuple[Doubles, Labels]:
    """As `catch_up_block`.

    A new center p can be nearer to a row than the center c that it knows only where |p - c| < 2 |row - c|, so groups of
    rows to which few new centers can matter are measured one by one; the others by products.
    """
    gaps, nearest, seen = known[:, 0].copy(), known[:, 1].astype(np.int32), known[:, 2].astype(np.int64)
    since = int(seen.min())
    new = Centers(points[since:])
    starts = np.flatnonzero(np.diff(nearest, prepend=-1))
    left = np.ones(len(x), bool)
    if since and 2 * len(starts) <= len(x):
        step = max(1, BETWEEN // len(new.points))
        for at in range(0, len(starts), step):
            between = _least_between(points[nearest[starts[at : at + step]]], new)
            bounds = np.append(starts, len(x))[at : at + len(between) + 1]
            _measure_groups(x, bounds, between, points, since, held, seen, gaps, nearest, left)
    rest = np.flatnonzero(left)
    if len(rest):
        labels, _ = nearest_in_tile(start, x[rest], new)
        _settle(x, rest, points, labels, since, held, gaps, nearest)
    return gaps, nearest


def _least_between(old: Floats, new: Centers) -> Floats:
    """Squared distances of old centers to new ones, float32, none more than the true one."""
    shifted = old - new.shift
    lengths = np.einsum("ij,ij->i", shifted, shifted)[:, None] + 2 * new.half_squares
    return np.asarray(lengths * np.float32(1 - CLOSE) - 2 * finite_product(shifted, new.shifted.T))


@kernel
def _measure_groups(
    x: Floats,
    starts: Rows,
    between: Floats,
    points: Floats,
    since: int,
    held: int,
    seen: Rows,
    gaps: Doubles,
    nearest: Labels,
    left: NDArray[np.bool_],
) -> None:
    """Measure the groups of rows to which few new centers can matter; strike those rows from `left`."""
    news = between.shape[1]
    near, reach, sums = np.empty(news, np.int64), np.empty(news), np.empty(WIDE)
    for group in range(len(starts) - 1):
        begin, end = starts[group], starts[group + 1]
        widest = 0.0
        for i in range(begin, end):
            widest = max(widest, gaps[i])
        found = 0
        for j in range(news):
            if between[group, j] <= 4.0 * widest:
                near[found], reach[found] = j, np.sqrt(max(0.0, between[group, j]))
                found += 1
        _sort_together(reach, near, found)
        work = 0
        for i in range(begin, end):
            work += _count_up_to(reach, found, 2.0 * np.sqrt(gaps[i]))
        if work * DEARER > news * (end - begin):
            continue
        for i in range(begin, end):
            left[i] = False
            first = last = np.sqrt(gaps[i])
            for j in range(found):
                if reach[j] > first + last:
                    break
                center = since + near[j]
                if center < seen[i]:
                    continue
                gap = squared_distance(x[i], points[center], sums)
                if gap < gaps[i] or (gap == gaps[i] and (nearest[i] < held or center < nearest[i])):
                    gaps[i] = gap
                    nearest[i] = center
                    last = np.sqrt(gap)


@kernel
def _sort_together(keys: Doubles, values: Rows, m: int) -> None:
    """Sort the first m keys, and the values with them: shell sort, which compiles in no time and sorts few in little."""
    step = 1
    while 3 * step + 1 < m:
        step = 3 * step + 1
    while step > 0:
        for i in range(step, m):
            key, value, j = keys[i], values[i], i
            while j >= step and keys[j - step] > key:
                keys[j], values[j] = keys[j - step], values[j - step]
                j -= step
            keys[j], values[j] = key, value
        step //= 3


@kernel
def _count_up_to(keys: Doubles, m: int, limit: float) -> int:
    """How many of the first m ascending keys are at most the limit."""
    low, high = 0, m
    while low < high:
        middle = (low + high) // 2
        if keys[middle] <= limit:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _settle(
    x: Floats, rest: Rows, points: Floats, labels: Labels, since: int, held: int, gaps: Doubles, nearest: Labels
) -> None:
    """Keep the nearer of the known center and the new one; on a tie the earlier pick, and a pick before a `have` row."""
    sums = np.empty(WIDE)
    for at in range(len(rest)):
        i = rest[at]
        center = since + labels[at]
        gap = squared_distance(x[i], points[center], sums)
        if gap < gaps[i] or (gap == gaps[i] and nearest[i] < held <= center):
            gaps[i] = gap
            nearest[i] = center

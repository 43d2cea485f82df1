"""An order of the rows in which neighbours are near in space: the leaves of a tree that halves them, left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Doubles, Floats, Rows
from kofn.core.jit import kernel, one_form
from kofn.errors import UsageError

SPLITS = ("principal", "coordinates")
"""Where a node is halved: along its rows' principal direction, or along one column after the other, level by level."""

TURNS, ENOUGH = 4, 512
"""Power iterations for a principal direction, and rows at most to find it by: it decides a split, so a rough one does."""

_PIECE = 1024  # sparse rows made dense at a time


@dataclass(frozen=True, eq=False)
class SpaceTree:
    """A tree of 2^levels leaves that any row finds its leaf in.

    Attributes
    ----------
    directions : float32 (2^levels - 1, d)
        What a node projects rows on; nodes as in a heap, those of one level after the other.
    thresholds : float64 (2^levels - 1,)
        A row whose projection is below goes left.
    levels : int
        At most 16.
    """

    directions: Floats
    thresholds: Doubles
    levels: int


def space_order(x: Any, *, split: str = "principal") -> Rows:
    """The rows as leaves of a tree that halves them at the median until each is alone, int64 (n,).

    Parameters
    ----------
    x : float array (n, d)
        Positions of the rows.
    split : {"principal", "coordinates"}
        See `SPLITS`.

    Notes
    -----
    O(n d log n) time, 24 bytes a row. Equal projections go by row number. The tree of Shimizu, Cheng, Musco and Weare,
    "Improved active learning via dependent leverage score sampling", ICLR 2024; halves differ by one row at most, so
    the tree over the order is the one that `core.draw.pivotal` takes by default.
    """
    rows = _positions(x)
    levels = int(np.ceil(np.log2(max(2, len(rows)))))
    order = np.arange(len(rows), dtype=np.int64)
    _halve(one_form(rows), order, levels, _check(split), np.empty((0, rows.shape[1]), np.float32), np.empty(0))
    return order


def grow_tree(x: Any, levels: int, *, split: str = "principal") -> SpaceTree:
    """The first levels of the tree of `space_order` over these rows, at least 2^levels of them, kept for rows to come."""
    rows = _positions(x)
    if not 0 <= levels <= 16 or len(rows) < 2**levels:
        raise UsageError(
            f"levels={levels} is out of range for {len(rows)} rows; give 0 to 16, and 2^levels rows or more"
        )
    nodes = 2**levels - 1
    directions, thresholds = np.zeros((nodes, rows.shape[1]), np.float32), np.zeros(nodes)
    _halve(one_form(rows), np.arange(len(rows)), levels, _check(split), directions, thresholds)
    return SpaceTree(directions, thresholds, levels)


def leaves_in_block(block: Block, tree: SpaceTree) -> NDArray[np.uint16]:
    """The leaf of each row of a slab, left to right from 0, uint16 (m,). O(d levels) time a row."""
    return np.concatenate(block.map_tiles(_leaves_of_tile, tree))


def order_by_leaves(leaves: NDArray[np.uint16], levels: int) -> tuple[Rows, NDArray[np.uint8]]:
    """Rows leaf by leaf, within a leaf by row number, and how deep in the tree each place is parted from the one before.

    Returns
    -------
    order : int64 (n,)
    depth : uint8 (n,)
        As `core.draw.pivotal` takes it; a leaf's rows are halved further by their places in the order.

    Notes
    -----
    O(n) time, 20 bytes a row.
    """
    order = np.argsort(leaves, kind="stable")
    depth = np.empty(len(leaves), np.uint8)
    _depths(leaves, order, levels, depth)
    return order, depth


def _check(split: str) -> bool:
    if split not in SPLITS:
        raise UsageError(f"split={split!r} is unknown; use one of: {', '.join(SPLITS)}")
    return split == "coordinates"


def _positions(x: Any) -> Floats:
    rows = x.toarray() if hasattr(x, "toarray") else np.asarray(x)
    if rows.ndim != 2:
        raise UsageError(f"positions have shape {rows.shape}; give a matrix (rows, dimensions)")
    return np.ascontiguousarray(rows, dtype=np.float32)


def _leaves_of_tile(_start: int, x: Any, tree: SpaceTree) -> NDArray[np.uint16]:
    leaves = np.empty(x.shape[0], np.uint16)
    for at in range(0, x.shape[0], _PIECE):
        _route(one_form(_positions(x[at : at + _PIECE])), tree.directions, tree.thresholds, tree.levels, leaves[at:])
    return leaves


@kernel
def _halve(x: Floats, order: Rows, levels: int, coordinates: bool, directions: Floats, thresholds: Doubles) -> None:
    """Sort each node's part of the order along its direction and cut it in the middle, level by level."""
    n, d = x.shape
    v, mean, turned = np.empty(d), np.empty(d), np.empty(d)
    edges, finer = np.zeros(2, np.int64), np.zeros(2, np.int64)
    edges[1] = n
    node = 0
    for level in range(levels):
        finer = np.zeros(2 * len(edges) - 1, np.int64)
        for part in range(len(edges) - 1):
            low, high = edges[part], edges[part + 1]
            middle = (low + high) // 2
            finer[2 * part + 1], finer[2 * part + 2] = middle, high
            if high - low > 1:
                rows = np.sort(order[low:high])
                if coordinates:
                    v[:] = 0.0
                    v[level % d] = 1.0
                else:
                    _principal(x, rows[:: (high - low - 1) // ENOUGH + 1], v, mean, turned)
                heights = np.empty(high - low)
                for i in range(high - low):
                    heights[i] = _projection(x[rows[i]], v)
                up = np.argsort(heights, kind="mergesort")
                order[low:high] = rows[up]
                if len(thresholds):
                    directions[node] = v.astype(np.float32)
                    thresholds[node] = _projection(x[order[middle]], directions[node])
            node += 1
        edges = finer


@kernel
def _projection(row: Any, v: Any) -> float:
    """Scalar product in float64; four sums, which a processor can add side by side."""
    a, b, c, e = 0.0, 0.0, 0.0, 0.0
    d = len(v)
    whole = d - d % 4
    for j in range(0, whole, 4):
        a += np.float64(row[j]) * np.float64(v[j])
        b += np.float64(row[j + 1]) * np.float64(v[j + 1])
        c += np.float64(row[j + 2]) * np.float64(v[j + 2])
        e += np.float64(row[j + 3]) * np.float64(v[j + 3])
    for j in range(whole, d):
        a += np.float64(row[j]) * np.float64(v[j])
    return (a + b) + (c + e)


@kernel
def _principal(x: Floats, rows: Rows, v: Doubles, mean: Doubles, turned: Doubles) -> None:
    """The direction of largest variance by power iteration, from the column of largest variance on; numbers are
    scaled so that squares neither overflow nor vanish."""
    m, d = len(rows), x.shape[1]
    mean[:] = 0.0
    for i in range(m):
        for j in range(d):
            mean[j] += x[rows[i], j]
    mean /= m
    turned[:] = 0.0
    for i in range(m):
        for j in range(d):
            turned[j] += (x[rows[i], j] - mean[j]) ** 2
    widest = np.argmax(turned)
    v[:] = 0.0
    v[widest] = 1.0
    if turned[widest] == 0.0 or d == 1:
        return
    for _ in range(TURNS):
        turned[:] = 0.0
        level = _projection(mean, v)
        for i in range(m):
            row = x[rows[i]]
            height = _projection(row, v) - level
            for j in range(d):
                turned[j] += height * (row[j] - mean[j])
        v[:] = (
            turned / np.sqrt((turned / np.abs(turned).max()) @ (turned / np.abs(turned).max())) / np.abs(turned).max()
        )


@kernel
def _route(x: Floats, directions: Floats, thresholds: Doubles, levels: int, out: NDArray[np.uint16]) -> None:
    for i in range(len(x)):
        leaf = 0
        for level in range(levels):
            node = (1 << level) - 1 + leaf
            leaf = 2 * leaf + (1 if _projection(x[i], directions[node]) >= thresholds[node] else 0)
        out[i] = leaf


@kernel
def _depths(leaves: NDArray[np.uint16], order: Rows, levels: int, depth: NDArray[np.uint8]) -> None:
    """Two leaves part at the first bit in which they differ; two places of one leaf where their numbers in it do."""
    place = 0
    depth[0] = 0
    for p in range(1, len(order)):
        here, before = np.int64(leaves[order[p]]), np.int64(leaves[order[p - 1]])
        place = place + 1 if here == before else 0
        differ = here ^ before if here != before else place ^ (place - 1)
        bits = 0
        while differ:
            differ >>= 1
            bits += 1
        depth[p] = levels - bits if here != before else levels + 64 - bits

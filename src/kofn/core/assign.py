"""Which point is nearest to each row: the pass that everything about coverage rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import TILE, Block, Blocks, Doubles, Floats, Rows, by_slab, dense
from kofn.core.distance import Centers, nearest_in_tile
from kofn.core.reduce import tree_sum

PIECE = 1_024
"""Sparse rows that a thread takes at a time: each is measured by itself, so the shape decides nothing."""


def assign(blocks: Blocks, points: Floats) -> Iterator[tuple[NDArray[np.int32], Floats]]:
    """(nearest point, squared distance) of the rows of each slab, in slab order. One pass, O(n k d) time.

    `points` may be sparse rows, as `blocks.take` gives them; they are made dense, k x d numbers.
    """
    return blocks.map(nearest_in_block, Centers(dense(points)))


def nearest_in_block(block: Block, centers: Centers, hints: Any = None) -> tuple[NDArray[np.int32], Floats]:
    """Labels int32 (m,) and squared distances float32 (m,) of a slab's rows; `hints` as in `nearest_in_tile`."""
    if isinstance(block.x, np.ndarray):
        parts = block.map_tiles(nearest_in_tile, centers)
    else:
        centers.index.prepare()  # once, before pieces on several threads ask for it
        cuts = [slice(at, at + PIECE) for at in range(0, block.x.shape[0], PIECE)]
        calls = [(block.start, block.x[cut], centers, None if hints is None else hints[cut]) for cut in cuts]
        parts = block.runner(nearest_in_tile, calls)
    return np.concatenate([labels for labels, _ in parts]), np.concatenate([squared for _, squared in parts])


def nearest_distances(blocks: Blocks, points: Floats) -> Iterator[Floats]:
    """Distance of each row to the nearest point, slab by slab."""
    for _, squared in assign(blocks, points):
        yield np.sqrt(squared)


def cell_weights(blocks: Blocks, points: Floats, weights: Doubles | None = None, rows: Rows | None = None) -> Doubles:
    """Total weight of the rows nearest to each point (Voronoi counts), float64 (k,). One pass.

    Where `rows`, the points' own row numbers, are given, each point stands at least for itself, so that duplicates among
    the points do not leave one with nothing.
    """
    points, each = dense(points), None if weights is None else by_slab(weights)
    # A copy: with one slab the sum is what a worker sent, which may be read-only.
    counts = np.array(tree_sum(blocks.map(_cells_of_block, Centers(points), each=each)))
    if rows is not None:
        own = np.ones(len(rows)) if weights is None else weights[rows]
        _stand_for_itself(points, own, counts)
    return counts


def own_cells(points: Floats) -> NDArray[np.int64]:
    """The point that each point is counted to when it is a row like any other; differs from itself for duplicates."""
    points = dense(points)
    centers = Centers(points)
    labels = [nearest_in_tile(at, points[at : at + TILE], centers)[0] for at in range(0, len(points), TILE)]
    return np.concatenate(labels).astype(np.int64)


def _stand_for_itself(points: Floats, own: Doubles, counts: Doubles) -> None:
    home = own_cells(points)
    moved = np.flatnonzero(home != np.arange(len(points)))
    np.subtract.at(counts, home[moved], own[moved])
    counts[moved] += own[moved]


def _cells_of_block(block: Block, centers: Centers, weights: Any = None) -> Doubles:
    labels, _ = nearest_in_block(block, centers)
    return np.bincount(labels, weights=weights, minlength=len(centers.points)).astype(np.float64)

"""Which point is nearest to each row: the pass that everything about coverage rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Blocks, Doubles, Floats, by_slab
from kofn.core.distance import Centers, nearest_in_tile
from kofn.core.reduce import tree_sum


def assign(blocks: Blocks, points: Floats) -> Iterator[tuple[NDArray[np.int32], Floats]]:
    """(nearest point, squared distance) of the rows of each slab, in slab order. One pass, O(n k d) time."""
    return blocks.map(nearest_in_block, Centers(points))


def nearest_in_block(block: Block, centers: Centers) -> tuple[NDArray[np.int32], Floats]:
    """Labels int32 (m,) and squared distances float32 (m,) of a slab's rows."""
    parts = block.map_tiles(nearest_in_tile, centers)
    return np.concatenate([labels for labels, _ in parts]), np.concatenate([squared for _, squared in parts])


def nearest_distances(blocks: Blocks, points: Floats) -> Iterator[Floats]:
    """Distance of each row to the nearest point, slab by slab."""
    for _, squared in assign(blocks, points):
        yield np.sqrt(squared)


def cell_weights(blocks: Blocks, points: Floats, weights: Doubles | None = None) -> Doubles:
    """Total weight of the rows nearest to each point (Voronoi counts), float64 (k,). One pass."""
    each = None if weights is None else by_slab(weights)
    return np.asarray(tree_sum(blocks.map(_cells_of_block, Centers(points), each=each)))


def _cells_of_block(block: Block, centers: Centers, weights: Any = None) -> Doubles:
    labels, _ = nearest_in_block(block, centers)
    return np.bincount(labels, weights=weights, minlength=len(centers.points)).astype(np.float64)

"""Lloyd's algorithm on sparse rows: centers stay sparse, and only what moved is looked at again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Blocks, Doubles, Floats, Rows, by_slab_or_none
from kofn.core.designs import smallest
from kofn.core.reduce import tree_sum
from kofn.core.sparsebounds import RoundIndex, nearest_by_moves, nothing_known
from kofn.core.sparsecenters import Moved, SparseCenters, SparseSums, sums_of_clusters

FARTHEST = 32  # rows a slab offers to clusters that came out empty


def sparse_rounds(
    blocks: Blocks, start: Any, *, rounds: int, weights: Doubles | None, fixed: int, tol: float, unit: bool
) -> tuple[Floats, float, int]:
    """What `kofn.core.lloyd.lloyd` says, for sparse rows: (centers float32 (k, d), cost, rounds made).

    Labels are those of all products in float64, ties to the lowest center, at every round. A round takes O(nnz + d) time for
    the sums and the index, and for each row what its bounds leave open. Memory: 16 bytes a row, 12 a number of the centers
    and of the sums of a slab in flight, and the centers once dense.
    """
    centers, moved = SparseCenters(start), None
    before, cost, done = np.inf, np.inf, 0
    known: list[Any] = [None] * len(by_slab_or_none(weights, blocks.n))
    for turn in range(1, rounds + 1):
        done = turn
        shared = centers, RoundIndex.of(centers, moved)
        each = list(zip(by_slab_or_none(weights, blocks.n), known, strict=True))
        far: list[tuple[Rows, Floats]] = []
        known = []
        totals, counts, cost = tree_sum(_kept(blocks.map(_moments_of_block, *shared, each=each), far, known))
        centers, moved = _move(blocks, centers, totals, counts, far, fixed, unit)
        if moved is None:
            known = [None] * len(known)
        gained = before - cost
        if np.isfinite(before) and gained <= tol * before:
            break
        before = cost
    return centers.points, float(cost), done


def _moments_of_block(
    block: Block, centers: SparseCenters, index: RoundIndex, pair: tuple[Any, Any]
) -> tuple[Any, Any, tuple[SparseSums, Any, float]]:
    weights, known = pair
    known = nothing_known(block.x.shape[0]) if known is None else known
    squared = nearest_by_moves(block, centers, index, known)
    labels = np.ascontiguousarray(known["label"])
    w = np.ones(len(labels)) if weights is None else weights
    k = len(centers.half)
    counts = np.bincount(labels, weights=w, minlength=k)
    far = np.sort(smallest(-squared, min(FARTHEST, len(squared))))
    sums = sums_of_clusters(block.x, labels, w, k), counts, float(np.dot(w, squared.astype(np.float64)))
    return (far + block.start, squared[far]), known, sums


def _kept(results: Any, far: list[Any], known: list[Any]) -> Any:
    """The moments of each slab; what else it gave goes to the lists."""
    for offers, rows, moments in results:
        far.append(offers)
        known.append(rows)
        yield moments


def _move(
    blocks: Blocks, centers: SparseCenters, totals: SparseSums, counts: Doubles, far: list[tuple[Rows, Floats]], fixed: int,
    unit: bool,
) -> tuple[SparseCenters, Moved | None]:  # fmt: skip
    """The centers after the move, and how they moved; None where some were put to rows far off, so that nothing is known."""
    free = np.arange(len(counts)) < len(counts) - fixed
    scale = counts
    if unit:
        lengths = totals.lengths
        scale = np.where(lengths > 0, lengths, counts)
    moved = centers.move(totals, scale, ~free | (counts <= 0))
    empty = np.flatnonzero(free & (counts <= 0))
    found = _farthest(far, len(empty)) if len(empty) else empty
    if not len(found):
        return centers, moved
    return centers.replaced(empty[: len(found)], blocks.take(found)), None


def _farthest(far: list[tuple[Rows, Floats]], count: int) -> NDArray[np.int64]:
    """Rows farthest from their centers, ties to the lowest row number."""
    rows, squared = (np.concatenate(parts) for parts in zip(*far, strict=True))
    order = smallest(-squared, min(count, int((squared > 0).sum())))
    return np.asarray(rows[order])

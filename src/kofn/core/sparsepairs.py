"""Which sparse rows come nearer when candidates are added: an inverted index of the candidates, and one look at the sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import TILE, Block, Doubles, Floats
from kofn.core.jit import kernel
from kofn.core.nearer import Pairs, note_pair
from kofn.core.sparse import CLOSE, SLACK
from kofn.core.sparsecenters import Ids, apart_of_sparse, column_lists, half_squares, rows_of

LANES = 16
"""Scores that are compared at once."""


@dataclass(frozen=True, eq=False)
class SparseCandidates:
    """Sparse points that sparse rows are measured against.

    Parameters
    ----------
    points : csr (k, d) of float32
    """

    points: Any

    def index(self) -> tuple[Any, Any, Any]:
        """(the points' rows, their lists by column, half squared lengths filled up with infinity to whole `LANES`)."""
        rows, (k, d) = rows_of(self.points), self.points.shape
        half = np.full(-(-k // LANES) * LANES, np.inf)
        half[:k] = half_squares(rows)
        return rows, column_lists(rows, d), half


def improvements_of_sparse(block: Block, candidates: SparseCandidates, room: int, bound: Floats) -> list[Pairs]:
    """The pairs of each tile of a slab of sparse rows, as `kofn.core.nearer.improvements_in_tile` gives them.

    `room` pairs at most for each tile; O(postings that a row's columns have) time for a row.
    """
    index, rows, m = candidates.index(), rows_of(block.x), block.x.shape[0]
    calls = [
        (block.start, rows, at, index, candidates.points.shape[0], room, bound[at : at + TILE])
        for at in range(0, m, TILE)
    ]
    return block.runner(_pairs_of_tile, calls)


def _pairs_of_tile(
    start: int, rows: tuple[Any, Any, Any], at: int, index: tuple[Any, Any, Any], k: int, room: int, bound: Floats
) -> Pairs:
    room = min(room, k * len(bound))
    which, offsets, squared = np.empty(room, np.int16), np.empty(room, np.int32), np.empty(room, np.float32)
    count, usable = _improve(rows, at, *index, bound, k, which, offsets, squared)
    return Pairs(which[:count].copy(), offsets[:count] + np.int64(start + at), squared[:count].copy(), usable)


@kernel
def _improve(
    rows: Any,
    start: int,
    points: Any,
    lists: Any,
    half: Doubles,
    bound: Floats,
    usable: int,
    which: NDArray[np.int16],
    offsets: Ids,
    squared: Floats,
) -> tuple[int, int]:
    """Write down every (candidate, row, squared distance) that is less than the row's bound."""
    indptr, indices, data = rows
    point_starts, point_columns, point_values = points
    starts, places, entries = lists
    widest = half[:usable].max()
    scores, room, count = np.zeros(len(half)), np.zeros(len(starts) - 1, np.float32), 0
    for i in range(len(bound)):
        low, high = indptr[start + i], indptr[start + i + 1]
        columns, values = indices[low:high], data[low:high]
        length = 0.0
        for v in values:
            length += np.float64(v) * np.float64(v)
        scores[:] = 0.0
        for at in range(len(columns)):
            j, v = columns[at], np.float64(values[at])
            for p in range(starts[j], starts[j + 1]):
                scores[places[p]] += v * np.float64(entries[p])
        least = 0.5 * (length - np.float64(bound[i])) - SLACK * (length + 2.0 * widest)
        for lanes in range(0, len(half), LANES):
            reached = 0
            for lane in range(LANES):
                reached |= scores[lanes + lane] - half[lanes + lane] >= least
            if not reached:
                continue
            for c in range(lanes, min(usable, lanes + LANES)):
                if scores[c] - half[c] >= least:
                    apart = length + 2.0 * half[c] - 2.0 * scores[c]
                    if apart <= CLOSE * (length + 2.0 * half[c]):
                        low, high = point_starts[c], point_starts[c + 1]
                        apart = apart_of_sparse(columns, values, point_columns[low:high], point_values[low:high], room)
                    found = np.float32(apart)
                    if found < bound[i]:
                        count, usable = note_pair(which, offsets, squared, c, i, found, count, usable)
    return count, usable

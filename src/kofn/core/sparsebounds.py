"""Rounds of k-means on sparse rows that look at all centers only where another may have come nearer.

Of each row it is kept what it scores with its own center, x.c - |c|^2 / 2, and what any other center's score is at most. A
center that moves is the old one times a factor, plus a rest, and the rest is what the rows bring that joined or left its
cluster: a row gains by it only in the columns they share. So the largest rest in each of a row's columns says what any score
has gained at most. Rows that this leaves open are multiplied with all centers by an inverted index, in float64 and in the
order of the row's columns; the others are ruled out with room for rounding. The answer is that of all products, bit for bit.

That bounds outlive a move is from "Accelerating Spherical k-Means" (Schubert, Lang and Feher, SISAP 2021), the index from
"Efficient Sparse Spherical k-Means for Document Clustering" (Knittel, Koch and Ertl, DocEng 2021). To bound a gain by the
rests, not by how far centers moved, is what makes bounds hold for rows that have few columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Doubles, Floats
from kofn.core.jit import kernel, one_form
from kofn.core.sparse import CLOSE, SLACK, product_with
from kofn.core.sparsecenters import Ids, Moved, SparseCenters, apart_of_sparse, column_lists, rows_of

UP = 2e-7
"""Bounds are stored in float32, larger by this share, so that rounding never lowers one."""

LANES = 16
"""Scores that are compared at once."""

PIECE = 2_048
"""Rows that a thread takes at a time: each is measured by itself, so the shape decides nothing."""

KNOWN = np.dtype([("label", np.int32), ("others", np.float32), ("own", np.float64)])
"""What a round leaves of a row: its center, what it scores with any other at most, and with its own exactly."""


@dataclass(frozen=True, eq=False)
class RoundIndex:
    """What a round asks of centers and of their moves.

    Attributes
    ----------
    lists : (int64 (d + 1,), int32 (nnz,), float32 (nnz,))
        The centers by column, see `column_lists`.
    halves : float64 (k or a little more,)
        Half squared lengths, filled up with infinity to a multiple of `LANES`.
    reach : tuple
        Factors less 1 and half squared lengths before, the smallest and largest of each, by how much one of these fell at
        most, and the smallest and largest rest by column.
    changed : bool (k,)
        Centers that are not what they were.
    """

    lists: tuple[Any, Any, Any]
    halves: Doubles
    reach: tuple[Any, ...]
    changed: NDArray[np.bool_]

    @classmethod
    def of(cls, centers: SparseCenters, moved: Moved | None) -> RoundIndex:
        """Index centers and their moves; None before the first move. O(nnz + d + k) time."""
        k, d = centers.points.shape
        lists = column_lists(centers.rows, d)
        halves = np.concatenate([centers.half, np.full(-k % LANES, np.inf)])
        if moved is None:
            return cls(lists, halves, ((0.0, 0.0), (0.0, 0.0), 0.0, np.zeros(d), np.zeros(d)), np.ones(k, np.bool_))
        factors = moved.factors[0] - 1.0, moved.factors[1] - 1.0
        return cls(lists, halves, (factors, moved.halves, moved.shorter, moved.least, moved.most), moved.changed)


def nearest_by_moves(block: Block, centers: SparseCenters, index: RoundIndex, known: Any) -> Floats:
    """Squared distance of each row of a sparse slab to its nearest center, float32 (m,); ties go to the lowest center.

    Parameters
    ----------
    block : Block
        A slab of sparse rows.
    centers : SparseCenters
        Where the centers are.
    index : RoundIndex
        The same by column, and how they got there since the last call.
    known : array of KNOWN (m,)
        What the last round left of the rows, see `nothing_known`; brought up to date in place.
    """
    rows, m = rows_of(block.x), block.x.shape[0]
    squared = np.empty(m, np.float32)
    calls = [(rows, centers, index, at, known[at : at + PIECE], squared[at : at + PIECE]) for at in range(0, m, PIECE)]
    block.runner(_settle_piece, calls)
    return squared


def nothing_known(m: int) -> Any:
    """Of m rows, before the first round: any other center may score whatever."""
    known = np.zeros(m, KNOWN)
    known["others"] = np.inf
    return known


def _settle_piece(
    rows: tuple[Any, Any, Any], centers: SparseCenters, index: RoundIndex, at: int, known: Any, squared: Floats
) -> None:
    given = one_form(centers.points), centers.half, centers.rows, index.changed
    kept = known["label"], known["others"], known["own"]
    _settle(rows, at, given, index.lists, index.halves, index.reach, *kept, squared)


@kernel
def _gather(columns: Ids, values: Floats, lists: Any, scores: Doubles) -> None:
    """Products of a row with all that is listed, in the order of the row's columns."""
    starts, ids, entries = lists
    scores[:] = 0.0
    for at in range(len(columns)):
        j, v = columns[at], np.float64(values[at])
        for p in range(starts[j], starts[j + 1]):
            scores[ids[p]] += v * np.float64(entries[p])


@kernel
def _most(columns: Ids, values: Floats, bound: float, size: float, reach: Any) -> float:
    """What a score that was at most `bound` is at most now, from the largest factor and the largest rests.

    x.c' - h' is f (x.c - h) + x.r + f h - h' where c' is f c + r: it has gained (f - 1) (x.c - h + h) + x.r + h - h'.
    """
    (least_factor, most_factor), (least_half, most_half), shorter, least, most = reach
    gained = max(most_factor * max(bound + most_half, 0.0), least_factor * min(bound + least_half, 0.0))
    for at in range(len(columns)):
        v = np.float64(values[at])
        gained += max(v * least[columns[at]], v * most[columns[at]])
    slack = SLACK * (size + 2.0 * most_half) * (1.0 + most_factor)  # a large factor multiplies what was rounded before
    return bound + gained + shorter + slack


@kernel
def _ranked(score: float, c: int, best: float, second: float, found: int) -> tuple[float, float, int]:
    """The best, the second best and the best's number, with one more; the lowest number of equals is the best."""
    if score > best or (score == best and c < found):
        return score, max(second, best), c
    return best, max(second, score), found


@kernel
def _two_best(scores: Doubles, halves: Doubles, last: int, best: float) -> tuple[float, float, int]:
    """Of all products: the best score, the second best and the best's number, when `last` scores `best`."""
    second, found = -np.inf, last
    scores[last] = -np.inf
    for at in range(0, len(scores), LANES):
        reached, least = 0, min(second, best)
        for lane in range(LANES):
            reached |= scores[at + lane] - halves[at + lane] >= least
        if reached:
            for c in range(at, at + LANES):
                if c != last and scores[c] - halves[c] >= least:
                    best, second, found = _ranked(scores[c] - halves[c], c, best, second, found)
    return best, second, found


@kernel
def _stored(bound: float) -> np.float32:
    return np.float32(bound + UP * abs(bound)) if np.isfinite(bound) else np.float32(bound)


@kernel
def _settle(
    rows: Any, start: int, given: Any, lists: Any, halves: Doubles, reach: Any, labels: Ids, others: Floats, owns: Doubles,
    squared: Floats,
) -> None:  # fmt: skip
    indptr, indices, data = rows
    points, half, (center_starts, center_columns, center_values), changed = given
    widest = half.max()
    scores, room = np.zeros(len(halves)), np.zeros(points.shape[1], np.float32)
    for i in range(len(labels)):
        low, high = indptr[start + i], indptr[start + i + 1]
        columns, values = indices[low:high], data[low:high]
        length = 0.0
        for v in values:
            length += np.float64(v) * np.float64(v)
        found = labels[i]
        best = product_with(columns, values, points[found]) - half[found] if changed[found] else owns[i]
        second = _most(columns, values, np.float64(others[i]), length + 2.0 * widest, reach)
        if not second < best:
            _gather(columns, values, lists, scores)
            best, second, found = _two_best(scores, halves, found, best)
        labels[i], owns[i], others[i] = found, best, _stored(second)
        apart = length - 2.0 * best
        if apart <= CLOSE * (length + 2.0 * half[found]):
            low, high = center_starts[found], center_starts[found + 1]
            apart = apart_of_sparse(columns, values, center_columns[low:high], center_values[low:high], room)
        squared[i] = apart

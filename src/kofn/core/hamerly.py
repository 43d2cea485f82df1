"""Rounds of k-means that skip rows whose nearest center cannot have changed.

Of each row it is kept how far its center was and that no other center was nearer than a bound. When centers move, the bound
falls by the largest move (Hamerly, "Making k-means even faster", SDM 2010). Rows that it still holds for are measured against
their own center alone; the others go through the product, gathered. The answer is that of all products, bit for bit: what
decides a label in either way are differences in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Doubles, Floats
from kofn.core.distance import WIDE, Centers, nearest_two, squared_distance
from kofn.core.jit import kernel, one_form

FEWEST = 64
"""With fewer centers a product costs hardly more than looking at the bounds."""

MARGIN = 1e-5
"""Bounds are drawn in by this share of themselves: far more than float32 rounds off."""

KNOWN = np.dtype([("label", np.int32), ("apart", np.float32), ("bound", np.float32)])
"""What a round leaves of a row: its center, its distance to it, and what every other center's is at least."""


@dataclass(frozen=True, eq=False)
class Moves:
    """How far centers went from one round to the next.

    Attributes
    ----------
    own : float64 (k,)
        Distance of each center to where it was.
    others : float64 (k,)
        The largest of the other centers' moves.
    half_gap : float64 (k,)
        Half the distance to the nearest other center: rows nearer than that are nearest to this one.
    """

    own: Doubles
    others: Doubles
    half_gap: Doubles


def moves_of(before: Floats, after: Floats) -> Moves:
    """What bounds need to know of a move of all centers. O(k^2 d) time, O(k d) memory."""
    own = np.empty(len(after))
    _moves(one_form(before), one_form(after), own)
    others = np.full(len(own), own.max())
    farthest = int(own.argmax())
    others[farthest] = np.delete(own, farthest).max()
    gap = nearest_two(after, Centers(after))[2].astype(np.float64)  # each is nearest to itself, or to its copy
    return Moves(own * (1 + MARGIN), others * (1 + MARGIN), gap * (0.5 - MARGIN))


def nearest_by_bounds(block: Block, centers: Centers, moves: Moves | None, known: Any) -> tuple[Any, Floats]:
    """(what is known of the rows now, their squared distances float32), of a slab; `known` None in the first round."""
    tile = _all_rows if known is None or moves is None else _open_rows
    each = None if tile is _all_rows else known
    parts = block.map_tiles(tile, centers, *(() if each is None else (moves,)), each=each)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _all_rows(start: int, x: Floats, centers: Centers) -> tuple[Any, Floats]:
    labels, squared, second = nearest_two(x, centers)
    return _note(labels, squared, second), squared


def _note(labels: NDArray[np.int32], squared: Floats, second: Floats) -> Any:
    known = np.empty(len(labels), KNOWN)
    known["label"], known["apart"], known["bound"] = labels, np.sqrt(squared), second * np.float32(1 - MARGIN)
    return known


def _open_rows(start: int, x: Floats, centers: Centers, moves: Moves, known: Any) -> tuple[Any, Floats]:
    now, squared = known.copy(), np.empty(len(x), np.float32)
    still = np.empty(len(x), np.bool_)
    points = one_form(np.ascontiguousarray(centers.points))
    _look(
        one_form(x),
        points,
        moves.own,
        moves.others,
        moves.half_gap,
        now["label"],
        now["apart"],
        now["bound"],
        squared,
        still,
    )
    rows = np.flatnonzero(~still)
    if len(rows):
        labels, found, second = nearest_two(x if len(rows) == len(x) else x[rows], centers)
        now[rows], squared[rows] = _note(labels, found, second), found
    return now, squared


@kernel
def _moves(before: Floats, after: Floats, out: Doubles) -> None:
    sums = np.empty(WIDE)
    for c in range(len(out)):
        out[c] = np.sqrt(squared_distance(before[c], after[c], sums))


@kernel
def _look(
    x: Floats,
    points: Floats,
    own: Doubles,
    others: Doubles,
    half_gap: Doubles,
    label: NDArray[np.int32],
    apart: Floats,
    bound: Floats,
    squared: Floats,
    still: NDArray[np.bool_],
) -> None:
    """Which rows stay where they are; their distances and bounds are brought up to date."""
    sums = np.empty(WIDE)
    for i in range(len(x)):
        c = label[i]
        least = max(np.float64(bound[i]) - others[c], half_gap[c])
        still[i] = False
        if np.float64(apart[i]) * (1 - MARGIN) - own[c] < least:  # else it has certainly gone too far
            exact = squared_distance(x[i], points[c], sums)
            distance = np.sqrt(exact)
            if distance * (1 + MARGIN) < least:
                still[i] = True
                squared[i] = exact
                apart[i] = distance
                bound[i] = max(np.float64(bound[i]) - others[c], 2 * half_gap[c] - distance) * (1 - MARGIN)

"""What methods try to make small or large, each a number that anyone can compute again from the picks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.assign import nearest_distances
from kofn.core.block import Blocks, Doubles, Rows, by_slab
from kofn.core.discrepancy import discrepancy_to_rows


@dataclass(frozen=True)
class Objective:
    """A named figure of merit of a set of picks.

    `value(blocks, rows, weights, scores)`: rows are those of picks and `have` together. `covers` is whether it asks that every
    row has a pick near it, so that a second copy of a pick is worth nothing.
    """

    title: str
    higher_is_better: bool
    needs: str
    value: Callable[[Blocks | None, Rows, Doubles | None, Doubles | None], float]
    covers: bool = True


def _distances(blocks: Blocks | None, rows: Rows) -> Any:
    assert blocks is not None
    return nearest_distances(blocks, blocks.take(rows))


def _weighted(parts: Any, weights: Doubles | None, power: int) -> float:
    total = mass = 0.0
    slabs = None if weights is None else by_slab(weights)
    for slab, distance in enumerate(parts):
        values = distance.astype(np.float64) ** power
        w = np.ones(len(values)) if slabs is None else slabs[slab]
        total += float(np.dot(w, values))
        mass += float(w.sum())
    return total / mass


def _mean_distance(blocks: Blocks | None, rows: Rows, weights: Doubles | None, scores: Doubles | None) -> float:
    return _weighted(_distances(blocks, rows), weights, 1)


def _mean_squared(blocks: Blocks | None, rows: Rows, weights: Doubles | None, scores: Doubles | None) -> float:
    return _weighted(_distances(blocks, rows), weights, 2)


def _radius(blocks: Blocks | None, rows: Rows, weights: Doubles | None, scores: Doubles | None) -> float:
    return max(float(distance.max()) for distance in _distances(blocks, rows))


def _total_score(blocks: Blocks | None, rows: Rows, weights: Doubles | None, scores: Doubles | None) -> float:
    assert scores is not None
    return float(scores[rows].sum())


def _mean_discrepancy(blocks: Blocks | None, rows: Rows, weights: Doubles | None, scores: Doubles | None) -> float:
    assert blocks is not None
    return discrepancy_to_rows(blocks, rows, weights)


OBJECTIVES = {
    "mean_distance": Objective("mean distance of a row to its nearest pick", False, "embeddings", _mean_distance),
    "mean_squared_distance": Objective(
        "mean squared distance of a row to its nearest pick", False, "embeddings", _mean_squared
    ),
    "radius": Objective("largest distance of a row to its nearest pick", False, "embeddings", _radius),
    "total_score": Objective("sum of the picks' scores", True, "scores", _total_score, covers=False),
    "mmd": Objective(
        "squared maximum mean discrepancy of the picks, counted alike, and all rows, less the rows' own part",
        False,
        "embeddings",
        _mean_discrepancy,
        covers=False,
    ),
}

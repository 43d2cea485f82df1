"""Does a coreset keep the cost of clusterings? Sets of centers to try it on, and the ratios of the costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.core.block import Doubles, Floats, dense
from kofn.errors import UsageError
from kofn.items import Items
from kofn.represent.clusterings import best_centers, clustering_cost
from kofn.rng import Rng


def evaluate_coreset(
    x: Any, points: Any, weights: Any, center_sets: Any, *, cost: str = "k-means", row_weights: Any = None
) -> Doubles:
    """Cost of the weighted points over the cost of all rows, for each set of centers.

    Parameters
    ----------
    x : (n, d)
        All rows.
    points : (k, d)
        The coreset: rows of x, or any points.
    weights : (k,)
        How much each point counts.
    center_sets : iterable of (any number, d) arrays
        The sets of centers to ask; see `query_centers`.
    cost : {"k-means", "k-median"}
        Squared distances, or distances.
    row_weights : (n,), optional
        How much each row counts; default 1.

    Returns
    -------
    float64 (number of sets,)
        1 where the costs agree; 1 too where both are 0. O(sets n d centers) time.
    """
    d = np.shape(x)[1]
    if np.shape(points)[1] != d:
        raise UsageError(f"points have {np.shape(points)[1]} columns, the rows {d}; give points of the same data")
    sets = [np.asarray(each, np.float64) for each in center_sets]
    for centers in sets:
        if centers.ndim != 2 or centers.shape[1] != d:
            raise UsageError(
                f"a set of centers has shape {centers.shape}; give a list of arrays (centers, {d}), one a set"
            )
    if not hasattr(x, "tocsr"):  # rows far from the origin would lose their differences in float32
        middle = np.asarray(x, np.float64).mean(axis=0)
        x, points = np.asarray(x, np.float64) - middle, np.asarray(points, np.float64) - middle
        sets = [centers - middle for centers in sets]
    everything, few = Items(embeddings=x, weights=row_weights), Items(embeddings=points, weights=weights)
    ratios = []
    for centers in sets:
        truth = clustering_cost(everything, centers, cost)
        told = clustering_cost(few, centers, cost)
        ratios.append(told / truth if truth > 0 else 1.0 if told == 0 else np.inf)
    return np.array(ratios)


def query_centers(
    x: Any, points: Any, weights: Any, clusters: int, *, count: int = 1000, cost: str = "k-means", seed: int = 0
) -> list[Floats]:
    """Sets of centers that a coreset is tried on, the hard ones first.

    The best centers of all rows and of the coreset (Lloyd's, from k-means++), each of both without one of its centers, both
    with one center sent far away, single far points; then, until there are `count`, rows drawn at random, every other set
    moved by noise of the size of the data's own spread.
    """
    rng, rows = Rng(seed), np.asarray(dense(x), np.float32)
    everything, few = Items(embeddings=rows), Items(embeddings=points, weights=weights)
    generator = rng.generator("queries")
    spread = rows.std(axis=0)
    far = rows.mean(axis=0) + generator.normal(size=(9, rows.shape[1])) * spread * np.repeat([1, 10, 100], 3)[:, None]
    sets: list[Any] = []
    for name, items in (("all", everything), ("few", few)):
        best = best_centers(items, clusters, rng.child(name), cost)
        sets.append(best)
        if len(best) > 1:
            sets += [np.delete(best, j, axis=0) for j in range(len(best))]
        sets += [np.concatenate([best[1:], point[None]]) for point in far]
    sets += [point[None] for point in far]
    while len(sets) < count:
        chosen = rows[generator.choice(len(rows), min(clusters, len(rows)), replace=False)]
        noise = generator.normal(size=chosen.shape) * spread * (len(sets) % 2)
        sets.append(chosen + noise)
    return [np.ascontiguousarray(centers, dtype=np.float32) for centers in sets[:count]]

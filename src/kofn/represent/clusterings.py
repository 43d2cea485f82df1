"""Clusterings for k-means and k-median: near-optimal centers, and what any centers cost."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kofn.core.assign import nearest_in_block
from kofn.core.blas import one_blas_thread
from kofn.core.block import Block, Blocks, Doubles, Floats, by_slab_or_none, dense
from kofn.core.designs import smallest_numbers
from kofn.core.distance import Centers, distances_to_point
from kofn.core.lloyd import lloyd, train
from kofn.core.reduce import tree_sum
from kofn.items import Items
from kofn.rng import Rng

COSTS = ("k-means", "k-median")
LEAST = 1e-3  # of the mean distance: rows nearer than that to their center pull on it no harder


def near_optimal(
    items: Items, blocks: Blocks, clusters: int, rng: Rng, *, cost: str, sample: int, rounds: int
) -> Floats:
    """Centers float32 (at most clusters, d) whose cost is near the best, found on `sample` rows a cluster."""
    if cost == "k-means":
        trained = train(blocks, clusters, rng, items.hold, sample=sample, rounds=rounds, weights=items.weights)
        return trained.clustering.centers
    size = min(blocks.n, sample * clusters)
    rows = np.sort(smallest_numbers(blocks.n, size, partial(rng.rows, purpose="sample")))
    weights = np.ones(size) if items.weights is None else items.weights[rows]
    held = items.hold(blocks.take(rows))
    return _medians(held, weights, _seeds_by_distance(held, weights, clusters, rng), rounds)


def best_centers(items: Items, clusters: int, rng: Rng, cost: str = "k-means") -> Floats:
    """Centers float32 (clusters, d) by seeding and 100 Lloyd rounds at most on all rows, held in memory."""
    clusters = min(clusters, items.n)
    sample = -(-items.n // clusters)
    with one_blas_thread():
        return near_optimal(items, items.blocks(), clusters, rng, cost=cost, sample=sample, rounds=100)


def clustering_cost(items: Items, centers: Any, cost: str = "k-means") -> float:
    """Weighted sum over the rows of their (squared) distances to the nearest center. One pass."""
    each = list(zip(by_slab_or_none(items.weights, items.n), by_slab_or_none(None, items.n), strict=True))
    points = Centers(np.ascontiguousarray(centers, dtype=np.float32))
    with one_blas_thread():
        parts = items.blocks().map(measure_block, points, cost, each=each)
        return float(tree_sum(totals.sum() for _, _, (_, totals) in parts))


def measure_block(block: Block, centers: Centers, cost: str, pair: tuple[Any, Any]) -> tuple[Any, ...]:
    """Labels and costs of a slab's rows, and the weight and the cost of the rows of each cluster that may be drawn."""
    weights, held = pair
    labels, costs = nearest_in_block(block, centers)
    if cost == "k-median":
        costs = np.sqrt(costs)
    w = np.ones(len(labels)) if weights is None else weights
    if held is not None:
        w = np.where(held, 0.0, w)
    k = len(centers.points)
    return labels, costs, (np.bincount(labels, w, k), np.bincount(labels, w * costs, k))


def _seeds_by_distance(blocks: Blocks, weights: Doubles, clusters: int, rng: Rng) -> Floats:
    """Rows drawn one after the other in proportion to weight times distance to the nearest so far: O(log k) of the best."""
    draws = rng.generator("k-median").random(clusters)
    nearest, chance, chosen = np.full(blocks.n, np.inf), weights, []
    for u in draws:
        cumulative = np.cumsum(chance)
        if cumulative[-1] <= 0:
            break
        at = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
        chosen.append(min(at, int(np.searchsorted(cumulative, cumulative[-1]))))
        point = dense(blocks.take(np.array(chosen[-1:])))[0]
        np.minimum(nearest, np.concatenate(list(blocks.map(_squares_of_block, point))), out=nearest)
        chance = weights * np.sqrt(nearest)
    return np.asarray(dense(blocks.take(np.array(chosen))), np.float32)


def _medians(blocks: Blocks, weights: Doubles, centers: Floats, rounds: int, tol: float = 1e-4) -> Floats:
    """Weiszfeld's steps for all clusters at once: Lloyd rounds whose row weights are divided by the distances.

    The mean so weighted minimises a bound on the sum of distances that is tight at the old center. Distances below a radius
    count as Huber's squares, or a center would be held by the row that it begins on; the radius is halved every round. Neither
    the step nor the halving adds to the cost so smoothed.
    """
    before = radius = np.inf
    for _ in range(rounds):
        squared = np.concatenate([near for _, near in blocks.map(nearest_in_block, Centers(centers))])
        distances = np.sqrt(squared.astype(np.float64))
        mean = float(np.dot(weights, distances) / weights.sum())
        radius = max(min(radius, mean) / 2, LEAST * mean)
        if mean <= 0:
            break
        smoothed = np.where(distances < radius, distances**2 / (2 * radius) + radius / 2, distances)
        cost = float(np.dot(weights, smoothed))
        if np.isfinite(before) and before - cost <= tol * before:
            break
        before = cost
        centers = lloyd(blocks, centers, rounds=1, weights=weights / np.maximum(distances, radius)).centers
    return centers


def _squares_of_block(block: Block, point: Floats) -> Doubles:
    return np.concatenate(block.map_tiles(_squares_of_tile, point))


def _squares_of_tile(start: int, x: Any, point: Floats) -> Doubles:
    return distances_to_point(dense(x), point)

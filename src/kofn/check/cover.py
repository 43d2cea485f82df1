"""How near the picks are to the rows, and whether they stand for them in a k-means cost."""

from __future__ import annotations

import numpy as np

from kofn.check.context import Context, shares
from kofn.check.metric import EMBEDDINGS, Metric
from kofn.core.block import Doubles, Floats
from kofn.core.seeding import draw_seeds
from kofn.items import Items
from kofn.rng import Rng
from kofn.selection import Selection

SIZES = (2, 8, 32)
"""Numbers of centers that costs are compared for."""

DRAWS = 3
"""Sets of centers of each size."""


def mean_distance(items: Items, selection: Selection, context: Context) -> float:
    """Mean over the measured rows of the distance to the nearest pick; O(m k d) time."""
    return float(np.sqrt(context.squared(selection), dtype=np.float64).mean())


def radius(items: Items, selection: Selection, context: Context) -> float:
    """Largest distance of a measured row to its nearest pick; O(m k d) time."""
    return float(np.sqrt(np.float64(context.squared(selection).max())))


def kmeans_cost_error(items: Items, selection: Selection, context: Context) -> float:
    """How wrong the weighted picks are about the k-means cost of centers that they have not seen.

    For a set C of centers, cost(C) is the mean over the measured rows of the squared distance to the nearest center, and
    the picks say sum w_i d(p_i, C)^2 / sum w_i. The figure is the largest |picks say - cost| / cost over nine sets:
    k-means++ seeds of the measured rows, three draws each of 2, 8 and 32 centers (Arthur and Vassilvitskii, SODA 2007).
    A coreset promises that it is at most epsilon for every set of centers; nine are a test, no proof.
    O(s d k) time for s = 126 centers.
    """
    weights, points = shares(selection), context.picks(selection)
    errors = [
        abs(float(weights @ context.squared_to(centers, points).astype(np.float64)) - cost) / cost
        for centers, cost in context.once("sets of centers", lambda: _sets_of_centers(context))
    ]
    return max(errors, default=0.0)


def _sets_of_centers(context: Context) -> list[tuple[Floats, float]]:
    """Sets of centers and what they cost all measured rows; sets that cost nothing say nothing and are left out."""
    blocks, rng = context.items.hold(context.vectors), Rng(0).child("k-means cost error")
    found = []
    for size in SIZES:
        for draw in range(DRAWS):
            if size >= len(context.rows):
                continue
            seeds = draw_seeds(blocks, size, rng.child(f"{size} centers, draw {draw}"))
            centers = context.vectors[seeds.rows]
            cost = float(context.squared_to(centers).mean(dtype=np.float64))
            if cost > 0:
                found.append((centers, cost))
    return found


def distance_to_one(context: Context, count: int = 64) -> float:
    """Mean distance of the measured rows to one row chosen at random: where coverage begins. Mean over `count` rows."""
    each: list[Doubles] = [
        np.sqrt(context.squared_to(context.vectors[at : at + 1]), dtype=np.float64)
        for at in range(min(count, len(context.rows)))
    ]
    return float(np.mean([distances.mean() for distances in each]))


MEAN_DISTANCE = Metric(
    name="mean_distance",
    title="mean distance to the nearest pick",
    higher_is_better=False,
    about="mean over the rows of the distance to the nearest pick",
    needs=frozenset({EMBEDDINGS}),
    measured=mean_distance,
)

RADIUS = Metric(
    name="radius",
    title="largest distance to the nearest pick",
    higher_is_better=False,
    about="largest distance of a row to its nearest pick",
    needs=frozenset({EMBEDDINGS}),
    measured=radius,
)

KMEANS_COST_ERROR = Metric(
    name="kmeans_cost_error",
    title="relative error of the k-means cost",
    higher_is_better=False,
    about=(
        "largest relative error of the weighted picks' k-means cost against all rows' cost, over nine sets of 2, 8 and 32 "
        "k-means++ centers"
    ),
    needs=frozenset({EMBEDDINGS}),
    measured=kmeans_cost_error,
)

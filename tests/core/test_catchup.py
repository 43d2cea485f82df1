"""Rows that catch up end with the same nearest center as if they had been measured against all."""

import numpy as np
import pytest

from kofn.core.block import TILE, Block
from kofn.core.catchup import catch_up_block


def measured(x, points):
    x, points = np.asarray(x, np.float64), np.asarray(points, np.float64)
    return ((x[:, None] - points[None]) ** 2).sum(axis=2)


def after(distance, seen, held):
    """Squared distance to the nearest of the first centers and its position; on ties picks before held ones."""
    order = np.array([*range(held, distance.shape[1]), *range(held)])
    among = np.where(order < np.asarray(seen)[:, None], distance[:, order], np.inf)
    return among.min(axis=1), order[among.argmin(axis=1)]


WORLDS = {
    "clusters, where most centers are ruled out": (0.05, 40, 3),
    "one cloud, where none is": (3.0, 40, 20),
    "a line of ties": (None, 30, 1),
}


@pytest.mark.parametrize("held", [0, 4])
@pytest.mark.parametrize("name", WORLDS)
def test_what_is_known_and_what_is_new_make_the_whole(name, held):
    spread, centers, d = WORLDS[name]
    rng = np.random.default_rng(0)
    points = 5 * rng.normal(size=(centers, d))
    x = points[rng.integers(0, centers, TILE + 500)] + (spread or 1) * rng.normal(size=(TILE + 500, d))
    if spread is None:
        points, x = np.round(points), np.round(x)
    points, x = points.astype(np.float32), x.astype(np.float32)
    seen = rng.integers(max(1, held), centers - 5, len(x))
    distance = measured(x, points)
    known = after(distance, seen, held)
    order = np.lexsort((seen, known[1]))
    state = np.stack([known[0], known[1], seen], axis=1)
    expected = after(distance, np.full(len(x), centers), held)
    for way in (order, np.arange(len(x))):
        gaps, nearest = catch_up_block(Block(0, x[way]), points, held, state[way])
        np.testing.assert_array_equal(nearest, expected[1][way])
        np.testing.assert_allclose(gaps, expected[0][way], rtol=1e-12, atol=1e-12)


def test_rows_that_have_seen_nothing_are_measured_against_all():
    rng = np.random.default_rng(1)
    x, points = rng.normal(size=(900, 6)).astype(np.float32), rng.normal(size=(30, 6)).astype(np.float32)
    state = np.stack([np.full(900, np.inf), np.zeros(900), np.zeros(900)], axis=1)
    gaps, nearest = catch_up_block(Block(0, x), points, 0, state)
    distance = measured(x, points)
    np.testing.assert_array_equal(nearest, distance.argmin(axis=1))
    np.testing.assert_allclose(gaps, distance.min(axis=1), rtol=1e-12)

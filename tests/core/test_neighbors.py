"""Pairs within a radius and nearest rows, against distances that are all computed."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from kofn.core.knn import nearest, within_own_radius
from kofn.core.neighbors import (
    Points,
    local_radii,
    pair_distances,
    pairs_within,
    spread_rows,
    sweep,
)


def points_of(*, n, d, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    centers = 4 * rng.normal(size=(7, d))
    rows = centers[rng.integers(7, size=n)] + rng.normal(size=(n, d)) + offset
    return Points(rows.astype(np.float32))


def all_distances(points):
    x = points.rows.astype(np.float64)
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2)).astype(np.float32)


def as_sets(graph):
    return [set(graph.of(row)[0].tolist()) for row in range(len(graph.starts) - 1)]


def on_threads(workers):
    def run(fn, calls):
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda call: fn(*call), calls))

    return run


@pytest.mark.parametrize("d", [1, 3, 31, 32, 70])
def test_pair_distances_are_right_and_the_same_both_ways_round(d):
    x = np.random.default_rng(d).normal(size=(40, d)).astype(np.float32) + 1000
    first, second = np.arange(40, dtype=np.int32), np.arange(40, dtype=np.int32)[::-1].copy()
    there, back = np.empty(40), np.empty(40)
    pair_distances(x, first, x, second, there)
    pair_distances(x, second, x, first, back)
    exact = np.sqrt(((x[first].astype(np.float64) - x[second]) ** 2).sum(axis=1))
    np.testing.assert_array_equal(there, back)
    np.testing.assert_allclose(there, exact, rtol=1e-12)


@pytest.mark.parametrize(("n", "d", "offset"), [(3, 1, 0), (300, 2, 0), (1300, 5, 0), (700, 40, 1e4)])
def test_no_pair_within_the_larger_radius_is_missed_and_none_is_listed_twice(n, d, offset):
    points = points_of(n=n, d=d, offset=offset)
    exact = all_distances(points)
    radii = np.quantile(exact, 0.05, axis=1).astype(np.float32) * np.linspace(0.5, 1.5, n, dtype=np.float32)
    radii[::5] = 0.0
    graph = pairs_within(points, radii, limit=n * n)
    near = exact < np.maximum(radii[:, None], radii[None])
    for row in range(n):
        ids, distances = graph.of(row)
        assert len(ids) == len(set(ids.tolist()))
        np.testing.assert_array_equal(np.sort(ids), np.flatnonzero(near[row]))
        np.testing.assert_allclose(distances, exact[row, ids], rtol=1e-6)


def test_a_row_is_on_its_own_list_only_where_its_radius_is_positive():
    points = Points(np.zeros((4, 2), np.float32))
    radii = np.array([0.0, 1.0, 0.0, 1.0], np.float32)
    assert as_sets(pairs_within(points, radii, limit=16)) == [{1, 3}, {0, 1, 2, 3}, {1, 3}, {0, 1, 2, 3}]


def test_more_pairs_than_the_limit_give_no_graph_and_leave_the_sums_as_they_are():
    points = points_of(n=600, d=3)
    w, b, r = np.ones(600, np.float32), np.full(600, 5, np.float32), np.full(600, 3, np.float32)
    tight, roomy = sweep(points, w, b, r, limit=100), sweep(points, w, b, r, limit=10**6)
    assert tight.graph is None
    assert roomy.graph is not None
    np.testing.assert_array_equal(tight.totals, roomy.totals)
    np.testing.assert_array_equal(tight.savings, roomy.savings)


@pytest.mark.parametrize(("n", "d"), [(5, 1), (257, 3), (1500, 20), (2500, 2)])
def test_the_sums_of_a_sweep_are_those_of_all_pairs(n, d):
    rng = np.random.default_rng(n)
    points = points_of(n=n, d=d)
    w, b, r = (rng.uniform(low, high, n).astype(np.float32) for low, high in ((0.1, 2), (2, 8), (0, 4)))
    found = sweep(points, w, b, r, limit=0)
    far = np.maximum(all_distances(points).astype(np.float64), r[:, None])  # row i, candidate j
    np.testing.assert_allclose(found.totals, (w[:, None] * far).sum(axis=0), rtol=1e-5)
    saved = (w[:, None] * np.maximum(b[:, None] - far, 0)).sum(axis=0)
    np.testing.assert_allclose(found.savings, saved, rtol=1e-5, atol=1e-5 * saved.max())
    assert found.graph is None


def test_threads_change_nothing():
    points = points_of(n=2600, d=4)
    radii, typical = local_radii(points, 30, np.ones(2600))
    one = sweep(points, radii, radii, radii, limit=10**6)
    three = sweep(points, radii, radii, radii, limit=10**6, runner=on_threads(3))
    for name in ("totals", "savings"):
        assert getattr(one, name).tobytes() == getattr(three, name).tobytes()
    for name in ("starts", "ids", "distances"):
        assert getattr(one.graph, name).tobytes() == getattr(three.graph, name).tobytes()
    again = local_radii(points, 30, np.ones(2600), on_threads(3))
    assert (radii.tobytes(), typical.tobytes()) == (again[0].tobytes(), again[1].tobytes())
    assert nearest(points, 9).ids.tobytes() == nearest(points, 9, on_threads(3)).ids.tobytes()


@pytest.mark.parametrize(("n", "d", "m"), [(2, 1, 1), (9, 3, 8), (400, 2, 7), (3000, 12, 25), (2300, 1, 40)])
def test_nearest_lists_the_m_nearest_in_order(n, d, m):
    points = points_of(n=n, d=d)
    graph = nearest(points, m)
    for row in range(0, n, max(1, n // 200)):
        apart = points.distances_to(row)
        apart[row] = np.inf
        np.testing.assert_array_equal(graph.of(row)[0], np.argsort(apart, kind="stable")[:m])
        np.testing.assert_array_equal(graph.of(row)[1], np.sort(apart)[:m])


def test_ties_for_nearest_go_to_the_lowest_row_number():
    points = Points(np.array([[0], [1], [-1], [1], [-1], [0]], np.float32))
    assert [ids.tolist() for ids, _ in map(nearest(points, 3).of, range(6))] == [
        [5, 1, 2], [3, 0, 5], [4, 0, 5], [1, 0, 5], [2, 0, 5], [0, 1, 2],
    ]  # fmt: skip
    same = nearest(Points(np.ones((2500, 3), np.float32)), 3)
    assert [same.of(row)[0].tolist() for row in (0, 1, 2, 2499)] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_lists_of_nearest_rows_made_two_sided_are_those_of_pairs_within_their_radii():
    points = points_of(n=900, d=3)
    graph, radii = within_own_radius(nearest(points, 11))
    exact = all_distances(points)
    np.testing.assert_allclose(radii, np.sort(exact, axis=1)[:, 11], rtol=1e-6)
    expected = pairs_within(points, radii, limit=10**6)
    assert as_sets(graph) == as_sets(expected)
    assert len(graph.ids) == len(expected.ids)


def test_radii_hold_about_as_many_rows_as_wanted():
    points = points_of(n=3000, d=6)
    radii, typical = local_radii(points, 60, np.ones(3000))
    rows = np.arange(0, 3000, 10)
    inside = [int((points.distances_to(int(row)) < radii[row]).sum()) for row in rows]
    assert 45 < np.mean(inside) < 75
    totals = [float(points.distances_to(int(row)).sum(dtype=np.float64)) for row in rows]
    assert np.corrcoef(typical[rows], totals)[0, 1] > 0.99


def test_a_radius_that_products_cannot_tell_from_zero_is_zero():
    rows = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 100, axis=0).astype(np.float32)
    radii, _ = local_radii(Points(rows), 20, np.ones(400))
    np.testing.assert_array_equal(radii, 0.0)
    wide, _ = local_radii(Points(rows), 20, np.ones(400), wide=True)
    assert (wide > 0).all()
    assert wide.max() < 0.02


@pytest.mark.parametrize(("n", "count"), [(1, 1), (10, 10), (10, 50), (10_000, 1000)])
def test_spread_rows_are_distinct_in_range_and_even(n, count):
    rows = spread_rows(n, count)
    assert len(np.unique(rows)) == len(rows)
    assert rows[0] >= 0
    assert rows[-1] < n
    assert len(rows) >= 0.9 * min(n, count)
    assert np.diff(rows).max(initial=1) <= 3 * n / len(rows)


def test_one_row_and_two_rows_work():
    one = Points(np.ones((1, 3), np.float32))
    found = sweep(one, *(np.ones(1, np.float32),) * 3, limit=9)
    assert found.totals.tolist() == [1.0]
    assert as_sets(found.graph) == [{0}]
    two = partial(sweep, Points(np.array([[0], [3]], np.float32)))
    assert two(*(np.full(2, v, np.float32) for v in (1, 4, 1)), limit=9).totals.tolist() == [4.0, 4.0]

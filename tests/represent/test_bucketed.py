"""Bucketed k-median coresets on a line and in few dimensions."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial import cKDTree

import kofn
from kofn.represent.bucketed import best_on_a_line, bucketed_coreset

N = 100_000


def cost(x, weights, centers):
    """The k-median cost on a line, one row at a time."""
    centers = np.sort(np.asarray(centers))
    middles = (centers[1:] + centers[:-1]) / 2
    return float(np.dot(weights, np.abs(x - centers[np.searchsorted(middles, x)])))


@cache
def lines():
    """Rows and their weights: one hump, two far ones, and a tail of which every power of e costs the same."""
    rng = np.random.default_rng(0)
    power = rng.uniform(0, 40, N)
    two = np.concatenate([rng.normal(size=N // 2), 1e4 + rng.normal(size=N // 2)])
    return {
        "normal": (rng.normal(size=N), np.ones(N)),
        "two": (two, np.ones(N)),
        "tail": (np.exp(power), np.exp(-power)),
    }


def queries(x, points, clusters, count, seed=0):
    """Sets of centers: at rows, at buckets, within the range, far out, and one at the median with others at buckets."""
    rng = np.random.default_rng(seed)
    low, high, middle = x.min(), x.max(), np.median(x)
    for number in range(count):
        kind = number % 5
        if kind == 0:
            yield rng.choice(x, clusters)
        elif kind == 1:
            yield rng.choice(points, clusters)
        elif kind == 2:
            yield rng.uniform(low, high, clusters)
        elif kind == 3:
            yield middle + (high - low) * rng.standard_cauchy(clusters)
        else:
            yield np.concatenate([[middle], rng.choice(points, max(clusters - 1, 1))])[-clusters:]


@pytest.mark.parametrize(("name", "clusters"), [("normal", 1), ("normal", 3), ("two", 2), ("tail", 1), ("tail", 2)])
def test_any_centers_cost_the_same_within_epsilon(name, clusters):
    """1,000 sets over the five cases."""
    x, weights = lines()[name]
    for epsilon in (0.1, 0.02):
        points, sums = bucketed_coreset(x, clusters, epsilon, weights)
        np.testing.assert_allclose(sums.sum(), weights.sum())
        for centers in queries(x, points, clusters, 100):
            assert abs(cost(points, sums, centers) / cost(x, weights, centers) - 1) <= epsilon


def worst(x, weights, points, sums, clusters):
    """The largest relative error over centers at the means of buckets, others at the median."""
    middle = np.median(np.repeat(points, np.maximum(1, np.round(1000 * sums / sums.sum()).astype(int))))
    sets = [[point] if clusters == 1 else [middle, point] for point in points]
    return max(abs(cost(points, sums, each) / cost(x, weights, each) - 1) for each in sets)


def atoms(epsilon):
    """Rows at powers of 4 whose weights fall as fast: 2 / epsilon places that cost alike, 1e5 rows in all."""
    places = round(2 / epsilon)
    at = np.repeat(np.arange(places), N // places)
    return 4.0**at, 4.0**-at


def test_one_median_needs_the_root_of_the_size_that_two_medians_need():
    """Slopes of the smallest working size in 1 / epsilon on the harder of two data sets: 0.5 for 1-median, 1 for 2-median."""
    epsilons = np.geomspace(0.2, 0.01, 6)
    slopes = {}
    for clusters in (1, 2):
        sizes = []
        for epsilon in epsilons:
            found = []
            for x, weights in (lines()["normal"], atoms(epsilon)):
                points, sums = bucketed_coreset(x, clusters, epsilon, weights)
                reached = worst(x, weights, points, sums, clusters)
                assert reached <= epsilon
                found.append((len(points), reached))
            sizes.append(max(found)[0])
        slopes[clusters] = np.polyfit(np.log(1 / epsilons), np.log(sizes), 1)[0]
    assert 0.35 < slopes[1] < 0.6
    assert 0.85 < slopes[2] < 1.15


def test_no_bucket_can_be_spared_where_every_place_counts():
    """Buckets for 5 epsilon: some centers cost more than epsilon too little, so the sizes above are those that work."""
    for clusters, (x, weights) in ((1, lines()["normal"]), (2, atoms(0.02))):
        points, sums = bucketed_coreset(x, clusters, 5 * 0.02, weights)
        assert worst(x, weights, points, sums, clusters) > 0.02


def test_buckets_stay_within_the_proven_number():
    for x, weights in lines().values():
        for clusters, epsilon in ((2, 0.1), (5, 0.03), (20, 0.2)):
            points, _ = bucketed_coreset(x, clusters, epsilon, weights)
            assert len(points) <= 4 * clusters / (0.9 * epsilon) + 2 * clusters


def test_the_best_cost_is_a_bound_from_below_within_ten_percent():
    rng = np.random.default_rng(3)
    for _ in range(20):
        x, weights = rng.normal(size=12) * 10, rng.uniform(0.1, 3, 12)
        for clusters in (1, 2, 3):
            best = min(cost(x, weights, x[list(chosen)]) for chosen in combinations(range(12), clusters))
            assert 0.9 * best * (1 - 1e-9) <= best_on_a_line(x, clusters, weights) <= best * (1 + 1e-9)


def test_few_different_numbers_are_kept_as_they_are():
    x = np.array([5.0, 1.0, 5.0, 9.0, 1.0, 5.0])
    points, sums = bucketed_coreset(x, 3, 0.5)
    np.testing.assert_array_equal(points, [1, 5, 9])
    np.testing.assert_array_equal(sums, [2, 3, 1])


def test_the_mean_is_kept_so_centers_beyond_the_data_cost_exactly_the_same():
    x, weights = lines()["two"]
    points, sums = bucketed_coreset(x, 1, 0.3, weights)
    for center in ([x.min() - 1], [x.max() + 1e6]):
        np.testing.assert_allclose(cost(points, sums, center), cost(x, weights, center), rtol=1e-12)


def test_an_offset_and_the_order_of_rows_change_nothing():
    x = lines()["normal"][0][:5000]
    points, sums = bucketed_coreset(x, 2, 0.1)
    shuffled = np.random.default_rng(1).permutation(x)
    again, weights = bucketed_coreset(shuffled[:, None], 2, 0.1)
    assert again.shape == (len(points), 1)
    np.testing.assert_array_equal(again[:, 0], points)
    moved, _ = bucketed_coreset(x + 1e9, 2, 0.1)
    np.testing.assert_allclose(moved - 1e9, points, atol=1e-6)
    np.testing.assert_array_equal(weights, sums)


def spread(x, weights, centers):
    return float(np.dot(weights, cKDTree(centers).query(x)[0]))


@pytest.mark.parametrize(("d", "clusters", "epsilon"), [(2, 1, 0.1), (2, 8, 0.2), (3, 3, 0.2)])
def test_in_few_dimensions_any_centers_cost_the_same_within_epsilon(d, clusters, epsilon):
    rng = np.random.default_rng(d)
    x = (10 * rng.normal(size=(8, d)))[rng.integers(0, 8, 20_000)] + rng.standard_t(3, size=(20_000, d))
    weights = rng.uniform(0.5, 2.0, 20_000)
    points, sums = bucketed_coreset(x, clusters, epsilon, weights)
    np.testing.assert_allclose(sums.sum(), weights.sum())
    assert len(points) < 20_000 / 3
    moved = 0.0
    for number in range(120):
        source = (x, points)[number % 2]
        centers = source[rng.choice(len(source), clusters)] + (number % 3) * rng.normal(size=(clusters, d))
        truth = spread(x, weights, centers)
        moved = max(moved, abs(spread(points, sums, centers) / truth - 1))
    assert moved <= epsilon


def test_a_better_solution_to_start_from_allows_fewer_cells():
    x = np.random.default_rng(0).normal(size=(20_000, 2))
    cautious, trusting = (len(bucketed_coreset(x, 3, 0.1, approximation=each)[0]) for each in (4.0, 1.0))
    assert trusting < 0.5 * cautious


def test_points_on_top_of_one_another_become_one():
    x = np.repeat(np.array([[0.0, 1.0], [5.0, 5.0]]), [3, 4], axis=0)
    points, sums = bucketed_coreset(x, 2, 0.1)
    order = np.argsort(points[:, 0])
    np.testing.assert_allclose(points[order], [[0, 1], [5, 5]])
    np.testing.assert_array_equal(sums[order], [3, 4])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"clusters": 0}, "clusters=0"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": 1.5}, "epsilon=1.5"),
        ({"approximation": 2.0}, "approximation=2.0.*one column"),
        ({"x": np.ones((4, 2)), "approximation": 0.5}, "approximation=0.5.*at least 1"),
        ({"x": np.ones((4, 9))}, "9 columns.*coreset"),
        ({"x": np.array([1.0, np.nan, np.inf])}, "2 of 3 rows.*row 1"),
        ({"weights": np.array([1.0, 0.0, 1.0])}, r"weights\[1\]"),
    ],
)
def test_what_cannot_be_is_an_error_with_its_value(how, words):
    with pytest.raises(kofn.KofnError, match=words):
        bucketed_coreset(**({"x": np.arange(3.0), "clusters": 1, "epsilon": 0.1} | how))


def test_a_grid_far_from_the_origin_is_the_grid_at_the_origin():
    x = np.random.default_rng(0).normal(size=(2_000, 2))
    here, weights = bucketed_coreset(x, 2, 0.5)
    there, others = bucketed_coreset(x + 1e9, 2, 0.5)
    assert abs(len(there) - len(here)) <= 2
    assert others.sum() == pytest.approx(weights.sum())
    assert len(here) > 20

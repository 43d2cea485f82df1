"""The swap engine against textbook PAM, and against losses recorded from another library."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kofn.core.dissimilarity import between
from kofn.core.medoid_starts import build, lab
from kofn.core.pam import Swaps, best_single

MANY = 1 << 20


def random_matrix(n, seed):
    """Dissimilarities of no metric at all."""
    m = np.random.default_rng(seed).uniform(size=(n, n)).astype(np.float32)
    m = np.triu(m, 1)
    return m + m.T


def uncovered(n):
    return np.full(n, np.inf, np.float32)


def on_two_threads(fn, calls):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda call: fn(*call), calls))


def loss(matrix, weights, medoids):
    return float(weights @ matrix[medoids].min(axis=0).astype(np.float64))


def every_swap(matrix, weights, medoids):
    """Loss of each (medoid given up, candidate taken), by brute force."""
    d = matrix.astype(np.float64)
    losses = np.empty((len(medoids), len(d)))
    for i in range(len(medoids)):
        rest = np.delete(medoids, i)
        left = d[rest].min(axis=0) if len(rest) else np.full(len(d), np.inf)
        losses[i] = np.minimum(d, left) @ weights
    losses[:, medoids] = np.inf
    return losses


def textbook_pam(matrix, weights, medoids):
    """SWAP of Kaufman and Rousseeuw: all pairs, the best, until none improves."""
    medoids, now = medoids.copy(), loss(matrix, weights, medoids)
    while True:
        losses = every_swap(matrix, weights, medoids)
        if losses.min() >= now * (1 - 1e-12):
            return medoids
        candidate = int(np.argmin(losses.min(axis=0)))
        medoids[np.argmin(losses[:, candidate])] = candidate
        now = losses.min()


def textbook_build(matrix, weights, k):
    d = matrix.astype(np.float64)
    chosen = [int(np.argmin(d @ weights))]
    while len(chosen) < k:
        gains = np.maximum(d[chosen].min(axis=0) - d, 0) @ weights
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
    return np.array(chosen)


@pytest.mark.parametrize("k", [2, 5, 12, 30, 60])
def test_fastpam1_finds_the_medoids_of_textbook_pam(k):
    """Ten matrices for each k, fifty in all."""
    for seed in range(10):
        matrix, weights = random_matrix(200, seed), np.random.default_rng(seed).integers(1, 4, 200).astype(float)
        begin = np.random.default_rng([seed, k]).choice(200, k, replace=False)
        swaps = Swaps(matrix, weights, uncovered(200), begin)
        assert swaps.best(np.arange(200), MANY, on_two_threads)
        np.testing.assert_array_equal(swaps.medoids, textbook_pam(matrix, weights, begin))


@pytest.mark.parametrize("k", [2, 9, 40])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_eager_swaps_end_where_no_single_swap_improves(k, kind):
    for seed in range(5):
        matrix, weights = random_matrix(150, seed), np.random.default_rng(seed).uniform(1, 3, 150)
        swaps = Swaps(matrix.astype(kind), weights, uncovered(150), np.arange(k))
        begin = swaps.loss
        assert swaps.eager(np.arange(150), MANY)
        assert swaps.loss == pytest.approx(loss(matrix, weights, swaps.medoids), rel=1e-12)
        assert every_swap(matrix, weights, swaps.medoids).min() >= swaps.loss * (1 - 1e-11)
        assert swaps.loss < begin


@pytest.mark.parametrize(("k", "least", "exchanges"), [(2, 19442, 10), (7, 11678, 28), (25, 6547, 54), (60, 4045, 86)])
def test_from_the_same_start_the_loss_is_that_of_the_kmedoids_package(k, least, exchanges):
    """Loss and number of swaps of `kmedoids.fasterpam(matrix, arange(k), n_cpu=1)`, version 0.5.5; all sums are exact."""
    i = np.arange(300)
    x = np.stack([(37 * i) % 101, (53 * i) % 103, (i * i) % 97], axis=1)
    matrix = np.abs(x[:, None] - x[None]).sum(axis=2).astype(np.float32)
    swaps = Swaps(matrix, np.ones(300), uncovered(300), np.arange(k))
    assert swaps.eager(np.arange(300), MANY)
    assert (swaps.loss, swaps.swaps) == (least, exchanges)


def test_looking_ahead_on_threads_changes_nothing():
    matrix = random_matrix(1_500, 3)
    ends = []
    for threads, runner in ((1, {}), (2, {"runner": on_two_threads}), (5, {"runner": on_two_threads})):
        swaps = Swaps(matrix, np.ones(1_500), uncovered(1_500), np.arange(20))
        swaps.eager(np.arange(1_500), MANY, threads=threads, **runner)
        ends.append((swaps.medoids.tolist(), swaps.swaps))
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][1] > 20


def test_a_row_of_weight_two_counts_as_two_rows():
    matrix, weights = random_matrix(90, 1), np.random.default_rng(0).integers(1, 4, 90)
    twice = np.repeat(np.arange(90), weights)
    light = Swaps(matrix[:, twice].copy(), np.ones(len(twice)), uncovered(len(twice)), np.arange(6))
    heavy = Swaps(matrix, weights.astype(float), uncovered(90), np.arange(6))
    for swaps in (light, heavy):
        swaps.eager(np.arange(90), MANY)
    assert light.medoids.tolist() == heavy.medoids.tolist()


def test_fixed_medoids_cover_and_are_never_given_up():
    matrix, weights = random_matrix(120, 2), np.ones(120)
    fixed = np.array([3, 50])
    order = np.setdiff1d(np.arange(120), fixed)
    for k in (1, 8):
        swaps = Swaps(matrix, weights, matrix[fixed].min(axis=0), order[:k])
        assert swaps.eager(order, MANY)
        assert not np.isin(swaps.medoids, fixed).any()
        losses = every_swap(matrix, weights, np.concatenate([swaps.medoids, fixed]))[:k]
        assert swaps.loss == pytest.approx(loss(matrix, weights, np.concatenate([swaps.medoids, fixed])))
        assert losses.min() >= swaps.loss * (1 - 1e-11)


def test_rounds_stop_the_swaps():
    matrix = random_matrix(200, 4)
    swaps = Swaps(matrix, np.ones(200), uncovered(200), np.arange(9))
    assert not swaps.eager(np.arange(200), 0)
    assert swaps.medoids.tolist() == list(range(9))
    assert not swaps.best(np.arange(200), 3)
    assert swaps.swaps == 3


def test_candidates_offered_in_strips_end_as_from_the_whole_table():
    matrix, everything = random_matrix(300, 5), np.arange(300)
    whole = Swaps(matrix, np.ones(300), uncovered(300), everything[:7])
    whole.eager(everything, MANY)
    strips = Swaps(np.zeros((1, 300), np.float32), np.ones(300), uncovered(300), everything[:7], everything, matrix[:7])
    idle = at = 0
    while idle < 300:
        names = everything[at : at + 77]
        idle = strips.offer(matrix[names], names, idle, 300, on_two_threads, threads=2)
        at = 0 if at + 77 >= 300 else at + 77
    assert strips.medoids.tolist() == whole.medoids.tolist()
    assert strips.loss == whole.loss


@pytest.mark.parametrize("k", [1, 2, 20])
def test_build_takes_the_row_that_saves_most_each_time(k):
    for seed in range(5):
        matrix, weights = random_matrix(160, seed), np.random.default_rng(seed).uniform(1, 3, 160)
        found = build(matrix, weights, uncovered(160), np.arange(160), k, on_two_threads)
        np.testing.assert_array_equal(found, textbook_build(matrix, weights, k))


def test_build_takes_the_lowest_row_on_ties():
    matrix = np.ones((5, 5), np.float32) - np.eye(5, dtype=np.float32)
    assert build(matrix, np.ones(5), uncovered(5), np.arange(5), 4).tolist() == [0, 1, 2, 3]


def test_lab_is_build_where_its_sample_holds_every_row():
    """10 + sqrt(13) is more than 13."""
    matrix, weights = random_matrix(13, 6), np.arange(1.0, 14)
    found = lab(between(matrix, "precomputed"), np.arange(13), weights, uncovered(13), 6, np.random.default_rng(0))
    np.testing.assert_array_equal(found, textbook_build(matrix, weights, 6))


def test_lab_begins_better_than_random_rows():
    """Twenty clusters: LAB's mean loss over ten draws is below that of the best of ten random starts."""
    rng = np.random.default_rng(0)
    x = (10 * rng.normal(size=(20, 4))[rng.integers(0, 20, 1_000)] + rng.normal(size=(1_000, 4))).astype(np.float32)
    dis, weights, everything = between(x, "euclidean"), np.ones(1_000), np.arange(1_000)
    apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    found = [lab(dis, everything, weights, uncovered(1_000), 20, np.random.default_rng(s)) for s in range(10)]
    assert all(len(set(rows.tolist())) == 20 for rows in found)
    random = [loss(apart, weights, np.random.default_rng(s).choice(1_000, 20, replace=False)) for s in range(10)]
    assert np.mean([loss(apart, weights, rows) for rows in found]) < min(random)


def test_the_best_single_medoid_has_the_least_sum():
    matrix, weights = random_matrix(300, 7), np.random.default_rng(1).uniform(1, 3, 300)
    order = np.arange(20, 300)
    assert best_single(matrix, weights, order) == 20 + int(np.argmin(matrix[order].astype(float) @ weights))

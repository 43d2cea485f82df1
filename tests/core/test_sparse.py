"""Sparse rows against centers: the inverted index answers as all products do."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import kofn
from kofn import Rng
from kofn.blocks import MemoryBlocks, Run
from kofn.core.lloyd import lloyd
from kofn.core.sparse import CenterIndex, add_sparse, nearest_of_sparse, squares_of_sparse


def documents(n=1_500, words=600, topics=12, seed=0):
    """Rows like TF-IDF: word frequencies by Zipf's law around topics, about 12 different words, length one."""
    rng = np.random.default_rng(seed)
    zipf = 1.0 / np.arange(1, words + 1)
    topic = np.stack([zipf * rng.exponential(size=words) ** 3 for _ in range(topics)])
    counts = np.zeros((n, words), np.float32)
    for i in range(n):
        p = topic[rng.integers(topics)]
        np.add.at(counts[i], rng.choice(words, 14, p=p / p.sum()), 1.0)
    counts *= np.log(n / (1 + (counts > 0).sum(axis=0))) + 1
    return csr_matrix(counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def brute(x, points):
    rows, centers = x.toarray().astype(np.float64), points.astype(np.float64)
    return ((rows[:, None, :] - centers[None]) ** 2).sum(axis=2)


def test_labels_are_those_of_all_products_at_every_round_and_few_pairs_are_multiplied_out():
    x = documents()
    k, last = 30, None
    points = x[:: x.shape[0] // k][:k].toarray()
    for turn in range(8):
        index = CenterIndex(points)
        (labels, squared), products = nearest_of_sparse(x, index, last)
        exact = brute(x, points)
        np.testing.assert_array_equal(labels, exact.argmin(axis=1))
        np.testing.assert_allclose(squared, exact.min(axis=1), rtol=1e-6)
        assert turn < 3 or products < 0.3 * x.shape[0] * k
        sums = np.zeros(points.shape)
        add_sparse(x, labels, np.ones(len(labels)), sums)
        points = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
        last = labels


@pytest.mark.parametrize("signs", [1, -1])
def test_a_wrong_hint_changes_nothing(signs):
    rng = np.random.default_rng(3)
    x = csr_matrix(np.where(rng.random((700, 90)) < 0.1, rng.normal(size=(700, 90)) + 1, 0).astype(np.float32))
    points = np.where(rng.random((25, 90)) < 0.3, rng.normal(size=(25, 90)) + signs, 0).astype(np.float32)
    (labels, squared), _ = nearest_of_sparse(x, CenterIndex(points))
    np.testing.assert_array_equal(labels, brute(x, points).argmin(axis=1))
    for hints in (np.zeros(700, np.int32), rng.integers(25, size=700).astype(np.int32), labels):
        (again, same), _ = nearest_of_sparse(x, CenterIndex(points), hints)
        np.testing.assert_array_equal(again, labels)
        np.testing.assert_array_equal(same, squared)


def test_ties_go_to_the_lowest_center_and_a_copy_is_at_distance_zero():
    x = csr_matrix(np.array([[0.1, 0, 0.7], [0, 0, 0], [0, 0.3, 0]], np.float32))
    points = np.array([[9, 9, 9], [0.1, 0, 0.7], [0.1, 0, 0.7], [0, 0, 0]], np.float32)
    (labels, squared), _ = nearest_of_sparse(x, CenterIndex(points))
    assert labels.tolist() == [1, 3, 3]
    assert squared[:2].tolist() == [0, 0]
    (labels, _), _ = nearest_of_sparse(x, CenterIndex(points), np.array([2, 0, 0], np.int32))
    assert labels.tolist() == [1, 3, 3]


def test_all_squares_agree_with_differences():
    x = documents(120, 80)
    points = np.vstack([x[:5].toarray(), np.random.default_rng(0).normal(size=(3, 80)).astype(np.float32)])
    out = np.empty((60, 8))
    squares_of_sparse(x, CenterIndex(points), 40, out)
    np.testing.assert_allclose(out, brute(x, points)[40:100], rtol=1e-9, atol=1e-13)


def test_sparse_rounds_are_the_dense_ones_and_threads_change_nothing():
    x = documents(9_000, 300)
    start = x[:40].toarray()
    dense = lloyd(MemoryBlocks(x.toarray()), start, rounds=6, tol=0.0, unit=True)
    for threads in (1, 3):
        found = lloyd(MemoryBlocks(x, run=Run(threads)), start, rounds=6, tol=0.0, unit=True)
        np.testing.assert_allclose(found.centers, dense.centers, atol=1e-6)
        assert found.cost == pytest.approx(dense.cost, rel=1e-6)


def test_spherical_centers_have_length_one_and_the_cosines_never_fall():
    x = documents()
    costs = []
    for rounds in range(1, 9):
        found = lloyd(MemoryBlocks(x), x[:25].toarray(), rounds=rounds, tol=0.0, unit=True)
        np.testing.assert_allclose(np.linalg.norm(found.centers, axis=1), 1, atol=1e-6)
        costs.append(found.cost)
    assert (np.diff(costs) <= 1e-9 * costs[0]).all()
    assert costs[-1] < 0.98 * costs[1]


@pytest.mark.parametrize("method", ["kmeans", "kmeans++", "sensitivity"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_sparse_matrix_is_chosen_from_like_its_dense_twin(method, metric):
    """The sums differ in their last bits, so seeds may: the answers must be as good."""
    x = documents(2_000, 200)
    dense = x.toarray()
    near = {}
    for name, rows in (("sparse", x), ("dense", dense)):
        picks = kofn.select(rows, 40, method=method, metric=metric, seed=1).indices
        near[name] = np.sqrt(brute(x, dense[picks]).min(axis=1)).mean()
    assert near["sparse"] == pytest.approx(near["dense"], rel=0.05)


def test_entries_given_twice_are_added_up_and_the_callers_matrix_stays():
    twice = csr_matrix((np.array([1, 1, 2, 3, 4], np.float32), [0, 0, 1, 1, 0], [0, 3, 4, 5]), shape=(3, 2))
    items = kofn.Items(embeddings=twice)
    np.testing.assert_array_equal(items.everything(), [[2, 2], [0, 3], [4, 0]])
    assert twice.nnz == 5
    assert len(kofn.represent.KMeans().select(items, 2, Rng(0))) == 2

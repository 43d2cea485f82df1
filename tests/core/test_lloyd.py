"""Lloyd's algorithm over slabs."""

import itertools

import numpy as np
import pytest

from kofn import Rng
from kofn.blocks import MemoryBlocks, Run
from kofn.core.lloyd import lloyd, nearest_rows, train


def blobs(n=3000, d=5, k=6, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(k, d)) * 10
    which = rng.integers(k, size=n)
    return (middles[which] + rng.normal(size=(n, d)) * spread).astype(np.float32), which


def plain_lloyd(x, centers, rounds, weights):
    centers = centers.astype(np.float64)
    for _ in range(rounds):
        squared = ((x[:, None, :].astype(np.float64) - centers[None]) ** 2).sum(axis=2)
        labels, cost = squared.argmin(axis=1), (weights * squared.min(axis=1)).sum()
        for j in range(len(centers)):
            if (labels == j).any():
                centers[j] = np.average(x[labels == j], axis=0, weights=weights[labels == j])
    return centers, cost


@pytest.mark.parametrize("weighted", [False, True])
def test_rounds_are_those_of_the_plain_algorithm(weighted):
    x, _ = blobs()
    weights = np.random.default_rng(1).uniform(0.5, 3.0, len(x)) if weighted else np.ones(len(x))
    start = x[::500].copy()
    found = lloyd(MemoryBlocks(x), start, rounds=5, tol=0.0, weights=weights if weighted else None)
    centers, cost = plain_lloyd(x, start, 5, weights)
    np.testing.assert_allclose(found.centers, centers, atol=1e-4)
    assert found.cost == pytest.approx(cost, rel=1e-5)


def test_the_cost_never_rises():
    x, _ = blobs(spread=4.0)
    costs = [lloyd(MemoryBlocks(x), x[:20].copy(), rounds=r, tol=0.0).cost for r in range(1, 12)]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(costs))


def test_it_stops_when_a_round_gains_too_little():
    x, _ = blobs()
    assert lloyd(MemoryBlocks(x), x[:6].copy(), rounds=100, tol=1e-3).rounds < 30


def test_an_empty_cluster_moves_to_the_farthest_row():
    x = np.array([[0.0], [1.0], [100.0]], np.float32)
    start = np.array([[0.0], [-500.0]], np.float32)
    found = lloyd(MemoryBlocks(x), start, rounds=3, tol=0.0)
    np.testing.assert_allclose(np.sort(found.centers.ravel()), [0.5, 100.0])


def test_fixed_centers_do_not_move():
    x, _ = blobs()
    fixed = np.full((2, 5), 3.0, np.float32)
    found = lloyd(MemoryBlocks(x), np.concatenate([x[:4], fixed]), rounds=4, fixed=2)
    np.testing.assert_array_equal(found.centers[4:], fixed)


def test_bits_do_not_depend_on_threads():
    x, _ = blobs(n=150_000, d=3)
    runs = [lloyd(MemoryBlocks(x, run=Run(threads)), x[:40].copy(), rounds=3, tol=0.0) for threads in (1, 2, 5)]
    assert len({run.centers.tobytes() for run in runs}) == 1


def test_the_nearest_row_of_a_cluster_is_the_lowest_of_equals():
    x = np.array([[1.0], [-1.0], [1.0], [9.0], [11.0]], np.float32)
    near = nearest_rows(MemoryBlocks(x), np.array([[0.0], [10.0]], np.float32))
    assert near.rows.tolist() == [0, 3]
    assert near.weights.tolist() == [3.0, 2.0]
    assert near.cost == 5.0


def test_excluded_rows_are_counted_but_not_named():
    x = np.array([[0.0], [0.5], [9.0]], np.float32)
    near = nearest_rows(MemoryBlocks(x), np.array([[0.0], [9.0]], np.float32), excluded=np.array([True, False, True]))
    assert near.rows.tolist() == [1, 3]
    assert near.weights.tolist() == [2.0, 1.0]


def test_training_on_a_sample_finds_separated_blobs():
    x, which = blobs(n=20_000)
    trained = train(MemoryBlocks(x), 6, Rng(0), MemoryBlocks, sample=50, rounds=10)
    assert len(trained.rows) == 300
    middles = np.array([x[which == j].mean(axis=0) for j in range(6)])
    gaps = np.linalg.norm(middles[:, None] - trained.clustering.centers[None], axis=2).min(axis=1)
    assert gaps.max() < 0.3


def test_rows_one_has_are_in_the_sample_and_come_last():
    x, _ = blobs(n=20_000)
    have = np.array([7, 19_999])
    trained = train(MemoryBlocks(x), 5, Rng(0), MemoryBlocks, sample=40, rounds=3, have=have)
    np.testing.assert_array_equal(trained.clustering.centers[5:], x[have])
    assert set(have) <= set(trained.rows.tolist())

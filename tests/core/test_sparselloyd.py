"""Lloyd's rounds on sparse rows with sparse centers are those of the dense ones."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from kofn.blocks import MemoryBlocks, Run
from kofn.core.block import SLAB
from kofn.core.lloyd import lloyd


def rows(n=2_500, words=120, seed=0):
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((n, words)) < 0.07, rng.random((n, words)), 0).astype(np.float32)
    x[:, 0] += 0.1  # no row is empty
    return x


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("fixed", [0, 3])
def test_sparse_rounds_are_the_dense_ones(unit, weighted, fixed):
    x = rows()
    if unit:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    weights = np.random.default_rng(1).uniform(0.5, 3.0, len(x)) if weighted else None
    start = x[::100].copy()
    how = {"rounds": 9, "weights": weights, "fixed": fixed, "tol": 0.0, "unit": unit}
    dense = lloyd(MemoryBlocks(x), start, **how)
    found = lloyd(MemoryBlocks(csr_matrix(x)), csr_matrix(start), **how)
    np.testing.assert_allclose(found.centers, dense.centers, atol=2e-6)
    assert found.cost == pytest.approx(dense.cost, rel=1e-6)
    assert found.rounds == dense.rounds
    if fixed:
        np.testing.assert_array_equal(found.centers[-fixed:], start[-fixed:])


def test_empty_clusters_take_the_farthest_rows():
    x = np.array([[1, 0], [2, 0], [0, 90], [0, 80]], np.float32)
    start = np.array([[1, 0], [-500, 0], [-500, 1]], np.float32)
    for rounds in range(1, 5):
        dense = lloyd(MemoryBlocks(x), start, rounds=rounds, tol=0.0)
        found = lloyd(MemoryBlocks(csr_matrix(x)), csr_matrix(start), rounds=rounds, tol=0.0)
        np.testing.assert_array_equal(found.centers, dense.centers)
    np.testing.assert_array_equal(found.centers, [[1.5, 0], [0, 90], [0, 80]])


def test_bits_depend_neither_on_threads_nor_on_how_many_slabs_are_in_flight():
    x = csr_matrix(rows(5_000, 40))
    many = csr_matrix(np.vstack([x.toarray()] * (2 * SLAB // 5_000 + 2))[: 2 * SLAB + 77])
    runs = [lloyd(MemoryBlocks(many, run=Run(t)), x[:30], rounds=4, tol=0.0, unit=True) for t in (1, 2, 3)]
    assert len({run.centers.tobytes() for run in runs}) == 1
    assert len({run.cost for run in runs}) == 1


def test_the_stopping_rule_is_that_of_dense_rows():
    x = rows()
    start = x[::100].copy()
    dense = lloyd(MemoryBlocks(x), start, rounds=100, tol=1e-3)
    found = lloyd(MemoryBlocks(csr_matrix(x)), csr_matrix(start), rounds=100, tol=1e-3)
    assert found.rounds == dense.rounds < 100

"""Candidates against sparse rows: exactly the pairs in which a row comes nearer."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from kofn import Rng
from kofn.blocks import MemoryBlocks
from kofn.core.block import TILE, Block
from kofn.core.seeding import seed_rows
from kofn.core.sparsepairs import SparseCandidates, improvements_of_sparse


def rows(n=5_000, words=50, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, words)) < 0.1, rng.integers(-3, 4, (n, words)), 0).astype(np.float32)


@pytest.mark.parametrize("count", [1, 16, 37])
@pytest.mark.parametrize("offset", [0, 2 * TILE])
def test_the_pairs_are_those_of_all_distances(count, offset):
    x = rows()
    points = x[:count]
    apart = ((x[:, None].astype(np.int64) - points[None].astype(np.int64)) ** 2).sum(axis=2)
    bound = np.random.default_rng(1).integers(0, 40, len(x)).astype(np.float32)
    found = improvements_of_sparse(Block(offset, csr_matrix(x)), SparseCandidates(csr_matrix(points)), 10**6, bound)
    assert len(found) == 2
    assert all(pairs.usable == count for pairs in found)
    pairs = {
        (row - offset, which): squared
        for part in found
        for row, which, squared in zip(part.rows.tolist(), part.which.tolist(), part.squared.tolist(), strict=True)
    }
    expected = {(i, c): float(apart[i, c]) for i, c in zip(*np.nonzero(apart < bound[:, None]), strict=True)}
    assert pairs == expected


def test_where_there_is_no_room_only_the_first_candidates_are_kept_and_complete():
    x = rows(1_000)
    bound = np.full(len(x), 1e6, np.float32)
    (pairs,) = improvements_of_sparse(Block(0, csr_matrix(x)), SparseCandidates(csr_matrix(x[:16])), 5_000, bound)
    assert pairs.usable == 4
    assert np.bincount(pairs.which).tolist() == [1_000] * 4


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_greedy_seeds_of_sparse_rows_are_those_of_dense_ones(metric):
    """Whole numbers: squared distances are exact under euclidean; under cosine the sums differ too little to matter."""
    x = rows(3_000)
    x[:, 0] += 5
    dense, sparse = (
        seed_rows(MemoryBlocks(each, metric=metric), 60, Rng(2), candidates=5) for each in (x, csr_matrix(x))
    )
    np.testing.assert_array_equal(sparse, dense)

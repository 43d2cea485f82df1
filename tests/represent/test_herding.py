"""Kernel herding against the plain loop over all rows, and its MMD beside random rows."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from kofn import Items, Rng
from kofn.blocks import Run
from kofn.represent.herding import Herding


def rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def gram(x, bandwidth=None):
    """The Gaussian kernel of all rows in float64; by default the bandwidth is the median distance (at most 1,000 rows)."""
    x = x.astype(np.float64)
    return np.exp(-cdist(x, x, "sqeuclidean") / (2 * (bandwidth or np.median(pdist(x))) ** 2))


def assert_herded(k, chosen, weights=None, have=()):
    """Chen, Welling and Smola's recursion: each pick maximises the mean kernel less the picks' sum over t + 1, up to 1e-6."""
    w = np.ones(len(k)) if weights is None else weights
    mean, before = k @ w / w.sum(), list(have)
    assert len(set(chosen.tolist()) | set(have)) == len(chosen) + len(have)
    for pick in chosen:
        score = mean - k[:, before].sum(axis=1) / (len(before) + 1)
        score[before] = -np.inf
        assert score[pick] > score.max() - 1e-6
        before.append(pick)


def picks(x, k, *, weights=None, have=None, threads=1, **parameters):
    items = Items(embeddings=x, weights=weights, have=have, run=Run(threads))
    return Herding(**parameters).select(items, k, Rng(0))


@pytest.mark.parametrize("d", [1, 3, 30])
def test_every_pick_is_the_best_of_all_rows(d):
    x = rows(700, d)
    assert_herded(gram(x), picks(x, 60).indices)


def test_row_weights_move_the_mean():
    x, weights = rows(500, 2, 1), np.random.default_rng(1).uniform(0.1, 5, 500)
    found = picks(x, 40, weights=weights)
    assert_herded(gram(x), found.indices, weights)
    np.testing.assert_allclose(found.weights, weights.sum() / 40)


def test_rows_that_are_had_count_as_the_first_picks():
    x, had = rows(500, 2, 2), np.array([3, 77, 410])
    found = picks(x, 40, have=had)
    assert_herded(gram(x), found.indices, have=had.tolist())
    np.testing.assert_allclose(found.weights, 497 / 40)


def test_the_first_pick_is_the_mode_of_the_density():
    x = np.array([[0.0], [10.0], [10.2], [10.1], [-5.0]], np.float32)
    assert picks(x, 1, bandwidth=1.0).indices.tolist() == [3]


def test_of_two_heaps_the_second_pick_is_in_the_other_one():
    x = np.array([[0.0], [0.1], [0.2], [0.15], [9.0], [9.1], [9.2]], np.float32)
    assert picks(x, 2, bandwidth=1.0).indices.tolist() == [1, 5]


def test_64_of_4096_rows_have_less_than_half_the_mmd_of_random_rows():
    x = rows(4_096, 2)
    k = gram(x, bandwidth=1.6)
    mean = k.mean(axis=1)

    def mmd(chosen):
        return np.sqrt(mean.mean() - 2 * mean[chosen].mean() + k[np.ix_(chosen, chosen)].mean())

    rng = np.random.default_rng(3)
    chance = [mmd(rng.choice(4_096, 64, replace=False)) for _ in range(20)]
    assert mmd(picks(x, 64, bandwidth=1.6).indices) < 0.5 * min(chance)


def test_threads_and_the_seed_change_nothing():
    x = rows(3_000, 6)
    one, two = picks(x, 50, kernel="imq"), picks(x, 50, kernel="imq", threads=2)
    np.testing.assert_array_equal(one.indices, two.indices)
    seeded = Herding(kernel="imq").select(Items(embeddings=x), 50, Rng(9))
    np.testing.assert_array_equal(one.indices, seeded.indices)


def test_the_kernel_and_the_bandwidth_matter():
    x = rows(400, 3)
    found = {
        picks(x, 20, **p).indices.tobytes() for p in ({}, {"kernel": "laplace"}, {"kernel": "sinc"}, {"bandwidth": 0.3})
    }
    assert len(found) == 4

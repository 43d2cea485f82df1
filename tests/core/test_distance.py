"""The nearest center of every row, exact to rounding whatever products lose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from kofn.core.distance import WIDE, Centers, distances_to_point, nearest_in_tile, squared_distance


def brute(x, points):
    """Squared distances by differences in float64; the first of the nearest."""
    squared = ((x[:, None, :].astype(np.float64) - points[None].astype(np.float64)) ** 2).sum(axis=2)
    return squared.argmin(axis=1), squared.min(axis=1)


def assert_nearest(x, points):
    labels, squared = nearest_in_tile(0, x, Centers(points))
    expected, least = brute(x, points)
    assert labels.dtype == np.int32
    assert squared.dtype == np.float32
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(squared, least, rtol=1e-6, atol=0)


@pytest.mark.parametrize("d", [1, 3, 8, 13, 64])
@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 63, 64, 65, 200])
def test_the_nearest_center_is_that_of_brute_force(d, k):
    rng = np.random.default_rng(d * 1_000 + k)
    assert_nearest(rng.normal(size=(300, d)).astype(np.float32), rng.normal(size=(k, d)).astype(np.float32))


@given(seed=st.integers(0, 10**6), k=st.integers(1, 90), d=st.integers(1, 12), levels=st.sampled_from([2, 3, 5]))
def test_rows_on_bisectors_go_to_the_lowest_center(seed, k, d, levels):
    """Small integers: distances are exact, ties everywhere, duplicated centers among them."""
    rng = np.random.default_rng(seed)
    assert_nearest(
        rng.integers(0, levels, (40, d)).astype(np.float32), rng.integers(0, levels, (k, d)).astype(np.float32)
    )


@pytest.mark.parametrize("offset", [1e4, -3e5, 1e6])
def test_an_offset_costs_no_accuracy(offset):
    """Rows 1 apart at 1e6: their squares are 1e12, where float32 steps are 65,536."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(200, 16)) + offset).astype(np.float32)
    assert_nearest(x, x[rng.choice(200, 50, replace=False)])


def test_rows_hardly_apart_are_told_apart():
    """Two centers that differ by one rounding step: no product sees it, differences do."""
    point = np.linspace(1, 2, 24, dtype=np.float32)
    next_to_it = point.copy()
    next_to_it[5] = np.nextafter(point[5], np.float32(9))
    labels, squared = nearest_in_tile(0, np.stack([next_to_it, point]), Centers(np.stack([point, next_to_it])))
    assert labels.tolist() == [1, 0]
    assert squared.tolist() == [0, 0]


def test_one_far_center_does_not_blur_the_others():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(40, 8)).astype(np.float32)
    points[7] = 1e6
    assert_nearest(rng.normal(size=(100, 8)).astype(np.float32), points)


def test_a_center_is_at_distance_zero_from_itself():
    x = (np.random.default_rng(3).normal(size=(500, 32)) * 100 + 7e3).astype(np.float32)
    labels, squared = nearest_in_tile(0, x, Centers(x))
    assert labels.tolist() == list(range(500))
    assert not squared.any()


def test_the_height_of_a_tile_changes_no_bit_of_the_answer():
    rng = np.random.default_rng(4)
    x = (0.1 * rng.integers(0, 5, size=(4_096, 8)) + 3).astype(np.float32)
    centers = Centers(x[:50])
    labels, squared = nearest_in_tile(0, x, centers)
    for height in (1, 7, 100, 4_095):
        parts = [nearest_in_tile(at, x[at : at + height], centers) for at in range(0, 700, height)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts])[:700], labels[:700])
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts])[:700], squared[:700])


def test_sparse_rows_are_measured_like_dense_ones():
    rng = np.random.default_rng(5)
    dense = np.where(rng.random((60, 30)) < 0.1, rng.normal(size=(60, 30)), 0).astype(np.float32)
    for got, expected in zip(
        nearest_in_tile(0, csr_matrix(dense), Centers(dense[:9])),
        nearest_in_tile(0, dense, Centers(dense[:9])),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("d", [1, 3, 4, 7, 31, 32, 33, 35, 64, 100])
def test_a_squared_distance_is_exact_on_integers(d):
    rng = np.random.default_rng(d)
    a, b = (rng.integers(-9, 10, d).astype(np.float32) for _ in range(2))
    sums = np.full(WIDE, np.nan)  # whatever the room holds
    assert squared_distance(a, b, sums) == ((a - b) ** 2).sum()
    assert squared_distance(a, b, sums) == squared_distance(b, a, sums)


def test_distances_to_a_point_do_not_round_to_float32():
    x = np.array([[1e4 + 1], [1e4], [-1e4]], np.float32)
    assert distances_to_point(x, np.array([1e4], np.float32)).tolist() == [1.0, 0.0, 4e8]


def test_products_keep_one_height_for_one_k():
    for k, piece in ((1, 4_096), (256, 4_096), (257, 2_048), (1_000, 1_024), (10**6, 32)):
        assert Centers(np.zeros((k, 1), np.float32)).piece == piece

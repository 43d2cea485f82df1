"""Exact leverage scores, against singular vectors and closed forms."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from kofn import KofnError
from kofn.blocks import MemoryBlocks, Run
from kofn.core.leverage import as_blocks, leverage_scores, orthonormal_basis


def by_singular_vectors(x):
    u, values, _ = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    return (u[:, values > len(x) * 2.2e-16 * values[0]] ** 2).sum(axis=1)


def heavy(n, d, seed=0):
    return np.random.default_rng(seed).standard_t(3, size=(n, d))


def conditioned(n, d, condition, seed=0):
    """Rows of this condition number however their columns are scaled, and their scores."""
    rng = np.random.default_rng(seed)
    u, v = np.linalg.qr(rng.standard_t(3, size=(n, d)))[0], np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (u * np.geomspace(1, 1 / condition, d)) @ v, (u**2).sum(axis=1)


def test_copies_of_a_unit_vector_share_its_leverage():
    x = np.eye(3)[[0, 0, 0, 1, 1, 2]]
    np.testing.assert_allclose(leverage_scores(x), [1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1], rtol=1e-14)


def test_on_a_line_leverage_is_one_over_n_and_the_squared_distance_to_the_mean():
    x = np.array([[1.0], [2.0], [3.0], [6.0]])
    np.testing.assert_allclose(leverage_scores(x, intercept=True), 0.25 + np.array([4, 1, 0, 9]) / 14, rtol=1e-14)


@pytest.mark.parametrize("method", ["gram", "qr"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32])
def test_scores_are_squared_rows_of_the_left_singular_vectors(method, dtype):
    x = (10 * heavy(5_000, 7)).astype(dtype)
    np.testing.assert_allclose(leverage_scores(x, method=method), by_singular_vectors(x), rtol=1e-11)
    np.testing.assert_allclose(leverage_scores(x[:, ::-1], method=method), by_singular_vectors(x), rtol=1e-11)


@pytest.mark.parametrize("method", ["gram", "qr"])
@pytest.mark.parametrize(("condition", "error"), [(1e3, 1e-9), (1e6, 1e-8), (1e9, 1e-5)])
def test_an_ill_conditioned_matrix_costs_its_condition_number_and_not_the_square(method, condition, error):
    x, exact = conditioned(20_000, 24, condition)
    np.testing.assert_allclose(leverage_scores(x, method=method), exact, rtol=error)
    found = orthonormal_basis(as_blocks(x), method=method)
    assert condition / 10 < found.condition < 2 * condition


def test_one_gram_matrix_would_not_have_done_at_condition_1e7():
    x, exact = conditioned(20_000, 24, 1e7)
    triangle = np.linalg.cholesky(x.T @ x)
    plain = (np.linalg.solve(triangle, x.T) ** 2).sum(axis=0)
    assert np.abs(plain / exact - 1).max() > 1e-4
    np.testing.assert_allclose(leverage_scores(x), exact, rtol=1e-7)
    assert orthonormal_basis(as_blocks(x)).passes == 2


def test_columns_of_other_scale_change_nothing_and_cost_no_pass():
    x = heavy(3_000, 6)
    scaled = x * np.array([1e-12, 1e12, 1.0, 1e6, 1e-6, 1e3])
    np.testing.assert_allclose(leverage_scores(scaled), leverage_scores(x), rtol=1e-11)
    assert orthonormal_basis(as_blocks(scaled)).passes == 1


@pytest.mark.parametrize("method", ["gram", "qr"])
def test_dependent_columns_add_nothing(method):
    x = heavy(2_000, 4)
    wide = np.hstack([x, x @ np.array([[1.0, 2], [3, -1], [0, 1], [0, 0]]), np.zeros((2_000, 1))])
    scores = leverage_scores(wide, method=method)
    np.testing.assert_allclose(scores, by_singular_vectors(x), rtol=1e-9)
    assert scores.sum() == pytest.approx(4, rel=1e-12)
    assert leverage_scores(np.zeros((5, 2)), method=method).tolist() == [0.0] * 5


@pytest.mark.parametrize("method", ["gram", "qr"])
def test_fewer_rows_than_columns_have_all_the_leverage(method):
    np.testing.assert_allclose(leverage_scores(heavy(5, 9), method=method), np.ones(5), rtol=1e-12)


@pytest.mark.parametrize("method", ["gram", "qr"])
def test_ridge_weights_and_intercept_are_those_of_the_weighted_ridge_fit(method):
    x, weights = heavy(500, 4), np.random.default_rng(1).integers(0, 4, 500).astype(float)
    rows = np.hstack([x, np.ones((500, 1))]) * np.sqrt(weights)[:, None]
    expected = np.einsum("ij,ij->i", rows @ np.linalg.inv(rows.T @ rows + 3.0 * np.eye(5)), rows)
    found = leverage_scores(x, ridge=3.0, weights=weights, intercept=True, method=method)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-16)
    np.testing.assert_allclose(
        leverage_scores(csr_matrix(x), ridge=3.0, weights=weights, intercept=True, method=method), found, rtol=1e-11
    )


def test_a_weight_of_three_is_three_copies():
    x = heavy(50, 3)
    once = leverage_scores(x, weights=np.full(50, 3.0))
    thrice = leverage_scores(np.repeat(x, 3, axis=0))
    np.testing.assert_allclose(once, 3 * thrice[::3], rtol=1e-12)


def test_threads_and_engines_change_no_bit():
    x = heavy(140_000, 5).astype(np.float32)
    found = [leverage_scores(MemoryBlocks(x, run=Run(threads), dtype=np.float64)) for threads in (1, 2, 5)]
    for other in (*found[1:], leverage_scores(x), leverage_scores(x.astype(np.float64))):
        assert other.tobytes() == found[0].tobytes()


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(KofnError, match="NaN"):
        leverage_scores(np.array([[1.0], [np.nan]]))
    with pytest.raises(KofnError, match="ridge=-1"):
        leverage_scores(np.eye(2), ridge=-1)
    with pytest.raises(KofnError, match="method='svd'"):
        leverage_scores(np.eye(2), method="svd")
    with pytest.raises(KofnError, match="weights"):
        leverage_scores(np.eye(2), weights=[1.0, -1.0])
    with pytest.raises(KofnError, match="shape"):
        leverage_scores(np.ones(4))


def test_weights_of_another_length_are_refused():
    from kofn import KofnError
    from kofn.core.lewis import lewis_weights

    x = np.random.default_rng(0).normal(size=(30, 3))
    for scores in (leverage_scores, lambda x, weights: lewis_weights(x, 1.0, weights=weights)):
        with pytest.raises(KofnError, match="one for each of the 30 rows"):
            scores(x, weights=np.ones(3))

"""Leverage scores by a sketch, within their factor; rows kept in one pass, standing for all."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from kofn import KofnError, Rng
from kofn.blocks import MemoryBlocks, Run
from kofn.core.leverage import leverage_scores
from kofn.core.leveragestream import online_row_sampling, streaming_leverage_scores


def heavy(n, d, seed=0):
    return np.random.default_rng(seed).standard_t(3, size=(n, d))


def numbers(seed):
    return lambda start, stop: Rng(seed).rows(start, stop, "test")


def spikes(n=30_000, d=12):
    """Coherent: a few rows own a direction each, the others share the rest."""
    x = heavy(n, d, seed=5)
    x[:, :4] = 0
    x[np.array([7, 70, 700, 7_000]), np.arange(4)] = [1e-3, 1.0, 10.0, 1e4]
    return x


@pytest.mark.parametrize("x", [spikes(), heavy(30_000, 3), csr_matrix(spikes())], ids=["spikes", "narrow", "sparse"])
def test_sketched_scores_are_within_the_factor_that_they_state(x):
    exact = leverage_scores(x)
    for seed in range(5):
        ratio = streaming_leverage_scores(x, numbers(seed), epsilon=0.25) / exact
        assert ratio.min() > 1 / 1.25**2
        assert ratio.max() < 1 / 0.75**2
    assert np.abs(ratio - 1).max() > 1e-3  # a sketch it is


def test_fewer_directions_cost_a_random_error_of_the_stated_size():
    x = heavy(20_000, 40)
    full = streaming_leverage_scores(x, numbers(0))
    errors = streaming_leverage_scores(x, numbers(0), directions=20) / full - 1
    assert np.sqrt((errors**2).mean()) == pytest.approx(np.sqrt(2 / 20), rel=0.1)
    assert abs(errors.mean()) < 0.1


def test_sketched_ridge_scores_follow_the_ridge():
    x, options = heavy(20_000, 5), {"ridge": 3e4, "intercept": True, "weights": np.linspace(0.5, 2, 20_000)}
    ratio = streaming_leverage_scores(x, numbers(1), epsilon=0.2, **options) / leverage_scores(x, **options)
    assert ratio.min() > 1 / 1.2**2
    assert ratio.max() < 1 / 0.8**2


def distortions(x, kept):
    """Extreme values of |SXv|^2 / |Xv|^2 over all v."""
    basis = np.linalg.inv(np.linalg.cholesky(x.T @ x))
    rows = x[kept.rows] / np.sqrt(kept.chances)[:, None] @ basis.T
    return np.linalg.eigvalsh(rows.T @ rows)[[0, -1]]


def test_rows_kept_in_one_pass_stand_for_all_in_every_direction():
    x = spikes(20_000, 8)
    for seed in range(3):
        kept = online_row_sampling(x, numbers(seed), ridge=1e-9, epsilon=0.5)
        low, high = distortions(x, kept)
        assert 0.5 < low < high < 1.5
        assert len(kept.rows) < len(x) / 4
        assert {7, 70, 700, 7_000} <= set(kept.rows.tolist())
        assert (kept.chances > 0).all()
        assert (kept.chances <= 1).all()


def test_a_row_is_kept_with_the_chance_that_is_stated():
    x = np.random.default_rng(0).normal(size=(400, 3))
    squares, totals = (x**2).sum(axis=1), []
    for seed in range(2_000):
        kept = online_row_sampling(x, numbers(seed), ridge=100.0, oversampling=8.0)
        totals.append((squares[kept.rows] / kept.chances).sum())
    error = np.std(totals) / np.sqrt(2_000)
    assert error < 0.02 * squares.sum() / 5  # a bias of 2 % would show
    assert abs(np.mean(totals) - squares.sum()) < 5 * error


def test_chances_are_online_ridge_leverage_scores():
    x = heavy(60, 3)
    kept = online_row_sampling(x, lambda start, stop: np.zeros(stop - start), ridge=2.0, epsilon=0.5, oversampling=0.4)
    gram, expected = 2.0 * np.eye(3), []
    for row in x:
        chance = min(1.0, 0.4 * 1.5 * min(1.0, row @ np.linalg.solve(gram, row)))
        expected.append(chance)
        gram += np.outer(row, row) / chance
    np.testing.assert_allclose(kept.chances, expected, rtol=1e-9)


def test_of_copies_of_a_row_only_logarithmically_many_are_kept():
    x = np.tile([[1.0, 2.0]], (100_000, 1))
    kept = online_row_sampling(x, numbers(0), ridge=1.0, oversampling=4.0)
    assert len(kept.rows) < 3 * 4.0 * 1.5 * np.log(5 * 100_000)


def test_threads_and_engines_change_no_bit():
    x = heavy(140_000, 4).astype(np.float32)
    doors = [MemoryBlocks(x, run=Run(threads), dtype=np.float64) for threads in (1, 4)]
    sketched = [streaming_leverage_scores(each, numbers(0), directions=3).tobytes() for each in (x, *doors)]
    assert len(set(sketched)) == 1
    kept = [online_row_sampling(each, numbers(0), ridge=1.0) for each in (x, *doors)]
    assert len({each.rows.tobytes() + each.chances.tobytes() for each in kept}) == 1


def test_what_cannot_be_is_refused():
    with pytest.raises(KofnError, match="epsilon=1"):
        streaming_leverage_scores(np.eye(2), numbers(0), epsilon=1)
    with pytest.raises(KofnError, match="directions=0"):
        streaming_leverage_scores(np.eye(2), numbers(0), directions=0)
    with pytest.raises(KofnError, match="ridge=0"):
        online_row_sampling(np.eye(2), numbers(0), ridge=0)
    with pytest.raises(KofnError, match="epsilon=0"):
        online_row_sampling(np.eye(2), numbers(0), ridge=1.0, epsilon=0)

"""Lewis weights and l_p sensitivities: against their definition, brute force, and what a sample by them keeps."""

import numpy as np
import pytest

from kofn import KofnError
from kofn.blocks import MemoryBlocks, Run
from kofn.core.leverage import leverage_scores
from kofn.core.lewis import lewis_weights, lp_sensitivities, root_leverage_scores

POWERS = [1.0, 1.3, 1.5, 2.0, 2.5, 4.0, 6.0, 12.0]


def heavy(n, d, seed=0):
    return np.random.default_rng(seed).standard_t(2.5, size=(n, d))


def test_root_leverage_bounds_the_share_in_the_sum_of_absolute_values():
    x = heavy(200, 3)
    roots = root_leverage_scores(x)
    np.testing.assert_allclose(roots**2, leverage_scores(x), rtol=1e-12)
    assert (lp_sensitivities(x[:60], 1.0).values <= root_leverage_scores(x[:60]) + 1e-9).all()


@pytest.mark.parametrize("p", POWERS)
def test_lewis_weights_are_the_leverage_scores_of_the_rows_that_they_scale(p):
    x = heavy(300, 4)
    found = lewis_weights(x, p, tolerance=1e-9)
    w = found.weights
    scaled = x * (w ** (0.5 - 1 / p))[:, None]
    np.testing.assert_allclose(leverage_scores(scaled), w, rtol=1e-8)
    assert w.sum() == pytest.approx(4, rel=1e-8)
    assert found.residual <= 1e-9
    assert found.rounds < 120


def test_lewis_weights_do_not_depend_on_the_basis_nor_on_rows_of_zeros():
    x = heavy(200, 3)
    turned = np.vstack([x @ np.array([[1.0, 2, 0], [0, 1, 5], [1e3, 0, 1]]), np.zeros((2, 3))])
    for p in (1.0, 3.0):
        there, here = (lewis_weights(each, p, tolerance=1e-10).weights for each in (x, turned))
        np.testing.assert_allclose(here, [*there, 0, 0], rtol=1e-7)


def test_a_weight_of_four_is_four_copies_in_every_norm():
    x = heavy(40, 3)
    for p in (1.0, 4.0):
        four = lewis_weights(np.repeat(x, 4, axis=0), p, tolerance=1e-10).weights.reshape(40, 4).sum(axis=1)
        np.testing.assert_allclose(
            lewis_weights(x, p, tolerance=1e-10, weights=np.full(40, 4.0)).weights, four, rtol=1e-7
        )
    some = np.where(np.arange(40) < 5, 3.0, 1.0)
    copies = np.repeat(np.arange(40), some.astype(int))
    for p in (1.5, 4.0):
        exact = lp_sensitivities(x, p, weights=some).values
        np.testing.assert_allclose(exact[copies] / some[copies], lp_sensitivities(x[copies], p).values, rtol=1e-6)


def test_a_round_that_cannot_help_is_not_the_last_word():
    """With one weight far too small, the fast step overshoots for large p; the sure one brings it home."""
    x = np.vstack([np.eye(2) * 1e-4, heavy(50, 2)])
    found = lewis_weights(x, 40.0, tolerance=1e-6, rounds=1_000)
    assert found.residual <= 1e-6
    np.testing.assert_allclose(found.scores, found.weights, rtol=1e-6)


def test_sensitivities_of_the_second_norm_are_leverage_scores():
    x = heavy(500, 6)
    u = np.linalg.svd(x, full_matrices=False)[0]
    np.testing.assert_allclose(lp_sensitivities(x, 2.0).values, (u**2).sum(axis=1), rtol=1e-8)


def test_sensitivities_of_the_first_norm_are_those_of_a_linear_program_with_other_variables():
    """Reference: max x_i v with |X v|_1 <= 1, split into v = v+ - v- and residuals, solved anew for every row."""
    from scipy.optimize import linprog

    x = heavy(40, 3)
    n, d = x.shape
    found = lp_sensitivities(x, 1.0)
    assert found.exact
    for i in range(n):
        split = np.hstack([x, -x, -np.eye(n), np.eye(n)])
        budget = np.concatenate([np.zeros(2 * d), np.ones(2 * n)])[None]
        best = linprog(np.concatenate([-x[i], x[i], np.zeros(2 * n)]), budget, [1.0], split, np.zeros(n))
        assert found.values[i] == pytest.approx(-best.fun, rel=1e-7)


@pytest.mark.parametrize("p", POWERS)
def test_in_the_plane_sensitivities_are_the_largest_share_over_all_angles(p):
    x = heavy(30, 2)
    angles = np.linspace(0, np.pi, 20_001)
    shares = np.abs(x @ np.array([np.cos(angles), np.sin(angles)])) ** p
    brute = (shares / shares.sum(axis=0)).max(axis=1)
    found = lp_sensitivities(x, p)
    assert found.exact
    np.testing.assert_allclose(found.values, brute, rtol=1e-3 if p == 1 else 1e-5)
    assert (found.values >= brute * (1 - 1e-7)).all()
    assert (found.lower <= found.values).all()


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("rounds", [1, 2, 100])
def test_bounds_by_lewis_weights_hold_however_rough_the_weights_are(p, rounds):
    x = heavy(50, 3)
    x[0] = [50, 0, 0]
    exact = lp_sensitivities(x, p)
    found = lewis_weights(x, p, rounds=rounds)
    assert (found.bounds >= exact.lower * (1 - 1e-9)).all()
    assert (found.bounds <= 1).all()
    bounds = lp_sensitivities(x, p, exact=False)
    assert (bounds.values >= exact.lower * (1 - 1e-7)).all()
    assert bounds.total <= 1.001 * 3 ** max(1.0, p / 2)
    assert bounds.exact == (p == 2)


def test_a_row_alone_in_its_direction_has_all_of_it_and_a_row_of_zeros_nothing():
    x = np.vstack([heavy(30, 2) @ np.array([[1.0, 0, 0], [0, 1, 0]]), [[0, 0, 1e-6]], [[0, 0, 0]]])
    for p in (1.0, 1.5, 3.0):
        found = lp_sensitivities(x, p)
        assert found.values[-2] == pytest.approx(1, rel=1e-9)
        assert found.values[-1] == 0
        assert found.total > 1


def test_threads_and_engines_change_no_bit():
    x = heavy(140_000, 3).astype(np.float32)
    first, *others = (
        lewis_weights(each, 1.0, rounds=3).weights
        for each in (x, MemoryBlocks(x, run=Run(1), dtype=np.float64), MemoryBlocks(x, run=Run(5)))
    )
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_what_has_no_sensitivities_is_refused():
    for call in (lewis_weights, lp_sensitivities):
        for p in (0.5, np.inf, np.nan):
            with pytest.raises(KofnError, match=f"p={p}"):
                call(np.eye(2), p)
    with pytest.raises(KofnError, match="fits in memory"):
        lp_sensitivities(MemoryBlocks(np.eye(3)), 1.5)


def coherent(d, n=2_000):
    """Half of the columns belong to one row each, as large as all others together."""
    x = np.random.default_rng(d).normal(size=(n, d))
    lone = d // 2
    x[:, :lone] *= 1e-3
    x[np.arange(lone) * 17, np.arange(lone)] = 1e3
    return x


def sample(x, p, sizes, m, rng):
    """m independent rows in proportion to sizes, scaled so that |S X v|_p^p is unbiased."""
    chances = sizes / sizes.sum()
    rows = rng.choice(len(x), m, p=chances)
    return x[rows] / (m * chances[rows, None]) ** (1 / p)


def worst_distortion(x, kept, p, rng):
    """Largest | |SXv|_p / |Xv|_p - 1 | over 500 v: random ones, rows, and generalised eigenvectors at reweighted ones."""
    basis = np.linalg.inv(np.linalg.cholesky(x.T @ x)).T
    y, z = x @ basis, kept @ basis
    dense = rng.normal(size=(y.shape[1], 300))
    tried = np.hstack([dense, y[rng.choice(len(y), 100)].T, z[rng.choice(len(z), 50)].T])
    value = lambda v: (np.abs(z @ v) ** p).sum(axis=0) / (np.abs(y @ v) ** p).sum(axis=0)  # noqa: E731
    ends = []
    for sign in (1, -1):
        v = tried[:, [np.argmax(sign * value(tried))]]
        for _ in range(25):
            above, below = ((np.abs(rows @ v) + 1e-9) ** (p - 2) for rows in (z, y))
            numerator, denominator = z.T @ (above * z), y.T @ (below * y)
            root = np.linalg.cholesky(denominator)
            _, vectors = np.linalg.eigh(np.linalg.solve(root, np.linalg.solve(root, numerator).T))
            v = np.linalg.solve(root.T, vectors[:, [-1 if sign > 0 else 0]])
            ends.append(v)
    ratios = value(np.hstack([tried, *ends])) ** (1 / p)
    return np.abs(ratios - 1).max()


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0])
def test_a_sample_by_sensitivities_keeps_every_length_of_a_coherent_matrix_and_uniform_rows_do_not(p):
    x, rng = coherent(8), np.random.default_rng(0)
    sizes = lp_sensitivities(x, p, exact=False).values
    worst = [worst_distortion(x, sample(x, p, sizes, 600, rng), p, rng) for _ in range(5)]
    assert max(worst) < 0.5
    uniform = [worst_distortion(x, sample(x, p, np.ones(len(x)), 1_200, rng), p, rng) for _ in range(5)]
    assert np.median(uniform) > 0.9  # a row that is alone in its direction is missed


def test_rows_needed_grow_no_faster_than_total_sensitivity_to_the_power_two_over_p():
    """p = 1.5, Gaussian rows of 8 to 32 columns: samples until the distortion, which falls with their root, is 1/4."""
    p, rng, needed, totals = 1.5, np.random.default_rng(1), [], []
    for d in (8, 16, 32):
        x = np.random.default_rng(d).normal(size=(700, d))
        sizes, m = lp_sensitivities(x, p, tolerance=1e-3).values, 60 * d
        worst = np.median([worst_distortion(x, sample(x, p, sizes, m, rng), p, rng) for _ in range(15)])
        needed.append(m * (worst / 0.25) ** 2)
        totals.append(sizes.sum())
    slope = np.polyfit(np.log(totals), np.log(needed), 1)[0]
    assert 2 / p - 0.4 < slope < 2 / p + 0.4

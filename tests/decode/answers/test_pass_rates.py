from itertools import combinations

import numpy as np
import pytest
from scipy.stats import hypergeom

from kofn.decode.answers import g_pass_at_k, mean_g_pass_at_k, pass_all_k, pass_at_k
from kofn.errors import DataError, ParameterError


def rights(n, c, k):
    """Numbers of right answers among all subsets of k of n answers, the first c of which are right."""
    return np.array([sum(at < c for at in subset) for subset in combinations(range(n), k)])


CASES = [(n, c, k) for n in (1, 4, 7) for c in range(n + 1) for k in range(1, n + 1)]


@pytest.mark.parametrize(("n", "c", "k"), CASES)
def test_every_rate_is_a_mean_over_all_subsets(n, c, k):
    right = rights(n, c, k)
    assert pass_at_k([c], n, k).mean == pytest.approx(np.mean(right >= 1), abs=1e-14)
    assert pass_all_k([c], n, k).mean == pytest.approx(np.mean(right == k), abs=1e-14)
    for tau in (0.01, 0.3, 0.5, 0.75, 1.0):
        expected = np.mean(right >= np.ceil(tau * k - 1e-9))
        assert g_pass_at_k([c], n, k, tau).mean == pytest.approx(expected, abs=1e-14)
    grid = (np.arange(6000) + 0.5) / 12_000 + 0.5  # 6000 is divisible by twice every k here
    expected = np.mean([np.mean(right >= np.ceil(tau * k)) for tau in grid[:: 6000 // 600]])
    assert mean_g_pass_at_k([c], n, k).mean == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("k", [2, 4, 16, 64])
def test_for_even_k_the_mean_over_tau_is_the_paper_s_sum(k):
    right, drawn = np.arange(0, 101, 7), 100
    steps = [g_pass_at_k(right, drawn, k, i / k).per_problem for i in range(k // 2 + 1, k + 1)]
    np.testing.assert_allclose(mean_g_pass_at_k(right, drawn, k).per_problem, 2 / k * np.sum(steps, axis=0), rtol=1e-12)


def test_for_one_answer_every_rate_is_the_share_of_right_ones():
    for rate in (pass_at_k, pass_all_k, mean_g_pass_at_k):
        np.testing.assert_allclose(rate([3, 0, 10], 10, 1).per_problem, [0.3, 0.0, 1.0])


@pytest.mark.parametrize(("n", "k"), [(50, 10), (400, 128), (2000, 1000)])
def test_tails_equal_scipy_s_hypergeometric_tail(n, k):
    c = np.unique(np.linspace(0, n, 23).astype(int))
    for tau in (0.1, 0.5, 0.75, 1.0):
        least = int(np.ceil(tau * k - 1e-9))
        found = g_pass_at_k(c, n, k, tau).per_problem
        np.testing.assert_allclose(found, hypergeom.sf(least - 1, n, c, k), atol=1e-12)


def test_it_falls_in_tau_from_pass_at_k_to_all_right():
    c, n, k = np.array([1, 5, 12, 19]), 20, 8
    rates = np.array([g_pass_at_k(c, n, k, tau).per_problem for tau in np.linspace(1e-9, 1, 40)])
    assert (np.diff(rates, axis=0) <= 1e-15).all()
    np.testing.assert_allclose(rates[0], pass_at_k(c, n, k).per_problem, rtol=1e-12)
    np.testing.assert_allclose(rates[-1], pass_all_k(c, n, k).per_problem, rtol=1e-12)


def test_a_share_of_k_that_is_whole_is_not_rounded_up_by_floating_point():
    assert 0.56 * 25 > 14
    assert g_pass_at_k([14], 25, 25, 0.56).mean == 1.0
    assert g_pass_at_k([13], 25, 25, 0.56).mean == 0.0


def test_they_are_unbiased_where_the_plain_formula_is_not():
    n, k, q, problems = 6, 4, 0.3, 40_000
    c = np.random.default_rng(0).binomial(n, q, size=problems)
    found = pass_at_k(c, n, k)
    assert abs(found.mean - (1 - (1 - q) ** k)) < 5 * found.standard_error
    assert abs(np.mean(1 - (1 - c / n) ** k) - (1 - (1 - q) ** k)) > 5 * found.standard_error
    stable = g_pass_at_k(c, n, k, 0.5)
    truth = sum(hypergeom(10**9, int(10**9 * q), k).pmf(j) for j in (2, 3, 4))
    assert abs(stable.mean - truth) < 5 * stable.standard_error


def test_problems_may_differ_in_their_number_of_answers():
    assert pass_at_k([1, 2], [2, 8], 2).per_problem.tolist() == pytest.approx([1.0, 1 - 6 * 5 / (8 * 7)])


def test_a_rare_success_keeps_its_digits():
    assert pass_at_k([1], 10**6, 1).mean == pytest.approx(1e-6, rel=1e-12)
    assert pass_all_k([500], 1000, 500).mean == pytest.approx(hypergeom.pmf(500, 1000, 500, 500), rel=1e-9)


def test_the_standard_error_is_over_problems():
    found = pass_at_k([0, 2, 4], 4, 1)
    assert found.standard_error == pytest.approx(0.5 / np.sqrt(3))
    assert np.isnan(pass_at_k([1], 4, 1).standard_error)


@pytest.mark.parametrize("kind", [int, bool, float])
def test_a_matrix_of_right_and_wrong_is_told_how_to_become_counts(kind):
    judged = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], kind)
    with pytest.raises(DataError, match=r"\(2, 4\) .* its \.sum\(axis=1\)\.astype\(int\)$"):
        pass_at_k(judged, 4, 1)
    assert pass_at_k(judged.sum(axis=1).astype(int), 4, 1).per_problem.tolist() == pytest.approx([0.5, 0.0])


def test_a_problem_with_too_few_answers_is_named():
    with pytest.raises(DataError, match="k=4 is more than the 3 answers of problem 1"):
        pass_at_k([1, 1], [4, 3], 4)
    with pytest.raises(DataError, match="problem 0 has 5 right of 4"):
        g_pass_at_k([5], 4, 2, 0.5)
    with pytest.raises(DataError, match="2 problems and samples 3"):
        pass_at_k([1, 1], [4, 4, 4], 2)
    with pytest.raises(DataError, match="whole numbers"):
        pass_at_k([0.5], 4, 2)
    with pytest.raises(DataError, match="ragged list"):
        pass_at_k([[1, 0], [1]], 2, 1)
    with pytest.raises(ParameterError, match="tau=0"):
        g_pass_at_k([1], 4, 2, 0)

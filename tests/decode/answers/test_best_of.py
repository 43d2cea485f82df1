from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chisquare

from kofn.decode.answers import (
    best_of_n,
    best_of_n_kl,
    best_of_n_kl_bound,
    best_of_n_kl_estimate,
    best_of_n_law,
    best_of_n_win_rate,
)
from kofn.errors import DataError

V = 50


def random_law(seed, levels=V):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(V, 0.5)), rng.integers(levels, size=V).astype(float)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 256])
def test_the_law_is_that_of_up_to_a_million_simulations(n):
    p, rewards = random_law(3, levels=20)
    rng = np.random.default_rng(n)
    seen = np.zeros(V)
    for _ in range(100):
        draws = rng.choice(V, size=(10_000 // max(n // 16, 1), n), p=p)
        chosen = draws[np.arange(len(draws)), rewards[draws].argmax(axis=1)]  # of equals the first
        seen += np.bincount(chosen, minlength=V)
    law = best_of_n_law(p, rewards, n)
    often = law * seen.sum() > 5
    expected = np.append(law[often], law[~often].sum()) * seen.sum()
    counted = np.append(seen[often], seen[~often].sum())
    if expected[-1] == 0:
        expected, counted = expected[:-1], counted[:-1]
    assert chisquare(counted, expected).pvalue > 1e-6
    # The same draws refuse a law that shares ties evenly.
    even = np.array([law[rewards == value].mean() for value in rewards])
    wrong = np.append(even[often], even[~often].sum()) * seen.sum()
    assert chisquare(counted, wrong[: len(counted)] / wrong[: len(counted)].sum() * counted.sum()).pvalue < 1e-6


def test_the_law_is_exact_in_rational_numbers():
    p = [Fraction(1, 7), Fraction(2, 7), Fraction(1, 7), Fraction(3, 7)]
    rewards = [2, 1, 2, 0]
    n = 5
    at_most = {0: Fraction(3, 7), 1: Fraction(5, 7), 2: Fraction(1)}
    level = {0: at_most[0] ** n, 1: at_most[1] ** n - at_most[0] ** n, 2: 1 - at_most[1] ** n}
    mass = {0: Fraction(3, 7), 1: Fraction(2, 7), 2: Fraction(2, 7)}
    expected = [float(level[r] * q / mass[r]) for q, r in zip(p, rewards)]
    np.testing.assert_allclose(best_of_n_law([float(q) for q in p], rewards, n), expected, rtol=1e-14)


def test_a_million_draws_and_tiny_probabilities_lose_no_digits():
    tiny = 1e-13
    law = best_of_n_law([1 - 2 * tiny, tiny, tiny], [0, 1, 2], 10**6)
    # 1 - (1 - q)^n = n q - n (n - 1) q^2 / 2 + ...; the third term is 1e-21 of the first.
    n, q = Fraction(10**6), Fraction(10**-13)
    top = n * q - n * (n - 1) / 2 * q**2
    both = n * 2 * q - n * (n - 1) / 2 * 4 * q**2
    assert law[2] == pytest.approx(float(top), rel=1e-9)
    assert law[1] == pytest.approx(float(both - top), rel=1e-9)
    assert law.sum() == pytest.approx(1, abs=1e-15)


def test_far_below_the_top_the_law_keeps_its_relative_precision():
    law = best_of_n_law([0.1, 0.2, 0.7], [0, 1, 2], 100)
    assert law[0] == pytest.approx(1e-100, rel=1e-12)
    assert law[1] == pytest.approx(0.3**100, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_kl_never_exceeds_the_bound_and_is_strictly_below_it_with_atoms(seed):
    p, rewards = random_law(seed, levels=10**6)
    for n in (1, 2, 4, 16, 64, 256, 10**6):
        kl = best_of_n_kl(p, rewards, n)
        assert kl <= best_of_n_kl_bound(n) + 1e-15
        assert kl < best_of_n_kl_bound(n) - 1e-4 or n == 1
        q = best_of_n_law(p, rewards, n)
        seen = q > 0
        assert kl == pytest.approx(np.sum(q[seen] * np.log(q[seen] / p[seen])), abs=1e-12)
    assert kl == pytest.approx(-np.log(p[rewards.argmax()]), rel=1e-6)


def test_kl_reaches_the_bound_where_atoms_vanish():
    p = np.full(200_000, 1 / 200_000)
    for n in (2, 16, 256):
        assert best_of_n_kl(p, np.arange(len(p)), n) == pytest.approx(best_of_n_kl_bound(n), rel=1e-3)


def test_win_rate_is_brute_force_over_pairs_and_at_most_n_of_n_plus_one():
    p, rewards = random_law(5, levels=12)
    for n in (1, 3, 40):
        q = best_of_n_law(p, rewards, n)
        above = rewards[:, None] > rewards[None, :]
        equal = rewards[:, None] == rewards[None, :]
        brute = q @ (above + 0.5 * equal) @ p
        assert best_of_n_win_rate(p, rewards, n) == pytest.approx(brute, abs=1e-14)
        assert best_of_n_win_rate(p, rewards, n) <= n / (n + 1) + 1e-15
    fine = np.full(10_000, 1e-4)
    assert best_of_n_win_rate(fine, np.arange(10_000), 9) == pytest.approx(0.9, abs=1e-6)


def test_the_estimate_is_exact_for_one_top_atom_over_a_continuum():
    atom, n = 0.05, 8
    cells = 400_000
    p = np.append(np.full(cells, (1 - atom) / cells), atom)
    terms = best_of_n_kl_estimate([np.log(atom)], n).terms
    assert terms[0] == pytest.approx(best_of_n_kl(p, np.arange(cells + 1), n), rel=1e-4)


def test_the_estimate_is_the_bound_for_rare_winners_and_minus_log_p_for_common_ones():
    assert best_of_n_kl_estimate([-1000.0], 64).value == pytest.approx(best_of_n_kl_bound(64), rel=1e-12)
    assert best_of_n_kl_estimate([np.log(0.3)], 10**6).value == pytest.approx(-np.log(0.3), rel=1e-12)
    assert best_of_n_kl_estimate([0.0], 64).value == 0.0
    assert best_of_n_kl_estimate([np.log(0.3), -5.0], 1).value == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("spread", [0.05, 0.5])
def test_the_estimate_is_nearer_to_the_truth_than_the_bound_on_average(spread):
    error = {"estimate": [], "bound": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p, rewards = rng.dirichlet(np.full(V, spread)), rng.permutation(V).astype(float)
        for n in (4, 16, 64, 256):
            truth = best_of_n_kl(p, rewards, n)
            winners = rng.choice(V, size=2000, p=best_of_n_law(p, rewards, n))
            error["estimate"].append(abs(best_of_n_kl_estimate(np.log(p[winners]), n).value / truth - 1))
            error["bound"].append(abs(best_of_n_kl_bound(n) / truth - 1))
    assert np.mean(error["estimate"]) < 0.5 * np.mean(error["bound"])


def test_the_standard_error_is_that_of_a_mean():
    found = best_of_n_kl_estimate(np.log([0.1, 0.2, 0.4]), 4)
    assert found.standard_error == pytest.approx(np.std(found.terms, ddof=1) / np.sqrt(3))
    assert np.isnan(best_of_n_kl_estimate([-1.0], 4).standard_error)


def test_the_best_answer_is_the_first_of_equals():
    choice = best_of_n(["x", "y", "z"], [1.0, 3.0, 3.0])
    assert (choice.answer, choice.index, choice.score) == ("y", 1, 3.0)


def test_a_score_that_is_no_number_is_named():
    with pytest.raises(DataError, match=r"scores\[1\]=nan"):
        best_of_n(["x", "y"], [1.0, np.nan])
    with pytest.raises(DataError, match="2 answers and 3 scores"):
        best_of_n(["x", "y"], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="natural logarithms"):
        best_of_n_kl_estimate([0.2], 4)

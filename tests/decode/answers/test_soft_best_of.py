from itertools import combinations_with_replacement
from math import factorial

import numpy as np
import pytest
from scipy.stats import chisquare

from kofn.decode.answers import (
    best_of_n_law,
    reward_tilt,
    soft_best_of_n,
    soft_best_of_n_kl_bound,
    soft_best_of_n_law,
)
from kofn.errors import DataError, KofnError

P = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
R = np.array([0.0, 1.0, 0.3, 0.3, 2.0])


def enumerated(p, rewards, n, temperature):
    """The law by its definition: every multiset of n draws with its multinomial chance."""
    law = np.zeros(len(p))
    weight = np.exp((rewards - rewards.max()) / temperature)
    for draws in combinations_with_replacement(range(len(p)), n):
        times = np.bincount(draws, minlength=len(p))
        chance = factorial(n) * np.prod([q**t / factorial(t) for q, t in zip(p, times)])
        law += chance * times * weight / (times @ weight)
    return law


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("temperature", [0.05, 0.4, 3.0])
def test_the_law_is_the_sum_over_all_multisets_of_draws(n, temperature):
    np.testing.assert_allclose(soft_best_of_n_law(P, R, n, temperature), enumerated(P, R, n, temperature), atol=1e-14)


@pytest.mark.parametrize("n", [1, 64, 10**6])
@pytest.mark.parametrize("temperature", [1e-7, 1e-3, 1.0, 1e4])
def test_the_law_sums_to_one_at_every_scale(n, temperature):
    assert soft_best_of_n_law(P, R, n, temperature).sum() == pytest.approx(1.0, abs=1e-13)


def test_cold_it_is_best_of_n_and_hot_it_is_the_base_law():
    np.testing.assert_allclose(soft_best_of_n_law(P, R, 16, 1e-6), best_of_n_law(P, R, 16), atol=1e-13)
    np.testing.assert_allclose(soft_best_of_n_law(P, R, 16, 1e9), P, atol=1e-8)


def test_draws_follow_the_law():
    n, temperature, questions = 6, 0.4, 40_000
    drawn = np.random.default_rng(0).choice(len(P), size=(questions, n), p=P)
    chosen = soft_best_of_n(R[drawn], temperature=temperature, seed=5, question=np.arange(questions))
    seen = np.bincount(drawn[np.arange(questions), chosen], minlength=len(P))
    assert chisquare(seen, soft_best_of_n_law(P, R, n, temperature) * questions).pvalue > 1e-6
    assert chisquare(seen, soft_best_of_n_law(P, R, n, 0.6) * questions).pvalue < 1e-6


def test_the_choice_given_the_scores_is_a_softmax():
    scores, questions = np.array([0.0, 1.0, -0.5]), 30_000
    rows = np.broadcast_to(scores, (questions, 3))
    seen = np.bincount(soft_best_of_n(rows, temperature=0.7, seed=1, question=np.arange(questions)), minlength=3)
    weight = np.exp(scores / 0.7)
    assert chisquare(seen, weight / weight.sum() * questions).pvalue > 1e-6


def test_a_question_is_answered_alike_alone_and_in_any_company():
    scores = np.random.default_rng(2).normal(size=(7, 4))
    together = soft_best_of_n(scores, temperature=1.0, seed=3, question=np.arange(7))
    backwards = soft_best_of_n(scores[::-1], temperature=1.0, seed=3, question=np.arange(7)[::-1])
    alone = [int(soft_best_of_n(row, temperature=1.0, seed=3, question=at)) for at, row in enumerate(scores)]
    assert together.tolist() == alone == backwards[::-1].tolist()
    many = np.zeros((200, 4))
    first, second = (soft_best_of_n(many, temperature=1.0, seed=seed, question=np.arange(200)) for seed in (0, 1))
    assert (first != second).any()


def test_rows_without_numbers_are_questions_of_their_own():
    scores, questions = np.array([0.0, 0.5, 1.0]), 20_000
    chosen = soft_best_of_n(np.tile(scores, (questions, 1)), temperature=0.5, seed=3)
    weight = np.exp(scores / 0.5)
    seen = np.bincount(chosen, minlength=3)
    assert chisquare(seen, weight / weight.sum() * questions).pvalue > 1e-6
    # Neighbours are independent: pairs of choices follow the product of the shares.
    pairs = np.bincount(3 * chosen[::2] + chosen[1::2], minlength=9)
    law = np.outer(weight, weight).ravel() / weight.sum() ** 2
    assert chisquare(pairs, law * questions / 2).pvalue > 1e-6


def test_a_row_s_default_number_is_its_place_and_one_number_is_that_of_the_first_row():
    scores = np.random.default_rng(4).normal(size=(40, 5))
    alone = [int(soft_best_of_n(row, temperature=1.0, seed=3, question=at)) for at, row in enumerate(scores)]
    assert soft_best_of_n(scores, temperature=1.0, seed=3).tolist() == alone
    second_half = soft_best_of_n(scores[20:], temperature=1.0, seed=3, question=20)
    assert second_half.tolist() == alone[20:]
    assert soft_best_of_n(scores[20:], temperature=1.0, seed=3).tolist() != alone[20:]
    assert soft_best_of_n(scores[0], temperature=1.0, seed=3) == alone[0]


def test_questions_of_one_number_share_their_uniform():
    alike = soft_best_of_n(np.zeros((200, 4)), temperature=1.0, seed=0, question=np.full(200, 7))
    assert len(set(alike.tolist())) == 1


@pytest.mark.parametrize("temperature", [1e-310, 1e-3])
def test_a_temperature_so_small_that_scores_overflow_keeps_the_best(temperature):
    rows = np.array([[1.0, 2.0, 3.0], [-1e308, 1e308, 0.0]])
    assert soft_best_of_n(rows, temperature=temperature, seed=0).tolist() == [2, 1]


def test_at_temperature_zero_the_first_of_equals_is_kept():
    assert soft_best_of_n([1.0, 2.0, 2.0], temperature=0, seed=0) == 1


def test_an_answer_far_below_is_not_drawn():
    rows = np.tile([0.0, -1e6], (1000, 1))
    assert soft_best_of_n(rows, temperature=1.0, seed=0, question=np.arange(1000)).max() == 0


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0])
def test_kl_from_the_tilt_stays_below_its_bound_and_ends_up_falling_as_the_square_of_n(temperature):
    tilt = reward_tilt(P, R, temperature).law
    apart = {n: np.sum(tilt * np.log(tilt / soft_best_of_n_law(P, R, n, temperature))) for n in (1, 8, 64, 512, 4096)}
    for n, kl in apart.items():
        assert kl <= soft_best_of_n_kl_bound(P, R, n, temperature) + 1e-12
    # The law is off by a part of order 1 / n, and a KL is quadratic in that: 8 times the draws, 64 times nearer.
    assert 60 < apart[512] / apart[4096] < 75
    spread = np.sinh((R.max() - R.min()) / (2 * temperature)) ** 2
    assert soft_best_of_n_kl_bound(P, R, 8, temperature) <= spread / 8


def test_mistakes_are_named():
    with pytest.raises(DataError, match=r"scores\[2\]=nan"):
        soft_best_of_n([0.0, 1.0, np.nan], temperature=1.0, seed=0)
    for question in ([0], [[0], [1]], -1, True, 1.0):
        with pytest.raises(DataError, match="neither one whole number >= 0 nor 2 of them"):
            soft_best_of_n(np.zeros((2, 3)), temperature=1.0, seed=0, question=question)
    with pytest.raises(KofnError, match="temperature=-1"):
        soft_best_of_n([0.0], temperature=-1, seed=0)
    with pytest.raises(KofnError, match="seed=-1"):
        soft_best_of_n([0.0, 1.0], temperature=1.0, seed=-1)
    with pytest.raises(KofnError, match="temperature=0"):
        soft_best_of_n_law(P, R, 4, 0)

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import pytest
from scipy import stats

from decode.sequences.test_stochasticbeam import Flat
from decode.tiny import tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.sequences.conditionalpoissonbeam import ConditionalPoissonBeam
from kofn.decode.sequences.designs import conditional_poisson, expectation, inclusion_probabilities
from kofn.decode.sequences.stochasticbeam import StochasticBeam
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import InvalidRows, ParameterError

MODEL = MarkovModel([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]], end=[2])
LAW = dict(MODEL.sequences([0], 3))


def paths(answer: Any) -> list[tuple[int, ...]]:
    return [tuple(each.tolist()) for each in answer.tokens]


def enumerated(weights: list[Fraction], k: int) -> tuple[dict[tuple[int, ...], float], list[float]]:
    """The law over sets of k, and inclusion probabilities, in exact fractions."""
    sets = {s: prod((weights[i] for i in s), start=Fraction(1)) for s in itertools.combinations(range(len(weights)), k)}
    total = sum(sets.values())
    inclusion = [float(sum((w for s, w in sets.items() if i in s), Fraction(0)) / total) for i in range(len(weights))]
    return {s: float(w / total) for s, w in sets.items()}, inclusion


@pytest.mark.parametrize("spread", [1, 4, 60])
@pytest.mark.parametrize("k", [1, 3, 9, 10])
def test_inclusion_probabilities_are_those_of_enumeration_whatever_the_spread_of_weights(spread: int, k: int) -> None:
    weights = np.random.default_rng(k).random(10) ** spread
    _, wanted = enumerated([Fraction(float(w)) for w in weights], k)
    np.testing.assert_allclose(inclusion_probabilities(weights, k), wanted, rtol=1e-10)
    np.testing.assert_allclose(inclusion_probabilities(weights * 1e100, k), wanted, rtol=1e-10)
    assert inclusion_probabilities(weights, k).sum() == pytest.approx(k, rel=1e-12)


def test_sets_are_drawn_in_proportion_to_the_products_of_their_weights() -> None:
    weights = np.array([0.1, 3.0, 0.0, 1.0, 0.7, 2.0])
    law, inclusion = enumerated([Fraction(float(w)) for w in weights], 3)
    draws = 10_000
    drawn = [conditional_poisson(weights, 3, seed=seed) for seed in range(draws)]
    counts = Counter(tuple(each.indices.tolist()) for each in drawn)
    stated, places = (
        np.concatenate([each.inclusion for each in drawn]),
        np.concatenate([each.indices for each in drawn]),
    )
    np.testing.assert_allclose(stated, np.array(inclusion)[places], rtol=1e-10)
    possible = [s for s, p in law.items() if p > 0]
    assert set(counts) <= set(possible)
    assert stats.chisquare([counts[s] for s in possible], [draws * law[s] for s in possible]).pvalue > 1e-6


def test_what_cannot_be_drawn_is_an_error_with_the_numbers() -> None:
    with pytest.raises(ParameterError, match="k=3 of 3 items, 2 of positive weight"):
        conditional_poisson([1.0, 0.0, 1.0], 3)
    with pytest.raises(ParameterError, match="k=0"):
        inclusion_probabilities([1.0], 0)
    with pytest.raises(InvalidRows, match="weight 1 is -2"):
        inclusion_probabilities([1.0, -2.0], 1)


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_exactly_n_different_sequences_with_the_models_log_probabilities(n: int) -> None:
    for seed in range(30):
        answer = ConditionalPoissonBeam().generate(MODEL, [0], n, length=3, seed=seed)
        assert len(set(paths(answer))) == n
        np.testing.assert_allclose(np.exp(answer.logprobs), [LAW[path] for path in paths(answer)], rtol=1e-5)
        assert (np.diff(answer.logprobs) <= 0).all()
        assert answer.finished.tolist() == [path[-1] == 2 for path in paths(answer)]
        np.testing.assert_allclose(answer.inclusion, np.exp(answer.details["log_inclusion"]))


def test_one_step_is_the_design_of_the_tokens_odds() -> None:
    p = np.array([0.5, 0.3, 0.2])
    law, inclusion = enumerated([Fraction(float(each / (1 - each))) for each in p], 2)
    draws = 2_500
    counts = Counter[tuple[int, ...]]()
    for seed in range(draws):
        answer = ConditionalPoissonBeam().generate(MODEL, [0], 2, length=1, seed=seed)
        counts[tuple(sorted(path[0] for path in paths(answer)))] += 1
        np.testing.assert_allclose(answer.inclusion, [inclusion[path[0]] for path in paths(answer)], rtol=1e-5)
    assert stats.chisquare([counts[s] for s in law], [draws * p for p in law.values()]).pvalue > 1e-6


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_horvitz_thompson_estimate_is_unbiased_and_equal_weights_are_not(n: int) -> None:
    def f(path: tuple[int, ...]) -> float:
        return len(path) + 2.0 * (path[0] == 1)

    truth = sum(p * f(path) for path, p in LAW.items())
    drawn = [ConditionalPoissonBeam().generate(MODEL, [0], n, length=3, seed=seed) for seed in range(1_000)]
    estimates = np.array([expectation(each, [f(path) for path in paths(each)]) for each in drawn])
    assert abs(estimates.mean() - truth) / (estimates.std() / np.sqrt(len(estimates))) < 5
    # each sequence's indicator by itself: E 1(y drawn) / inclusion(y) = 1
    rare = min(LAW, key=lambda path: LAW[path])
    sums = np.array(
        [sum(1 / q for path, q in zip(paths(each), each.inclusion, strict=True) if path == rare) for each in drawn]
    )
    assert abs(sums.mean() - 1) / (sums.std() / np.sqrt(len(sums))) < 5
    if n == 6:
        plain = np.array([np.mean([f(path) for path in paths(each)]) for each in drawn])
        assert abs(plain.mean() - truth) / (plain.std() / np.sqrt(len(plain))) > 10


def test_at_high_entropy_the_estimate_varies_less_than_that_of_the_stochastic_beam() -> None:
    model = MarkovModel(np.random.default_rng(0).dirichlet(np.full(6, 50.0), 6))

    def variance(decoder: Any) -> float:
        drawn = [decoder.generate(model, [0], 4, length=2, seed=seed) for seed in range(300)]
        return float(np.var([expectation(each, [sum(path) for path in paths(each)]) for each in drawn]))

    assert variance(ConditionalPoissonBeam()) < variance(StochasticBeam())


def test_all_sequences_come_back_when_as_many_are_asked_for() -> None:
    answer = ConditionalPoissonBeam().generate(MODEL, [0], 50, length=3)
    assert set(paths(answer)) == set(LAW)
    assert answer.inclusion is not None
    assert answer.inclusion.tolist() == [1.0] * len(LAW)


@pytest.mark.parametrize("kind", ["smooth", "tied", "steep"])
def test_candidates_that_are_treated_as_one_have_the_inclusion_of_the_whole_programme(kind: str) -> None:
    rng = np.random.default_rng(0)
    logits = {
        "smooth": rng.standard_normal(20_000) * 2,
        "tied": rng.integers(0, 3, 20_000).astype(float),
        "steep": -0.02 * np.arange(20_000.0),  # no part of the tail is even: all must be explicit
    }[kind].astype(np.float32)
    logs = logits.astype(float) - np.logaddexp.reduce(logits.astype(float))
    odds = np.exp(logs) / -np.expm1(logs)
    wanted = inclusion_probabilities(odds, 5)
    hundreds = np.add.reduceat(wanted, np.arange(0, 20_000, 2_000))
    draws, counts = 150, np.zeros(10)
    for seed in range(draws):
        answer = ConditionalPoissonBeam().generate(Flat(logits), [0], 5, length=1, seed=seed)
        tokens = np.array([path[0] for path in paths(answer)])
        assert len(set(tokens.tolist())) == 5
        np.testing.assert_allclose(answer.inclusion, wanted[tokens], rtol=1e-5)
        np.add.at(counts, tokens // 2_000, 1)
    mean = draws * hundreds
    seen = mean > 1e-3
    # counts of a design without replacement vary less than Poisson counts do
    assert ((counts - mean)[seen] ** 2 / mean[seen]).sum() < stats.chi2.isf(1e-6, seen.sum())
    assert counts[~seen].sum() == 0


def test_a_token_with_nearly_all_the_mass_is_kept_and_the_others_drawn_by_theirs() -> None:
    logits = np.array([0.0, np.log(2), 900.0, np.log(5), -np.inf])
    seconds = Counter[int]()
    for seed in range(1_500):
        answer = ConditionalPoissonBeam().generate(Flat(logits), [0], 2, length=1, seed=seed)
        assert paths(answer)[0] == (2,)
        assert answer.inclusion is not None
        assert answer.inclusion[0] == pytest.approx(1.0)
        assert answer.inclusion[1] == pytest.approx({0: 1, 1: 2, 3: 5}[paths(answer)[1][0]] / 8, rel=1e-6)
        seconds[paths(answer)[1][0]] += 1
    assert stats.chisquare([seconds[t] for t in (0, 1, 3)], [1500 / 8, 3000 / 8, 7500 / 8]).pvalue > 1e-6


def test_a_network_and_a_rule_and_the_seed() -> None:
    def ten_best(logits: np.ndarray) -> np.ndarray:
        return np.where(logits >= np.sort(logits, axis=1)[:, -10:-9], logits, -np.inf).astype(np.float32)

    model = TransformersModel(tiny_llama(1))
    answer = ConditionalPoissonBeam(rule=ten_best).generate(model, [1, 9], 6, length=8, seed=2)
    assert len(set(paths(answer))) == 6
    assert paths(answer) == paths(ConditionalPoissonBeam(rule=ten_best).generate(model, [1, 9], 6, length=8, seed=2))
    assert paths(answer) != paths(ConditionalPoissonBeam(rule=ten_best).generate(model, [1, 9], 6, length=8, seed=3))
    assert answer.rows <= 1 + 6 * (answer.passes - 1)
    first = {path[0] for path in paths(answer)}
    logits, _ = model.start([[1, 9]])
    assert first <= set(np.argsort(-logits[0])[:10].tolist())


def test_rules_that_remember_and_rules_as_text_are_refused_when_it_is_made() -> None:
    with pytest.raises(ParameterError, match=r"ConditionalPoissonBeam cannot run Mirostat\(tau=3.0.*without memory"):
        ConditionalPoissonBeam(rule=Mirostat(3.0))
    with pytest.raises(ParameterError, match=r"ConditionalPoissonBeam: .*give parse_rule\('minp=0.1'\)"):
        ConditionalPoissonBeam(rule="minp=0.1")


def test_a_design_takes_a_seed_of_64_bits_and_no_other() -> None:
    assert len(conditional_poisson([1.0, 1.0], 1, seed=2**64 - 1).indices) == 1
    for seed in (-1, 2**64, 1.7, True):
        with pytest.raises(ParameterError, match="seed="):
            conditional_poisson([1.0, 1.0], 1, seed=seed)

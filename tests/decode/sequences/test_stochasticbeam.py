from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from decode.tiny import VOCABULARY, tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.sequences.designs import expectation
from kofn.decode.sequences.stochasticbeam import StochasticBeam
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import DataError, ParameterError, UsageError

MODEL = MarkovModel([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]], end=[2])
LAW = dict(MODEL.sequences([0], 3))


class Flat:
    """One row of logits, whatever was read."""

    def __init__(self, logits: np.ndarray) -> None:
        self.vocabulary, self.end = len(logits), frozenset[int]()
        self._row = logits.astype(np.float32)

    def start(self, prompts: Any) -> Any:
        return np.tile(self._row, (len(prompts), 1)), None

    def next_logits(self, tokens: Any, state: Any) -> Any:
        return np.tile(self._row, (len(tokens), 1)), None

    def select(self, state: Any, rows: Any) -> Any:
        return None


def paths(answer: Any) -> list[tuple[int, ...]]:
    return [tuple(each.tolist()) for each in answer.tokens]


def fits(counts: Counter[Any], law: dict[Any, float], draws: int) -> bool:
    """Chi-square of counts against a law, outcomes of small expectation pooled; false alarms below 1e-6."""
    assert set(counts) <= set(law)
    large = [key for key in law if draws * law[key] >= 8]
    seen = np.array([counts[key] for key in large] + [draws - sum(counts[key] for key in large)], float)
    mean = np.array([draws * law[key] for key in large])
    mean = np.append(mean, draws - mean.sum())
    keep = mean > 1e-9
    return bool(stats.chisquare(seen[keep], mean[keep]).pvalue > 1e-6)


def test_the_order_of_the_draws_is_that_of_successive_sampling_without_replacement() -> None:
    law = {(a, b): LAW[a] * LAW[b] / (1 - LAW[a]) for a in LAW for b in LAW if a != b}
    draws = 2_500
    counts = Counter(tuple(paths(StochasticBeam().generate(MODEL, [0], 2, length=3, seed=s))) for s in range(draws))
    assert fits(counts, law, draws)


def test_log_probabilities_are_the_models_and_sequences_are_different() -> None:
    for seed in range(20):
        answer = StochasticBeam().generate(MODEL, [0], 5, length=3, seed=seed)
        assert len(set(paths(answer))) == 5
        np.testing.assert_allclose(np.exp(answer.logprobs), [LAW[path] for path in paths(answer)], rtol=1e-5)
        assert answer.finished.tolist() == [path[-1] == 2 for path in paths(answer)]


def test_eight_sequences_begin_with_the_four() -> None:
    model = TransformersModel(tiny_llama(1))
    four = StochasticBeam().generate(model, [1, 9], 4, length=6, seed=3)
    eight = StochasticBeam().generate(model, [1, 9], 8, length=6, seed=3)
    assert paths(eight)[:4] == paths(four)
    np.testing.assert_allclose(eight.details["gumbels"][:4], four.details["gumbels"], atol=1e-4)
    assert four.details["kappa"] == pytest.approx(eight.details["gumbels"][4], abs=1e-4)
    other = StochasticBeam().generate(model, [1, 9], 4, length=6, seed=4)
    assert paths(other) != paths(four)


def test_inclusion_is_the_chance_of_a_gumbel_above_kappa() -> None:
    answer = StochasticBeam().generate(MODEL, [0], 3, length=3, seed=5)
    wanted = 1 - np.exp(-np.exp(answer.logprobs - answer.details["kappa"]))
    np.testing.assert_allclose(answer.inclusion, wanted, rtol=1e-12)
    np.testing.assert_allclose(np.exp(answer.details["log_inclusion"]), wanted, rtol=1e-12)
    assert (np.diff(answer.details["gumbels"]) <= 0).all()
    assert answer.details["gumbels"][-1] >= answer.details["kappa"]


def test_perturbed_log_probabilities_are_gumbels() -> None:
    # the largest of all is a standard Gumbel, and G - log p of the whole law, drawn to the end, are independent ones
    largest, every = [], []
    for seed in range(500):
        answer = StochasticBeam().generate(MODEL, [0], len(LAW), length=3, seed=seed)
        largest.append(answer.details["gumbels"][0])
        every.append(dict(zip(paths(answer), answer.details["gumbels"] - answer.logprobs, strict=True))[(0, 1, 2)])
    assert stats.kstest(largest, stats.gumbel_r.cdf).pvalue > 1e-6
    assert stats.kstest(every, stats.gumbel_r.cdf).pvalue > 1e-6


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_estimate_is_unbiased_and_a_biased_one_would_be_noticed(n: int) -> None:
    def f(path: tuple[int, ...]) -> float:
        return len(path) + 2.0 * (path[0] == 1)

    truth = sum(p * f(path) for path, p in LAW.items())
    drawn = [StochasticBeam().generate(MODEL, [0], n, length=3, seed=seed) for seed in range(1_000)]
    estimates = np.array([expectation(each, [f(path) for path in paths(each)]) for each in drawn])
    z = (estimates.mean() - truth) / (estimates.std() / np.sqrt(len(estimates)))
    assert abs(z) < 5
    plain = np.array([np.mean([f(path) for path in paths(each)]) for each in drawn])  # equal weights are biased
    if n == 6:
        assert abs(plain.mean() - truth) / (plain.std() / np.sqrt(len(plain))) > 10
        normalized = np.array([expectation(each, [f(path) for path in paths(each)], normalized=True) for each in drawn])
        assert abs(normalized.mean() - truth) < 0.1
        assert ((normalized - truth) ** 2).mean() < ((estimates - truth) ** 2).mean()


def test_all_sequences_come_back_when_as_many_are_asked_for() -> None:
    answer = StochasticBeam().generate(MODEL, [0], 50, length=3)
    assert set(paths(answer)) == set(LAW)
    assert answer.inclusion is not None
    assert answer.inclusion.tolist() == [1.0] * len(LAW)
    assert expectation(answer, np.ones(len(LAW))) == pytest.approx(1.0, abs=1e-5)


def test_draws_over_many_blocks_of_the_vocabulary_have_the_models_law() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(5_000) * 3
    p = np.exp(logits - np.logaddexp.reduce(logits))
    tokens, draws = Counter[int](), 2_500
    for seed in range(draws):
        tokens[int(StochasticBeam().generate(Flat(logits), [0], 1, length=1, seed=seed).tokens[0][0])] += 1
    assert fits(tokens, dict(enumerate(p)), draws)


def test_what_one_token_leaves_of_the_mass_is_drawn_from_by_its_own_law() -> None:
    # token 2 has all but exp(-900) of the mass; the next are drawn among 0, 1, 3 in proportion 1 : 2 : 5
    logits = np.array([0.0, np.log(2), 900.0, np.log(5), -np.inf])
    draws = 1_500
    seconds = Counter[int]()
    for seed in range(draws):
        answer = StochasticBeam().generate(Flat(logits), [0], 5, length=1, seed=seed)
        assert paths(answer)[0] == (2,)
        assert len(answer) == 4
        seconds[paths(answer)[1][0]] += 1
    assert fits(seconds, {0: 1 / 8, 1: 2 / 8, 3: 5 / 8}, draws)


def test_log_probabilities_equal_a_fresh_forward_of_the_network() -> None:
    network = tiny_llama(2)
    model = TransformersModel(network)
    prompt = np.random.default_rng(2).integers(8, VOCABULARY, 5).tolist()
    answer = StochasticBeam().generate(model, prompt, 5, length=8, seed=1)
    for tokens, logprob in zip(answer.tokens, answer.logprobs, strict=True):
        _, state = model.start([prompt[:-1]])
        logits, _ = model.all_logits(np.array([[prompt[-1], *tokens[:-1]]]), state)
        logs = logits[0].astype(float) - np.logaddexp.reduce(logits[0].astype(float), axis=1, keepdims=True)
        assert logprob == pytest.approx(logs[np.arange(len(tokens)), tokens].sum(), abs=1e-4)


def test_the_rule_is_the_law_that_is_drawn_from() -> None:
    def not_token_0(logits: np.ndarray) -> np.ndarray:
        return np.where(np.arange(3) == 0, -np.inf, logits).astype(np.float32)

    answer = StochasticBeam(rule=not_token_0).generate(MODEL, [0], 9, length=1)
    assert dict(zip(paths(answer), np.exp(answer.logprobs).round(5).tolist(), strict=True)) == {(1,): 0.6, (2,): 0.4}


def test_the_batch_holds_live_beams_alone() -> None:
    answer = StochasticBeam().generate(MarkovModel([[0.0, 1.0], [0.5, 0.5]], end=[1]), [0], 4, length=5)
    assert (answer.passes, answer.rows, len(answer)) == (1, 1, 1)


def test_what_cannot_be_estimated_is_an_error() -> None:
    from kofn.decode.sequences.beam import Beam

    with pytest.raises(UsageError, match="no inclusion"):
        expectation(Beam().generate(MODEL, [0], 2, length=2), [1.0, 2.0])
    with pytest.raises(DataError, match="one value a sequence"):
        expectation(StochasticBeam().generate(MODEL, [0], 2, length=2), [1.0])
    with pytest.raises(ParameterError, match="length=0"):
        StochasticBeam().generate(MODEL, [0], length=0)


def test_rules_that_remember_and_rules_as_text_are_refused_when_it_is_made() -> None:
    with pytest.raises(ParameterError, match=r"StochasticBeam cannot run Mirostat\(tau=3.0.*without memory"):
        StochasticBeam(rule=Mirostat(3.0))
    with pytest.raises(ParameterError, match=r"StochasticBeam: .*give parse_rule\('minp=0.1'\)"):
        StochasticBeam(rule="minp=0.1")

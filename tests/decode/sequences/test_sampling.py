from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from decode.tiny import VOCABULARY, tiny_gemma, tiny_llama
from kofn.core.uniforms import child_seeds
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.rules.temperature import Temperature
from kofn.decode.rules.topp import TopP
from kofn.decode.sequences.sampling import Greedy, Sampling
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError, UsageError

TABLE = [
    [0.30, 0.25, 0.25, 0.00, 0.20],
    [0.05, 0.40, 0.15, 0.30, 0.10],
    [0.50, 0.10, 0.10, 0.10, 0.20],
    [0.00, 0.00, 0.60, 0.15, 0.25],
    [0.20, 0.20, 0.20, 0.20, 0.20],
]


def markov() -> MarkovModel:
    return MarkovModel(TABLE, end=[4])


def two_best(logits: np.ndarray) -> np.ndarray:
    """A caller's own rule: the two largest logits."""
    out = np.full_like(logits, -np.inf)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    np.put_along_axis(out, best, np.take_along_axis(logits, best, axis=1), axis=1)
    return out


class Counting(MarkovModel):
    """Notes how many sequences each pass had."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.sizes: list[int] = []

    def start(self, prompts: Any) -> Any:
        self.sizes.append(len(prompts))
        return super().start(prompts)

    def next_logits(self, tokens: Any, state: Any) -> Any:
        self.sizes.append(len(tokens))
        return super().next_logits(tokens, state)


def p_value(drawn: Any, law: dict[tuple[int, ...], float]) -> float:
    """Of the chi-square test that the sequences come from the law; rare ones are put together."""
    counts = Counter(tuple(tokens.tolist()) for tokens in drawn.tokens)
    assert set(counts) <= set(law)
    n = len(drawn)
    often = [sequence for sequence, p in law.items() if n * p >= 10]
    expected = [n * law[sequence] for sequence in often]
    observed = [counts[sequence] for sequence in often]
    if n - sum(expected) > 1:
        expected.append(n - sum(expected))
        observed.append(n - sum(observed))
    return float(chisquare(observed, np.array(expected) * (sum(observed) / sum(expected))).pvalue)


def test_sequences_have_the_models_law() -> None:
    model = markov()
    drawn = Sampling().generate(model, [1], 20_000, length=4, seed=3)
    assert p_value(drawn, dict(model.sequences([1], 4))) > 1e-6


def test_the_chi_square_test_finds_a_law_that_is_wrong_by_two_hundredths() -> None:
    table = np.array(TABLE)
    table[1, 1:3] += [-0.02, 0.02]
    drawn = Sampling().generate(MarkovModel(table, end=[4]), [1], 20_000, length=4, seed=3)
    assert p_value(drawn, dict(markov().sequences([1], 4))) < 1e-6


@pytest.mark.parametrize("rule", [two_best, TopP(0.55) | Temperature(0.7)])
def test_sequences_have_the_law_of_the_rule(rule: Any) -> None:
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(TABLE)).astype(np.float32)
    p = np.exp(rule(logits).astype(np.float64))
    ruled = MarkovModel(p / p.sum(axis=1, keepdims=True), end=[4])
    law = dict(ruled.sequences([1], 4))
    drawn = Sampling(rule).generate(markov(), [1], 6_000, length=4, seed=5)
    assert p_value(drawn, law) > 1e-6
    for tokens, logprob, parts in list(zip(drawn.tokens, drawn.logprobs, drawn.details["model_token_logprobs"]))[:200]:
        assert np.exp(logprob) == pytest.approx(law[tuple(tokens.tolist())], rel=1e-5)
        assert parts.sum() == pytest.approx(markov().logprob([1], tokens), rel=1e-5)


def test_a_token_depends_on_seed_sequence_and_step_alone() -> None:
    model = markov()
    many = Sampling().generate(model, [1], 300, length=8, seed=11)
    few = Sampling().generate(model, [1], 7, length=3, seed=11)
    for tokens, longer in zip(few.tokens, many.tokens, strict=False):
        np.testing.assert_array_equal(tokens, longer[:3])
    other = Sampling().generate(model, [1], 300, length=8, seed=12)
    same = sum(np.array_equal(a, b) for a, b in zip(many.tokens, other.tokens, strict=True))
    assert same < 100
    assert len({tuple(tokens.tolist()) for tokens in many.tokens}) > 50


def test_sequences_of_many_prompts_are_those_of_each_prompt_alone() -> None:
    model = TransformersModel(tiny_gemma())
    prompts = [[9, 10, 11], [12], [13, 14, 15, 16, 17, 18, 19, 20, 21, 22], [23, 24]]
    sampling = Sampling(TopP(0.9))
    drawn = sampling.generate_each(model, prompts, length=12, seed=2)
    for number, prompt in enumerate(prompts):
        alone = sampling.generate(model, prompt, number + 1, length=12, seed=2)
        np.testing.assert_array_equal(drawn.tokens[number], alone.tokens[number])
        assert drawn.logprobs[number] == pytest.approx(alone.logprobs[number], abs=1e-4)
    assert len({tuple(tokens.tolist()) for tokens in drawn.tokens}) == 4


def test_prompts_can_be_gone_through_in_parts() -> None:
    model = markov()
    prompts = [[number % 4] for number in range(10)]
    whole = Sampling().generate_each(model, prompts, length=5, seed=6)
    parts = [Sampling().generate_each(model, prompts[at : at + 4], length=5, seed=6, first=at) for at in (0, 4, 8)]
    joined = [tokens.tolist() for part in parts for tokens in part.tokens]
    assert joined == [tokens.tolist() for tokens in whole.tokens]


def test_tokens_are_those_that_the_rule_draws() -> None:
    rule, model = TopP(0.8), markov()
    drawn = Sampling(rule).generate(model, [1], 40, length=6, seed=9)
    seeds = child_seeds(9, 0, 40)
    for number, tokens in enumerate(drawn.tokens):
        logits, state = model.start([[1]])
        for step, token in enumerate(tokens):
            assert rule.draw(logits, seeds[number : number + 1], step)[0] == token
            logits, state = model.next_logits(tokens[step : step + 1], state)


def test_a_rule_with_a_memory_has_one_for_each_sequence() -> None:
    rule, model = Mirostat(1.2, rate=0.5), markov()
    drawn = Sampling(rule).generate(model, [1], 60, length=6, seed=4)
    seeds = child_seeds(4, 0, 60)
    for number, tokens in enumerate(drawn.tokens):
        (logits, state), memory = model.start([[1]]), rule.start(1)
        for step, token in enumerate(tokens):
            again, memory = rule.draw(logits, seeds[number : number + 1], step, memory)
            assert again[0] == token
            logits, state = model.next_logits(tokens[step : step + 1], state)
    plain = Sampling().generate(model, [1], 60, length=6, seed=4)
    assert any(not np.array_equal(a, b) for a, b in zip(drawn.tokens, plain.tokens, strict=True))


@pytest.mark.parametrize("network", [tiny_llama(), tiny_gemma()], ids=["llama", "gemma"])
@pytest.mark.parametrize("rule", [None, TopP(0.7)])
def test_logprobs_are_those_of_a_fresh_forward(network: Any, rule: Any) -> None:
    drawn = Sampling(rule).generate(TransformersModel(network), [9, 10, 11], 6, length=15, seed=1)
    for number, tokens in enumerate(drawn.tokens):
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([[9, 10, 11, *tokens]]), use_cache=False).logits[0, 2:-1].numpy()
        own = torch.log_softmax(torch.from_numpy(logits), dim=1)[range(len(tokens)), tokens].numpy()
        np.testing.assert_allclose(drawn.details["model_token_logprobs"][number], own, atol=1e-4)
        after = logits if rule is None else rule(logits)
        law = torch.log_softmax(torch.from_numpy(after), dim=1)[range(len(tokens)), tokens].numpy()
        np.testing.assert_allclose(drawn.details["token_logprobs"][number], law, atol=1e-4)
        assert drawn.logprobs[number] == pytest.approx(law.sum(), abs=1e-3)


def test_a_sequence_that_ended_leaves_the_batch() -> None:
    model = Counting(TABLE, end=[4])
    drawn = Sampling().generate(model, [1], 50, length=6, seed=8)
    lengths = [len(tokens) for tokens in drawn.tokens]
    assert model.sizes == [1, *(sum(length > step for length in lengths) - ended(drawn, step) for step in range(1, 6))]
    assert (drawn.passes, drawn.rows) == (len(model.sizes), sum(model.sizes))
    for tokens, finished in zip(drawn.tokens, drawn.finished, strict=True):
        assert 4 not in tokens[:-1]
        assert finished == (tokens[-1] == 4)
        assert finished or len(tokens) == 6


def ended(drawn: Any, step: int) -> int:
    """None: a sequence longer than `step` has not ended at it."""
    return sum(len(tokens) > step and tokens[step - 1] == 4 for tokens in drawn.tokens)


def test_when_all_have_ended_no_pass_is_made() -> None:
    model = Counting([[0.0, 1.0], [0.5, 0.5]], end=[1])
    drawn = Sampling().generate(model, [0], 9, length=10)
    assert model.sizes == [1]
    assert drawn.finished.all()
    assert drawn.logprobs.tolist() == [0.0] * 9


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: Sampling("topk"), ParameterError, "no rule"),
        (lambda: Sampling().generate(markov(), [1], 0), ParameterError, "n=0"),
        (lambda: Sampling().generate(markov(), [1], length=0), ParameterError, "length=0"),
        (lambda: Sampling().generate(markov(), []), UsageError, "no token"),
        (lambda: Sampling().generate_each(markov(), [[1], [9]]), UsageError, "outside the vocabulary"),
        (lambda: Sampling().generate_each(markov(), [[1]], first=-1), ParameterError, "first=-1"),
        (lambda: Sampling().generate_each(markov(), []), UsageError, "no prompt"),
        (lambda: Sampling(lambda x: x * np.nan).generate(markov(), [1]), UsageError, "NaN"),
        (lambda: Greedy().generate(markov(), [1], 2), ParameterError, "n=2"),
        (lambda: Greedy().generate(markov(), [1], length=0), ParameterError, "length=0"),
        (lambda: Greedy().generate(markov(), [5]), UsageError, "outside the vocabulary"),
    ],
)
def test_mistakes_are_told(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_greedy_takes_the_most_probable_token_and_ends_at_an_end_token() -> None:
    model = MarkovModel([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.0, 0.6, 0.4]], end=[])
    found = Greedy().generate(model, [0], length=4)
    assert found.tokens[0].tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(np.exp(found.details["token_logprobs"][0]), [0.5, 0.8, 0.6, 0.8], rtol=1e-6)
    assert found.logprobs[0] == pytest.approx(np.log(0.5 * 0.8 * 0.6 * 0.8), rel=1e-6)
    assert (found.passes, found.rows, found.finished.tolist()) == (4, 4, [False])
    model.end = frozenset([2])
    stopped = Greedy().generate(model, [0], length=4)
    assert stopped.tokens[0].tolist() == [1, 2]
    assert (stopped.passes, stopped.finished.tolist()) == (2, [True])


def test_greedy_ties_go_to_the_lowest_token() -> None:
    model = MarkovModel([[0.2, 0.4, 0.4], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    assert Greedy().generate(model, [0], length=3).tokens[0].tolist() == [1, 0, 1]


def test_greedy_equals_sampling_at_a_temperature_near_zero() -> None:
    model = TransformersModel(tiny_llama())
    cold = Sampling(Temperature(1e-4)).generate(model, [9, 10], 2, length=20)
    found = Greedy().generate(model, [9, 10], length=20)
    for tokens in cold.tokens:
        np.testing.assert_array_equal(tokens, found.tokens[0])
    assert max(found.tokens[0]) < VOCABULARY


def test_decoders_are_values() -> None:
    assert Sampling(TopP(0.9)) == Sampling(TopP(0.9))
    assert Sampling(TopP(0.9)) != Sampling()
    assert Greedy() == Greedy()
    assert repr(Sampling(TopP(0.9))).startswith("Sampling(rule=TopP(")

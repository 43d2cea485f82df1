"""KL-guided temperature: the published formula, its limits, and two states that read the same tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest

from decode.tiny import VOCABULARY, tiny_llama
from kofn.core.block import Floats
from kofn.decode import KLGuidedTemperature, Temperature
from kofn.decode.rules.klguided import divergence
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError


def law(logits: Floats) -> Floats:
    e = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_one_half_life_of_divergence_halves_the_temperature() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.1, 0.9])
    nats = 0.5 * math.log(5) + 0.5 * math.log(5 / 9)
    rule = KLGuidedTemperature(2.0, half_life=nats)
    cooled = rule(np.log([p]), beside=np.log([q]))
    assert cooled == pytest.approx(np.log([p]), abs=1e-6)
    twice = KLGuidedTemperature(2.0, half_life=nats / 2)(np.log([p]), beside=np.log([q]))
    assert twice == pytest.approx(np.log([p]) / 0.5, abs=1e-6)


def test_the_divergence_is_that_of_the_law_with_the_source_from_the_law_without() -> None:
    with_source, without = np.log([0.9, 0.1]).astype(np.float32), np.log([0.5, 0.5]).astype(np.float32)
    forwards = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    backwards = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5)
    assert divergence(with_source, without) == pytest.approx(forwards, abs=1e-6)
    assert divergence(without, with_source) == pytest.approx(backwards, abs=1e-6)


def test_small_chances_are_not_clipped_on_a_large_vocabulary() -> None:
    # 200,000 tokens of 1e-9 or 4e-9 each: clipped at 1e-7 the two tails would be alike
    tail = np.full(200_000, 1e-9)
    p = np.concatenate([[1 - tail.sum()], tail])
    q = np.concatenate([[1 - 4 * tail.sum()], 4 * tail])
    exact = float((p * np.log(p / q)).sum())
    assert divergence(np.log(p).astype(np.float32), np.log(q).astype(np.float32)) == pytest.approx(exact, rel=2e-2)
    clipped = float((np.clip(p, 1e-7, 1) * (np.log(np.clip(p, 1e-7, 1)) - np.log(np.clip(q, 1e-7, 1)))).sum())
    assert abs(clipped - exact) > 0.5 * exact


def test_what_the_law_without_the_source_cannot_emit_makes_the_rule_greedy_with_ties_shared() -> None:
    x = np.array([[5.0, 5.0, 4.99, 0.0]], np.float32)
    y = np.array([[-np.inf, 0.0, 0.0, 0.0]], np.float32)
    assert law(KLGuidedTemperature(1.0)(x, beside=y)) == pytest.approx(np.array([[0.5, 0.5, 0.0, 0.0]]), abs=1e-12)


def test_a_base_temperature_below_the_floor_is_kept() -> None:
    x = np.array([[1.0, 1.0 - 2e-7]], np.float32)
    rule = KLGuidedTemperature(1e-8)
    assert np.array_equal(rule(x, beside=x), Temperature(1e-8)(x))


def test_two_states_that_read_the_same_tokens_give_the_law_of_both_texts_read_anew() -> None:
    model = TransformersModel(tiny_llama())
    rng = np.random.default_rng(1)
    source, request = rng.integers(8, VOCABULARY, 9).tolist(), rng.integers(8, VOCABULARY, 4).tolist()
    rule = KLGuidedTemperature(1.2, half_life=0.5)
    (ours, ours_state), (theirs, theirs_state) = model.start([source + request]), model.start([request])
    drawn: list[int] = []
    for step in range(4):
        anew, _ = model.start([source + request + drawn])
        anew_beside, _ = model.start([request + drawn])
        expected = law(rule(anew, beside=anew_beside))
        assert law(rule(ours, beside=theirs)) == pytest.approx(expected, abs=1e-4)
        if drawn:  # a state that is left behind compares with another text's law
            behind, _ = model.start([request])
            assert np.abs(law(rule(ours, beside=behind)) - expected).max() > 1e-3
        token = rule.draw(ours, 5, step, beside=theirs)
        drawn.append(int(token[0]))
        ours, ours_state = model.next_logits(token, ours_state)
        theirs, theirs_state = model.next_logits(token, theirs_state)


def test_parameters_that_are_no_temperature_are_refused() -> None:
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ParameterError, match="temperature"):
            KLGuidedTemperature(wrong)
        with pytest.raises(ParameterError, match="half_life"):
            KLGuidedTemperature(1.0, half_life=wrong)

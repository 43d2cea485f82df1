"""Rules that remember: Mirostat, SelfTerminating, and chains with them."""

import math

import numpy as np
import pytest

from kofn.decode import MarkovModel, Mirostat, SelfTerminating, Temperature, TopK, child_seeds
from kofn.decode.rules.mirostat import zipf_exponent
from kofn.decode.rules.support import Support
from kofn.errors import ParameterError, UsageError

V = 400


def markov() -> MarkovModel:
    rng = np.random.default_rng(0)
    ranks = 1.0 / np.arange(1, V + 1) ** 1.1
    table = np.stack([rng.permutation(ranks) for _ in range(V)])
    return MarkovModel(table / table.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [3.0, 4.0, 5.0])  # the best token alone has 2.4
def test_mirostat_holds_the_mean_surprise_at_tau(version: int, tau: float) -> None:
    model, rule = markov(), Mirostat(tau, version=version)
    seeds = child_seeds(1, 0, 20)
    logits, cache = model.start([[i] for i in range(20)])
    state, last = rule.start(20), np.arange(20)
    surprises = []
    for step in range(256):
        tokens, state = rule.draw(logits, seeds, step, state)
        surprises.append(-np.log2(model.table[last, tokens]))
        last = tokens
        logits, cache = model.next_logits(tokens, cache)
    assert np.mean(surprises) == pytest.approx(tau, rel=0.05)


def test_mirostat_learns_from_the_token_that_was_emitted() -> None:
    rule = Mirostat(3.0, rate=0.5)
    x = np.log2([[0.5, 0.25, 0.125, 0.125]]) * math.log(2)
    _, state = rule.step(x, rule.start(1))
    assert rule.saw([1], state)[0].limit == pytest.approx(6.0 - 0.5 * (2.0 - 3.0))
    assert rule.saw([2], state)[0].limit == pytest.approx(6.0 - 0.5 * (3.0 - 3.0))


def test_mirostat_keeps_tokens_up_to_its_limit_and_the_best_always() -> None:
    x = np.log(np.array([[0.5, 0.25, 0.125, 0.0625, 0.0625]]))
    logits, _ = Mirostat(1.5).step(x, Mirostat(1.5).start(1))  # mu = 3 bits
    assert np.flatnonzero(np.isfinite(logits[0])).tolist() == [0, 1, 2]
    logits, _ = Mirostat(0.1).step(x, Mirostat(0.1).start(1))
    assert np.flatnonzero(np.isfinite(logits[0])).tolist() == [0]
    logits, _ = Mirostat(0.1, min_keep=2).step(x, Mirostat(0.1).start(1))
    assert np.flatnonzero(np.isfinite(logits[0])).tolist() == [0, 1]


def test_the_zipf_exponent_of_a_zipf_law_is_its_own() -> None:
    x = -1.3 * np.log(np.arange(1, 1001))
    assert zipf_exponent(Support(x.astype(np.float32))) == pytest.approx(1.3, rel=1e-3)


def test_the_end_has_the_chance_of_the_formula_and_the_others_keep_their_proportions() -> None:
    p = np.array([0.5, 0.3, 0.2])
    rule, state = SelfTerminating(0.1, end=2), [0]
    for step in range(1, 30):
        logits, state = rule.step(np.log(p)[None], state)
        q = np.exp(logits[0].astype(np.float64))
        q /= q.sum()
        assert q[2] == pytest.approx((1 - 0.2) * (1 - 0.9**step) + 0.2, rel=1e-5)
        assert q[0] / q[1] == pytest.approx(5 / 3, rel=1e-5)
        state = rule.saw([0], state)


def test_greedy_ends_by_the_bound_even_where_the_model_never_would() -> None:
    rule = SelfTerminating(0.02, end=0)
    x = np.array([[-60.0, 50.0, 0.0]])
    state = rule.start(1)
    emitted = []
    while 0 not in emitted:
        logits, state = rule.step(x, state)
        emitted.append(int(logits[0].argmax()))
        state = rule.saw(emitted[-1:], state)
    assert len(emitted) == rule.bound == 35  # 0.98 ** 35 < 1/2 < 0.98 ** 34


def test_the_chance_of_the_end_may_fall() -> None:
    rule = SelfTerminating(0.001, end=0)
    first, state = rule.step(np.array([[2.0, 0.0]]), [0])
    second, _ = rule.step(np.array([[-2.0, 0.0]]), rule.saw([1], state))
    assert (second[0, 0] - second[0, 1]) < (first[0, 0] - first[0, 1])


def test_a_chain_hands_each_rule_its_memory() -> None:
    rule = SelfTerminating(0.1, end=0) | TopK(3) | Mirostat(2.0) | Temperature(0.5)
    x = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    seeds = child_seeds(0, 0, 4)
    tokens, state = rule.draw(x, seeds, 0, rule.start(4))
    assert [memory[0] for memory in state] == [1] * 4
    assert len({memory[2].limit for memory in state} - {4.0}) > 0
    alone = [rule.draw(x[i : i + 1], seeds[i : i + 1], 0, rule.start(1))[0][0] for i in range(4)]
    assert tokens.tolist() == alone


def test_wrong_use_is_an_error() -> None:
    with pytest.raises(UsageError, match="state of 1"):
        Mirostat(3.0).step(np.zeros((2, 5)), Mirostat(3.0).start(1))
    rule = TopK(1) | SelfTerminating(0.1, end=2)
    with pytest.raises(UsageError, match="put the rule first"):
        rule.step(np.array([[1.0, 0.0, 0.0]]), rule.start(1))
    with pytest.raises(ParameterError, match="version"):
        Mirostat(3.0, version=3)
    with pytest.raises(ParameterError, match="end"):
        SelfTerminating(0.1, end=-1)

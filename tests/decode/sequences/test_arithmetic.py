"""Arithmetic sampling against the exact law of Markov models: each sequence by itself, all together, long ones."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chisquare

from decode.remembering import Remembering
from kofn.core.uniforms import child_seeds, uniforms
from kofn.decode.markov import MarkovModel
from kofn.decode.sequences.arithmetic import ArithmeticSampling, code_points
from kofn.errors import ParameterError, UsageError

TABLE = [[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.6, 0.1], [0.25, 0.25, 0.25, 0.25], [0.0, 0.7, 0.1, 0.2]]

PEAKED = [[0.9, 0.06, 0.03, 0.01], [0.1, 0.05, 0.8, 0.05], [0.04, 0.02, 0.9, 0.04], [0.0, 0.95, 0.02, 0.03]]


def top_two(logits):
    """A rule: the two largest logits of each row."""
    cut = np.sort(logits, axis=-1)[:, -2:-1]
    return np.where(logits >= cut, logits, -np.inf).astype(np.float32)


def intervals(model, prompt, length):
    """Sequences in lexicographic order, and where each one's interval ends: enumeration."""
    law = sorted(model.sequences(prompt, length))
    return [tokens for tokens, _ in law], np.cumsum([p for _, p in law])


def test_each_sequence_is_the_one_whose_interval_holds_its_code_point():
    model = MarkovModel(TABLE, end=[3])
    drawn = ArithmeticSampling().generate(model, [0], 200, length=4, seed=5)
    sequences, ends = intervals(model, [0], 4)
    expected = [sequences[place] for place in np.searchsorted(ends, drawn.details["codes"], side="right")]
    assert [tuple(tokens.tolist()) for tokens in drawn.tokens] == expected


def test_code_points_are_evenly_spaced_with_one_offset():
    np.testing.assert_allclose(code_points(3, 0.6), [0.85, 0.1, 0.35])


@pytest.mark.parametrize("place", [0, 3])
def test_a_sequence_has_the_models_law_over_seeds(place):
    model = MarkovModel(TABLE, end=[3])
    law = dict(model.sequences([0], 3))
    seen = Counter()
    for seed in range(2_000):
        drawn = ArithmeticSampling().generate(model, [0], 4, length=3, seed=seed)
        seen[tuple(drawn.tokens[place].tolist())] += 1
    assert set(seen) <= set(law)
    assert chisquare([seen[s] for s in law], [2_000 * p for p in law.values()]).pvalue > 1e-6


def test_a_prefix_of_probability_p_is_met_n_p_times_give_or_take_one():
    model = MarkovModel(TABLE)
    for seed in range(50):
        drawn = ArithmeticSampling().generate(model, [0], 99, length=3, seed=seed)
        seen = Counter(tuple(tokens.tolist()) for tokens in drawn.tokens)
        for tokens, p in model.sequences([0], 3):
            assert abs(seen[tokens] - 100 * p) <= 2  # 100 places, one of them left out


@pytest.mark.parametrize(("table", "most"), [(PEAKED, 0.5), (TABLE, 0.85)])
def test_a_mean_reward_of_sixteen_varies_less_than_that_of_independent_draws_over_200_repeats(table, most):
    """Half as much where four bits tell most of a sequence; less is gained where they tell two tokens of six."""
    model = MarkovModel(table)
    law = [(sum(tokens), p) for tokens, p in model.sequences([0], 6)]
    mean = sum(reward * p for reward, p in law)
    independent = np.sqrt(sum((reward - mean) ** 2 * p for reward, p in law) / 16)
    means = np.array(
        [
            np.mean([tokens.sum() for tokens in ArithmeticSampling().generate(model, [0], 16, length=6, seed=s).tokens])
            for s in range(200)
        ]
    )
    assert means.std() < most * independent
    assert abs(means.mean() - mean) < 5 * independent / np.sqrt(200)


def test_tokens_after_a_thousand_bits_still_have_the_models_law():
    model = MarkovModel(TABLE)
    pairs = np.zeros((4, 4))
    for seed in range(12):
        drawn = ArithmeticSampling().generate(model, [0], 8, length=600, seed=seed)
        for tokens in drawn.tokens:
            np.add.at(pairs, (tokens[500:-1], tokens[501:]), 1)
    for row, p in zip(pairs, np.array(TABLE), strict=True):
        can = p > 0
        assert row[~can].sum() == 0
        assert chisquare(row[can], row.sum() * p[can]).pvalue > 1e-6


def test_long_sequences_of_neighbouring_code_points_become_independent():
    model = MarkovModel(np.full((2, 2), 0.5))
    drawn = ArithmeticSampling().generate(model, [0], 8, length=2_000, seed=9)
    tails = np.stack([tokens[100:] for tokens in drawn.tokens])
    agree = [(a == b).mean() for i, a in enumerate(tails) for b in tails[:i]]
    assert max(abs(share - 0.5) for share in agree) < 0.07  # 6 standard errors


def test_log_probabilities_are_those_of_the_model():
    model = MarkovModel(TABLE, end=[3])
    drawn = ArithmeticSampling().generate(model, [1], 30, length=8, seed=2)
    np.testing.assert_allclose(drawn.logprobs, [model.logprob([1], t) for t in drawn.tokens], atol=1e-5)
    assert drawn.finished.tolist() == [t[-1] == 3 for t in drawn.tokens]
    for tokens, gains in zip(drawn.tokens, drawn.details["token_logprobs"], strict=True):
        path = [1, *tokens.tolist()]
        np.testing.assert_allclose(np.exp(gains), [TABLE[a][b] for a, b in pairwise(path)], atol=1e-5)


def test_every_sequence_keeps_its_own_memory_while_others_end():
    model = Remembering(end=[3])
    drawn = ArithmeticSampling().generate(model, [1, 2], 40, length=12, seed=6)
    assert 0 < drawn.finished.sum() < 40
    expected = [model.logprob([1, 2], tokens.tolist()) for tokens in drawn.tokens]
    np.testing.assert_allclose(drawn.logprobs, expected, atol=1e-5)


def test_with_a_rule_the_law_is_that_of_the_rule():
    model = MarkovModel(TABLE)
    drawn = ArithmeticSampling(rule=top_two).generate(model, [0], 800, length=1, seed=4)
    seen = Counter(int(tokens[0]) for tokens in drawn.tokens)
    assert set(seen) == {0, 1}
    assert abs(seen[0] - 800 * 0.625) <= 2
    assert set(np.round(np.exp(drawn.logprobs), 4)) == {0.625, 0.375}


def test_a_sequence_does_not_depend_on_the_others_in_its_batch():
    class OneByOne(MarkovModel):
        def next_logits(self, tokens, state):
            parts = [super(OneByOne, self).next_logits(tokens[i : i + 1], state[i : i + 1]) for i in range(len(tokens))]
            return np.concatenate([p[0] for p in parts]), tuple(p[1][0] for p in parts)

    whole = ArithmeticSampling().generate(MarkovModel(TABLE, end=[3]), [0], 16, length=50, seed=1)
    parts = ArithmeticSampling().generate(OneByOne(TABLE, end=[3]), [0], 16, length=50, seed=1)
    for a, b in zip(whole.tokens, parts.tokens, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_seed_moves_the_offset_and_nothing_else_does():
    model = MarkovModel(TABLE)
    codes = [ArithmeticSampling().generate(model, [0], 5, length=2, seed=s).details["codes"] for s in (3, 3, 4)]
    np.testing.assert_array_equal(codes[0], codes[1])
    offset = uniforms(child_seeds(3, 0, 1), 0, 1)[0]
    np.testing.assert_array_equal(codes[0], code_points(5, float(offset)))
    assert not np.allclose(codes[0], codes[2])


def test_tokens_of_a_large_vocabulary_are_found_where_a_plain_cumulated_law_has_them():
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal(100_000) * 3).astype(np.float32)
    logits[:50_000] = -np.inf
    logits[60_000:99_990] = -np.inf
    model = Fixed(logits)
    drawn = ArithmeticSampling().generate(model, [0], 500, length=1, seed=8)
    law = np.exp(logits.astype(np.float64))
    ends = np.cumsum(law) / law.sum()
    for code, tokens in zip(drawn.details["codes"], drawn.tokens, strict=True):
        token = int(tokens[0])
        assert (ends[token - 1] - 1e-6) <= code <= ends[token] + 1e-6
        assert np.isfinite(logits[token])


def test_a_point_at_the_very_start_does_not_fall_on_a_token_that_cannot_be():
    from kofn.decode.sequences.arithmetic import _cumulated, _located

    logits = np.full(5_000, -np.inf, np.float32)
    logits[3_000] = 0
    top, ends = 0.0, _cumulated(logits, 0.0)
    for point in (0.0, 1e-300, 1 - 2.0**-53):
        token, logprob, after, width = _located(logits, top, ends, point)
        assert (token, width) == (3_000, 1.0)
        assert logprob == 0
        assert 0 <= after < 1


def test_blocks_whose_tokens_are_as_good_as_impossible_take_no_part_of_the_interval():
    from kofn.decode.sequences.arithmetic import _cumulated

    logits = np.full(3_000, -80, np.float32)
    logits[2_000] = 0
    np.testing.assert_array_equal(_cumulated(logits, 0.0), [0, 1, 1])


class Fixed:
    """The same logits after every token."""

    end = frozenset()

    def __init__(self, logits):
        self.logits = logits
        self.vocabulary = len(logits)

    def start(self, prompts):
        return self.logits[None], len(prompts)

    def next_logits(self, tokens, state):
        return np.tile(self.logits, (len(tokens), 1)), state

    def select(self, state, rows):
        return len(rows)


def test_passes_and_rows_count_what_was_computed_and_end_when_all_have_ended():
    model = MarkovModel([[0, 1], [0, 1]], end=[1])
    drawn = ArithmeticSampling().generate(model, [0], 3, length=9, seed=0)
    assert (drawn.passes, drawn.rows) == (1, 1)
    endless = ArithmeticSampling().generate(MarkovModel([[0, 1], [0, 1]]), [0], 3, length=9, seed=0)
    assert (endless.passes, endless.rows) == (9, 1 + 8 * 3)


def test_the_method_is_equal_to_its_twin_and_refuses_what_cannot_be():
    assert ArithmeticSampling(rule=top_two) == ArithmeticSampling(rule=top_two)
    model = MarkovModel(TABLE)
    with pytest.raises(ParameterError, match="is no rule"):
        ArithmeticSampling(0.9)
    with pytest.raises(ParameterError, match="n=0"):
        ArithmeticSampling().generate(model, [0], 0)
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(UsageError, match="row 0"):
            ArithmeticSampling().generate(Fixed(np.array([wrong, wrong], np.float32)), [0], 2)

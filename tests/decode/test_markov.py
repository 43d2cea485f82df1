"""The Markov model: which tables are laws, and what its laws are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kofn.decode.markov import MarkovModel
from kofn.errors import UsageError

TABLE = [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([[math.nan, 1.0], [0.5, 0.5]], "has nan in row 0, column 0"),
        ([[0.5, 0.5], [0.0, math.inf]], "has inf in row 1, column 1"),
        ([[-0.1, 1.1], [0.5, 0.5]], "has -0.1 in row 0, column 0; give numbers from 0 to 1"),
        ([[0.5, 0.5], [0.5, 0.4]], "row 1 of the table sums to 0.9; each row must be a law"),
        ([[0.5, 0.5]], r"shape \(1, 2\)"),
        (np.zeros((0, 0)), r"shape \(0, 0\)"),
        ([[1.0], [0.5, 0.5]], "no array of numbers"),
        ("table", "no array of numbers"),
    ],
)
def test_a_table_that_is_no_law_is_refused_with_the_entry_that_is_wrong(table: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MarkovModel(table)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ([9], r"end token 9 is not one of the vocabulary 0\.\.2"),
        ([0, -1], "end token -1"),
        ([1.5], "end token 1.5"),
        ([True], "end token True"),
        (2, r"end=2 is no list of tokens; give for example end=\[2\]"),
        ("2", "end='2' is no list of tokens"),
    ],
)
def test_an_end_that_no_sequence_can_have_is_refused(end: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MarkovModel(TABLE, end=end)


def test_end_tokens_may_be_numbers_of_numpy_and_come_once_only() -> None:
    end = (token for token in np.array([2, 0, 2]))
    assert MarkovModel(TABLE, end=end).end == frozenset({0, 2})


@pytest.mark.parametrize("prompt", ["text", [[0, 1]], [], [3]])
def test_a_prompt_that_is_no_row_of_its_tokens_is_refused(prompt: Any) -> None:
    with pytest.raises(UsageError, match="prompt"):
        MarkovModel(TABLE).start([prompt])


def test_logits_are_those_of_the_last_tokens_row_and_go_on_from_step_to_step() -> None:
    model = MarkovModel(TABLE)
    logits, state = model.start([[0, 1], [0]])
    assert np.exp(logits).tolist() == pytest.approx(np.array([TABLE[1], TABLE[0]]))
    logits, _ = model.next_logits(np.array([2, 1]), model.select(state, [1, 0]))
    assert np.exp(logits) == pytest.approx(np.array([TABLE[2], TABLE[1]]))


def test_sequences_of_an_ending_model_have_all_of_the_probability() -> None:
    model = MarkovModel(TABLE, end=[2])
    listed = dict(model.sequences([0], 2))
    assert listed == pytest.approx({(0, 0): 0.25, (0, 1): 0.25, (1, 0): 0.125, (1, 1): 0.125, (1, 2): 0.25})
    assert model.logprob([0], [1, 2]) == pytest.approx(math.log(0.25))

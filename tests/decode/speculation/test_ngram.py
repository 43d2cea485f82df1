"""Prompt lookup."""

import numpy as np
import pytest

from kofn.decode.speculation.ngram import NGramDrafter
from kofn.errors import ParameterError


def chances(law, *tokens):
    return law.at(np.array(tokens)).round(6).tolist()


def test_the_longest_suffix_that_came_before_is_gone_on_with():
    context = [1, 2, 3, 4, 9, 2, 3, 5, 7, 1, 2, 3]
    assert NGramDrafter(3).start(context)[0].draw(0.5) == 4  # after 1 2 3
    assert NGramDrafter(2).start(context)[0].draw(0.5) == 5  # after 2 3, the latest


def test_shorter_suffixes_are_tried_where_longer_ones_never_came():
    assert NGramDrafter(4).start([3, 8, 6, 1, 3])[0].draw(0.5) == 8


def test_nothing_is_proposed_after_a_token_that_never_came():
    assert NGramDrafter(3).start([1, 2, 3])[0] is None
    assert NGramDrafter(3).start([1])[0] is None


def test_suffixes_that_are_too_short_propose_nothing():
    context = [3, 8, 6, 1, 3, 8, 5, 8]
    assert NGramDrafter(3).start(context)[0].draw(0.5) == 5  # after 8, the latest
    assert NGramDrafter(3, shortest=2).start(context)[0] is None  # 5 8 never came
    assert NGramDrafter(3, shortest=2).start(context[:6])[0].draw(0.5) == 6  # after 3 8


def test_counts_give_every_continuation_its_share():
    context = [1, 2, 1, 2, 1, 3, 1]
    law, _ = NGramDrafter(1, counts=True).start(context)
    assert chances(law, 1, 2, 3) == [0, pytest.approx(2 / 3, abs=1e-6), pytest.approx(1 / 3, abs=1e-6)]
    longer, _ = NGramDrafter(2, counts=True).start(context)  # 3 1 never came: back to 1
    assert chances(longer, 2) == [pytest.approx(2 / 3, abs=1e-6)]


def test_an_occurrence_may_overlap_the_suffix():
    assert NGramDrafter(3).start([7, 7, 7])[0].draw(0.5) == 7


def test_what_is_read_counts_and_what_is_rewound_does_not():
    drafter = NGramDrafter(2)
    _, state = drafter.start([1, 2, 3])
    state = drafter.select(state, [0, 0])
    laws, state = drafter.read(np.array([[1], [9]]), state)
    assert laws[0].draw(0.5) == 2
    assert laws[1] is None
    state = drafter.rewind(drafter.select(state, [1]), 1)
    laws, state = drafter.read(np.array([[2, 3]]), state)
    assert [each.tolist() for each in state] == [[1, 2, 3, 2, 3]]
    assert laws[0].draw(0.5) == 2


def test_the_order_is_a_whole_number():
    for wrong in (0, 1.5, True):
        with pytest.raises(ParameterError, match="order="):
            NGramDrafter(wrong)
    for wrong in (0, 4, 1.5, True):
        with pytest.raises(ParameterError, match="shortest="):
            NGramDrafter(3, shortest=wrong)

"""The k highest scores."""

import numpy as np
import pytest

import kofn
from kofn import Items, KofnError, Rng
from kofn.represent import Top


def test_the_best_come_first_and_ties_go_to_the_lowest_row():
    scores = [3.0, 9.0, 1.0, 9.0, 3.0, 3.0, -2.0]
    selection = Top().select(Items(scores=scores), 4, Rng(0))
    assert selection.indices.tolist() == [1, 3, 0, 4]
    assert selection.gains.tolist() == [9, 9, 3, 3]


def test_all_equal_scores_give_the_first_rows():
    assert Top().select(Items(scores=[1.0, 1.0, 1.0]), 2, Rng(0)).indices.tolist() == [0, 1]


def test_rows_that_one_has_are_passed_over():
    selection = Top().select(Items(scores=[5.0, 4.0, 3.0, 2.0], have=[0, 2]), 2, Rng(0))
    assert selection.indices.tolist() == [1, 3]
    assert selection.weights.tolist() == [1, 1]


def test_weights_are_equal_shares_of_what_is_left():
    selection = Top().select(Items(scores=[5.0, 4.0, 3.0, 2.0], weights=[1, 2, 3, 4], have=[3]), 2, Rng(0))
    assert selection.weights.tolist() == [3, 3]


def test_it_agrees_with_a_full_sort_on_scores_with_many_ties():
    scores = np.random.default_rng(0).integers(0, 50, 5_000)
    expected = np.argsort(-scores, kind="stable")
    for k in (1, 100, 2_500, 4_999, 5_000):
        assert Top().select(Items(scores=scores), k, Rng(0)).indices.tolist() == expected[:k].tolist()


def test_scores_are_needed_and_read_as_numbers():
    with pytest.raises(KofnError, match="top needs scores"):
        kofn.select(np.eye(3), 1, method="top")
    with pytest.raises(KofnError, match="not numbers"):
        kofn.select(np.eye(3), 1, method="top", score=list("abc"))
    assert kofn.select(np.eye(3), 1, method="top", score=np.array([1, 3, 2], np.int16)).indices.tolist() == [1]

"""Adding up in an order that no engine can change."""

import numpy as np
import pytest

from kofn.core.reduce import add, tree_sum


def test_the_sum_is_taken_in_pairs_of_pairs():
    """Strings show the order: 7 parts as ((01)(23))((45)6)."""

    class Word:
        def __init__(self, text):
            self.text = text

        def __add__(self, other):
            return Word(f"({self.text}{other.text})")

    assert tree_sum(Word(str(i)) for i in range(7)).text == "(((01)(23))((45)6))"
    assert tree_sum(Word(str(i)) for i in range(5)).text == "(((01)(23))4)"
    assert tree_sum([Word("0")]).text == "0"


def test_sums_of_arrays_and_of_tuples():
    parts = [(np.full(3, i), np.array(i * 0.5)) for i in range(10)]
    whole, half = tree_sum(parts)
    assert whole.tolist() == [45, 45, 45]
    assert half == 22.5
    assert add((1, (2, 3)), (10, (20, 30))) == (11, (22, 33))


def test_a_tree_of_a_million_small_numbers_loses_less_than_a_running_sum():
    values = np.full(1 << 20, np.float32(0.1))
    exact = 0.1 * (1 << 20)
    assert abs(float(tree_sum(values)) - exact) < 0.01
    assert abs(float(np.cumsum(values)[-1]) - exact) > 100


def test_the_parts_are_not_modified():
    parts = [np.ones(2), np.ones(2), np.ones(2)]
    tree_sum(parts)
    assert all(part.tolist() == [1, 1] for part in parts)


def test_nothing_cannot_be_added_up():
    with pytest.raises(ValueError, match="nothing to add"):
        tree_sum([])
    with pytest.raises(ValueError):
        add((1, 2), (1, 2, 3))

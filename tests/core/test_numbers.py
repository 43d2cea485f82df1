"""Whole numbers as parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kofn.core.numbers import is_whole


@pytest.mark.parametrize("value", [1, 3, np.int32(2), np.uint64(3)])
def test_whole_numbers_within_the_limits_are_whole(value: object) -> None:
    assert is_whole(value, 1, 3)
    assert is_whole(value)


@pytest.mark.parametrize("value", [0, 4, True, np.True_, 2.0, np.float64(2), "2", None, math.nan, [2], np.array([2])])
def test_anything_else_is_not(value: object) -> None:
    assert not is_whole(value, 1, 3)


def test_the_largest_seed_is_told_from_the_next() -> None:
    assert is_whole(2**64 - 1, 0, 2**64 - 1)
    assert not is_whole(2**64, 0, 2**64 - 1)

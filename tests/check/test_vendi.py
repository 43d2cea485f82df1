"""The Vendi score where it is known."""

import numpy as np
import pytest

from check.judging import chosen, judged
from kofn.check.vendi import vendi


def score(x, rows):
    context = judged(x)
    return vendi(context.items, chosen(rows), context)


@pytest.mark.parametrize("d", [4, 9])
def test_picks_at_right_angles_count_as_many_and_copies_as_one(d):
    x = np.eye(4, d)[[0, 1, 2, 3, 0, 0, 0]] * np.array([1, 2, 3, 4, 5, 6, 7.0])[:, None]
    assert score(x, [0, 1, 2, 3]) == pytest.approx(4.0)
    assert score(x, [0, 4, 5, 6]) == pytest.approx(1.0)
    assert score(x, [0, 4, 1, 5, 6, 0, 0, 0]) == pytest.approx(np.exp(-7 / 8 * np.log(7 / 8) - 1 / 8 * np.log(1 / 8)))


def test_the_small_gram_matrix_gives_what_the_kernel_gives():
    x = np.random.default_rng(0).normal(size=(30, 3))
    units = x / np.linalg.norm(x, axis=1)[:, None]
    values = np.linalg.eigvalsh(units @ units.T / 30)
    values = values[values > 1e-12]
    assert score(x, range(30)) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-6)


def test_zero_vectors_are_one_thing_of_their_own():
    x = [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert score(x, [0, 1]) == pytest.approx(2.0)
    assert score(x, [1, 2]) == pytest.approx(1.0)

"""Maximum mean discrepancy against closed forms and brute force."""

import numpy as np
import pytest

from check.judging import chosen, judged
from kofn.check.mmd import mmd
from kofn.core import discrepancy as module
from kofn.core.kernels import median_distance


def test_all_rows_have_no_discrepancy():
    context = judged(np.random.default_rng(0).normal(size=(300, 5)) + 100)
    assert mmd(context.items, context.everything, context) == pytest.approx(0.0, abs=1e-6)


def test_one_of_two_points_is_as_far_as_the_closed_form_says():
    context = judged([[0.0], [3.0]])  # bandwidth 3, so k = exp(-1/2) across
    across = np.exp(-0.5)
    square = (2 + 2 * across) / 4 - 2 * (1 + across) / 2 + 1
    assert mmd(context.items, chosen([0]), context) == pytest.approx(np.sqrt(square))


def test_weights_that_count_the_copies_bring_it_to_zero():
    x = np.repeat(np.array([[0.0, 1.0], [2.0, 2.0], [7.0, 1.0]]), [5, 3, 2], axis=0)
    context = judged(x)
    assert mmd(context.items, chosen([0, 5, 8], [5, 3, 2]), context) == pytest.approx(0.0, abs=1e-7)
    assert mmd(context.items, chosen([0, 5, 8]), context) > 0.1


def test_blocks_add_up_to_the_kernel_in_one_piece(monkeypatch):
    x = np.random.default_rng(2).normal(size=(97, 3)).astype(np.float32)
    picks, w = [4, 60, 11, 90], np.array([1.0, 2.0, 3.0, 4.0])
    context = judged(x)
    monkeypatch.setattr(module, "PIECE", 10)
    found = mmd(context.items, chosen(picks, w), context)

    def kernel(a, b):
        squared = ((a[:, None, :].astype(float) - b[None]) ** 2).sum(axis=2)
        return np.exp(-squared / (2 * median_distance(x) ** 2))

    p, w = x[picks], w / w.sum()
    square = kernel(x, x).mean() - 2 * (kernel(x, p) @ w).mean() + w @ kernel(p, p) @ w
    assert found == pytest.approx(np.sqrt(square), rel=1e-9)


def test_the_bandwidth_is_the_median_distance_of_different_rows_and_one_where_there_are_none():
    x = np.array([[0.0], [0.0], [1.0], [4.0]], np.float32)  # distances 1, 1, 4, 4, 3
    assert median_distance(x) == 3.0
    assert median_distance(np.ones((5, 2), np.float32)) == 1.0

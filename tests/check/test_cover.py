"""Distances to the nearest pick, and the k-means cost that weighted picks stand for."""

import numpy as np
import pytest

from check.judging import chosen, judged
from kofn.check.cover import distance_to_one, kmeans_cost_error, mean_distance, radius


def test_distances_on_a_line_are_those_worked_by_hand():
    context = judged([[0.0], [1.0], [4.0], [10.0]])
    picks = chosen([0, 3])  # distances 0, 1, 4, 0
    assert mean_distance(context.items, picks, context) == pytest.approx(5 / 4)
    assert radius(context.items, picks, context) == pytest.approx(4.0)


def test_under_cosine_rows_are_measured_at_length_one():
    context = judged([[2.0, 0.0], [0.0, 5.0]], "cosine")
    assert radius(context.items, chosen([0]), context) == pytest.approx(np.sqrt(2), rel=1e-6)


def test_a_second_selection_is_not_answered_with_the_first():
    context = judged([[0.0], [1.0], [4.0], [10.0]])
    assert radius(context.items, chosen([0]), context) == pytest.approx(10.0)
    assert radius(context.items, chosen([3]), context) == pytest.approx(10.0)
    assert mean_distance(context.items, chosen([0]), context) == pytest.approx(15 / 4)
    assert mean_distance(context.items, chosen([3]), context) == pytest.approx(25 / 4)


def test_all_rows_have_no_cost_error_and_halved_weights_change_nothing():
    context = judged(np.random.default_rng(0).normal(size=(200, 3)))
    assert kmeans_cost_error(context.items, context.everything, context) == pytest.approx(0.0, abs=1e-6)
    halved = chosen(range(200), np.full(200, 0.5))
    assert kmeans_cost_error(context.items, halved, context) == pytest.approx(0.0, abs=1e-6)


def test_the_cost_error_uses_the_weights():
    x = np.concatenate([np.zeros((90, 2)), np.ones((10, 2)) * 5, np.random.default_rng(0).normal(size=(40, 2)) * 9])
    context = judged(x)
    standing = chosen([0, 90, *range(100, 140)], [90, 10, *[1] * 40])  # exactly the rows, copies drawn together
    assert kmeans_cost_error(context.items, standing, context) == pytest.approx(0.0, abs=1e-6)
    alike = chosen([0, 90, *range(100, 140)])
    assert kmeans_cost_error(context.items, alike, context) > 0.5


def test_the_cost_error_is_that_of_brute_force_over_the_same_centers():
    context = judged(np.random.default_rng(1).normal(size=(60, 2)))
    picks = chosen([3, 30, 50], [10, 20, 30])
    found = kmeans_cost_error(context.items, picks, context)
    errors = []
    for centers, _ in context.once("sets of centers", lambda: pytest.fail("the sets were not kept")):
        squared = ((context.x[:, None, :] - centers[None]) ** 2).sum(axis=2).min(axis=1)
        full = squared.mean()
        errors.append(abs((squared[[3, 30, 50]] * [10, 20, 30]).sum() / 60 - full) / full)
    assert len(errors) == 9
    assert found == pytest.approx(max(errors), rel=1e-5)


def test_coverage_begins_at_the_mean_distance_between_two_rows():
    context = judged([[0.0], [1.0], [5.0]])
    assert distance_to_one(context) == pytest.approx((1 + 5 + 1 + 4 + 5 + 4) / 9)

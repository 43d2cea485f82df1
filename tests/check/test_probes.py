"""Probes against scikit-learn, and where the answer is plain."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from check.judging import chosen, judged
from kofn.check.probes import logistic_accuracy, nearest_accuracy


@pytest.fixture
def context():
    random = np.random.default_rng(0)
    x, aside = random.normal(size=(120, 3)).astype(np.float32), random.normal(size=(400, 3)).astype(np.float32)
    return replace(judged(x), labels=told(x), aside=(aside, told(aside)))


def told(x):
    return ((x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0.5)).astype(np.int32)


def test_the_nearest_pick_answers_as_scikit_learn_does(context):
    rows = [5, 17, 40, 77, 90, 110]
    model = KNeighborsClassifier(1).fit(context.x[rows], context.labels[rows])
    assert nearest_accuracy(context.items, chosen(rows), context) == pytest.approx(model.score(*context.aside))


def test_the_logistic_probe_is_scikit_learns_on_columns_standardised_by_weight(context):
    rows = np.arange(0, 120, 3)
    x = context.x[rows].astype(float)
    w = np.exp(-2 * np.abs(x[:, 0]))  # the first column's weighted spread is far from its plain one
    aside = np.random.default_rng(1).normal(size=(20_000, 3)).astype(np.float32)
    mean = np.average(x, axis=0, weights=w)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    model = LogisticRegression(max_iter=500).fit((x - mean) / spread, context.labels[rows], sample_weight=w / w.mean())
    expected = model.score((aside.astype(float) - mean) / spread, told(aside))
    wide = replace(context, aside=(aside, told(aside)))
    assert logistic_accuracy(wide.items, chosen(rows, w), wide) == pytest.approx(expected, abs=1e-12)


def test_only_the_proportions_of_the_weights_matter(context):
    rows, w = np.arange(0, 120, 3), np.linspace(1, 9, 40)
    once = logistic_accuracy(context.items, chosen(rows, w), context)
    assert logistic_accuracy(context.items, chosen(rows, 1000 * w), context) == once


def test_heavy_picks_of_one_label_draw_the_answer_to_it():
    x, labels = np.array([[0.0], [0.1], [0.2], [0.3]]), np.array([0, 1, 0, 1], np.int32)
    context = replace(judged(x), labels=labels, aside=(np.float32([[0.15]]), np.int32([1])))
    assert logistic_accuracy(context.items, chosen(range(4), [1, 50, 1, 50]), context) == 1.0
    assert logistic_accuracy(context.items, chosen(range(4), [50, 1, 50, 1]), context) == 0.0


def test_picks_of_one_label_answer_with_it(context):
    zeros = np.flatnonzero(context.labels == 0)[:4]
    share = float(np.mean(context.aside[1] == 0))
    assert logistic_accuracy(context.items, chosen(zeros), context) == pytest.approx(share)

"""Rounds on sparse rows with bounds: at every round the labels of all products."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from kofn.core import sparsebounds
from kofn.core.block import Block
from kofn.core.sparsebounds import RoundIndex, nearest_by_moves, nothing_known
from kofn.core.sparsecenters import SparseCenters, sums_of_clusters


def documents(n=3_000, words=500, topics=15, seed=0):
    """Rows of about 9 of 500 words around topics, length one; every fifth is there twice."""
    rng = np.random.default_rng(seed)
    topic = rng.exponential(size=(topics, words)) ** 4 / np.arange(1, words + 1)
    x = np.zeros((n, words), np.float32)
    for i in range(n):
        p = topic[rng.integers(topics)]
        np.add.at(x[i], rng.choice(words, 10, p=p / p.sum()), 1.0)
    x[4::5] = x[3::5]
    return csr_matrix(x / np.linalg.norm(x, axis=1, keepdims=True))


def whole_numbers(n=2_000, words=60, seed=1):
    """Rows of small whole numbers of either sign: products are exact and many are equal."""
    rng = np.random.default_rng(seed)
    return csr_matrix(np.where(rng.random((n, words)) < 0.08, rng.integers(-2, 3, (n, words)), 0).astype(np.float32))


def products(x, centers):
    """Scores of all rows with all centers in float64, added in the order of each row's columns."""
    points, scores = centers.points.astype(np.float64), np.zeros((x.shape[0], len(centers.half)))
    for i in range(x.shape[0]):
        for at in range(x.indptr[i], x.indptr[i + 1]):
            scores[i] += np.float64(x.data[at]) * points[:, x.indices[at]]
    return scores - centers.half


def rounds(x, k, unit, turns, wide=None):
    """(known, scores) of each round; centers are means of rows, scaled to length one where `unit`."""
    centers, moved, known = SparseCenters(x[:: x.shape[0] // k][:k]), None, nothing_known(x.shape[0])
    for _ in range(turns):
        squared = nearest_by_moves(Block(0, x), centers, RoundIndex.of(centers, moved), known)
        yield known, products(x, centers), squared, centers
        labels = np.ascontiguousarray(known["label"])
        totals = sums_of_clusters(x, labels, np.ones(len(labels)), k)
        counts = np.bincount(labels, minlength=k).astype(float)
        lengths = totals.lengths if unit else counts
        moved = centers.move(totals, np.where(lengths > 0, lengths, counts), counts == 0)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("x", [documents(), whole_numbers()], ids=["documents", "whole numbers"])
def test_labels_and_scores_are_those_of_all_products_bit_for_bit(x, unit):
    everyone = np.arange(x.shape[0])
    for known, scores, squared, centers in rounds(x, 37, unit, 14):
        best = scores.argmax(axis=1)  # the first of equals
        np.testing.assert_array_equal(known["label"], best)
        np.testing.assert_array_equal(known["own"], scores[everyone, best])
        scores[everyone, best] = -np.inf
        assert (known["others"] >= scores.max(axis=1)).all()
        exact = ((x.toarray().astype(float) - centers.points[best]) ** 2).sum(axis=1)
        np.testing.assert_allclose(squared, exact, rtol=1e-6, atol=1e-14)


def test_equal_centers_give_the_lowest_number_whatever_came_before():
    x = csr_matrix(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    centers, known = SparseCenters(x[[2, 1, 0]]), nothing_known(3)
    nearest_by_moves(Block(0, x), centers, RoundIndex.of(centers, None), known)
    assert known["label"].tolist() == [2, 1, 0]
    totals = sums_of_clusters(x[[0, 0, 1]], np.array([0, 2, 1], np.int32), np.ones(3), 3)  # 0 becomes a copy of 2
    moved = centers.move(totals, np.ones(3), np.zeros(3, bool))
    nearest_by_moves(Block(0, x), centers, RoundIndex.of(centers, moved), known)
    assert known["label"].tolist() == [0, 1, 0]


def test_most_rows_look_at_no_other_center_once_little_moves(monkeypatch):
    """The index is emptied after the first rounds: a row that needed it would lose its label."""
    x = documents()
    k, turns = 37, 25
    centers, moved, known = SparseCenters(x[:: x.shape[0] // k][:k]), None, nothing_known(x.shape[0])
    for turn in range(turns):
        index = RoundIndex.of(centers, moved)
        before = known.copy()
        nearest_by_moves(Block(0, x), centers, index, known)
        if turn == turns - 1:
            blind = before.copy()
            starts, ids, entries = index.lists
            monkeypatch.setattr(sparsebounds, "PIECE", 100)  # pieces decide nothing
            empty = RoundIndex((np.zeros_like(starts), ids, entries), index.halves, index.reach, index.changed)
            nearest_by_moves(Block(0, x), centers, empty, blind)
            assert (blind["others"] == known["others"]).mean() > 0.6
            again = before.copy()
            nearest_by_moves(Block(0, x), centers, index, again)
            np.testing.assert_array_equal(again, known)
        labels = np.ascontiguousarray(known["label"])
        totals = sums_of_clusters(x, labels, np.ones(len(labels)), k)
        moved = centers.move(totals, totals.lengths, np.bincount(labels, minlength=k) == 0)


def test_one_center_takes_every_row_and_has_no_rival():
    x = documents(200)
    for known, scores, _, _ in rounds(x, 1, True, 3):
        assert not known["label"].any()
        np.testing.assert_array_equal(known["own"], scores[:, 0])

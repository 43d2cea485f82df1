import numpy as np
from scipy.spatial.distance import cdist

import kofn
from kofn.blocks import Run
from kofn.page.advice import NOT_FOR
from kofn.page.coverage import measure
from kofn.page.gallery import choose, show_missing, show_picks
from kofn.page.shares import compare
from kofn.page.subject import read_subject
from kofn.registry import METHODS


def subject_of(selection, items):
    return read_subject(selection, items, {}, Run(1))


def test_every_method_says_when_not_to_use_it():
    assert set(NOT_FOR) == set(METHODS)
    assert not [name for name, words in NOT_FOR.items() if words.endswith(".") or words[0].isupper()]


def test_each_pick_is_shown_with_the_farthest_row_that_it_represents():
    x = np.random.default_rng(5).normal(size=(300, 3)).astype(np.float32)
    selection = kofn.select(x, k=12, method="kmeans")
    coverage = measure(subject_of(selection, kofn.Items(embeddings=x)))
    apart = cdist(x, x[selection.indices])
    mine = apart.argmin(axis=1)
    expected = {}
    for at, pick in enumerate(selection.indices):
        rows = np.flatnonzero(mine == at)
        rows = rows[rows != pick]
        if len(rows):
            expected[int(pick)] = int(rows[apart[rows, at].argmax()])
    assert {pick: row for pick, (row, _) in coverage.farthest().items()} == expected
    pick, (row, distance) = next(iter(coverage.farthest().items()))
    assert (
        distance == np.float32(cdist(x[[pick]], x[[row]])[0, 0])
        or abs(distance - cdist(x[[pick]], x[[row]])[0, 0]) < 1e-5
    )


def test_a_pick_that_represents_itself_alone_has_no_farthest_row():
    x = np.array([[0.0], [0.1], [9.0]], np.float32)
    selection = kofn.Selection(indices=np.array([0, 2]), weights=np.array([2.0, 1.0]))
    assert list(measure(subject_of(selection, kofn.Items(embeddings=x))).farthest()) == [0]


def test_the_heaviest_come_by_weight_and_the_first_by_rank():
    weights = np.concatenate([np.arange(1.0, 31.0), [30.0]])
    selection = kofn.Selection(indices=np.arange(31)[::-1].copy(), weights=weights)
    subject = subject_of(selection, kofn.Items(rows=500))
    gallery = choose(subject, None, equal=False)
    assert gallery.heaviest.tolist() == [29, 30, *range(28, 6, -1)]
    assert gallery.first.tolist() == list(range(24))
    assert gallery.named(subject, None).tolist()[:2] == [1, 0]


def test_few_picks_are_shown_once_and_equal_ones_by_rank():
    subject = subject_of(kofn.Selection(indices=np.arange(3), weights=np.array([1.0, 5.0, 2.0])), kofn.Items(rows=8))
    gallery = choose(subject, None, equal=False)
    assert (gallery.heaviest.tolist(), gallery.first.tolist()) == ([1, 2, 0], [])
    assert "All 3 picks, heaviest first" in show_picks(subject, gallery)
    subject = subject_of(kofn.Selection(indices=np.arange(3), weights=np.ones(3)), kofn.Items(rows=3))
    gallery = choose(subject, None, equal=True)
    assert (gallery.heaviest.tolist(), gallery.first.tolist()) == ([], [0, 1, 2])
    assert "stands for <b>1 row</b>" in show_picks(subject, gallery)


def test_values_without_a_pick_are_named_with_their_share():
    labels = np.array(["a"] * 6 + ["b"] * 3 + ["<c>"])
    selection = kofn.Selection(indices=np.array([0]), weights=np.array([10.0]))
    subject = subject_of(selection, kofn.Items(rows=10, labels=labels))
    said = show_missing([compare(subject, subject.kinds[0])])
    assert "2 of 3 values of label have no pick: b (30\u00a0% of the rows), &lt;c&gt; (10\u00a0% of the rows)." in said

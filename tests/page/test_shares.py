import numpy as np
import pytest

import kofn
from kofn.blocks import Run
from kofn.page.shares import compare, weigh
from kofn.page.subject import encode, read_subject


def test_the_effective_sample_size_is_kishs():
    found = weigh(np.array([1.0, 1.0, 4.0]))
    assert found.effective == pytest.approx(36 / 18)
    assert found.ordered.tolist() == [4, 1, 1]
    assert (found.few, found.share) == (1, pytest.approx(4 / 6))
    assert not found.equal


def test_equal_weights_are_worth_as_many_as_there_are():
    found = weigh(np.full(7, 3.5))
    assert found.effective == pytest.approx(7)
    assert found.equal


def test_shares_are_compared_by_weight_largest_gap_first():
    labels = np.array(["a", "a", "a", "a", "b", "b", "b", "c"])
    items = kofn.Items(rows=8, labels=labels)
    selection = kofn.Selection(indices=np.array([0, 4]), weights=np.array([2.0, 6.0]))
    subject = read_subject(selection, items, {}, Run())
    found = compare(subject, subject.kinds[0])
    assert found.names == ["b", "a", "c"]
    np.testing.assert_allclose(found.whole, [3 / 8, 4 / 8, 1 / 8])
    np.testing.assert_allclose(found.picks, [6 / 8, 2 / 8, 0])
    assert found.apart == pytest.approx(3 / 8)
    assert (found.missing, found.covered) == (["c"], 2)
    assert found.counts.tolist() == [1, 1, 0]


def test_a_label_that_have_holds_is_not_missing_and_not_in_the_shares():
    items = kofn.Items(rows=4, labels=np.array(["a", "a", "b", "c"]), have=[3])
    selection = kofn.Selection(indices=np.array([0]), weights=np.array([3.0]))
    subject = read_subject(selection, items, {}, Run())
    found = compare(subject, subject.kinds[0])
    assert found.missing == ["b"]
    np.testing.assert_allclose(found.whole, [2 / 3, 1 / 3, 0])


def test_values_become_codes_and_null_is_a_value():
    import pyarrow as pa

    codes, names = encode(pa.chunked_array([["x", None], ["y", "x"]]))
    assert [names[code] for code in codes] == ["x", "(none)", "y", "x"]
    codes, names = encode(np.array([3, 1, 3]))
    assert [names[code] for code in codes] == ["3", "1", "3"]
    codes, names = encode(np.array(["q", 1, ("t",)], dtype=object))
    assert [names[code] for code in codes] == ["q", "1", "('t',)"]


def test_long_texts_are_cut():
    _, names = encode(np.array(["x" * 500]))
    assert len(names[0]) == 200
    assert names[0].endswith("…")


def test_picks_are_also_counted_once_each():
    items = kofn.Items(rows=4, labels=np.array(["a", "a", "b", "b"]))
    selection = kofn.Selection(indices=np.array([0, 1, 2]), weights=np.array([1.0, 1.0, 2.0]))
    subject = read_subject(selection, items, {}, Run())
    found = compare(subject, subject.kinds[0])
    assert found.apart == 0
    assert dict(zip(found.names, found.plain)) == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert found.apart_plain == pytest.approx(2 / 3 - 1 / 2)

"""Labels counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from check.judging import chosen, judged
from kofn.check.labels import label_coverage, label_shift


def labelled(codes):
    return replace(judged(np.zeros((len(codes), 1))), labels=np.array(codes, np.int32))


def test_a_label_without_a_pick_is_missed_and_one_that_never_occurs_is_not():
    context = labelled([0, 0, 1, 3])  # there is no 2
    assert label_coverage(context.items, chosen([0, 1]), context) == pytest.approx(1 / 3)
    assert label_coverage(context.items, chosen([0, 2, 3]), context) == 1.0


def test_shares_are_compared_by_weight():
    context = labelled([0, 0, 0, 1])
    assert label_shift(context.items, chosen([0, 3]), context) == pytest.approx(0.25)
    assert label_shift(context.items, chosen([0, 3], [3, 1]), context) == pytest.approx(0.0)
    assert label_shift(context.items, chosen([3]), context) == pytest.approx(0.75)

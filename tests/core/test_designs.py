"""Drawing rows by their own numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofn import Rng
from kofn.core.block import SLAB
from kofn.core.designs import TopStream, smallest, smallest_numbers
from kofn.core.estimators import Design


def priority_sample(sizes, uniforms, k):
    """The obvious twin of TopStream: everything in memory."""
    priority = sizes / uniforms
    order = smallest(-priority, min(k + 1, len(sizes)))
    tau = priority[order[k]] if len(order) > k else 0.0
    picks = order[:k]
    inclusion = np.ones(len(picks)) if tau <= 0 else np.minimum(1.0, sizes[picks] / tau)
    return picks, inclusion


@given(keys=st.lists(st.integers(0, 5), min_size=1, max_size=40), k=st.integers(1, 50))
def test_smallest_is_the_beginning_of_a_stable_sort(keys, k):
    assert smallest(np.array(keys, float), k).tolist() == np.argsort(keys, kind="stable")[:k].tolist()


def test_infinite_keys_come_last():
    assert smallest(np.array([np.inf, 2.0, np.inf, 1.0]), 3).tolist() == [3, 1, 0]


@pytest.mark.parametrize("k", [1, 10, 5_000, SLAB, SLAB + 999, SLAB + 1_000])
def test_smallest_numbers_are_those_of_a_full_sort(k):
    n = SLAB + 1_000
    u = Rng(2).rows(0, n, "draw")
    got = smallest_numbers(n, k, lambda start, stop: u[start:stop])
    np.testing.assert_array_equal(got, np.argsort(u, kind="stable")[:k])


def test_smallest_numbers_pass_over_what_is_excluded():
    u = np.array([0.1, 0.2, 0.3, 0.4])
    excluded = np.array([True, False, True, False])
    assert smallest_numbers(4, 2, lambda start, stop: u[start:stop], excluded).tolist() == [1, 3]


def test_smallest_numbers_look_again_when_too_few_were_low():
    """Numbers that all lie near 1 undercut no first guess; the answer is right all the same."""
    u = 1 - 1e-6 * np.arange(1, 5_001)
    assert smallest_numbers(5_000, 3, lambda start, stop: u[start:stop]).tolist() == [4_999, 4_998, 4_997]


def test_a_priority_sample_by_hand():
    """Priorities 10, 4, 9, 8: the two largest are rows 0 and 2, tau = 8, inclusion 1/8 -> min(1, 2/8) and 9 -> min(1, 9/8)."""
    sizes, uniforms = np.array([2.0, 2.0, 9.0, 4.0]), np.array([0.2, 0.5, 1.0, 0.5])
    picks, inclusion = priority_sample(sizes, uniforms, 2)
    assert picks.tolist() == [0, 2]
    assert inclusion.tolist() == [0.25, 1.0]


def test_a_priority_sample_of_everything_is_certain():
    picks, inclusion = priority_sample(np.array([1.0, 5.0]), np.array([0.5, 0.5]), 2)
    assert sorted(picks.tolist()) == [0, 1]
    assert inclusion.tolist() == [1, 1]


def test_priority_estimates_are_unbiased_and_their_variance_is_honest():
    """20,000 draws of 5 from 30: the mean within 5.3 of its standard errors, the mean variance within 10 % of the spread."""
    rng = np.random.default_rng(0)
    sizes, values = rng.gamma(2.0, size=30), rng.normal(3.0, 1.0, 30)
    totals, variances = [], []
    for _ in range(20_000):
        picks, inclusion = priority_sample(sizes, rng.random(30), 5)
        totals.append((values[picks] / inclusion).sum())
        variances.append(Design(inclusion, "priority", None, 30).spread(values[picks])[0])
    spread = np.std(totals)
    assert abs(np.mean(totals) - values.sum()) < 5.3 * spread / 20_000**0.5
    assert np.mean(variances) == pytest.approx(spread**2, rel=0.1)


def test_a_stream_keeps_what_a_sample_of_the_whole_would():
    rng = np.random.default_rng(4)
    sizes, uniforms = rng.gamma(1.0, size=1_000), rng.random(1_000)
    for k in (1, 37, 1_000):
        stream = TopStream(k + 1)
        for start in range(0, 1_000, 130):
            part = slice(start, min(start + 130, 1_000))
            stream.add(sizes[part] / uniforms[part], sizes[part], np.arange(1_000)[part])
        for got, expected in zip(stream.sample(k), priority_sample(sizes, uniforms, k), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_stream_gives_ties_to_the_lowest_row():
    stream = TopStream(3)
    for rows in ([0, 1, 2], [3, 4]):
        stream.add(np.ones(len(rows)), np.ones(len(rows)), np.array(rows))
    assert stream.sample(2)[0].tolist() == [0, 1]

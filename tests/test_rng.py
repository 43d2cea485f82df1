"""Numbers that belong to rows."""

import numpy as np
import pytest

from kofn import KofnError, Rng


def test_golden_values_never_change():
    expected = Rng(7).rows(0, 4, "draw")
    assert expected.tolist() == GOLDEN
    assert Rng(7).child("round 2").rows(9, 10, "draw").tolist() == GOLDEN_CHILD


def test_a_row_has_the_same_number_whichever_block_it_came_in():
    rng = Rng(3)
    whole = rng.rows(0, 10_000, "draw")
    for start, stop in ((0, 1), (1, 2), (5, 4097), (4095, 4099), (9_999, 10_000), (7, 7)):
        np.testing.assert_array_equal(rng.rows(start, stop, "draw"), whole[start:stop])


def test_purposes_seeds_and_children_are_independent():
    streams = [
        rng.rows(0, 50_000, purpose) for rng in (Rng(0), Rng(1), Rng(0).child("a")) for purpose in ("draw", "init")
    ]
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 6 / np.sqrt(50_000)


def test_numbers_are_uniform_and_never_0_or_1():
    u = Rng(0).rows(0, 1_000_000, "draw")
    counts = np.bincount((u * 100).astype(int), minlength=100)
    assert u.min() > 0
    assert u.max() < 1
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 180  # chi-square, 99 degrees: chance 1e-6


def test_a_generator_starts_anew_each_time():
    rng = Rng(0)
    assert rng.generator("a").random() == rng.generator("a").random()
    assert rng.generator("a").random() != rng.generator("b").random()


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0", None])
def test_a_wrong_seed_is_an_error(seed):
    with pytest.raises(KofnError, match="seed"):
        Rng(seed)


GOLDEN = [0.10888439957433549, 0.3782013629265907, 0.20019153224766695, 0.29168900251585284]
GOLDEN_CHILD = [0.13626669467531916]

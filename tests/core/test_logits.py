"""Scans of logits against double precision."""

import numpy as np
import pytest

from kofn.core import logits
from kofn.core.block import Floats

SIZES = [1, 2, 63, 64, 65, 1023, 1024, 1025, 5000, 262_144]


def row(size: int, scale: float = 3.0) -> Floats:
    return (np.random.default_rng(size).normal(size=size) * scale).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 40.0])
def test_sums_and_entropy_equal_double_precision(size: int, scale: float) -> None:
    x = row(size, scale)
    rel = 1e-6 if scale < 40 else 1e-5  # an exponential's error grows with what is below the top
    top = logits.top_of(x)
    below = x.astype(np.float64) - top
    e = np.exp(below)
    entropy = np.log1p(e.sum() - 1) if scale == 0 else np.log(e.sum())
    entropy -= (e * below).sum() / e.sum()
    assert logits.total(x, top) == pytest.approx(e.sum(), rel=1e-6)
    z, moment = logits.total_and_moment(x, top)
    assert (z, moment) == pytest.approx((e.sum(), (e * below).sum()), rel=rel, abs=1e-30)
    assert logits.entropy(x, top) == pytest.approx(entropy, rel=2 * rel, abs=1e-15)
    assert logits.block_sums(x, top).sum() == pytest.approx(e.sum(), rel=1e-6)
    assert logits.log_normalizers(x[None]) == pytest.approx([top + np.log(e.sum())], abs=1e-6)
    assert logits.spread(x, top) == pytest.approx(x.astype(np.float64).std(), rel=1e-4, abs=1e-6)


def test_the_entropy_of_a_nearly_one_hot_row_is_not_lost_beside_1() -> None:
    x = np.zeros(3000, np.float32)
    x[1500] = 40
    p = np.exp(-40.0)
    expected = np.log1p(2999 * p) + 40 * 2999 * p / (1 + 2999 * p)
    assert logits.entropy(x, 40.0) == pytest.approx(expected, rel=1e-6)


def test_impossible_tokens_have_no_mass_and_no_part_in_the_spread() -> None:
    x = row(5000)
    x[::3] = -np.inf
    left = x[x > -np.inf].astype(np.float64)
    top = logits.top_of(x)
    assert logits.total(x, top) == pytest.approx(np.exp(left - top).sum(), rel=1e-6)
    assert logits.entropy(x, top) == pytest.approx(logits.entropy(x[x > -np.inf], top), rel=1e-6)
    assert logits.spread(x, top) == pytest.approx(left.std(), rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_tokens_above_and_near_are_those_that_numpy_finds(size: int) -> None:
    x = row(size)
    for cut in (float(x.min()), 0.0, float(x.max()), float(x.max()) + 1):
        found = np.flatnonzero(x >= np.float32(cut))
        assert logits.tokens_above(x, cut).tolist() == found.tolist()
        assert logits.count_above(x, cut) == len(found)
        near = np.flatnonzero(np.abs(x - np.float32(cut)) <= np.float32(0.5))
        assert logits.tokens_near(x, cut, 0.5).tolist() == near.tolist()

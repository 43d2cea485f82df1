"""Products of finite numbers."""

from __future__ import annotations

import numpy as np
import pytest

from kofn.core.products import finite_product


def test_a_product_goes_where_it_is_told_and_is_numpys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    out = np.empty((5, 4), np.float32)
    assert finite_product(a, b, out=out) is out
    np.testing.assert_array_equal(out, a @ b)


def test_an_overflow_is_still_told() -> None:
    large = np.full((2, 2), 1e30, np.float32)
    with pytest.warns(RuntimeWarning, match="overflow"):
        finite_product(large, large)


def test_an_invalid_value_is_not() -> None:
    with np.errstate(all="raise"):
        assert np.isnan(finite_product(np.array([[np.inf, -np.inf]]), np.ones((2, 1)))).all()

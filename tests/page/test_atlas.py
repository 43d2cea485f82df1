import numpy as np
import pytest

import kofn
from kofn.blocks import Run
from kofn.page.atlas import between, draw_map, lay_out
from kofn.page.coverage import measure
from kofn.page.subject import read_subject


def test_a_row_lies_between_its_nearest_three_by_inverse_distance():
    centers = np.array([[0.0], [4.0], [12.0], [100.0]], np.float32)
    places = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    (x, y), at = between(np.array([[2.0], [4.0]], np.float32), centers, places)
    pull = np.array([1 / 2, 1 / 2, 1 / 10])
    assert (x, y) == pytest.approx((pull[1] / pull.sum(), pull[2] / pull.sum()), abs=1e-4)
    np.testing.assert_allclose(at, [1, 0], atol=1e-4)


def test_clouds_that_are_apart_stay_apart():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 40)
    x = (rng.normal(size=(120, 10)) + 20 * np.eye(10)[kind]).astype(np.float32)
    subject = read_subject(kofn.select(x, k=9, method="uniform"), x, {}, Run(1))
    whole = draw_map(subject, measure(subject)).whole
    apart = ((whole.place[:, None] - whole.place[None]) ** 2).sum(axis=2) + np.diag(np.full(len(whole.rows), np.inf))
    assert (kind[whole.rows[apart.argmin(axis=1)]] == kind[whole.rows]).mean() > 0.99


@pytest.mark.parametrize("x", [np.zeros((1, 3)), np.zeros((20, 3)), np.arange(20.0)[:, None], np.eye(5)], ids=str)
def test_degenerate_centers_get_finite_places(x):
    places = lay_out(x.astype(np.float32))
    assert places.shape == (len(x), 2)
    assert np.isfinite(places).all()

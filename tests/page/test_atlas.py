import numpy as np
import pyarrow as pa
import pytest

import kofn
from kofn.blocks import Run
from kofn.errors import KofnError
from kofn.page import atlas
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


def drawn(x, layout, k=5, **columns):
    data = x if not columns else pa.table({**columns, "emb": list(x)})
    subject = read_subject(kofn.select(data, k=k, method="uniform"), data, {}, Run(1))
    return draw_map(subject, measure(subject), layout)


def test_components_are_the_directions_in_which_rows_differ_most():
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(300, 4)) * [1, 9, 2, 4] + 50).astype(np.float32)
    found = drawn(x, "pca")
    _, s, v = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    expected = (x - x.mean(axis=0))[found.whole.rows] @ v[:2].T
    for axis in (0, 1):
        sign = np.sign(expected[0, axis] * found.whole.place[0, axis])
        np.testing.assert_allclose(found.whole.place[:, axis], sign * expected[:, axis], atol=1e-3)
    share = round(100 * s[0] ** 2 / (s**2).sum())
    assert found.axes[0] == f"first principal component ({share} % of the variance)"


def test_one_dimension_has_one_component():
    found = drawn(np.arange(30, dtype=np.float32)[:, None], "pca")
    assert np.ptp(found.whole.place[:, 0]) > 20
    assert (found.whole.place[:, 1] == 0).all()


def test_two_columns_place_the_rows_and_those_without_a_number_are_not_drawn():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    up = pa.array([None if at == 7 else 2 * at for at in range(40)])
    found = drawn(x, "across, up", across=np.arange(40) / 4, up=up)
    rows = np.concatenate([found.whole.rows, found.picks.rows])
    places = np.concatenate([found.whole.place, found.picks.place])
    assert sorted(rows.tolist()) == [at for at in range(40) if at != 7]
    np.testing.assert_array_equal(places, np.column_stack([rows / 4, 2 * rows]))
    assert found.axes == ("across", "up")


def test_places_can_be_given():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    places = np.random.default_rng(1).normal(size=(20, 2))
    found = drawn(x, places)
    np.testing.assert_array_equal(found.picks.place, places[found.picks.rows])
    with pytest.raises(KofnError, match=r"layout has shape \(3, 2\); give \(20, 2\)"):
        drawn(x, places[:3])


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("umap", "layout 'umap' is unknown; use tsne, pca, or two columns"),
        ("a,b,c", "layout 'a,b,c' is unknown"),
        ("across,town", "layout: column 'town' holds string, not numbers"),
    ],
)
def test_a_layout_that_cannot_be_drawn_is_named(layout, words):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    with pytest.raises(KofnError, match=words):
        drawn(x, layout, across=np.arange(20), town=["a"] * 20)


def test_rows_without_vectors_can_be_placed_by_columns_and_by_nothing_else():
    data = pa.table({"wage": np.arange(50.0), "age": np.arange(50)[::-1].copy()})
    subject = read_subject(kofn.select(data, k=5, method="top", score="wage"), data, {}, Run(1))
    found = draw_map(subject, None, "wage,age")
    assert found.picks.place.tolist() == [[row, 49 - row] for row in found.picks.rows]
    assert len(found.whole.rows) == 45
    with pytest.raises(KofnError, match="layout 'pca' needs embeddings"):
        draw_map(subject, None, "pca")


def test_landmarks_find_every_cloud_and_are_the_same_twice():
    rng = np.random.default_rng(3)
    middles = 100 * rng.normal(size=(20, 6))
    x = (middles[np.arange(4000) % 20] + rng.normal(size=(4000, 6))).astype(np.float32)
    found = atlas._landmarks(x)
    assert found.tobytes() == atlas._landmarks(x).tobytes()
    assert 20 <= len(found) <= atlas.LANDMARKS
    nearest = np.sqrt(((middles[:, None] - found[None]) ** 2).sum(axis=2)).min(axis=1)
    assert nearest.max() < 5  # a center in every cloud: their radius is 2.4, the nearest other cloud 100 away

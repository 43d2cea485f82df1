import numpy as np
import pytest
from scipy.spatial.distance import cdist

import kofn
from kofn.blocks import Run
from kofn.page import coverage as module
from kofn.page.coverage import Coverage, Ladder, curve, measure
from kofn.page.subject import read_subject


def measured(selection, data, **given):
    return measure(read_subject(selection, data, given, Run(1)))


def made(distance, random, sizes=(2, 4, 8), at=1, weights=None):
    distance, random = np.asarray(distance, float), np.asarray(random, float)
    m, none = len(distance), (np.zeros(0, np.int64), np.zeros((0, 1), np.float32))
    means = np.broadcast_to(random.mean(axis=1)[:, None], (len(random), len(sizes))).copy()
    return Coverage(
        rows=np.arange(m), x=np.zeros((m, 1), np.float32), distance=distance, nearest=np.zeros(m, np.int64),
        weights=np.ones(m) if weights is None else np.asarray(weights, float), seeds=(1, 2), random=random,
        ladder=Ladder(np.array(sizes), means, at), picks=none, held=none, twins=0,
    )  # fmt: skip


def with_ladder(mean, means):
    found = made([mean], [[means[1]]])
    object.__setattr__(found, "ladder", Ladder(np.array([10, 20, 40]), np.array([means]), 1))
    return found


def test_as_good_as_is_read_off_between_two_sizes():
    assert with_ladder(3.0, [8.0, 4.0, 2.0]).as_good_as() == pytest.approx(20 * 2**0.5)
    assert with_ladder(4.0, [8.0, 4.0, 2.0]).as_good_as() == 20
    assert with_ladder(2.0, [8.0, 4.0, 2.0]).as_good_as() == pytest.approx(40)


def test_as_good_as_ends_where_the_ladder_ends():
    assert with_ladder(1.9, [8.0, 4.0, 2.0]).as_good_as() == float("inf")
    assert with_ladder(8.1, [8.0, 4.0, 2.0]).as_good_as() is None


def test_where_every_choice_covers_all_nothing_is_gained():
    assert with_ladder(0.0, [0.0, 0.0, 0.0]).as_good_as() == 20


def test_the_curve_counts_weights_within_r():
    shares = curve(made([1.0, 2.0, 3.0], [[2.0, 2.0, 3.0], [1.0, 3.0, 3.0]], weights=[1, 1, 2]), points=5)
    np.testing.assert_allclose(shares["r"], [1.0, 1.5, 2.0, 2.5, 3.0])
    np.testing.assert_allclose(shares["picks"], [0.25, 0.25, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(shares["low"], [0.0, 0.0, 0.25, 0.25, 1.0])
    np.testing.assert_allclose(shares["high"], [0.25, 0.25, 0.5, 0.5, 1.0])


def test_the_least_covered_come_farthest_first_and_ties_by_row_number():
    found = made([1.0, 5.0, 2.0, 5.0], [[1.0] * 4])
    object.__setattr__(found, "rows", np.array([4, 9, 1, 3]))
    assert found.worst(3).tolist() == [3, 1, 2]


def test_distances_do_not_depend_on_how_many_vectors_are_held(monkeypatch):
    x = np.random.default_rng(1).normal(size=(500, 6)).astype(np.float32)
    selection = kofn.select(x, k=40, method="kmeans")
    whole = measured(selection, x)
    monkeypatch.setattr(module, "HELD", 6 * 4 * 7)  # seven vectors
    monkeypatch.setattr(module, "_rows_to_measure", lambda subject, points: 500)
    parts = measured(selection, x)
    assert whole.distance.tobytes() == parts.distance.tobytes()
    assert whole.nearest.tobytes() == parts.nearest.tobytes()
    assert whole.random.tobytes() == parts.random.tobytes()


def test_cosine_measures_between_rows_of_length_one():
    x = np.random.default_rng(2).normal(size=(200, 4)).astype(np.float32)
    selection = kofn.select(x, k=9, method="kmeans", metric="cosine")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert measured(selection, x).mean == pytest.approx(
        cdist(unit, unit[selection.indices]).min(axis=1).mean(), rel=1e-5
    )


def test_sparse_rows_are_measured_like_dense_ones():
    from scipy.sparse import random_array

    x = random_array((300, 40), density=0.2, rng=np.random.default_rng(0), format="csr").astype(np.float32)
    selection = kofn.select(x, k=12, method="kmeans")
    dense = x.toarray()
    assert measured(selection, x).mean == pytest.approx(
        cdist(dense, dense[selection.indices]).min(axis=1).mean(), rel=1e-5
    )


def test_rows_that_stand_for_many_count_as_many():
    x = np.array([[0.0], [1.0], [5.0]], np.float32)
    weights = np.array([1.0, 6.0, 3.0])
    items = kofn.Items(embeddings=x, weights=weights)
    selection = kofn.Selection(indices=np.array([0]), weights=np.array([10.0]))
    assert measured(selection, items).mean == pytest.approx((6 * 1 + 3 * 5) / 10)


def test_duplicates_among_the_picks_are_counted():
    x = np.array([[0.0, 1.0], [2.0, 2.0], [-0.0, 1.0], [0.0, 1.0]], np.float32)
    selection = kofn.Selection(indices=np.arange(4), weights=np.ones(4))
    assert measured(selection, kofn.Items(embeddings=x)).twins == 2


def test_the_random_choices_leave_out_the_selections_own_seed():
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    assert measured(kofn.select(x, k=5, method="uniform", seed=0), x).seeds == (1, 2, 3, 4, 5)
    assert measured(kofn.select(x, k=5, method="uniform", seed=9), x).seeds == (0, 1, 2, 3, 4)


def test_the_ladder_climbs_until_it_covers_as_well_as_the_picks():
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(0, 0.01, (690, 3)), rng.normal(0, 30, (10, 3))]).astype(np.float32)
    found = measured(kofn.select(x, k=12, method="kmeans"), x)
    assert found.ladder.sizes[found.ladder.at] == 12
    assert found.ladder.mean[-1] <= found.mean < found.ladder.mean[-2]


def test_the_first_picks_of_a_prefix_method_are_measured_as_a_smaller_k_would_be():
    x = np.random.default_rng(8).normal(size=(400, 4)).astype(np.float32)
    found = measured(kofn.select(x, k=40, method="kcenter"), x)
    sizes, means = found.own
    assert sizes.tolist() == [5, 10, 20, 40]
    for size, mean in zip(sizes, means, strict=True):
        picks = kofn.select(x, k=int(size), method="kcenter").indices
        assert mean == pytest.approx(cdist(x, x[picks]).min(axis=1).mean(), rel=1e-5)
    assert found.mean == pytest.approx(means[-1])


def test_a_method_that_chooses_all_at_once_has_no_curve_of_its_own():
    x = np.random.default_rng(8).normal(size=(200, 4)).astype(np.float32)
    assert measured(kofn.select(x, k=20, method="kmeans"), x).own is None
    assert (
        measured(kofn.select(x, k=20, method="uniform", group=np.arange(200) % 2), x, group=np.arange(200) % 2).own
        is None
    )


def test_rows_that_repeat_an_earlier_one_are_counted():
    x = np.array([[0.0], [1.0], [0.0], [0.0], [1.0], [2.0]], np.float32)
    selection = kofn.Selection(indices=np.array([5]), weights=np.array([6.0]))
    assert measured(selection, kofn.Items(embeddings=x)).copies == 3

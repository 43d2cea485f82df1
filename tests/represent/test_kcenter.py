"""Farthest-first rows, against the plain loop, all subsets, and cases worked by hand."""

from itertools import combinations

import numpy as np
import pytest

import kofn
from kofn import Items, KofnError, Rng
from kofn.blocks import Run
from kofn.errors import InvalidRows
from kofn.represent import KCenter


def plain_loop(x, k, *, weights=None, have=(), outliers=0.0):
    """Gonzalez's traversal as the textbook has it, one pass over all rows for each pick."""
    x = np.asarray(x, np.float64)
    w = np.ones(len(x)) if weights is None else weights
    centers, gaps = list(have), np.full(len(x), np.inf)
    if not centers:
        centers = [int(((x - w @ x / w.sum()) ** 2).sum(axis=1).argmin())]
    for center in centers:
        gaps = np.minimum(gaps, ((x - x[center]) ** 2).sum(axis=1))
    while len(centers) < k + len(have):
        order = np.argsort(-gaps, kind="stable")
        beyond = np.flatnonzero(np.cumsum(w[order]) > outliers * w.sum() * (1 + 1e-9))
        gap = gaps[order[beyond[0]]]
        left = np.setdiff1d(np.arange(len(x)), centers)
        pick = int(np.flatnonzero(gaps == gap)[0]) if gap > 0 else int(left[0])
        centers.append(pick)
        gaps = np.minimum(gaps, ((x - x[pick]) ** 2).sum(axis=1))
    return centers[len(have) :]


def voronoi_counts(x, picks, have=(), weights=None):
    """Row weights by nearest center, ties to the first of picks then `have`, each center counted to itself."""
    x = np.asarray(x, np.float64)
    centers = [*picks, *have]
    nearest = ((x[:, None] - x[None, centers]) ** 2).sum(axis=2).argmin(axis=1)
    nearest[centers] = np.arange(len(centers))
    w = np.ones(len(x)) if weights is None else weights
    return np.bincount(nearest, w, minlength=len(centers))[: len(picks)]


def mixture(n, d, clusters, spread, seed):
    rng = np.random.default_rng(seed)
    means = spread * rng.normal(size=(clusters, d))
    return (means[rng.integers(0, clusters, n)] + rng.normal(size=(n, d))).astype(np.float32)


def choose(x, k, *, threads=2, weights=None, have=None, **params):
    items = Items(embeddings=x, weights=weights, have=have, run=Run(threads))
    return KCenter(**params).select(items, k, Rng(0))


ROWS = {
    "one cluster, wide rows": lambda: mixture(1_300, 40, 1, 0, 0),
    "clusters far apart": lambda: mixture(2_000, 17, 40, 12, 1),
    "more clusters than picks": lambda: mixture(2_000, 8, 400, 30, 2),
    "overlapping clusters": lambda: mixture(2_000, 3, 20, 1, 3),
    "uniform in the plane": lambda: np.random.default_rng(4).random((4_097, 2), np.float32),
    "on a line": lambda: np.random.default_rng(5).random((800, 1), np.float32),
    "ties everywhere": lambda: np.random.default_rng(6).integers(0, 5, (2_000, 4)).astype(np.float32),
}


@pytest.mark.parametrize("outliers", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("name", ROWS)
def test_picks_and_weights_are_those_of_the_plain_loop(name, outliers):
    x = ROWS[name]()
    weights = np.random.default_rng(7).random(len(x)) + 0.1
    selection = choose(x, 110, outliers=outliers)
    assert selection.indices.tolist() == plain_loop(x, 110, outliers=outliers)
    np.testing.assert_array_equal(selection.weights, voronoi_counts(x, selection.indices))
    weighted = choose(x, 60, outliers=outliers, weights=weights)
    assert weighted.indices.tolist() == plain_loop(x, 60, weights=weights, outliers=outliers)
    np.testing.assert_allclose(
        weighted.weights, voronoi_counts(x, weighted.indices, weights=weights), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("outliers", [0.0, 0.05])
@pytest.mark.parametrize("name", ["clusters far apart", "ties everywhere"])
def test_rows_of_have_are_centers_from_the_start(name, outliers):
    x, have = ROWS[name](), [3, 70, 71, 1_900]
    selection = choose(x, 90, have=have, outliers=outliers)
    assert selection.indices.tolist() == plain_loop(x, 90, have=have, outliers=outliers)
    np.testing.assert_array_equal(selection.weights, voronoi_counts(x, selection.indices, have))


def test_the_first_pick_beside_have_is_the_row_farthest_from_it():
    x = np.array([[0.0], [4.0], [10.0], [-9.0]])
    assert choose(x, 1, have=[0]).indices.tolist() == [2]
    assert choose(x, 2, have=[0, 2]).indices.tolist() == [3, 1]


def test_a_case_worked_by_hand():
    # Row 3 is the mean. Row 5 is 7 away from it; then row 0 is 4 away, then row 4 is 2 away from row 3, the rest 1.
    x = np.array([[0.0], [1.0], [3.0], [4.0], [6.0], [11.0], [3.0]])
    selection = choose(x, 4)
    assert selection.indices.tolist() == [3, 5, 0, 4]
    assert selection.weights.tolist() == [3.0, 1.0, 2.0, 1.0]
    assert selection.provenance["objective"] == {"name": "radius", "value": 1.0}


def test_of_rows_equally_far_the_lowest_is_picked():
    x = np.array([[5.0, 0], [0, 5], [0, 0], [0, -5], [-5, 0]])
    assert choose(x, 5).indices.tolist() == [2, 0, 1, 3, 4]


def optimal_radius(x, k, have=()):
    distance = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    free = [row for row in range(len(x)) if row not in have]
    return min(distance[:, [*subset, *have]].min(axis=1).max() for subset in combinations(free, k))


@pytest.mark.parametrize("have", [(), (0, 5)])
def test_the_radius_is_at_most_twice_the_smallest_of_all_subsets(have):
    worst = 0.0
    for seed in range(40):
        x = np.random.default_rng(seed).normal(size=(12, 1 + seed % 3)) ** 3
        selection = choose(x, 3, have=list(have) or None)
        ratio = selection.provenance["objective"]["value"] / optimal_radius(x, 3, have)
        worst = max(worst, ratio)
        assert 1 - 1e-6 <= ratio <= 2 + 1e-6
    assert worst > 1.2  # the bound is near enough to be a test


def test_strays_take_no_pick_when_they_are_set_aside():
    x = np.concatenate([mixture(490, 5, 6, 20, 8), 1e3 * (1 + np.arange(10)[:, None]) * np.eye(1, 5)]).astype(
        np.float32
    )
    strays = set(range(490, 500))
    assert len(strays & set(choose(x, 12).indices.tolist())) >= 9
    selection = choose(x, 12, outliers=0.02)
    assert not strays & set(selection.indices.tolist())
    covered = selection.provenance["covered"]
    assert covered["outliers"] == 0.02
    assert covered["radius"] < 10 < 1e3 < selection.provenance["objective"]["value"]
    gaps = np.sqrt(((x[:, None] - x[None, selection.indices]) ** 2).sum(axis=2).min(axis=1))
    assert covered["radius"] == pytest.approx(np.sort(gaps)[-11], rel=1e-6)
    assert selection.provenance["objective"]["value"] == pytest.approx(gaps.max(), rel=1e-6)


def test_a_stray_that_weighs_more_than_the_share_must_be_covered():
    x = np.concatenate([np.linspace(0, 1, 98), [50.0, 90.0]])[:, None]
    light = np.ones(100)
    heavy = np.where(np.arange(100) == 98, 3.0, 1.0)
    assert not {98, 99} & set(choose(x, 3, outliers=0.02, weights=light).indices.tolist())
    picks = choose(x, 3, outliers=0.02, weights=heavy).indices.tolist()
    assert 98 in picks
    assert 99 not in picks


def test_a_share_that_rounding_makes_smaller_sets_aside_as_many_rows():
    # 0.29 * 100 is 28.999999999999996: 29 rows may stay uncovered all the same.
    x = np.concatenate([np.zeros(50), np.linspace(1, 2, 21), np.full(29, 1000.0)])[:, None]
    assert choose(x, 3, outliers=0.29).provenance["covered"]["radius"] < 2


def test_picks_for_a_smaller_k_begin_those_for_a_larger_one():
    x = mixture(3_000, 6, 30, 4, 9)
    for outliers in (0.0, 0.1):
        longest = choose(x, 400, outliers=outliers).indices
        for k in (1, 2, 57, 399):
            np.testing.assert_array_equal(choose(x, k, outliers=outliers).indices, longest[:k])


def test_a_duplicate_of_a_pick_is_picked_last_and_stands_for_itself():
    x = np.repeat(np.array([[0.0, 0], [5, 0], [0, 7], [20, 20]]), 3, axis=0)
    selection = choose(x, 6)
    assert set(selection.indices[:4] // 3) == {0, 1, 2, 3}
    left = [row for row in range(12) if row not in selection.indices[:4]]
    assert selection.indices[4:].tolist() == left[:2]
    assert selection.weights[4:].tolist() == [1.0, 1.0]
    assert selection.weights.sum() == 12
    assert "2 of 6 picks add nothing" in selection.provenance["notes"][0]


def test_equal_rows_are_filled_by_row_number():
    selection = choose(np.full((7, 3), 2.5), 4)
    assert selection.indices.tolist() == [0, 1, 2, 3]
    assert selection.weights.tolist() == [4.0, 1.0, 1.0, 1.0]
    assert selection.provenance["objective"]["value"] == 0.0


def test_asking_for_every_row_gives_every_row_with_its_own_weight():
    x = mixture(300, 4, 3, 5, 10)
    weights = np.random.default_rng(0).random(300) + 1
    for outliers in (0.0, 0.2):
        selection = choose(x, 300, weights=weights, outliers=outliers)
        assert sorted(selection.indices.tolist()) == list(range(300))
        np.testing.assert_array_equal(selection.weights, weights[selection.indices])
    beside = choose(x, 290, have=np.arange(10))
    assert sorted(beside.indices.tolist()) == list(range(10, 300))


def test_an_offset_of_ten_thousand_changes_no_pick():
    x = np.random.default_rng(11).integers(-30, 30, (3_000, 24)).astype(np.float32)  # exact in float32 with the offset
    np.testing.assert_array_equal(choose(x + 1e4, 120).indices, choose(x, 120).indices)
    y = mixture(1_500, 64, 30, 5, 12) + np.float32(1e4)
    assert choose(y, 90).indices.tolist() == plain_loop(y, 90)


def test_cosine_is_euclidean_among_rows_of_length_one():
    x = mixture(2_000, 10, 5, 1, 13) * np.random.default_rng(0).uniform(0.1, 9, (2_000, 1)).astype(np.float32)
    unit = (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)
    cosine = choose(x, 70, metric="cosine")
    assert cosine.indices.tolist() == plain_loop(unit, 70)
    assert cosine.provenance["objective"]["value"] < 2
    np.testing.assert_array_equal(choose(7 * x, 70, metric="cosine").indices[:1], cosine.indices[:1])


def test_a_row_without_direction_or_number_is_an_error():
    x = mixture(50, 3, 1, 0, 14)
    x[17] = 0
    assert len(choose(x, 5)) == 5
    with pytest.raises(InvalidRows):
        choose(x, 5, metric="cosine")
    with pytest.raises(KofnError, match=r"1 of 50 rows.* row 17"):
        kofn.select(x, 5, method="kcenter", metric="cosine")
    x[17, 1] = np.nan
    with pytest.raises(InvalidRows):
        choose(x, 5)


@pytest.mark.parametrize("d", [2, 33])
def test_threads_change_no_byte(d):
    x = mixture(70_001, d, 300, 6, 15)
    alone, together = (choose(x, 150, threads=threads, outliers=0.001) for threads in (1, 4))
    assert alone.indices.tobytes() == together.indices.tobytes()
    assert alone.weights.tobytes() == together.weights.tobytes()
    assert alone.provenance == together.provenance
    assert alone.weights.sum() == 70_001


def test_types_and_layouts_of_the_same_numbers_change_no_pick():
    x = np.random.default_rng(16).integers(-100, 100, (900, 5)).astype(np.int8)
    expected = choose(x, 40).indices
    for form in (x.astype(np.float16), x.astype(np.float64), np.asfortranarray(x.astype(np.float32)), x.astype(">f4")):
        np.testing.assert_array_equal(choose(form, 40).indices, expected)


def test_the_bound_holds_for_its_own_picks_and_not_for_others():
    x = mixture(1_500, 6, 12, 9, 17)
    for have in (None, [5, 6, 7]):
        items = Items(embeddings=x, have=have)
        selection = KCenter().select(items, 30, Rng(0))
        _, value, limit = KCenter().bound(items, selection)
        assert value == pytest.approx(selection.provenance["objective"]["value"], rel=1e-6)
        assert value <= limit * (1 + 1e-6)
        poor = kofn.Selection(indices=np.arange(10, 40), weights=np.ones(30))
        _, value, limit = KCenter().bound(items, poor)
        assert value > limit
    assert KCenter(outliers=0.1).bound(items, selection) is None


def test_its_radius_beats_uniform_rows():
    x = mixture(1_000, 16, 40, 3, 18)
    rng = np.random.default_rng(0)
    radius = choose(x, 40).provenance["objective"]["value"]
    for _ in range(20):  # were they no worse, all twenty would lose with a chance of 1e-6
        rows = x[rng.choice(1_000, 40, replace=False)]
        gaps = ((x[:, None] - rows[None]) ** 2).sum(axis=2).min(axis=1)
        assert np.sqrt(gaps.max()) > radius


@pytest.mark.parametrize("params", [{"outliers": -0.1}, {"outliers": 0.6}, {"outliers": "1%"}, {"metric": "manhattan"}])
def test_a_parameter_out_of_range_is_an_error(params):
    with pytest.raises(KofnError, match=next(iter(params))):
        KCenter(**params)

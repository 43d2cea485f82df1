"""Merge and reduce."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import kofn
from kofn.represent.coreset_check import evaluate_coreset, query_centers
from kofn.represent.coreset_merge import CoresetStream, merge_coresets, stream_coreset


def islands(n=12_000, seed=0):
    """Eight islands of unequal sizes in five dimensions, one after the other: a stream in the worst order."""
    rng = np.random.default_rng(seed)
    label = islands_of(range(n))
    return (rng.normal(size=(8, 5)) * 30)[label] + rng.normal(size=(n, 5))


def islands_of(x):
    """Which island each row of `islands` lies on."""
    return np.repeat(np.arange(8), np.array([40, 20, 15, 10, 8, 4, 2, 1]) * len(x) // 100)


def worst(x, coreset, clusters, **how):
    sets = query_centers(x, *coreset, clusters, count=60, **how)
    return abs(evaluate_coreset(x, *coreset, sets, cost=how.get("cost", "k-means")) - 1).max()


def test_the_points_are_rows_of_the_parts_and_weigh_as_much():
    x = islands()
    parts = [(x[:5000], None), (x[5000:7000], np.full(2000, 3.0)), (x[7000:], None)]
    points, weights = merge_coresets(parts, 200, clusters=8)
    assert points.shape == (200, 5)
    assert points.dtype == np.float32
    rows = {row.tobytes() for row in x.astype(np.float32)}
    assert all(point.tobytes() in rows for point in points)
    np.testing.assert_allclose(weights.sum(), len(x) + 2 * 2000)


def test_parts_that_are_small_enough_are_returned_as_they_are():
    parts = [(np.eye(3), None), (2 * np.eye(3), [4.0, 5.0, 6.0])]
    points, weights = merge_coresets(parts, 6, clusters=2)
    np.testing.assert_array_equal(points, np.concatenate([np.eye(3), 2 * np.eye(3)]))
    np.testing.assert_array_equal(weights, [1, 1, 1, 4, 5, 6])


@pytest.mark.parametrize("cost", ["k-means", "k-median"])
def test_a_coreset_of_coresets_is_within_twice_the_error_of_one(cost):
    """(1 + epsilon)^2 at worst for one merge: 0.15 each, 0.3225 together; the parts' errors are measured, not assumed."""
    x = islands()
    halves = [x[::2], x[1::2]]
    parts = [merge_coresets([(half, None)], 400, clusters=8, cost=cost, seed=1) for half in halves]
    first = max(worst(half, part, 8, cost=cost) for half, part in zip(halves, parts, strict=True))
    merged = merge_coresets(parts, 400, clusters=8, cost=cost, seed=2)
    united = tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    sets = query_centers(x, *merged, 8, count=60, cost=cost)
    second = abs(evaluate_coreset(united[0], *merged, sets, cost=cost, row_weights=united[1]) - 1).max()
    assert max(first, second) < 0.15
    assert worst(x, merged, 8, cost=cost) <= (1 + max(first, second)) ** 2 - 1 + 1e-6


def test_exact_masses_keep_the_weight_of_every_island_and_estimated_ones_do_not():
    x = 10 * islands()
    label = islands_of(x)
    middles, sizes = np.array([x[label == island].mean(axis=0) for island in range(8)]), np.bincount(label)
    off = {}
    for masses in ("exact", "estimated"):
        points, weights = merge_coresets([(x, None)], 300, clusters=8, masses=masses)
        near = np.linalg.norm(points[:, None] - middles, axis=2).argmin(axis=1)
        off[masses] = abs(np.bincount(near, weights, 8) / sizes - 1).max()
    assert off["exact"] < 1e-9
    assert off["estimated"] > 1e-3


def test_estimated_masses_leave_the_cost_without_bias():
    x = islands(1000)
    center = x[[0]]
    ratios = []
    for seed in range(150):
        coreset = merge_coresets([(x, None)], 60, clusters=3, masses="estimated", seed=seed)
        ratios.append(evaluate_coreset(x, *coreset, [center])[0])
    noise = np.std(ratios) / np.sqrt(150)
    assert abs(np.mean(ratios) - 1) < 5.3 * noise + 0.01  # the weights are rescaled to the total: a bias of order 1 / k


def test_a_stream_in_the_worst_order_ends_within_its_error():
    x = islands(24_000)
    stream = CoresetStream(300, clusters=8, part=1500)
    for batch in np.array_split(x, 50):
        stream.add(batch)
    assert stream.levels == 5
    points, weights = stream.result()
    np.testing.assert_allclose(weights.sum(), len(x))
    assert len(points) == 300
    once = worst(x, merge_coresets([(x, None)], 300, clusters=8), 8)
    assert worst(x, (points, weights), 8) < 0.15
    assert once < 0.15


def test_a_stream_holds_one_coreset_of_each_height_and_less_than_a_part_of_rows():
    x = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    stream, most = CoresetStream(50, clusters=2, part=400), 0
    for batch in np.array_split(x, 170):
        stream.add(batch)
        most = max(most, len(stream))
    assert stream.levels == 6  # 50 parts: log2(50) + 1
    assert most < 400 + 6 * 50 + 1


def test_the_batches_do_not_matter():
    x = load_digits().data
    cuts = ([1797], [1, 800, 801, 1797], list(range(7, 1797, 7)))
    batches = [[part for part in np.split(x, cut) if len(part)] for cut in cuts]
    answers = [stream_coreset(each, 60, clusters=5, seed=4) for each in batches]
    for points, weights in answers[1:]:
        np.testing.assert_array_equal(points, answers[0][0])
        np.testing.assert_array_equal(weights, answers[0][1])


def test_the_seed_decides_and_asking_for_the_result_changes_nothing():
    x = load_digits().data
    stream = CoresetStream(50, clusters=5, seed=1)
    stream.add(x[:900])
    stream.result()
    stream.add(x[900:])
    points, _ = stream.result()
    np.testing.assert_array_equal(points, stream_coreset([x], 50, clusters=5, seed=1)[0])
    assert not np.array_equal(points, stream_coreset([x], 50, clusters=5, seed=2)[0])


def test_a_stream_takes_coresets_too():
    x = islands(6000)
    parts = [merge_coresets([(half, None)], 300, clusters=8) for half in (x[:3000], x[3000:])]
    points, weights = stream_coreset(parts, 300, clusters=8)
    np.testing.assert_allclose(weights.sum(), len(x))
    assert worst(x, (points, weights), 8) < 0.3


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 2.5}, "k=2.5"),
        ({"clusters": 0}, "clusters=0"),
        ({"cost": "k-mode"}, "k-mode"),
        ({"masses": "some"}, "some.*exact"),
        ({"parts": []}, "at least one part"),
        ({"parts": [(np.eye(3), None), (np.eye(4), None)]}, "3 numbers, another of 4|4 numbers, another of 3"),
        ({"parts": [(np.eye(3), [1.0, -1.0, 1.0])]}, r"weights\[1\]"),
        ({"parts": [(np.array([[np.nan]]), None)]}, "NaN"),
    ],
)
def test_what_cannot_be_is_an_error_with_its_value(how, words):
    arguments = {"parts": [(np.eye(9), None)], "k": 3, "clusters": 2} | how
    with pytest.raises(kofn.KofnError, match=words):
        merge_coresets(arguments.pop("parts"), arguments.pop("k"), **arguments)


def test_a_stream_refuses_wrong_parameters_at_once_and_rows_of_another_length():
    with pytest.raises(kofn.KofnError, match="clusters=0"):
        CoresetStream(10, clusters=0)
    with pytest.raises(kofn.KofnError, match="part=5"):
        CoresetStream(10, clusters=2, part=5)
    stream = CoresetStream(10, clusters=2)
    stream.add(np.eye(3))
    with pytest.raises(kofn.KofnError, match="of 4 numbers"):
        stream.add(np.eye(4))
    with pytest.raises(kofn.KofnError, match="at least one"):
        CoresetStream(10, clusters=2).result()


def test_plain_arrays_are_rows_that_count_once():
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    for one, other in zip(
        merge_coresets([x[:100], x[100:]], 40, clusters=3),
        merge_coresets([(x[:100], None), (x[100:], None)], 40, clusters=3),
    ):
        np.testing.assert_array_equal(one, other)

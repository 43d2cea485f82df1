"""Bounds on what any other answer could reach, against brute force."""

from itertools import combinations

import numpy as np
import pytest

from kofn.blocks import MemoryBlocks
from kofn.core.certificates import cover_and_packing, greedy_ceiling, least_between


def distances(x, y):
    return np.sqrt(((x[:, None].astype(np.float64) - y[None]) ** 2).sum(2))


@pytest.mark.parametrize("k", [2, 32, 33, 100, 257])
def test_the_least_distance_between_points_is_that_of_all_pairs(k):
    x = np.random.default_rng(k).normal(size=(k, 3)).astype(np.float32)
    pairs = distances(x, x)[np.triu_indices(k, 1)]
    assert least_between(x) == pytest.approx(pairs.min() ** 2, rel=1e-6)


def test_one_point_has_no_neighbour():
    assert least_between(np.ones((1, 2), np.float32)) == np.inf


def test_radius_and_packing_on_a_line():
    x = np.array([[0.0], [1.0], [4.0], [10.0], [11.0]], np.float32)
    assert cover_and_packing(MemoryBlocks(x), np.array([0, 2]), np.array([], np.int64)) == (7.0, 4.0)  # 11 is farthest
    assert cover_and_packing(MemoryBlocks(x), np.array([0, 2]), np.array([3])) == (
        1.0,
        1.0,
    )  # 1 is as far as 11, and first


@pytest.mark.parametrize("have", [[], [5]])
def test_no_choice_has_a_radius_below_half_the_packing(have):
    have = np.array(have, np.int64)
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
        between = distances(x, x)
        best = min(between[[*rows, *have]].min(axis=0).max() for rows in combinations(range(12), 3))
        picks = np.random.default_rng(seed).choice(np.setdiff1d(np.arange(12), have), 3, replace=False)
        radius, packing = cover_and_packing(MemoryBlocks(x), picks, have)
        assert radius == pytest.approx(between[[*picks, *have]].min(axis=0).max(), rel=1e-6)
        assert best >= packing / 2 - 1e-6


def covered(similar, rows):
    return similar[list(rows)].max(axis=0).sum() if rows else 0.0


def test_no_choice_covers_more_than_the_ceiling_and_greedy_reaches_its_share():
    for seed in range(20):
        similar = np.random.default_rng(seed).random((9, 9))
        chosen = []
        totals = [0.0]
        for _ in range(4):
            total, row = max((covered(similar, [*chosen, row]), row) for row in range(9) if row not in chosen)
            chosen.append(row)
            totals.append(total)
        best = max(covered(similar, rows) for rows in combinations(range(9), 4))
        ceiling = greedy_ceiling(np.diff(totals))
        assert best <= ceiling + 1e-9
        assert totals[-1] >= (1 - 1 / np.e) * ceiling - 1e-9

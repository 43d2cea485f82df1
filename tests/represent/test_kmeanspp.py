"""k-means++ as a method: what it does beyond the draws, which tests/core/test_seeding.py judges."""

from __future__ import annotations

import numpy as np
import pytest

import kofn
from kofn import Items, KofnError, Rng
from kofn.represent import KMeansPlusPlus


def islands(n: int = 600, seed: int = 0) -> np.ndarray:
    """Twelve tight clusters, far apart."""
    rng = np.random.default_rng(seed)
    centers = 40.0 * rng.normal(size=(12, 4))
    return (centers[np.arange(n) % 12] + 0.1 * rng.normal(size=(n, 4))).astype(np.float32)


@pytest.mark.parametrize("candidates", [1, 4])
def test_far_clusters_are_all_found(candidates):
    chosen = KMeansPlusPlus(candidates=candidates).select(Items(embeddings=islands()), 12, Rng(0))
    assert sorted(chosen.indices % 12) == list(range(12))
    assert chosen.weights.tolist() == [50.0] * 12
    assert chosen.inclusion is None
    assert chosen.provenance["notes"] == []


def test_weights_count_the_nearest_rows_and_have_keeps_its_own():
    x = np.array([[0.0], [0.1], [0.2], [10.0], [10.1], [30.0]], np.float32)
    items = Items(embeddings=x, have=[1], weights=[1.0, 1.0, 1.0, 2.0, 3.0, 4.0])
    chosen = KMeansPlusPlus().select(items, 2, Rng(1))
    assert chosen.indices.tolist() in ([5, 3], [5, 4], [3, 5], [4, 5])
    assert sorted(chosen.weights) == [4.0, 5.0]  # the three rows near 0 belong to row 1


def test_rows_that_coincide_are_filled_up_and_said():
    x = np.repeat(np.array([[0.0, 0.0], [5.0, 5.0]], np.float32), 10, axis=0)
    chosen = KMeansPlusPlus().select(Items(embeddings=x), 4, Rng(0))
    assert sorted(chosen.indices[:2] // 10) == [0, 1]
    free = [row for row in range(20) if row not in chosen.indices[:2]]
    assert chosen.indices[2:].tolist() == free[:2]
    assert chosen.weights.sum() == 20
    assert (chosen.weights > 0).all()
    assert chosen.provenance["notes"] == ["2 of 4 picks fill up: all rows coincide with picks before them"]


def test_cosine_looks_at_directions_alone():
    rng = np.random.default_rng(0)
    angle = np.repeat([0.0, 2.0, 4.0], 100)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.1, 1000, (300, 1))
    x += 1e-4 * np.abs(x) * rng.normal(size=x.shape)
    chosen = KMeansPlusPlus(metric="cosine").select(Items(embeddings=x), 3, Rng(0))
    assert sorted(chosen.indices // 100) == [0, 1, 2]


def test_several_candidates_lower_the_cost_where_clusters_are_apart():
    x = islands(2_400) + np.random.default_rng(1).normal(size=(2_400, 4)).astype(np.float32)
    items = Items(embeddings=x)

    def cost(method, seed):
        picks = method.select(items, 24, Rng(seed)).indices
        return ((x[:, None] - x[picks]) ** 2).sum(axis=2).min(axis=1).mean()

    one, four = (np.array([cost(KMeansPlusPlus(candidates=c), seed) for seed in range(24)]) for c in (1, 4))
    gap = np.log(one) - np.log(four)
    assert gap.mean() > 5 * gap.std() / np.sqrt(24)


def test_the_cost_keeps_its_expected_bound():
    x = islands()
    best = sum(((x[c::12] - x[c::12].mean(axis=0)) ** 2).sum() for c in range(12))  # the clusters are far apart
    costs = []
    for seed in range(50):
        picks = KMeansPlusPlus().select(Items(embeddings=x), 12, Rng(seed)).indices
        costs.append(((x[:, None] - x[picks]) ** 2).sum(axis=2).min(axis=1).sum())
    assert best <= np.mean(costs) <= 8 * (np.log(12) + 2) * best


def test_the_front_door_knows_it_by_name():
    chosen = kofn.select(islands(), 12, method="kmeans++", candidates=2, seed=3)
    assert chosen.provenance["parameters"] == {"candidates": 2, "metric": "euclidean"}
    assert len(np.unique(chosen.indices)) == 12
    with pytest.raises(KofnError, match="candidates=0"):
        kofn.select(islands(), 3, method="kmeans++", candidates=0)

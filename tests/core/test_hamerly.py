"""Rounds that skip rows by bounds: the same bits as rounds that measure every row against every center."""

import numpy as np
import pytest

from kofn.blocks import MemoryBlocks, Run
from kofn.core import lloyd as rounds_of
from kofn.core.block import Block
from kofn.core.distance import Centers, nearest_two
from kofn.core.hamerly import moves_of, nearest_by_bounds
from kofn.core.lloyd import lloyd


def lattice(n=6_000, d=3, seed=0):
    """Rows of which most lie on a small lattice, hence on bisectors."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, size=(n, d)).astype(np.float32)
    x[::3] += rng.normal(size=x[::3].shape).astype(np.float32)
    return x


def blobs(n=9_000, d=6, k=90, seed=1, apart=4.0):
    rng = np.random.default_rng(seed)
    return (apart * rng.normal(size=(k, d))[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("x", [lattice(), blobs(), blobs() + np.float32(1e3)], ids=["lattice", "blobs", "far off"])
def test_bounds_change_no_bit_of_the_answer(monkeypatch, x, unit):
    if unit:
        x = x / (np.linalg.norm(x, axis=1, keepdims=True) + np.float32(1e-6))
    found = []
    for fewest in (10**9, 2):
        monkeypatch.setattr(rounds_of, "FEWEST", fewest)
        monkeypatch.setattr(rounds_of, "SETTLED", 1.0)  # from the second round on
        found.append(lloyd(MemoryBlocks(x), x[::70].copy(), rounds=25, tol=0.0, unit=unit))
    assert found[0].rounds == found[1].rounds > 5
    assert found[0].cost == found[1].cost
    np.testing.assert_array_equal(found[0].centers, found[1].centers)


def test_threads_change_no_bit_either(monkeypatch):
    monkeypatch.setattr(rounds_of, "FEWEST", 2)
    x = blobs(40_000)
    answers = [lloyd(MemoryBlocks(x, run=Run(t)), x[:90].copy(), rounds=12, tol=0.0).centers for t in (1, 3)]
    np.testing.assert_array_equal(*answers)


def test_most_rows_are_skipped_once_centers_hardly_move():
    x, k = blobs(), 90
    settled = lloyd(MemoryBlocks(x), x[:k].copy(), rounds=40, tol=0.0).centers
    moved = settled + np.float32(1e-3)
    block = Block(0, x)
    known, _ = nearest_by_bounds(block, Centers(settled), None, None)
    now, squared = nearest_by_bounds(block, Centers(moved), moves_of(settled, moved), known)
    labels, exact, _ = nearest_two(x, Centers(moved))
    np.testing.assert_array_equal(now["label"], labels)
    np.testing.assert_array_equal(squared, exact)
    others = np.sqrt(((x[:, None].astype(float) - moved[None]) ** 2).sum(axis=2))
    others[np.arange(len(x)), labels] = np.inf
    assert (now["bound"] <= others.min(axis=1)).all()
    assert np.median(others.min(axis=1) - now["bound"]) < 0.01


def test_the_second_nearest_is_never_nearer_than_said():
    x = blobs(2_000)
    centers = x[:80]
    labels, _, second = nearest_two(x, Centers(centers))
    others = np.sqrt(((x[:, None].astype(float) - centers[None]) ** 2).sum(axis=2))
    others[np.arange(len(x)), labels] = np.inf
    assert (second <= others.min(axis=1)).all()
    assert np.median(others.min(axis=1) - second) < 1e-3


def test_moves_are_distances_and_the_largest_of_the_others():
    before = np.array([[0, 0], [4, 0], [0, 3]], np.float32)
    after = np.array([[0, 1], [4, 0], [0, 5]], np.float32)
    moves = moves_of(before, after)
    np.testing.assert_allclose(moves.own, [1, 0, 2], rtol=2e-5)
    np.testing.assert_allclose(moves.others, [2, 2, 1], rtol=2e-5)
    np.testing.assert_allclose(moves.half_gap, [2, np.sqrt(17) / 2, 2], rtol=1e-3)

"""The order of rows along a tree over space."""

import numpy as np
import pytest

from kofn import KofnError
from kofn.core.block import Block
from kofn.core.draw import pivotal
from kofn.core.space import grow_tree, leaves_in_block, order_by_leaves, space_order


def test_on_a_line_the_order_is_that_of_the_line():
    x = np.array([[3.0], [1.0], [2.0], [-5.0], [10.0], [9.0]])
    for split in ("principal", "coordinates"):
        assert space_order(x, split=split).tolist() == [3, 1, 2, 0, 5, 4]


def test_rows_are_halved_along_the_wider_side_or_column_by_column():
    corners = np.array([[0.0, 0], [0, 1], [10, 0], [10, 1], [20, 0], [20, 1], [30, 0], [30, 1]])
    wide = space_order(corners).tolist()
    assert [set(wide[at : at + 2]) for at in (0, 2, 4, 6)] == [{0, 1}, {2, 3}, {4, 5}, {6, 7}]
    turns = space_order(corners, split="coordinates").tolist()
    assert turns == [0, 2, 1, 3, 4, 6, 5, 7]


def test_the_principal_direction_need_not_be_a_column():
    t = np.random.default_rng(0).permutation(64) / 64
    x = np.stack([t, -2 * t, 3 * t], axis=1) + 1e4
    order = space_order(x)
    assert (np.diff(t[order]) > 0).all() or (np.diff(t[order]) < 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 100, 1_000])
@pytest.mark.parametrize("split", ["principal", "coordinates"])
def test_every_row_comes_once_also_among_copies(n, split):
    rng = np.random.default_rng(n)
    for x in (rng.normal(size=(n, 3)), rng.integers(0, 2, (n, 3)), np.zeros((n, 2)), 1e15 * rng.normal(size=(n, 2))):
        assert sorted(space_order(x, split=split).tolist()) == list(range(n))
    assert space_order(np.zeros((n, 2)), split=split).tolist() == list(range(n))


def test_neighbours_in_the_order_are_neighbours_in_space():
    x = np.random.default_rng(0).random((4_096, 2))
    for split in ("principal", "coordinates"):
        step = np.linalg.norm(np.diff(x[space_order(x, split=split)], axis=0), axis=1)
        assert np.median(step) < 2 / 64  # 64 rows to a side


def test_rows_of_the_sample_find_the_leaf_that_they_were_in():
    x = np.random.default_rng(1).normal(size=(1_024, 5)).astype(np.float32)
    tree, order = grow_tree(x, 6), space_order(x)
    leaves = leaves_in_block(Block(0, x), tree)
    assert (np.bincount(leaves) == 16).all()
    expected = np.empty(1_024, np.int64)
    expected[order] = np.arange(1_024) // 16
    np.testing.assert_array_equal(leaves, expected)


def test_new_rows_fill_the_leaves_evenly():
    rng = np.random.default_rng(2)
    tree = grow_tree(rng.normal(size=(4_096, 3)), 6)
    counts = np.bincount(leaves_in_block(Block(0, rng.normal(size=(64_000, 3)).astype(np.float32)), tree), minlength=64)
    assert counts.min() > 500
    assert counts.max() < 1_700


def test_leaves_are_laid_left_to_right_and_their_rows_by_number():
    leaves = np.array([2, 0, 3, 2, 0, 0, 2, 2], np.uint16)
    order, depth = order_by_leaves(leaves, 2)
    assert order.tolist() == [1, 4, 5, 0, 3, 6, 7, 2]
    shallow, deep = depth[[3, 7]].tolist(), depth[[1, 2, 4, 5, 6]]
    assert shallow == [0, 1]  # leaf 0 and leaf 2 part at the root, leaf 2 and leaf 3 below it
    assert deep.min() > 2
    assert deep[1] < deep[0]  # of three rows the first two duel first
    assert deep[3] < deep[2] == deep[4]  # of four the pairs


def test_a_draw_along_the_leaves_takes_from_every_leaf_its_share():
    leaves = np.random.default_rng(3).permutation(np.repeat(np.arange(16), 50)).astype(np.uint16)
    order, depth = order_by_leaves(leaves, 4)
    for seed in range(50):
        picks = pivotal(np.full(800, 32 / 800), np.random.default_rng(seed).random(800), order, depth)
        assert (np.bincount(leaves[picks], minlength=16) == 2).all()


def test_trees_that_cannot_be_are_refused():
    with pytest.raises(KofnError, match="levels=3"):
        grow_tree(np.ones((7, 1)), 3)
    with pytest.raises(KofnError, match="split='random'"):
        space_order(np.ones((7, 1)), split="random")
    with pytest.raises(KofnError, match="shape"):
        space_order(np.ones(7))

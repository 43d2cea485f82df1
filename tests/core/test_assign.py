"""The pass that finds the nearest point of every row."""

import numpy as np
import pytest

from kofn.blocks import MemoryBlocks, Run
from kofn.core.assign import assign, cell_weights, nearest_distances, own_cells
from kofn.core.block import SLAB

LINE = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [20.0]], np.float32)
ENDS = np.array([[0.0], [11.0]], np.float32)


def test_labels_and_distances_by_hand():
    ((labels, squared),) = assign(MemoryBlocks(LINE), ENDS)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert squared.tolist() == [0, 1, 4, 1, 0, 81]
    assert np.concatenate(list(nearest_distances(MemoryBlocks(LINE), ENDS))).tolist() == [0, 1, 2, 1, 0, 9]


def test_one_result_a_slab_in_order():
    x = np.arange(2 * SLAB + 5, dtype=np.float32)[:, None]
    points = np.array([[0.0], [SLAB], [2.0 * SLAB + 4]], np.float32)
    for threads in (1, 3):
        parts = list(assign(MemoryBlocks(x, run=Run(threads)), points))
        assert [len(labels) for labels, _ in parts] == [SLAB, SLAB, 5]
        labels = np.concatenate([labels for labels, _ in parts])
        assert np.flatnonzero(np.diff(labels)).tolist() == [SLAB // 2, SLAB + (SLAB + 4) // 2]


def test_cells_count_rows_or_their_weights():
    assert cell_weights(MemoryBlocks(LINE), ENDS).tolist() == [3, 3]
    assert cell_weights(MemoryBlocks(LINE), ENDS, np.array([1.0, 2, 3, 4, 5, 6])).tolist() == [6, 15]


def test_cells_over_several_slabs_add_up():
    n = 2 * SLAB + 100
    x = (np.arange(n) % 3).astype(np.float32)[:, None]
    weights = 1.0 + np.arange(n) % 2
    points = np.array([[0.0], [1.0], [2.0]], np.float32)
    expected = np.bincount(np.arange(n) % 3, weights)
    assert cell_weights(MemoryBlocks(x), points, weights).tolist() == expected.tolist()


def test_a_duplicate_among_the_points_stands_for_itself_when_rows_are_named():
    x = np.array([[5.0], [5.0], [5.0], [9.0]], np.float32)
    points, rows = x[[1, 2, 3]], np.array([1, 2, 3])
    assert cell_weights(MemoryBlocks(x), points).tolist() == [3, 0, 1]
    assert cell_weights(MemoryBlocks(x), points, None, rows).tolist() == [2, 1, 1]
    assert cell_weights(MemoryBlocks(x), points, np.array([1.0, 2, 3, 4]), rows).tolist() == [3, 3, 4]


def test_own_cells_name_the_first_of_equal_points():
    points = np.array([[1.0], [2.0], [1.0], [2.0], [3.0]], np.float32)
    assert own_cells(points).tolist() == [0, 1, 0, 1, 4]


def test_cosine_blocks_compare_directions():
    x = np.array([[1.0, 0.0], [9.0, 1.0], [0.0, 0.1]], np.float32)
    blocks = MemoryBlocks(x, metric="cosine")
    ((labels, squared),) = assign(blocks, blocks.take(np.array([0, 2])))
    assert labels.tolist() == [0, 0, 1]
    assert squared[1] == pytest.approx(2 - 2 * 9 / 82**0.5, rel=1e-5)

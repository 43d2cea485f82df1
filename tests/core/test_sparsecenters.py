"""Centers of sparse rows: sums by cluster, moves, and what is known of them."""

import numpy as np
from scipy.sparse import csr_matrix

from kofn.core.sparsecenters import SparseCenters, apart_of_sparse, column_lists, rows_of, sums_of_clusters

X = np.array([[1, 0, 2, 0], [0, 3, 0, 0], [1, 0, 0, 4], [0, 0, 5, 0]], np.float32)
LABELS, WEIGHTS = np.array([1, 0, 1, 0], np.int32), np.array([1.0, 2.0, 3.0, 1.0])


def dense_sums(sums):
    out = np.zeros((len(sums.starts) - 1, sums.d))
    for c in range(len(out)):
        part = slice(sums.starts[c], sums.starts[c + 1])
        out[c, sums.columns[part]] = sums.sums[part]
    return out


def test_sums_are_weighted_and_a_cluster_without_rows_has_none():
    sums = sums_of_clusters(csr_matrix(X), LABELS, WEIGHTS, 3)
    np.testing.assert_array_equal(dense_sums(sums), [[0, 6, 5, 0], [4, 0, 2, 12], [0, 0, 0, 0]])
    np.testing.assert_allclose(sums.lengths, [np.sqrt(61), np.sqrt(164), 0])


def test_sums_of_two_parts_add_up():
    both = [sums_of_clusters(csr_matrix(X[part]), LABELS[part], WEIGHTS[part], 3) for part in (slice(2), slice(2, 4))]
    np.testing.assert_array_equal(dense_sums(both[0] + both[1]), [[0, 6, 5, 0], [4, 0, 2, 12], [0, 0, 0, 0]])


def test_a_move_is_the_old_center_times_a_factor_plus_a_rest():
    centers = SparseCenters(csr_matrix(X[[1, 0, 3]]))
    totals = sums_of_clusters(csr_matrix(X), LABELS, WEIGHTS, 3)
    moved = centers.move(totals, np.array([2.0, 4.0, 1.0]), np.array([False, False, True]))
    np.testing.assert_array_equal(centers.points, [[0, 3, 2.5, 0], [1, 0, 0.5, 3], [0, 0, 5, 0]])
    np.testing.assert_array_equal(centers.half, [(9 + 6.25) / 2, (1 + 0.25 + 9) / 2, 12.5])
    assert moved.changed.tolist() == [True, True, False]
    assert moved.factors == (0.25, 1.0)  # scales were 1
    # Rests: (0, 3 - 1.5, 2.5, 0) and (1 - 0.25, 0, 0.5 - 0.5, 3).
    np.testing.assert_array_equal(moved.most, [0.75, 1.5, 2.5, 3])
    np.testing.assert_array_equal(moved.least, 0)
    assert moved.halves == (2.5, 12.5)
    assert moved.shorter == 0
    again = centers.move(totals, np.array([2.0, 4.0, 1.0]), np.array([False, False, True]))
    assert not again.changed.any()
    assert again.factors == (1.0, 1.0)


def test_columns_that_a_center_loses_are_rests_too():
    centers = SparseCenters(csr_matrix(X[[0]]))
    moved = centers.move(
        sums_of_clusters(csr_matrix(X[[1]]), np.zeros(1, np.int32), np.ones(1), 1), np.ones(1), np.zeros(1, bool)
    )
    np.testing.assert_array_equal(centers.points, X[[1]])
    np.testing.assert_array_equal(moved.least, [-1, 0, -2, 0])
    np.testing.assert_array_equal(moved.most, [0, 3, 0, 0])


def test_centers_can_be_put_elsewhere():
    centers = SparseCenters(csr_matrix(X[:3])).replaced(np.array([1]), csr_matrix(X[[3]]))
    np.testing.assert_array_equal(centers.points, X[[0, 3, 2]])


def test_lists_by_column_are_the_transposed_matrix():
    starts, ids, values = column_lists(rows_of(csr_matrix(X)), 4)
    assert starts.tolist() == [0, 2, 3, 5, 6]
    assert ids.tolist() == [0, 2, 1, 0, 3, 2]
    assert values.tolist() == [1, 1, 3, 2, 5, 4]


def test_distances_by_differences_are_exact_and_leave_the_room_empty():
    starts, columns, values = rows_of(csr_matrix(X))
    row = [(columns[starts[i] : starts[i + 1]], values[starts[i] : starts[i + 1]]) for i in range(4)]
    room = np.zeros(4, np.float32)
    expected = ((X[:, None] - X[None]) ** 2).sum(axis=2)
    found = [[apart_of_sparse(*row[i], *row[j], room) for j in range(4)] for i in range(4)]
    np.testing.assert_array_equal(found, expected)
    assert not room.any()

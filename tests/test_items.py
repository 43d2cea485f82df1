"""The n things, and what is known of them."""

import numpy as np
import pytest
from scipy.sparse import coo_matrix, csr_matrix

from kofn import Items, KofnError
from kofn.blocks import MemoryBlocks


def test_n_comes_from_whatever_is_given():
    assert Items(embeddings=np.zeros((3, 2))).n == 3
    assert Items(scores=[1.0, 2.0]).n == 2
    assert Items(groups=["a", "b", "b", "c"]).n == 4
    assert Items(rows=9).n == 9
    assert Items(rows=9).d == 0
    assert Items(embeddings=csr_matrix((5, 7))).d == 7


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "rows=n"),
        ({"rows": 0}, "no rows"),
        ({"embeddings": np.zeros((0, 3))}, "no rows"),
        ({"embeddings": np.zeros((3, 0))}, "0 columns"),
        ({"embeddings": np.zeros(3)}, r"x\[:, None\]"),
        ({"embeddings": np.zeros((3, 2, 2))}, "shape"),
        ({"embeddings": np.array([["a"], ["b"]])}, "matrix of numbers"),
        ({"embeddings": np.zeros((3, 2)), "rows": 4}, "rows=4"),
        ({"embeddings": np.zeros((3, 2)), "scores": [1.0, 2.0]}, r"scores has shape \(2,\)"),
        ({"embeddings": np.zeros((3, 2)), "ids": [[1], [2], [3]]}, "ids has shape"),
        ({"scores": ["low", "high"]}, "scores holds"),
        ({"scores": [1.0, np.nan, np.inf]}, r"2 of 3 rows.* row 1\b"),
        ({"rows": 2, "weights": [1.0, 0.0]}, r"weights\[1\] is 0"),
        ({"rows": 2, "weights": [-1.0, 1.0]}, r"weights\[0\] is -1"),
        ({"rows": 3, "have": [True, False]}, "have has shape"),
        ({"rows": 3, "have": [3]}, "row 3"),
        ({"rows": 3, "have": [-1]}, "row -1"),
        ({"rows": 3, "have": [0.5]}, "float64"),
        ({"rows": 3, "have": [0, 1, 2]}, "all 3 rows"),
    ],
)
def test_what_cannot_be_items_is_an_error(given, words):
    with pytest.raises(KofnError, match=words):
        Items(**given)


def test_have_is_a_mask_or_row_numbers_in_any_order():
    for have in ([4, 1], [row in (1, 4) for row in range(6)], np.array([1, 4, 1], np.uint8)):
        items = Items(rows=6, have=have)
        assert items.have_rows.tolist() == [1, 4]
        assert items.have_rows.dtype == np.int64
        assert items.free == 4
    assert Items(rows=6, have=[]).free == 6


def test_the_callers_mask_is_not_shared():
    mask = np.array([True, False])
    items = Items(rows=2, have=mask)
    mask[1] = True
    assert items.have_rows.tolist() == [0]


def test_row_weights_are_one_where_none_are_given():
    assert Items(rows=3).row_weights.tolist() == [1, 1, 1]
    assert Items(rows=3, weights=[1, 2, 5]).row_weights.tolist() == [1, 2, 5]


def test_group_codes_follow_the_sorted_values():
    codes, names = Items(groups=["b", "a", "b", "c"]).group_codes
    assert codes.tolist() == [1, 0, 1, 2]
    assert names.tolist() == ["a", "b", "c"]
    codes, names = Items(groups=np.array([10, 9, 10])).group_codes
    assert codes.tolist() == [1, 0, 1]
    codes, names = Items(groups=np.array(["x", None, "x"], object)).group_codes
    assert codes.tolist() == [1, 0, 1]
    assert Items(rows=2).group_codes[0].tolist() == [0, 0]


def test_an_array_is_not_copied_and_everything_is_a_read_only_view():
    x = np.ones((5, 2), np.float32)
    everything = Items(embeddings=x).everything()
    assert np.shares_memory(everything, x)
    assert not everything.flags.writeable
    assert x.flags.writeable


def test_every_type_of_numbers_becomes_float32():
    for kind in (np.float16, np.float64, np.int8, np.uint8, bool):
        x = np.array([[0, 1], [1, 1]], kind)
        everything = Items(embeddings=x).everything()
        assert everything.dtype == np.float32
        assert everything.tolist() == [[0, 1], [1, 1]]


def test_cosine_scales_rows_to_length_one_and_nothing_else_does():
    items = Items(embeddings=[[3.0, 4.0], [0.0, 2.0]])
    np.testing.assert_allclose(items.everything("cosine"), [[0.6, 0.8], [0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(items.everything(), [[3, 4], [0, 2]])
    with pytest.raises(KofnError, match="manhattan"):
        items.blocks("manhattan")


def test_any_sparse_matrix_is_taken_and_stays_sparse():
    dense = np.array([[0, 2], [3, 0], [0, 0]], np.float64)
    items = Items(embeddings=coo_matrix(dense))
    assert items.sparse
    assert not Items(embeddings=dense).sparse
    np.testing.assert_array_equal(items.everything(), dense)


def test_items_without_vectors_have_no_blocks():
    with pytest.raises(KofnError, match="no embeddings"):
        Items(rows=3).blocks()


def test_a_subset_cuts_every_column_alike():
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    items = Items(x, ids=list("abcd"), scores=[1, 2, 3, 4], groups=[0, 0, 1, 1], weights=[1, 2, 3, 4], have=[3])
    part = items.subset(np.array([3, 1]), x[[3, 1]])
    assert part.ids.tolist() == ["d", "b"]
    assert part.scores.tolist() == [4, 2]
    assert part.weights.tolist() == [4, 2]
    assert part.have.tolist() == [True, False]
    assert items.subset(np.array([0, 1]), x[:2], weights=np.array([5.0, 7.0])).weights.tolist() == [5, 7]


def test_hold_makes_blocks_of_other_rows():
    blocks = Items(rows=3).hold(np.eye(2, dtype=np.float32))
    assert isinstance(blocks, MemoryBlocks)
    assert (blocks.n, blocks.d) == (2, 2)

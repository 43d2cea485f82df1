"""Two rounds: a method on parts, then on what it picked there."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn import Rng
from kofn.represent import KMeans, Thinning
from kofn.tworound import TwoRound, lifted


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(8, 3)) * 30
    which = np.sort(rng.integers(8, size=20_000))  # rows ordered by blob: parts must not be contiguous
    return (middles[which] + rng.normal(size=(20_000, 3))).astype(np.float32), which


def test_every_blob_is_found_although_no_part_sees_all_rows(data):
    x, which = data
    selection = TwoRound(method=KMeans(), part=4096).select(kofn.Items(embeddings=x), 8, Rng(0))
    assert sorted(which[selection.indices]) == list(range(8))
    np.testing.assert_array_equal(selection.weights, np.bincount(which)[which[selection.indices]])


def test_files_give_the_picks_of_the_array(data, tmp_path):
    x, _ = data
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3)
    pq.write_table(pa.table({"emb": column}), tmp_path / "x.parquet", row_group_size=3000)
    method = TwoRound(method=KMeans(), part=4096)
    from_array = method.select(kofn.Items(embeddings=x), 50, Rng(1))
    from_file = method.select(kofn.open(str(tmp_path / "x.parquet")), 50, Rng(1))
    np.testing.assert_array_equal(from_array.indices, from_file.indices)
    np.testing.assert_array_equal(from_array.weights, from_file.weights)


def test_rows_that_one_has_are_not_picked_and_count_as_covered(data):
    x, which = data
    have = np.flatnonzero(which < 5)[::10]
    selection = TwoRound(method=KMeans(), part=4096).select(kofn.Items(embeddings=x, have=have), 3, Rng(0))
    assert sorted(which[selection.indices]) == [5, 6, 7]


def test_the_part_is_the_largest_power_of_two_that_fits():
    class Quadratic(KMeans):
        def bytes(self, n, d, k):
            return n * n

    assert lifted(Quadratic(), 1_000_000, 8, 10, 9000**2).part == 8192
    with pytest.raises(kofn.KofnError, match="even in parts"):
        lifted(Quadratic(), 1_000_000, 8, 10, 1000)


def test_picks_that_count_alike_in_one_round_do_so_in_two():
    x = np.random.default_rng(0).normal(size=(5_000, 3)).astype(np.float32)
    have = np.arange(0, 5_000, 100)
    items = kofn.Items(embeddings=x, have=have, weights=np.arange(1.0, 5_001))
    selection = TwoRound(method=Thinning(), part=1_024).select(items, 20, Rng(0))
    left = items.row_weights.sum() - items.row_weights[have].sum()
    np.testing.assert_allclose(selection.weights, left / 20)


class Square(KMeans):
    """Holds as many bytes as rows squared."""

    lifts = "for tests"

    def bytes(self, n, d, k):
        return n * n


def test_a_union_that_does_not_fit_is_dealt_to_parts_again():
    how = lifted(Square(), 40_000, 3, 200, 2_048**2)
    assert (how.part, how.rounds, how.words()) == (2_048, 3, "three rounds")
    assert how.union(40_000, 200) == 400  # 20 parts bring 4,000 rows, 2 parts of them 400
    assert how.bytes(40_000, 3, 200) == 2_048**2 + 16 * 40_000
    assert how.passes(40_000, 3, 200) == 5


def test_rounds_that_would_not_shrink_the_union_are_refused():
    with pytest.raises(kofn.KofnError, match="even in parts of 1,800 rows"):
        lifted(Square(), 40_000, 3, 900, 2_048**2, have=25_000)


def test_three_rounds_find_every_blob_and_weigh_all_rows(data, tmp_path):
    x, which = data
    how = TwoRound(method=KMeans(), part=1_024, rounds=3)
    selection = how.select(kofn.Items(embeddings=x), 8, Rng(0))
    assert sorted(which[selection.indices]) == list(range(8))
    assert selection.weights.sum() == len(x)
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3)
    pq.write_table(pa.table({"emb": column}), tmp_path / "x.parquet", row_group_size=3000)
    from_file = how.select(kofn.open(str(tmp_path / "x.parquet")), 8, Rng(0))
    np.testing.assert_array_equal(from_file.indices, selection.indices)


def test_parts_in_the_order_of_the_rows_are_read_alone_and_the_same_from_files(data, tmp_path):
    x, which = data
    how = TwoRound(method=KMeans(), part=1_024, deal="consecutive")
    selection = how.select(kofn.Items(embeddings=x), 8, Rng(0))
    assert sorted(which[selection.indices]) == list(range(8))
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3)
    pq.write_table(pa.table({"emb": column}), tmp_path / "x.parquet", row_group_size=700)
    from_file = how.select(kofn.open(str(tmp_path / "x.parquet")), 8, Rng(0))
    np.testing.assert_array_equal(from_file.indices, selection.indices)


def test_only_rows_beyond_the_room_for_dealing_are_cut_in_their_order(monkeypatch):
    monkeypatch.setattr("kofn.tworound.SPOOL", 4 * 40_000 * 3)
    assert lifted(Square(), 40_000, 3, 10, 2_048**2).deal == "hash"
    assert lifted(Square(), 40_001, 3, 10, 2_048**2).deal == "consecutive"
    assert lifted(Square(), 40_001, 3, 10, 2_048**2, sized=False).deal == "hash"  # rows in memory need no file

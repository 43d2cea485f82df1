"""Columns that hold vectors, of every type, as float32 rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blocks.laying import normal, vectors
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.blocks.files import FileBlocks
from kofn.errors import DataError, KofnError, UsageError

N = 10_000


def lay(folder, table, group=3_000):
    pq.write_table(table, folder / "a.parquet", row_group_size=group)
    return Dataset.open(str(folder / "a.parquet"))


def rows_of(dataset, name=None, dtype=None):
    """All rows by `map`; `take` must agree on some of them."""
    blocks = FileBlocks(dataset, find_embedding(dataset, name, dtype), check=False)
    x = np.concatenate(list(blocks.map(lambda block: block.x.copy())))
    asked = np.arange(dataset.n - 1, -1, -17)
    finite = asked[np.isfinite(x[asked]).all(axis=1)]
    np.testing.assert_array_equal(blocks.take(finite), x[finite])
    return x


def numbers(dtype):
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 100, (N, 5)).astype(dtype) if dtype.endswith("int8") else rng.normal(size=(N, 5)).astype(dtype)
    )


def as_lists(x, large=False):
    kind = pa.LargeListArray if large else pa.ListArray
    offsets = np.arange(0, x.size + 1, x.shape[1])
    return kind.from_arrays(pa.array(offsets, pa.int64() if large else pa.int32()), pa.array(x.reshape(-1)))


def as_binary(x):
    return pa.array([row.tobytes() for row in x], pa.binary(x.dtype.itemsize * x.shape[1]))


SHAPES = {
    "fixed_size_list": vectors,
    "list": as_lists,
    "large_list": lambda x: as_lists(x, large=True),
    "fixed-size binary": as_binary,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8"])
def test_every_shape_and_type_gives_the_same_rows(tmp_path, shape, dtype):
    x = numbers(dtype)
    dataset = lay(tmp_path, pa.table({"row": np.arange(N), "vec": SHAPES[shape](x), "note": ["text"] * N}))
    given = dtype if shape == "fixed-size binary" else None
    found = find_embedding(dataset, None, given)
    assert (found.columns, found.d) == (("vec",), 5)
    np.testing.assert_array_equal(rows_of(dataset, None, given), x.astype(np.float32))
    np.testing.assert_array_equal(rows_of(dataset, "vec", given), x.astype(np.float32))


def test_a_non_null_field_and_one_whose_values_are_not_null_are_read(tmp_path):
    x = normal(500, 4)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), 4)
    schema = pa.schema([pa.field("vec", kind, nullable=False)])
    array = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), type=kind)
    np.testing.assert_array_equal(rows_of(lay(tmp_path, pa.table([array], schema=schema))), x)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool"])
def test_numeric_columns_by_glob_come_in_the_order_of_the_file(tmp_path, dtype):
    x = (np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (N, 3))).astype(dtype)
    columns = {"pca_2": x[:, 2], "other": x[:, 0], "pca_0": x[:, 0], "pca_1": x[:, 1]}
    dataset = lay(tmp_path, pa.table(columns))
    np.testing.assert_array_equal(rows_of(dataset, "pca_*"), x[:, [2, 0, 1]].astype(np.float32))
    np.testing.assert_array_equal(rows_of(dataset, "pca_[01]"), x[:, :2].astype(np.float32))
    assert find_embedding(dataset, None, None) is None


def test_one_numeric_column_is_a_vector_of_length_one(tmp_path):
    dataset = lay(tmp_path, pa.table({"a": [1.5, 2.5], "b": [3, 4]}))
    assert rows_of(dataset, "b").tolist() == [[3.0], [4.0]]


@pytest.mark.parametrize("shape", SHAPES)
def test_null_rows_become_nan_and_no_other_row_moves(tmp_path, shape):
    x = numbers("float32")
    array = SHAPES[shape](x)
    missing = np.zeros(N, bool)
    missing[[0, 1, 4_095, 4_096, 7_000, N - 1]] = missing[8_500:8_600] = True
    holed = pa.chunked_array([array]).take(pa.array(np.where(missing, None, np.arange(N)), pa.int64()))
    dataset = lay(tmp_path, pa.table({"vec": holed}))
    given = "float32" if shape == "fixed-size binary" else None
    got = rows_of(dataset, "vec", given)
    np.testing.assert_array_equal(np.isnan(got).all(axis=1), missing)
    np.testing.assert_array_equal(got[~missing], x[~missing])


@pytest.mark.parametrize("shape", SHAPES)
def test_batches_of_null_rows_alone_become_nan(tmp_path, shape):
    x = numbers("float32")[:9_000]
    holed = SHAPES[shape](x).take(pa.array([*range(10), *[None] * 8_990], pa.int64()))
    dataset = lay(tmp_path, pa.table({"vec": holed}), group=1_000)
    got = rows_of(dataset, "vec", "float32" if shape == "fixed-size binary" else None)
    np.testing.assert_array_equal(got[:10], x[:10])
    assert np.isnan(got[10:]).all()


@pytest.mark.parametrize("shape", ["fixed_size_list", "list", "large_list"])
def test_null_values_in_a_vector_become_nan_there_and_nowhere_else(tmp_path, shape):
    lists = [[1.0, 2.0], [3.0, None], None, [None, 5.0], [6.0, 7.0]]
    kinds = {
        "fixed_size_list": pa.list_(pa.float32(), 2),
        "list": pa.list_(pa.float32()),
        "large_list": pa.large_list(pa.int8()),
    }
    dataset = lay(tmp_path, pa.table({"vec": pa.array(lists, kinds[shape])}))
    nan = np.nan
    expected = [[1, 2], [3, nan], [nan, nan], [nan, 5], [6, 7]]
    np.testing.assert_array_equal(rows_of(dataset, "vec"), np.array(expected, np.float32))


def test_nulls_in_numeric_columns_become_nan(tmp_path):
    table = pa.table({"f_a": [1.0, None, 3.0], "f_b": [4, 5, None], "f_c": [True, None, False]})
    nan = np.nan
    expected = np.array([[1, 4, 1], [nan, 5, nan], [3, nan, 0]], np.float32)
    np.testing.assert_array_equal(rows_of(lay(tmp_path, table), "f_*"), expected)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("wrong", [[], [1.0], [1.0] * 6])
def test_a_ragged_row_is_an_error_with_its_number(tmp_path, wrong, large):
    lists = [[1.0] * 5] * N
    lists[7_003] = wrong
    array = pa.array(lists, pa.large_list(pa.float32()) if large else pa.list_(pa.float32()))
    dataset = lay(tmp_path, pa.table({"vec": array}))
    with pytest.raises(DataError, match=rf"row 7003 of 'vec' has {len(wrong)} numbers where the first row has 5"):
        rows_of(dataset)


def test_ragged_rows_beside_null_rows_are_named_and_lengths_that_make_up_for_each_other_are_seen(tmp_path):
    for lists, row in (([None, [1.0, 2.0], [1.0], [1.0, 2.0, 3.0]], 2), ([[1.0, 2.0], None, [1.0, 2.0], [3.0]], 3)):
        dataset = lay(tmp_path, pa.table({"vec": pa.array(lists, pa.list_(pa.float64()))}))
        with pytest.raises(DataError, match=f"row {row} of 'vec'"):
            rows_of(dataset)


def test_the_length_is_that_of_the_first_vector_there_is(tmp_path):
    lists = [None] * 5_000 + [[1.0, 2.0, 3.0]] * 2
    assert find_embedding(lay(tmp_path, pa.table({"vec": lists})), None, None).d == 3
    with pytest.raises(DataError, match="null in every row"):
        find_embedding(lay(tmp_path, pa.table({"vec": pa.array([None] * 9, pa.list_(pa.float32()))})), None, None)


def test_numbers_beyond_float32_become_infinite_without_a_warning(tmp_path):
    got = rows_of(lay(tmp_path, pa.table({"vec": pa.array([[1e300, 1.0], [-1e39, 2.0]])})))
    np.testing.assert_array_equal(got, [[np.inf, 1], [-np.inf, 2]])


def test_two_candidates_are_an_error_until_one_is_named(tmp_path):
    x = normal(50, 3)
    dataset = lay(tmp_path, pa.table({"title": vectors(x), "body": vectors(-x), "ids": pa.array([[1, 2]] * 50)}))
    with pytest.raises(UsageError, match=r"2 columns could be the embedding \(title, body\).*--embedding title"):
        find_embedding(dataset, None, None)
    np.testing.assert_array_equal(rows_of(dataset, "body"), -x)


def test_lists_of_wide_integers_are_vectors_only_by_name_or_where_there_is_nothing_else(tmp_path):
    tokens = pa.array([[1, 2], [3, 4]], pa.list_(pa.int64()))
    beside = lay(tmp_path, pa.table({"tokens": tokens, "row": [0, 1]}))
    assert find_embedding(beside, None, None) is None
    assert rows_of(beside, "tokens").tolist() == [[1, 2], [3, 4]]
    assert rows_of(lay(tmp_path, pa.table({"tokens": tokens}))).tolist() == [[1, 2], [3, 4]]


def test_a_binary_column_is_a_candidate_only_where_its_numbers_are_named(tmp_path):
    x = normal(20, 4)
    dataset = lay(tmp_path, pa.table({"vec": as_binary(x), "label": [0] * 20}))
    assert find_embedding(dataset, None, None) is None
    with pytest.raises(UsageError, match=r"'vec' is binary \(16 bytes a row\).*--dtype float32"):
        find_embedding(dataset, "vec", None)
    assert find_embedding(dataset, None, "float64").d == 2
    odd = lay(tmp_path, pa.table({"vec": pa.array([b"abcde"] * 3, pa.binary(5))}))
    with pytest.raises(UsageError, match="5 bytes a row, not a multiple of float16's 2"):
        find_embedding(odd, "vec", "float16")
    with pytest.raises(KofnError, match=r"bfloat16.*float32"):
        find_embedding(dataset, "vec", "bfloat16")


NO_VECTORS = {
    "words": (pa.array(["a", "b"]), "string, not vectors"),
    "tokens": (pa.array([["a"], ["b"]]), "lists of string"),
    "nested": (pa.array([[[1.0]], [[2.0]]]), "lists of"),
    "records": (pa.array([{"x": 1.0}, {"x": 2.0}]), "struct.*not vectors"),
    "nothing": (pa.array([[], []], pa.list_(pa.float32())), "length 0"),
    "bytes": (pa.array([b"ab", b"cd"]), "binary, not vectors"),
}


@pytest.mark.parametrize("name", NO_VECTORS)
def test_a_column_that_holds_no_vectors_is_an_error_that_says_what_it_holds(tmp_path, name):
    array, words = NO_VECTORS[name]
    dataset = lay(tmp_path, pa.table({name: array, "row": [0, 1]}))
    with pytest.raises(DataError, match=rf"{name!r} holds .*{words}"):
        find_embedding(dataset, name, None)


def test_a_name_that_is_no_column_is_an_error_with_its_neighbours(tmp_path):
    dataset = lay(tmp_path, pa.table({"embedding": vectors(normal(5, 2)), "label": [0] * 5}))
    with pytest.raises(DataError, match=r"embedding='embeding' is not a column of a\.parquet; did you mean embedding"):
        find_embedding(dataset, "embeding", None)
    with pytest.raises(DataError, match=r"no column matches 'pca_\*'; columns: embedding, label"):
        find_embedding(dataset, "pca_*", None)
    with pytest.raises(DataError, match=r"'embedding' matches '\*' but holds fixed_size_list"):
        find_embedding(dataset, "*", None)

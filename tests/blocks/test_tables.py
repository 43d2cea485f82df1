"""Rows of a table come back in the type in which it came."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blocks.laying import normal, vectors
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.blocks.files import FileBlocks
from kofn.blocks.tables import as_arrow, is_table, table_dataset, take_rows
from kofn.errors import KofnError, UsageError

ROWS = np.array([4, 0, 0, 2])
COLUMNS = {"number": [10, 11, 12, 13, 14], "text": ["a", "b", None, "d", "e"]}
PICKED = {"number": [14, 10, 10, 12], "text": ["e", "a", "a", None]}


def test_pandas_keeps_its_index_and_types():
    table = pd.DataFrame({"number": [10, 11, 12, 13, 14], "text": list("abcde")}, index=list("vwxyz"))
    table["kind"] = table["text"].astype("category")
    taken = take_rows(table, ROWS)
    assert type(taken) is pd.DataFrame
    assert taken.index.tolist() == ["z", "v", "v", "x"]
    assert taken["number"].tolist() == [14, 10, 10, 12]
    assert (taken.dtypes == table.dtypes).all()
    series = take_rows(table["number"], ROWS)
    assert type(series) is pd.Series
    assert series.to_dict() == {"z": 14, "v": 10, "x": 12}


def test_polars_gives_polars():
    taken = take_rows(pl.DataFrame(COLUMNS), ROWS)
    assert type(taken) is pl.DataFrame
    assert taken.to_dict(as_series=False) == PICKED
    series = take_rows(pl.Series("number", COLUMNS["number"]), ROWS)
    assert type(series) is pl.Series
    assert series.to_list() == PICKED["number"]


def test_arrow_gives_arrow():
    table = pa.table(COLUMNS)
    (batch,) = table.to_batches()
    for data, kind in ((table, pa.Table), (batch, pa.RecordBatch)):
        taken = take_rows(data, ROWS)
        assert type(taken) is kind
        assert taken.to_pydict() == PICKED
        assert taken.schema == table.schema
    chunked = pa.chunked_array([COLUMNS["number"][:2], COLUMNS["number"][2:]])
    assert take_rows(chunked, ROWS).to_pylist() == PICKED["number"]
    assert take_rows(pa.array(COLUMNS["text"]), ROWS).to_pylist() == PICKED["text"]


def test_arrays_and_lists_give_their_own_type():
    matrix = np.arange(20).reshape(5, 4)
    np.testing.assert_array_equal(take_rows(matrix, ROWS), matrix[ROWS])
    assert take_rows(matrix.astype(np.float16), ROWS).dtype == np.float16
    assert take_rows(COLUMNS["text"], ROWS) == PICKED["text"]
    assert take_rows(tuple(COLUMNS["number"]), ROWS) == tuple(PICKED["number"])
    from scipy.sparse import csr_array

    taken = take_rows(csr_array(matrix), ROWS)
    assert taken.format == "csr"
    np.testing.assert_array_equal(taken.toarray(), matrix[ROWS])


def test_paths_and_datasets_give_arrow(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    for data in (path, str(path), Dataset.open(str(path))):
        taken = take_rows(data, ROWS)
        assert type(taken) is pa.Table
        assert taken.to_pydict() == PICKED


@pytest.mark.parametrize(
    "data",
    [pd.DataFrame(COLUMNS), pl.DataFrame(COLUMNS), pa.table(COLUMNS), np.zeros((5, 2)), [1, 2, 3, 4, 5]],
    ids=type,
)
def test_data_of_another_length_than_the_picks_were_made_among_are_refused(data):
    assert len(take_rows(data, ROWS, 5)) == 4
    with pytest.raises(UsageError, match="among 6 rows, this data has 5"):
        take_rows(data, ROWS, 6)


TABLES = {
    "pandas": lambda x: pd.DataFrame({"vec": list(x), "row": np.arange(len(x))}),
    "polars": lambda x: pl.DataFrame({"vec": x, "row": np.arange(len(x))}),
    "polars lists": lambda x: pl.DataFrame({"vec": [row.tolist() for row in x], "row": np.arange(len(x))}),
    "Arrow table": lambda x: pa.table({"vec": vectors(x), "row": np.arange(len(x))}),
    "Arrow batch": lambda x: pa.record_batch({"vec": vectors(x), "row": pa.array(np.arange(len(x)))}),
    "Arrow in chunks": lambda x: pa.concat_tables(
        [pa.table({"vec": vectors(part), "row": np.arange(len(part))}) for part in np.array_split(x, 7)]
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_table_is_a_dataset(name):
    x = normal(70_000 if name == "Arrow in chunks" else 2_000, 3)
    table = TABLES[name](x)
    assert is_table(table)
    dataset = table_dataset(table)
    assert dataset.n == len(x)
    assert dataset.schema.names == ["vec", "row"]
    blocks = FileBlocks(dataset, find_embedding(dataset, None, None))
    np.testing.assert_array_equal(np.concatenate(list(blocks.map(lambda block: block.x.copy()))), x)
    rows = np.array([len(x) - 1, 0, 0, 999])
    np.testing.assert_array_equal(blocks.take(rows), x[rows])
    assert dataset.fingerprint == table_dataset(TABLES[name](x)).fingerprint
    assert dataset.fingerprint != table_dataset(TABLES[name](x + 1)).fingerprint


def test_text_of_polars_can_be_taken():
    dataset = table_dataset(pl.DataFrame(COLUMNS))
    assert dataset.take(ROWS).to_pydict() == PICKED
    assert dataset.column("text").to_pylist() == COLUMNS["text"]


def test_arrays_become_tables_of_one_column():
    x = normal(6, 4)
    assert as_arrow(x).schema == pa.schema({"embedding": pa.list_(pa.float32(), 4)})
    np.testing.assert_array_equal(np.array(as_arrow(np.asfortranarray(x))["embedding"].to_pylist(), np.float32), x)
    assert as_arrow(np.array(["a", "b"])).to_pydict() == {"value": ["a", "b"]}


def test_the_index_and_notes_of_pandas_stay_outside():
    table = as_arrow(pd.DataFrame({"a": [1, 2]}, index=["x", "y"]))
    assert table.schema == pa.schema({"a": pa.int64()})
    assert table.schema.metadata is None


def test_what_is_no_table_is_not_taken_for_one():
    for thing in (np.zeros((2, 2)), [1, 2], "a.parquet", {"a": [1]}, None):
        assert not is_table(thing)


def test_a_table_without_rows_or_with_mixed_types_is_an_error():
    with pytest.raises(KofnError, match="no rows"):
        table_dataset(pa.table({"a": pa.array([], pa.int64())}))
    with pytest.raises(KofnError, match="cannot become Arrow"):
        table_dataset(pd.DataFrame({"a": [1, "x", [2]]}, dtype=object))

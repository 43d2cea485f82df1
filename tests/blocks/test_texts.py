"""CSV and JSONL are tables like any other: types that hold for every row, rows by number, and mistakes with their line."""

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn import KofnError
from kofn.blocks import texts
from kofn.blocks.dataset import Dataset

N = 500


def frame(n=N):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "name": [f'row "{at}", of\nmany' for at in range(n)],
            "x": rng.normal(size=n),
            "count": rng.integers(-5, 90, n),
            "city": rng.choice(["Bern", "Rome", "Oslo"], n),
            "yes": rng.random(n) < 0.5,
        }
    )


def write(path, table):
    """The table in the format of the path's ending."""
    name = str(path)
    if name.endswith((".csv", ".csv.gz")):
        table.to_csv(path, index=False)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path, row_group_size=77)
    else:
        table.to_json(path, orient="records", lines=True, double_precision=15)
    return name


FORMATS = ["x.csv", "x.csv.gz", "x.jsonl", "x.ndjson", "x.jsonl.gz"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Files of some KiB are read in many blocks."""
    monkeypatch.setattr(texts, "BLOCK", 1 << 12)


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_file_holds_what_was_written(name, tmp_path, small_blocks):
    table = frame()
    dataset = Dataset.open(write(tmp_path / name, table))
    assert dataset.n == N
    assert [str(kind) for kind in dataset.schema.types] == ["string", "double", "int64", "string", "bool"]
    found = dataset.take(np.array([N - 1, 0, 3])).to_pandas()
    expected = table.iloc[[N - 1, 0, 3]].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-13)


@pytest.mark.parametrize("name", FORMATS)
def test_the_picks_do_not_depend_on_the_format(name, tmp_path, small_blocks):
    table = frame().round({"x": 6})
    expected = kofn.select(write(tmp_path / "x.parquet", table), 9, method="kmeans", seed=3)
    for threads in (1, 3):
        found = kofn.select(write(tmp_path / name, table), 9, method="kmeans", seed=3, threads=threads)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.weights, expected.weights)


def types_of(tmp_path, *lines, name="x.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    dataset = Dataset.open(str(path))
    return dataset, [str(kind) for kind in dataset.schema.types]


@pytest.mark.parametrize(
    ("late", "expected"), [("2", "int64"), ("2.5", "double"), ("", "int64"), ("NaN", "int64"), ("two", "string")]
)
def test_the_last_row_has_a_say_in_the_type(tmp_path, small_blocks, late, expected):
    dataset, (kind, _) = types_of(tmp_path, "a,b", *["1,abc"] * 3_000, f"{late},abc")
    assert kind == expected
    assert sum(batch.num_rows for batch in dataset.read(0, dataset.n)) == 3_001
    first, last = dataset.take(np.array([0, 3_000]))["a"].to_pylist()
    assert str(first).startswith("1")
    assert last == {"2": 2, "2.5": 2.5, "two": "two"}.get(late)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", " 2"], "int64"),
        (["1e3", "-inf"], "double"),
        (["true", "FALSE", ""], "bool"),
        (["true", "1"], "string"),
        (["2020-01-31", "1999-12-01"], "date32[day]"),
        (["2020-01-31", "1999-12-01 10:00:05"], "timestamp[s]"),
        (["2020-01-31T00:00:00.25"], "timestamp[us]"),
        (["2020-01-31T00:00:00Z"], "timestamp[us, tz=UTC]"),
        (["00501", "12345"], "string"),
        (["0.5", "0"], "double"),
        (["0x1F", "12"], "string"),
        (["12345678901234567890", "1"], "string"),
        (["", "NA"], "null"),
        (["NA", "b"], "string"),
    ],
)
def test_types_are_those_that_lose_nothing(tmp_path, values, expected):
    assert types_of(tmp_path, "a,b", *[f"{value},x" for value in values])[1][0] == expected


def test_empty_text_is_null_and_other_text_stays_as_it_is(tmp_path):
    dataset, _ = types_of(tmp_path, "a,b", "x,1", ",2", "NA,3", " y ,4")
    assert dataset.column("a").to_pylist() == ["x", None, "NA", " y "]


def test_jsonl_keys_may_lack_and_numbers_may_be_of_both_kinds(tmp_path, small_blocks):
    lines = ['{"a": 1}'] * 900 + ['{"b": {"c": [1, 2]}}', "", '{"a": 1.5, "b": {"c": [0.5], "d": null}}'] * 200
    dataset, kinds = types_of(tmp_path, *lines, name="x.jsonl")
    assert dataset.n == 1_300
    assert kinds == ["double", "struct<c: list<item: double>, d: null>"]
    assert dataset.take(np.array([0, 900, 1_299])).to_pylist() == [
        {"a": 1.0, "b": None},
        {"a": None, "b": {"c": [1.0, 2.0], "d": None}},
        {"a": 1.5, "b": {"c": [0.5], "d": None}},
    ]


def test_vectors_in_jsonl_are_an_embedding(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"emb": row.tolist()}) for row in x))
    found = kofn.select(str(tmp_path / "x.jsonl"), 7, method="kmeans", seed=3)
    np.testing.assert_array_equal(found.indices, kofn.select(x, 7, method="kmeans", seed=3).indices)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_files_of_a_folder_settle_their_types_together(tmp_path, ending):
    parts = [pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), pd.DataFrame({"a": [0.5], "b": ["z"]})]
    for at, part in enumerate(parts):
        write(tmp_path / f"part-{at}.{ending}", part)
    dataset = Dataset.open(str(tmp_path))
    assert dataset.column("a").to_pylist() == [1.0, 2.0, 0.5]
    assert dataset.column("b").to_pylist() == ["x", "y", "z"]


def test_a_key_that_a_file_lacks_is_null_there(tmp_path):
    (tmp_path / "1.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "2.jsonl").write_text('{"b": "x", "a": 2}\n')
    assert Dataset.open(str(tmp_path)).take(np.arange(2)).to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_folders_may_spell_columns_of_text_files(tmp_path):
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        write(tmp_path / f"year={year}" / "x.csv", pd.DataFrame({"a": [year]}))
    dataset = Dataset.open(str(tmp_path))
    assert dataset.take(np.arange(2)).to_pylist() == [{"a": 2023, "year": "2023"}, {"a": 2024, "year": "2024"}]
    assert dataset.column("year").to_pylist() == ["2023", "2024"]


def test_text_beside_other_data_is_left_alone(tmp_path):
    write(tmp_path / "x.parquet", frame())
    write(tmp_path / "picks.csv", frame(3))
    assert Dataset.open(str(tmp_path)).names == ["x.parquet"]
    assert Dataset.open(str(tmp_path / "*")).names == ["x.parquet"]
    assert Dataset.open(str(tmp_path / "*.csv")).n == 3


@pytest.mark.parametrize("name", FORMATS)
def test_the_fingerprint_sees_every_byte(tmp_path, name):
    table = frame(20_000)
    one = Dataset.open(write(tmp_path / name, table)).fingerprint
    assert Dataset.open(write(tmp_path / name, table)).fingerprint == one
    table.loc[100, "count"] = {1: 2}.get(table.loc[100, "count"], 1) % 10
    assert Dataset.open(write(tmp_path / name, table)).fingerprint != one


def test_the_line_of_a_ragged_row_is_named_where_quotes_hold_line_ends(tmp_path, small_blocks):
    lines = ["a,b", *['1,"x\ny"'] * 700, "", "1,2,3", "1,2"]
    with pytest.raises(KofnError, match="line 1403 has not the 2 fields of the header but 3; mend it"):
        types_of(tmp_path, *lines)


def test_the_line_of_json_that_is_none_is_named(tmp_path, small_blocks):
    lines = ['{"a": 1}', ""] * 800
    with pytest.raises(KofnError, match="line 1603 cannot be read"):
        types_of(tmp_path, *lines, '{"a": 1}', "", '{"a": ', '{"a": 1}', name="x.jsonl")
    with pytest.raises(KofnError, match=r"line 1603 cannot be read .*changed from number to string"):
        types_of(tmp_path, *lines, '{"a": 1}', "", '{"a": "x"}', name="x.jsonl")


def test_json_of_two_types_in_two_blocks_is_an_error_that_names_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "BLOCK", len('{"a": 1}\n'))  # a line is a block
    with pytest.raises(KofnError, match="'a' holds int64 before line 3 and string after it"):
        types_of(tmp_path, '{"a": 1}', '{"a": 2}', '{"a":"x"}', name="x.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "cannot be read"),
        (b"a,b\n", "no rows"),
        (b"a,a\n1,2\n", "two columns named 'a'"),
        (b"a;b\n1;2\n", "seems to have ';' between its values; write it with commas"),
        (b'a,b\n1,"open\n1,2\n3,4\n', "a quote is left open in row 0, which takes up all that follows"),
        (
            b"a,b\n" + b"1,2\n" * 100_000 + b'1,"open\n' + b"1,2\n" * 1_000_000,
            "a row longer than 2 MiB; is a quote left open",
        ),
        (b"a,b\n1,\xff\xfe\n", "not UTF-8"),
        (b"a,b\n1\n", "line 2 has not the 2 fields of the header but 1"),
    ],
)
def test_a_csv_file_that_is_none_is_an_error(tmp_path, content, message):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(KofnError, match=message):
        Dataset.open(str(tmp_path / "x.csv"))


def test_gzip_that_is_cut_off_is_an_error(tmp_path):
    whole = gzip.compress("\n".join(["a,b", *[f"{at},{at * 7919 % 1009}" for at in range(9_000)]]).encode())
    (tmp_path / "x.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KofnError, match=r"x\.csv\.gz cannot be read"):
        Dataset.open(str(tmp_path / "x.csv.gz"))


def test_a_selection_from_text_is_verified(tmp_path):
    data = write(tmp_path / "x.csv", frame())
    selection = kofn.select(data, 9, label="city")
    selection.save(str(tmp_path / "o.parquet"), data)
    again = kofn.verify(str(tmp_path / "o.parquet"), data, rerun=True)
    assert again.passed, str(again)


def test_a_plan_counts_every_reading_of_a_text_file_as_the_whole_file(tmp_path):
    data = tmp_path / "x.csv"
    write(data, frame())
    plan = kofn.plan(str(data), 9, method="kmeans", features=["x", "count"])
    size = data.stat().st_size
    assert plan.reads["a_pass"] == size
    assert plan.reads["rows"] == plan.passes * size
    assert plan.reads["columns"] == size  # once, to fit both features
    assert plan.reads["footers"] == 2 * size


def test_semicolons_with_decimal_commas_are_told_as_what_they_are(tmp_path):
    (tmp_path / "a.csv").write_text("name;income;age\nx;1.234,5;3\ny;2,5;4\n")
    with pytest.raises(KofnError, match="seems to have ';' between its values"):
        Dataset.open(str(tmp_path / "a.csv"))

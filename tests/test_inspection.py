"""What inspect says of files is what is in them."""

import json
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn.blocks import FileBlocks
from kofn.cli import main
from kofn.errors import KofnError
from kofn.inspection import Column, inspect_data


def as_lists(x):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(x).reshape(-1)), x.shape[1])


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def write(path, x, group=1000, **columns):
    pq.write_table(pa.table({**columns, "emb": as_lists(x)}), path, row_group_size=group)
    return str(path)


# invalid rows


def test_invalid_rows_are_counted_by_kind_and_the_first_is_found_in_its_file(tmp_path):
    x = normal(500, 4)
    y = x.copy()
    y[30, 1], y[31, 0], y[31, 2], y[400] = np.nan, np.nan, np.inf, -np.inf
    write(tmp_path / "a.parquet", x, 300)
    write(tmp_path / "b.parquet", y, 300)
    health = inspect_data(str(tmp_path)).health
    assert (health.invalid, health.nan, health.infinite) == (3, 2, 1)
    assert health.first_invalid == 530
    assert health.where == "row 30 of b.parquet"


def test_null_rows_and_null_entries_are_invalid(tmp_path):
    lists = [[1.0, float(row)] for row in range(100)]
    lists[40], lists[60] = None, [None, 1.0]
    pq.write_table(pa.table({"emb": pa.array(lists, pa.list_(pa.float32()))}), tmp_path / "x.parquet")
    seen = inspect_data(str(tmp_path / "x.parquet"))
    assert (seen.health.invalid, seen.health.nan, seen.health.first_invalid) == (2, 2, 40)
    assert seen.health.distinct == 98
    assert seen.columns[0].nulls is None  # the pass tells null and NaN together


def test_a_sound_file_has_nothing_to_say(tmp_path):
    health = inspect_data(write(tmp_path / "x.parquet", normal(2000, 4))).health
    assert (health.invalid, health.first_invalid, health.where, health.zero, health.duplicates) == (0, None, None, 0, 0)
    assert (health.distinct, health.most_copies) == (2000, 1)


# duplicates


def test_repeated_rows_are_counted_as_unique_counts_them(tmp_path):
    x = np.random.default_rng(0).integers(0, 3, size=(70_000, 5)).astype(np.float32)  # 243 different rows
    _, copies = np.unique(x, axis=0, return_counts=True)
    health = inspect_data(write(tmp_path / "x.parquet", x, 30_000)).health
    assert (health.distinct, health.most_copies) == (len(copies), copies.max())
    assert health.duplicates == 70_000 - len(copies)


def test_rows_that_differ_in_one_number_or_its_place_are_different(tmp_path):
    x = np.zeros((6, 3), np.float32)
    x[1, 0] = x[2, 1] = x[3, 2] = 1.0
    x[4] = -0.0  # equal to row 0
    x[5, 0] = np.float32(1e-45)
    health = inspect_data(write(tmp_path / "x.parquet", x)).health
    assert (health.distinct, health.duplicates, health.most_copies) == (5, 1, 2)


def test_no_two_of_many_different_rows_are_taken_for_one(tmp_path):
    x = np.arange(300_000, dtype=np.float32).reshape(-1, 1) * np.ones(2, np.float32)
    assert inspect_data(write(tmp_path / "x.parquet", x, 100_000)).health.distinct == 300_000


def test_invalid_rows_repeat_nothing(tmp_path):
    x = normal(10, 2)
    x[3] = x[7] = np.nan
    health = inspect_data(write(tmp_path / "x.parquet", x)).health
    assert (health.distinct, health.duplicates) == (8, 0)


# lengths


def test_lengths_are_measured_and_unit_length_is_seen(tmp_path):
    x = normal(1001, 8)
    lengths = np.sqrt((x.astype(np.float64) ** 2).sum(axis=1))
    health = inspect_data(write(tmp_path / "x.parquet", x)).health
    np.testing.assert_allclose(health.norms, (lengths.min(), np.median(lengths), lengths.max()), rtol=1e-6)
    assert not health.unit
    unit = inspect_data(write(tmp_path / "u.parquet", (x / lengths[:, None]).astype(np.float16)))
    assert unit.health.unit
    assert "--metric cosine" in unit.suggestion["command"]


def test_zero_rows_are_counted_and_are_not_of_unit_length(tmp_path):
    x = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    x[[3, 9]] = 0
    health = inspect_data(write(tmp_path / "x.parquet", x)).health
    assert health.zero == 2
    assert not health.unit


# columns


def test_nulls_are_counted_with_and_without_statistics(tmp_path):
    columns = {
        "text": pa.array(["a", None, "c", None]),
        "number": pa.array([1, 2, 3, None]),
        "lists": pa.array([["a"], [None, "b"], None, []]),
        "emb": as_lists(normal(4, 2)),
    }
    expected = {"text": 2, "number": 1, "lists": 1, "emb": 0}
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "with.parquet", row_group_size=3)
    pq.write_table(table, tmp_path / "without.parquet", row_group_size=3, write_statistics=False)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("with.parquet", "without.parquet", "x.arrow"):
        found = {column.name: column.nulls for column in inspect_data(str(tmp_path / name)).columns}
        assert {**found, "emb": found["emb"] or 0} == expected
    assert inspect_data(str(tmp_path / "with.parquet")).columns[1] == Column("number", "int64", 1)


def test_the_embedding_is_found_among_other_columns(tmp_path):
    path = write(tmp_path / "x.parquet", normal(50, 6).astype(np.float16), text=pa.array(["a"] * 50))
    seen = inspect_data(path)
    assert (seen.embedding, seen.d, seen.dtype) == ("emb", 6, "float16")
    assert (seen.rows, seen.files) == (50, ["x.parquet"])
    assert seen.bytes == (tmp_path / "x.parquet").stat().st_size


def test_of_two_embeddings_none_is_guessed_but_one_can_be_named(tmp_path):
    path = write(tmp_path / "x.parquet", normal(50, 6), other=as_lists(normal(50, 3)))
    seen = inspect_data(path)
    assert seen.embedding is None
    assert seen.health is None
    assert "2 columns could be the embedding (other, emb)" in seen.notes[0]
    assert inspect_data(path, embedding="other").d == 3


def test_columns_that_could_be_a_vector_are_pointed_out(tmp_path):
    columns = {f"pca_{at}": pa.array(normal(20, 1)[:, 0]) for at in range(3)}
    columns |= {
        "raw": pa.array([bytes(16)] * 20, pa.binary(16)),
        "x1": pa.array(["a"] * 20),
        "x2": pa.array(["a"] * 20),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    *notes, features = inspect_data(path).notes
    assert features.startswith("features: 3 numbers; left out: raw (binary), x1 (constant), x2 (constant)")
    assert ["--embedding 'pca_*'" in note or "--embedding raw --dtype float32" in note for note in notes] == [True] * 2
    assert (inspect_data(path, embedding="pca_*").d, inspect_data(path, embedding="pca_*").embedding) == (3, "pca_*")
    assert inspect_data(path, dtype="float32").d == 4


def test_row_groups_are_counted_over_all_files(tmp_path):
    write(tmp_path / "a.parquet", normal(250, 2), 100)
    write(tmp_path / "b.parquet", normal(90, 2), 100)
    assert inspect_data(str(tmp_path)).groups == (4, 50, 100)


# the pass


def test_the_embedding_is_read_once_and_its_progress_is_told(tmp_path, monkeypatch):
    path = write(tmp_path / "x.parquet", normal(200_000, 2), 50_000)
    passes, told = [], []
    walk = FileBlocks.map
    monkeypatch.setattr(FileBlocks, "map", lambda self, *args, **kw: (passes.append(1), walk(self, *args, **kw))[1])
    monkeypatch.setattr(FileBlocks, "take", lambda self, rows: pytest.fail("rows were gathered"))
    inspect_data(path, progress=lambda *stage: told.append(stage))
    assert passes == [1]
    assert told[-1] == ("pass 1", 200_000, 200_000)


def test_threads_change_nothing(tmp_path):
    x = normal(150_000, 3)
    x[140_000] = x[5]
    path = write(tmp_path / "x.parquet", x, 20_000)
    assert inspect_data(path, threads=1).health == inspect_data(path, threads=4).health


def test_an_array_is_refused_with_what_can_be_inspected():
    with pytest.raises(KofnError, match="give a file, a folder, or a table"):
        inspect_data(np.eye(3))
    assert inspect_data(pa.table({"emb": as_lists(normal(9, 2))})).health.distinct == 9


# the suggestion


@pytest.mark.parametrize("kind", ["sound", "unit and invalid", "none", "named oddly"])
def test_the_suggested_command_runs_as_it_is_printed(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    x = normal(2000, 3)
    name = "x.parquet"
    if kind == "unit and invalid":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        x[7] = np.nan
    if kind == "named oddly":
        name = "my data (1).parquet"
    if kind == "none":
        pq.write_table(pa.table({"a": np.arange(500)}), name)
    else:
        write(name, x, 500)
    assert main(["inspect", name]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:3] == ["kofn", "select", name]
    assert main(command[1:]) == 0
    assert pq.read_metadata("subset.parquet").num_rows == (5 if kind == "none" else 20)


def test_the_suggestion_is_what_auto_chooses(tmp_path):
    path = write(tmp_path / "x.parquet", normal(2000, 3))
    seen = inspect_data(path).suggestion
    assert seen["method"] == kofn.select(path, "1%").provenance["method"]
    assert seen["k"] == 20
    assert seen["run"] in ("streamed", "in memory", "two rounds")
    assert seen["memory"] > 50 << 20


# the command


def test_the_command_prints_one_screen(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    x = normal(60_000, 3)
    x[9] = x[8]
    x[20] = np.nan
    path = write(tmp_path / "x.parquet", x, 20_000, text=pa.array(["a", None] * 30_000))
    assert main(["inspect", path]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines()[:-1])) <= 80
    text = " ".join(out.split())
    for words in (
        "60,000 rows",
        "3 of 20,000 rows",
        "text: string, 30,000 nulls",
        "emb: 3 x float32",
        "1 (1 with null or NaN, 0 with infinity), the first at row 20 (x.parquet)",
        "1 repeat an earlier row; the most frequent occurs 2 times",
        "unit length: no",
    ):
        assert words in text


def test_many_columns_are_cut_short_on_the_screen_but_not_in_json(tmp_path, capsys):
    columns = {f"c{at}": pa.array([1.0, 2.0]) for at in range(100)}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert main(["inspect", str(tmp_path / "x.parquet")]) == 0
    assert "100 columns in all" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "x.parquet"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["columns"]) == 100


def test_json_is_the_inspection(tmp_path, capsys):
    path = write(tmp_path / "x.parquet", normal(60_000, 3), 20_000)
    assert main(["inspect", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    seen = json.loads(json.dumps(inspect_data(path).to_dict()))
    del told["suggestion"]["memory"], seen["suggestion"]["memory"]  # holds what the process has taken so far
    assert told == seen

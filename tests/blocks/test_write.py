"""Output appears whole or not at all, and equal runs write equal bytes."""

import errno
import json
import os
import stat

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kofn.blocks.write import ENDINGS, check_output, write_table, write_whole
from kofn.errors import OutputError

TABLE = pa.table(
    {
        "text": ['ä, "b"', None, "c\nd"],
        "vec": pa.array([[1.5, 2.0], None, [3.0, 4.25]], pa.list_(pa.float32(), 2)),
        "kofn_index": pa.array([7, 0, 3], pa.int64()),
        "kofn_weight": [1.5, 2.5, 1e-9],
    }
).replace_schema_metadata({b"kofn": b'{"seed": 0}'})


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_tables_write_equal_bytes_and_leave_nothing_else(tmp_path, ending):
    for name in ("one", "two"):
        write_table(TABLE, str(tmp_path / f"{name}{ending}"))
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()
    assert listing(tmp_path) == [f"one{ending}", f"two{ending}"]


def test_parquet_and_arrow_hold_the_table_and_its_metadata(tmp_path):
    write_table(TABLE, str(tmp_path / "a.parquet"))
    write_table(TABLE, str(tmp_path / "a.arrow"))
    with pa.ipc.open_file(tmp_path / "a.arrow") as file:
        tables = [pq.read_table(tmp_path / "a.parquet"), file.read_all()]
    for table in tables:
        assert table.equals(TABLE)
        assert table.schema.metadata == TABLE.schema.metadata


def test_text_formats_hold_every_column(tmp_path):
    write_table(TABLE, str(tmp_path / "a.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == TABLE.to_pylist()
    write_table(TABLE, str(tmp_path / "a.csv"))
    import csv

    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ['ä, "b"', "", "c\nd"]
    assert [row["kofn_index"] for row in rows] == ["7", "0", "3"]
    assert json.loads(rows[2]["vec"]) == [3.0, 4.25]
    assert float(rows[2]["kofn_weight"]) == 1e-9


def test_npy_holds_the_row_numbers_alone(tmp_path):
    write_table(TABLE, str(tmp_path / "a.npy"))
    rows = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert rows.dtype == np.int64
    assert rows.tolist() == [7, 0, 3]


class Broken(Exception):
    pass


@pytest.mark.parametrize("error", [Broken("no"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_fill_that_fails_leaves_no_file_and_the_old_one_as_it_was(tmp_path, error):
    def fill(file):
        file.write(b"half of it")
        raise error

    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_whole(str(tmp_path / "new.npy"), fill, force=False)
    assert listing(tmp_path) == []
    (tmp_path / "old.npy").write_bytes(b"before")
    with pytest.raises(expected):
        write_whole(str(tmp_path / "old.npy"), fill, force=True)
    assert (tmp_path / "old.npy").read_bytes() == b"before"
    assert listing(tmp_path) == ["old.npy"]


def test_a_full_disk_is_an_error_that_says_so(tmp_path):
    def fill(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"a\.npy' could not be written: No space left on device; free room"):
        write_whole(str(tmp_path / "a.npy"), fill, force=False)


def test_nothing_is_seen_at_the_name_before_it_is_whole(tmp_path):
    seen = []

    def fill(file):
        file.write(b"all of it")
        seen.append((tmp_path / "a.npy").exists())

    write_whole(str(tmp_path / "a.npy"), fill, force=False)
    assert seen == [False]
    assert (tmp_path / "a.npy").read_bytes() == b"all of it"


def test_a_file_that_exists_is_overwritten_only_by_force(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"a\.npy' exists.*--force"):
        write_table(TABLE, str(path))
    assert path.read_bytes() == b"mine"
    write_table(TABLE, str(path), force=True)
    assert np.load(path).tolist() == [7, 0, 3]
    assert listing(tmp_path) == ["a.npy"]


def test_the_file_has_the_rights_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").touch()
    write_table(TABLE, str(tmp_path / "a.csv"))
    rights = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.csv")]
    assert rights[0] == rights[1]


def test_a_place_where_nothing_can_be_written_is_an_error_before_anything_is(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    mistakes = {
        "no/such/a.parquet": r"the folder .*no/such' does not exist.*mkdir -p",
        "a.xlsx": r"ends in '\.xlsx'; kofn writes \.parquet",
        "plain": r"has no ending; kofn writes",
        ".": "is a folder",
        "file/a.csv": "is a file, not a folder",
    }
    for name, words in mistakes.items():
        with pytest.raises(OutputError, match=words):
            write_table(TABLE, f"{tmp_path}/{name}", force=True)
    assert listing(tmp_path) == ["file"]


def test_a_folder_without_the_right_to_write_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK))  # root may write anywhere
    with pytest.raises(OutputError, match="cannot be written to"):
        check_output(str(tmp_path / "a.csv"), force=False)


def test_a_tilde_is_the_home_folder_and_endings_can_be_others(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_output("~/a.html", force=False, endings=(".html",)) == tmp_path / "a.html"
    write_table(TABLE, "~/a.csv")
    assert listing(tmp_path) == ["a.csv"]


def test_a_table_without_rows_is_written(tmp_path):
    for ending in ENDINGS:
        write_table(TABLE.slice(0, 0), str(tmp_path / f"a{ending}"))
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0
    assert np.load(tmp_path / "a.npy").shape == (0,)


def test_what_a_killed_run_left_a_day_ago_is_deleted_and_what_another_writes_now_is_not(tmp_path):
    old, new, foreign = (tmp_path / f".{name}.part" for name in ("o.parquet.abc", "o.parquet.def", "p.parquet.abc"))
    for left in (old, new, foreign):
        left.write_bytes(b"half")
    for left in (old, foreign):
        os.utime(left, (0, 0))
    write_table(pa.table({"kofn_index": [1, 2]}), str(tmp_path / "o.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, foreign.name, "o.parquet"]

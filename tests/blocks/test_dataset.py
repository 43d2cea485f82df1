"""Many files as one numbered table."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kofn.blocks.dataset import Dataset, digest_rows
from kofn.errors import DataError, UsageError

SIZES = {"a.parquet": 700, "b.arrow": 0, "c.parquet": 1, "d/e.arrow": 5_000, "d/f.parquet": 0, "d/g.parquet": 4_299}
N = 10_000


def numbered(start, stop):
    rows = np.arange(start, stop)
    return pa.table(
        {
            "row": rows,
            "text": pa.array([f"row {row}" for row in rows], pa.string()),
            "maybe": pa.array([None if row % 3 == 0 else row / 2 for row in rows], pa.float64()),
            "lists": pa.array([[row, row + 1] for row in rows], pa.list_(pa.int64())),
            "kind": pa.array([f"kind {row % 5}" for row in rows], pa.string()),
        }
    )


def write(path, table, group=300):
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=group)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=group)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, start = tmp_path_factory.mktemp("data"), 0
    for name, rows in SIZES.items():
        write(root / name, numbered(start, start + rows))
        start += rows
    return root


def test_rows_are_numbered_over_files_in_order_of_their_path(folder):
    dataset = Dataset.open(str(folder))
    assert dataset.names == list(SIZES)
    assert dataset.n == N
    assert dataset.column("row").to_pylist() == list(range(N))
    assert dataset.describe() == "a.parquet and 5 more"
    assert dataset.nbytes == sum((folder / name).stat().st_size for name in SIZES)


def test_groups_tile_the_rows_and_know_their_files(folder):
    dataset = Dataset.open(str(folder))
    assert [group.start for group in dataset.groups] == [0, *(group.stop for group in dataset.groups[:-1])]
    assert dataset.groups[-1].stop == N
    assert all(group.rows for group in dataset.groups)
    for row in (0, 299, 300, 699, 700, 701, 5_700, 5_701, N - 1):
        group = dataset.groups[dataset.group_at(row)]
        assert group.start <= row < group.stop
    assert dataset.place_of(699) == "row 699 of a.parquet"
    assert dataset.place_of(700) == "row 0 of c.parquet"
    assert dataset.place_of(N - 1) == "row 4298 of d/g.parquet"
    assert Dataset.open(str(folder / "a.parquet")).place_of(5) == "a.parquet"


def test_any_run_of_rows_is_read_in_order(folder):
    dataset = Dataset.open(str(folder))
    rng = np.random.default_rng(0)
    runs = [
        (0, N),
        (0, 1),
        (N - 1, N),
        (699, 702),
        (300, 600),
        *(sorted(rng.choice(N + 1, 2, replace=False)) for _ in range(30)),
    ]
    for start, stop in runs:
        batches = list(dataset.read(int(start), int(stop), ["text", "row"]))
        assert all(batch.schema.names == ["text", "row"] and batch.num_rows for batch in batches)
        assert np.concatenate([batch.column(1) for batch in batches]).tolist() == list(range(start, stop))
    (batch,) = dataset.read(3, 5)
    assert batch.to_pydict() == numbered(3, 5).to_pydict()


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_taken_in_the_order_asked_with_duplicates(folder, threads):
    dataset, rng = Dataset.open(str(folder)), np.random.default_rng(1)
    everything = numbered(0, N)
    for rows in ([N - 1, 0, 700, 0, 0, 5_701], [], [4_000], rng.integers(0, N, 3_000), rng.permutation(N)):
        rows = np.array(rows, np.int64)
        table = dataset.take(rows, threads=threads)
        assert table.schema.equals(everything.schema)
        assert table.equals(everything.take(pa.array(rows)))
    assert dataset.take(np.array([2, 1]), ["lists"]).to_pydict() == {"lists": [[2, 3], [1, 2]]}


def test_rows_that_are_not_there_are_an_error_that_names_one(folder):
    dataset = Dataset.open(str(folder))
    for row in (-1, N, N + 7):
        with pytest.raises(UsageError, match=f"row {row} is not among the 10000 rows of a.parquet and 5 more"):
            dataset.take(np.array([5, row]))


def test_columns_of_many_kinds_survive_being_taken(tmp_path):
    from datetime import datetime
    from decimal import Decimal

    columns = {
        "dictionary": pa.array(["x", "y", None, "x"]).dictionary_encode(),
        "struct": pa.array([{"a": 1, "b": [1.5]}, None, {"a": None, "b": []}, {"a": 4, "b": None}]),
        "decimal": pa.array([Decimal("1.50"), None, Decimal("-3.25"), Decimal("0.01")]),
        "time": pa.array([datetime(2026, 1, day) for day in (1, 2, 3, 4)]),
        "binary": pa.array([b"\x00\xff", b"", None, b"abc"]),
        "large": pa.array(["a", "bb", None, ""], pa.large_string()),
        "fixed": pa.array([[1, 2], None, [3, None], [5, 6]], pa.list_(pa.int16(), 2)),
        "map": pa.array([[("k", 1)], [], None, [("l", 2)]], pa.map_(pa.string(), pa.int64())),
        "null": pa.nulls(4),
    }
    table = pa.table(columns)
    for name in ("a.parquet", "a.arrow"):
        write(tmp_path / name, table, group=2)
        taken = Dataset.open(str(tmp_path / name)).take(np.array([3, 1, 2, 1]))
        assert taken.to_pylist() == table.take(pa.array([3, 1, 2, 1])).to_pylist()


def test_an_unknown_column_is_an_error_with_its_neighbours(folder):
    dataset = Dataset.open(str(folder))
    dataset.check_column("kind", "group")
    with pytest.raises(DataError, match=r"group='kinds' is not a column of a.parquet and 5 more; did you mean kind"):
        dataset.check_column("kinds", "group")
    with pytest.raises(DataError, match="columns: row, text, maybe, lists, kind"):
        dataset.check_column("zzz", "score")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"row": [1.5], "text": ["x"]}, "differ in row"),
        ({"row": [1]}, "differ in text"),
        ({"row": [1], "text": ["x"], "more": [0]}, "differ in more"),
    ],
)
def test_files_with_different_columns_are_an_error_that_names_them(tmp_path, other, words):
    write(tmp_path / "a.parquet", pa.table({"row": [0], "text": ["x"]}))
    write(tmp_path / "b.parquet", pa.table(other))
    with pytest.raises(DataError, match=rf"b\.parquet and a\.parquet do not have the same columns \({'.*' + words}"):
        Dataset.open(str(tmp_path))


def test_the_order_of_columns_is_that_of_the_first_file(tmp_path):
    write(tmp_path / "a.parquet", pa.table({"row": [0, 1], "text": ["a", "b"]}))
    write(tmp_path / "b.parquet", pa.table({"text": ["c"], "row": [2]}))
    dataset = Dataset.open(str(tmp_path))
    assert dataset.take(np.array([2, 0])).to_pydict() == {"row": [2, 0], "text": ["c", "a"]}
    assert pa.Table.from_batches(dataset.read(0, 3)).to_pydict() == {"row": [0, 1, 2], "text": ["a", "b", "c"]}


def test_no_rows_at_all_are_an_error(tmp_path):
    write(tmp_path / "a.parquet", numbered(0, 0))
    with pytest.raises(DataError, match=r"a\.parquet has no rows"):
        Dataset.open(str(tmp_path))


def test_the_fingerprint_changes_with_contents_and_names_and_with_nothing_else(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name / "a.parquet", numbered(0, 50))
        write(tmp_path / name / "b.parquet", numbered(50, 90))
    first = Dataset.open(str(tmp_path / "one")).fingerprint
    assert Dataset.open(str(tmp_path / "two")).fingerprint == first
    assert Dataset.open(str(tmp_path / "two" / "*.parquet")).fingerprint == first
    write(tmp_path / "two" / "b.parquet", numbered(51, 91))
    changed = Dataset.open(str(tmp_path / "two")).fingerprint
    write(tmp_path / "two" / "b.parquet", numbered(50, 90))
    (tmp_path / "two" / "b.parquet").rename(tmp_path / "two" / "c.parquet")
    renamed = Dataset.open(str(tmp_path / "two")).fingerprint
    assert len({first, changed, renamed}) == 3


def test_a_digest_is_of_contents_whatever_chunks_and_offsets_they_lie_in():
    table = numbered(0, 60)
    same = [
        pa.concat_tables([table.slice(0, 7), table.slice(7, 1), table.slice(8)]),
        numbered(-5, 70).slice(5, 60),
        numbered(0, 60).take(pa.array(range(60))),
    ]
    assert {digest_rows(each) for each in same} == {digest_rows(table)}
    different = [
        table.slice(1),
        table.rename_columns(["row", "words", "maybe", "lists", "kind"]),
        table.set_column(0, "row", pa.array(range(60), pa.int32())),
        table.set_column(2, "maybe", pa.array([0.0] * 60)),
        pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)]),
    ]
    assert len({digest_rows(each) for each in [table, *different]}) == 6
    assert digest_rows(table.slice(0, 0)) != digest_rows(table)

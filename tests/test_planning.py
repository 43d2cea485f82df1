"""The plan tells the truth: bytes as counted by hand, memory that is never exceeded, runs as they will be."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn.blocks import FileBlocks, Run
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.blocks.footers import Footers
from kofn.cli import main
from kofn.core.block import SLAB
from kofn.errors import KofnError
from kofn.footprint import bytes_of_pass
from kofn.planning import duration, size
from kofn.probing import Probe


def write(path, n, d, group, **columns):
    x = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), d)
    scores = pa.array(np.linspace(0.5, 1.5, n))
    table = pa.table({"score": scores, "emb": vectors, **columns})
    pq.write_table(table, path, row_group_size=group, compression="none", use_dictionary=False)
    return str(path)


def chunk_sizes(path, *leaves):
    """Bytes of column chunks, (groups, leaves), as the footer has them."""
    metadata = pq.read_metadata(path)
    return np.array(
        [
            [metadata.row_group(at).column(leaf).total_compressed_size for leaf in leaves]
            for at in range(metadata.num_row_groups)
        ]
    )


def read_by_this_process():
    """Bytes that this process has asked the system to read."""
    with open("/proc/self/io") as counts:
        return int(counts.readline().split()[1])


def starts_of(block):
    return block.start


# bytes


def test_a_pass_over_groups_as_long_as_slabs_reads_the_column_once(tmp_path):
    path = write(tmp_path / "x.parquet", 3 * SLAB, 4, SLAB)
    planned = kofn.plan(path, 10, method="kmeans")
    assert planned.reads["a_pass"] == chunk_sizes(path, 1).sum()
    assert planned.passes == 2
    assert planned.reads["rows"] == 2 * chunk_sizes(path, 1).sum()


def test_a_pass_reads_every_group_once_however_large_the_groups_are(tmp_path):
    for rows in (1_000, 70_000, 150_000):
        path = write(tmp_path / f"{rows}.parquet", 150_000, 4, rows)
        assert bytes_of_pass(Footers(Dataset.open(path)), ("emb",), None) == chunk_sizes(path, 1).sum()


@pytest.mark.parametrize("group", [10_000, 70_000, 200_000])
def test_the_bytes_of_a_pass_are_those_that_a_pass_reads(tmp_path, group):
    path = write(tmp_path / "x.parquet", 200_000, 8, group)
    dataset = Dataset.open(path)
    blocks = FileBlocks(dataset, find_embedding(dataset, None, None), run=Run(2))
    list(blocks.map(starts_of))  # whatever is imported or mapped at first is read now
    before = read_by_this_process()
    list(blocks.map(starts_of))
    read = read_by_this_process() - before
    assert read == pytest.approx(bytes_of_pass(Footers(dataset), ("emb",), None), rel=0.01)


def test_a_group_that_is_left_early_is_read_buffer_by_buffer(tmp_path):
    # One group of 35 MB; the rows that are kept end after a fifth of it: 7 MB, hence one buffer of 8 MiB.
    path = write(tmp_path / "x.parquet", 550_000, 16, 1_000_000)
    footers = Footers(Dataset.open(path))
    assert chunk_sizes(path, 1).sum() > 32 << 20
    assert bytes_of_pass(footers, ("emb",), np.arange(110_000)) == 8 << 20


def test_columns_and_picks_are_counted_from_the_footer(tmp_path):
    path = write(tmp_path / "x.parquet", 1000, 4, 300, name=pa.array([f"row {row}" for row in range(1000)]))
    reads = kofn.plan(path, 2, method="top", score="score", label="name").reads
    assert reads["rows"] == reads["a_pass"] * 0
    assert reads["columns"] == chunk_sizes(path, 0, 2).sum()
    assert reads["picks"] == np.sort(chunk_sizes(path, 0, 1, 2).sum(axis=1))[-2:].sum()  # two groups hold two picks
    assert reads["total"] == reads["columns"] + reads["picks"] + reads["footers"]


def test_several_files_and_columns_of_a_glob_are_added_up(tmp_path):
    for name in ("a", "b"):
        columns = {f"pca_{at}": pa.array(np.arange(500) * 1.0) for at in range(3)}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    planned = kofn.plan(str(tmp_path), 10, method="kmeans", embedding="pca_*")
    assert planned.d == 3
    assert planned.reads["a_pass"] == sum(chunk_sizes(tmp_path / f"{name}.parquet", 0, 1, 2).sum() for name in "ab")


def test_rows_in_memory_are_not_read_from_a_disk():
    planned = kofn.plan(np.eye(50), 5, method="kmeans")
    assert planned.reads["total"] == 0
    assert "nothing from disk" in str(planned)


def test_looking_for_invalid_rows_is_a_pass_more(tmp_path):
    path = write(tmp_path / "x.parquet", 1000, 4, 300)
    assert kofn.plan(path, 5, method="kmeans", invalid="drop").passes == 3
    assert kofn.plan(path, 5, method="uniform", invalid="drop").passes == 0


@pytest.mark.parametrize("method", ["uniform", "kmeans", "sensitivity", "hierarchical", "kcenter", "kmeans++"])
def test_no_method_reads_the_rows_more_often_than_planned(tmp_path, monkeypatch, method):
    path = write(tmp_path / "x.parquet", 3000, 4, 1000)
    planned = kofn.plan(path, 10, method=method)
    count = []
    for name in ("map", "take"):
        verb = getattr(FileBlocks, name)
        monkeypatch.setattr(
            FileBlocks, name, lambda self, *args, _verb=verb, **kw: (count.append(1), _verb(self, *args, **kw))[1]
        )
    kofn.select(path, 10, method=method)
    assert len(count) <= planned.passes
    assert planned.passes == 0 or count


# memory

MEASURED = """
import sys, kofn
options = dict(option.split("=") for option in sys.argv[3:])
planned = kofn.plan(sys.argv[1], 60, method=sys.argv[2], **options)
kofn.select(sys.argv[1], 60, method=sys.argv[2], **options).to_arrow(sys.argv[1])
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(planned.memory["total"], peak * 1024, planned.run)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write(tmp_path_factory.mktemp("large") / "large.parquet", 200_000, 64, 65_536)


@pytest.mark.parametrize(
    ("method", "options", "run"),
    [
        ("uniform", ["score=score"], "streamed"),
        ("sensitivity", [], "streamed"),
        ("kcenter", [], "in memory"),
        ("kcenter", ["memory=160MiB", "metric=cosine"], "two rounds"),
    ],
)
def test_the_process_never_holds_more_than_planned(large, method, options, run):
    command = [sys.executable, "-c", MEASURED, large, method, *options]
    out = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout.split(maxsplit=2)
    bound, peak = int(out[0]), int(out[1])
    assert out[2].strip() == run
    assert peak <= bound
    assert bound <= 4 * peak  # a bound that says something


def test_the_parts_of_the_memory_make_up_its_total(large):
    held = dict(kofn.plan(large, 300, method="kmeans").memory)
    total = held.pop("total")
    assert total == pytest.approx(1.05 * sum(held.values()), rel=1e-6)
    assert held["rows"] >= 4 * 65_536 * 64 * 4  # four slabs of float32: two threads or more, one ahead, one in hand


# how it will run


def test_a_method_that_does_not_fit_is_planned_in_two_rounds_as_select_runs_it(tmp_path):
    x = np.random.default_rng(0).normal(size=(40_000, 16)).astype(np.float32)
    planned = kofn.plan(x, 20, method="kcenter", memory="75MiB")
    chosen = kofn.select(x, 20, method="kcenter", memory="75MiB")
    assert planned.run == "two rounds"
    assert planned.part == chosen.provenance["run"]["part"]
    assert planned.parts == -(-40_000 // planned.part) > 1
    assert planned.guarantee == chosen.provenance["run"]["guarantee"]
    assert f"parts of {planned.part:,} rows" in str(planned)
    assert kofn.plan(x, 20, method="kcenter").run == "in memory"
    assert kofn.plan(x, 20, method="kmeans").run == "streamed"


def test_a_plan_is_refused_where_the_selection_would_be():
    x = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    for wrong in (
        {"k": 0},
        {"method": "unknown"},
        {"method": "kmeans", "clusters": 3},
        {"method": "top"},
        {"method": "kmeans", "memory": "1KiB"},
        {"threads": 0},
        {"seed": -1},
        {"have": [5000]},
        {"invalid": "mend"},
        {"engine": "dask"},
    ):
        given = {"k": 10, "method": "uniform", **wrong}
        with pytest.raises(KofnError) as planned:
            kofn.plan(x, **given)
        with pytest.raises(KofnError) as chosen:
            kofn.select(x, **given)
        assert str(planned.value) == str(chosen.value)


def test_planning_chooses_nothing_and_changes_nothing(tmp_path):
    path = write(tmp_path / "x.parquet", 500, 4, 100)
    x = np.random.default_rng(1).normal(size=(500, 4))
    before = x.copy(), sorted(os.listdir(tmp_path))
    kofn.plan(x, 10, method="kcenter")
    kofn.plan(path, 10, method="kcenter")
    np.testing.assert_array_equal(x, before[0])
    assert sorted(os.listdir(tmp_path)) == before[1]


# time


def test_time_is_a_range_from_a_trial_of_the_method_itself():
    planned = kofn.plan(np.random.default_rng(0).normal(size=(40_000, 8)), 50, method="kmeans")
    low, high = planned.seconds
    assert 0 < low < high
    assert planned.probe["rows"] == 4096
    assert planned.probe["picks"] == 50
    assert "not a promise" in str(planned)


def test_work_grows_with_the_rows_or_with_their_square_as_the_trial_says():
    linear = Probe(rows=1000, picks=10, half=0.5, whole=1.0)
    square = Probe(rows=1000, picks=10, half=0.25, whole=1.0)
    assert linear.working(10_000, 10, parts=1, streams=False) == pytest.approx((2.5, 30.0))
    assert square.working(10_000, 10, parts=1, streams=False) == pytest.approx((2.5, 300.0))
    assert square.working(10_000, 10, parts=1, streams=True) == pytest.approx((2.5, 30.0))
    assert square.working(10_000, 10, parts=10, streams=False) == pytest.approx(
        (2.5, 30.0)
    )  # each part is as the trial
    assert linear.working(10_000, 40, parts=1, streams=False) == pytest.approx((2.5, 120.0))  # four times the picks


def test_reading_lies_between_all_readers_at_their_best_and_one_at_its_worst():
    probe = Probe(first=4e-6, again=1e-6)
    assert probe.reading(1_000_000, passes=2, readers=2) == pytest.approx((1.0, 8.0))


def test_where_the_method_cannot_be_tried_no_time_is_claimed(tmp_path):
    n = 40_000
    scores = np.zeros(n)
    scores[1::2] = 1.0
    scores[: n - 100] *= np.arange(n - 100) % 7 == 9  # the first rows have no chance at all
    planned = kofn.plan(np.ones((n, 2)), 5, method="uniform", score=scores)
    assert planned.seconds is None or planned.probe["rows"] > 0
    everywhere = kofn.plan(np.full((n, 2), np.nan), 5, method="kmeans")
    assert everywhere.seconds is None
    assert "not measured" in str(everywhere)
    assert "NaN" in str(everywhere)


def test_amounts_read_well():
    assert [size(amount) for amount in (0, 900, 1536, 3 << 20, 1.5 * 2**30, 2**41)] == [
        "0 B", "900 B", "1.5 KiB", "3 MiB", "1.5 GiB", "2 TiB",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (0.04, 2.34, 99.6, 300, 9000)] == [
        "0.0 s",
        "2.3 s",
        "100 s",
        "5 min",
        "2 h",
    ]


# the command


def test_the_command_prints_one_screen_on_stdout(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = write(tmp_path / "x.parquet", 3000, 4, 1000)
    assert main(["plan", path, "-k", "1%", "--method", "kmeans", "--set", "rounds=3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 80
    text = " ".join(out.split())
    for words in ("30 of 3,000 rows by kmeans", "rounds=3", "streamed", "2 passes", "at most", "not a promise"):
        assert words in text


def test_json_is_the_plan(tmp_path, capsys):
    path = write(tmp_path / "x.parquet", 3000, 4, 1000)
    assert main(["plan", path, "-k", "30", "--method", "kmeans", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    planned = kofn.plan(path, 30, method="kmeans").to_dict()
    assert told.keys() == planned.keys()
    for name in ("method", "parameters", "n", "d", "k", "run", "part", "parts", "passes", "reads", "limit"):
        assert told[name] == planned[name]

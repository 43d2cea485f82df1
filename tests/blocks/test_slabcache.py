"""Slabs come out of a cache as they come out of the files, bit for bit; what is not whole there is made anew."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

import kofn
from blocks.laying import normal, table_of, write_npy, write_parquet, write_seven
from kofn.blocks import FileBlocks, RayBlocks, Run
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.blocks.slabcache import DIGEST, STALE
from kofn.core.block import SLAB
from kofn.errors import DataError, OutputError, UsageError
from kofn.planning import plan

N = 3 * SLAB + 7


def door(path, cache=None, threads=2, *, columns=None, binary=None, **options):
    dataset = Dataset.open(str(path))
    run = Run(threads, cache=None if cache is None else str(cache))
    return FileBlocks(dataset, find_embedding(dataset, columns, binary), run=run, **options)


def bytes_of(block):
    return block.start, block.x.dtype.name, block.x.tobytes()


def slabs_of(blocks):
    return list(blocks.map(bytes_of))


def files_in(cache):
    """The slabs' files, by name; nothing else lies there."""
    (folder,) = Path(cache).iterdir()
    found = {path.name: path for path in folder.iterdir()}
    assert not [name for name in found if name.startswith(".")]
    return dict(sorted(found.items()))


@pytest.fixture
def reads(monkeypatch):
    """The runs of rows that are read from files."""
    found, read = [], Dataset.read
    monkeypatch.setattr(Dataset, "read", lambda self, a, b, *rest: (found.append((a, b)), read(self, a, b, *rest))[1])
    return found


# the same bits


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("layout", ["groups", "one group", "seven files", ".npy"])
def test_a_cache_cold_or_warm_gives_the_bytes_of_the_files(tmp_path, reads, layout, threads):
    x = normal(N, 2)
    path = {
        "groups": lambda: write_parquet(tmp_path / "a.parquet", x, 50_000),
        "one group": lambda: write_parquet(tmp_path / "a.parquet", x),
        "seven files": lambda: write_seven(tmp_path / "seven", x, 30_000),
        ".npy": lambda: write_npy(tmp_path / "a.npy", x),
    }[layout]()
    expected = slabs_of(door(path, threads=1))
    assert slabs_of(door(path, tmp_path / "c", threads)) == expected  # cold
    assert list(files_in(tmp_path / "c")) == [f"{slab:07d}.float32" for slab in range(4)]
    reads.clear()
    assert slabs_of(door(path, tmp_path / "c", threads)) == expected  # warm
    assert reads == []


SOURCES = ["float16", "float32", "float64", "int8", "uint8", "int32"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("asked", [np.float32, np.float64])
def test_numbers_lie_as_narrow_as_in_the_file_and_come_back_as_they_came(tmp_path, source, asked):
    x = (40 * np.abs(normal(SLAB + 5, 3))).astype(source)
    path = write_parquet(tmp_path / "a.parquet", x, 30_000)
    expected = slabs_of(door(path, dtype=asked))
    for _ in range(2):
        assert slabs_of(door(path, tmp_path / "c", dtype=asked)) == expected
    kept = {"float64": np.dtype(asked).name, "int32": np.dtype(asked).name}.get(source, source)
    sizes = [path.stat().st_size for path in files_in(tmp_path / "c").values()]
    assert list(files_in(tmp_path / "c")) == [f"{slab:07d}.{kept}" for slab in range(2)]
    assert sizes == [rows * 3 * np.dtype(kept).itemsize + DIGEST for rows in (SLAB, 5)]


def test_doors_of_two_types_share_what_is_narrow_and_keep_the_rest_apart(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(100, 2).astype(np.float64))
    for dtype in (np.float32, np.float64):
        expected = slabs_of(door(path, dtype=dtype))
        for _ in range(2):
            assert slabs_of(door(path, tmp_path / "c", dtype=dtype)) == expected
    assert list(files_in(tmp_path / "c")) == ["0000000.float32", "0000000.float64"]


@pytest.mark.parametrize("source", ["float16", "float32", "int8"])
def test_nulls_nan_and_infinity_come_back_bit_for_bit(tmp_path, source):
    x = np.arange(40).reshape(20, 2).astype(source)
    if source != "int8":
        bits = x.view(f"u{x.itemsize}")
        bits[3:5] = np.array([[np.inf, -np.inf], [np.nan, -0.0]], source).view(bits.dtype)
        bits[5, 0] |= np.array(np.nan, source).view(bits.dtype) + bits.dtype.type(5)  # NaN that carries something
    lists = [None if row in (0, 7) else x[row] for row in range(20)]
    column = pa.array(lists, pa.list_(pa.from_numpy_dtype(x.dtype), 2))
    pq.write_table(pa.table({"embedding": column}), tmp_path / "a.parquet")
    expected = slabs_of(door(tmp_path / "a.parquet", check=False))
    for _ in range(2):
        assert slabs_of(door(tmp_path / "a.parquet", tmp_path / "c", check=False)) == expected
    # Integers have no NaN: such a slab lies as it was asked for.
    assert list(files_in(tmp_path / "c")) == [f"0000000.{'float32' if source == 'int8' else source}"]


@pytest.mark.parametrize("threads", [1, 2])
def test_kept_rows_have_slabs_of_their_own(tmp_path, reads, threads):
    path = write_parquet(tmp_path / "a.parquet", normal(N, 2), 50_000)
    kept = np.flatnonzero(np.arange(N) % 3 != 1)
    slabs_of(door(path, tmp_path / "c"))
    expected = slabs_of(door(path, kept=kept))
    assert slabs_of(door(path, tmp_path / "c", threads, kept=kept)) == expected
    reads.clear()
    assert slabs_of(door(path, tmp_path / "c", threads, kept=kept)) == expected
    assert slabs_of(door(path, tmp_path / "c", threads)) == slabs_of(door(path))
    assert len(os.listdir(tmp_path / "c")) == 2


def test_csv_and_binary_columns_are_kept(tmp_path, reads):
    x = normal(70_000, 2).astype(np.float32)
    csv.write_csv(pa.table({"x0": x[:, 0], "x1": x[:, 1]}), tmp_path / "a.csv")
    binary = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4), len(x), [None, pa.py_buffer(x.astype(np.float16))])
    pq.write_table(pa.table({"embedding": binary}), tmp_path / "b.parquet")
    for name, given in (("a.csv", {"columns": "x*"}), ("b.parquet", {"columns": "embedding", "binary": "float16"})):
        expected = slabs_of(door(tmp_path / name, **given))
        assert slabs_of(door(tmp_path / name, tmp_path / name[:1], **given)) == expected
        reads.clear()
        assert slabs_of(door(tmp_path / name, tmp_path / name[:1], **given)) == expected
        assert reads == []


def test_a_metric_is_applied_after_the_cache(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(1000, 5))
    slabs_of(door(path, tmp_path / "c", metric="cosine"))
    assert slabs_of(door(path, tmp_path / "c")) == slabs_of(door(path))
    assert slabs_of(door(path, tmp_path / "c", metric="cosine")) == slabs_of(door(path, metric="cosine"))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_rows_taken_by_number_come_out_of_the_cache(tmp_path, reads, metric):
    path = write_parquet(tmp_path / "a.parquet", normal(N, 2), 50_000)
    rows = np.array([N - 1, 0, 70_001, 70_001, 3, SLAB, SLAB - 1])
    expected = door(path, metric=metric).take(rows).tobytes()
    assert door(path, tmp_path / "c", metric=metric).take(rows).tobytes() == expected
    assert list(files_in(tmp_path / "c")) == ["0000000.float32", "0000001.float32", "0000003.float32"]
    reads.clear()
    assert door(path, tmp_path / "c", metric=metric).take(rows).tobytes() == expected
    assert reads == []
    assert door(path, tmp_path / "c").take(rows[:0]).shape == (0, 2)
    with pytest.raises(UsageError, match=f"row {N} is not among"):
        door(path, tmp_path / "c").take(np.array([N]))
    span = door(path).span(SLAB, N)
    np.testing.assert_array_equal(door(path, tmp_path / "c").span(SLAB, N), span)
    np.testing.assert_array_equal(door(path, tmp_path / "c").span(5, 70_000), door(path).span(5, 70_000))


# what is not whole


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def zero_a_page(path):
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit": flip,
    "a page of zeros": zero_a_page,
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: path.write_bytes(b""),
    "another slab's": lambda path: path.write_bytes((path.parent / "0000000.float32").read_bytes()),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_slab_is_made_anew_from_the_files(tmp_path, reads, damage, threads):
    path = write_parquet(tmp_path / "a.parquet", normal(N, 2), 50_000)
    expected = slabs_of(door(path, tmp_path / "c"))
    file = files_in(tmp_path / "c")["0000002.float32"]
    whole = file.read_bytes()
    DAMAGES[damage](file)
    reads.clear()
    assert slabs_of(door(path, tmp_path / "c", threads)) == expected
    assert min(start for start, _ in reads) == 2 * SLAB
    assert max(stop for _, stop in reads) == 3 * SLAB
    assert file.read_bytes() == whole


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("group", [7_000, 100_000, 1 << 20])
def test_a_cache_with_holes_is_filled_in_whichever_order_groups_and_slabs_lie(tmp_path, threads, group):
    x = normal(9 * SLAB + 1, 1)
    path = write_parquet(tmp_path / "a.parquet", x, group)
    expected = slabs_of(door(path, tmp_path / "c"))
    for holes in ([0], [9], [1, 2, 5], [0, 2, 4, 6, 8], [3, 4, 5, 6, 7, 8, 9]):
        for hole in holes:
            files_in(tmp_path / "c")[f"{hole:07d}.float32"].unlink()
        assert slabs_of(door(path, tmp_path / "c", threads)) == expected
        assert len(files_in(tmp_path / "c")) == 10


def test_files_that_were_written_again_have_another_cache(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(500, 2))
    slabs_of(door(path, tmp_path / "c"))
    write_parquet(tmp_path / "a.parquet", normal(500, 2, seed=1))
    assert slabs_of(door(path, tmp_path / "c")) == slabs_of(door(path))
    os.utime(path, (1, 1))
    slabs_of(door(path, tmp_path / "c"))
    assert len(os.listdir(tmp_path / "c")) == 3


def test_a_file_that_changes_during_the_run_is_refused_though_its_slabs_are_kept(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(500, 2))
    blocks = door(path, tmp_path / "c")
    slabs_of(blocks)
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match="has changed since it was opened"):
        slabs_of(blocks)


def test_what_a_killed_process_left_is_deleted_when_it_is_old(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(500, 2))
    slabs_of(door(path, tmp_path / "c"))
    (slab,) = files_in(tmp_path / "c").values()
    slab.unlink()
    old, new = slab.parent / ".old.part", slab.parent / ".new.part"
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (old.stat().st_mtime - 2 * STALE,) * 2)
    slabs_of(door(path, tmp_path / "c"))
    assert sorted(os.listdir(slab.parent)) == [".new.part", slab.name]


def test_a_warm_pass_reads_the_bytes_of_its_slabs_and_no_more(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(N, 8), 50_000)
    blocks = door(path, tmp_path / "c")
    for _ in range(2):  # whatever is imported or looked up at first is read now
        slabs_of(blocks)
    with open("/proc/self/io") as counts:
        before = int(counts.readline().split()[1])
    slabs_of(blocks)
    with open("/proc/self/io") as counts:
        read = int(counts.readline().split()[1]) - before
    assert read == pytest.approx(blocks.cache.bytes(range(4), np.float32), rel=0.001)


def test_the_folder_may_be_deleted_between_passes_and_in_one(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(N, 2), 50_000)
    blocks, expected = door(path, tmp_path / "c"), slabs_of(door(path))
    assert slabs_of(blocks) == expected
    shutil.rmtree(tmp_path / "c")
    assert slabs_of(blocks) == expected
    found = blocks.map(bytes_of)
    first = next(found)
    shutil.rmtree(tmp_path / "c")
    assert [first, *found] == expected
    assert slabs_of(blocks) == expected


# selections

CHOICES = {
    "kmeans": {"method": "kmeans", "rounds": 2},
    "sensitivity under cosine": {"method": "sensitivity", "metric": "cosine", "clusters": 8},
    "kcenter in memory": {"method": "kcenter"},
    "kcenter in two rounds": {"method": "kcenter", "memory": "68MiB"},
    "invalid rows left out": {"method": "kmeans", "rounds": 2, "invalid": "drop"},
}


def said(selection):
    return [getattr(selection, name).tobytes() for name in ("indices", "weights")]


@pytest.mark.parametrize("choice", CHOICES)
def test_picks_are_the_same_with_a_cache_and_a_warm_one_reads_no_rows_from_the_files(tmp_path, reads, choice):
    x = normal(SLAB + 900, 4).astype(np.float16)
    if choice == "invalid rows left out":
        x[[5, 70, SLAB]] = np.nan
    path = write_parquet(tmp_path / "a.parquet", x, 9_999)
    given = {"k": 10, "embedding": "embedding", **CHOICES[choice]}
    expected = said(kofn.select(path, **given))
    for threads in (1, 2, 3):
        assert said(kofn.select(path, **given, threads=threads, cache=str(tmp_path / f"c{threads}"))) == expected
    reads.clear()
    assert said(kofn.select(path, **given, threads=2, cache=str(tmp_path / "c1"))) == expected
    assert reads == []


def test_picks_of_features_are_the_same_with_a_cache(tmp_path):
    rng = np.random.default_rng(0)
    table = {"a": rng.normal(size=300), "b": rng.integers(0, 3, 300), "c": rng.choice(["x", "y"], 300)}
    csv.write_csv(pa.table(table), tmp_path / "a.csv")
    given = {"k": 10, "method": "kmeans", "features": "auto"}
    expected = said(kofn.select(str(tmp_path / "a.csv"), **given))
    for _ in range(2):
        assert said(kofn.select(str(tmp_path / "a.csv"), **given, cache=str(tmp_path / "c"))) == expected
    kofn.select(str(tmp_path / "a.csv"), 10, method="kmeans", features=["a", "b"], cache=str(tmp_path / "c"))
    assert len(os.listdir(tmp_path / "c")) == 2


def test_the_command_keeps_slabs_below_a_folder_that_it_makes(tmp_path, capsys):
    from kofn.cli import main

    path = write_parquet(tmp_path / "a.parquet", normal(500, 2))
    for out in ("b.parquet", "c.parquet"):
        told = ["--cache", str(tmp_path / "some" / "where"), "--out", str(tmp_path / out)]
        assert main(["select", path, "-k", "5", "--method", "kmeans", *told]) == 0
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "c.parquet").read_bytes()
    assert list(files_in(tmp_path / "some" / "where")) == ["0000000.float32"]
    capsys.readouterr()


def test_a_cache_for_rows_in_memory_or_at_a_uri_is_refused(tmp_path):
    x = normal(50, 2)
    path = write_parquet(tmp_path / "a.parquet", x)
    for verb in (kofn.select, plan):
        for data in (x, table_of(x)):
            with pytest.raises(UsageError, match="in memory already"):
                verb(data, 5, method="kmeans", cache=str(tmp_path / "c"))
        with pytest.raises(UsageError, match="is a URI; give a folder"):
            verb(path, 5, method="kmeans", cache="s3://bucket/c")
    assert not (tmp_path / "c").exists()


# where it cannot be written

FILL = """
import resource, sys
import kofn
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    print(kofn.select(sys.argv[1], 10, method="kmeans", rounds=1, cache=sys.argv[2], threads=2).indices.tolist())
except kofn.KofnError as error:
    print(f"{type(error).__name__}: {error}")
"""


def start(*arguments):
    command = [sys.executable, "-c", FILL, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_full_disk_is_an_error_that_leaves_no_half_of_a_slab(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(2 * SLAB + 100, 8))
    said, _ = start(path, tmp_path / "c", 1 << 20).communicate(timeout=60)
    assert said.startswith(
        f"OutputError: the cache in '{tmp_path}/c' could not be written: File too large; free room, or"
    )
    assert files_in(tmp_path / "c") == {}


def test_two_processes_fill_one_cache_at_once(tmp_path, reads):
    path = write_parquet(tmp_path / "a.parquet", normal(4 * SLAB, 8), 20_000)
    both = [start(path, tmp_path / "c") for _ in range(2)]
    picks = {process.communicate(timeout=60)[0].strip() for process in both}
    given = {"method": "kmeans", "rounds": 1}
    assert picks == {str(kofn.select(path, 10, **given).indices.tolist())}
    assert len(files_in(tmp_path / "c")) == 4
    reads.clear()
    kofn.select(path, 10, **given, cache=str(tmp_path / "c"))
    assert reads == []


def test_a_folder_that_cannot_be_made_is_an_error_with_its_mend(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(50, 2))
    (tmp_path / "file").write_text("")
    for threads in (1, 2):
        with pytest.raises(OutputError, match="could not be written: Not a directory; free room, or leave out --cache"):
            slabs_of(door(path, tmp_path / "file" / "c", threads))


# the plan


def test_the_plan_counts_the_first_pass_from_the_files_and_the_others_from_the_cache(tmp_path):
    d, cache = 4, str(tmp_path / "c")
    path = write_parquet(tmp_path / "a.parquet", normal(3 * SLAB, d), SLAB)
    given = {"k": 10, "method": "kmeans"}
    bare = plan(path, **given).reads
    assert (bare["remote"], bare["local"]) == (bare["total"], 0)
    a_pass, kept = bare["a_pass"], 3 * (SLAB * d * 4 + DIGEST)
    rest = bare["columns"] + bare["footers"] + bare["picks"]

    cold = plan(path, **given, cache=cache)
    assert cold.passes == 2
    assert not os.path.exists(cache)  # a plan writes nothing
    assert cold.reads == {
        **bare, "rows": a_pass + kept, "remote": a_pass + rest, "local": kept, "total": a_pass + kept + rest,
    }  # fmt: skip
    assert "from the cache" in str(cold)

    kofn.select(path, **given, cache=cache)
    warm = plan(path, **given, cache=cache).reads
    assert warm == {**bare, "rows": 2 * kept, "remote": rest, "local": 2 * kept, "total": 2 * kept + rest}

    files_in(cache)["0000001.float32"].unlink()
    half = plan(path, **given, cache=cache).reads
    group = pq.read_metadata(path).row_group(1).column(0).total_compressed_size
    assert half["remote"] == group + rest
    assert half["local"] == 2 * kept - kept // 3


def test_the_plan_counts_what_is_read_again_where_rows_are_left_out(tmp_path):
    x, cache = normal(3000, 4), str(tmp_path / "c")
    x[7] = np.nan
    path = write_parquet(tmp_path / "a.parquet", x, 1000)
    given = {"k": 10, "method": "kmeans", "invalid": "drop"}
    bare = plan(path, **given).reads
    cold = plan(path, **given, cache=cache).reads
    assert cold["remote"] == bare["total"] - bare["rows"] + 2 * bare["a_pass"]  # to look for them, and without them
    assert cold["local"] == 2999 * 4 * 4 + DIGEST
    kofn.select(path, **given, cache=cache)
    warm = plan(path, **given, cache=cache).reads
    assert warm["remote"] == bare["total"] - bare["rows"]
    assert warm["local"] == 3000 * 4 * 4 + DIGEST + 2 * (2999 * 4 * 4 + DIGEST)


# on a cluster


class Elsewhere:
    """Stands where a cluster stands: calls are carried out here, in what their home's disk would be."""

    def __init__(self, nodes, workers):
        self.nodes, self.workers, self.retries = nodes, workers, 0
        self.homes = {}

    def map(self, fn, shared, calls, describe, homes=None):
        for at, call in enumerate(calls):
            if homes is not None:
                for slab in call[0] if isinstance(call[0], list) else np.unique(call[0] // SLAB).tolist():
                    self.homes.setdefault(slab, set()).add(homes[at])
            yield fn(*pickle.loads(pickle.dumps(shared)), *call)


def test_on_a_cluster_a_slab_has_one_home_in_every_pass_whichever_slabs_are_known(tmp_path, reads):
    path = write_parquet(tmp_path / "a.parquet", normal(20 * SLAB, 1), 100_000)
    cluster = Elsewhere(["a", "b", "c"], 2)
    dataset, expected = Dataset.open(path), slabs_of(door(path))
    run = Run(cluster=cluster, cache=str(tmp_path / "c"))
    blocks = RayBlocks(dataset, find_embedding(dataset, None, None), run=run)
    assert slabs_of(blocks) == expected
    reads.clear()
    assert list(blocks.compute([3, 4, 11, 19], bytes_of, (), None)) == [expected[slab] for slab in (3, 4, 11, 19)]
    rows = np.random.default_rng(0).integers(0, 20 * SLAB, 50)
    np.testing.assert_array_equal(blocks.take(rows), door(path).take(rows))
    assert reads == []
    assert sorted(cluster.homes) == list(range(20))
    assert all(len(homes) == 1 for homes in cluster.homes.values())
    assert set().union(*cluster.homes.values()) == {"a", "b", "c"}


def test_without_a_cache_calls_have_no_home(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", normal(4 * SLAB, 1), 10_000)
    cluster, dataset = Elsewhere(["a"], 2), Dataset.open(path)
    blocks = RayBlocks(dataset, find_embedding(dataset, None, None), run=Run(cluster=cluster))
    assert slabs_of(blocks) == slabs_of(door(path))
    assert cluster.homes == {}

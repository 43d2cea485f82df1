"""Rows that lie in files come out as the same slabs, whatever files, row groups and threads."""

import gc
import subprocess
import sys
import threading
import time
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blocks.laying import normal, write_ipc, write_npy, write_parquet, write_seven
from kofn.blocks import FileBlocks, MemoryBlocks, Run
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.core.block import SLAB, by_slab
from kofn.errors import DataError, InvalidRows, UsageError

LAYOUTS = {
    "row groups of 1,000": lambda folder, x: write_parquet(folder / "a.parquet", x, 1_000),
    "row groups of 70,000": lambda folder, x: write_parquet(folder / "a.parquet", x, 70_000),
    "one row group": lambda folder, x: write_parquet(folder / "a.parquet", x),
    "seven files": lambda folder, x: write_seven(folder / "seven", x, 30_000),
    "Arrow IPC": lambda folder, x: write_ipc(folder / "a.arrow", x, 50_000),
    ".npy": lambda folder, x: write_npy(folder / "a.npy", x),
}


def open_blocks(path, *, threads=2, **options):
    dataset = Dataset.open(path)
    return FileBlocks(dataset, find_embedding(dataset, None, None), run=Run(threads), **options)


def product(start, x, y):
    return start, (x @ y).tobytes()


def record(block, y):
    """Everything that a method could see of a slab, as bytes."""
    rows = blake2b(block.x.tobytes()).hexdigest()
    return block.start, block.stop, block.x.shape, block.x.flags.writeable, rows, block.map_tiles(product, y)


def records(blocks, y):
    return list(blocks.map(record, y))


@pytest.mark.parametrize(
    ("layout", "metric"), [*((layout, "euclidean") for layout in LAYOUTS), ("row groups of 70,000", "cosine")]
)
def test_slabs_are_those_of_the_array_byte_for_byte(tmp_path, layout, metric):
    # 8 slabs and a row: enough for four threads to take slabs rather than tiles.
    x, y = normal(8 * SLAB + 1, 2), normal(2, 5, seed=1)
    expected = records(MemoryBlocks(x, metric=metric, run=Run(1)), y)
    assert [entry[:3] for entry in expected[-2:]] == [(7 * SLAB, 8 * SLAB, (SLAB, 2)), (8 * SLAB, 8 * SLAB + 1, (1, 2))]
    path = LAYOUTS[layout](tmp_path, x)
    for threads in (1, 4):
        assert records(open_blocks(path, threads=threads, metric=metric), y) == expected
    assert records(MemoryBlocks(x, metric=metric, run=Run(4)), y) == expected


@pytest.mark.parametrize("n", [1, 4_095, 4_096, 4_097, SLAB - 1, SLAB, SLAB + 1, 150_000])
def test_slabs_are_those_of_the_array_at_the_borders_of_tiles_and_slabs(tmp_path, n):
    x, y = normal(n, 3), normal(3, 5, seed=1)
    expected = records(MemoryBlocks(x, run=Run(1)), y)
    assert len(expected) == -(-n // SLAB)
    for layout in ("row groups of 1,000", "seven files", ".npy"):
        folder = tmp_path / layout
        folder.mkdir()
        path = LAYOUTS[layout](folder, x)
        for threads in (1, 4):
            assert records(open_blocks(path, threads=threads), y) == expected
    assert records(MemoryBlocks(x, run=Run(4)), y) == expected


@pytest.mark.parametrize("layout", ["row groups of 1,000", "row groups of 70,000", "seven files", ".npy"])
def test_kept_rows_are_numbered_anew_and_read_as_if_they_were_all(tmp_path, layout):
    x, y = normal(6 * SLAB, 2), normal(2, 5, seed=1)
    kept = np.flatnonzero(np.random.default_rng(0).random(len(x)) < 0.8)
    expected = records(MemoryBlocks(x[kept], run=Run(1)), y)
    path = LAYOUTS[layout](tmp_path, x)
    for threads in (1, 2):
        blocks = open_blocks(path, threads=threads, kept=kept)
        assert blocks.n == len(kept)
        assert records(blocks, y) == expected
        np.testing.assert_array_equal(blocks.take(np.array([5, 0, 70_000])), x[kept[[5, 0, 70_000]]])


def path_in(folder):
    return str(next(folder.iterdir()))


def test_few_kept_rows_far_apart_are_found(tmp_path):
    x = normal(150_000, 2)
    for kept in ([149_999], [0, 149_999], [70_000, 70_001, 140_000]):
        blocks = open_blocks(write_seven(tmp_path / f"{kept[0]}{len(kept)}", x, 1_000), kept=np.array(kept))
        (got,) = blocks.map(copy_of)
        np.testing.assert_array_equal(got, x[kept])


def copy_of(block, *rest):
    return block.x.copy()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_take_keeps_order_and_duplicates(tmp_path, layout):
    x = normal(150_000, 3)
    blocks = open_blocks(LAYOUTS[layout](tmp_path, x))
    rows = np.array([149_999, 0, 70_001, 70_001, 3, 0, 99_999, 65_536, 65_535])
    got = blocks.take(rows)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x[rows])
    assert blocks.take(rows[:0]).shape == (0, 3)
    everything = np.random.default_rng(0).permutation(150_000)
    np.testing.assert_array_equal(blocks.take(everything), x[everything])


def test_take_under_cosine_gives_the_rows_that_map_gives(tmp_path):
    x = normal(5_000, 100)
    blocks = open_blocks(write_parquet(tmp_path / "a.parquet", x, 1_000), metric="cosine")
    (whole,) = blocks.map(copy_of)
    rows = np.array([4_999, 7, 7, 0, 2_500])
    assert blocks.take(rows).tobytes() == whole[rows].tobytes() == MemoryBlocks(x, metric="cosine").take(rows).tobytes()
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-6)


def test_take_of_a_row_that_is_not_there_names_it(tmp_path):
    blocks = open_blocks(write_parquet(tmp_path / "a.parquet", normal(10, 2)))
    for row in (10, -1):
        with pytest.raises(UsageError, match=rf"row {row} is not among the 10 rows"):
            blocks.take(np.array([3, row, 4]))


def view_of(block):
    return block.start, block.x[7:5_000:3]


@pytest.mark.parametrize("layout", ["row groups of 70,000", "seven files", ".npy"])
@pytest.mark.parametrize("threads", [1, 2])
def test_results_that_keep_views_of_a_block_stay_right(tmp_path, layout, threads):
    x = normal(8 * SLAB, 2)
    blocks = open_blocks(LAYOUTS[layout](tmp_path, x), threads=threads)
    for _ in range(3):
        for start, view in list(blocks.map(view_of)):
            np.testing.assert_array_equal(view, x[start + 7 : start + 5_000 : 3])


def address_of(block):
    time.sleep(0.002)
    return block.x.ctypes.data


def test_buffers_are_used_again_when_nothing_looks_at_them(tmp_path):
    x = normal(30 * SLAB, 1)
    blocks = open_blocks(write_npy(tmp_path / "a.npy", x), threads=2)
    assert len(set(blocks.map(address_of))) <= 8


def test_each_goes_to_its_slab_and_progress_ends_at_n(tmp_path):
    x, told = normal(5 * SLAB + 17, 1), []
    dataset = Dataset.open(write_parquet(tmp_path / "a.parquet", x, 70_000))
    run = Run(2, lambda *what: told.append(what))
    blocks = FileBlocks(dataset, find_embedding(dataset, None, None), run=run)
    numbers = np.arange(len(x), dtype=np.float64)
    sums = list(blocks.map(sum_of_both, each=by_slab(numbers)))
    assert sums == [(at * SLAB, numbers[at * SLAB : (at + 1) * SLAB].sum()) for at in range(6)]
    assert told == [("pass 1", min((at + 1) * SLAB, len(x)), len(x)) for at in range(6)]
    list(blocks.map(copy_of))
    assert told[-1] == ("pass 2", len(x), len(x))
    assert blocks.passes == 2


def sum_of_both(block, numbers):
    assert len(numbers) == len(block.x)
    return block.start, float(numbers.sum())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_that_is_no_number_is_an_error_that_carries_the_first(tmp_path, threads):
    x = normal(5 * SLAB, 2)
    x[SLAB + 5, 1], x[SLAB + 9, 0] = np.inf, np.nan
    blocks = open_blocks(write_parquet(tmp_path / "a.parquet", x, 70_000), threads=threads)
    with pytest.raises(InvalidRows) as caught:
        list(blocks.map(copy_of))
    assert caught.value.first == SLAB + 5
    with pytest.raises(InvalidRows):
        blocks.take(np.array([0, SLAB + 9]))
    unchecked = open_blocks(path_in(tmp_path), threads=threads, check=False)
    assert np.isinf(list(unchecked.map(copy_of))[1][5, 1])


def test_a_zero_row_is_an_error_under_cosine_alone(tmp_path):
    x = normal(5_000, 2)
    x[4_321] = 0
    path = write_parquet(tmp_path / "a.parquet", x)
    assert len(list(open_blocks(path).map(copy_of))) == 1
    with pytest.raises(InvalidRows) as caught:
        list(open_blocks(path, metric="cosine").map(copy_of))
    assert caught.value.first == 4_321
    with pytest.raises(UsageError, match="manhattan"):
        open_blocks(path, metric="manhattan")


def raise_at_three(block):
    if block.start == 3 * SLAB:
        raise KeyError("the third slab")
    return block.start


def extra_threads(before, seconds=20.0):
    """Threads that are left once everything had time to end."""
    gc.collect()
    limit = time.monotonic() + seconds
    while set(threading.enumerate()) - before and time.monotonic() < limit:
        time.sleep(0.01)
    return set(threading.enumerate()) - before


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_exception_in_the_function_surfaces_and_ends_the_threads(tmp_path, threads):
    before = set(threading.enumerate())
    blocks = open_blocks(write_parquet(tmp_path / "a.parquet", normal(9 * SLAB, 1), 1_000), threads=threads)
    seen = []
    with pytest.raises(KeyError, match="the third slab"):
        seen.extend(blocks.map(raise_at_three))
    assert not extra_threads(before)
    assert list(blocks.map(lambda block: block.start)) == [at * SLAB for at in range(9)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_file_that_cannot_be_read_surfaces_and_ends_the_threads(tmp_path, threads):
    before = set(threading.enumerate())
    folder = tmp_path / "data"
    write_seven(folder, normal(12 * SLAB, 1), 30_000)
    blocks = open_blocks(str(folder), threads=threads)
    broken = folder / "part-5.parquet"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match=r"part-5\.parquet has changed since it was opened \(from .* to 100 bytes"):
        list(blocks.map(copy_of))
    assert not extra_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_group_that_cannot_be_read_surfaces_with_its_number_and_ends_the_threads(tmp_path, threads):
    before = set(threading.enumerate())
    folder = tmp_path / "data"
    write_seven(folder, normal(12 * SLAB, 1), 30_000)
    broken = folder / "part-5.parquet"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:4] + b"\xff" * 2_000 + whole[2_004:])
    blocks = open_blocks(str(folder), threads=threads)
    with pytest.raises(DataError, match=r"part-5\.parquet: row group.* cannot be read"):
        list(blocks.map(copy_of))
    assert not extra_threads(before)


LEAVES_EARLY = """
import sys
from kofn.blocks import FileBlocks, Run
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
dataset = Dataset.open(sys.argv[1])
blocks = FileBlocks(dataset, find_embedding(dataset, None, None), run=Run(int(sys.argv[2])))
for block_start in blocks.map(lambda block: block.start):
    if block_start > 0:
        break
held = blocks.map(lambda block: block.start)
next(held)
print("left", flush=True)
"""


@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_leaving_the_loop_early_neither_hangs_nor_fails(tmp_path, threads):
    path = write_parquet(tmp_path / "a.parquet", normal(12 * SLAB, 1), 70_000)
    done = subprocess.run(
        [sys.executable, "-c", LEAVES_EARLY, path, threads], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def test_leaving_the_loop_early_ends_the_threads(tmp_path):
    before = set(threading.enumerate())
    blocks = open_blocks(write_parquet(tmp_path / "a.parquet", normal(9 * SLAB, 1), 1_000), threads=3)
    for start in blocks.map(lambda block: block.start):
        if start == SLAB:
            break
    assert not extra_threads(before)


@pytest.mark.parametrize("group", [1_000, 70_000, 1 << 20])
def test_no_more_slabs_are_begun_than_threads_and_one(tmp_path, group):
    begun, threads = [], 2
    blocks = open_blocks(write_parquet(tmp_path / "a.parquet", normal(9 * SLAB, 1), group), threads=threads)
    for taken, _ in enumerate(blocks.map(lambda block: begun.append(block.start))):
        time.sleep(0.02)  # time in which a reader without a bound would run ahead
        assert len(begun) <= taken + 1 + threads + 1


def test_row_numbers_in_errors_are_those_of_the_files_where_rows_were_left_out(tmp_path):
    lists = [[1.0, 2.0]] * 3_000
    lists[2_500] = [1.0]
    pq.write_table(pa.table({"embedding": lists}), tmp_path / "a.parquet")
    kept = np.arange(0, 3_000, 5)
    blocks = open_blocks(str(tmp_path / "a.parquet"), kept=kept)
    for ask in (lambda: list(blocks.map(copy_of)), lambda: blocks.take(np.array([3, 500]))):
        with pytest.raises(DataError, match=r"row 2500 of 'embedding' has 1 numbers"):
            ask()

"""Rows that lie in memory, of any type and layout."""

import threading

import numpy as np
import pytest
from scipy import sparse

from blocks.laying import normal
from kofn.blocks import MemoryBlocks, Run
from kofn.core.block import SLAB, TILE, by_slab
from kofn.errors import InvalidRows, UsageError


def copy_of(block):
    return block.x.copy()


def whole(blocks):
    return np.concatenate(list(blocks.map(copy_of)))


def forms_of(x):
    """The same numbers in other types and layouts."""
    wide = np.zeros((2 * len(x), 3 * x.shape[1]), np.float32)
    wide[::2, ::-3] = x
    return {
        "float32": x,
        "float16": x.astype(np.float16),
        "float64": x.astype(np.float64),
        "int8": x.astype(np.int8),
        "uint8": x.astype(np.uint8),
        "int64": x.astype(np.int64),
        "big-endian": x.astype(">f8"),
        "Fortran order": np.asfortranarray(x),
        "strided": wide[::2, ::-3],
    }


@pytest.mark.parametrize("name", forms_of(normal(2, 2)))
def test_rows_are_float32_in_order_and_read_only_whatever_they_were(name):
    x = np.random.default_rng(0).integers(0, 100, (SLAB + 5_000, 3)).astype(np.float32)
    form = forms_of(x)[name]
    before = form.tobytes()
    blocks = MemoryBlocks(form)
    assert (blocks.n, blocks.d) == x.shape

    def look(block):
        assert block.x.dtype == np.float32
        assert block.x.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            block.x[0, 0] = 1
        return block.start, block.stop, block.x.copy()

    (start, stop, first), (_, end, second) = blocks.map(look)
    assert (start, stop, end) == (0, SLAB, len(x))
    np.testing.assert_array_equal(np.concatenate([first, second]), x)
    rows = np.array([5, 5, SLAB + 4_999, 0])
    taken = blocks.take(rows)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, x[rows])
    assert form.tobytes() == before


def test_truth_values_are_numbers():
    x = np.random.default_rng(0).random((50, 4)) < 0.5
    np.testing.assert_array_equal(whole(MemoryBlocks(x)), x.astype(np.float32))


def test_a_memory_mapped_array_is_read_and_left_alone(tmp_path):
    x = normal(70_000, 2)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(whole(MemoryBlocks(mapped)), x)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), x)


def test_all_rows_of_a_float32_array_are_taken_without_a_copy_and_cannot_be_written():
    x = normal(500, 3)
    taken = MemoryBlocks(x).take(np.arange(500))
    assert np.shares_memory(taken, x)
    assert not taken.flags.writeable
    assert x.flags.writeable
    assert not np.shares_memory(MemoryBlocks(x).take(np.arange(499)), x)
    assert not np.shares_memory(MemoryBlocks(x, metric="cosine").take(np.arange(500)), x)


def tile_sums(start, x, extra):
    return start, len(x), x.sum(axis=0).tobytes(), len(extra), float(extra.sum())


@pytest.mark.parametrize("n", [1, TILE, TILE + 1, SLAB - 1, SLAB + 1, 5 * SLAB + 77])
def test_tiles_begin_at_multiples_of_their_size_whatever_the_threads(n):
    x, extra = normal(n, 2), np.arange(n, dtype=np.float64)

    def by_tiles(block, part):
        return block.map_tiles(tile_sums, each=part)

    results = [
        [tile for part in MemoryBlocks(x, run=Run(threads)).map(by_tiles, each=by_slab(extra)) for tile in part]
        for threads in (1, 2, 4)
    ]
    assert results[0] == results[1] == results[2]
    assert [start for start, *_ in results[0]] == list(range(0, n, TILE))
    assert all(rows == min(TILE, n - start) == also for start, rows, _, also, _ in results[0])
    assert sum(total for *_, total in results[0]) == n * (n - 1) / 2


def test_cosine_rows_have_length_one_and_keep_their_direction():
    x = normal(5_000, 7) * np.random.default_rng(0).uniform(1e-6, 1e6, (5_000, 1)).astype(np.float32)
    unit = whole(MemoryBlocks(x, metric="cosine"))
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1, rtol=1e-6)
    scale = np.linalg.norm(x.astype(np.float64), axis=1)
    np.testing.assert_allclose(unit, x / scale[:, None], rtol=1e-6, atol=1e-12)
    rows = np.array([4_999, 3, 3])
    assert MemoryBlocks(x, metric="cosine").take(rows).tobytes() == unit[rows].tobytes()


def dense_copy(block):
    assert block.x.dtype == np.float32
    return block.x.toarray()


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_sparse_rows_are_those_of_the_dense_array(kind):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((SLAB + 3_000, 6)) < 0.3, rng.normal(size=(SLAB + 3_000, 6)), 0).astype(np.float32)
    dense[:, 0] += 0.5
    for metric in ("euclidean", "cosine"):
        blocks = MemoryBlocks(kind(dense.astype(np.float64)), metric=metric)
        got = np.concatenate(list(blocks.map(dense_copy)))
        np.testing.assert_allclose(got, whole(MemoryBlocks(dense, metric=metric)), rtol=1e-6, atol=1e-12)
        rows = np.array([SLAB + 1, 0, 0])
        np.testing.assert_array_equal(blocks.take(rows).toarray(), got[rows])
    holed = dense.copy()
    holed[SLAB + 7, 2] = np.nan
    with pytest.raises(InvalidRows) as caught:
        list(MemoryBlocks(kind(holed)).map(dense_copy))
    assert caught.value.first == SLAB + 7


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_no_number_is_an_error_that_carries_the_first(value, threads):
    x = normal(6 * SLAB, 2)
    x[[SLAB + 4, SLAB + 4_097, 5 * SLAB], [1, 0, 1]] = value
    with pytest.raises(InvalidRows) as caught:
        whole(MemoryBlocks(x, run=Run(threads)))
    assert caught.value.first == SLAB + 4
    with pytest.raises(InvalidRows):
        MemoryBlocks(x).take(np.arange(len(x)))
    with pytest.raises(InvalidRows):
        MemoryBlocks(x).take(np.array([3, 5 * SLAB]))
    assert len(MemoryBlocks(x).take(np.array([3, 4]))) == 2


def test_numbers_whose_squares_overflow_are_numbers_all_the_same():
    x = normal(9_000, 2) * np.float32(1e30)
    np.testing.assert_array_equal(whole(MemoryBlocks(x)), x)


def test_numbers_beyond_float32_are_no_numbers():
    x = np.ones((10, 2))
    x[6, 1] = 1e300
    with pytest.raises(InvalidRows) as caught:
        whole(MemoryBlocks(x))
    assert caught.value.first == 6


def test_a_zero_row_is_an_error_under_cosine_alone():
    x = normal(9_000, 3)
    x[8_123] = 0
    assert len(whole(MemoryBlocks(x))) == 9_000
    with pytest.raises(InvalidRows) as caught:
        whole(MemoryBlocks(x, metric="cosine"))
    assert caught.value.first == 8_123
    with pytest.raises(InvalidRows):
        MemoryBlocks(x, metric="cosine").take(np.array([8_123]))
    assert len(MemoryBlocks(x).take(np.array([8_123]))) == 1


def test_an_unknown_metric_is_an_error():
    with pytest.raises(UsageError, match=r"manhattan.*euclidean, cosine"):
        MemoryBlocks(normal(3, 2), metric="manhattan")


@pytest.mark.parametrize("threads", [1, 2])
def test_an_exception_surfaces_and_leaving_early_ends_the_threads(threads):
    before = set(threading.enumerate())
    blocks = MemoryBlocks(normal(6 * SLAB, 1), run=Run(threads))

    def refuse(block):
        if block.start == 2 * SLAB:
            raise LookupError("slab 2")
        return block.start

    with pytest.raises(LookupError, match="slab 2"):
        list(blocks.map(refuse))
    assert next(blocks.map(refuse)) == 0
    for start in blocks.map(refuse):
        if start == SLAB:
            break
    assert set(threading.enumerate()) <= before


def test_progress_is_told_slab_by_slab_from_the_thread_that_asked():
    told = []
    run = Run(2, lambda *what: told.append((*what, threading.current_thread() is threading.main_thread())))
    blocks = MemoryBlocks(normal(4 * SLAB + 1, 1), run=run)
    list(blocks.map(copy_of))
    list(blocks.map(copy_of))
    n = 4 * SLAB + 1
    ends = [SLAB, 2 * SLAB, 3 * SLAB, 4 * SLAB, n]
    assert told == [(f"pass {number}", end, n, True) for number in (1, 2) for end in ends]

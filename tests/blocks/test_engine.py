"""Work on threads: in order, bounded, and over when it is over."""

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from kofn.blocks.engine import Run, available_threads, map_in_order, run_tiles

UNITS = {
    "one unit": [list(range(12))],
    "a unit each": [[at] for at in range(12)],
    "a long one first": [list(range(9)), [9], [10, 11]],
    "a long one last": [[0], [1], [2, 3], list(range(4, 12))],
    "neighbours share a slab": [[0, 1], [1, 2, 3], [3, 4, 5, 6, 7], [7, 8], [8, 9], [9, 10, 11]],
    "many share a slab": [[0, 1, 2, 3], [3], [3], [3, 4, 5, 6, 7], [7], [7], [7, 8, 9, 10, 11], [11], [11]],
}


def reader_of(units):
    return lambda at: (f"rows {slab}" for slab in units[at])


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("name", UNITS)
def test_results_come_in_slab_order_however_long_each_takes(name, workers):
    pauses = np.random.default_rng(0).random(12) * 0.01

    def work(slab, data):
        time.sleep(pauses[slab])
        return slab, data

    assert list(map_in_order(UNITS[name], reader_of(UNITS[name]), work, workers)) == [
        (at, f"rows {at}") for at in range(12)
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_work_on_a_shared_slab_begins_when_its_last_part_is_there(workers):
    units, lock, brought = UNITS["many share a slab"], threading.Lock(), dict.fromkeys(range(12), 0)
    holders = {slab: sum(slab in unit for unit in units) for slab in range(12)}

    def reading(at):
        for slab in units[at]:
            time.sleep(0.002 * ((at * 5 + slab) % 4))
            with lock:
                brought[slab] += 1
            yield slab

    def work(slab, data):
        with lock:
            return brought[slab]

    assert list(map_in_order(units, reading, work, workers)) == [holders[slab] for slab in range(12)]


def test_no_units_give_no_results():
    for workers in (1, 3):
        assert list(map_in_order([], reader_of([]), lambda slab, data: slab, workers)) == []


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("name", UNITS)
def test_slabs_wait_until_there_is_room(name, workers):
    read, lock, most = set(), threading.Lock(), 0

    def reading(at):
        for slab in UNITS[name][at]:
            with lock:
                read.add(slab)
            yield slab

    for taken, _ in enumerate(map_in_order(UNITS[name], reading, lambda slab, data: slab, workers)):
        time.sleep(0.005)
        most = max(most, len(read) - taken)
    assert most <= workers + 2


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("name", UNITS)
def test_an_exception_of_a_reader_surfaces_when_its_slab_is_due(name, workers):
    def reading(at):
        for slab in UNITS[name][at]:
            if slab == 7:
                time.sleep(0.01 * ((at * 7) % 3))
                raise OSError(f"slab 7 is gone in unit {at}")
            yield slab

    first = next(at for at, unit in enumerate(UNITS[name]) if 7 in unit)

    before = set(threading.enumerate())
    results = map_in_order(UNITS[name], reading, lambda slab, data: slab, workers)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(OSError, match=f"slab 7 is gone in unit {first}$"):
        next(results)
    assert set(threading.enumerate()) <= before


def test_a_reader_that_cannot_even_begin_is_an_error_not_a_wait():
    def refuse(at):
        raise FileNotFoundError(at)

    for workers in (1, 2):
        with pytest.raises(FileNotFoundError):
            list(map_in_order(UNITS["a unit each"], refuse, lambda slab, data: slab, workers))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_exception_of_the_work_surfaces_when_its_slab_is_due(workers):
    def work(slab, data):
        if slab == 3:
            raise ZeroDivisionError("three")
        return slab

    before = set(threading.enumerate())
    units = UNITS["a long one first"]
    results = map_in_order(units, reader_of(units), work, workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="three"):
        next(results)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("name", UNITS)
def test_a_closed_iteration_leaves_no_thread_and_begins_nothing_more(name, workers):
    begun, before = [], set(threading.enumerate())
    results = map_in_order(UNITS[name], reader_of(UNITS[name]), lambda slab, data: begun.append(slab), workers)
    next(results)
    next(results)
    results.close()
    assert set(threading.enumerate()) <= before
    count = len(begun)
    assert count <= 1 + workers + 2
    time.sleep(0.05)
    assert len(begun) == count


def test_an_iteration_that_is_never_begun_starts_no_thread():
    before = set(threading.enumerate())
    results = map_in_order(UNITS["one unit"], reader_of(UNITS["one unit"]), lambda slab, data: slab, 4)
    assert set(threading.enumerate()) == before
    results.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_blas_has_one_thread_inside_and_its_own_number_after(workers):
    def blas_threads():
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    before = blas_threads()
    inside = list(map_in_order([[0, 1]], reader_of([[0, 1]]), lambda slab, data: blas_threads(), workers))
    assert inside
    assert all(set(counts) == {1} for counts in inside)
    assert blas_threads() == before


def test_tiles_come_back_in_order_and_their_exceptions_surface():
    calls = [(at, 2) for at in range(20)]
    for workers in (1, 4):
        assert run_tiles(lambda a, b: (time.sleep(0.002 * (a % 3)), a * b)[1], calls, workers) == list(range(0, 40, 2))
        with pytest.raises(ZeroDivisionError):
            run_tiles(lambda a, b: a // (a - 5), calls, workers)
        assert run_tiles(lambda a, b: a, [], workers) == []


def test_threads_are_those_asked_for_or_all_that_there_are():
    assert Run(3).workers == 3
    assert Run().workers == available_threads() >= 1

"""Threads behind `Blocks.map`: slabs in order, a bounded number in flight, every result independent of the threads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kofn.core.blas import one_blas_thread

Tell = Callable[[str, int, int], None]
"""`tell(stage, done, total)`: what progress bars are fed with."""


@dataclass(frozen=True)
class Run:
    """How work is run: never what it yields.

    Parameters
    ----------
    threads : int or None
        None: as many as the process may use.
    tell : callable or None
        Called as `tell(stage, done, total)` from the thread that asked for the work.
    """

    threads: int | None = None
    tell: Tell | None = None

    @property
    def workers(self) -> int:
        """The number of threads."""
        return self.threads or available_threads()


def available_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tiles(fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]], workers: int) -> list[Any]:
    """Run the calls on threads; results in the order of the calls."""
    if workers == 1 or len(calls) <= 1:
        return [fn(*call) for call in calls]
    with ThreadPoolExecutor(min(workers, len(calls))) as pool:
        return [future.result() for future in [pool.submit(fn, *call) for call in calls]]


def map_in_order(
    units: Sequence[Sequence[int]],
    read: Callable[[Sequence[int]], Iterator[Any]],
    work: Callable[[int, Any], Any],
    workers: int,
) -> Iterator[Any]:
    """Results of `work(slab, data)` in slab order, where `read(unit)` yields the data of a unit's slabs.

    At most `workers + 1` slabs exist at a time. Readers take units in order and wait for room before they read, so the
    lowest slab not yet yielded can always be read: no deadlock. Whatever ends the iteration ends the threads. What goes
    wrong with a slab is raised when that slab is due, so the same mistake is reported however threads take turns.
    """
    if workers == 1:
        with one_blas_thread():
            for unit in units:
                for slab, data in zip(unit, read(unit), strict=True):
                    yield work(slab, data)
        return
    yield from _Pipeline(units, read, work, workers).results()


class _Pipeline:
    def __init__(
        self,
        units: Sequence[Sequence[int]],
        read: Callable[[Sequence[int]], Iterator[Any]],
        work: Callable[[int, Any], Any],
        workers: int,
    ) -> None:
        self.units, self.read, self.work, self.workers = units, read, work, workers
        self.ahead = workers + 1
        self.changed = threading.Condition()
        self.futures: dict[int, Future[Any]] = {}
        self.yielded = 0
        self.next_unit = 0
        self.stopped = False

    def results(self) -> Iterator[Any]:
        total = sum(len(unit) for unit in self.units)
        with one_blas_thread(), ThreadPoolExecutor(self.workers) as pool:
            # Daemons, so that an iteration that nobody ends does not keep the process alive: readers wait for room.
            readers = [
                threading.Thread(target=self._read_units, args=(pool,), daemon=True)
                for _ in range(min(self.workers, len(self.units)))
            ]
            for reader in readers:
                reader.start()
            try:
                for slab in range(total):
                    yield self._wait_for(slab).result()
                    with self.changed:
                        self.yielded = slab + 1
                        self.changed.notify_all()
            finally:
                with self.changed:
                    self.stopped = True
                    self.changed.notify_all()
                pool.shutdown(wait=False, cancel_futures=True)
                for reader in readers:
                    if not sys.is_finalizing():  # by then daemons are gone
                        reader.join()

    def _wait_for(self, slab: int) -> Future[Any]:
        with self.changed:
            while slab not in self.futures:
                self.changed.wait(timeout=1.0)  # so that Ctrl-C is heard
            return self.futures.pop(slab)

    def _read_units(self, pool: ThreadPoolExecutor) -> None:
        while (unit := self._next_unit()) is not None:
            data = self._read(unit)
            for slab in unit:
                if not self._room_for(slab) or not self._read_slab(pool, slab, data):
                    return

    def _read(self, unit: Sequence[int]) -> Iterator[Any]:
        yield from self.read(unit)  # here, so that whatever it raises belongs to a slab

    def _next_unit(self) -> Sequence[int] | None:
        with self.changed:
            if self.stopped or self.next_unit == len(self.units):
                return None
            self.next_unit += 1
            return self.units[self.next_unit - 1]

    def _read_slab(self, pool: ThreadPoolExecutor, slab: int, data: Iterator[Any]) -> bool:
        """Read a slab and hand it to the workers; False where it cannot be read, nor what follows it."""
        try:
            rows = next(data)
            with self.changed:
                if not self.stopped:
                    self.futures[slab] = pool.submit(self.work, slab, rows)
                    self.changed.notify_all()
        except BaseException as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            with self.changed:
                self.futures[slab] = failed
                self.changed.notify_all()
            return False
        return True

    def _room_for(self, slab: int) -> bool:
        with self.changed:
            while not self.stopped and slab >= self.yielded + self.ahead:
                self.changed.wait()
            return not self.stopped

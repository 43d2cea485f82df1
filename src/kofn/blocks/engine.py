"""Threads behind `Blocks.map`: slabs in order, a bounded number in flight, every result independent of the threads."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from kofn.core.blas import one_blas_thread

if TYPE_CHECKING:
    from kofn.blocks.checkpoint import Checkpoint
    from kofn.blocks.cluster import Cluster

Tell = Callable[[str, int, int], None]
"""`tell(stage, done, total)`: what progress bars are fed with."""


@dataclass(frozen=True)
class PassReport:
    """What is told of a pass when it is over.

    Attributes
    ----------
    number : int
        Of the pass in its run, from 1.
    rows, slabs : int
        How many there are; where a method is run in parts, one report counts the parts in place of slabs.
    known : int
        Slabs whose results came from the checkpoint.
    retries : int
        How often work on the cluster was given out again.
    seconds : float
        From the first slab asked for to the last handed on, work on the results between them included.
    """

    number: int
    rows: int
    slabs: int
    known: int
    retries: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """How work is run: never what it yields.

    Parameters
    ----------
    threads : int or None
        None: as many as the process may use.
    tell : callable or None
        Called as `tell(stage, done, total)` from the thread that asked for the work.
    ended : callable or None
        Called with a `PassReport` after every pass over the rows.
    cluster : Cluster or None
        Where rows in files are worked on; None: in this process.
    checkpoint : Checkpoint or None
        Where results of slabs are kept, and taken from.
    cache : str or None
        Folder for the rows of files, read from there by every pass but the first; absolute, and every machine has its own.
    numbers : iterator of int
        Numbers the passes of a run.
    """

    threads: int | None = None
    tell: Tell | None = None
    ended: Callable[[PassReport], None] | None = None
    cluster: Cluster | None = None
    checkpoint: Checkpoint | None = None
    cache: str | None = None
    numbers: Iterator[int] = field(default_factory=lambda: count(1), compare=False, repr=False)

    @property
    def workers(self) -> int:
        """The number of threads in this process."""
        return self.threads or available_threads()

    @property
    def here(self) -> Run:
        """The same in this process alone, keeping nothing."""
        return replace(self, cluster=None, checkpoint=None)


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
    read: Callable[[int], Iterator[Any]],
    work: Callable[[int, Any], Any],
    workers: int,
) -> Iterator[Any]:
    """Results of `work(slab, data)` in slab order, where `read(u)` brings what unit u holds of each slab of `units[u]`.

    Units that share a slab follow one another; each yields the same object for it, and the work begins when the last has.
    At most `workers + 1` slabs exist at a time. Readers take units in order and wait for room before they read, so the
    lowest slab not yet yielded can always be read: no deadlock. Whatever ends the iteration ends the threads. What goes
    wrong with a slab is raised when that slab is due, that of its lowest unit first, so the same mistake is reported
    however threads take turns.
    """
    if workers > 1:
        yield from _Pipeline(units, read, work, workers).results()
        return
    last = {slab: at for at, unit in enumerate(units) for slab in unit}
    with one_blas_thread():
        for at, unit in enumerate(units):
            for slab, data in zip(unit, read(at), strict=True):
                if last[slab] == at:
                    yield work(slab, data)


class _Pipeline:
    def __init__(
        self,
        units: Sequence[Sequence[int]],
        read: Callable[[int], Iterator[Any]],
        work: Callable[[int, Any], Any],
        workers: int,
    ) -> None:
        self.units, self.read, self.work, self.workers = units, read, work, workers
        self.ahead = workers + 1
        self.changed = threading.Condition()
        self.waiting: dict[int, list[int]] = {}  # a slab's units that have not brought their part yet, in order
        for at, unit in enumerate(units):
            for slab in unit:
                self.waiting.setdefault(slab, []).append(at)
        self.parts: dict[int, dict[int, Any]] = {}
        self.futures: dict[int, Future[Any]] = {}
        self.readers: list[threading.Thread] = []
        self.yielded = 0
        self.next_unit = 0
        self.stopped = False

    def results(self) -> Iterator[Any]:
        total = len(self.waiting)
        with one_blas_thread(), ThreadPoolExecutor(self.workers) as pool:
            # Daemons, so that an iteration that nobody ends does not keep the process alive: readers wait for room.
            self.readers = [
                threading.Thread(target=self._read_units, args=(pool,), daemon=True)
                for _ in range(min(self.workers, len(self.units)))
            ]
            # A daemon that is in the middle of a file when Python goes away takes the process down with it.
            atexit.register(self.stop)
            for reader in self.readers:
                reader.start()
            try:
                for slab in range(total):
                    yield self._wait_for(slab).result()
                    with self.changed:
                        self.yielded = slab + 1
                        self.changed.notify_all()
            finally:
                self.stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                atexit.unregister(self.stop)

    def stop(self) -> None:
        """Read nothing more, and wait until nobody reads."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        for reader in self.readers:
            if not sys.is_finalizing():  # by then daemons are gone
                reader.join()

    def _wait_for(self, slab: int) -> Future[Any]:
        with self.changed:
            while slab not in self.futures:
                self.changed.wait(timeout=1.0)  # so that Ctrl-C is heard
            return self.futures.pop(slab)

    def _read_units(self, pool: ThreadPoolExecutor) -> None:
        while (at := self._next_unit()) is not None:
            parts = self._read(at)
            for slab in self.units[at]:
                if not self._room_for(slab) or not self._read_part(pool, at, slab, parts):
                    return

    def _read(self, at: int) -> Iterator[Any]:
        yield from self.read(at)  # here, so that whatever it raises belongs to a slab

    def _next_unit(self) -> int | None:
        with self.changed:
            if self.stopped or self.next_unit == len(self.units):
                return None
            self.next_unit += 1
            return self.next_unit - 1

    def _read_part(self, pool: ThreadPoolExecutor, at: int, slab: int, parts: Iterator[Any]) -> bool:
        """Read a unit's part of a slab; False where it cannot be read, nor what follows it."""
        part: Any
        try:
            part = next(parts)
        except BaseException as error:
            part = _failed(error)
        with self.changed:
            self.parts.setdefault(slab, {})[at] = part
            if not self.stopped:
                self._settle(pool, slab)
        return not isinstance(part, Future)

    def _settle(self, pool: ThreadPoolExecutor, slab: int) -> None:
        """Hand a slab to the workers when all its parts are there, or its lowest failure when all before that are."""
        waiting, parts = self.waiting[slab], self.parts[slab]
        while waiting and waiting[0] in parts:
            part = parts.pop(waiting.pop(0))
            if isinstance(part, Future) or not waiting:
                waiting.clear()
                self.futures[slab] = part if isinstance(part, Future) else self._submit(pool, slab, part)
                self.changed.notify_all()

    def _submit(self, pool: ThreadPoolExecutor, slab: int, data: Any) -> Future[Any]:
        try:
            return pool.submit(self.work, slab, data)
        except RuntimeError as error:  # the pool, or Python, is closing: nobody asks for this slab any more
            return _failed(error)

    def _room_for(self, slab: int) -> bool:
        with self.changed:
            while not self.stopped and slab >= self.yielded + self.ahead:
                self.changed.wait()
            return not self.stopped


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future

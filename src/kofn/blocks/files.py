"""Rows that lie in files: read slab by slab, entered where a group of rows begins, never all at once."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import Any, cast

import numpy as np
import pyarrow as pa

from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import Embedding
from kofn.blocks.engine import Run, map_in_order, run_tiles
from kofn.blocks.passes import remembered, run_pass
from kofn.blocks.rows import check_metric, check_rows, unit_rows
from kofn.blocks.slabcache import SlabCache
from kofn.core.block import SLAB, Block, Floats, Rows, run_serially, slab_count


class FileBlocks:
    """`Blocks` over the embedding of a `Dataset`.

    Parameters
    ----------
    dataset : Dataset
        The files.
    embedding : Embedding
        The columns that hold the vectors.
    metric : {"euclidean", "cosine"}
        Under cosine, rows are scaled to length one as they pass.
    kept : int64 (n,) or None
        Rows of the dataset that count, ascending; None for all. Row numbers of the blocks are positions in it.
    run : Run
        Threads and progress.
    check : bool
        Whether a row with NaN or infinity is an error.
    dtype : type
        What rows are converted to; float32 unless a method needs more.
    """

    def __init__(
        self,
        dataset: Dataset,
        embedding: Embedding,
        *,
        metric: str = "euclidean",
        kept: Rows | None = None,
        run: Run | None = None,
        check: bool = True,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> None:
        self.dataset, self.embedding, self.kept = dataset, embedding, kept
        self.metric = check_metric(metric)
        self.run = run or Run()
        self.passes = 0
        self.check, self.dtype = check, dtype
        self._checked: set[int] = set()

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.dataset.n if self.kept is None else len(self.kept)

    @property
    def d(self) -> int:
        """Length of a row."""
        return self.embedding.d

    @property
    def here(self) -> FileBlocks:
        """The same rows, worked on in this process alone."""
        return self.again(self.run.here)

    def again(self, run: Run) -> FileBlocks:
        """The same rows, worked on as `run` says, in this process."""
        return FileBlocks(
            self.dataset,
            self.embedding,
            metric=self.metric,
            kept=self.kept,
            run=run,
            check=self.check,
            dtype=self.dtype,
        )

    def map(self, fn: Callable[..., Any], *shared: Any, each: Sequence[Any] | None = None) -> Iterator[Any]:
        """`fn(block, *shared[, each[i]])` for every slab i, in slab order."""
        self.passes += 1
        yield from run_pass(
            self.run, self.n, (fn, shared, *self._identity), lambda slabs: self.compute(slabs, fn, shared, each)
        )

    def compute(self, slabs: Sequence[int], fn: Callable[..., Any], shared: Any, each: Any) -> Generator[Any]:
        """`fn(block, *shared[, each[i]])` for each slab i of these (ascending), in their order, on threads."""
        workers = self.run.workers
        few = len(slabs) < 2 * workers

        def tiles(call: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
            return run_tiles(call, calls, workers)

        def work(slab: int, x: Floats) -> Any:
            block = Block(slab * SLAB, self._prepare(slab, x), tiles if few else run_serially)
            return fn(block, *shared, *(() if each is None else (each[slab],)))

        yield from self._work(slabs, work, 1 if few else workers)

    def _work(self, slabs: Sequence[int], work: Callable[[int, Floats], Any], workers: int) -> Iterator[Any]:
        """`work(slab, rows as they are read)` for each of these slabs, in their order."""
        cached = set() if self.cache is None else {slab for slab in slabs if self.cache.has(slab, self.dtype)}
        units = self.units([slab for slab in slabs if slab not in cached])
        if cached:  # each a unit of its own, in the order of the rows: holes cut what is left of the others
            units = sorted([[run] for unit in units for run in unit] + [[self._span_of(slab)] for slab in cached])
        filling = _Filling(_Buffers(self.d, self.dtype), self.n)
        position = {slab: at for at, slab in enumerate(slabs)}

        def read(unit: int) -> Iterator[Floats]:
            for start, stop in units[unit]:
                slab = start // SLAB
                yield from self._load(slab, filling) if slab in cached else self._read(start, stop, filling)

        touched = [[position[slab] for run in unit for slab in _slabs_of(*run)] for unit in units]
        yield from map_in_order(touched, read, lambda at, x: work(slabs[at], x), workers)

    def take(self, rows: Rows) -> Floats:
        """The rows of these numbers, in this order."""
        what = ("take", np.asarray(rows), *self._identity)
        return cast(Floats, remembered(self.run, what, lambda: self.taken(rows)))

    def taken(self, rows: Rows) -> Floats:
        """What `take` brings, read now."""
        x = np.empty((len(rows), self.d), self.dtype)
        if self.cache is not None and len(rows) and rows.min() >= 0 and rows.max() < self.n:
            self._gather(rows, x)
        else:
            physical = self.physical(rows)
            table = self.dataset.take(physical, self.embedding.columns, self.run.workers, self.run.tell)
            self._fill(table.to_batches(), x, physical)
        check_rows(x, 0, self.metric)
        return unit_rows(x) if self.metric == "cosine" else x

    @property
    def _identity(self) -> tuple[Any, ...]:
        """What rows from this door depend on besides the files."""
        return self.metric, str(np.dtype(self.dtype)), self.kept, self.embedding.columns

    def span(self, start: int, stop: int) -> Floats:
        """Rows start..stop-1 as one array, raw: no metric is applied."""
        rows = np.empty((stop - start, self.d), self.dtype)
        if self.cache is not None and start % SLAB == 0 and (stop % SLAB == 0 or stop == self.n):
            self._gather(np.arange(start, stop), rows)
            return rows
        batches = self.dataset.read(int(self.physical(start)), int(self.physical(stop - 1)) + 1, self.embedding.columns)
        feed = _Feed(batches if self.kept is None else _only(batches, self.kept[start:stop]))
        self._fill(feed.next_rows(stop - start), rows, start if self.kept is None else self.kept[start:stop])
        return rows

    def physical(self, rows: Any) -> Any:
        """Numbers of these rows in the dataset."""
        return rows if self.kept is None else self.kept[rows]

    @cached_property
    def cache(self) -> SlabCache | None:
        """Where slabs of these rows are kept; None for tables in memory, and where no folder was named."""
        if self.run.cache is None or not self.dataset.files[0].path:
            return None
        return SlabCache.of(self.run.cache, self.dataset, self.embedding, self.kept)

    def _gather(self, rows: Rows, out: Floats) -> None:
        """Rows by number, out of whole slabs: from the cache, or by way of it."""
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        slabs = np.unique(ordered // SLAB)
        begins, ends = (np.searchsorted(ordered, border) for border in (slabs * SLAB, (slabs + 1) * SLAB))
        mine = {int(slab): slice(a, b) for slab, a, b in zip(slabs, begins, ends, strict=True)}

        def pick(slab: int, x: Floats) -> None:
            out[order[mine[slab]]] = x[ordered[mine[slab]] - slab * SLAB]

        for _ in self._work(list(mine), pick, self.run.workers):
            pass

    def units(self, slabs: Sequence[int]) -> list[list[tuple[int, int]]]:
        """First and end rows of what each reader reads of these slabs: one or more runs of rows in whole groups."""
        wanted = np.zeros(slab_count(self.n) + 1, bool)
        wanted[list(slabs)] = True
        stops = self._stops
        begin = int(np.searchsorted(stops, slabs[0] * SLAB, side="right")) if slabs else len(stops)
        units = []
        for start, stop in self._all_units[begin:]:
            if start >= (slabs[-1] + 1) * SLAB:
                break
            inside = [slab for slab in _slabs_of(start, stop) if wanted[slab]]
            firsts = [slab for slab in inside if slab == inside[0] or not wanted[slab - 1]]
            if inside:
                units.append([_run_of(first, wanted, start, stop) for first in firsts])
        return units

    @cached_property
    def _all_units(self) -> list[tuple[int, int]]:
        return reading_units(self.dataset, self.kept)

    @cached_property
    def _stops(self) -> Any:
        return np.array([stop for _, stop in self._all_units])

    def _read(self, start: int, stop: int, filling: _Filling) -> Iterator[Floats]:
        batches = self.dataset.read(int(self.physical(start)), int(self.physical(stop - 1)) + 1, self.embedding.columns)
        feed = _Feed(batches if self.kept is None else _only(batches, self.kept[start:stop]))
        while start < stop:
            slab, until = start // SLAB, min((start // SLAB + 1) * SLAB, stop)
            x = filling.room(slab)
            part = x[start - slab * SLAB : until - slab * SLAB]
            self._fill(feed.next_rows(until - start), part, start if self.kept is None else self.kept[start:until])
            if filling.filled(slab, until - start) and self.cache is not None:
                self.cache.keep(slab, x)
            yield x
            del x, part  # so that the buffer is free when nobody else looks at it
            start = until

    def _load(self, slab: int, filling: _Filling) -> Iterator[Floats]:
        """A slab from the cache; from the files where it is damaged there. They must be those that it was made from."""
        assert self.cache is not None
        start, stop = self._span_of(slab)
        first, last = (self.dataset.group_at(int(self.physical(row))) for row in (start, stop - 1))
        for number in range(self.dataset.groups[first].file, self.dataset.groups[last].file + 1):
            self.dataset.files[number].check_unchanged()
        x = filling.buffers.take(stop - start)
        if self.cache.load(slab, x):
            yield x
        else:
            del x
            yield from self._read(start, stop, filling)

    def _span_of(self, slab: int) -> tuple[int, int]:
        """First and end row of a slab."""
        return slab * SLAB, min((slab + 1) * SLAB, self.n)

    def _fill(self, batches: Any, x: Floats, rows: int | Rows) -> None:
        at = 0
        for batch in batches:
            until = at + batch.num_rows
            self.embedding.fill(batch, x[at:until], rows + at if isinstance(rows, int) else rows[at:until])
            at = until

    def _prepare(self, slab: int, x: Floats) -> Floats:
        if self.check and slab not in self._checked:
            check_rows(x, slab * SLAB, self.metric)
            self._checked.add(slab)
        rows = unit_rows(x) if self.metric == "cosine" else x.view()
        rows.flags.writeable = False
        return rows


def _slabs_of(start: int, stop: int) -> range:
    """The slabs that these rows lie in."""
    return range(start // SLAB, -(-stop // SLAB))


def _run_of(first: int, wanted: Any, start: int, stop: int) -> tuple[int, int]:
    """Rows within start..stop-1 of the wanted slabs that follow one another from `first` on."""
    last = first + int(np.argmin(wanted[first:]))
    return max(start, first * SLAB), min(stop, last * SLAB)


def reading_units(dataset: Dataset, kept: Rows | None) -> list[tuple[int, int]]:
    """First and end row of what one reader reads: whole groups, each decoded once, a slab's worth of rows or more."""
    ends = np.array([group.stop for group in dataset.groups])
    if kept is not None:
        ends = np.searchsorted(kept, ends)
    units, start = [], 0
    for stop in ends.tolist():
        if stop - start >= SLAB or (stop == ends[-1] and stop > start):
            units.append((start, stop))
            start = stop
    return units


class _Buffers:
    """Room for slabs, used again: a fresh one would cost its page faults at every slab.

    An array's room comes back when the last view of the array is gone, so results may keep views of a block.
    """

    def __init__(self, d: int, dtype: type[np.floating[Any]]) -> None:
        self.d, self.dtype = d, np.dtype(dtype)
        self.free: deque[bytearray] = deque()

    def take(self, rows: int) -> Floats:
        """An uninitialised array (rows, d)."""
        if rows < SLAB:
            return np.empty((rows, self.d), self.dtype)
        try:
            room = self.free.pop()
        except IndexError:
            room = bytearray(self.dtype.itemsize * rows * self.d)
        # Views of an array over foreign memory refer to that array, not to its memory, so it dies after them.
        x: Floats = np.ndarray((rows, self.d), self.dtype, buffer=room)
        weakref.finalize(x, self.free.append, room).atexit = False
        return x


class _Filling:
    """Slabs whose rows are not all there yet: readers of neighbouring groups share one."""

    def __init__(self, buffers: _Buffers, n: int) -> None:
        self.buffers, self.n = buffers, n
        self.lock = Lock()
        self.open: dict[int, tuple[Floats, int]] = {}

    def room(self, slab: int) -> Floats:
        """The slab's rows, to be filled; the same array for every reader."""
        with self.lock:
            if slab not in self.open:
                rows = min(SLAB, self.n - slab * SLAB)
                self.open[slab] = self.buffers.take(rows), rows
            return self.open[slab][0]

    def filled(self, slab: int, rows: int) -> bool:
        """Whether these were the last rows of the slab, which is then forgotten: its room comes back when the work is done."""
        with self.lock:
            x, left = self.open.pop(slab)
            if left > rows:
                self.open[slab] = x, left - rows
            return left == rows


class _Feed:
    """Batches cut anew into runs of an asked number of rows."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.batches = batches
        self.rest: pa.RecordBatch | None = None

    def next_rows(self, rows: int) -> Iterator[pa.RecordBatch]:
        while rows:
            batch = self.rest if self.rest is not None else next(self.batches)
            self.rest = None
            if batch.num_rows > rows:
                self.rest, batch = batch.slice(rows), batch.slice(0, rows)
            rows -= batch.num_rows
            yield batch


def _only(batches: Iterator[pa.RecordBatch], kept: Rows) -> Iterator[pa.RecordBatch]:
    position = int(kept[0])
    for batch in batches:
        low, high = np.searchsorted(kept, [position, position + batch.num_rows])
        if high > low:
            yield batch.take(pa.array(kept[low:high] - position))
        position += batch.num_rows

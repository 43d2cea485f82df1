"""Rows that lie in files: read slab by slab, entered where a group of rows begins, never all at once."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import Embedding
from kofn.blocks.engine import Run, map_in_order, run_tiles
from kofn.blocks.rows import check_metric, check_rows, unit_rows
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
    ) -> None:
        self.dataset, self.embedding, self.kept = dataset, embedding, kept
        self.metric = check_metric(metric)
        self.run = run or Run()
        self.passes = 0
        self.check = check
        self._checked: set[int] = set()

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.dataset.n if self.kept is None else len(self.kept)

    @property
    def d(self) -> int:
        """Length of a row."""
        return self.embedding.d

    def map(self, fn: Callable[..., Any], *shared: Any, each: Sequence[Any] | None = None) -> Iterator[Any]:
        """`fn(block, *shared[, each[i]])` for every slab i, in slab order."""
        slabs, workers = slab_count(self.n), self.run.workers
        self.passes += 1
        few, buffers = slabs < 2 * workers, _Buffers(self.d)

        def tiles(call: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
            return run_tiles(call, calls, workers)

        def read(unit: Sequence[int]) -> Iterator[Floats]:
            return self._read(unit, buffers)

        def work(slab: int, x: Floats) -> Any:
            block = Block(slab * SLAB, self._prepare(slab, x), tiles if few else run_serially)
            return fn(block, *shared, *(() if each is None else (each[slab],)))

        for slab, result in enumerate(map_in_order(self._units(), read, work, 1 if few else workers)):
            yield result
            if self.run.tell:
                self.run.tell(f"pass {self.passes}", min((slab + 1) * SLAB, self.n), self.n)

    def take(self, rows: Rows) -> Floats:
        """The rows of these numbers, in this order, as float32."""
        physical = rows if self.kept is None else self.kept[rows]
        table = self.dataset.take(physical, self.embedding.columns, self.run.workers)
        x = np.empty((len(rows), self.d), dtype=np.float32)
        self._fill(table.to_batches(), x, physical)
        check_rows(x, 0, self.metric)
        return unit_rows(x) if self.metric == "cosine" else x

    def _units(self) -> list[list[int]]:
        """Slabs that begin in one group are read by one reader, so that a large group is decoded once."""
        units: list[list[int]] = []
        group = -1
        for slab in range(slab_count(self.n)):
            begins_in = self.dataset.group_at(self._physical(slab * SLAB))
            if begins_in != group:
                units.append([])
                group = begins_in
            units[-1].append(slab)
        return units

    def _physical(self, row: int) -> int:
        return row if self.kept is None else int(self.kept[row])

    def _read(self, unit: Sequence[int], buffers: _Buffers) -> Iterator[Floats]:
        first, last = unit[0] * SLAB, min((unit[-1] + 1) * SLAB, self.n)
        batches = self.dataset.read(self._physical(first), self._physical(last - 1) + 1, self.embedding.columns)
        feed = _Feed(batches if self.kept is None else _only(batches, self.kept[first:last]))
        for slab in unit:
            start, stop = slab * SLAB, min((slab + 1) * SLAB, self.n)
            x = buffers.take(stop - start)
            self._fill(feed.next_rows(stop - start), x, start if self.kept is None else self.kept[start:stop])
            yield x
            del x  # so that the buffer is free when nobody else looks at it

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


class _Buffers:
    """Room for slabs, used again: a fresh one would cost its page faults at every slab.

    An array's room comes back when the last view of the array is gone, so results may keep views of a block.
    """

    def __init__(self, d: int) -> None:
        self.d = d
        self.free: deque[bytearray] = deque()

    def take(self, rows: int) -> Floats:
        """An uninitialised float32 array (rows, d)."""
        if rows < SLAB:
            return np.empty((rows, self.d), np.float32)
        try:
            room = self.free.pop()
        except IndexError:
            room = bytearray(4 * rows * self.d)
        # Views of an array over foreign memory refer to that array, not to its memory, so it dies after them.
        x: Floats = np.ndarray((rows, self.d), np.float32, buffer=room)
        weakref.finalize(x, self.free.append, room).atexit = False
        return x


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

"""Rows that lie in files: read slab by slab, entered where a group of rows begins, never all at once."""

from __future__ import annotations

import sys
import threading
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
        self._free: list[Floats] = []
        self._lock = threading.Lock()

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
        few = slabs < 2 * workers

        def tiles(call: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
            return run_tiles(call, calls, workers)

        def work(slab: int, x: Floats) -> Any:
            references = sys.getrefcount(x)
            block = Block(slab * SLAB, self._prepare(slab, x), tiles if few else run_serially)
            result = fn(block, *shared, *(() if each is None else (each[slab],)))
            del block
            if sys.getrefcount(x) <= references:  # no view of it is left in the result
                self._give_back(x)
            return result

        for slab, result in enumerate(map_in_order(self._units(), self._read, work, 1 if few else workers)):
            yield result
            if self.run.tell:
                self.run.tell(f"pass {self.passes}", min((slab + 1) * SLAB, self.n), self.n)
        self._free.clear()

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

    def _read(self, unit: Sequence[int]) -> Iterator[Floats]:
        first, last = unit[0] * SLAB, min((unit[-1] + 1) * SLAB, self.n)
        batches = self.dataset.read(self._physical(first), self._physical(last - 1) + 1, self.embedding.columns)
        feed = _Feed(batches if self.kept is None else _only(batches, self.kept[first:last]))
        for slab in unit:
            rows = min(SLAB, self.n - slab * SLAB)
            x = self._buffer(rows)
            self._fill(feed.next_rows(rows), x, self._physical(slab * SLAB))
            yield x

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

    def _buffer(self, rows: int) -> Floats:
        with self._lock:
            if self._free and rows == SLAB:
                return self._free.pop()
        return np.empty((rows, self.d), dtype=np.float32)

    def _give_back(self, x: Floats) -> None:
        # A fresh buffer would cost its page faults at every slab.
        if len(x) == SLAB:
            with self._lock:
                self._free.append(x)


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

"""Rows that lie in memory: an array of any float or integer type, a memory-mapped file, or a sparse matrix."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from kofn.blocks.engine import Run, map_in_order, run_tiles
from kofn.blocks.passes import run_pass
from kofn.blocks.rows import as_floats, check_metric, check_rows, unit_rows
from kofn.core.block import SLAB, Block, Rows, run_serially


class MemoryBlocks:
    """`Blocks` over an array.

    Parameters
    ----------
    x : array (n, d) or scipy.sparse matrix (n, d)
        Never modified. Converted slab by slab where it is of another type, at every pass.
    metric : {"euclidean", "cosine"}
        Under cosine, rows are scaled to length one as they pass.
    run : Run
        Threads and progress.
    dtype : type
        What rows are converted to; float32 unless a method needs more.
    """

    def __init__(
        self, x: Any, *, metric: str = "euclidean", run: Run | None = None, dtype: type[np.floating[Any]] = np.float32
    ) -> None:
        self.x = x if isinstance(x, np.ndarray) else x.tocsr()
        self.metric = check_metric(metric)
        self.run = run or Run()
        self.dtype = dtype
        self.passes = 0
        self._checked: set[int] = set()

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0])

    @property
    def d(self) -> int:
        """Length of a row."""
        return int(self.x.shape[1])

    @property
    def here(self) -> MemoryBlocks:
        """These rows: they are in this process."""
        return self

    def map(self, fn: Callable[..., Any], *shared: Any, each: Sequence[Any] | None = None) -> Iterator[Any]:
        """`fn(block, *shared[, each[i]])` for every slab i, in slab order."""
        self.passes += 1
        run = self.run.here  # rows in memory stay where they are
        yield from run_pass(run, self.n, (), lambda slabs: self._compute(slabs, fn, shared, each))

    def _compute(self, slabs: Sequence[int], fn: Callable[..., Any], shared: Any, each: Any) -> Generator[Any]:
        workers = self.run.workers
        in_tiles = len(slabs) < 2 * workers  # too few slabs to keep the threads busy: they take tiles instead
        runner = partial(run_tiles, workers=workers) if in_tiles else run_serially

        def work(slab: int, _: None) -> Any:
            block = Block(slab * SLAB, self._slab(slab), runner)
            return fn(block, *shared, *(() if each is None else (each[slab],)))

        units = [[slab] for slab in slabs]
        yield from map_in_order(units, lambda _: iter([None]), work, 1 if in_tiles else workers)

    def take(self, rows: Rows) -> Any:
        """The rows of these numbers; a view where they are all the rows of an array of the right type."""
        everything = len(rows) == self.n and np.array_equal(rows, np.arange(self.n))
        x = as_floats(self.x if everything else self.x[rows], self.dtype)
        check_rows(x, 0, self.metric)
        return self._prepare(x)

    def _slab(self, slab: int) -> Any:
        start = slab * SLAB
        x = as_floats(self.x[start : start + SLAB], self.dtype)
        if slab not in self._checked:
            check_rows(x, start, self.metric)
            self._checked.add(slab)
        return self._prepare(x)

    def _prepare(self, x: Any) -> Any:
        rows = unit_rows(x) if self.metric == "cosine" else x
        if isinstance(rows, np.ndarray):
            rows = rows.view()
            rows.flags.writeable = False
        return rows

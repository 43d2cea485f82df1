"""Rows in files, worked on by a Ray cluster: workers read them where they lie, and only results come back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kofn.blocks.dataset import GATHERED, Dataset
from kofn.blocks.embedding import Embedding
from kofn.blocks.engine import Run
from kofn.blocks.files import FileBlocks
from kofn.core.block import SLAB, Floats, Rows, slab_count
from kofn.errors import EngineError, KofnError

if TYPE_CHECKING:
    from kofn.blocks.cluster import Cluster

MOST = 8
"""Slabs in a call: what is lost at most with a worker, and the size of a worker's answer."""


class RayBlocks(FileBlocks):
    """`FileBlocks` whose slabs are worked on by `run.cluster`: the same results, bit for bit."""

    def compute(self, slabs: Sequence[int], fn: Callable[..., Any], shared: Any, each: Any) -> Generator[Any]:
        """`fn` of these slabs, in their order."""
        cluster = self.run.cluster
        assert cluster is not None
        tasks, homes = self.tasks(slabs, cluster.workers), None
        if self.cache is not None:
            tasks, homes = self.tasks_at_home(slabs, cluster)
        calls = [(task, None if each is None else {slab: each[slab] for slab in task}) for task in tasks]
        found = cluster.map(slabs_of, (self.as_sent(), fn, shared), calls, lambda at: self.describe(tasks[at]), homes)
        for results in found:
            yield from results

    def taken(self, rows: Rows) -> Floats:
        """The rows of these numbers, in this order: each worker reads the groups of some of them."""
        cluster = self.run.cluster
        assert cluster is not None
        order = np.argsort(rows, kind="stable")
        ordered, homes = np.asarray(rows)[order], None
        if self.cache is None or not len(ordered) or ordered[0] < 0 or ordered[-1] >= self.n:
            cuts = _cuts(self.dataset, ordered if self.kept is None else self.kept[ordered], 2 * cluster.workers)
        else:
            tasks, homes = self.tasks_at_home(np.unique(ordered // SLAB).tolist(), cluster)
            cuts = [0, *np.searchsorted(ordered, [(task[-1] + 1) * SLAB for task in tasks]).tolist()]
        calls = [(ordered[a:b],) for a, b in pairwise(cuts)]
        if homes is None and len(calls) < 2:
            return self.here.taken(rows)
        out = np.empty((len(rows), self.d), self.dtype)
        found = cluster.map(_rows_of, (self.as_sent(),), calls, lambda at: f"{len(calls[at][0])} rows by number", homes)
        for (a, b), x in zip(pairwise(cuts), found, strict=True):
            out[order[a:b]] = x
            if self.run.tell is not None:
                self.run.tell(GATHERED, b, len(rows))
        return out

    def as_sent(self) -> FileBlocks:
        """The same rows as a worker opens them: one thread, one slab after the other."""
        sent = self.again(Run(threads=1, cache=self.run.cache))
        _ = sent.cache  # its key is made here, once, and not by every worker
        return sent

    def tasks(self, slabs: Sequence[int], workers: int) -> list[list[int]]:
        """Slabs of each call: runs that begin where a group of rows begins, of a few slabs where there are many."""
        least = int(np.clip(len(slabs) // (4 * workers), 1, MOST))
        begins = np.array([start for start, _ in self._all_units])
        units = np.searchsorted(begins, np.asarray(slabs, np.int64) * SLAB, side="right")
        tasks: list[list[int]] = []
        for at, slab in enumerate(slabs):
            follows = bool(tasks) and slab == tasks[-1][-1] + 1
            same = at > 0 and units[at] == units[at - 1]
            room = bool(tasks) and len(tasks[-1]) < (2 * MOST if same else least)
            if follows and room:
                tasks[-1].append(slab)
            else:
                tasks.append([slab])
        return tasks

    def tasks_at_home(self, slabs: Sequence[int], cluster: Cluster) -> tuple[list[list[int]], list[str] | None]:
        """Slabs of each call and the machine that has them in its cache: the same in every pass, whichever slabs are known."""
        nodes, wanted = cluster.nodes, set(slabs)
        tasks, homes = [], []
        for at, whole in enumerate(self.tasks(range(slab_count(self.n)), cluster.workers)):
            if task := [slab for slab in whole if slab in wanted]:
                tasks.append(task)
                homes += [nodes[at % len(nodes)]] if nodes else []
        return tasks, homes or None

    def describe(self, slabs: Sequence[int]) -> str:
        """Which rows these slabs hold, and where they lie: the file and its group of rows."""
        first, last = slabs[0] * SLAB, min((slabs[-1] + 1) * SLAB, self.n)
        return f"rows {first:,} to {last - 1:,} ({self.dataset.group_of(self.physical(first))})"


def file_blocks(dataset: Dataset, embedding: Embedding, *, run: Run, **given: Any) -> FileBlocks:
    """Rows in files as `Blocks`, on the engine that `run` names. Tables in memory stay in this process."""
    if run.cluster is not None and dataset.files[0].path:
        return RayBlocks(dataset, embedding, run=run, **given)
    return FileBlocks(dataset, embedding, run=run, **given)


def slabs_of(door: FileBlocks, fn: Callable[..., Any], shared: Any, slabs: Sequence[int], each: Any) -> list[Any]:
    """What a worker does: the results of `fn` for these slabs."""
    results: list[Any] = []
    try:
        for result in door.compute(slabs, fn, shared, each):
            results.append(result)  # noqa: PERF402  so that a failure knows its slab
    except KofnError:
        raise
    except Exception as error:
        slab = slabs[len(results)]
        place = door.dataset.group_of(door.physical(slab * SLAB))
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise EngineError(
            f"the block of rows {slab * SLAB:,} to {min((slab + 1) * SLAB, door.n) - 1:,} ({place}) failed: {what}; what was "
            "finished is kept with --checkpoint"
        ) from error
    return results


def take_table(dataset: Dataset, rows: Rows, columns: Sequence[str] | None, run: Run) -> pa.Table:
    """Rows of a dataset by number, in this order; on a cluster each worker reads the groups of some of them.

    In one chunk: what is written depends on chunks.
    """
    return _taken(dataset, rows, columns, run).combine_chunks()


def _taken(dataset: Dataset, rows: Rows, columns: Sequence[str] | None, run: Run) -> pa.Table:
    if run.cluster is None or not dataset.files[0].path:
        return dataset.take(rows, columns, run.workers, run.tell)
    order = np.argsort(rows, kind="stable")
    ordered = np.asarray(rows)[order]
    calls = [(ordered[a:b],) for a, b in pairwise(_cuts(dataset, ordered, 2 * run.cluster.workers))]
    if len(calls) < 2:
        return dataset.take(rows, columns, run.workers, run.tell)
    found = run.cluster.map(_table_of, (dataset, columns), calls, lambda at: f"{len(calls[at][0])} rows by number")
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    return pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in found]).take(pa.array(back))


def _table_of(dataset: Dataset, columns: Sequence[str] | None, rows: Rows) -> bytes:
    """As an Arrow stream: pickled, a table loses the names of the fields within its lists."""
    table, sink = dataset.take(rows, columns, 1), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _rows_of(door: FileBlocks, rows: Rows) -> Floats:
    return door.take(rows)


def _cuts(dataset: Dataset, rows: Rows, pieces: int) -> list[int]:
    """Where ascending rows are cut into at most so many pieces, never within a group of rows."""
    if not len(rows):
        return [0]
    ends = np.unique(np.searchsorted(rows, [group.stop for group in dataset.groups]))
    ends = ends[ends > 0]
    wanted = np.searchsorted(ends, np.arange(1, pieces + 1) * len(rows) / pieces)
    return [0, *np.unique(ends[np.minimum(wanted, len(ends) - 1)]).tolist()]

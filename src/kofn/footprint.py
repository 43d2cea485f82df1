"""What a checked selection will read and hold: bytes counted from footers and shapes, before the first row is read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kofn.blocks import FileBlocks, Run
from kofn.blocks.features import SAMPLE
from kofn.blocks.files import reading_units
from kofn.blocks.footers import Footers, Sizes
from kofn.blocks.formats import BUFFER
from kofn.blocks.remote import MOST
from kofn.core.block import SLAB, TILE, slab_count
from kofn.method import door_metric
from kofn.request import Request
from kofn.tworound import TwoRound

READER = 42 << 20
"""What a thread that reads Parquet keeps beside its buffers: the segments of Arrow's allocator, as measured."""

COMPILER = 160 << 20
"""What numba takes while it compiles a method's kernels, at their first run on a machine."""

LOADED = 80 << 20
"""What it takes to load them, and to compile one or two more that a small trial does not need."""

RAY = 120 << 20
"""What Ray takes in a process that is connected to a cluster, and in a worker."""

SLACK = 1.05


def process_peak() -> int:
    """The largest memory that this process has held so far, in bytes."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10


def passes_of(request: Request, parts: TwoRound | None, looking: bool = True) -> int:
    """How often the rows are read from beginning to end, looking for invalid ones included."""
    n, d, k = request.items.n, request.items.d, request.k
    runner = request.method if parts is None else parts
    looks = request.reading.get("invalid") == "drop" and "embeddings" in request.method.needs
    return runner.passes(n, d, k) + (looks and looking)


def bytes_read(request: Request, parts: TwoRound | None, cache: str | None = None, extra: int = 0) -> dict[str, int]:
    """Bytes that `kofn select` reads: a pass, all passes, columns, footers, and the picks at most; from the files, and from
    the cache.

    Columns are exact, and so are passes over all rows, up to the buffer with which a group is left before its end; a pass
    that gathers rows by number reads less where slabs and groups do not begin together. The picks are read from the
    groups that hold one, which cannot be known before: as if they lay in the largest groups, each read to its end.
    With a cache, the first pass reads what is not there yet from the files, the others read all from there. `extra` are passes
    beyond those of the method: workers that deal parts read all rows each.
    """
    source, passes = request.source, passes_of(request, parts)
    if source.dataset is None:
        return _totals(0, 0, 0, 0, 0, 0)
    footers = Footers(source.dataset)
    if footers.in_memory:
        return _totals(0, 0, 0, 0, 0, 0)
    from_files = source.embedding is not None and source.array is None
    each = bytes_of_pass(footers, source.embedding.columns, request.kept) if from_files else 0
    remote, local = each * (passes + extra), 0
    if cache is not None and each and passes:
        remote, local = _bytes_by_cache(request, parts, footers, cache)
    columns = sum(int(footers.stored([name]).sum()) * times for name, times in _columns_read(request).items())
    if looked := getattr(source.embedding, "looked", ()):  # once, together, to fit the features
        columns += int(footers.stored(looked).sum())
    groups = np.sort(footers.stored(source.dataset.schema.names).sum(axis=1))
    picks = int(groups[-request.k :].sum())
    return _totals(each, remote, local, columns + _size_of_have(request), footers.overhead, picks)


def _totals(each: int, remote: int, local: int, columns: int, footers: int, picks: int) -> dict[str, int]:
    parts = {"rows": remote + local, "columns": columns, "footers": footers, "picks": picks}
    total = sum(parts.values())
    return {"a_pass": each, **parts, "remote": total - local, "local": local, "total": total}


def _bytes_by_cache(request: Request, parts: TwoRound | None, footers: Footers, folder: str) -> tuple[int, int]:
    """Bytes of all passes over the rows: from the files, and from the cache as it will be filled."""
    source, method = request.source, request.method
    passes = passes_of(request, parts)
    looks = passes - passes_of(request, parts, looking=False)
    remote = local = 0
    # Parts that are no whole slabs are read from the files.
    if parts is not None and parts.deal == "consecutive" and parts.part % SLAB:
        remote, passes = bytes_of_pass(footers, source.embedding.columns, request.kept), passes - 1
    filled: set[Path] = set()
    for kept, dtype, times in ((None, np.float32, looks), (request.kept, method.dtype, passes - looks)):
        door = FileBlocks(source.dataset, source.embedding, kept=kept, run=Run(cache=folder), dtype=dtype)
        assert door.cache is not None
        slabs = range(slab_count(door.n))
        paths = {slab: door.cache.place(slab, dtype) for slab in slabs}
        missing = [slab for slab in slabs if not door.cache.has(slab, dtype) and paths[slab] not in filled]
        if times:
            runs = [run for unit in door.units(missing) for run in unit]
            physical = [(int(door.physical(start)), int(door.physical(stop - 1))) for start, stop in runs]
            remote += bytes_of_runs(footers, source.embedding.columns, physical)
            local += times * door.cache.bytes(slabs, dtype) - door.cache.bytes(missing, dtype)
            filled |= set(paths.values())
    return remote, local


def bytes_of_pass(footers: Footers, columns: tuple[str, ...], kept: Any) -> int:
    """Bytes of one pass over these columns: every group once; where rows are left out, from the first group that holds one
    of a reader's rows to the last of them."""
    if kept is None:
        return int(footers.stored(columns).sum())
    units = reading_units(footers.dataset, kept)
    return bytes_of_runs(footers, columns, [(int(kept[start]), int(kept[stop - 1])) for start, stop in units])


def bytes_of_runs(footers: Footers, columns: tuple[str, ...], runs: list[tuple[int, int]]) -> int:
    """Bytes of these columns that are read for runs of rows, first and last given: from the beginning of the first's group."""
    dataset, sizes = footers.dataset, footers.stored(columns)
    before = np.concatenate([[0], np.cumsum(sizes.sum(axis=1))])
    starts = np.array([group.start for group in dataset.groups])
    total = 0
    for first, end in runs:
        group, until = np.searchsorted(starts, [first, end], side="right") - 1
        total += int(before[until] - before[group])
        total += _begun(sizes[until], (end + 1 - starts[until]) / dataset.groups[until].rows)
    return total


def _begun(sizes: Sizes, share: float) -> int:
    """Bytes of a group that is left after this share of its rows: whole buffers of each column."""
    return int(np.minimum(sizes, np.ceil(share * sizes / BUFFER) * BUFFER).sum())


def _columns_read(request: Request) -> dict[str, int]:
    """Columns that are read from beginning to end, and how often."""
    names = request.source.dataset.schema.names
    given = {role: value for role, value in request.columns.items() if isinstance(value, str) and value in names}
    times: dict[str, int] = {}
    for role in ("label", "score", "group", "weight", "have"):
        if role in given:
            again = role == "score" and request.reading.get("invalid") == "drop"
            times[given[role]] = times.get(given[role], 0) + 1 + again
    if "id" in given and request.columns.get("have") is not None and "have" not in given:
        times[given["id"]] = times.get(given["id"], 0) + 1
    return times


def _size_of_have(request: Request) -> int:
    have = request.columns.get("have")
    return os.path.getsize(have) if isinstance(have, str) and os.path.isfile(have) else 0


def memory_held(request: Request, parts: TwoRound | None, process: int, *, warm: bool = False) -> dict[str, int]:
    """An upper bound on the memory of the whole process, in bytes, and what it is made of.

    Parameters
    ----------
    process : int
        What the process has held once everything was imported and the columns were loaded.
    warm : bool
        Whether the method's kernels are known to lie compiled on this machine's disk.
    """
    method, items, source = request.method, request.items, request.source
    n, d, k = items.n, items.d, request.k
    runner = method if parts is None else parts
    reads_rows = bool("embeddings" in method.needs | method.uses and d)
    need = runner.bytes(n, d, k)
    held = {"process": process, "method": need + (0 if parts is None else 8 * d * (parts.part + parts.union(n, k)))}
    held["columns"] = 17 * n + (200 * source.n if request.columns.get("label") is not None else 0)
    held["kernels"] = (LOADED if warm else COMPILER) if reads_rows else 0
    held["rows"] = _rows_in_flight(request) if reads_rows else 0
    if source.dataset is not None:
        footers = Footers(source.dataset)
        columns = source.embedding.columns if reads_rows and source.array is None else ()
        workers = min(items.run.workers, len(source.dataset.groups))
        readers = max(_reader(footers, columns), _reader(footers, source.dataset.schema.names))
        held["files"] = workers * readers + footers.mapped
        if columns:  # rows that are gathered by number, before or after a pass, lie in Arrow twice on their way
            gathered = min(n, need // (4 * d)) if method.streams or parts is not None else k + len(items.have_rows)
            row = _itemsize(source.embedding.dtype) * d
            if source.has_features:
                row = max(row, footers.row_bytes(columns))
            held["rows"] = max(held["rows"], 2 * row * gathered)
        held["columns"] += 2 * min(source.n, SAMPLE) * footers.row_bytes(getattr(source.embedding, "looked", ()))
        held["picks"] = 4 * k * footers.row_bytes(source.dataset.schema.names)
    return {**held, "total": int(SLACK * sum(held.values()))}


def held_on_ray(request: Request, parts: TwoRound | None, held: dict[str, int]) -> dict[str, int]:
    """The same for a run on a cluster: of the driver, and `worker`, of each worker at most.

    A worker has one slab at a time, the results of a call, and in two rounds the method at work on one part. The driver
    has the results of the call that is due; what does not stream and fits as it is, it does by itself.
    """
    method, items = request.method, request.items
    n, d, k = items.n, items.d, request.k
    cosine = door_metric(method) == "cosine"
    results = 16 * min(n, MOST * SLAB)
    slabs = (1 + cosine) * min(n, SLAB) * d * np.dtype(method.dtype).itemsize
    one = min(items.run.workers, len(request.source.dataset.groups)) if request.source.dataset is not None else 1
    reader = held.get("files", 0) // one
    part = 0 if parts is None else method.bytes(parts.part, d, k) + 8 * d * parts.part
    worker = held["process"] + RAY + held["kernels"] + slabs + reader + results + part
    if method.streams or parts is not None:
        held = {**held, "rows": max(0, held["rows"] - _rows_in_flight(request)) + results}
    driver = {name: size for name, size in held.items() if name != "total"} | {"ray": RAY}
    return {**driver, "total": int(SLACK * sum(driver.values())), "worker": int(SLACK * worker)}


def _itemsize(arrow_name: str) -> int:
    return np.dtype({"float": "float32", "double": "float64"}.get(arrow_name, arrow_name)).itemsize


def _rows_in_flight(request: Request) -> int:
    """Slabs that exist at a time: one for each thread, one read ahead, one in hand, and those being normalised."""
    items, workers = request.items, request.items.run.workers
    cosine = door_metric(request.method) == "cosine"
    slabs = min(slab_count(items.n), workers + 2) + cosine * min(slab_count(items.n), workers)
    return slabs * min(items.n, SLAB) * items.d * np.dtype(request.method.dtype).itemsize


def _reader(footers: Footers, columns: Any) -> int:
    """What one thread holds while it reads these columns of the largest group."""
    if footers.in_memory or not columns:
        return 0
    buffers = int(np.minimum(footers.stored(columns), BUFFER).sum(axis=1).max())
    decoded = 2.5 * TILE * footers.row_bytes(columns) * 2  # as much again for the levels of lists
    return READER + 3 * (buffers + int(decoded) + (2 << 20))

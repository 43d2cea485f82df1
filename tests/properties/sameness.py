"""Law 2: the same picks as bytes, whatever the files, the threads and the memory layout, also on rows laid on near ties."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import kofn
from kofn import Method
from properties.worlds import ROLES, World, as_bytes, column_sets, near_ties, through_the_door, write_layouts

RUNS = [("groups of 1,000", 4), ("groups of 70,000", 1), ("one group", 4), ("seven files", 1), ("seven files", 4)]
FEWER = [("groups of 1,000", 4), ("one group", 4), ("seven files", 1)]  # rows that fit one group of 70,000


@contextmanager
def laid_out() -> Iterator[dict[int, dict[str, str]]]:
    """Paths of every layout, by number of rows: 140,000 (three slabs), and 4,500 (two tiles) for those in memory."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for n in (140_000, 4_500):
            at = Path(folder) / str(n)
            at.mkdir()
            paths[n] = write_layouts(near_ties(n), at)
        yield paths


def law_2_layout_and_threads_change_nothing(
    method: Method, layouts: dict[int, dict[str, str]], *, more_columns: bool = True
) -> None:
    """With the columns that the method needs, every layout and number of threads; with all that it can use, the extremes."""
    w, k = world_for(method)
    needed, fullest = column_sets(method)[0], max(column_sets(method), key=len)
    runs = [(layout, threads) for layout, threads in RUNS if w.n > 70_000 or (layout, threads) in FEWER]
    sets = {fullest: RUNS[-1:]} if more_columns else {}
    for columns, each in (sets | {needed: [("array", 4), *runs]}).items():
        expected = as_bytes(through_the_door(method, w, columns, k, threads=1))
        names = {ROLES[name]: ROLES[name] for name in columns}
        for layout, threads in each:
            if layout == "array":
                got = through_the_door(method, w, columns, k, threads=threads)
            else:
                path = layouts[w.n][layout]
                got = kofn.select(path, k, method=method, embedding="embedding", threads=threads, **names)
            assert_same(as_bytes(got), expected, f"{layout} on {threads} threads")


def world_for(method: Method) -> tuple[World, int]:
    """Three slabs and few passes for methods that stream; two tiles for those that work in memory."""
    if not method.streams:
        return near_ties(4_500), 30
    return near_ties(140_000), 40 if method.passes(140_000, 4, 40) <= 20 else 5


def assert_same(got: dict[str, bytes], expected: dict[str, bytes], how: str) -> None:
    for name, part in expected.items():
        if got[name] != part:
            kind = np.int64 if name in ("indices", "strata") else np.float64
            there, here = (np.frombuffer(each, kind) for each in (part, got[name]))
            differ = int((here != there).sum()) if len(here) == len(there) else len(there)
            raise AssertionError(f"{how}: {differ} of {len(there)} {name} differ")

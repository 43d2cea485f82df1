"""Law 2 on three engines: the same bytes from memory, from files, and from a cluster whose work is done in any order.

Calls of one slab each, finished late or early by their number and taken in at random, so that several workers share every
pass and nothing comes back as it was given out. Everything here can be imported by a worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

import kofn
from kofn import Items, Method, Selection, tworound
from kofn.blocks import cluster, remote
from kofn.core.assign import nearest_in_block
from kofn.core.distance import Centers
from kofn.front import running
from properties.mutants import Honest
from properties.sameness import assert_same, world_for
from properties.worlds import ROLES, as_bytes, column_sets, near_ties, through_the_door

ENGINES = [("local", 1), ("local", 2), ("ray", 1), ("ray", 2), ("ray", 3)]
PAUSES = (0.010, 0.0, 0.005)
"""Seconds that calls are late, in turn: of the three slabs of a pass the first is finished last."""

Layouts = dict[int, dict[str, str]]


# Any order ----------------------------------------------------------------------------------------------------------


@contextmanager
def in_any_order() -> Iterator[list[int]]:
    """Calls of one slab, that are late by their number and taken in at random; the numbers of calls, as they were taken in."""
    collect, carry, rng = cluster._Calls._collect, cluster.Cluster.map, np.random.default_rng(0)
    taken: list[int] = []

    def one_at_random(calls: Any) -> bool:
        each = list(calls.running)[rng.integers(len(calls.running))]
        calls.ray.wait([each])
        others, calls.running = calls.running, {each: calls.running[each]}
        del others[each]
        taken.append(calls.running[each][0])
        found = collect(calls)
        calls.running = {**others, **calls.running}
        return found

    def late(this: Any, fn: Any, shared: Any, calls: Sequence[Any], *more: Any) -> Iterator[Any]:
        paused = [(PAUSES[at % len(PAUSES)], call) for at, call in enumerate(calls)]
        return carry(this, carried_out_late, (fn, shared), paused, *more)

    def single(_: Any, slabs: Sequence[int], workers: int) -> list[list[int]]:
        return [[slab] for slab in slabs]

    with ExitStack() as stack:
        stack.enter_context(patch.object(cluster._Calls, "_collect", one_at_random))
        stack.enter_context(patch.object(cluster.Cluster, "map", late))
        stack.enter_context(patch.object(remote.RayBlocks, "tasks", single))
        yield taken


def carried_out_late(fn: Any, shared: Any, pause: float, call: Any) -> Any:
    """What a worker does."""
    result = fn(*shared, *call)
    time.sleep(pause)
    return result


# The laws -----------------------------------------------------------------------------------------------------------


def law_2_engines_change_nothing(method: Method, layouts: Layouts) -> None:
    """Picks, weights, inclusion, gains, strata and digests, from an array, from files, from one, two and three workers.

    A method that works in memory asks for its rows once, and then for nothing: three workers show all that there is. One that
    streams also gets rows that are all in one slab, whose result nothing is added to.
    """
    expected = expected_of(method)
    for engine, workers in ENGINES if method.streams else ENGINES[1::3]:
        assert_told(from_files(method, layouts, engine, workers), expected, f"{engine} with {workers}")
    if method.streams:
        few = from_files(method, layouts, "ray", 2, rows=4_500)
        assert_told(few, from_files(method, layouts, "local", 1, rows=4_500), "one slab")


def law_2_parts_are_the_same_on_every_engine(
    method: Method, layouts: Layouts, deal: str = "hash", rounds: int = 2, workers: Sequence[int] = (1, 2, 3)
) -> None:
    """A method that does not fit: dealt by hash or in order, in two rounds or three, its parts recorded."""
    part, k = (2_048, 30) if rounds == 2 else (1_024, 300)
    given = {"memory": method.bytes(part, 8, k), "k": k}
    with patch.object(tworound, "SPOOL", 0 if deal == "consecutive" else tworound.SPOOL):
        expected = from_files(method, layouts, "local", 1, **given)
        run = expected.provenance["run"]
        assert (run["part"], run["rounds"], run["deal"]) == (part, rounds, deal), run
        for many in workers:
            got = from_files(method, layouts, "ray", many, **given)
            assert_told(got, expected, f"{many} workers")
            assert got.provenance["run"] == run, f"{many} workers: the parts differ"
    if deal == "hash":
        w = near_ties(4_500)
        assert_told(through_the_door(method, w, column_sets(method)[0], **given), expected, "an array")


def law_2_what_was_kept_changes_nothing(method: Method, layouts: Layouts) -> None:
    """Half of what a run has kept is lost, at random; it goes on by threads, then once more on the cluster."""
    expected, rng = expected_of(method), np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        assert_told(from_files(method, layouts, "local", 1, checkpoint=folder), expected, "keeping results")
        for engine in ("local", "ray"):
            kept = sorted(path for path in Path(folder).rglob("*") if path.name.isdigit())
            assert len(kept) >= 3 * ("embeddings" in method.needs), "every slab's results are kept"
            for at in np.flatnonzero(rng.random(len(kept)) < 0.5):
                kept[at].unlink()
            assert_told(from_files(method, layouts, engine, 2, checkpoint=folder), expected, f"going on, {engine}")


@cache
def expected_of(method: Method) -> Selection:
    """From an array, by one thread."""
    w, k = world_for(method)
    return through_the_door(method, w, column_sets(method)[0], k, threads=1)


def from_files(
    method: Method, layouts: Layouts, engine: str, workers: int, *, rows: int | None = None, **given: Any
) -> Selection:
    """From seven files."""
    w, k = world_for(method)
    names = {ROLES[name]: ROLES[name] for name in column_sets(method)[0]}
    given = {"k": k, "engine": engine, "threads": workers, "embedding": "embedding", **names, **given}
    return kofn.select(layouts[rows or w.n]["seven files"], method=method, **given)


def assert_told(got: Selection, expected: Selection, how: str) -> None:
    assert_same(as_bytes(got), as_bytes(expected), how)
    assert got.provenance["digests"] == expected.provenance["digests"], how


# Slabs --------------------------------------------------------------------------------------------------------------


def slabs_of_a_pass(layouts: Layouts, engine: str, workers: int) -> list[tuple[bytes, bytes]]:
    """Labels and squared distances of each slab, as bytes."""
    w = near_ties()
    centers = Centers(w.x[np.random.default_rng(0).choice(w.n, 50, replace=False)])
    with running(workers, engine=engine) as run:
        items = Items(embeddings=w.x, run=run)
        if layouts:
            items = replace(kofn.open(layouts[w.n]["seven files"], embedding="embedding"), run=run)
        return [(a.tobytes(), b.tobytes()) for a, b in items.blocks().map(nearest_in_block, centers)]


def processes_of_a_pass(layouts: Layouts, workers: int) -> set[int]:
    """Who worked on its slabs."""
    with running(workers, engine="ray") as run:
        items = replace(kofn.open(layouts[140_000]["seven files"], embedding="embedding"), run=run)
        return set(items.blocks().map(process_of_block))


# Methods that are wrong ---------------------------------------------------------------------------------------------


def process_of_block(block: Any) -> int:
    return os.getpid()


def end_of_block(block: Any) -> int:
    return time.monotonic_ns()


def noted(block: Any, seen: list[int]) -> int:
    seen.append(len(block.x))
    return 0


class ReadsTheProcess(Honest):
    """What it does with a slab depends on who does it."""

    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        return super().counts(items, blocks, rows) + 1e-6 * sum(blocks.map(process_of_block))


class ReadsTheWorkers(Honest):
    """Weighs by the number of workers."""

    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        workers = 1 if items.run.cluster is None else items.run.cluster.workers
        return super().counts(items, blocks, rows) * workers


class TakesTheFirstToEnd(Honest):
    """Reads which slab of a pass was finished first, in four passes."""

    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        first = [int(np.argmin(list(blocks.map(end_of_block)))) for _ in range(4)]
        return super().counts(items, blocks, rows) + 1e-6 * sum(first)


class WritesIntoWhatItShares(Honest):
    """Leaves its results in an argument, which a worker has a copy of, and which a slab that is known never sees."""

    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        seen: list[int] = []
        for _ in blocks.map(noted, seen):
            pass
        return super().counts(items, blocks, rows) + 1e-6 * sum(seen)


class ReadsTheClockInBlocks(Honest):
    """What it does with a slab depends on when."""

    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        return super().counts(items, blocks, rows) + 1e-6 * (sum(blocks.map(end_of_block)) % 1_000_003)

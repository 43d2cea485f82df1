"""One pass over the slabs: what is known already is taken from the checkpoint, the rest is worked on, and all of it told."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from kofn.blocks.engine import PassReport, Run
from kofn.core.block import SLAB, slab_count

Compute = Callable[[Sequence[int]], Generator[Any]]
"""Results of these slabs, ascending, in their order."""


def run_pass(run: Run, n: int, identity: tuple[Any, ...], compute: Compute) -> Iterator[Any]:
    """Results of all slabs of n rows, in slab order.

    Parameters
    ----------
    run : Run
        Checkpoint, progress, and where the work is done.
    n : int
        Number of rows.
    identity : tuple
        What the results depend on besides the run and the slab: function, shared values, rows.
    compute : callable
        Does the work on the slabs whose results are not known.
    """
    began, slabs, number = time.monotonic(), slab_count(n), next(run.numbers)
    store = None if run.checkpoint is None else run.checkpoint.results_of_pass(identity)
    known: frozenset[int] = frozenset() if store is None else store.known()
    fresh = compute([slab for slab in range(slabs) if slab not in known])
    before = retries_of(run)
    with closing(fresh):
        for slab in range(slabs):
            if store is None:
                result = next(fresh)
            elif slab in known:
                result = store.load(slab, partial(_one, compute, slab))
            else:
                result = store.keep(slab, next(fresh))
            yield result
            if run.tell is not None:
                again = retries_of(run) - before
                stage = f"pass {number}" + (f", {again} given out again" if again else "")
                run.tell(stage, min((slab + 1) * SLAB, n), n)
    if run.ended is not None:
        seconds = time.monotonic() - began
        run.ended(PassReport(number, n, slabs, len(known), retries_of(run) - before, seconds))


def remembered(run: Run, identity: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
    """One result that is no pass: from the checkpoint where it is there, else made and kept."""
    if run.checkpoint is None:
        return compute()
    store = run.checkpoint.results_of_pass(identity)
    return store.load(0, compute) if 0 in store.known() else store.keep(0, compute())


def _one(compute: Compute, slab: int) -> Any:
    return next(compute([slab]))


def retries_of(run: Run) -> int:
    """How often the run's cluster has given work out again so far."""
    return 0 if run.cluster is None else run.cluster.retries

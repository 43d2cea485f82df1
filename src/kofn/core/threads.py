"""Threads that take the pieces of a computation in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kofn.core.block import TileRunner, run_serially


@contextmanager
def threads(workers: int) -> Iterator[TileRunner]:
    """A runner on threads that live as long as the selection: hundreds of short calls do not pay for starting them."""
    if workers == 1:
        yield run_serially
        return
    with ThreadPoolExecutor(workers) as pool:

        def run(fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
            if len(calls) == 1:
                return [fn(*calls[0])]
            return [future.result() for future in [pool.submit(fn, *call) for call in calls]]

        yield run

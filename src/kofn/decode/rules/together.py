"""Rows worked on by several threads: each row's answer is its own, so nothing depends on how many there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_WORTH = 1 << 20  # numbers in all rows, below which waking threads costs more than it saves
_MOST = 8


def each_row(fn: Callable[[Item], Answer], rows: Sequence[Item], width: int) -> list[Answer]:
    """fn of every row, in their order; rows of `width` numbers are shared among threads where there is enough to do."""
    threads = _threads()
    if threads == 1 or len(rows) < 2 or len(rows) * width < _WORTH:
        return [fn(row) for row in rows]
    return list(_pool(os.getpid()).map(fn, rows))


@cache
def _threads() -> int:
    return min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(_threads(), thread_name_prefix="kofn-rules")

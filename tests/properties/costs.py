"""What a method says that it costs: passes over the rows, and memory beyond the input."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np

from kofn import Method
from kofn.blocks import Run
from properties.sameness import world_for
from properties.worlds import choose, column_sets

SMALL = 1 << 16
"""Bytes of the interpreter's own objects: no method counts those."""


def law_9_costs_are_no_more_than_it_says(method: Method) -> None:
    """Passes are counted as progress is told; memory as Python and NumPy allocate it, what compiled code takes aside."""
    w, k = world_for(method)
    warm = w.rows(np.arange(3_000))
    for columns in column_sets(method):
        choose(method, warm.items(method, columns), k)  # loads and compiles what the run needs
        told: list[tuple[int, int]] = []
        items = replace(w.items(method, columns), run=Run(1, lambda stage, *done, to=told: to.append(done)))
        tracemalloc.start()
        try:
            choose(method, items, k)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        said, passes = method.bytes(w.n, items.d, k), told.count((w.n, w.n))
        assert peak <= said + SMALL, f"{sorted(columns)}: {peak:,} bytes, it says {said:,}"
        assert passes <= method.passes(w.n, items.d, k), f"{passes} passes"


LAWS = [law_9_costs_are_no_more_than_it_says]

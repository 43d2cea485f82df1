"""Tiles and slabs: how rows are cut by number, and what an algorithm may ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

TILE = 4096
"""Rows in a tile: the shape of every product, so that bits do not depend on files, threads or engines."""

SLAB = 16 * TILE
"""Rows in a slab: the unit of work, reduction, progress and checkpoint."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]
TileRunner = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]


def run_serially(fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call `fn` with each tuple of arguments, one after the other."""
    return [fn(*call) for call in calls]


@dataclass(frozen=True, slots=True)
class Block:
    """A slab of rows as a method's function sees it.

    Attributes
    ----------
    start : int
        Global number of the first row; a multiple of `SLAB`.
    x : float32 (m, d), C-contiguous, read-only; or scipy.sparse.csr_matrix
        The rows. Valid during the call only: copy what you keep.
    runner : callable
        How tiles are run: one after the other, or on the engine's threads. Never changes a result.
    """

    start: int
    x: Any
    runner: TileRunner = run_serially

    @property
    def stop(self) -> int:
        """Global number one past the last row."""
        return self.start + int(self.x.shape[0])

    def map_tiles(self, fn: Callable[..., Any], *shared: Any, each: Any = None) -> list[Any]:
        """`fn(start, x, *shared[, each slice])` for every tile, results in tile order.

        `each` is an array aligned with the block's rows; a tile gets its slice of it.
        """
        calls = []
        for at in range(0, self.x.shape[0], TILE):
            extra = () if each is None else (each[at : at + TILE],)
            calls.append((self.start + at, self.x[at : at + TILE], *shared, *extra))
        return self.runner(fn, calls)


class Blocks(Protocol):
    """The only door between algorithms and engines: two verbs over n rows of d numbers."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def d(self) -> int:
        """Length of a row."""

    @property
    def here(self) -> Blocks:
        """The same rows, worked on in this process: for functions that write into its memory, or hand rows on."""

    def map(self, fn: Callable[..., Any], *shared: Any, each: Sequence[Any] | None = None) -> Iterator[Any]:
        """`fn(block, *shared[, each[i]])` for every slab i; results in slab order, bounded look-ahead.

        `fn` is a module-level function without side effects: it may run in another process, or its results may be taken
        from a checkpoint. Everything else asks `here`.
        """

    def take(self, rows: Rows) -> Any:
        """The rows of these numbers, in this order, as float32 (len(rows), d)."""


def dense(x: Any) -> Any:
    """Rows as an array, where they may be sparse."""
    return x if isinstance(x, np.ndarray) else x.toarray()


def slab_count(n: int) -> int:
    """Number of slabs that hold n rows."""
    return -(-n // SLAB)


def by_slab(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Cut an array of length n into its slabs: what `Blocks.map(each=...)` takes."""
    return [values[at : at + SLAB] for at in range(0, len(values), SLAB)]


def by_slab_or_none(values: NDArray[Any] | None, n: int) -> list[Any]:
    """The same for a column that may not be there: None for each slab of n rows."""
    return [None] * slab_count(n) if values is None else list(by_slab(values))

"""Random designs: drawing rows by their own numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import SLAB, Doubles, Rows


def smallest(keys: Any, k: int) -> Rows:
    """Positions of the k smallest keys in ascending order, ties to the lowest position. O(n) time."""
    keys = np.asarray(keys)
    if k >= len(keys):
        return np.argsort(keys, kind="stable").astype(np.int64)
    limit = np.partition(keys, k - 1)[k - 1]
    below = np.flatnonzero(keys < limit)
    level = np.flatnonzero(keys == limit)[: k - len(below)]
    chosen = np.concatenate([below, level])
    chosen.sort()
    return chosen[np.argsort(keys[chosen], kind="stable")].astype(np.int64)


def smallest_numbers(
    n: int, k: int, numbers: Callable[[int, int], Doubles], excluded: NDArray[np.bool_] | None = None
) -> Rows:
    """The k of n rows whose own numbers are smallest, in that order: a simple random sample drawn without any data.

    Parameters
    ----------
    numbers : callable
        `numbers(start, stop)` gives rows their uniform numbers in (0, 1), such as `rng.rows` for one purpose.
    excluded : bool (n,), optional
        Rows that cannot be drawn; at least k must be left.

    Notes
    -----
    O(n) time, O(k) memory: only numbers below a limit that k of them almost surely undercut are kept.
    """
    free = n if excluded is None else n - int(excluded.sum())
    share = (k + 6 * np.sqrt(k) + 12) / free
    while True:
        found, rows = _below(n, min(share, 1.0), numbers, excluded)
        if len(rows) >= k:
            return np.asarray(rows[smallest(found, k)])
        share *= 2


def _below(
    n: int, limit: float, numbers: Callable[[int, int], Doubles], excluded: NDArray[np.bool_] | None
) -> tuple[Doubles, Rows]:
    found, rows = [], []
    for start in range(0, n, SLAB):
        u = numbers(start, min(start + SLAB, n))
        low = u < limit
        if excluded is not None:
            low &= ~excluded[start : start + SLAB]
        at = np.flatnonzero(low)
        found.append(u[at])
        rows.append(at + start)
    return np.concatenate(found), np.concatenate(rows).astype(np.int64)


class TopStream:
    """Priority sampling of a stream: keeps the `size` rows with the largest keys, in O(size) memory, ties to the lowest row.

    A key is a row's size over its uniform number. Estimates weighted by 1 / inclusion are unbiased and uncorrelated (Duffield,
    Lund and Thorup, "Priority sampling for estimation of arbitrary subset sums", J. ACM 2007).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys, self.values, self.rows = np.empty(0), np.empty(0), np.empty(0, np.int64)

    def add(self, keys: Doubles, values: Doubles, rows: Rows) -> None:
        """Join a slab's rows, ascending, to what is kept."""
        joined = np.concatenate([self.keys, keys]), np.concatenate([self.values, values])
        rows = np.concatenate([self.rows, rows])
        best = np.sort(smallest(-joined[0], min(self.size, len(rows))))
        self.keys, self.values, self.rows = joined[0][best], joined[1][best], rows[best]

    def sample(self, k: int) -> tuple[Rows, Doubles]:
        """The k best rows, best first, and their inclusion min(1, size / tau), tau being the next key after them."""
        order = smallest(-self.keys, len(self.keys))
        picks = order[:k]
        tau = self.keys[order[k]] if len(order) > k else 0.0
        inclusion = np.ones(len(picks)) if tau <= 0 else np.minimum(1.0, self.values[picks] / tau)
        return self.rows[picks], inclusion

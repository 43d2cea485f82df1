"""Merge and reduce: coresets of parts united and reduced again, in a binary tree over a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from kofn.core.blas import one_blas_thread
from kofn.core.block import Doubles, Floats
from kofn.core.numbers import is_whole
from kofn.errors import DataError, UsageError
from kofn.items import Items
from kofn.method import shared_out
from kofn.represent.coreset import Coreset, draw_by_cluster, exact_masses
from kofn.rng import Rng

LEAF = 8  # coresets' worth of rows in a part of a stream: the first reduction sees that many, later ones two


def merge_coresets(
    parts: Iterable[tuple[Any, Any]],
    k: int,
    *,
    clusters: int,
    cost: str = "k-means",
    masses: str = "exact",
    seed: int | Rng = 0,
) -> tuple[Floats, Doubles]:
    """One coreset of k points from the coresets of disjoint data.

    The union of coresets within 1 +- epsilon is one of the united data; reducing it again within 1 +- epsilon gives at worst
    (1 + epsilon)^2 - 1 (Har-Peled and Mazumdar 2004).

    Parameters
    ----------
    parts : iterable of (points (m, d), weights (m,) or None), or of arrays (m, d)
        Coresets, or plain rows: without weights each row counts once.
    k : int
        Points of the result; where the parts together hold no more, they are returned as they are.
    clusters : int
        Centers of the clusterings to be served.
    cost : {"k-means", "k-median"}
        What is kept.
    masses : {"exact", "estimated"}
        Whether weights are scaled so that each cluster of the near-optimal solution keeps its weight (see
        `kofn.represent.coreset.exact_masses`), or left as the design has them. Rows are drawn by the design "pivotal".
    seed : int or Rng
        Same parts, same seed, same result.

    Returns
    -------
    points : float32 (min(k, all), d)
        Some of the parts' points, in the order in which they were given.
    weights : float64
        Summing to the parts' total weight.

    Raises
    ------
    UsageError, DataError
        Wrong k, no parts, parts that differ in their dimensions or hold no numbers.
    """
    rng = seed if isinstance(seed, Rng) else Rng(seed)
    if not is_whole(k, 1):
        raise UsageError(f"k={k!r} is not a whole number of at least 1; say how many points the coreset shall have")
    if masses not in ("exact", "estimated"):
        raise UsageError(f"masses={masses!r} is unknown; use 'exact' or 'estimated'")
    method = Coreset(clusters=clusters, cost=cost)
    points, weights = _united([_checked(*part) if isinstance(part, tuple) else _checked(part) for part in parts])
    if len(points) <= k:
        return points, weights
    items = Items(embeddings=points, weights=weights)
    with one_blas_thread():
        shares = method.shares(items, int(k), rng)
        picks, inclusion = draw_by_cluster(items, shares, int(k), rng)
    drawn = shared_out(items, picks, inclusion)
    if masses == "exact":
        drawn = exact_masses(shares.labels[picks], drawn, shares.masses)
    order = np.argsort(picks)
    return points[picks[order]], drawn[order]


class CoresetStream:
    """A coreset of rows that come one batch after another, in O(k log(n / k)) memory.

    Rows are gathered into parts of a fixed size, whatever the batches, and each full part is reduced to k points. Two
    coresets of one height are merged and reduced to one of the next height, as a binary counter carries (Bentley and Saxe
    1980; Har-Peled and Mazumdar 2004). After n rows there is at most one coreset of each of `levels` = log2(n / part) + 1
    heights.

    The error grows with the height: each row went through up to `levels` + 1 reductions, the last of which makes the result.
    At worst errors multiply, (1 + epsilon)^(levels + 1) - 1; being independent and without bias (with masses="estimated"),
    they add as variances, epsilon sqrt(levels + 1) typically. To end within epsilon, ask for a k that gives
    epsilon / (levels + 1), or typically epsilon / sqrt(levels + 1).

    Parameters
    ----------
    k, clusters, cost, masses, seed
        As in `merge_coresets`.
    part : int, optional
        Rows reduced at once; at least k, by default 8 k.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    >>> stream = CoresetStream(50, clusters=2)
    >>> for batch in np.array_split(rows, 7):
    ...     stream.add(batch)
    >>> points, weights = stream.result()
    >>> points.shape, round(float(weights.sum())), stream.levels
    ((50, 3), 5000, 4)
    """

    def __init__(
        self,
        k: int,
        *,
        clusters: int,
        cost: str = "k-means",
        masses: str = "exact",
        part: int | None = None,
        seed: int = 0,
    ) -> None:
        self._rng = Rng(seed)
        self._merged = partial(merge_coresets, k=k, clusters=clusters, cost=cost, masses=masses)
        self._merged([(np.zeros((1, 1)), None)])  # refuses wrong parameters now, not after the first part
        self.part = LEAF * k if part is None else part
        if self.part < k:
            raise UsageError(f"part={part} is less than the {k} points it shall be reduced to; give at least {k}")
        self._waiting: list[tuple[Floats, Doubles]] = []
        self._counter: list[tuple[Floats, Doubles] | None] = []
        self._rows = self._parts = 0

    @property
    def levels(self) -> int:
        """How many heights of coresets there are so far."""
        return len(self._counter)

    def add(self, points: Any, weights: Any = None) -> None:
        """More rows, or a coreset of more rows."""
        points, weights = _checked(points, weights)
        for known in [*self._waiting[:1], *(each for each in self._counter if each)]:
            _same_length(points, known[0])
        self._waiting.append((points, weights))
        self._rows += len(points)
        if self._rows < self.part:
            return
        points, weights = _united(self._waiting)
        whole = len(points) - len(points) % self.part
        for start in range(0, whole, self.part):
            at = slice(start, start + self.part)
            self._carry(self._reduced([(points[at], weights[at])], f"part {self._parts}"))
            self._parts += 1
        self._waiting = [(points[whole:].copy(), weights[whole:].copy())] if whole < len(points) else []
        self._rows = len(points) - whole

    def result(self) -> tuple[Floats, Doubles]:
        """The coreset of all rows so far, at most k points; the stream can go on afterwards."""
        return self._reduced([*self._held()], f"result {self._parts}")

    def __len__(self) -> int:
        """Points held at present."""
        return sum(len(points) for points, _ in self._held())

    def _held(self) -> Iterator[tuple[Floats, Doubles]]:
        yield from (each for each in reversed(self._counter) if each)
        yield from self._waiting

    def _carry(self, coreset: tuple[Floats, Doubles]) -> None:
        for height, known in enumerate(self._counter):
            if known is None:
                self._counter[height] = coreset
                return
            coreset = self._reduced([known, coreset], f"part {self._parts} height {height}")
            self._counter[height] = None
        self._counter.append(coreset)

    def _reduced(self, parts: list[tuple[Floats, Doubles]], name: str) -> tuple[Floats, Doubles]:
        return self._merged(parts, seed=self._rng.child(name))


def stream_coreset(
    batches: Iterable[Any],
    k: int,
    *,
    clusters: int,
    cost: str = "k-means",
    masses: str = "exact",
    part: int | None = None,
    seed: int = 0,
) -> tuple[Floats, Doubles]:
    """(points, weights): a coreset of all rows of an iterable of batches, read once; see `CoresetStream`.

    A batch is an array (m, d), or a pair of points and weights.
    """
    stream = CoresetStream(k, clusters=clusters, cost=cost, masses=masses, part=part, seed=seed)
    for batch in batches:
        stream.add(*batch) if isinstance(batch, tuple) else stream.add(batch)
    return stream.result()


def _checked(points: Any, weights: Any = None) -> tuple[Floats, Doubles]:
    """A part as float32 points and float64 weights; bad values are refused by `Items`."""
    items = Items(embeddings=points, weights=weights)
    rows = np.ascontiguousarray(items.everything())
    return rows, np.asarray(items.row_weights)


def _united(parts: list[tuple[Floats, Doubles]]) -> tuple[Floats, Doubles]:
    if not parts:
        raise DataError("there are no points; give at least one part, or one batch of rows")
    for points, _ in parts:
        _same_length(points, parts[0][0])
    return np.concatenate([points for points, _ in parts]), np.concatenate([weights for _, weights in parts])


def _same_length(points: Floats, others: Floats) -> None:
    if points.shape[1] != others.shape[1]:
        raise DataError(
            f"a part has rows of {points.shape[1]} numbers, another of {others.shape[1]}; give parts of the same data"
        )

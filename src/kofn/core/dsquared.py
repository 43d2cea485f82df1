"""The D^2 law: rows drawn in proportion to their squared distance to the nearest center, while centers keep coming."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Block, Blocks, Doubles, Floats, Rows, by_slab
from kofn.core.distance import CLOSE, WIDE, Centers, squared_distance
from kofn.core.jit import kernel
from kofn.core.nearer import any_above, largest, nearer_in_block, row_limit
from kofn.core.products import finite_product
from kofn.errors import DataError

GROUP = 64
"""Rows whose masses are added up: a draw finds its group by bisection, then its row by a scan."""

BATCH = 256
"""Proposals that are looked at together: one product with the newer centers, one among themselves."""

# What things cost, in distances that come out of a large product (about half a nanosecond at 64 dimensions on one core).
# Only counts enter the decisions, so they never differ between runs.
_PASS = 50  # a row that a pass visits, beside its distances
_PROPOSAL = 600  # a proposal: the search, the copy of its row


class DSquared:
    """Draws from the law w_i D_i^2 / sum, D_i being row i's distance to the nearest center, by rejection.

    What is stored of a row is its squared distance at the last refresh, float32: an upper bound of D_i^2 as long as
    centers are only added. A row proposed in proportion to w_i times that bound is accepted with chance D_i^2 / bound, which
    is the D^2 law exactly, however old the bound. Only the proposed rows are measured against the newer centers. When the
    proposals thrown away have cost as much as a refresh would, `stale` says so.

    The rejection is that of "A New Rejection Sampling Approach to k-means++ With Improved Trade-Offs" (2025), with measured
    distances in place of its bound by norms.

    Parameters
    ----------
    blocks : Blocks
        The n rows.
    centers : float32 (c, d)
        The first centers, c >= 1. One pass.
    weights : float64 (n,), optional
        Weights w_i >= 0 of the rows; default 1.

    Attributes
    ----------
    bound : float32 (n,)
        Squared distance of each row to the nearest center that was there at the last refresh.
    """

    def __init__(self, blocks: Blocks, centers: Floats, weights: Doubles | None = None) -> None:
        self.blocks = blocks
        self.weights = weights
        self.bound: Floats = np.full(blocks.n, np.inf, np.float32)
        self._sums = np.zeros(-(-blocks.n // GROUP))
        self._points = np.ascontiguousarray(centers, dtype=np.float32)
        self._shifted = self._points
        self._half = np.zeros(len(centers), np.float32)
        self._newer = len(centers)
        self.refresh()

    @property
    def total(self) -> float:
        """Sum of the rows' weighted bounds; 0 when every row coincides with a center."""
        return float(self._cumulative[-1])

    @property
    def newer(self) -> int:
        """Centers added since the last refresh."""
        return self._newer

    @property
    def stale(self) -> bool:
        """Whether the proposals thrown away since the last refresh have cost as much as a refresh."""
        return self._newer > 0 and self._wasted >= self.blocks.n * (_PASS + self._newer)

    @property
    def chunk(self) -> int:
        """Proposals whose rows are brought at a time: fixed by n and d, because files are read through for each chunk."""
        wanted = min(self.blocks.n // 8, (1 << 23) // self.blocks.d, 8192)
        return max(BATCH, wanted - wanted % BATCH)

    def refresh(self) -> None:
        """Measure every row against the newer centers. One pass, O(n d) for each of them."""
        newer = self._points[: self._newer]
        self._fold(self.blocks.map(_refresh_block, Centers(newer.copy()), each=self.slabs()))

    def slabs(self) -> list[tuple[Floats, Any]]:
        """(bounds, weights or None) of each slab, as `Blocks.map(each=...)` takes them."""
        bounds = by_slab(self.bound)
        weights: list[Any] = [None] * len(bounds) if self.weights is None else list(by_slab(self.weights))
        return list(zip(bounds, weights, strict=True))

    def recount(self) -> None:
        """Take note that `bound` was lowered to the distance of further centers, in place; float64 sums of all rows."""
        self._sums = np.concatenate([group_sums(*slab) for slab in self.slabs()])
        self._settle()

    def _fold(self, results: Any) -> None:
        """Take over (bounds, sums of groups) of every slab, in which all centers so far have been measured."""
        at = 0
        for bound, sums in results:
            self.bound[at : at + len(bound)] = bound
            self._sums[at // GROUP : at // GROUP + len(sums)] = sums
            at += len(bound)
        self._settle()

    def _settle(self) -> None:
        self._cumulative = np.cumsum(self._sums)
        if not np.isfinite(self.total):
            raise DataError(
                "squared distances between these rows do not fit in float32; scale the embeddings down, "
                "for example to a largest absolute value of 1"
            )
        if self._newer:
            self._shift = self._points[: self._newer].mean(axis=0, dtype=np.float64).astype(np.float32)
        self._newer, self._wasted = 0, 0.0

    def propose(self, uniforms: Doubles) -> tuple[Rows, Doubles]:
        """Rows drawn in proportion to weight times bound, and for each the squared distance that it must reach.

        Parameters
        ----------
        uniforms : float64 (m, 2)
            In [0, 1): which row, and whether it is accepted.

        Returns
        -------
        rows : int64 (m,)
        limits : float64 (m,)
            In (0, bound]; a row is accepted when its true squared distance is at least its limit.
        """
        rows, limits = np.empty(len(uniforms), np.int64), np.empty(len(uniforms))
        weights = np.empty(0) if self.weights is None else self.weights
        _propose(uniforms, self._cumulative, self.bound, weights, rows, limits)
        return rows, limits

    def accepted(self, x: Floats, limits: Doubles) -> NDArray[np.int64]:
        """Positions of the proposals that are accepted: independent draws from the law of the centers so far.

        Parameters
        ----------
        x : float32 (m, d)
            The proposed rows.
        limits : float64 (m,)
            As `propose` gave them.
        """
        passed = np.ones(len(x), dtype=bool)
        if self._newer:
            points, shifted = self._points[: self._newer], self._shifted[: self._newer]
            moved = x - self._shift
            lengths = np.einsum("ij,ij->i", moved, moved)
            _reach(finite_product(moved, shifted.T), lengths, self._half[: self._newer], x, points, limits, passed)
        kept = np.flatnonzero(passed)
        rejected = len(x) - len(kept)
        # Files are read through once for each chunk of proposals.
        fetch = self.blocks.n * _PASS / self.chunk
        self._wasted += rejected * (_PROPOSAL + fetch + 2 * self._newer)
        return kept

    def one_by_one(self, x: Floats, limits: Doubles) -> NDArray[np.int64]:
        """Positions of the proposals that are accepted when each accepted one becomes a center before the next is judged.

        Takes what `accepted` left. Adds no center: see `add`.
        """
        moved = x - self._shift
        half = (0.5 * np.einsum("ij,ij->i", moved, moved, dtype=np.float64)).astype(np.float32)
        chosen = np.zeros(len(x), dtype=bool)
        _thin(finite_product(moved, moved.T.copy()), half, x, limits, chosen)
        kept = np.flatnonzero(chosen)
        self._wasted += (len(x) - len(kept)) * _PROPOSAL
        return kept

    def add(self, points: Floats) -> None:
        """Make these points centers, float32 (c, d); the bounds stay what they are."""
        start, stop = self._newer, self._newer + len(points)
        if stop > len(self._half) or self._shifted is self._points:
            size = max(BATCH, 2 * stop)
            self._points = _grown(self._points, start, size)
            self._shifted = _grown(self._shifted, start, size)
            self._half = _grown(self._half, start, size)
        moved = points - self._shift
        self._points[start:stop] = points
        self._shifted[start:stop] = moved
        self._half[start:stop] = 0.5 * np.einsum("ij,ij->i", moved, moved, dtype=np.float64)
        self._newer = stop


def _grown(array: Any, used: int, size: int) -> Any:
    larger = np.empty((size, *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger


def _refresh_block(block: Block, centers: Centers, known: tuple[Floats, Any]) -> tuple[Floats, Doubles]:
    bound, weights = known
    nearer = nearer_in_block(block, centers, bound)
    return nearer, group_sums(nearer, weights)


def group_sums(bound: Floats, weights: Any) -> Doubles:
    """Weighted sums of each `GROUP` rows of a slab, float64."""
    sums = np.zeros(-(-len(bound) // GROUP))
    _add_groups(bound, np.empty(0) if weights is None else weights, sums)
    return sums


@kernel
def _add_groups(bound: Floats, weights: Doubles, sums: Doubles) -> None:
    for i in range(len(bound)):
        mass = np.float64(bound[i])
        sums[i // GROUP] += mass * weights[i] if len(weights) else mass


@kernel
def _propose(
    uniforms: Doubles, cumulative: Doubles, bound: Floats, weights: Doubles, rows: Rows, limits: Doubles
) -> None:
    """Inverse of the cumulative masses. A row without mass is never proposed."""
    n, last = len(bound), len(cumulative) - 1
    for t in range(len(rows)):
        target = uniforms[t, 0] * cumulative[last]
        low, high = 0, last
        while low < high:  # the first group whose cumulative mass is more than the target
            middle = (low + high) // 2
            if cumulative[middle] > target:
                high = middle
            else:
                low = middle + 1
        while low > 0 and cumulative[low] == cumulative[low - 1]:  # only where the target was rounded up to the total
            low -= 1
        rest = target - (cumulative[low - 1] if low else 0.0)
        found = low * GROUP
        for i in range(low * GROUP, min(n, low * GROUP + GROUP)):
            mass = np.float64(bound[i]) * weights[i] if len(weights) else np.float64(bound[i])
            if mass > 0.0:
                found = i
                rest -= mass
                if rest < 0.0:
                    break
        rows[t] = found
        limits[t] = (1.0 - uniforms[t, 1]) * np.float64(bound[found])


@kernel
def _reach(
    products: Floats,
    lengths: Floats,
    half: Floats,
    x: Floats,
    points: Floats,
    limits: Doubles,
    passed: NDArray[np.bool_],
) -> None:
    """Which rows are at least their limit away from all centers; close calls are settled by differences."""
    m, k = products.shape
    widest = largest(half)
    sums = np.empty(WIDE)
    for i in range(m):
        p = products[i]
        maybe = row_limit(lengths[i], limits[i], widest)
        if not any_above(p, half, maybe):
            continue
        slack = CLOSE * (np.float64(lengths[i]) + 2.0 * widest)
        if any_above(p, half, np.float32(maybe + slack)):
            passed[i] = False
            continue
        for j in range(k):
            if p[j] - half[j] > maybe and squared_distance(x[i], points[j], sums) < limits[i]:
                passed[i] = False
                break


@kernel
def _thin(products: Floats, half: Floats, x: Floats, limits: Doubles, chosen: NDArray[np.bool_]) -> None:
    """Rows in order, each chosen if it is at least its limit away from all that were chosen before it."""
    sums = np.empty(WIDE)
    for i in range(len(limits)):
        far = True
        for j in range(i):
            if chosen[j]:
                squared = 2.0 * (np.float64(half[i]) + np.float64(half[j]) - np.float64(products[i, j]))
                slack = 2.0 * CLOSE * (np.float64(half[i]) + np.float64(half[j]))
                if squared < limits[i] + slack and (
                    squared < limits[i] - slack or squared_distance(x[i], x[j], sums) < limits[i]
                ):
                    far = False
                    break
        chosen[i] = far

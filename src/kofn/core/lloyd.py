"""Lloyd's algorithm over slabs: weighted, with fixed centers, empty clusters repaired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kofn.core.assign import nearest_in_block
from kofn.core.block import Block, Blocks, Doubles, Floats, Rows, by_slab_or_none, dense
from kofn.core.designs import smallest, smallest_numbers
from kofn.core.distance import Centers
from kofn.core.hamerly import FEWEST, Moves, moves_of, nearest_by_bounds
from kofn.core.jit import kernel
from kofn.core.reduce import tree_sum
from kofn.core.seeding import seed_rows
from kofn.core.sparse import add_sparse
from kofn.core.sparselloyd import sparse_rounds

SETTLED = 0.02  # once a round gains less than this share of the cost, centers move little and bounds hold for many rows
FARTHEST = 32  # rows a slab offers to clusters that came out empty


@dataclass(frozen=True, eq=False)
class Clustering:
    """Centers, and what the last pass over the rows said of them.

    Attributes
    ----------
    centers : float32 (k, d)
    cost : float
        Weighted sum of squared distances to the nearest center, before the last move.
    rounds : int
        Passes made.
    """

    centers: Floats
    cost: float
    rounds: int


class Chance(Protocol):
    """What training asks of `kofn.rng.Rng`."""

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator at its beginning."""

    def rows(self, start: int, stop: int, purpose: str) -> Doubles:
        """Numbers that belong to rows."""

    def child(self, name: str) -> Any:
        """An independent one."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A clustering, and the rows that it was trained on.

    Attributes
    ----------
    clustering : Clustering
    blocks : Blocks
        The training rows: a sample in memory, or all rows.
    rows : int64 (s,) or None
        Their row numbers, ascending; None when they are all the rows.
    mean_cost : float
        Cost of the clustering per unit of training weight.
    """

    clustering: Clustering
    blocks: Blocks
    rows: Rows | None
    mean_cost: float


def train(
    blocks: Blocks,
    k: int,
    rng: Chance,
    hold: Callable[[Any], Blocks],
    *,
    sample: int,
    rounds: int,
    tol: float = 1e-4,
    weights: Doubles | None = None,
    have: Rows | None = None,
    unit: bool = False,
    candidates: int = 1,
) -> Trained:
    """k-means++ seeds and Lloyd rounds on a sample of rows, drawn by their own numbers.

    Parameters
    ----------
    hold : callable
        Makes `Blocks` of an array of rows, for the sample.
    sample : int
        Rows a cluster to train on; 0: all rows.
    have : int64 (h,), optional
        Rows that are centers already: they never move, always belong to the sample, and come last in the result.
    unit : bool
        Keep centers at length one: spherical k-means, for rows of length one.
    candidates : int
        Seeds that are tried at each draw; 1 is the D^2 law itself.
    """
    held = np.zeros(0, np.int64) if have is None else have
    size, rows = min(blocks.n, sample * k) if sample else blocks.n, None
    if size < blocks.n:
        drawn = smallest_numbers(blocks.n, size, partial(rng.rows, purpose="sample"))
        rows = np.union1d(drawn, held)
        weights = None if weights is None else weights[rows]
        held = np.searchsorted(rows, held)
    if sample:  # also where the sample is everything: files are read once, not at every round
        blocks = hold(blocks.take(np.arange(blocks.n) if rows is None else rows))
    seeds = seed_rows(
        blocks, min(k, blocks.n - len(held)), rng.child("seeds"), weights=weights, have=held, candidates=candidates
    )
    start = blocks.take(np.concatenate([seeds, held]))
    clustering = lloyd(blocks, start, rounds=max(rounds, 1), weights=weights, fixed=len(held), tol=tol, unit=unit)
    if rounds == 0:
        clustering = Clustering(dense(start), clustering.cost, 0)
    mass = float(blocks.n if weights is None else weights.sum())
    return Trained(clustering, blocks, rows, clustering.cost / mass)


def lloyd(
    blocks: Blocks, centers: Any, *, rounds: int, weights: Doubles | None = None, fixed: int = 0, tol: float = 1e-4,
    unit: bool = False,
) -> Clustering:  # fmt: skip
    """Move centers to the mean of their rows, `rounds` times or until the cost falls by less than `tol` of itself.

    With `unit`, means are scaled to length one, which makes it spherical k-means (Dhillon and Modha, "Concept decompositions
    for large sparse text data using clustering", Machine Learning 42, 2001): a row of length one is nearest to the center of
    largest cosine, and the cost is twice the sum of 1 - cosine.

    The last `fixed` centers never move. An empty cluster takes the row farthest from its center. Sums are float64, added in
    slab order by a fixed tree: the same bits for any engine. O(rounds n k d) time, O(k d) memory a slab in flight.

    Where rows are sparse and `centers` come as sparse rows too, they stay so: `kofn.core.sparselloyd`.
    """
    if not isinstance(centers, np.ndarray):
        return Clustering(
            *sparse_rounds(blocks, centers, rounds=rounds, weights=weights, fixed=fixed, tol=tol, unit=unit)
        )
    each = by_slab_or_none(weights, blocks.n)
    before, cost, done, last = np.inf, np.inf, 0, [None] * len(each)
    moves, bounded = None, False
    for turn in range(1, rounds + 1):
        done, round_ = turn, _Round()
        shared = Centers(centers), bounded, moves
        sums, counts, cost = tree_sum(
            round_.keep(blocks.map(_moments_of_block, *shared, each=list(zip(each, last, strict=True))))
        )
        moved, last = _moved(centers, sums, counts, round_, fixed, unit), round_.known
        moves = moves_of(centers, moved) if bounded and turn < rounds else None
        centers = moved
        gained = before - cost
        if np.isfinite(before) and gained <= tol * before:
            break
        dense = last[0] is None  # as long as nothing is known of the rows: sparse ones have their labels
        bounded = bounded or (dense and len(centers) >= FEWEST and gained < SETTLED * before)
        before = cost
    return Clustering(centers, float(cost), done)


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each cluster: the row nearest to its center, how far it is, and the cluster's weight."""

    rows: Rows
    squared: Doubles
    weights: Doubles
    cost: float


def nearest_rows(
    blocks: Blocks, centers: Floats, *, weights: Doubles | None = None, excluded: NDArray[np.bool_] | None = None
) -> Nearest:
    """One pass that finds the row nearest to each center among the rows of its cluster, ties to the lowest row number.

    `rows` is n, past the end, for a cluster none of whose rows may be picked; `excluded` rows may not, but count in the
    weights.
    """
    k = len(centers)
    rows, squared = np.full(k, blocks.n, np.int64), np.full(k, np.inf)
    free = by_slab_or_none(None if excluded is None else ~excluded, blocks.n)
    pairs = list(zip(by_slab_or_none(weights, blocks.n), free, strict=True))
    sizes, cost = [], 0.0
    for best, near, counts, part in blocks.map(_nearest_of_block, Centers(centers), each=pairs):
        closer = near < squared
        rows[closer], squared[closer] = best[closer], near[closer]
        sizes.append(counts)
        cost += part
    return Nearest(rows, squared, np.asarray(tree_sum(sizes)), cost)


def _moments_of_block(
    block: Block, centers: Centers, bounded: bool, moves: Moves | None, pair: tuple[Any, Any]
) -> tuple[Any, ...]:
    weights, last = pair
    if bounded:
        known, squared = nearest_by_bounds(block, centers, moves, last)
        labels = np.ascontiguousarray(known["label"])
    else:
        labels, squared = nearest_in_block(block, centers, last)
        known = None if isinstance(block.x, np.ndarray) else labels  # a hint, where rows are sparse
    k = len(centers.points)
    sums = np.zeros((k, block.x.shape[1]))
    w = np.ones(len(labels)) if weights is None else weights
    if isinstance(block.x, np.ndarray):
        _add_rows(block.x, labels, w, sums)
    else:
        add_sparse(block.x, labels, w, sums)
    counts = np.bincount(labels, weights=w, minlength=k)
    far = np.sort(smallest(-squared, min(FARTHEST, len(squared))))
    offers = far + block.start, squared[far].astype(np.float64), dense(block.x[far]).copy()
    return (*offers, known), (sums, counts, float(np.dot(w, squared.astype(np.float64))))


def _nearest_of_block(block: Block, centers: Centers, pair: tuple[Any, Any]) -> tuple[Any, ...]:
    weights, free = pair
    labels, squared = nearest_in_block(block, centers)
    k = len(centers.points)
    rows, near = np.full(k, -1, np.int64), np.full(k, np.inf)
    _nearest_of_each(labels, squared, np.ones(len(labels), bool) if free is None else free, block.start, rows, near)
    w = np.ones(len(labels)) if weights is None else weights
    return rows, near, np.bincount(labels, weights=w, minlength=k), float(np.dot(w, squared.astype(np.float64)))


class _Round:
    """What a round leaves beside its sums: rows far from their centers, and what the next one may know of the rows."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.known: list[Any] = []

    def keep(self, results: Any) -> Any:
        for (*offers, known), sums in results:
            self.rows.append(offers)
            self.known.append(known)
            yield sums

    def best(self, count: int) -> Floats:
        """Vectors of the rows farthest from their centers, ties to the lowest row number."""
        squared = np.concatenate([part[1] for part in self.rows])
        vectors = np.concatenate([part[2] for part in self.rows])
        order = smallest(-squared, min(count, int((squared > 0).sum())))
        return np.asarray(vectors[order])


def _moved(centers: Floats, sums: Doubles, counts: Doubles, far: _Round, fixed: int, unit: bool) -> Floats:
    moved = np.empty_like(centers)
    free = len(centers) - fixed
    full = np.flatnonzero(counts[:free] > 0)
    kept = np.concatenate([np.flatnonzero(counts[:free] <= 0), np.arange(free, len(centers))])
    moved[kept] = centers[kept]
    scale = counts[:free]
    if unit:
        lengths = np.sqrt(np.array([np.dot(row, row) for row in sums[:free]]))
        scale = np.where(lengths > 0, lengths, scale)
    for c in full:  # row by row: the centers of long rows are large
        np.divide(sums[c], scale[c], out=moved[c], casting="same_kind")
    empty = np.flatnonzero(counts[:free] <= 0)
    if len(empty):
        found = far.best(len(empty))
        moved[empty[: len(found)]] = found
    return moved


@kernel
def _add_rows(x: Floats, labels: NDArray[np.int32], weights: Doubles, sums: Doubles) -> None:
    for i in range(len(labels)):
        total, row, w = sums[labels[i]], x[i], weights[i]
        for j in range(len(row)):
            total[j] += w * row[j]


@kernel
def _nearest_of_each(
    labels: NDArray[np.int32], squared: Floats, free: NDArray[np.bool_], start: int, rows: Rows, near: Doubles
) -> None:
    for i in range(len(labels)):
        if free[i] and squared[i] < near[labels[i]]:
            near[labels[i]] = squared[i]
            rows[labels[i]] = start + i

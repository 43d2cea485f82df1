"""How well the picks cover the rows, measured beside random choice: distances, on a bounded number of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks import MemoryBlocks
from kofn.core.assign import assign
from kofn.core.block import Blocks, Doubles, Floats, Rows, dense
from kofn.core.designs import smallest_numbers
from kofn.page.subject import Subject
from kofn.rng import Rng

MEASURED = 20_000
"""Rows that are measured at most, chosen by row hash."""

SEEDS = 5
"""Random choices that the picks are compared with."""

HELD = 1 << 28
"""Bytes of vectors that are held at once, as far as the picks themselves allow."""

WORK = 1e12
"""Multiplications that the distances may take; fewer rows are measured where they would take more."""

HAVE = 50_000
"""Rows of `have` that distances are measured to at most, chosen by row hash."""

STEPS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)
"""Where the ladder of random choices begins, in multiples of k; it is doubled until it covers as well as the picks."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """Random choices of several sizes.

    Attributes
    ----------
    sizes : int64 (s,)
        How many rows were chosen, ascending.
    means : float64 (seeds, s)
        Mean distance of a measured row to the nearest of them.
    at : int
        Position of k in `sizes`.
    """

    sizes: Rows
    means: Doubles
    at: int

    @property
    def mean(self) -> Doubles:
        """Mean over the seeds, float64 (s,)."""
        return np.asarray(self.means.mean(axis=0))


@dataclass(frozen=True, eq=False)
class Coverage:
    """Distances of the measured rows to their nearest pick (or row of `have`).

    Attributes
    ----------
    rows : int64 (m,)
        Row numbers of the measured rows, in the order of their hashes.
    x : float32 (m, d)
        Their vectors.
    distance : float64 (m,)
    nearest : int64 (m,)
        The row number of the pick or `have` row that is nearest; ties to the lowest.
    weights : float64 (m,)
        How many rows each measured row stands for.
    seeds : tuple of int
        Of the random choices.
    random : float64 (seeds, m)
        Distance to the nearest of k rows at random (or row of `have`).
    ladder : Ladder
    picks, held : tuple of (int64 (p,), float32 (p, d))
        The picks, and the rows of `have`, that distances were measured to: row numbers and vectors.
    twins : int
        Picks that are exact duplicates of an earlier pick.
    copies : int
        Measured rows that are exact duplicates of another measured row that comes before them.
    own : tuple of (int64 (s,), float64 (s,)) or None
        How many of the picks, in their order, and the mean distance to those; None where fewer picks are not the first ones.
    """

    rows: Rows
    x: Floats
    distance: Doubles
    nearest: Rows
    weights: Doubles
    seeds: tuple[int, ...]
    random: Doubles
    ladder: Ladder
    picks: tuple[Rows, Floats]
    held: tuple[Rows, Floats]
    twins: int
    copies: int = 0
    own: tuple[Rows, Doubles] | None = None

    @property
    def mean(self) -> float:
        """Mean distance of a row to its nearest pick."""
        return float(np.average(self.distance, weights=self.weights))

    @property
    def radius(self) -> float:
        """Largest distance of a measured row to its nearest pick."""
        return float(self.distance.max())

    @property
    def random_means(self) -> Doubles:
        """The mean distance under each random choice of k rows, float64 (seeds,)."""
        return self.ladder.means[:, self.ladder.at]

    @property
    def random_radii(self) -> Doubles:
        """The largest distance under each random choice of k rows, float64 (seeds,)."""
        return np.asarray(self.random.max(axis=1))

    def as_good_as(self) -> float | None:
        """How many rows at random have the same mean distance, read off the ladder; infinite past its end, None below it."""
        means, sizes, at = np.minimum.accumulate(self.ladder.mean), self.ladder.sizes, self.ladder.at
        if np.isclose(self.mean, means[at], rtol=1e-9, atol=0.0):  # also where both are 0
            return float(sizes[at])
        if self.mean > means[0]:
            return None
        if self.mean < means[-1]:
            return float("inf")
        return float(np.exp(np.interp(-self.mean, -means, np.log(sizes))))

    def worst(self, count: int) -> Rows:
        """Positions of the measured rows farthest from any pick, farthest first, ties to the lowest row number."""
        return np.lexsort((self.rows, -self.distance))[:count]

    def farthest(self) -> dict[int, tuple[int, float]]:
        """Of the measured rows that are nearest to a pick the one farthest from it, as pick: (row, distance); without itself."""
        order = self.worst(len(self.rows))
        order = order[self.rows[order] != self.nearest[order]]
        picks, first = np.unique(self.nearest[order], return_index=True)
        at = order[first]
        found = zip(self.rows[at].tolist(), self.distance[at].tolist(), strict=True)
        return dict(zip(picks.tolist(), found, strict=True))


def measure(subject: Subject) -> Coverage:
    """Distances of the measured rows to the picks and to random choices. O(m d) for m rows and all that is compared."""
    blocks = subject.blocks
    assert blocks is not None
    picks = subject.selection.indices
    if subject.bad is not None:
        picks = picks[~subject.bad[picks]]
    held = _held(subject)
    m = _rows_to_measure(subject, len(picks) + len(held))
    rows = smallest_numbers(subject.n, m, partial(Rng(0).rows, purpose="report"), subject.bad)
    seeds = tuple(seed for seed in range(SEEDS + 1) if seed != subject.selection.provenance.get("seed"))[:SEEDS]
    k = len(subject.selection)
    ahead = [_draw(subject, seed, min(int(k * STEPS[-1]), subject.free)) for seed in seeds]
    vectors = Vectors(blocks, [rows, picks, held, *ahead])
    x = vectors.of(rows)
    near = Near(subject, x, held, vectors)
    weights = subject.of(rows)
    sizes = _sizes(subject)
    distance, nearest, means = _one_by_one(
        near, picks, weights, sizes[sizes < len(picks)] if subject.prefix and subject.bad is None else []
    )
    mean = float(np.average(distance, weights=weights))
    ladder, random = _climb(subject, near, seeds, weights, mean)
    of_picks = vectors.of(picks)
    return Coverage(
        rows=rows, x=x, distance=distance, nearest=nearest, weights=weights, seeds=seeds, random=random, ladder=ladder,
        picks=(picks, of_picks), held=(held, vectors.of(held)), twins=_twins(of_picks), copies=_twins(x), own=means,
    )  # fmt: skip


def _one_by_one(
    near: Near, picks: Rows, weights: Doubles, sizes: Any
) -> tuple[Doubles, Rows, tuple[Rows, Doubles] | None]:
    """Distances to the picks; on the way, where there are `sizes`, the mean distances to the first of them."""
    state, before, means = None, 0, []
    for size in [*sizes, len(picks)]:
        state = near.to(picks[before:size], state)
        means.append(float(np.average(np.sqrt(state[0]), weights=weights)))
        before = size
    assert state is not None
    own = (np.array([*sizes, len(picks)], np.int64), np.array(means)) if len(sizes) else None
    return np.sqrt(state[0]), state[1], own


class Vectors:
    """Rows by number: all that will be asked for is brought in one reading, where it fits in `HELD`."""

    def __init__(self, blocks: Blocks, expected: list[Rows]) -> None:
        self.blocks = blocks
        union = np.unique(np.concatenate(expected))
        fits = len(union) * blocks.d * 4 <= HELD
        self.known = union if fits else union[:0]
        self.x = dense(blocks.take(self.known))

    def of(self, rows: Rows) -> Floats:
        """The rows of these numbers, in this order, float32."""
        if len(self.known):
            at = np.minimum(np.searchsorted(self.known, rows), len(self.known) - 1)
            if np.array_equal(self.known[at], rows):
                return np.asarray(self.x[at])
        return np.asarray(dense(self.blocks.take(rows)))

    def parts(self, rows: Rows) -> Any:
        """(rows, vectors) in portions of at most `HELD` bytes."""
        size = max(1, HELD // (4 * self.blocks.d))
        for at in range(0, len(rows), size):
            yield rows[at : at + size], self.of(rows[at : at + size])


class Near:
    """Squared distances of the measured rows to sets of rows, those in `have` always among them."""

    def __init__(self, subject: Subject, x: Floats, held: Rows, vectors: Vectors) -> None:
        self.blocks = MemoryBlocks(x, run=subject.run)
        self.vectors = vectors
        self.start = np.full(len(x), np.inf), np.full(len(x), -1, np.int64)
        self.start = self.to(held)

    def to(self, rows: Rows, before: tuple[Doubles, Rows] | None = None) -> tuple[Doubles, Rows]:
        """(squared distance, row number) of the nearest, given those nearest `before`; ties to the lowest row number."""
        start = self.start if before is None else before
        squared, nearest = start[0].copy(), start[1].copy()
        for part, points in self.vectors.parts(np.sort(rows)):
            at = 0
            for labels, apart in assign(self.blocks, points):
                here = slice(at, at + len(labels))
                found = part[labels]
                closer = (apart < squared[here]) | ((apart == squared[here]) & (found < nearest[here]))
                squared[here] = np.where(closer, apart, squared[here])
                nearest[here] = np.where(closer, found, nearest[here])
                at += len(labels)
        return squared, nearest


def _climb(
    subject: Subject, near: Near, seeds: tuple[int, ...], weights: Doubles, goal: float
) -> tuple[Ladder, Doubles]:
    """Random choices of more and more rows, until they cover as well as `goal` or cost too much."""
    k = len(subject.selection)
    sizes = _sizes(subject)
    state: list[Any] = [None] * len(seeds)
    means: list[list[float]] = [[] for _ in seeds]
    at_k = np.empty((len(seeds), len(weights)))
    before, done = 0, 0
    while done < len(sizes):
        size = int(sizes[done])
        for number, seed in enumerate(seeds):
            state[number] = near.to(_draw(subject, seed, size)[before:], state[number])
            distance = np.sqrt(state[number][0])
            means[number].append(float(np.average(distance, weights=weights)))
            if size == k:
                at_k[number] = distance
            if subject.run.tell:
                subject.run.tell("comparing with random rows", done * len(seeds) + number + 1, len(sizes) * len(seeds))
        before, done = size, done + 1
        covered = np.mean([each[-1] for each in means]) <= goal
        following = min(2 * size, subject.free)
        if done == len(sizes) and not covered and following > size and _affordable(near, following, size, len(seeds)):
            sizes = np.append(sizes, following)
    return Ladder(sizes, np.array(means), int(np.searchsorted(sizes, k))), at_k


def _sizes(subject: Subject) -> Rows:
    k = len(subject.selection)
    return np.unique([int(np.clip(round(k * step), 1, subject.free)) for step in STEPS])


def _affordable(near: Near, size: int, before: int, seeds: int) -> bool:
    d = near.blocks.d
    return size * d * 4 <= HELD and (size - before) * seeds * d * near.blocks.n <= WORK / 2


def _draw(subject: Subject, seed: int, size: int) -> Rows:
    """The rows that `kofn select --method uniform --seed N` picks; a smaller choice begins a larger one."""
    return smallest_numbers(subject.n, size, partial(Rng(seed).rows, purpose="draw"), subject.barred)


def _held(subject: Subject) -> Rows:
    """Rows of `have` that distances are measured to, ascending."""
    if subject.have is None:
        return np.zeros(0, np.int64)
    mask = subject.have if subject.bad is None else subject.have & ~subject.bad
    rows = np.flatnonzero(mask).astype(np.int64)
    if len(rows) > HAVE:
        subject.asides.append(
            f"Distances are measured to {HAVE:,} of the {len(rows):,} rows that were there before, so they come out too large."
        )
        rows = np.sort(smallest_numbers(subject.n, HAVE, partial(Rng(0).rows, purpose="report have"), ~mask))
    return rows


def _rows_to_measure(subject: Subject, points: int) -> int:
    sound = subject.n if subject.bad is None else subject.n - int(subject.bad.sum())
    compared = points + SEEDS * int(STEPS[-1] * len(subject.selection))
    by_work = max(2_000, int(WORK / (compared * subject.d)))
    by_memory = max(1_000, HELD // (16 * subject.d))
    return min(sound, MEASURED, by_work, by_memory)


def _twins(x: Floats) -> int:
    rows = np.ascontiguousarray(x + np.float32(0))  # one zero, not two
    return len(rows) - len(np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))))


def curve(coverage: Coverage, points: int = 120) -> dict[str, NDArray[Any]]:
    """Share of rows within distance r of a pick: for the picks, and lowest, highest and mean of the random choices."""
    every = np.vstack([coverage.distance[None, :], coverage.random])
    top = float(every.max())
    positive = every[every > 0]
    low = float(np.quantile(positive, 0.002)) if len(positive) else 0.0
    r = np.linspace(low if low < top else 0.0, top, points)
    shares = np.array([_within(each, coverage.weights, r) for each in every])
    random = shares[1:]
    return {
        "r": r,
        "picks": shares[0],
        "low": random.min(axis=0),
        "high": random.max(axis=0),
        "mean": random.mean(axis=0),
    }


def _within(distance: Doubles, weights: Doubles, r: Doubles) -> Doubles:
    order = np.argsort(distance, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(reached[np.searchsorted(distance[order], r, side="right")] / reached[-1])

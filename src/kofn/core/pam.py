"""The swap engine of k-medoids: what exchanging a medoid for a candidate changes, for all medoids at once.

For every column (a row whose loss counts) the nearest and second nearest medoid are kept, and for every medoid the loss of
removing it. One look at a candidate's row of dissimilarities then gives the best of k exchanges: FastPAM1 takes the best of
all candidates, FasterPAM the first that improves (Schubert and Rousseeuw, "Fast and Eager k-Medoids Clustering: O(k) Runtime
Improvement of the PAM, CLARA, and CLARANS Algorithms", Information Systems 101, 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.dissimilarity import add_rows
from kofn.core.jit import kernel, one_form

LANES = 64  # fewer are not made into vector instructions
TINY = 1e-12
"""An exchange must lower the loss by this share of it: less is rounding, which could go round in circles."""

QUIET = 48  # candidates in a row without an exchange before several are looked at ahead
AHEAD = 64, 1024  # candidates a thread looks at ahead, at first and at most
SHARE = 256  # candidates in one call when all are looked at

Labels = NDArray[np.int32]
State = tuple[NDArray[Any], Rows, NDArray[np.bool_], Doubles, Rows, Floats, Labels, Floats, Doubles]


@dataclass(eq=False)
class Swaps:
    """k medoids among C candidates, for a weighted loss over m columns.

    Parameters
    ----------
    table : float32 or float64 (C, m), C-contiguous
        How badly each candidate stands for each column. Read as float32.
    weights : float64 (m,)
        What a column counts.
    cover : float32 (m,)
        What each column has in any case: its distance to the nearest fixed medoid, infinite without any.
    medoids : int64 (k,)
        Numbers of the candidates to begin with; kept up to date here. Needs k >= 2, or a finite cover.
    names : int64 (C,)
        The candidates' numbers: what `medoids` holds. By default their positions in the table; where candidates come by
        `offer`, all numbers that will ever come.
    medoid_rows : float32 (k, m), optional
        How badly the medoids stand for the columns; by default their rows of the table.

    Notes
    -----
    Memory: 4 m (k + 1) + 24 m bytes.
    """

    table: NDArray[Any]
    weights: Doubles
    cover: Floats
    medoids: Rows
    names: Rows | None = None
    medoid_rows: Floats | None = None
    swaps: int = 0
    known: Floats = field(init=False)

    def __post_init__(self) -> None:
        k, m = len(self.medoids), self.table.shape[1]
        self.table = one_form(self.table)
        self.medoids = self.medoids.copy()
        if self.names is None:
            self.names = np.arange(len(self.table))
        self.taken = np.zeros(1 + max(int(self.names.max()), int(self.medoids.max())), np.bool_)
        self.taken[self.medoids] = True
        self.known = np.empty((m, k + 1), np.float32)  # a column's distances lie together: what a new search reads
        for i in range(k):
            self.known[:, i] = self.table[self.medoids[i]] if self.medoid_rows is None else self.medoid_rows[i]
        self.known[:, k] = self.cover
        self.labels: Labels = np.empty((2, m), np.int32)
        self.apart: Floats = np.empty((2, m), np.float32)
        self.removal = np.empty(k + 1)
        _search(self.known, self.labels, self.apart)
        _remove(self.labels, self.apart, self.weights, self.removal)

    @property
    def loss(self) -> float:
        """Weighted sum of the columns' distances to their nearest medoids."""
        return float(np.dot(self.weights, self.apart[0].astype(np.float64)))

    def eager(
        self, order: Rows, rounds: int, runner: TileRunner = run_serially, *, threads: int = 1, tell: Any = None
    ) -> bool:
        """FasterPAM: go round the candidates, exchanging at once where it improves, until a whole round brought nothing.

        Parameters
        ----------
        order : int64
            The candidates that may become medoids, in the order of their turns. A medoid's turn passes; what it leaves
            open when it is exchanged may be taken again.
        rounds : int
            Rounds at most.
        threads : int
            How many looks ahead there are at once. The first improvement counts and the rest is forgotten, so the
            result is that of one thread.

        Returns
        -------
        bool
            Whether it ended because no exchange improves.
        """
        most = rounds * len(order)
        return self._turns(order, most, 0, len(order), runner, threads, tell) >= len(order)

    def offer(
        self,
        table: NDArray[Any],
        names: Rows,
        idle: int,
        enough: int,
        runner: TileRunner = run_serially,
        *,
        threads: int = 1,
    ) -> int:
        """One turn each for other candidates: for tables too large to hold.

        Returns
        -------
        int
            How many turns in a row have brought nothing, `idle` being those before; ends early once they are `enough`.
        """
        self.table, self.names = one_form(table), names
        return self._turns(np.arange(len(names)), len(names), idle, enough, runner, threads, None)

    def _turns(
        self, order: Rows, most: int, idle: int, enough: int, runner: TileRunner, threads: int, tell: Any
    ) -> int:
        at, ahead, least = 0, AHEAD[0], TINY * self.loss
        patience = QUIET if threads > 1 else enough
        while at < most and idle < enough:
            at, idle, swaps = _eager(*self._state(), order, at, most, idle, enough, patience, least)
            self.swaps += swaps
            while threads > 1 and at < most and idle < enough:
                size = min(threads * ahead, most - at, enough - idle)
                step = -(-size // threads)
                ends = [(begin, min(begin + step, at + size)) for begin in range(at, at + size, step)]
                found = runner(_first, [(*self._state(), order, begin, end, least) for begin, end in ends])
                hit = next((turn for turn, end in zip(found, ends, strict=True) if turn < end[1]), None)
                if hit is not None:
                    idle, at, ahead = idle + hit - at, hit, AHEAD[0]
                    break
                at, idle, ahead = at + size, idle + size, min(2 * ahead, AHEAD[1])
            if tell:
                tell("settling", 100 * min(idle, enough) // enough, 100)  # per cent of the turns in vain that end it
        return idle

    def best(self, order: Rows, rounds: int, runner: TileRunner = run_serially, *, tell: Any = None) -> bool:
        """FastPAM1: the best exchange of all, ties to the first candidate in `order`, until none improves; each is a round."""
        least = TINY * self.loss
        for done in range(rounds):
            calls = [(*self._state(), order, at, min(at + SHARE, len(order))) for at in range(0, len(order), SHARE)]
            change, turn, medoid = min(runner(_least, calls), default=(0.0, 0, 0))
            if not change < -least:
                return True
            exchange(*self._state(), order[turn], medoid)
            self.swaps += 1
            if tell:
                tell("swaps", done + 1, done + 2)  # how many there will be nobody knows
        return False

    def _state(self) -> State:
        assert self.names is not None
        return (
            self.table,
            self.names,
            self.taken,
            self.weights,
            self.medoids,
            self.known,
            self.labels,
            self.apart,
            self.removal,
        )


def best_single(table: NDArray[Any], weights: Doubles, order: Rows, runner: TileRunner = run_serially) -> int:
    """The candidate of `order` whose weighted sum is least, the first on ties: the one medoid that is best."""
    sums = np.zeros(len(table))
    calls = [(one_form(table[at : at + SHARE]), weights, sums[at : at + SHARE]) for at in range(0, len(table), SHARE)]
    runner(add_rows, calls)
    return int(order[np.argmin(sums[order])])


@kernel
def _search(known: Floats, labels: Labels, apart: Floats) -> None:
    """Nearest and second nearest medoid of each column, ties to the lowest position."""
    for o in range(len(known)):
        row = known[o]
        first, second, least, next_least = 0, -1, row[0], np.float32(np.inf)
        for i in range(1, len(row)):
            if row[i] < least:
                second, next_least = first, least
                first, least = i, row[i]
            elif second < 0 or row[i] < next_least:
                second, next_least = i, row[i]
        labels[0, o], apart[0, o], labels[1, o], apart[1, o] = first, least, second, next_least


@kernel
def _remove(labels: Labels, apart: Floats, weights: Doubles, removal: Doubles) -> None:
    """removal[i] = what the loss grows by if medoid i goes; the fixed ones, counted last, do not go."""
    k = len(removal) - 1
    removal[:] = 0.0
    for o in range(len(weights)):
        i = labels[0, o]
        if i < k:
            removal[i] += weights[o] * (np.float64(apart[1, o]) - np.float64(apart[0, o]))


@kernel
def _look(
    row: NDArray[Any], weights: Doubles, labels: Labels, apart: Floats, removal: Doubles, change: Doubles, hits: Labels
) -> int:
    """change[i] = what the loss changes by when this candidate takes the place of medoid i; the best i, lowest on ties.

    Only columns nearer to the candidate than to their second nearest medoid matter: few, found by lanes.
    """
    m, k = len(row), len(removal) - 1
    count, whole = 0, m - m % LANES
    limit = apart[1]
    for start in range(0, whole, LANES):
        near = np.int32(0)
        for lane in range(LANES):
            near += np.int32(np.float32(row[start + lane]) < limit[start + lane])
        if near:
            for lane in range(LANES):
                hits[count] = start + lane
                count += np.float32(row[start + lane]) < limit[start + lane]
    for o in range(whole, m):
        hits[count] = o
        count += np.float32(row[o]) < limit[o]
    for i in range(k + 1):
        change[i] = removal[i]
    shared = 0.0
    for t in range(count):
        o = hits[t]
        d, first = np.float64(np.float32(row[o])), np.float64(apart[0, o])
        w = weights[o]
        if d < first:
            shared += w * (d - first)
            change[labels[0, o]] += w * (first - np.float64(apart[1, o]))
        else:
            change[labels[0, o]] += w * (d - np.float64(apart[1, o]))
    best = 0
    for i in range(1, k):
        if change[i] < change[best]:
            best = i
    change[best] += shared
    return best


@kernel
def exchange(
    table: NDArray[Any], names: Rows, taken: NDArray[np.bool_], weights: Doubles, medoids: Rows,
    known: Floats, labels: Labels, apart: Floats, removal: Doubles,
    candidate: int, i: int,
) -> None:  # fmt: skip
    """Put a candidate in the place of medoid i and bring all columns up to date: O(m) time, O(k) for those that lose."""
    row, k = table[candidate], known.shape[1]
    taken[medoids[i]], taken[names[candidate]] = False, True
    medoids[i] = names[candidate]
    for o in range(len(row)):
        d = np.float32(row[o])
        known[o, i] = d
        first, second = labels[0, o], labels[1, o]
        if first != i and second != i and d >= apart[1, o]:
            continue
        if first == i and d <= apart[1, o]:
            apart[0, o] = d
            continue
        if first != i and d < apart[0, o]:
            labels[1, o], apart[1, o] = first, apart[0, o]
            labels[0, o], apart[0, o] = i, d
            continue
        if first != i and second != i:
            labels[1, o], apart[1, o] = i, d
            continue
        if first == i:
            first = second
            labels[0, o], apart[0, o] = second, apart[1, o]
        second, least = -1, np.float32(np.inf)
        values = known[o]
        for j in range(k):
            if j != first and (second < 0 or values[j] < least):
                second, least = j, values[j]
        labels[1, o], apart[1, o] = second, least
    _remove(labels, apart, weights, removal)


@kernel
def _eager(
    table: NDArray[Any], names: Rows, taken: NDArray[np.bool_], weights: Doubles, medoids: Rows,
    known: Floats, labels: Labels, apart: Floats, removal: Doubles,
    order: Rows, at: int, stop: int, idle: int, enough: int, patience: int, least: float,
) -> tuple[int, int, int]:  # fmt: skip
    """Turns one after the other; the next turn, how many in a row were idle, how many exchanges there were.

    Ends at turn `stop`, after `enough` turns without an exchange, or after `patience` turns without one.
    """
    count, change, hits = len(order), np.empty(len(removal)), np.empty(table.shape[1] + LANES, np.int32)
    quiet, swaps = 0, 0
    while at < stop and idle < enough and quiet < patience:
        j = order[at % count]
        at += 1
        idle += 1
        quiet += 1
        if taken[names[j]]:
            continue
        i = _look(table[j], weights, labels, apart, removal, change, hits)
        if change[i] < -least:
            exchange(table, names, taken, weights, medoids, known, labels, apart, removal, j, i)
            swaps += 1
            idle = quiet = 0
    return at, idle, swaps


@kernel
def _first(
    table: NDArray[Any], names: Rows, taken: NDArray[np.bool_], weights: Doubles, medoids: Rows,
    known: Floats, labels: Labels, apart: Floats, removal: Doubles,
    order: Rows, at: int, stop: int, least: float,
) -> int:  # fmt: skip
    """The first turn from `at` on whose candidate improves, or `stop`."""
    count, change, hits = len(order), np.empty(len(removal)), np.empty(table.shape[1] + LANES, np.int32)
    for turn in range(at, stop):
        j = order[turn % count]
        if not taken[names[j]]:
            i = _look(table[j], weights, labels, apart, removal, change, hits)
            if change[i] < -least:
                return turn
    return stop


@kernel
def _least(
    table: NDArray[Any], names: Rows, taken: NDArray[np.bool_], weights: Doubles, medoids: Rows,
    known: Floats, labels: Labels, apart: Floats, removal: Doubles,
    order: Rows, at: int, stop: int,
) -> tuple[float, int, int]:  # fmt: skip
    """(change, turn, medoid) of the best exchange of these turns, the first on ties."""
    change, hits = np.empty(len(removal)), np.empty(table.shape[1] + LANES, np.int32)
    best, best_turn, best_medoid = 0.0, at, 0
    for turn in range(at, stop):
        j = order[turn]
        if not taken[names[j]]:
            i = _look(table[j], weights, labels, apart, removal, change, hits)
            if change[i] < best:
                best, best_turn, best_medoid = change[i], turn, i
    return best, best_turn, best_medoid

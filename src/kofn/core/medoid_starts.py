"""Where k-medoids begins: rows at random, LAB, or BUILD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.dissimilarity import Dissimilarity, add_rows, nearest_among, table, totals
from kofn.core.jit import kernel, one_form

SHARE = 256  # candidates in one call of a thread


def lab(
    dis: Dissimilarity, pool: Rows, weights: Doubles, cover: Floats, k: int, generator: np.random.Generator
) -> Rows:
    """Linear approximative BUILD: each medoid is the best of a fresh sample of 10 + sqrt(|pool|) rows, judged on that sample.

    Parameters
    ----------
    pool : int64 (p,)
        Rows that may become medoids, ascending; at least k.
    weights : float64 (n,)
        What each row counts.
    cover : float32 (n,)
        Distance of each row to the nearest fixed medoid; infinite without any.
    k : int
        Medoids wanted.
    generator : numpy.random.Generator
        Draws the samples.

    Returns
    -------
    int64 (k,)
        In the order in which they were found. O(k sqrt(p) (k + sqrt(p))) dissimilarities.

    Notes
    -----
    Schubert and Rousseeuw, "Faster k-Medoids Clustering", SISAP 2019, Algorithm 4. Ties go to the lowest row number.
    """
    size = min(10 + int(np.ceil(np.sqrt(len(pool)))), len(pool))
    chosen = np.empty(k, np.int64)
    taken = np.zeros(dis.n, np.bool_)
    for at in range(k):
        sample = np.sort(pool[generator.choice(len(pool), size, replace=False, shuffle=False)])
        free = sample[~taken[sample]]
        if not len(free):
            free = pool[~taken[pool]][:size]
        reach = np.minimum(cover[free], nearest_among(dis, chosen[:at], free)) if at else cover[free]
        if np.isinf(reach).any():
            best = int(np.argmin(totals(dis, free, free, weights[free])))
        else:
            gains = np.zeros(len(free))
            add_savings(table(dis, free, free), weights[free], reach, gains)
            best = int(np.argmax(gains))
        chosen[at] = free[best]
        taken[chosen[at]] = True
    return chosen


def build(
    entries: NDArray[Any], weights: Doubles, cover: Floats, order: Rows, k: int, runner: TileRunner = run_serially
) -> Rows:
    """BUILD: each medoid is the candidate that lowers the loss most given those before it.

    Parameters
    ----------
    entries : float32 or float64 (C, m)
        How badly each candidate stands for each column.
    weights, cover : float64 (m,), float32 (m,)
        What a column counts; its distance to the nearest fixed medoid, infinite without any.
    order : int64
        Candidates that may become medoids, ascending; at least k.

    Returns
    -------
    int64 (k,)
        Positions among the candidates, in the order in which they were found; ties to the first in `order`.

    Notes
    -----
    Kaufman and Rousseeuw, "Finding Groups in Data", 1990. What a candidate saves only falls as medoids are added, so an old
    value is a bound, and only candidates whose bound is the largest are looked at again (Minoux 1978): the same medoids as
    by looking at all of them, O(C m) time for the first two and a little for each that follows.
    """
    greedy = _Build(one_form(entries), weights, cover.copy(), order)
    greedy.begin(runner)
    while len(greedy.chosen) < k:
        greedy.bounds[greedy.next_best()] = -1.0
    return np.array(greedy.chosen, np.int64)


@dataclass(eq=False)
class _Build:
    entries: NDArray[Any]
    weights: Doubles
    reach: Floats
    order: Rows

    def begin(self, runner: TileRunner) -> None:
        """The first medoid where nothing is covered; then what every candidate saves."""
        self.chosen: list[int] = []
        self.bounds = np.full(len(self.entries), -1.0)
        if np.isinf(self.reach).any():
            sums = np.zeros(len(self.entries))
            self._over_all(add_rows, runner, (self.weights,), sums)
            first = int(self.order[np.argmin(sums[self.order])])
            self._take(first)
        gains = np.zeros(len(self.entries))
        self._over_all(add_savings, runner, (self.weights, self.reach), gains)
        self.bounds[self.order] = gains[self.order]
        self.bounds[self.chosen] = -1.0
        self.age = np.full(len(self.entries), len(self.chosen), np.int64)

    def next_best(self) -> int:
        """Add the candidate that saves most; returns it."""
        pick = int(_refresh(self.entries, self.weights, self.reach, self.bounds, self.age, len(self.chosen)))
        self._take(pick)
        return pick

    def _take(self, pick: int) -> None:
        self.chosen.append(pick)
        self.reach = np.minimum(self.reach, self.entries[pick]).astype(np.float32)

    def _over_all(self, fn: Any, runner: TileRunner, shared: tuple[Any, ...], out: Doubles) -> None:
        starts = range(0, len(self.entries), SHARE)
        runner(fn, [(self.entries[at : at + SHARE], *shared, out[at : at + SHARE]) for at in starts])


@kernel
def add_savings(entries: NDArray[Any], weights: Doubles, reach: Floats, gains: Doubles) -> None:
    """Add to each candidate's gain the weighted sum of max(0, reach - entry) over the columns, in float64."""
    lanes = np.empty(16)
    m = entries.shape[1]
    whole = m - m % 16
    for i in range(entries.shape[0]):
        row = entries[i]
        for lane in range(16):
            lanes[lane] = 0.0
        for j in range(0, whole, 16):
            for lane in range(16):
                saved = np.float64(reach[j + lane]) - np.float64(np.float32(row[j + lane]))
                lanes[lane] += weights[j + lane] * (saved if saved > 0.0 else 0.0)
        total = 0.0
        for lane in range(16):
            total += lanes[lane]
        for j in range(whole, m):
            saved = np.float64(reach[j]) - np.float64(np.float32(row[j]))
            total += weights[j] * max(saved, 0.0)
        gains[i] += total


@kernel
def _refresh(entries: NDArray[Any], weights: Doubles, reach: Floats, bounds: Doubles, age: Rows, now: int) -> int:
    """The candidate of largest gain: bounds are brought up to date from the largest on until an up-to-date one leads."""
    while True:
        best = int(np.argmax(bounds))
        if age[best] == now:
            return best
        gain = np.zeros(1)
        add_savings(entries[best : best + 1], weights, reach, gain)
        bounds[best] = gain[0]
        age[best] = now

"""Greedy k-means++: several draws from the D^2 law a pick, the one that lowers the cost most is kept; many picks a pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import SLAB, Block, Blocks, Doubles, Floats, Rows, by_slab, slab_count
from kofn.core.distance import Centers
from kofn.core.dsquared import DSquared
from kofn.core.jit import kernel
from kofn.core.nearer import Pairs, dense, improvements_in_tile
from kofn.core.reduce import tree_sum

MOST = 256
"""Candidates measured in one pass at most: enough for a fast product."""

PAIRS = 2
"""Pairs of a candidate and a row it improves that are held at once, for each row; 6 bytes a pair."""

_TILE_PAIRS = 1 << 15  # the same for a tile, where improved rows may crowd


def greedy_draws(law: DSquared, generator: np.random.Generator, wanted: int, candidates: int) -> list[int]:
    """Rows of the greedy form in pick order; fewer than wanted when all rows coincide with centers.

    A pass measures all rows against many candidates and writes down only the pairs in which a row comes nearer. As
    distances to the nearest center only fall, those pairs settle every later question: whether a candidate is still
    accepted (old proposals stay valid under rejection), by how much it lowers the cost, and what the chosen one changes.
    While the pairs would be too many, at the first picks, a pass only adds them up and serves one pick.
    """
    picks: list[int] = []
    queue = _Queue.empty(law.blocks.d)
    size = candidates
    while len(picks) < wanted and law.total > 0.0:
        queue = queue.filled(law, max(size, candidates), generator)
        played, found = 0, 0.0
        if size >= 2 * candidates:
            pairs = _Held.collect(law, Centers(queue.x[:size]))
            rows, played = _play(law, pairs, queue, candidates, wanted - len(picks))
            found = pairs.mean
        if not played:
            rows, found = _best_of(law, queue, candidates)
            played = candidates
        picks += rows
        queue = queue.after(played)
        size = int(min(MOST, law.blocks.n / max(found, 1.0)))
    return picks


@dataclass(frozen=True, eq=False)
class _Queue:
    """Proposals in the order in which they are judged: rows (m,), what each must reach (m,), vectors (m, d)."""

    rows: Rows
    limits: Doubles
    x: Floats

    @classmethod
    def empty(cls, d: int) -> _Queue:
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, d), np.float32))

    def filled(self, law: DSquared, size: int, generator: np.random.Generator) -> _Queue:
        """The proposals that still are accepted, and new ones up to `size`, all independent draws from the law."""
        kept = law.bound[self.rows] >= self.limits
        rows, limits, x = self.rows[kept], self.limits[kept], self.x[kept]
        if len(rows) < size:
            more, reach = law.propose(generator.random((size - len(rows), 2)))
            vectors = dense(law.blocks.take(more))
            rows, limits = np.concatenate([rows, more]), np.concatenate([limits, reach])
            x = np.concatenate([x, vectors])
        return _Queue(rows, limits, np.ascontiguousarray(x))

    def after(self, used: int) -> _Queue:
        """The proposals that have not been judged."""
        return _Queue(self.rows[used:], self.limits[used:], self.x[used:])


def _best_of(law: DSquared, queue: _Queue, candidates: int) -> tuple[list[int], float]:
    """The first candidates' best, made a center; and how many rows a candidate improved. Two passes."""
    shared = Centers(queue.x[:candidates])
    drops, counts = tree_sum(law.blocks.map(_drops_of_block, shared, each=law.slabs()))
    best = _first_best(drops, queue.rows)
    law.add(queue.x[best : best + 1])
    law.refresh()
    return [int(queue.rows[best])], float(counts.mean())


def _drops_of_block(block: Block, candidates: Centers, known: tuple[Floats, Any]) -> tuple[Doubles, Doubles]:
    bound, weights = known
    k = len(candidates.points)
    drops, counts = np.zeros(k), np.zeros(k)
    for pairs in block.map_tiles(improvements_in_tile, candidates, _TILE_PAIRS, each=bound):
        at = pairs.rows - block.start
        fall = bound[at].astype(np.float64) - pairs.squared
        drops += np.bincount(pairs.which, weights=fall if weights is None else fall * weights[at], minlength=k)
        counts += np.bincount(pairs.which, minlength=k)
    return drops, counts

"""Greedy k-means++: several draws from the D^2 law a pick, the one that lowers the cost most is kept; many picks a pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import SLAB, TILE, Block, Doubles, Floats, Rows, by_slab, dense
from kofn.core.distance import Centers
from kofn.core.dsquared import DSquared
from kofn.core.jit import kernel
from kofn.core.nearer import Pairs, improvements_in_tile
from kofn.core.reduce import tree_sum
from kofn.core.sparsepairs import SparseCandidates, improvements_of_sparse

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
        rows: list[int] = []
        if size >= 2 * candidates:
            rows, played, found = _play(law, queue, size, candidates, wanted - len(picks))
        if not rows:
            rows, found = _best_of(law, queue, candidates)
            played = candidates
        picks += rows
        queue = queue.after(played)
        size = int(min(max(MOST, 4 * candidates), law.blocks.n / max(found, 1.0)))
    return picks


@dataclass(frozen=True, eq=False)
class _Queue:
    """Proposals in the order in which they are judged: rows (m,), what each must reach (m,), vectors (m, d), as rows come."""

    rows: Rows
    limits: Doubles
    x: Any

    @classmethod
    def empty(cls, d: int) -> _Queue:
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, d), np.float32))

    def filled(self, law: DSquared, size: int, generator: np.random.Generator) -> _Queue:
        """The proposals that still are accepted, and new ones up to `size`, all independent draws from the law."""
        kept = law.bound[self.rows] >= self.limits
        rows, limits, x = self.rows[kept], self.limits[kept], self.x[kept]
        if len(rows) < size:
            more, reach = law.propose(generator.random((size - len(rows), 2)))
            x = _stacked(x, law.blocks.take(more))
            rows, limits = np.concatenate([rows, more]), np.concatenate([limits, reach])
        return _Queue(rows, limits, x)

    def after(self, used: int) -> _Queue:
        """The proposals that have not been judged."""
        return _Queue(self.rows[used:], self.limits[used:], self.x[used:])


def _stacked(x: Any, more: Any) -> Any:
    if isinstance(more, np.ndarray):
        return np.concatenate([x, more])
    if x.shape[0] == 0:
        return more
    from scipy.sparse import vstack

    return vstack([x, more], format="csr")


def _candidates(x: Any) -> Any:
    return Centers(x) if isinstance(x, np.ndarray) else SparseCandidates(x)


def _best_of(law: DSquared, queue: _Queue, candidates: int) -> tuple[list[int], float]:
    """The first candidates' best, made a center; and how many rows a candidate improved. Two passes."""
    shared = _candidates(queue.x[:candidates])
    drops, counts = tree_sum(law.blocks.map(_drops_of_block, shared, each=law.slabs()))
    best = _first_best(drops, queue.rows)
    law.add(dense(queue.x[best : best + 1]))
    law.refresh()
    return [int(queue.rows[best])], float(counts.mean())


def _drops_of_block(block: Block, candidates: Any, known: tuple[Floats, Any]) -> tuple[Doubles, Doubles]:
    bound, weights = known
    if isinstance(candidates, SparseCandidates):
        k, tiles = candidates.points.shape[0], range(block.start, block.stop, TILE)
        parts = improvements_of_sparse(block, candidates, TILE * k, bound)
        limits = [bound[at : at + TILE] for at in range(0, len(bound), TILE)]
        drops = [_drops(*part, k, weights, block.start) for part in zip(tiles, parts, limits, strict=True)]
        return tuple(tree_sum(drops))
    return tuple(tree_sum(block.map_tiles(_drops_in_tile, candidates, weights, block.start, each=bound)))


def _drops_in_tile(
    start: int, x: Any, candidates: Centers, weights: Any, slab: int, bound: Floats
) -> tuple[Doubles, Doubles]:
    k = len(candidates.points)
    return _drops(start, improvements_in_tile(start, x, candidates, len(bound) * k, bound), bound, k, weights, slab)


def _drops(start: int, pairs: Pairs, bound: Floats, k: int, weights: Any, slab: int) -> tuple[Doubles, Doubles]:
    """By how much each candidate lowers a tile's cost, and in how many rows."""
    fall = bound[pairs.rows - start].astype(np.float64) - pairs.squared
    if weights is not None:
        fall *= weights[pairs.rows - slab]
    counts = np.bincount(pairs.which, minlength=k).astype(np.float64)
    drops = np.bincount(pairs.which, weights=fall, minlength=k).astype(np.float64)
    return drops, counts


def _first_best(drops: Doubles, rows: Rows) -> int:
    """Position of the largest drop; of equal ones the lowest row number's."""
    level = np.flatnonzero(drops == drops.max())
    return int(level[np.argmin(rows[level])])


@dataclass(frozen=True, eq=False)
class _Held:
    """The pairs of a pass, slab by slab and in each by candidate.

    Attributes
    ----------
    offsets : uint16 (p,)
        Row within its slab.
    squared : float32 (p,)
        Squared distance of row and candidate.
    starts : int64 (slabs, usable + 1)
        Where a candidate's pairs begin in a slab.
    """

    offsets: NDArray[np.uint16]
    squared: Floats
    starts: Rows

    @classmethod
    def collect(cls, law: DSquared, candidates: Any) -> _Held:
        """One pass. Where pairs crowd, only the first candidates are kept."""
        room, used, usable = int(PAIRS * law.blocks.n), 0, candidates.points.shape[0]
        offsets, squared = np.empty(room, np.uint16), np.empty(room, np.float32)  # pages come into being when written
        starts: list[Rows] = []
        for part in law.blocks.map(_pairs_of_block, candidates, each=by_slab(law.bound)):
            usable = min(usable, len(part.starts) - 1)
            while used + part.starts[usable] > room:
                usable //= 2
                used = _packed(offsets, squared, starts, usable)
            stop = int(part.starts[usable])
            offsets[used : used + stop], squared[used : used + stop] = part.offsets[:stop], part.squared[:stop]
            starts.append(used + part.starts)
            used += stop
        return cls(offsets, squared, np.stack([each[: usable + 1] for each in starts]))

    @property
    def mean(self) -> float:
        """Rows that a candidate improves, on average; infinite where no candidate is left."""
        usable = self.starts.shape[1] - 1
        return float((self.starts[:, -1] - self.starts[:, 0]).sum()) / usable if usable else np.inf


@dataclass(frozen=True, eq=False)
class _SlabPairs:
    offsets: NDArray[np.uint16]
    squared: Floats
    starts: Rows


def _pairs_of_block(block: Block, candidates: Any, bound: Floats) -> _SlabPairs:
    if isinstance(candidates, SparseCandidates):
        parts = improvements_of_sparse(block, candidates, _TILE_PAIRS, bound)
    else:
        parts = block.map_tiles(improvements_in_tile, candidates, _TILE_PAIRS, each=bound)
    usable = min(pairs.usable for pairs in parts)
    which = np.concatenate([pairs.which for pairs in parts])
    kept = which < usable
    order = np.argsort(which[kept], kind="stable")
    rows = np.concatenate([pairs.rows for pairs in parts])[kept][order]
    squared = np.concatenate([pairs.squared for pairs in parts])[kept][order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(which[kept], minlength=usable))])
    return _SlabPairs((rows - block.start).astype(np.uint16), squared, starts.astype(np.int64))


def _packed(offsets: NDArray[np.uint16], squared: Floats, starts: list[Rows], usable: int) -> int:
    """Keep the pairs of the first `usable` candidates, moved together; how many they are."""
    at = 0
    for slab, begins in enumerate(starts):
        first, count = int(begins[0]), int(begins[usable] - begins[0])
        offsets[at : at + count] = offsets[first : first + count].copy()
        squared[at : at + count] = squared[first : first + count].copy()
        starts[slab] = begins - first + at
        at += count
    return at


def _play(law: DSquared, queue: _Queue, size: int, candidates: int, wanted: int) -> tuple[list[int], int, float]:
    """Picks that one pass over `size` proposals suffices for, made centers in the bounds.

    Returns the picks, how many proposals they used up, and how many rows a proposal improved on average. One pass.
    """
    pairs = _Held.collect(law, _candidates(queue.x[:size]))
    picks = np.empty(wanted, np.int64)
    weights = np.empty(0) if law.weights is None else law.weights
    count, used = _play_pairs(
        pairs.offsets, pairs.squared, pairs.starts, law.bound, weights, queue.rows, queue.limits, candidates, picks
    )
    law.recount()
    return picks[:count].tolist(), int(used), pairs.mean


@kernel
def _play_pairs(
    offsets: NDArray[np.uint16],
    squared: Floats,
    starts: Rows,
    bound: Floats,
    weights: Doubles,
    rows: Rows,
    limits: Doubles,
    candidates: int,
    picks: Rows,
) -> tuple[int, int]:
    """Pick after pick: the next accepted proposals, their drops, the best, its rows' bounds."""
    slabs, usable = starts.shape[0], starts.shape[1] - 1
    drawn = np.empty(candidates, np.int64)
    count, used = 0, 0
    while count < len(picks):
        at, found = used, 0
        while at < usable and found < candidates:
            if np.float64(bound[rows[at]]) >= limits[at]:
                drawn[found] = at
                found += 1
            at += 1
        if found < candidates:
            break
        best, most = drawn[0], -1.0
        for each in drawn:
            drop = 0.0
            for slab in range(slabs):
                for pair in range(starts[slab, each], starts[slab, each + 1]):
                    row = slab * SLAB + np.int64(offsets[pair])
                    fall = np.float64(bound[row]) - np.float64(squared[pair])
                    if fall > 0.0:
                        drop += fall * weights[row] if len(weights) else fall
            if drop > most or (drop == most and rows[each] < rows[best]):
                best, most = each, drop
        for slab in range(slabs):
            for pair in range(starts[slab, best], starts[slab, best + 1]):
                row = slab * SLAB + np.int64(offsets[pair])
                if squared[pair] < bound[row]:
                    bound[row] = squared[pair]
        picks[count] = rows[best]
        count += 1
        used = at
    return count, used

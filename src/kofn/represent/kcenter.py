"""Rows that cover the whole: no row is far from its nearest pick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kofn.core.block import SLAB, Block, Doubles, Floats, Rows, by_slab
from kofn.core.catchup import Labels, catch_up_block
from kofn.core.certificates import cover_and_packing
from kofn.core.distance import WIDE, squared_distance
from kofn.core.jit import kernel
from kofn.core.reduce import tree_sum
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection

_LEAST = 1024  # rows that are kept up to date, at least


@dataclass(frozen=True, kw_only=True)
class KCenter(Method):
    """Farthest-first traversal: begin with the row nearest the mean, then always take the row farthest from all picks.

    Active learning knows it as the core-set method (Sener and Savarese 2018). Coresets, weighted rows that keep the cost of
    every clustering, are the method `coreset`.

    Rows of `have` are centers from the start. With `outliers` = z, the farthest rows that together hold at most a share z
    of the total weight are set aside before each pick, so that a few strays do not eat the budget.

    Guarantee: the radius (largest distance of a row to its nearest pick) is at most twice the smallest that any k rows
    can have (Gonzalez 1985). With outliers no factor holds for every input: where the best k - g rows leave out at most g
    of the picks, the radius of the rows not set aside is at most twice theirs. (Ding, Yu and Wang, ESA 2019, draw at
    random among the farthest rows instead, and are within 2 with a chance that falls exponentially in k.)

    Needs: embeddings. Streams: no. Weights: Voronoi counts. Cost: at most O(n k d) time, O(n) memory beside the rows; while
    it picks, a row is measured only once it may be the farthest.
    """

    outliers: float = param(0.0, "share of the total weight that may stay uncovered", low=0.0, high=0.5)
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "kcenter"
    summary: ClassVar[str] = "farthest-first rows: none is far from its nearest pick"
    paper: ClassVar[Paper | None] = Paper(
        "Clustering to minimize the maximum intercluster distance",
        "Teofilo F. Gonzalez",
        "Theoretical Computer Science 38",
        1985,
        "https://doi.org/10.1016/0304-3975(85)90224-5",
    )
    random: ClassVar[bool] = False
    prefix: ClassVar[bool] = True
    objective: ClassVar[str | None] = "radius"
    claims: ClassVar[str] = "a radius within twice the smallest; with outliers no factor is known"
    lifts: ClassVar[str | None] = (
        "two rounds on random parts: a radius within 4 times the smallest (Malkomes et al. 2015); with outliers no factor"
    )

    @classmethod
    def examples(cls) -> list[Method]:
        """With every row covered, and with strays set aside."""
        return [cls(), cls(outliers=0.02)]

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose k rows, farthest first."""
        cover = _Cover(items, items.everything(self.metric), k)
        cover.begin()
        # A share of a sum is rounded: seven of a hundred rows must not become six.
        spare = self.outliers * float(items.row_weights.sum()) * (1 + 1e-9)
        added = traverse(cover, spare)
        cover.catch_up(np.arange(items.n))
        picks = cover.rows[cover.held :]
        radius = float(np.sqrt(cover.gaps.max()))
        provenance: dict[str, Any] = {"objective": {"name": "radius", "value": radius}}
        if spare:
            within = _farthest(cover.gaps, items.row_weights, items.n, spare)
            provenance["covered"] = {"outliers": self.outliers, "radius": float(np.sqrt(within))}
        if added < k:
            provenance["notes"] = [
                f"{k - added} of {k} picks add nothing, for no row that counts was left at a distance; they are the lowest"
                " row numbers"
            ]
        return Selection(indices=picks, weights=cover.weights(), provenance=provenance)

    def bound(self, items: Items, selection: Selection) -> tuple[str, float, float] | None:
        """The radius, and the least distance between k + 1 rows: no k rows have a radius below half of it."""
        if self.outliers:
            return None
        radius, packing = cover_and_packing(items.blocks(self.metric), selection.indices, items.have_rows)
        return "radius, at most twice the smallest of any choice", radius, packing

    def bytes(self, n: int, d: int, k: int) -> int:
        """The rows and those kept up to date (all, at worst), 96 bytes a row, the centers, a slab, products of threads."""
        return 8 * n * d + 96 * n + 16 * k * (d + 2) + min(n, SLAB) * (4 * d + 96) + (64 << 20)

    def passes(self, n: int, d: int, k: int) -> int:
        """One: the rows stay in memory."""
        return 1


@dataclass
class _Cover:
    """How far each row is from the centers that it has been measured against; those it has not seen can only be nearer.

    Attributes
    ----------
    rows : int64 (centers,)
        Row numbers of the centers: `have`, then the picks.
    points : float32 (centers, d)
        Their vectors.
    gaps : float64 (n,)
        Squared distance to the nearest center seen: never less than the true one to all centers.
    nearest : int32 (n,)
        The position in `rows` of that center.
    seen : int32 (n,)
        How many centers a row has been measured against, in their order.
    """

    items: Items
    x: Floats
    k: int
    rows: Rows = field(init=False)
    points: Floats = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        n, d = self.x.shape
        self.held = len(self.items.have_rows)
        self.rows = np.empty(self.held + self.k, np.int64)
        self.points = np.empty((self.held + self.k, d), np.float32)
        self.gaps: Doubles = np.full(n, np.inf)
        self.nearest: Labels = np.zeros(n, np.int32)
        self.seen: Labels = np.zeros(n, np.int32)

    def begin(self) -> None:
        """Measure every row against the first centers: `have`, or the row nearest the mean."""
        first = self.items.have_rows
        if not self.held:
            weights = self.items.row_weights
            parts = self._map(_sum_block, by_slab(weights))
            mean = tree_sum(parts) / weights.sum()
            first = np.array([int(np.argmin(np.concatenate(list(self._map(_gap_block, None, mean)))))])
        self.count = len(first)
        self.rows[: self.count] = first
        self.points[: self.count] = self.x[first]
        if self.held:
            self.catch_up(np.arange(len(self.x)))
        else:
            self.gaps = np.concatenate(list(self._map(_gap_block, None, self.points[0].astype(np.float64))))
            self.seen[:] = 1

    def catch_up(self, rows: Rows) -> None:
        """Measure these rows against all centers that they have not seen."""
        # Rows of one center come together, so that what is too far from that center can be ruled out for all of them.
        stale = rows[self.seen[rows] < self.count]
        stale = stale[np.argsort(self.nearest[stale] * np.int64(1 << 32) + self.seen[stale])]
        for at in range(0, len(stale), SLAB):
            part = stale[at : at + SLAB]
            known = np.stack([self.gaps[part], self.nearest[part], self.seen[part]], axis=1)
            blocks = self.items.hold(self.x[part])
            ((gaps, nearest),) = blocks.map(catch_up_block, self.points[: self.count], self.held, each=[known])
            self.gaps[part], self.nearest[part] = gaps, nearest
        self.seen[stale] = self.count

    def fill(self) -> int:
        """Complete the picks by the lowest row numbers that are left; how many picks there were before."""
        added = self.count - self.held
        free = np.ones(len(self.x), bool)
        free[self.rows[: self.count]] = False
        rest = np.flatnonzero(free)[: self.k - added]
        self.rows[self.count :] = rest
        self.points[self.count :] = self.x[rest]
        self.count = len(self.rows)
        return added

    def weights(self) -> Doubles:
        """Total weight of the rows nearest to each pick; a pick and a `have` row stand at least for themselves."""
        self.nearest[self.rows] = np.arange(len(self.rows), dtype=np.int32)
        cells = np.bincount(self.nearest, self.items.row_weights, minlength=len(self.rows))
        return np.asarray(cells[self.held :], dtype=np.float64)

    def _map(self, fn: Any, each: Any, *shared: Any) -> Any:
        return self.items.hold(self.x).map(fn, *shared, each=each)


def traverse(cover: _Cover, spare: float) -> int:
    """Add farthest rows to the cover until it is full; how many were added before nothing was left to cover.

    Only the rows that are farthest by what is known of them (`active`) are measured against each new pick. The others are
    at most `limit` away, so the farthest active row is the farthest of all while it is farther than that. When too few
    active rows are left, the next ones catch up with the picks made meanwhile.
    """
    items, n = cover.items, len(cover.x)
    # The longer the rows, the dearer it is to keep many of them up to date.
    share = int(np.clip(cover.x.shape[1] // 2, 8, 64))
    size = int(n * spare / items.row_weights.sum()) + max(_LEAST, n // share)
    while cover.count < len(cover.rows):
        active, limit, size = _activate(cover, size, spare)
        if not len(active):
            break
        gathered = cover.x[active], cover.gaps[active], cover.nearest[active], items.row_weights[active]
        known = cover.gaps, cover.nearest, cover.seen
        cover.count = _advance(
            active, *gathered, limit, spare, *known, cover.rows, cover.points, cover.count, cover.held
        )
        if items.run.tell:
            items.run.tell("picks", cover.count - cover.held, cover.k)
    return cover.fill()


def _activate(cover: _Cover, size: int, spare: float) -> tuple[Rows, float, int]:
    """The farthest rows, up to date, weighing more than `spare`; the limit that no other row exceeds; how many it took.

    No rows where all those at a distance above 0 weigh no more than `spare`.
    """
    n = len(cover.gaps)
    while True:
        size = min(size, n)
        cut = np.partition(cover.gaps, n - size)[n - size]
        rows = np.flatnonzero((cover.gaps >= cut) & (cover.gaps > 0))
        limit = float(cover.gaps[cover.gaps < cut].max(initial=0.0))
        fresh = bool((cover.seen[rows] == cover.count).all())
        cover.catch_up(rows)
        rows = rows[cover.gaps[rows] > limit]
        if len(rows) and cover.items.row_weights[rows].sum() > spare:
            return rows, limit, size
        if fresh and size == n:
            return rows[:0], limit, size
        if fresh:
            size *= 2


@kernel
def _advance(
    active: Rows,
    x: Floats,
    gaps: Doubles,
    nearest: Labels,
    weights: Doubles,
    limit: float,
    spare: float,
    all_gaps: Doubles,
    all_nearest: Labels,
    all_seen: Labels,
    rows: Rows,
    points: Floats,
    count: int,
    held: int,
) -> int:
    """Pick while the farthest row that counts is among the active ones; the new number of centers.

    Active rows that fall to the limit are dropped: what is known of them is written back.
    """
    m, sums = len(active), np.empty(WIDE)
    while count < len(rows):
        best = _pick(active, gaps, weights, m, spare)
        if best < 0:
            break
        rows[count] = active[best]
        for j in range(x.shape[1]):
            points[count, j] = x[best, j]
        i = 0
        while i < m:
            gap = squared_distance(x[i], points[count], sums)
            if gap < gaps[i] or (gap == gaps[i] and nearest[i] < held):
                gaps[i] = gap
                nearest[i] = count
                if gap <= limit:
                    row = active[i]
                    all_gaps[row], all_nearest[row], all_seen[row] = gap, count, count + 1
                    m -= 1
                    active[i], gaps[i], nearest[i], weights[i] = active[m], gaps[m], nearest[m], weights[m]
                    for j in range(x.shape[1]):
                        x[i, j] = x[m, j]
                    continue
            i += 1
        count += 1
    for i in range(m):
        row = active[i]
        all_gaps[row], all_nearest[row], all_seen[row] = gaps[i], nearest[i], count
    return count


@kernel
def _pick(active: Rows, gaps: Doubles, weights: Doubles, m: int, spare: float) -> int:
    """Position of the farthest active row that counts, the lowest row on ties; -1 where they weigh at most `spare`."""
    mass = 0.0
    for i in range(m):
        mass += weights[i]
    if m == 0 or mass <= spare:
        return -1
    gap = _farthest(gaps, weights, m, spare)
    best = -1
    for i in range(m):
        if gaps[i] == gap and (best < 0 or active[i] < active[best]):
            best = i
    return best


@kernel
def _farthest(gaps: Doubles, weights: Doubles, m: int, spare: float) -> float:
    """The largest of the first m gaps once the largest that weigh at most `spare` together are set aside.

    Quickselect by weight; the smallest gap where all of them weigh no more than that.
    """
    if spare <= 0.0:
        largest = gaps[0]
        for i in range(1, m):
            largest = max(largest, gaps[i])
        return largest
    g, w = np.empty(m), np.empty(m)
    for i in range(m):
        g[i], w[i] = gaps[i], weights[i]
    low, high, above = 0, m, 0.0
    while True:
        a, b, c = g[low], g[(low + high) // 2], g[high - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        left, i, right = low, low, high  # [low, left) larger, [left, i) equal, [right, high) smaller
        larger = equal = 0.0
        while i < right:
            if g[i] > pivot:
                larger += w[i]
                g[left], g[i] = g[i], g[left]
                w[left], w[i] = w[i], w[left]
                left += 1
                i += 1
            elif g[i] == pivot:
                equal += w[i]
                i += 1
            else:
                right -= 1
                g[right], g[i] = g[i], g[right]
                w[right], w[i] = w[i], w[right]
        if above + larger > spare:
            high = left
        elif above + larger + equal > spare or right == high:
            return pivot
        else:
            above += larger + equal
            low = right


def _sum_block(block: Block, weights: Doubles) -> Doubles:
    return np.asarray(tree_sum(block.map_tiles(_sum_tile, each=weights)))


def _sum_tile(start: int, x: Floats, weights: Doubles) -> Doubles:
    total = np.zeros(x.shape[1])
    _add_rows(x, weights, total)
    return total


@kernel
def _add_rows(x: Floats, weights: Doubles, total: Doubles) -> None:
    for i in range(len(x)):
        for j in range(x.shape[1]):
            total[j] += weights[i] * x[i, j]


def _gap_block(block: Block, point: Doubles) -> Doubles:
    return np.concatenate(block.map_tiles(_gap_tile, point))


def _gap_tile(start: int, x: Floats, point: Doubles) -> Doubles:
    gaps = np.empty(len(x))
    _gaps_to(x, point, gaps)
    return gaps


@kernel
def _gaps_to(x: Floats, point: Doubles, gaps: Doubles) -> None:
    sums = np.empty(WIDE)
    for i in range(len(x)):
        gaps[i] = squared_distance(x[i], point, sums)

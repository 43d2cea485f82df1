"""Rows that cover the whole: no row is far from its nearest pick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import SLAB, Block, Doubles, Floats, Rows, by_slab
from kofn.core.distance import CLOSE, Centers, nearest_in_tile, squared_distance
from kofn.core.jit import kernel
from kofn.core.reduce import tree_sum
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection

Labels = NDArray[np.int32]

_LEAST = 1024  # rows that are kept up to date, at least
_BETWEEN = 1 << 19  # distances between centers that are held at a time


@dataclass(frozen=True, kw_only=True)
class KCenter(Method):
    """Farthest-first traversal: begin with the row nearest the mean, then always take the row farthest from all picks.

    Rows of `have` are centers from the start. With `outliers` = z, the farthest rows that together hold at most a share z
    of the total weight are set aside before each pick, so that a few strays do not eat the budget.

    Guarantee: the radius (largest distance of a row to its nearest pick) is at most twice the smallest that any k rows
    can have (Gonzalez 1985); half of it is a lower bound for every choice of k rows. With outliers no such factor is
    known for exactly k picks: if g of the picks are rows that an optimal choice leaves out, the radius of the rows not
    set aside is at most twice the smallest for k - g picks. (Ding, Yu and Wang, ESA 2019, draw at random among the
    farthest rows instead and are within 2 in each run with a chance that shrinks exponentially in k.)

    Needs: embeddings. Streams: no. Weights: Voronoi counts. Cost: at most O(n k d) time, O(n) memory beside the rows; most
    rows are measured against few of the picks, because a row matters only once it may be the farthest.
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
        spare = self.outliers * float(items.row_weights.sum())
        added = traverse(cover, spare)
        cover.catch_up(np.arange(items.n))
        picks = cover.rows[cover.held :]
        radius = float(np.sqrt(cover.gaps.max()))
        provenance: dict[str, Any] = {"objective": {"name": "radius", "value": radius}}
        if self.outliers == 0:
            provenance["objective"]["bound"] = radius / 2
        else:
            within = _farthest(cover.gaps, items.row_weights, items.n, spare)
            provenance["covered"] = {"outliers": self.outliers, "radius": float(np.sqrt(within))}
        if added < k:
            provenance["notes"] = [
                f"{k - added} of {k} picks fill up by row number: the other {added} cover every row that counts"
            ]
        return Selection(indices=picks, weights=cover.weights(), provenance=provenance)

    def bytes(self, n: int, d: int, k: int) -> int:
        """The rows twice (as they are gathered), 64 bytes a row, the centers, and a slab of gathered rows."""
        slab = min(n, SLAB)
        return 8 * n * d + 64 * n + 16 * k * (d + 2) + slab * (8 * d + 64) + (64 << 20)

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
            self.gaps = np.concatenate(list(self._map(_gap_block, None, self.points[0])))
            self.seen[:] = 1

    def catch_up(self, rows: Rows) -> None:
        """Measure these rows against all centers that they have not seen."""
        stale = rows[self.seen[rows] < self.count]
        stale = stale[np.lexsort((self.seen[stale], self.nearest[stale]))]
        for at in range(0, len(stale), SLAB):
            part = stale[at : at + SLAB]
            known = np.stack([self.gaps[part], self.nearest[part], self.seen[part]], axis=1)
            blocks = self.items.hold(self.x[part])
            ((gaps, nearest),) = blocks.map(_catch_up_block, self.points[: self.count], self.held, each=[known])
            self.gaps[part], self.nearest[part] = gaps, nearest
        self.seen[stale] = self.count

    def weights(self) -> Doubles:
        """Total weight of the rows nearest to each pick; a pick and a `have` row stand at least for themselves."""
        self.nearest[self.rows] = np.arange(len(self.rows), dtype=np.int32)
        return np.bincount(self.nearest, self.items.row_weights, minlength=len(self.rows))[self.held :]

    def _map(self, fn: Any, each: Any, *shared: Any) -> Any:
        return self.items.hold(self.x).map(fn, *shared, each=each)


def traverse(cover: _Cover, spare: float) -> int:
    """Add farthest rows to the cover until it is full; how many were added before nothing was left to cover.

    Only the rows that are farthest by what is known of them (`active`) are measured against each new pick. The others are
    at most `limit` away, so the farthest active row is the farthest of all while it is farther than that. When too few
    active rows are left, the next ones catch up with the picks made meanwhile.
    """
    items, n = cover.items, len(cover.x)
    spare = max(0.0, spare * (1 + 1e-9))
    share = int(np.clip(cover.x.shape[1] // 2, 8, 64))
    size = int(n * spare / items.row_weights.sum()) + max(_LEAST, n // share)
    while cover.count < len(cover.rows):
        active, limit, size = _activate(cover, size, spare)
        if not len(active):
            break
        weights = items.row_weights[active]
        gathered = cover.x[active], cover.gaps[active], weights
        known = cover.gaps, cover.nearest, cover.seen
        cover.count = _advance(active, *gathered, limit, spare, *known, cover.rows, cover.points, cover.count, cover.held)
        if items.run.tell:
            items.run.tell("picks", cover.count - cover.held, cover.k)
    added = cover.count - cover.held
    free = np.ones(n, bool)
    free[cover.rows[: cover.count]] = False
    rest = np.flatnonzero(free)[: cover.k - added]
    cover.rows[cover.count :] = rest
    cover.points[cover.count :] = cover.x[rest]
    cover.count = len(cover.rows)
    return added


def _activate(cover: _Cover, size: int, spare: float) -> tuple[Rows, float, int]:
    """The farthest rows, up to date, weighing more than `spare`; the limit that no other row exceeds; how many it took.

    None when rows at a distance above 0 weigh no more than that.
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
    """Pick while the farthest row that counts is among the active ones, dropping those that fall to the limit."""
    m = len(active)
    nearest = np.empty(m, np.int32)
    for i in range(m):
        nearest[i] = all_nearest[active[i]]
    while count < len(rows):
        mass = 0.0
        for i in range(m):
            mass += weights[i]
        if m == 0 or mass <= spare:
            break
        gap = _farthest(gaps, weights, m, spare)
        best = -1
        for i in range(m):
            if gaps[i] == gap and (best < 0 or active[i] < active[best]):
                best = i
        rows[count] = active[best]
        points[count] = x[best]
        i = 0
        while i < m:
            gap = squared_distance(x[i], points[count])
            if gap < gaps[i] or (gap == gaps[i] and nearest[i] < held):
                gaps[i] = gap
                nearest[i] = count
                if gap <= limit:
                    all_gaps[active[i]] = gap
                    all_nearest[active[i]] = count
                    all_seen[active[i]] = count + 1
                    m -= 1
                    active[i], gaps[i], weights[i], nearest[i] = active[m], gaps[m], weights[m], nearest[m]
                    x[i] = x[m]
                    continue
            i += 1
        count += 1
    for i in range(m):
        all_gaps[active[i]] = gaps[i]
        all_nearest[active[i]] = nearest[i]
        all_seen[active[i]] = count
    return count


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
    g, w = gaps[:m].copy(), weights[:m].copy()
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


def _gap_block(block: Block, point: Any) -> Doubles:
    return np.concatenate(block.map_tiles(_gap_tile, point))


def _gap_tile(start: int, x: Floats, point: Any) -> Doubles:
    gaps = np.empty(len(x))
    _gaps_to(x, point, gaps)
    return gaps


@kernel
def _gaps_to(x: Floats, point: Any, gaps: Doubles) -> None:
    for i in range(len(x)):
        gaps[i] = squared_distance(x[i], point)


def _catch_up_block(block: Block, points: Floats, held: int, known: Doubles) -> tuple[Doubles, Labels]:
    parts = block.map_tiles(_catch_up_tile, points, held, each=known)
    return np.concatenate([gaps for gaps, _ in parts]), np.concatenate([nearest for _, nearest in parts])


def _catch_up_tile(start: int, x: Floats, points: Floats, held: int, known: Doubles) -> tuple[Doubles, Labels]:
    """Nearest center of each row and the squared distance, given what is known of them.

    Rows come ordered by the nearest center they know. A new center p can be nearer to a row than that center c only where
    |p - c| < 2 |row - c|, so groups of rows to which few new centers can matter are measured one by one; the others by
    products.
    """
    gaps, nearest, seen = known[:, 0].copy(), known[:, 1].astype(np.int32), known[:, 2].astype(np.int64)
    since = int(seen.min())
    new = Centers(points[since:])
    starts = np.flatnonzero(np.diff(nearest, prepend=-1))
    left = np.ones(len(x), bool)
    # A product costs so much less than a difference, the more the longer the rows are.
    few = int(np.clip(x.shape[1] // 8, 1, 8))
    if since and few * len(starts) <= 4 * len(x):
        step = max(1, _BETWEEN // len(new.points))
        for at in range(0, len(starts), step):
            between = _least_between(points[nearest[starts[at : at + step]]], new)
            bounds = np.append(starts, len(x))[at : at + len(between) + 1]
            _measure_groups(x, bounds, between, points, since, held, few, seen, gaps, nearest, left)
    rest = np.flatnonzero(left)
    if len(rest):
        labels, _ = nearest_in_tile(start, x[rest], new)
        _settle(x, rest, points, labels, since, held, gaps, nearest)
    return gaps, nearest


def _least_between(old: Floats, new: Centers) -> Floats:
    """Squared distances of old centers to new ones, float32, none more than the true one."""
    shifted = old - new.shift
    lengths = np.einsum("ij,ij->i", shifted, shifted)[:, None] + 2 * new.half_squares
    return np.asarray(lengths * np.float32(1 - CLOSE) - 2 * (shifted @ new.shifted.T))


@kernel
def _measure_groups(
    x: Floats,
    starts: Rows,
    between: Floats,
    points: Floats,
    since: int,
    held: int,
    few: int,
    seen: Rows,
    gaps: Doubles,
    nearest: Labels,
    left: NDArray[np.bool_],
) -> None:
    """Measure the groups of rows to which at most one in `few` new centers can matter; strike those rows from `left`."""
    news = between.shape[1]
    near = np.empty(news, np.int64)
    reach = np.empty(news)
    for group in range(len(starts) - 1):
        widest = 0.0
        for i in range(starts[group], starts[group + 1]):
            widest = max(widest, gaps[i])
        found = 0
        for j in range(news):
            if between[group, j] <= 4.0 * widest:
                near[found] = j
                found += 1
        if found * few > news:
            continue
        for j in range(found):
            reach[j] = np.sqrt(max(0.0, between[group, near[j]]))
        for i in range(starts[group], starts[group + 1]):
            left[i] = False
            first = last = np.sqrt(gaps[i])
            for j in range(found):
                center = since + near[j]
                if center < seen[i] or reach[j] > first + last:
                    continue
                gap = squared_distance(x[i], points[center])
                if gap < gaps[i] or (gap == gaps[i] and nearest[i] < held):
                    gaps[i] = gap
                    nearest[i] = center
                    last = np.sqrt(gap)


@kernel
def _settle(
    x: Floats, rest: Rows, points: Floats, labels: Labels, since: int, held: int, gaps: Doubles, nearest: Labels
) -> None:
    """Keep the nearer of the known center and the new one; on a tie the earlier pick, and a pick before a `have` row."""
    for at in range(len(rest)):
        i = rest[at]
        center = since + labels[at]
        gap = squared_distance(x[i], points[center])
        if gap < gaps[i] or (gap == gaps[i] and nearest[i] < held <= center):
            gaps[i] = gap
            nearest[i] = center

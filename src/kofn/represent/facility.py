"""Facility location: the picks whose distances to all rows, each row to its nearest pick, add up to the least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kofn.core.assign import assign, cell_weights
from kofn.core.blas import one_blas_thread
from kofn.core.block import Block, Doubles, Floats, Rows, TileRunner
from kofn.core.certificates import greedy_ceiling
from kofn.core.designs import smallest
from kofn.core.greedy import Coverage, Far, lazy_greedy, upper_bound
from kofn.core.jit import one_form
from kofn.core.knn import nearest, within_own_radius
from kofn.core.neighbors import Points, local_radii, pair_distances, sweep
from kofn.core.threads import threads
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection

PAIRS = 12_000_000  # pairs of neighbours kept at most; what lies beyond them is computed when it is needed
PER_CELL = 8  # neighbours a row has in the graph, in units of n / k: soon nearly every row has a pick among them
PIECE = 1024  # rows in one product with a batch of candidates
TRIALS = 256  # candidates for the first pick, by a sample, that are looked at before the pass over all pairs


@dataclass(frozen=True, kw_only=True)
class Facility(Method):
    """Greedy maximum of f(S) = sum_i w_i (D - min_{j in S} dist(i, j)), that is, least weighted mean distance to a pick.

    dist is the Euclidean distance, not squared (under cosine that of rows scaled to length one), D twice the largest
    distance of a row to the mean. Each pick is the row of largest gain given those before it, ties to the lowest number.
    Rows of `have` cover from the start, and gains are counted from there.

    With `neighbors=m`, a row that none of its m nearest rows covers counts as if at the m-th one's distance: f is cut off
    there (rows with m copies of themselves excepted), and the picks are the greedy ones for the cut-off function.

    Guarantee: f is monotone and submodular, so f(picks) >= (1 - 1/e) of the best f of any k rows (Nemhauser, Wolsey and
    Fisher, "An analysis of approximations for maximizing submodular set functions", 1978); for the data at hand
    `mean_distance_bound` says how small the mean distance could be at all. With `neighbors` the same holds for the
    cut-off function. f depends on D; the mean distance itself has no constant-factor guarantee under greedy.

    Needs: embeddings. Streams: no. Weights: Voronoi counts. Cost: O(n^2 d) time, about one pass over all pairs of rows and
    one to three more while few rows are covered; O(n d + min(n^2 / k, 12 million pairs)) memory, never n x n.
    """

    neighbors: int | None = param(None, "cut the objective off at each row's m-th neighbour; none: exact", low=1)
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "facility"
    summary: ClassVar[str] = "facility location: least mean distance of a row to its nearest pick, by exact lazy greedy"
    paper: ClassVar[Paper | None] = Paper(
        "An analysis of approximations for maximizing submodular set functions - I",
        "George L. Nemhauser and Laurence A. Wolsey and Marshall L. Fisher",
        "Mathematical Programming 14",
        1978,
        "https://doi.org/10.1007/BF01588971",
    )
    random: ClassVar[bool] = False
    prefix: ClassVar[bool] = True
    weights: ClassVar[str] = "count"
    objective: ClassVar[str | None] = "mean_distance"
    claims: ClassVar[str] = "at least 1 - 1/e of the largest coverage f that k rows can have"
    lifts: ClassVar[str | None] = (
        "greedy on parts dealt at random, then greedy on the union: RandGreeDi guarantees (1 - 1/e)/2 of the largest f in "
        "expectation when the better of both rounds is kept (Barbosa, Ene, Nguyen and Ward, ICML 2015); here the second "
        "round is kept, its objective estimated on the union with the parts' weights"
    )

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose k rows, each of largest gain given those before it."""
        with one_blas_thread(), threads(items.run.workers) as runner:
            points = Points(_gather(items, self.metric))
            weights = items.row_weights / items.row_weights.max()
            have = _reach_of_have(points, items)
            if self.neighbors is None:
                coverage = _exact(points, weights, have, k, runner, items.run.tell)
            else:
                coverage = _cut_off(points, weights, have, min(self.neighbors, points.n - 1), runner)
            open_rows = np.ones(items.n, np.bool_) if items.have is None else ~items.have
            greedy = lazy_greedy(coverage, k, open_rows, tell=items.run.tell)
            gains = greedy.gains
            if self.neighbors is not None:
                gains = _true_gains(points, weights, have, greedy.picks, runner)
            counts = _counts(points, items, greedy.picks)
        idle = greedy.idle
        notes = [f"{idle} of the picks gained nothing and were filled in by row number"] if idle else []
        scale = float(items.row_weights.max())
        return Selection(indices=greedy.picks, weights=counts, gains=gains * scale, provenance={"notes": notes})

    def bound(self, items: Items, selection: Selection) -> tuple[str, float, float] | None:
        """(1 - 1/e) of the most that any k rows can add, and what the picks add; exact greedy only."""
        if self.neighbors is not None or selection.gains is None:
            return None
        least = (1 - np.exp(-1)) * greedy_ceiling(selection.gains)
        return (
            "1 - 1/e of the most that any choice can add, against what the picks add",
            float(least),
            float(selection.gains.sum()),
        )

    def bytes(self, n: int, d: int, k: int) -> int:
        """Rows, shifted rows and those not covered yet (three float32 copies), the pairs while they are sorted into lists,
        columns, and products."""
        pairs = n * (_wanted(n, k) if self.neighbors is None else self.neighbors)
        rows = 12 * n * d + 200 * n
        sample = 16 * 256 * min(n, max(1024, 8 * n // max(1, pairs // n)))
        return rows + 47 * pairs + sample + 16 * (4 << 20) + 12 * min(n, 65_536) * d + 64 * k

    def passes(self, n: int, d: int, k: int) -> int:
        """One: everything after it works on the rows in memory."""
        return 1

    @classmethod
    def examples(cls) -> list[Method]:
        """The exact form and the cut-off one."""
        return [cls(), cls(neighbors=20), cls(metric="cosine")]


def mean_distance_bound(items: Items, picks: Rows, *, k: int | None = None, metric: str = "euclidean") -> float:
    """No k rows that `have` does not hold reach a smaller weighted mean distance than this (with `have` in place).

    Parameters
    ----------
    items : Items
        All rows.
    picks : int64
        Any picks; good ones give a sharper bound.
    k : int, optional
        Default: as many as there are picks.

    Notes
    -----
    f(best) <= f(picks) + the k largest gains that any row still has. One product for every pair: O(n^2 d) time.
    """
    with one_blas_thread(), threads(items.run.workers) as runner:
        points = Points(_gather(items, metric))
        standing = np.concatenate([np.asarray(picks, np.int64), items.have_rows])
        reach = _distance_to_nearest(points, items, standing)
        coverage = Coverage(points, items.row_weights, reach, np.zeros(items.n), None, runner)
        candidates = np.flatnonzero(~np.isin(np.arange(items.n), items.have_rows))
        for at in range(0, len(candidates), 256):
            coverage.refresh(candidates[at : at + 256])
        total = float(np.dot(items.row_weights, reach))
        most = upper_bound(0.0, coverage.bounds[candidates] + coverage.slack, len(picks) if k is None else k)
        return max(0.0, total - most) / float(items.row_weights.sum())


def _wanted(n: int, k: int) -> int:
    """Neighbours a row shall have in the graph."""
    return max(1, min(PER_CELL * n // k, PAIRS // n, n // 4))


def _exact(points: Points, weights: Doubles, have: Doubles | None, k: int, runner: TileRunner, tell: Any) -> Coverage:
    """The whole f, every gain known: one pass over all pairs, after which the first pick's effect is known as well."""
    n, wanted, light = points.n, _wanted(points.n, k), weights.astype(np.float32)
    radii, typical = local_radii(points, wanted, weights, runner, wide=True)
    if have is None:
        reach = np.full(n, _diameter(points))
        guess = _likely_first(points, weights, reach, typical, runner)
        then = points.distances_to(guess)
    else:
        reach = then = have
    while True:
        found = sweep(points, light, then.astype(np.float32), radii, limit=_limit(n, wanted), runner=runner, tell=tell)
        if found.graph is not None:
            break
        wanted = max(1, wanted // 4)  # many copies, or more ties among distances than the sample told
        radii = local_radii(points, wanted, weights, runner)[0] if wanted > 1 else np.zeros(n, np.float32)
    coverage = Coverage(points, weights, reach, radii, found.graph, runner)
    if have is None:
        everything = float(np.dot(weights, reach))
        coverage.know(everything - found.totals, (guess, found.savings))
    else:
        coverage.know(found.savings)
    return coverage


def _cut_off(points: Points, weights: Doubles, have: Doubles | None, m: int, runner: TileRunner) -> Coverage:
    """f cut off at each row's m-th neighbour. Rows with m copies have no distance there to be cut at: they stay whole."""
    if m < 1:
        graph, radii = None, np.zeros(points.n)
    else:
        graph, radii = within_own_radius(nearest(points, m, runner), runner)
    reach = np.full(points.n, _diameter(points)) if have is None else have
    return Coverage(points, weights, np.where(radii > 0, np.minimum(reach, radii), reach), radii, graph, runner)


def _limit(n: int, wanted: int) -> int:
    return int(1.25 * n * wanted) + 1024


def _diameter(points: Points) -> float:
    """D: twice the largest distance to the mean, rounded up."""
    return 2 * float(np.sqrt(points.squares.max(), dtype=np.float64)) * (1 + 1e-5)


def _likely_first(points: Points, weights: Doubles, reach: Doubles, typical: Doubles, runner: TileRunner) -> int:
    """A guess at the first pick: the best of those that a sample recommends. Wrong, it costs time and nothing else."""
    trials = np.sort(smallest(typical, TRIALS))
    far = Far(points, np.arange(points.n), weights, reach, np.zeros(points.n))
    return int(trials[np.argmax(far.gains(trials, runner))])


def _gather(items: Items, metric: str) -> Floats:
    """All rows as float32 (n, d), checked on their way."""
    rows = np.empty((items.n, items.d), np.float32)
    for start, x in items.blocks(metric).here.map(_copy):
        rows[start : start + len(x)] = x
    return one_form(rows)


def _copy(block: Block) -> tuple[int, Floats]:
    return block.start, block.x.copy()


def _reach_of_have(points: Points, items: Items) -> Doubles | None:
    return None if not len(items.have_rows) else _distance_to_nearest(points, items, items.have_rows)


def _distance_to_nearest(points: Points, items: Items, rows: Rows) -> Doubles:
    blocks = items.hold(points.rows)
    owner = np.concatenate([labels for labels, _ in assign(blocks, points.rows[rows])])
    apart = np.empty(points.n)
    pair_distances(points.rows, np.arange(points.n, dtype=np.int32), points.rows, rows[owner].astype(np.int32), apart)
    return apart


def _counts(points: Points, items: Items, picks: Rows) -> Doubles:
    """Voronoi counts of the picks, `have` rows covering theirs."""
    blocks = items.hold(points.rows)
    standing = np.concatenate([picks, items.have_rows])
    return cell_weights(blocks, points.rows[standing], items.weights, standing)[: len(picks)]


def _true_gains(points: Points, weights: Doubles, have: Doubles | None, picks: Rows, runner: TileRunner) -> Doubles:
    """What each pick adds to the whole f."""
    reach = np.full(points.n, _diameter(points)) if have is None else have
    calls = [(start, points, weights, reach, picks) for start in range(0, points.n, PIECE)]
    return np.asarray(sum(runner(_gains_in_piece, calls)))


def _gains_in_piece(start: int, points: Points, weights: Doubles, reach: Doubles, picks: Rows) -> Doubles:
    rows = np.arange(start, min(start + PIECE, points.n))
    left, w, gains = reach[rows], weights[rows], np.empty(len(picks))
    for at, pick in enumerate(picks):
        now = np.minimum(left, points.distances_to(int(pick), rows))
        gains[at] = np.dot(w, left - now)
        left = now
    return gains

"""Kernel thinning: k equally weighted rows whose kernel mean is far nearer to that of all rows than chance brings it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from kofn.blocks.engine import Tell, run_tiles
from kofn.core.block import Block, Doubles, Floats, Rows, TileRunner
from kofn.core.halving import Summary, halve, split
from kofn.core.kernels import (
    KERNELS,
    MANY,
    PIECE,
    SAMPLE,
    SPAN,
    Kernel,
    kernel_of,
    mean_embedding,
    median_distance,
    scale,
    taken,
)  # fmt: skip
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection

PLAIN = 8_192  # slots up to which all are split at once
WIDEST = 16_384  # slots that are split at once, at most: twice as many take four times as long
SMALLEST = 32  # slots of a block, at least
MOST = 4e9  # kernel values of the mean embedding up to which the oversampling grows by itself


@dataclass(frozen=True, kw_only=True)
class Thinning(Method):
    """Rows are halved again and again, pair by pair, by coins that keep the kept half in balance with the half left; the best
    of the halves and of rows at equal steps is refined by swaps, each pick in turn giving way to the candidate that brings
    the picks' kernel mean nearest to that of all rows.

    Every row holds as many of k 2^m slots as its weight asks for, rounded by one systematic draw; the slots are halved m
    times. Few rows are split as a whole (target, square-root, power and KT+ kernel thinning). Many are first halved in blocks
    that grow fourfold from round to round (Compress++), down to k 2^(oversampling + 1) slots, which are then split.

    Rows of `have` belong to the summary from the start; the picks complete it.

    Guarantee: with probability 1 - delta a coreset of the split has an error of order sqrt(log k) / k for any one function of
    the kernel's space, and an MMD of 1 / k up to powers of log n for analytic kernels (Dwivedi and Mackey 2022, Theorems 1 to
    4); blocks cost a factor of 4 at most, n being k^2 and oversampling enough (Shetty, Dwivedi and Mackey, "Distribution
    Compression in Near-linear Time", ICLR 2022). This is said of the slots; where they are not the rows themselves (n is no
    k 2^m, or weights differ) the systematic draw adds its own error. Swaps are measured against all rows and only lower the
    MMD: what is returned is no worse than the best coreset, nor than candidates at equal steps.

    Needs: embeddings. Streams: no. Weights: equal. Cost: plain O(n^2 d) time; Compress++ O(n d (log n + k 2^oversampling)).
    """

    kernel: str = param("gaussian", "whose mean the picks keep", choices=KERNELS)
    bandwidth: float | None = param(
        None, "what distances are divided by; by default the median distance of 1,000 rows", low=1e-30
    )
    algorithm: str = param(
        "target", "what is split by: the kernel, its square root, its power, or both", choices=("target", "root", "power", "plus")
    )  # fmt: skip
    compress: str = param(
        "auto", "halve in blocks first (Compress++); by default from 8,192 rows on", choices=("auto", "always", "never")
    )
    oversampling: int | None = param(
        None,
        "blocks leave k 2^(oversampling + 1) slots to split; by default 4, fewer where n k is large",
        low=0,
        high=12,
    )
    rounds: int = param(
        10, "passes of swaps over the picks; 0: the first coreset of the split as it is", low=0, high=1_000
    )
    delta: float = param(0.5, "probability that some coin of the halving was certain", low=1e-12, high=1.0)
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "thinning"
    summary: ClassVar[str] = "rows whose mean kernel is nearly that of all rows, so averages over them are, too"
    paper: ClassVar[Paper | None] = Paper(
        "Generalized Kernel Thinning",
        "Raaz Dwivedi and Lester Mackey",
        "ICLR",
        2022,
        "https://arxiv.org/abs/2110.01593",
    )
    weights: ClassVar[str] = "equal"
    objective: ClassVar[str | None] = "mmd"
    claims: ClassVar[str] = "MMD of order sqrt(log n) / k to all rows, where random rows have 1 / sqrt(k)"
    lifts: ClassVar[str | None] = (
        "two rounds on random parts: the MMD is at most that of the union to all rows plus that of the picks to the union"
    )

    @classmethod
    def examples(cls) -> list[Method]:
        """The split of all rows, and blocks first; kernels with and without a square root."""
        return [
            cls(),
            cls(compress="always", oversampling=1, algorithm="root"),
            cls(kernel="laplace", algorithm="plus", metric="cosine"),
        ]

    def __post_init__(self) -> None:
        super().__post_init__()
        kernel_of(self.kernel, 1, self.algorithm)

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Thin to k rows."""
        free = np.flatnonzero(~items.have) if items.have is not None else np.arange(items.n)
        each = np.full(k, left_weight(items) / k)
        if k == len(free):
            return Selection(indices=free.astype(np.int64), weights=each)
        form = kernel_of(self.kernel, items.d, self.algorithm)
        points, bandwidth = embedded(items, self.metric, self.bandwidth, form)
        runner = runner_of(items)
        plan = self._plan(len(free), items.d, k)
        slots = resampled(free, items.row_weights, k << plan.rounds, rng)
        coins = _Coins(rng, plan, self.delta)
        before, slots = _compress(points, slots, plan, coins, form, runner)
        coresets = split(points, slots, coins.of_split(), form, coins.failure, runner)
        if not self.rounds and not _repeats(coresets[0]):
            picks, changes = coresets[0], 0
        else:
            candidates = free if plan.whole else np.unique(before)
            if len(candidates) < 2 * k:
                candidates = np.union1d(candidates, _evenly(free, min(2 * k, len(free))))
            known = points, candidates, items, kernel_of(self.kernel, items.d), runner
            picks, changes = self._refine(*known, coresets, _evenly(candidates, k))
        picks = np.sort(picks)
        return Selection(indices=picks, weights=each, provenance={"bandwidth": bandwidth, "swaps": changes})

    def _refine(
        self,
        points: Floats,
        candidates: Rows,
        items: Items,
        form: Kernel,
        runner: TileRunner,
        coresets: Rows,
        baseline: Rows,
    ) -> tuple[Rows, int]:
        """The best of the coresets and the baseline, completed and swapped; the picks, and how many gave way."""
        summary = summary_of(points, candidates, items, form, runner)
        starts = np.searchsorted(candidates, coresets if not self.rounds else np.vstack([coresets, baseline[None]]))
        merits = [np.inf if len(starts) == 1 else each for each in runner(summary.discrepancy, [(s,) for s in starts])]
        chosen = summary.begin(starts[int(np.argmin(merits))], coresets.shape[1])
        changes = 0
        for at in range(self.rounds):
            changed = summary.swap(chosen)
            changes += changed
            if items.run.tell:
                items.run.tell("swaps", at + 1, self.rounds)
            if not changed:
                break
        return candidates[chosen], changes

    def _plan(self, n: int, d: int, k: int) -> Plan:
        rounds = max(0, math.ceil(math.log2(n / k) - 1e-12))
        slots = k << rounds
        if self.compress == "never" or (self.compress == "auto" and slots <= PLAIN):
            return Plan(k, rounds, rounds, 0, whole=True)
        oversampling = self.oversampling
        if oversampling is None:
            oversampling = max(g for g in range(5) if g == 0 or n * k * 2.0 ** (g + 1) <= MOST)
        thin = min(rounds, oversampling + 1)
        while thin and k << thin > WIDEST:
            thin -= 1
        return Plan(k, rounds, thin, oversampling, whole=False)

    def bytes(self, n: int, d: int, k: int) -> int:
        """The rows; then the distances of the bandwidth's sample, or the slots of the first round and the candidates' sums."""
        plan = self._plan(n, d, k)
        wide = min(n, k << max(1, plan.thin))
        candidates = (48 * n if plan.whole else wide * (4 * d + 64)) * bool(self.rounds)
        working = max(25 * (k << plan.rounds), 8 * wide * (d + 4) + candidates)
        return embedded_bytes(n, d, 26 * n + working + 64 * k + products_bytes(n, d, k, n if plan.whole else wide))

    def passes(self, n: int, d: int, k: int) -> int:
        """One: the rows stay in memory."""
        return 1


@dataclass(frozen=True)
class Plan:
    """How k 2^rounds slots are halved: in blocks until k 2^thin are left, then as a whole.

    Attributes
    ----------
    whole : bool
        Whether all slots are split as a whole, and all rows are candidates of the swaps.
    """

    k: int
    rounds: int
    thin: int
    oversampling: int
    whole: bool

    def cuts(self) -> list[Rows]:
        """For each round in blocks: the pairs at which blocks begin. Blocks grow fourfold from round to round."""
        found = []
        for left in range(self.rounds - self.thin, 0, -1):
            pairs = self.k << (self.thin + left - 1)
            least = max(SMALLEST, 4 ** (self.oversampling + 1)) // 2
            count = min(4**left, max(1, pairs // least))
            count = max(count, -(-pairs // (WIDEST // 2)))
            found.append(np.arange(count + 1) * pairs // count)
        return found


@dataclass(frozen=True)
class _Coins:
    rng: Rng
    plan: Plan
    delta: float

    def failure(self, pairs: int) -> float:
        """Of one coin: all that a coreset hangs on fail with probability delta at most, each round having the same share."""
        return self.delta / (max(1, self.plan.rounds) * pairs)

    def of_block_round(self, at: int, pairs: int) -> Doubles:
        return self.rng.generator(f"blocks {at}").random(pairs)

    def of_split(self) -> list[Doubles]:
        pairs = (self.plan.k << self.plan.thin) // 2
        return [self.rng.generator(f"split {at}").random(pairs) for at in range(self.plan.thin)]


def _compress(
    points: Floats, slots: Rows, plan: Plan, coins: _Coins, form: Kernel, runner: TileRunner
) -> tuple[Rows, Rows]:
    """Halve in blocks; (the slots among which swaps look for better ones, those that are left to split)."""
    before = slots
    for at, cuts in enumerate(plan.cuts()):
        before = slots
        slots, _ = halve(
            points, slots, cuts, coins.of_block_round(at, int(cuts[-1])), form, coins.failure(int(cuts[-1])), runner
        )
    return (slots if plan.thin else before), slots


def resampled(rows: Rows, weights: Doubles, count: int, rng: Rng) -> Rows:
    """`count` slots shared out to rows in proportion to their weights, in row order, by one systematic draw.

    Each row gets its expected number of slots, rounded down or up; rows that weigh the same and divide the slots get equal ones.
    """
    mine = weights[rows]
    if count % len(rows) == 0 and (mine == mine[0]).all():
        return np.asarray(np.repeat(rows, count // len(rows)), dtype=np.int64)
    mass, start = np.cumsum(mine), rng.generator("slots").random()
    marks = (np.arange(count) + start) * (mass[-1] / count)
    return np.asarray(rows[np.minimum(np.searchsorted(mass, marks, side="right"), len(rows) - 1)], dtype=np.int64)


def _evenly(rows: Rows, k: int) -> Rows:
    return np.asarray(rows[(2 * np.arange(k) + 1) * len(rows) // (2 * k)], dtype=np.int64)


def _repeats(rows: Rows) -> bool:
    return len(np.unique(rows)) < len(rows)


def left_weight(items: Items) -> float:
    """Total weight of the rows that `have` does not hold."""
    return float(items.row_weights.sum() - items.row_weights[items.have_rows].sum())


def embedded(items: Items, metric: str, bandwidth: float | None, form: Kernel) -> tuple[Floats, float]:
    """All rows scaled for a kernel, float32 (d, n), in memory as it wants them, and the bandwidth."""
    points = np.empty((items.d, items.n), np.float32, order="F" if form.by_products(items.d) else "C")
    for _ in items.blocks(metric).here.map(_write_columns, points):
        pass
    if bandwidth is None:
        bandwidth = median_distance(points.T)
    scale(points, bandwidth)
    return points, bandwidth


def embedded_bytes(n: int, d: int, working: int) -> int:
    """Bytes of all rows scaled, with what follows or the distances of the bandwidth's sample, whichever is more."""
    sample = min(n, SAMPLE)
    return 4 * n * d + max(working, 4 * sample**2 + 24 * sample * d) + 8 * n


def products_bytes(n: int, d: int, k: int, candidates: int) -> int:
    """Bytes beside the rows where kernels are computed from products of them.

    A tile of products, the rows that are multiplied, the strips of the mean embedding, rows that are no candidates, lengths,
    and the picks' rows of the kernel.
    """
    if d < MANY:
        return 0
    others = n - candidates if candidates > n // 2 else 0
    rows = max(4 * min(k, d) * candidates + 300 * candidates, 4 * d * (others + min(2 * n, 1_280)) + 32 * n)
    return 4 * min(n, PIECE) * min(n, SPAN) + rows + 20 * n


def _write_columns(block: Block, points: Floats) -> None:
    points[:, block.start : block.stop] = block.x.T


def summary_of(points: Floats, candidates: Rows, items: Items, form: Kernel, runner: TileRunner) -> Summary:
    """A summary of `have` alone, to be completed by some of the candidates (ascending row numbers)."""
    there = points if len(candidates) == points.shape[1] else taken(points, candidates)
    shares = items.row_weights / items.row_weights.sum()
    embedding = _embedding_of(points, shares, there, candidates, form, runner, items.run.tell)
    sums = np.zeros(len(candidates))
    if len(items.have_rows):
        mine = taken(points, items.have_rows)
        sums = mean_embedding(mine, np.ones(mine.shape[1]), there, form, runner)
    return Summary(there, embedding, sums, len(items.have_rows), np.zeros(len(candidates), np.bool_), form, runner)


def _embedding_of(
    points: Floats,
    shares: Doubles,
    there: Floats,
    candidates: Rows,
    form: Kernel,
    runner: TileRunner,
    tell: Tell | None,
) -> Doubles:
    n = len(shares)
    if not form.by_products(len(points)) or not n // 2 < len(candidates) < n:
        return mean_embedding(points, shares, there, form, runner, tell)
    others = np.setdiff1d(np.arange(n), candidates, assume_unique=True)
    among = mean_embedding(there, shares[candidates], there, form, runner, tell)  # pairs of them are computed once
    return among + mean_embedding(taken(points, others), shares[others], there, form, runner)


def runner_of(items: Items) -> TileRunner:
    """How pieces of work are run: on as many threads as these items may use."""
    return partial(run_tiles, workers=items.run.workers)

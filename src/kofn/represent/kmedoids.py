"""k-medoids: the k rows whose mean dissimilarity to all rows, each row to its nearest pick, is least; by swaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from kofn.core.assign import cell_weights
from kofn.core.blas import one_blas_thread
from kofn.core.block import Doubles, Floats, Rows, TileRunner
from kofn.core.designs import smallest, smallest_numbers
from kofn.core.dissimilarity import (
    METRICS,
    Dissimilarity,
    Labels,
    Matrix,
    between,
    checked_matrix,
    nearest,
    table,
    totals,
)
from kofn.core.medoid_starts import build, lab
from kofn.core.pam import Swaps, best_single
from kofn.core.threads import threads
from kofn.errors import ParameterError
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection

SMALL = 10_000  # rows whose n x n distances are held under "auto": 400 MB
ENTRIES = 1 << 28  # numbers in the table of a batch: 1 GiB; more rows than fit are no candidates for swaps
WITNESSES = 32  # rows for each one of a batch that say, at most, how many it stands for
STRIP = 1 << 24  # numbers in a table of candidates that is made, used and forgotten
ENDLESS = 1 << 31  # rounds: swaps end by themselves long before
POLISH, ENOUGH = 10, 1e-4  # rounds of the polish after a batch, at most; the share that each must lower the loss by
SIZE = 2048  # rows of a cluster that are all compared with one another in the polish
BEST = 16  # rows of a larger cluster that are compared with all of it, after a look at SIZE / 4 of its rows

ALGORITHMS = ("auto", "fasterpam", "fastpam1", "fasterclara", "fastclarans", "batch")
USERS = {
    "rounds": ("auto", "fasterpam", "fastpam1", "fasterclara", "batch"),
    "sample": ("fasterclara", "batch"),
    "samples": ("fasterclara", "fastclarans"),
    "neighbors": ("fastclarans",),
}
"""Which algorithms read a parameter that is None unless given."""


@dataclass(frozen=True, kw_only=True)
class KMedoids(Method):
    """k rows of least weighted mean dissimilarity to all rows, each row to its nearest pick, by swapping picks for others.

    - fasterpam: candidates take turns, and each is swapped in at once where that lowers the loss, for the pick that is best
      given up, until all of them in a row brought nothing. Holds n x n distances (Schubert and Rousseeuw 2021).
    - fastpam1: always the best swap of all: the picks of textbook PAM, k times faster (Schubert and Rousseeuw 2019).
    - fasterclara: fasterpam on random samples, each joined by the best picks so far; the best on all rows wins.
    - fastclarans: like fasterpam, on candidates drawn at random, until `neighbors` in a row brought nothing.
    - batch: fasterpam with the loss estimated on a random batch of rows, each standing for the rows nearest to it (de
      Mathelin et al. 2025), then, on all rows, each cluster's own medoid until nothing changes. No n x n memory.
    - auto: fasterpam for a given matrix and up to 10,000 rows, else batch.

    Rows in `have` are medoids that do not move. The picks come by the size of their clusters, largest first, ties by row.

    Guarantee: fasterpam and fastpam1 end where no single swap lowers the loss (unless `rounds` stops them). For a metric and
    without `have` such a loss is at most 5 times the least (Arya et al., "Local search heuristics for k-median and facility
    location problems", SIAM J. Comput. 33, 2004). A plain batch of m rows estimates what all n k swaps change the mean by
    within D sqrt(2 ln(2 n k / delta) / m) but for a chance delta, D being the largest dissimilarity (Hoeffding); counting
    each row of it for those nearest to it lowers the error where there are clusters. fasterclara and fastclarans promise
    nothing.

    Needs: embeddings. Streams: no. Weights: Voronoi counts. Cost: O(n^2) memory and time a round for fasterpam; for batch
    O(n (m + k) d) time and O(min(n m, 2^28) + m k) memory beside the rows.
    """

    algorithm: str = param("auto", "how swaps are looked for", choices=ALGORITHMS)
    init: str = param("random", "where they begin", choices=("random", "lab", "build"))
    metric: str | Callable[..., Any] = param(  # noqa: RUF009  a field like the others
        "euclidean",
        "how far apart rows are: a name, or a function of (m, d) and (c, d) that gives (m, c)",
        choices=METRICS,
    )
    rounds: int | None = param(None, "rounds of swaps at most (fastpam1: swaps); by default until none improves", low=0)
    sample: int | None = param(
        None,
        "fasterclara: rows in a sample, 80 + 4 k; batch: rows in it, max(100 ln(n k), 4 k, min(80 k, 8192))",
        low=2,
    )
    samples: int | None = param(None, "how often fasterclara (5) and fastclarans (2) begin anew", low=1)
    neighbors: int | None = param(
        None, "fastclarans: draws in vain before it ends; 2.5 % of the rows, at least 250", low=1
    )

    name: ClassVar[str] = "kmedoids"
    summary: ClassVar[str] = (
        "k-medoids by FasterPAM swaps: least mean distance of a row to its nearest pick, any metric"
    )
    paper: ClassVar[Paper | None] = Paper(
        "Fast and eager k-medoids clustering: O(k) runtime improvement of the PAM, CLARA, and CLARANS algorithms",
        "Erich Schubert and Peter J. Rousseeuw",
        "Information Systems 101",
        2021,
        "https://doi.org/10.1016/j.is.2021.101804",
    )
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse", "matrix"})
    objective: ClassVar[str | None] = "mean_distance"
    claims: ClassVar[str] = (
        "fasterpam, fastpam1: no single swap lowers the loss; for metrics within 5 times the least; batch, which auto takes "
        "above 10,000 rows: none that is proven, measured within 1.5 % of fasterpam"
    )
    lifts: ClassVar[str | None] = (
        "k-medoids of parts dealt at random, then of the union of their picks, each with its weight: for a metric, losses"
        " within b of the least in both rounds give one within 2 b (1 + 2 b) + 2 b (Guha et al., IEEE TKDE 15, 2003)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, users in USERS.items():
            if getattr(self, name) is not None and self.algorithm not in users:
                raise ParameterError(
                    f"kmedoids: {name}={getattr(self, name)} says nothing to algorithm={self.algorithm!r}; "
                    f"leave it out, or take algorithm={' or '.join(map(repr, users))}"
                )
        if self.algorithm == "fastclarans" and self.init == "build":
            raise ParameterError("kmedoids: init='build' compares all rows; fastclarans takes init='random' or 'lab'")

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose k rows."""
        with one_blas_thread(), threads(items.run.workers) as runner:
            x = self._rows(items, runner)
            task = _Task.of(items, between(x, self.metric), k, rng, runner)
            algorithm = self._algorithm(items.n)
            medoids = task.free if k == len(task.free) else _RUNS[algorithm](self, task)
            picks, idle, loss = _settled(task, medoids)
            weights = self._counts(items, task, x, picks)
        notes = [f"{idle} of the picks are copies of others and were filled in by row number"] if idle else []
        if self.algorithm == "auto" and algorithm == "batch":
            notes.append(f"algorithm batch, as there are more than {SMALL:,} rows")
        mean = loss / float(items.row_weights.sum())
        name = "mean_distance" if self.metric in ("euclidean", "cosine") else "mean_dissimilarity"
        known = {"algorithm": algorithm, "mean_dissimilarity": mean}
        provenance = {"notes": notes, "kmedoids": known, "objective": {"name": name, "value": mean}}
        return Selection(indices=picks, weights=weights, provenance=provenance)

    def recount(self, items: Items, picks: Rows) -> tuple[Doubles, float]:
        """(weights float64 (k,), mean dissimilarity of a row to its nearest pick) of these picks, by any metric."""
        with one_blas_thread(), threads(items.run.workers) as runner:
            x = self._rows(items, runner)
            task = _Task.of(items, between(x, self.metric), len(picks), Rng(0), runner)
            loss = _loss(task, _assigned(task, picks)[1])
            return self._counts(items, task, x, picks), loss / float(items.row_weights.sum())

    def bytes(self, n: int, d: int, k: int) -> int:
        """The rows, the algorithm's table of dissimilarities, those of medoids, and 80 bytes a row.

        A given matrix in memory counts as input; from files it is read into memory, 4 n^2 bytes more.
        """
        given = self.metric == "precomputed"
        size, columns = self._table_shape(n, k)
        held = 0 if given and size == columns == n else 4 * size * columns
        chunks = 2 * (8 << 20) + 16 * 4096 * d
        return held + 4 * columns * (k + 1) + (0 if given else 4 * n * d) + 80 * n + 64 * k + chunks

    def passes(self, n: int, d: int, k: int) -> int:
        """One: everything after it works on the rows in memory."""
        return 1

    @classmethod
    def examples(cls) -> list[Method]:
        """By the whole table, under cosine, on samples, and on a batch."""
        return [cls(), cls(metric="cosine"), cls(algorithm="fasterclara"), cls(algorithm="batch", init="lab")]

    def _algorithm(self, n: int) -> str:
        if self.algorithm != "auto":
            return self.algorithm
        return "fasterpam" if n <= SMALL or self.metric == "precomputed" else "batch"

    def _table_shape(self, n: int, k: int) -> tuple[int, int]:
        """Candidates and columns of the table that swaps are looked for in."""
        algorithm = self._algorithm(n)
        if algorithm == "fasterclara":
            size = min(n, (self.sample or 80 + 4 * k) + k)
            return size, size
        if algorithm == "fastclarans":
            return 2 * _strip(n) + 1 + k, n  # a strip is made before the last one goes; where the search begins
        if algorithm == "batch":
            columns = self._batch(n, k)
            return _candidates(n, k, columns), columns
        return n, n

    def _batch(self, n: int, k: int) -> int:
        return min(n, self.sample or max(int(100 * np.log(n * k)), 4 * k, min(80 * k, 8192)))

    def _rows(self, items: Items, runner: TileRunner) -> Any:
        if self.metric == "precomputed":
            in_memory = isinstance(items.embeddings, np.ndarray) or items.sparse
            return checked_matrix(items.embeddings if in_memory else items.everything(), runner)
        return items.everything("cosine" if self.metric == "cosine" else "euclidean")

    def _counts(self, items: Items, task: _Task, x: Any, picks: Rows) -> Doubles:
        """Voronoi counts of the picks in the metric, `have` rows covering theirs."""
        standing = np.concatenate([picks, items.have_rows])
        if self.metric in ("euclidean", "sqeuclidean", "cosine"):
            return cell_weights(items.hold(x), x[standing], items.weights, standing)[: len(picks)]
        labels, _ = nearest(task.dis, standing, task.runner)
        labels[standing] = np.arange(len(standing))
        return np.bincount(labels, items.row_weights, len(standing))[: len(picks)].astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Task:
    """What an algorithm is given.

    Attributes
    ----------
    dis : Dissimilarity
        Of all rows.
    weights, cover : float64 (n,), float32 (n,)
        What each row counts; its distance to the nearest row of `have`, infinite without any.
    free : int64
        Rows that may be picked, ascending.
    """

    dis: Dissimilarity
    weights: Doubles
    cover: Floats
    free: Rows
    k: int
    rng: Rng
    runner: TileRunner
    threads: int
    tell: Any

    @classmethod
    def of(cls, items: Items, dis: Dissimilarity, k: int, rng: Rng, runner: TileRunner) -> _Task:
        """The task that items pose."""
        cover = np.full(items.n, np.inf, np.float32)
        free = np.arange(items.n)
        if len(items.have_rows):
            _, cover = nearest(dis, items.have_rows, runner)
            cover[items.have_rows] = 0.0
            free = np.flatnonzero(~items.have)
        return cls(dis, items.row_weights, cover, free, k, rng, runner, items.run.workers, items.run.tell)


def _on_everything(method: KMedoids, task: _Task) -> Rows:
    """fasterpam and fastpam1: every row a column, every free row a candidate."""
    everything = np.arange(task.dis.n)
    entries = table(task.dis, everything, everything, task.runner)
    return _swapped(method, task, entries, task.weights, task.cover, task.free, task.free)


def _swapped(
    method: KMedoids, task: _Task, entries: Any, weights: Doubles, cover: Floats, order: Rows, pool: Rows
) -> Rows:
    """The candidates that swaps end at, positions in `entries`; `order` are all of them, `pool` their rows in the task."""
    if task.k == 1 and np.isinf(cover).any():
        return np.array([best_single(entries, weights, order, task.runner)])
    if method.init == "build":
        begin = build(entries, weights, cover, order, task.k, task.runner)
    else:
        begin = order[np.searchsorted(pool, _start(method.init, task, pool))]
    swaps = Swaps(entries, weights, cover, begin)
    rounds = ENDLESS if method.rounds is None else method.rounds
    if method.algorithm == "fastpam1":
        swaps.best(order, rounds, task.runner, tell=task.tell)
    else:
        swaps.eager(order, rounds, task.runner, threads=task.threads, tell=task.tell)
    return swaps.medoids


def _start(init: str, task: _Task, pool: Rows) -> Rows:
    """k rows of the pool to begin with."""
    generator = task.rng.generator("init")
    if init == "random":
        return np.asarray(pool[generator.choice(len(pool), task.k, replace=False)])
    return lab(task.dis, pool, task.weights, task.cover, task.k, generator)


def _on_samples(method: KMedoids, task: _Task) -> Rows:
    """fasterclara: the best of several samples' medoids."""
    size = _more_than_k(method.sample or 80 + 4 * task.k, task)
    best, least = task.free[:0], np.inf
    for turn in range(method.samples or 5):
        rng = task.rng.child(f"sample {turn}")
        drawn = rng.generator("rows").choice(task.free, min(size, len(task.free)), replace=False)
        rows = np.union1d(drawn, best)
        part = replace(
            task, dis=Matrix(table(task.dis, rows, rows, task.runner)), weights=task.weights[rows], cover=task.cover[rows],
            free=np.arange(len(rows)), rng=rng, tell=None,
        )  # fmt: skip
        medoids = rows[_on_everything(method, part)]
        loss = _loss(task, _assigned(task, medoids)[1])
        if loss < least:
            best, least = medoids, loss
        if task.tell:
            task.tell("samples", turn + 1, method.samples or 5)
    return best


def _by_draws(method: KMedoids, task: _Task) -> Rows:
    """fastclarans: candidates at random, a strip of them at a time, until too many in a row brought nothing."""
    everything, best, least = np.arange(task.dis.n), task.free[:0], np.inf
    enough = method.neighbors or max(250, -(-len(task.free) // 40))
    for turn in range(method.samples or 2):
        local = replace(task, rng=task.rng.child(f"search {turn}"))
        begin = _start(method.init, local, task.free)
        reach = table(task.dis, begin, everything, task.runner)
        # A medoid alone has no second one: farther than any two rows of a metric (or its square) are apart stands for it.
        cover = np.minimum(task.cover, 4 * reach.max()) if task.k == 1 else task.cover
        none = np.zeros((1, task.dis.n), np.float32)
        swaps = Swaps(none, task.weights, cover, begin, everything, reach)
        draws, idle = local.rng.generator("draws"), 0
        while idle < enough:
            names = draws.choice(task.free, _strip(task.dis.n))
            idle = swaps.offer(
                table(task.dis, names, everything, task.runner), names, idle, enough, task.runner, threads=task.threads
            )
        if swaps.loss < least:
            best, least = swaps.medoids, swaps.loss
    return best


def _on_a_batch(method: KMedoids, task: _Task) -> Rows:
    """batch: swaps for the loss of a sample of rows, each standing for the rows nearest to it; then the polish."""
    n = task.dis.n
    size = min(_more_than_k(method._batch(n, task.k), task), n)
    witnesses = smallest_numbers(n, min(WITNESSES * size, n), lambda start, stop: task.rng.rows(start, stop, "batch"))
    columns = np.sort(witnesses[:size])
    witnesses.sort()
    labels, _ = nearest(task.dis, columns, task.runner, witnesses)
    weights = np.bincount(labels, task.weights[witnesses], len(columns)).astype(np.float64)
    rows = task.free
    count = _candidates(n, task.k, len(columns))
    if count < len(rows):
        rows = np.sort(rows[smallest(task.rng.rows(0, n, "candidates")[rows], count)])
    entries = table(task.dis, rows, columns, task.runner)
    found = _swapped(method, task, entries, weights, task.cover[columns], np.arange(len(rows)), rows)
    del entries
    return _polished(task, rows[found], min(POLISH, ENDLESS if method.rounds is None else method.rounds))


_RUNS = {
    "fasterpam": _on_everything,
    "fastpam1": _on_everything,
    "fasterclara": _on_samples,
    "fastclarans": _by_draws,
    "batch": _on_a_batch,
}


def _strip(n: int) -> int:
    """Rows whose dissimilarities to all n are held at once."""
    return int(np.clip(STRIP // n, 16, 256))


def _candidates(n: int, k: int, columns: int) -> int:
    """Rows that a batch's table has room for; four for each medoid at least."""
    return min(n, max(ENTRIES // columns, 4 * k))


def _more_than_k(size: int, task: _Task) -> int:
    if size <= task.k < len(task.free):
        raise ParameterError(f"kmedoids: sample={size} is not more than k={task.k}; ask for at least {2 * task.k}")
    return size


def _assigned(task: _Task, medoids: Rows) -> tuple[Labels, Floats]:
    """The cluster of each row and how far it is; k for rows that `have` covers. A medoid is always in its own."""
    labels, apart = nearest(task.dis, medoids, task.runner)
    labels[task.cover <= apart] = len(medoids)
    labels[medoids] = np.arange(len(medoids))
    return labels, np.minimum(apart, task.cover)


def _loss(task: _Task, apart: Floats) -> float:
    return float(np.dot(task.weights, apart.astype(np.float64)))


def _polished(task: _Task, medoids: Rows, rounds: int) -> Rows:
    """Assign all rows, take each cluster's own medoid, and again, until a round brings next to nothing."""
    numbers, before = task.rng.rows(0, task.dis.n, "polish"), np.inf
    for done in range(rounds):
        labels, apart = _assigned(task, medoids)
        loss = _loss(task, apart)
        if loss > (1 - ENOUGH) * before:
            break
        before = loss
        order = np.argsort(labels, kind="stable")
        cuts = np.searchsorted(labels[order], np.arange(task.k + 1))
        calls = [(task, order[cuts[i] : cuts[i + 1]], medoids[i], numbers) for i in range(task.k)]
        moved = np.array(task.runner(_own_medoid, calls))
        if task.tell:
            task.tell("polish", done + 1, rounds)
        if np.array_equal(moved, medoids):
            break
        medoids = moved
    return medoids


def _own_medoid(task: _Task, members: Rows, medoid: int, numbers: Doubles) -> int:
    """The member with the least weighted sum to all members, the lowest row on ties. In a large cluster the best of the
    medoid and those that do best against a sample; so it never gets worse."""
    candidates = members
    if len(members) > SIZE:
        sample = members[np.sort(smallest(numbers[members], SIZE // 4))]
        about = totals(task.dis, members, sample, task.weights[sample])
        candidates = np.union1d(members[smallest(about, BEST)], [medoid])
    sums = totals(task.dis, candidates, members, task.weights[members])
    return int(candidates[np.argmin(sums)])


def _settled(task: _Task, medoids: Rows) -> tuple[Rows, int, float]:
    """The picks in order, how many of them are copies of others, and the loss.

    A medoid that is a copy gives way to the farthest row; where no row is left at a distance, to the lowest row number.
    """
    labels, apart = nearest(task.dis, medoids, task.runner)
    copies = (labels[medoids] != np.arange(task.k)) & (apart[medoids] == 0) | (task.cover[medoids] == 0)
    kept, reach = medoids[~copies], np.minimum(apart, task.cover)
    reach[kept] = 0.0
    while len(kept) < task.k and reach.max() > 0:
        row = int(np.argmax(reach))
        kept = np.append(kept, row)
        reach = np.minimum(reach, table(task.dis, kept[-1:], np.arange(task.dis.n), task.runner)[0])
        reach[row] = 0.0
    left = task.free[~np.isin(task.free, kept)]
    fills = left[: task.k - len(kept)]
    labels, apart = _assigned(task, kept) if len(kept) else (np.zeros(task.dis.n, np.int32), task.cover)
    mass = np.bincount(labels, task.weights, len(kept) + 1)[: len(kept)]
    picks = np.concatenate([kept[np.lexsort((kept, -mass))], fills])
    return picks, len(fills), _loss(task, apart)

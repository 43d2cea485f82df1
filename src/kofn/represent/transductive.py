"""Transductive few-shot clustering: classes for all rows at once, from a few labelled ones and the shape of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.blas import one_blas_thread
from kofn.core.block import Doubles, Floats, Rows
from kofn.core.distance import WIDE, squared_distance
from kofn.core.jit import kernel, one_form
from kofn.core.knn import nearest
from kofn.core.neighbors import Points
from kofn.core.numbers import is_whole
from kofn.core.seeding import seed_rows
from kofn.errors import DataError, ParameterError, UsageError
from kofn.items import Items
from kofn.rng import Rng

SMALLEST = 1e-300  # a share below it counts as this much in the damping, so that no share is lost for good
LEAST_LAPLACIAN = 1e-9  # below it exponents overflow, and the answer is that of 0 anyway
LISTED = 16  # neighbours listed at least: `nearest` sizes its sample by their number, and longer lists take less time


@dataclass(frozen=True, eq=False)
class TransductiveAssignment:
    """What `assign_with_support` found.

    Attributes
    ----------
    classes : int64 (n,)
        Class of each row, 0 to K - 1: the largest of its probabilities, the lowest class on ties.
    probabilities : float64 (n, K)
        Share of each row in each class; rows add up to 1. Support rows, and all rows when `laplacian` is 0, hold one 1.
    prototypes : float64 (K, d)
        One point for each class; of length one under "cosine".
    objective : float64 (rounds + 1,)
        The objective after the first assignment and after every round. It never increases, beyond rounding.
    rounds : int
        Rounds made.
    converged : bool
        Whether it stopped because nothing more was to be gained, not because `rounds` were over.
    """

    classes: NDArray[np.int64]
    probabilities: Doubles
    prototypes: Doubles
    objective: Doubles
    rounds: int
    converged: bool


def assign_with_support(
    x: Any,
    support: Any = (),
    labels: Any = (),
    *,
    clusters: int | None = None,
    laplacian: float = 1.0,
    barrier: float = 0.25,
    neighbors: int = 3,
    metric: str = "euclidean",
    prototypes: str = "means",
    start: Any = None,
    weights: Any = None,
    rounds: int = 200,
    tolerance: float = 1e-6,
    seed: int | Rng = 0,
) -> TransductiveAssignment:
    """Assign all rows to K classes: near their class's prototype, alike among neighbours, support rows as labelled.

    It chooses no rows: the answer is a class for every row. With shares s_i (a probability vector for each row), prototypes
    m_c, row weights w_i and the graph G that joins each row with its nearest ones, scaled by degrees,
    g_ij = 1 / sqrt(degree_i degree_j), the objective is::

        sum_i w_i sum_c s_ic |x_i - m_c|^2
          + laplacian v (barrier sum_i w_i sum_c s_ic log s_ic - 1/2 sum_ij sqrt(w_i w_j) g_ij s_i . s_j)

    subject to s_i = the given class for support rows. v, the weighted mean squared distance of a row to its nearest first
    prototype, makes the parameters free of units. On hard assignments the barrier is zero and the graph's term is, up to a
    constant, half the quadratic form of the normalised Laplacian I - G. A round puts a bound that is linear in s in the place
    of the graph's term; so every row's shares have their own closed form, a softmax, given last round's shares t::

        s_ic ~ exp((-|x_i - m_c|^2 / (laplacian v) + sum_j g_ij sqrt(w_j / w_i) t_jc + delta log t_ic) / (barrier + delta))

    and prototypes the weighted means of their rows. With laplacian=0 it is Lloyd's k-means (spherical under "cosine"), with
    support rows held where they are labelled; when it has converged, every other row is in the class of its nearest mean.

    Guarantee: no round increases the objective. The graph's eigenvalues are at least -1, so the linear bound errs by at most
    1/2 sum_i w_i |s_i - t_i|^2, and |s - t|^2 <= KL(s, t), KL(t, s) on probability vectors (Pinsker; the entries of s - t
    add up to zero). The softmax is the minimum of a function that is (barrier + delta)-strongly convex in KL, so
    delta = max(0, (1/2 - barrier) / 2) pays for the error. It is 0 for barrier >= 1/2: the plain update.

    Paper: Ziko, Boudiaf, Dolz, Granger and Ben Ayed, "Transductive Few-Shot Learning: Clustering is All You Need?", 2021
    (general form and bound optimiser). Scaling the graph, tying the barrier to the Laplacian's weight (so that 0 is k-means)
    and the damping delta are kofn's: with them the bound holds for graphs that are not positive semidefinite.

    Parameters
    ----------
    x : array (n, d), scipy.sparse matrix (made dense), or Items
        All rows, labelled or not. Read as float32.
    support : int (m,)
        Row numbers of the labelled rows, each once; may be empty if `clusters` is given.
    labels : int (m,)
        Their classes, 0 to K - 1.
    clusters : int, optional
        K; by default the highest label plus one, and then every class needs a support row.
    laplacian : float
        Weight of the graph, 0 or at least 1e-9.
    barrier : float
        Weight of the entropy barrier relative to the graph's, >= 0: higher means softer shares. Without effect where
        `laplacian` is 0.
    neighbors : int
        Nearest other rows that each row is joined with (either way counts); more than n - 1 means all.
    metric : {"euclidean", "cosine"}
        Under "cosine" rows and prototypes have length one.
    prototypes : {"means", "fixed"}
        Whether prototypes move to the means of their rows, or stay where they start (LaplacianShot, Ziko and others 2020).
    start : array (K, d), optional
        First prototypes; by default the weighted mean of a class's support, and k-means++ rows for classes without support.
    weights : positive numbers (n,), optional
        How many rows each row stands for; by default those of `Items`, or 1.
    rounds : int
        The most rounds to make, at least 1.
    tolerance : float
        Stop when a round lowers the objective by no more than this many v a unit of weight. Where `laplacian` is 0 it stops
        when no row changes its class.
    seed : int or Rng
        For the k-means++ rows alone.

    Returns
    -------
    TransductiveAssignment

    Raises
    ------
    UsageError, ParameterError, DataError
        Support out of range or named twice, labels that are no classes, K above n, NaN, parameters out of range.

    Notes
    -----
    Time O(n^2 d) once for the graph (none where `laplacian` is 0), then O(n K (d + neighbors)) a round. Memory beyond x at
    most 8 n d + 24 n K + 100 n max(neighbors, 16) bytes + 16 MiB; never n x n. A class that is empty keeps its prototype.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0], [9.0], [10.0], [11.0]])
    >>> assign_with_support(x, [0, 5], [0, 1]).classes
    array([0, 0, 0, 1, 1, 1])
    """
    rng = seed if isinstance(seed, Rng) else Rng(seed)
    _check_parameters(prototypes, laplacian=laplacian, barrier=barrier, tolerance=tolerance)
    _check_whole(neighbors=neighbors, rounds=rounds)
    if metric not in ("euclidean", "cosine"):
        raise ParameterError(f"metric={metric!r} is unknown; it takes 'euclidean' or 'cosine'")
    if isinstance(x, Items) and weights is not None:
        raise UsageError("weights are given beside Items, which carry their own; put them into Items(weights=...)")
    items = x if isinstance(x, Items) else Items(embeddings=x, weights=weights)
    given, codes, count = _checked_support(support, labels, clusters, items.n)
    rows, unit = one_form(items.everything(metric)), metric == "cosine"
    points = _first_prototypes(items, rows, given, codes, count, start, metric, rng)
    problem = _Problem(rows, items.row_weights, given, codes, laplacian, barrier, unit, prototypes == "means")
    return problem.solve(points, neighbors, rounds, tolerance)


class _Problem:
    """The objective's fixed parts, and the two closed forms that lower it in turn. `given`: support rows of classes `codes`."""

    def __init__(
        self, rows: Floats, weights: Doubles, given: Rows, codes: Rows, laplacian: float, barrier: float, unit: bool, moves: bool
    ) -> None:  # fmt: skip
        self.rows, self.weights, self.given, self.codes = rows, one_form(weights), given, codes
        self.laplacian, self.barrier, self.unit, self.moves = float(laplacian), float(barrier), unit, moves
        self.damping = max(0.0, (0.5 - self.barrier) / 2)

    def solve(self, points: Doubles, neighbors: int, rounds: int, tolerance: float) -> TransductiveAssignment:
        """Rounds of both closed forms until nothing is gained; `points` (K, d) is written on."""
        n, count = len(self.rows), len(points)
        distances, shares, pull = np.empty((n, count)), np.empty((n, count)), np.zeros((n, count))
        _distances(self.rows, one_form(points), distances)
        soft = self.laplacian > 0
        unit = float((self.weights * distances.min(axis=1)).sum() / self.weights.sum()) or 1.0
        graph = _graph(self.rows, neighbors, self.weights) if soft else None
        scale = self.laplacian * unit
        shares.fill(1.0 / count)  # equal shares damp nothing: the first assignment looks at the prototypes alone
        classes = self._assign(distances, pull, shares, scale)
        objective, converged = [self._settle(points, distances, shares, pull, graph, scale)], False
        enough = tolerance * unit * float(self.weights.sum())
        while not converged and len(objective) <= rounds:
            before, classes = classes, self._assign(distances, pull, shares, scale)
            objective.append(self._settle(points, distances, shares, pull, graph, scale))
            converged = objective[-2] - objective[-1] <= enough if soft else bool((before == classes).all())
        return TransductiveAssignment(classes, shares, points, np.array(objective), len(objective) - 1, converged)

    def _assign(self, distances: Doubles, pull: Doubles, shares: Doubles, scale: float) -> NDArray[np.int64]:
        """Every row's best shares for these prototypes, each on its own; support rows as they were labelled."""
        if scale:
            _soften(distances, pull, shares, scale, self.damping, self.barrier + self.damping)
        else:
            shares[:] = 0.0
            shares[np.arange(len(shares)), distances.argmin(axis=1)] = 1.0
        shares[self.given] = 0.0
        shares[self.given, self.codes] = 1.0
        return shares.argmax(axis=1)

    def _settle(
        self, points: Doubles, distances: Doubles, shares: Doubles, pull: Doubles, graph: _Graph | None, scale: float
    ) -> float:
        """Prototypes to their best places for these shares; then the objective, with what the next round needs of it."""
        if self.moves:
            _move(self.rows, shares, self.weights, self.unit, points)
            _distances(self.rows, one_form(points), distances)
        if graph is not None:
            _gather(graph.starts, graph.ids, graph.pulls, shares, pull)
        return float(_value(distances, shares, pull, self.weights, scale, self.barrier))


@dataclass(frozen=True, eq=False)
class _Graph:
    """Row i is pulled by `ids[starts[i]:starts[i + 1]]`, each with the weight g_ij sqrt(w_j / w_i) beside it."""

    starts: Rows
    ids: NDArray[np.int32]
    pulls: Doubles


def _graph(rows: Floats, neighbors: int, weights: Doubles) -> _Graph:
    """Every row joined with its nearest ones and with those that it is nearest to; scaled by degrees."""
    n = len(rows)
    m = min(neighbors, n - 1)
    if m == 0:
        return _Graph(np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0))
    listed = nearest(Points(rows), min(max(m, LISTED), n - 1)).ids.reshape(n, -1)
    here, there = np.repeat(np.arange(n, dtype=np.int64), m), listed[:, :m].ravel().astype(np.int64)
    once = np.unique(np.concatenate([here * n + there, there * n + here]))
    first, second = np.divmod(once, n)
    degrees = np.bincount(first, minlength=n)
    pulls = np.sqrt(weights[second] / weights[first] / (degrees[first] * degrees[second]))
    return _Graph(np.concatenate([[0], np.cumsum(degrees)]), second.astype(np.int32), pulls)


@kernel
def _distances(rows: Floats, points: Doubles, distances: Doubles) -> None:
    """Squared distances by differences in float64: the same bits whatever the shapes, and no offset is felt."""
    sums = np.empty(WIDE)
    for i in range(len(rows)):
        for c in range(len(points)):
            distances[i, c] = squared_distance(rows[i], points[c], sums)


@kernel
def _soften(distances: Doubles, pull: Doubles, shares: Doubles, scale: float, damping: float, heat: float) -> None:
    """The softmax of every row, in place: it asks only for the row's own old shares and the pull gathered before."""
    count = distances.shape[1]
    for i in range(len(distances)):
        least, most, total = np.inf, -np.inf, 0.0
        for c in range(count):
            least = min(least, distances[i, c])
        for c in range(count):
            logit = (least - distances[i, c]) / scale + pull[i, c]
            if damping > 0.0:
                logit += damping * np.log(max(shares[i, c], SMALLEST))
            shares[i, c] = logit / heat
            most = max(most, shares[i, c])
        for c in range(count):
            shares[i, c] = np.exp(shares[i, c] - most)
            total += shares[i, c]
        for c in range(count):
            shares[i, c] /= total


@kernel
def _move(rows: Floats, shares: Doubles, weights: Doubles, unit: bool, points: Doubles) -> None:
    """Prototypes to the weighted means of their rows, or these scaled to length one; where there is none they stay."""
    count, d = points.shape
    sums, masses = np.zeros((count, d)), np.zeros(count)
    for i in range(len(rows)):
        for c in range(count):
            mass = weights[i] * shares[i, c]
            if mass > 0.0:
                masses[c] += mass
                for j in range(d):
                    sums[c, j] += mass * rows[i, j]
    for c in range(count):
        length = masses[c]
        if unit:
            squared = 0.0
            for j in range(d):
                squared += sums[c, j] * sums[c, j]
            length = np.sqrt(squared)
        if length > SMALLEST:
            for j in range(d):
                points[c, j] = sums[c, j] / length


@kernel
def _gather(starts: Rows, ids: NDArray[np.int32], pulls: Doubles, shares: Doubles, pull: Doubles) -> None:
    for i in range(len(pull)):
        pull[i] = 0.0
        for at in range(starts[i], starts[i + 1]):
            for c in range(pull.shape[1]):
                pull[i, c] += pulls[at] * shares[ids[at], c]


@kernel
def _value(distances: Doubles, shares: Doubles, pull: Doubles, weights: Doubles, scale: float, barrier: float) -> float:
    """The objective. Every row's part is added up first: totals of many rows lose less."""
    total = 0.0
    for i in range(len(distances)):
        own, edge = 0.0, 0.0
        for c in range(distances.shape[1]):
            share = shares[i, c]
            if share > 0.0:
                own += share * distances[i, c]
                edge += share * (barrier * np.log(share) - 0.5 * pull[i, c])
        total += weights[i] * (own + scale * edge)
    return total


def _first_prototypes(
    items: Items, rows: Floats, given: Rows, codes: Rows, count: int, start: Any, metric: str, rng: Rng
) -> Doubles:
    """What the caller gave, or the means of the support and, for classes without any, k-means++ rows."""
    unit = metric == "cosine"
    if start is not None:
        return _checked_start(start, count, rows.shape[1], unit)
    points = np.zeros((count, rows.shape[1]))
    shares = np.zeros((len(given), count))
    shares[np.arange(len(given)), codes] = 1.0
    _move(one_form(rows[given]), shares, one_form(items.row_weights[given]), unit, points)
    lonely = np.setdiff1d(np.arange(count), codes)
    if len(lonely):
        with one_blas_thread():
            seeds = seed_rows(items.blocks(metric), len(lonely), rng, weights=items.weights, have=given)
        points[lonely] = rows[seeds]
    return points


def _checked_start(start: Any, count: int, d: int, unit: bool) -> Doubles:
    try:
        points = np.array(start, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"start does not hold numbers ({error}); give an array of shape ({count}, {d})") from None
    if points.shape != (count, d):
        raise UsageError(f"start has shape {points.shape}; give a prototype for each class: ({count}, {d})")
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points))
    wrong = np.flatnonzero(~np.isfinite(lengths) | (unit & (lengths == 0)))
    if len(wrong):
        raise DataError(f"start holds NaN, infinity or (for cosine) only zeros in prototype {wrong[0]}; mend it")
    return points / lengths[:, None] if unit else points


def _checked_support(support: Any, labels: Any, clusters: Any, n: int) -> tuple[Rows, Rows, int]:
    """Row numbers and classes of the support, and how many classes there are."""
    given, codes = _whole_numbers(support, "support"), _whole_numbers(labels, "labels")
    if len(given) != len(codes):
        raise UsageError(f"support names {len(given)} rows, labels has {len(codes)} values; give one label for each")
    outside = given[(given < 0) | (given >= n)]
    if len(outside):
        raise UsageError(f"support names row {outside[0]}, but rows go from 0 to {n - 1}; give row numbers of x")
    values, times = np.unique(given, return_counts=True)
    if (times > 1).any():
        raise UsageError(f"support names row {values[times > 1][0]} more than once; name each row once")
    return given, codes, _checked_clusters(clusters, codes, n)


def _checked_clusters(clusters: Any, codes: Rows, n: int) -> int:
    if clusters is None and not len(codes):
        raise UsageError("there is neither support nor clusters; label some rows, or give clusters=K")
    _check_whole(clusters=1 if clusters is None else clusters)
    count = int(codes.max()) + 1 if clusters is None else int(clusters)
    outside = codes[(codes < 0) | (codes >= count)]
    if len(outside):
        raise UsageError(f"labels hold {outside[0]}, but classes go from 0 to {count - 1}; number them so")
    if count > n:
        raise UsageError(f"{count} classes are more than the {n} rows; number classes from 0, ask for at most {n}")
    lonely = np.setdiff1d(np.arange(count), codes)
    if clusters is None and len(lonely):
        raise UsageError(f"class {lonely[0]} has no support row; label one, or give clusters={count} to find it")
    if len(lonely) > n - len(codes):
        raise UsageError(
            f"{len(lonely)} classes have no support row, and {n - len(codes)} rows no label; ask for fewer clusters"
        )
    return count


def _whole_numbers(values: Any, name: str) -> Rows:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        mend = "a list of row numbers" if name == "support" else "np.unique(labels, return_inverse=True)[1]"
        raise UsageError(f"{name} has shape {array.shape} and type {array.dtype}; give {mend}")
    return array.astype(np.int64)


def _check_whole(**given: Any) -> None:
    for name, value in given.items():
        if not is_whole(value, 1):
            raise ParameterError(f"{name}={value!r} is out of range; it takes a whole number of at least 1")


def _check_parameters(prototypes: Any, **numbers: Any) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float | np.number) or not 0 <= number < np.inf:
            raise ParameterError(f"{name}={number!r} is out of range; it takes a finite number of at least 0")
    if 0 < numbers["laplacian"] < LEAST_LAPLACIAN:
        raise ParameterError(
            f"laplacian={numbers['laplacian']!r} is too small; it takes 0 or at least {LEAST_LAPLACIAN:g}"
        )
    if prototypes not in ("means", "fixed"):
        raise ParameterError(f"prototypes={prototypes!r} is unknown; it takes 'means' or 'fixed'")

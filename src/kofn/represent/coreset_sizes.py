"""How large a coreset must be, and what it costs to find one, as the literature has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log, sqrt

from kofn.core.numbers import is_whole
from kofn.errors import UsageError

COSTS = {"k-means": 2, "k-median": 1}


@dataclass(frozen=True)
class Bound:
    """A bound on the size, up to its constant and logarithms.

    Attributes
    ----------
    source : str
        Who proved it.
    says : str
        The formula, z being 2 for k-means and 1 for k-median, k the clusters.
    size : callable
        size(clusters, epsilon, d, z) -> float.
    needs_d : bool
        Whether it depends on the number of columns.
    costs : tuple of str
        What it is about.
    """

    source: str
    says: str
    size: Callable[[int, float, int, int], float]
    needs_d: bool = False
    costs: tuple[str, ...] = ("k-means", "k-median")


BOUNDS = {
    "near-optimal": Bound(
        "k-means: Bansal, Cohen-Addad, Prabhu, Saulpic and Schwiegelshohn, FOCS 2024, sensitivity sampling itself; k-median: "
        "Cohen-Addad, Larsen, Saulpic, Schwiegelshohn and Sheikh-Omar, NeurIPS 2022, and the first four with Larsen, STOC 2022",
        "k epsilon^-2 min(k^(z / (z + 2)), epsilon^-z)",
        lambda k, e, d, z: k / e**2 * min(k ** (z / (z + 2)), e**-z),
    ),
    "stable": Bound(
        "Bansal, Cohen-Addad, Prabhu, Saulpic and Schwiegelshohn, FOCS 2024, for data whose best cost falls by a constant "
        "factor with the last cluster; it is the lower bound for all data of Cohen-Addad, Larsen, Saulpic and Schwiegelshohn, "
        "STOC 2022",
        "k epsilon^-2",
        lambda k, e, d, z: k / e**2,
    ),
    "framework": Bound(
        "Cohen-Addad, Saulpic and Schwiegelshohn, A New Coreset Framework for Clustering, STOC 2021",
        "k epsilon^-2 min(d, epsilon^-2)",
        lambda k, e, d, z: k / e**2 * min(d, e**-2),
        needs_d=True,
    ),
    "feldman-langberg": Bound(
        "Feldman and Langberg, A Unified Framework for Approximating and Clustering Data, STOC 2011",
        "d k epsilon^(-2 z)",
        lambda k, e, d, z: d * k / e ** (2 * z),
        needs_d=True,
    ),
    "practical": Bound(
        "Bachem, Lucic and Krause, Practical Coreset Constructions for Machine Learning, 2017: what rests on k-means++ alone",
        "d k^3 log(k) epsilon^-2",
        lambda k, e, d, z: d * k**3 * max(log(k), 1.0) / e**2,
        needs_d=True,
        costs=("k-means",),
    ),
    "line": Bound(
        "k > 1: Har-Peled and Kushal 2005; k = 1: Huang, Huang, Huang and Wu, ICML 2023, who also prove that neither can be "
        "beaten but for logarithms; k = 1 and d > 1: Afshani and Schwiegelshohn, ICML 2024",
        "k / epsilon for numbers and k > 1; epsilon^(-d / (d + 1)) for k = 1",
        lambda k, e, d, z: k / e if k > 1 else e ** (-d / (d + 1)),
        needs_d=True,
        costs=("k-median",),
    ),
}


def coreset_size(
    clusters: int,
    epsilon: float,
    *,
    n: int | None = None,
    d: int | None = None,
    cost: str = "k-means",
    bound: str = "near-optimal",
    delta: float = 0.05,
    constant: float = 1.0,
) -> int:
    """How many points keep the cost of every set of `clusters` centers within 1 +- epsilon with chance 1 - delta.

    The number is what `k` of the method `coreset` wants:
    `kofn.select(x, coreset_size(10, 0.1), method="coreset", clusters=10)`.

    It is constant (bound + ln(1 / delta) / epsilon^2). Theory leaves constants and logarithms of k and 1 / epsilon open, so
    the number is an order of magnitude and no promise. With the constant 1 and bound="stable" all of 1,000 sets of centers
    were within epsilon on digits, MNIST, sentence embeddings and clusters of unequal size far apart, by the design "pivotal"
    or with corrected weights; by the design "priority" three quarters of them were on the last. Ask
    `kofn.represent.evaluate_coreset` what epsilon a coreset reaches. The last term is that of one set of centers
    (Bernstein's inequality); "line" is deterministic and has none.

    Parameters
    ----------
    clusters : int
        Centers of the clusterings to be served.
    epsilon : float
        More than 0, less than 1.
    n : int, optional
        Rows there are: the answer is no more.
    d : int, optional
        Columns; needed by the bounds that depend on them.
    cost : {"k-means", "k-median"}
        What is kept.
    bound : str
        A key of `BOUNDS`, where its source and its formula stand.
    delta : float
        More than 0, less than 1.
    constant : float
        What the bound is multiplied by.

    Examples
    --------
    >>> coreset_size(10, 0.1), coreset_size(10, 0.1, bound="stable"), coreset_size(10, 0.1, bound="stable", n=500)
    (3462, 1300, 500)
    """
    found = _bound(bound, cost, d)
    _check(clusters, epsilon, delta, constant, n)
    if bound == "line" and clusters > 1 and d != 1:
        raise UsageError(f"bound='line' with clusters={clusters} is about numbers; d={d} columns need another bound")
    size = found.size(clusters, epsilon, d or 0, COSTS[cost])
    chance = 0.0 if bound == "line" else log(1 / delta) / epsilon**2
    wanted = max(clusters, ceil(constant * (size + chance) - 1e-9))
    return wanted if n is None else min(n, wanted)


@dataclass(frozen=True)
class Queries:
    """How often the data must be asked for a row to build a coreset; orders of magnitude, constants and logarithms left out.

    Attributes
    ----------
    classical : float
        n clusters d operations: every row against every center.
    quantum : float
        sqrt(n clusters) d^1.5 queries of a quantum computer that reads rows in superposition.
    lower_bound : float
        sqrt(n clusters): no quantum algorithm does with fewer, even for a constant factor.
    """

    classical: float
    quantum: float
    lower_bound: float


def coreset_queries(n: int, clusters: int, d: int) -> Queries:
    """Classical work against quantum queries (Xue, Chen, Li and Jiang, "Near-Optimal Quantum Coreset Construction Algorithms
    for Clustering", ICML 2023): a quadratic gap in n.

    Examples
    --------
    >>> coreset_queries(1_000_000, 100, 4)
    Queries(classical=400000000.0, quantum=80000.0, lower_bound=10000.0)
    """
    for name, value in (("n", n), ("clusters", clusters), ("d", d)):
        _check_count(name, value)
    root = sqrt(n * clusters)
    return Queries(float(n * clusters * d), root * d**1.5, root)


def _bound(bound: str, cost: str, d: int | None) -> Bound:
    if bound not in BOUNDS:
        raise UsageError(f"bound={bound!r} is unknown; use one of: {', '.join(BOUNDS)}")
    if cost not in COSTS:
        raise UsageError(f"cost={cost!r} is unknown; use one of: {', '.join(COSTS)}")
    found = BOUNDS[bound]
    if cost not in found.costs:
        raise UsageError(f"bound={bound!r} is about {found.costs[0]}, not {cost}; use another bound")
    if found.needs_d and d is None:
        raise UsageError(f"bound={bound!r} is {found.says}: give d, the number of columns")
    if d is not None:
        _check_count("d", d)
    return found


def _check(clusters: int, epsilon: float, delta: float, constant: float, n: int | None) -> None:
    _check_count("clusters", clusters)
    if n is not None:
        _check_count("n", n)
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not 0 < value < 1:
            raise UsageError(f"{name}={value} is out of range; give a number between 0 and 1")
    if not 0 < constant < float("inf"):
        raise UsageError(f"constant={constant} is out of range; give a number above 0")


def _check_count(name: str, value: int) -> None:
    if not is_whole(value, 1):
        raise UsageError(f"{name}={value!r} is not a whole number of at least 1")

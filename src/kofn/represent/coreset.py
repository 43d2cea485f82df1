"""Sensitivity sampling for k-means and k-median: few weighted rows that keep the cost of every set of centers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kofn.core.assign import nearest_in_block
from kofn.core.blas import one_blas_thread
from kofn.core.block import SLAB, TILE, Block, Blocks, Doubles, Floats, Rows, by_slab, slab_count
from kofn.core.designs import TopStream, smallest, smallest_numbers
from kofn.core.distance import Centers, distances_to_point
from kofn.core.draw import StrataDraw, scale_of
from kofn.core.lloyd import lloyd, train
from kofn.core.reduce import tree_sum
from kofn.errors import UsageError
from kofn.items import Items
from kofn.method import Method, Paper, param, shared_out
from kofn.rng import Rng
from kofn.selection import Selection

COSTS = ("k-means", "k-median")
RINGS = (
    8  # into which a cluster's rows are parted by cost: below 1/16 of the mean, up to 1/8, 1/4, 1/2, 1, 2, 4, and above
)
LEAST = 1e-3  # of the mean distance: rows nearer than that to their center pull on it no harder


@dataclass(frozen=True, kw_only=True)
class Coreset(Method):
    """Rows drawn by how much they can matter to any clustering, so that weighted they cost what all rows cost.

    A near-optimal set A of `clusters` centers is found on a hashed sample: k-means++ and Lloyd rounds, or for k-median draws in
    proportion to the distance and reweighted Lloyd rounds (Weiszfeld's steps). Let c(x) be the squared distance of a row to
    its center (for k-median: the distance), C_j and W_j the cost and the weight of its cluster, C the whole cost. A row of
    weight w is drawn in proportion to

        w (c(x) / C + c(x) / (clusters C_j) + 1 / (clusters W_j) + C_j / (W_j C)) / 4

    without the rows in `have` (Bansal et al. 2024; its parts go back to Feldman and Langberg 2011; clusters that came out empty
    are not counted). k distinct rows are drawn with exactly min(1, c size) by a tournament within clusters, and rings of like
    cost within those, so that each gets its share of the picks: cluster weights, which rule the cost of far centers, then
    hardly vary. Standard errors of estimates are up to 1.5 times too large. With design="priority" each row is drawn by its
    own number alone.

    Guarantee, proven for draws with replacement from A within a constant of the best: for every set of `clusters` centers the
    weighted cost of the picks is within 1 +- epsilon of the cost of all rows once k is about
    clusters / epsilon^2 min(sqrt(clusters), 1 / epsilon^2), or clusters / epsilon^2 where one cluster fewer costs much more
    (`kofn.represent.coreset_sizes.coreset_size` tells k). For the draws without replacement made here, what is proven is that
    the cost of any centers is estimated without bias; the uniform bound is measured, not proven.

    In active learning "coreset" names the k-center problem (Sener and Savarese 2018): that is the method `kcenter`.

    Needs: embeddings. Streams: yes. Weights: 1 / inclusion, rescaled. Cost: O(n d clusters) time, two passes.
    """

    clusters: int | None = param(
        None, "centers of the clusterings to be served; by default k / 20, from 2 to 100", low=1, high=1_000_000
    )
    cost: str = param("k-means", "what is kept: sums of squared distances, or of distances", choices=COSTS)
    sample: int = param(64, "rows a cluster to find the near-optimal centers on", low=1)
    rounds: int = param(10, "Lloyd rounds at most", low=0, high=10_000)
    design: str = param(
        "pivotal", "how rows are drawn: spread over clusters, or each for itself", choices=("pivotal", "priority")
    )
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "coreset"
    summary: ClassVar[str] = (
        "weighted rows that keep the cost of every k-means or k-median clustering (active learning's coreset is kcenter)"
    )
    paper: ClassVar[Paper | None] = Paper(
        "Sensitivity Sampling for k-Means: Worst Case and Stability Optimal Coreset Bounds",
        "Nikhil Bansal and Vincent Cohen-Addad and Milind Prabhu and David Saulpic and Chris Schwiegelshohn",
        "FOCS",
        2024,
        "https://arxiv.org/abs/2405.01339",
    )
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})
    streams: ClassVar[bool] = True
    weights: ClassVar[str] = "design"
    claims: ClassVar[str] = (
        "every clustering's cost is estimated without bias; all at once within 1 +- epsilon with about clusters / epsilon^2 "
        "min(sqrt(clusters), 1 / epsilon^2) rows (proven for draws with replacement, measured for these without)"
    )

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Draw k rows."""
        picks, inclusion = DRAWS[self.design](items, self.shares(items, k, rng), k, rng)
        few = (
            f"{k} rows cannot stand for {self.clusters} clusters; ask for several a cluster, coreset_size says how many"
        )
        return Selection(
            indices=picks,
            weights=shared_out(items, picks, inclusion),
            inclusion=inclusion,
            provenance={
                "design": {"kind": self.design, "population": items.free},
                "notes": [few] if self.clusters is not None and k <= self.clusters else [],
            },
        )

    def shares(self, items: Items, k: int, rng: Rng) -> Shares:
        """The near-optimal clustering, and each row's chance by it."""
        blocks, clusters = items.blocks(self.metric), self._served(k, items.n)
        centers = near_optimal(items, blocks, clusters, rng, cost=self.cost, sample=self.sample, rounds=self.rounds)
        return measure(items, blocks, centers, self.cost)

    def _served(self, k: int, n: int) -> int:
        return min(self.clusters or int(np.clip(k // 20, 2, 100)), n)

    def bytes(self, n: int, d: int, k: int) -> int:
        """The sample and its seeding, tiles of two threads, cluster and cost of each row, a few slabs of them, the draw."""
        clusters = self._served(k, n)
        trained = min(n, self.sample * clusters)
        found = (4 * trained + 12 * min(trained, 8192) + 64 * clusters) * (d + 4) + 24 * trained
        tiles = 8 * min(n, TILE) * (d + clusters) + (3 << 20)
        return found + tiles + 8 * n + 60 * min(n, 2 * SLAB) + 150 * k + 40 * RINGS * clusters

    def passes(self, n: int, d: int, k: int) -> int:
        """One to take the sample, one to measure all rows; the draw needs none."""
        return 2

    @classmethod
    def examples(cls) -> list[Method]:
        """Both costs, few clusters and many."""
        return [cls(), cls(cost="k-median", clusters=3), cls(clusters=7, design="priority", metric="cosine")]


@dataclass(frozen=True, eq=False)
class Shares:
    """What decides each row's chance.

    Attributes
    ----------
    labels : int32 (n,)
        The cluster of each row.
    costs : float32 (n,)
        Its (squared) distance to the center, without its weight.
    by_cost, level : float64 (clusters,)
        A row of weight w and cost c in cluster j has size w (c by_cost[j] + level[j]); the sizes sum to 1.
    masses, totals : float64 (clusters,)
        Weight and cost of each cluster's rows, without those in `have`.
    """

    labels: NDArray[np.int32]
    costs: Floats
    by_cost: Doubles
    level: Doubles
    masses: Doubles
    totals: Doubles


def near_optimal(
    items: Items, blocks: Blocks, clusters: int, rng: Rng, *, cost: str, sample: int, rounds: int
) -> Floats:
    """Centers float32 (at most clusters, d) whose cost is near the best, found on `sample` rows a cluster."""
    if cost == "k-means":
        trained = train(blocks, clusters, rng, items.hold, sample=sample, rounds=rounds, weights=items.weights)
        return trained.clustering.centers
    size = min(blocks.n, sample * clusters)
    rows = np.sort(smallest_numbers(blocks.n, size, partial(rng.rows, purpose="sample")))
    weights = np.ones(size) if items.weights is None else items.weights[rows]
    held = items.hold(blocks.take(rows))
    return _medians(held, weights, _seeds_by_distance(held, weights, clusters, rng), rounds)


def measure(items: Items, blocks: Blocks, centers: Floats, cost: str) -> Shares:
    """One pass: the cluster and the cost of each row, and from their sums each row's size."""
    labels, costs = np.empty(items.n, np.int32), np.empty(items.n, np.float32)
    sums = []
    each = list(zip(_slabs(items.weights, items.n), _slabs(items.have, items.n), strict=True))
    for start, (found, near, part) in enumerate(blocks.map(_measure_block, Centers(centers), cost, each=each)):
        at = slice(start * SLAB, start * SLAB + len(found))
        labels[at], costs[at] = found, near
        sums.append(part)
    masses, totals = tree_sum(sums)
    level, by_cost = _parts(masses, totals)
    return Shares(labels, costs, by_cost, level, masses, totals)


def draw_for_itself(items: Items, shares: Shares, k: int, rng: Rng) -> tuple[Rows, Doubles]:
    """k rows by priority sampling on their own numbers, and their inclusion. Reads no rows. O(n) time, O(k) memory."""
    top = TopStream(k + 1)
    for start, sizes in _sizes(items, shares):
        keys = sizes / rng.rows(start, start + len(sizes), "draw")
        best = np.sort(smallest(-keys, min(k + 1, len(keys))))
        best = best[keys[best] > 0]
        top.add(keys[best], sizes[best], best + start)
    return top.sample(k)


def draw_by_cluster(items: Items, shares: Shares, k: int, rng: Rng) -> tuple[Rows, Doubles]:
    """k rows by duels within rings of clusters, and their inclusion, ring by ring. O(n) time, O(k + clusters) memory."""
    scale = scale_of((sizes for _, sizes in _sizes(items, shares)), k)
    count = RINGS * len(shares.masses)

    def parts() -> Iterator[tuple[int, Any, Doubles, Doubles]]:
        for start, sizes in _sizes(items, shares):
            stop = start + len(sizes)
            chances = np.minimum(sizes * scale, 1.0) if np.isfinite(scale) else np.sign(sizes)
            yield start, _rings(shares, slice(start, stop)), chances, rng.rows(start, stop, "duels")

    found = np.sort(StrataDraw(count, k).draw(parts(), rng.rows(0, count, "duels between rings")))
    picks = found[np.argsort(_rings(shares, found), kind="stable")]
    sizes = _sizes_of(items, shares, picks)
    return picks, np.minimum(sizes * scale, 1.0) if np.isfinite(scale) else np.ones(len(picks))


DRAWS = {"pivotal": draw_by_cluster, "priority": draw_for_itself}


def exact_masses(labels: NDArray[np.int32], weights: Doubles, masses: Doubles) -> Doubles:
    """Weights of picks, scaled cluster by cluster so that each cluster weighs what it weighs among all rows.

    The cost of far centers, and of those that leave a cluster without one, is ruled by clusters' weights; so corrected it is
    exact but for what varies within a cluster. The correction by which Feldman and Langberg (2011) add the centers themselves
    with the missing weight, which can be negative there. The price: a bias of the order of 1 / (picks of a cluster). A cluster
    without a pick cannot be corrected: its weight goes to all picks alike.

    Parameters
    ----------
    labels : int (k,)
        The cluster of each pick.
    weights : float64 (k,)
        Weights by the design.
    masses : float64 (clusters,)
        What each cluster weighs.
    """
    drawn = np.bincount(labels, weights, len(masses))
    scale = np.divide(masses, drawn, out=np.zeros(len(masses)), where=drawn > 0)
    corrected = weights * scale[labels]
    return np.asarray(corrected * (masses.sum() / corrected.sum()))


def corrected_weights(items: Any, selection: Selection) -> Doubles:
    """The weights of a selection made by this method, corrected by `exact_masses`: float64 (k,), of the same sum.

    For the cost of clusterings they are the better weights; `selection.weights` are the design's. Finds the clusters again,
    so it takes the two passes of the selection, and the rows that it was made from.
    """
    items = items if isinstance(items, Items) else Items(embeddings=items)
    made = selection.provenance
    if made.get("method") != Coreset.name or made.get("n") != items.n:
        raise UsageError(
            f"the picks are of {made.get('n')} rows by {made.get('method')}, these are {items.n} rows; "
            "give the rows from which the method coreset chose them"
        )
    method = Coreset(**made["parameters"])
    with one_blas_thread():
        shares = method.shares(items, len(selection), Rng(made["seed"]))
    return exact_masses(shares.labels[selection.indices], selection.weights, shares.masses)


def evaluate_coreset(
    x: Any, points: Any, weights: Any, center_sets: Any, *, cost: str = "k-means", row_weights: Any = None
) -> Doubles:
    """Cost of the weighted points over the cost of all rows, for each set of centers.

    Parameters
    ----------
    x : (n, d)
        All rows.
    points : (k, d)
        The coreset: rows of x, or any points.
    weights : (k,)
        How much each point counts.
    center_sets : iterable of (any number, d) arrays
        The sets of centers to ask; see `query_centers`.
    cost : {"k-means", "k-median"}
        Squared distances, or distances.
    row_weights : (n,), optional
        How much each row counts; default 1.

    Returns
    -------
    float64 (number of sets,)
        1 where the costs agree; 1 too where both are 0. O(sets n d centers) time.
    """
    d = np.shape(x)[1]
    if np.shape(points)[1] != d:
        raise UsageError(f"points have {np.shape(points)[1]} columns, the rows {d}; give points of the same data")
    sets = [np.asarray(each, np.float64) for each in center_sets]
    for centers in sets:
        if centers.ndim != 2 or centers.shape[1] != d:
            raise UsageError(
                f"a set of centers has shape {centers.shape}; give a list of arrays (centers, {d}), one a set"
            )
    if not hasattr(x, "tocsr"):  # rows far from the origin would lose their differences in float32
        middle = np.asarray(x, np.float64).mean(axis=0)
        x, points = np.asarray(x, np.float64) - middle, np.asarray(points, np.float64) - middle
        sets = [centers - middle for centers in sets]
    everything, few = Items(embeddings=x, weights=row_weights), Items(embeddings=points, weights=weights)
    ratios = []
    for centers in sets:
        truth = clustering_cost(everything, centers, cost)
        told = clustering_cost(few, centers, cost)
        ratios.append(told / truth if truth > 0 else 1.0 if told == 0 else np.inf)
    return np.array(ratios)


def clustering_cost(items: Items, centers: Any, cost: str = "k-means") -> float:
    """Weighted sum over the rows of their (squared) distances to the nearest center. One pass."""
    each = list(zip(_slabs(items.weights, items.n), _slabs(None, items.n), strict=True))
    points = Centers(np.ascontiguousarray(centers, dtype=np.float32))
    with one_blas_thread():
        parts = items.blocks().map(_measure_block, points, cost, each=each)
        return float(tree_sum(totals.sum() for _, _, (_, totals) in parts))


def query_centers(
    x: Any, points: Any, weights: Any, clusters: int, *, count: int = 1000, cost: str = "k-means", seed: int = 0
) -> list[Floats]:
    """Sets of centers that a coreset is tried on, the hard ones first.

    The best centers of all rows and of the coreset (Lloyd's, from k-means++), each of both without one of its centers, both
    with one center sent far away, single far points; then, until there are `count`, rows drawn at random, every other set
    moved by noise of the size of the data's own spread.
    """
    rng, rows = Rng(seed), np.asarray(_dense(x), np.float32)
    everything, few = Items(embeddings=rows), Items(embeddings=points, weights=weights)
    generator = rng.generator("queries")
    spread = rows.std(axis=0)
    far = rows.mean(axis=0) + generator.normal(size=(9, rows.shape[1])) * spread * np.repeat([1, 10, 100], 3)[:, None]
    sets: list[Any] = []
    for name, items in (("all", everything), ("few", few)):
        best = best_centers(items, clusters, rng.child(name), cost)
        sets.append(best)
        if len(best) > 1:
            sets += [np.delete(best, j, axis=0) for j in range(len(best))]
        sets += [np.concatenate([best[1:], point[None]]) for point in far]
    sets += [point[None] for point in far]
    while len(sets) < count:
        chosen = rows[generator.choice(len(rows), min(clusters, len(rows)), replace=False)]
        noise = generator.normal(size=chosen.shape) * spread * (len(sets) % 2)
        sets.append(chosen + noise)
    return [np.ascontiguousarray(centers, dtype=np.float32) for centers in sets[:count]]


def best_centers(items: Items, clusters: int, rng: Rng, cost: str = "k-means") -> Floats:
    """Centers float32 (clusters, d) by seeding and 100 Lloyd rounds at most on all rows, held in memory."""
    clusters = min(clusters, items.n)
    sample = -(-items.n // clusters)
    with one_blas_thread():
        return near_optimal(items, items.blocks(), clusters, rng, cost=cost, sample=sample, rounds=100)


def _slabs(values: Any, n: int) -> list[Any]:
    return [None] * slab_count(n) if values is None else by_slab(values)


def _seeds_by_distance(blocks: Blocks, weights: Doubles, clusters: int, rng: Rng) -> Floats:
    """Rows drawn one after the other in proportion to weight times distance to the nearest so far: O(log k) of the best."""
    draws = rng.generator("k-median").random(clusters)
    nearest, chance, chosen = np.full(blocks.n, np.inf), weights, []
    for u in draws:
        cumulative = np.cumsum(chance)
        if cumulative[-1] <= 0:
            break
        at = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
        chosen.append(min(at, int(np.searchsorted(cumulative, cumulative[-1]))))
        point = _dense(blocks.take(np.array(chosen[-1:])))[0]
        np.minimum(nearest, np.concatenate(list(blocks.map(_squares_of_block, point))), out=nearest)
        chance = weights * np.sqrt(nearest)
    return np.asarray(_dense(blocks.take(np.array(chosen))), np.float32)


def _medians(blocks: Blocks, weights: Doubles, centers: Floats, rounds: int, tol: float = 1e-4) -> Floats:
    """Weiszfeld's steps for all clusters at once: Lloyd rounds whose row weights are divided by the distances.

    The mean so weighted minimises a bound on the sum of distances that is tight at the old center. Distances below a radius
    count as Huber's squares, or a center would be held by the row that it begins on; the radius is halved every round. Neither
    the step nor the halving adds to the cost so smoothed.
    """
    before = radius = np.inf
    for _ in range(rounds):
        squared = np.concatenate([near for _, near in blocks.map(nearest_in_block, Centers(centers))])
        distances = np.sqrt(squared.astype(np.float64))
        mean = float(np.dot(weights, distances) / weights.sum())
        radius = max(min(radius, mean) / 2, LEAST * mean)
        if mean <= 0:
            break
        smoothed = np.where(distances < radius, distances**2 / (2 * radius) + radius / 2, distances)
        cost = float(np.dot(weights, smoothed))
        if np.isfinite(before) and before - cost <= tol * before:
            break
        before = cost
        centers = lloyd(blocks, centers, rounds=1, weights=weights / np.maximum(distances, radius)).centers
    return centers


def _squares_of_block(block: Block, point: Floats) -> Doubles:
    return np.concatenate(block.map_tiles(_squares_of_tile, point))


def _squares_of_tile(start: int, x: Any, point: Floats) -> Doubles:
    return distances_to_point(_dense(x), point)


def _dense(x: Any) -> Any:
    return x.toarray() if hasattr(x, "toarray") else x


def _measure_block(block: Block, centers: Centers, cost: str, pair: tuple[Any, Any]) -> tuple[Any, ...]:
    """Labels and costs of a slab's rows, and the weight and the cost of the rows of each cluster that may be drawn."""
    weights, held = pair
    labels, costs = nearest_in_block(block, centers)
    if cost == "k-median":
        costs = np.sqrt(costs)
    w = np.ones(len(labels)) if weights is None else weights
    if held is not None:
        w = np.where(held, 0.0, w)
    k = len(centers.points)
    return labels, costs, (np.bincount(labels, w, k), np.bincount(labels, w * costs, k))


def _sizes(items: Items, shares: Shares) -> Iterator[tuple[int, Doubles]]:
    """(first row, sizes) of each slab; rows in `have` have size 0."""
    for start in range(0, items.n, SLAB):
        yield start, _sizes_of(items, shares, slice(start, min(start + SLAB, items.n)))


def _sizes_of(items: Items, shares: Shares, at: Any) -> Doubles:
    labels = shares.labels[at]
    sizes = shares.costs[at] * shares.by_cost[labels] + shares.level[labels]
    if items.weights is not None:
        sizes *= items.weights[at]
    if items.have is not None:
        sizes[items.have[at]] = 0.0
    return np.asarray(sizes)


def _rings(shares: Shares, at: Any) -> NDArray[np.int32]:
    """Number of each row's ring: its cluster, and by which power of two its cost is below or above the cluster's mean."""
    labels = shares.labels[at]
    mean = np.divide(shares.totals, shares.masses, out=np.ones(len(shares.masses)), where=shares.masses > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        octave = np.log2(shares.costs[at] / mean[labels])
    ring = np.clip(np.floor(np.nan_to_num(octave, nan=0.0, neginf=-RINGS, posinf=RINGS)) + RINGS - 3, 0, RINGS - 1)
    return np.asarray(labels * RINGS + ring.astype(np.int32), dtype=np.int32)


def _parts(masses: Doubles, totals: Doubles) -> tuple[Doubles, Doubles]:
    """(level, by_cost) of each cluster: what a row's size has whatever its cost, and what it has for each unit of it."""
    full, spread = masses > 0, totals > 0
    whole = float(totals.sum())
    level, by_cost = np.zeros(len(masses)), np.zeros(len(masses))
    level[full] = 0.25 / (full.sum() * masses[full])
    if whole > 0:
        level[full] += 0.25 * totals[full] / (masses[full] * whole)
        by_cost[spread] = 0.25 / whole + 0.25 / (spread.sum() * totals[spread])
    return level, by_cost

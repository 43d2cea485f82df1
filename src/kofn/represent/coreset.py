"""Sensitivity sampling for k-means and k-median: few weighted rows that keep the cost of every set of centers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kofn.core.blas import one_blas_thread
from kofn.core.block import SLAB, TILE, Blocks, Doubles, Floats, Rows, by_slab_or_none
from kofn.core.designs import TopStream, smallest
from kofn.core.distance import Centers
from kofn.core.draw import StrataDraw, scale_of
from kofn.core.reduce import tree_sum
from kofn.errors import UsageError
from kofn.items import Items
from kofn.method import Method, Paper, param, shared_out
from kofn.represent.clusterings import COSTS, measure_block, near_optimal
from kofn.rng import Rng
from kofn.selection import Selection

RINGS = 8
"""Into which a cluster's rows are parted by cost: below 1/16 of the mean, up to 1/8, 1/4, 1/2, 1, 2, 4, and above."""


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


def measure(items: Items, blocks: Blocks, centers: Floats, cost: str) -> Shares:
    """One pass: the cluster and the cost of each row, and from their sums each row's size."""
    labels, costs = np.empty(items.n, np.int32), np.empty(items.n, np.float32)
    sums = []
    each = list(zip(by_slab_or_none(items.weights, items.n), by_slab_or_none(items.have, items.n), strict=True))
    for start, (found, near, part) in enumerate(blocks.map(measure_block, Centers(centers), cost, each=each)):
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

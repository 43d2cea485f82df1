"""Hierarchical k-means with balanced sampling: as many rows from rare concepts as from common ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from kofn.core.assign import assign, cell_weights
from kofn.core.block import SLAB, Doubles, Floats, Rows
from kofn.core.lloyd import train
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Hierarchical(Method):
    """Levels of k-means, each on the centers of the one below, then seats shared out evenly down the tree.

    Flat k-means spends most clusters where most rows are. Clustering the centers again, each counted once, spreads the
    clusters over the space of concepts; `resamples` times a level is clustered anew on the rows nearest to its centers, which
    spreads them further. Seats are shared evenly among the clusters of the top level, as far as their rows reach, then
    among their children, down to the rows, which are drawn by their own numbers.

    Guarantee: none on the result; every cluster of a level gets the same number of seats within one, unless it has fewer rows.

    Needs: embeddings. Streams: yes. Weights: Voronoi counts. Cost: O(n d clusters) time, three passes, 4 bytes a row.
    """

    levels: int = param(2, "levels of k-means", low=1, high=6)
    clusters: int | None = param(
        None, "clusters of the lowest level; by default k, at most 10,000 and a quarter of n", low=1
    )
    shrink: float = param(3.0, "how many times fewer clusters the next level has", low=1.5)
    resamples: int = param(2, "how often a level is clustered anew on the rows nearest to its centers", low=0, high=100)
    sample: int = param(64, "rows a cluster to train on", low=1)
    rounds: int = param(10, "Lloyd rounds at most", low=1, high=10_000)
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "hierarchical"
    summary: ClassVar[str] = "as many rows from rare concepts as from common ones"
    paper: ClassVar[Paper | None] = Paper(
        "Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach",
        "Huy V. Vo and Vasil Khalidov and Timothee Darcet and Theo Moutakanni and Nikita Smetanin and Marc Szafraniec and "
        "Hugo Touvron and Camille Couprie and Maxime Oquab and Armand Joulin and Herve Jegou and Patrick Labatut and "
        "Piotr Bojanowski",
        "Transactions on Machine Learning Research",
        2024,
        "https://arxiv.org/abs/2405.15613",
    )
    streams: ClassVar[bool] = True
    weights: ClassVar[str] = "count"
    claims: ClassVar[str] = "seats even among the clusters of every level, as far as their rows reach"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Share k seats evenly down the tree of clusters."""
        blocks = items.blocks(self.metric)
        lowest = self._lowest(items.n, k)
        trained = train(blocks, lowest, rng, items.hold, sample=self.sample, rounds=self.rounds, weights=items.weights)
        everyone = trained.blocks.take(np.arange(trained.blocks.n))
        centers = self._spread(items, everyone, trained.clustering.centers, rng)
        parents = self._climb(items, centers, rng)
        labels = np.concatenate([found for found, _ in assign(blocks, centers)])
        if items.have is not None:
            labels[items.have_rows] = len(centers)  # a cluster of its own, without seats
        sizes = np.bincount(labels, minlength=len(centers) + 1)[: len(centers)]
        seats = share_down(sizes, parents, k)
        picks = draw_in_clusters(labels, sizes, seats, rng)
        rows = np.concatenate([picks, items.have_rows])
        weights = cell_weights(blocks, blocks.take(rows), items.weights, rows)[:k]
        levels = [len(centers), *(int(parent.max()) + 1 for parent in parents)]
        return Selection(indices=picks, weights=weights, provenance={"levels": levels})

    def bytes(self, n: int, d: int, k: int) -> int:
        """The training sample and a copy for resampling, labels, and sums of a few slabs."""
        lowest = self._lowest(n, k)
        trained = min(n, self.sample * lowest)
        return 8 * trained * d + 24 * trained + 64 * max(lowest, k) * (d + 4) + 16 * n + 64 * SLAB

    def passes(self, n: int, d: int, k: int) -> int:
        """One to take the sample, one to assign, one to take the picks, one to weigh them."""
        return 4

    def _lowest(self, n: int, k: int) -> int:
        return min(n, self.clusters or max(1, min(k, 10_000, n // 4)))

    def _spread(self, items: Items, x: Floats, centers: Floats, rng: Rng) -> Floats:
        """Cluster anew on the rows nearest to each center, so that crowded clusters count no more than others."""
        everyone = items.hold(x)
        for turn in range(self.resamples):
            found = list(assign(everyone, centers))
            labels = np.concatenate([part[0] for part in found])
            squared = np.concatenate([part[1] for part in found])
            most = max(1, len(x) // (2 * len(centers)))
            rows = nearest_of_each(labels, squared, most)
            anew = rng.child(f"resample {turn}")
            trained = train(items.hold(x[rows]), len(centers), anew, items.hold, sample=0, rounds=self.rounds)
            centers = trained.clustering.centers
        return centers

    def _climb(self, items: Items, centers: Floats, rng: Rng) -> list[Rows]:
        """For each level above the lowest: the cluster that each cluster below belongs to."""
        parents = []
        for level in range(1, self.levels):
            count = max(2, int(len(centers) / self.shrink))
            if count >= len(centers):
                break
            below = items.hold(centers)
            trained = train(below, count, rng.child(f"level {level}"), items.hold, sample=0, rounds=self.rounds)
            above = self._spread(items, centers, trained.clustering.centers, rng.child(f"level {level}"))
            labels = np.concatenate([found for found, _ in assign(below, above)]).astype(np.int64)
            used, parent = np.unique(labels, return_inverse=True)  # empty clusters are left out
            parents.append(parent)
            centers = above[used]
        return parents


def nearest_of_each(labels: Any, squared: Floats, most: int) -> Rows:
    """Row numbers, ascending, of the `most` rows nearest to their center in every cluster."""
    order = np.lexsort((squared, labels))
    sizes = np.bincount(labels)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[place < most])


def share_down(sizes: Rows, parents: list[Rows], k: int) -> Rows:
    """Seats of each lowest cluster, int64: k shared evenly at the top level, then among the children of each cluster."""
    capacities = [sizes]
    for parent in parents:
        capacities.append(np.bincount(parent, weights=capacities[-1]).astype(np.int64))
    seats = share(capacities[-1], k)
    for level in range(len(parents) - 1, -1, -1):
        below = np.zeros(len(parents[level]), np.int64)
        for cluster in np.flatnonzero(seats):
            children = np.flatnonzero(parents[level] == cluster)
            below[children] = share(capacities[level][children], int(seats[cluster]))
        seats = below
    return seats


def share(capacities: Rows, k: int) -> Rows:
    """k seats over clusters as evenly as their capacities allow; what is left over goes to the largest, then the lowest number.

    Examples
    --------
    >>> share(np.array([1, 10, 10]), 8).tolist()
    [1, 4, 3]
    """
    low, high = 0, int(capacities.max(initial=0))
    while low < high:  # the highest level that k seats can fill
        middle = (low + high + 1) // 2
        if np.minimum(capacities, middle).sum() <= k:
            low = middle
        else:
            high = middle - 1
    seats = np.minimum(capacities, low)
    room = np.flatnonzero(capacities > low)
    order = room[np.argsort(-capacities[room], kind="stable")]
    seats[order[: k - int(seats.sum())]] += 1
    return seats


def draw_in_clusters(labels: Any, sizes: Rows, seats: Rows, rng: Rng) -> Rows:
    """The rows with the smallest numbers in each cluster, as many as it has seats; in the order of their numbers."""
    share_of = np.zeros(len(sizes) + 1)
    seated = seats > 0
    share_of[:-1][seated] = (seats[seated] + 6 * np.sqrt(seats[seated]) + 12) / sizes[seated]
    while True:
        numbers, rows = _below(labels, share_of, partial(rng.rows, purpose="draw"))
        order = np.lexsort((numbers, labels[rows]))
        found = np.bincount(labels[rows], minlength=len(share_of))[: len(sizes)]
        if (found >= seats).all():
            break
        share_of *= 2
    place = np.arange(len(order)) - np.repeat(np.cumsum(found) - found, found)
    chosen = order[place < seats[labels[rows[order]]]]
    return np.asarray(rows[chosen[np.argsort(numbers[chosen], kind="stable")]])


def _below(labels: Any, share_of: Doubles, draw: Any) -> tuple[Doubles, Rows]:
    numbers, rows = [], []
    for start in range(0, len(labels), SLAB):
        stop = min(start + SLAB, len(labels))
        u = draw(start, stop)
        at = np.flatnonzero(u < share_of[labels[start:stop]])
        numbers.append(u[at])
        rows.append(at + start)
    return np.concatenate(numbers), np.concatenate(rows).astype(np.int64)

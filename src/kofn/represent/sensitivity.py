"""Sensitivity sampling: rows far from their cluster's center, or with a high loss, are drawn more often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kofn.core.assign import nearest_in_block
from kofn.core.block import SLAB, Block, Blocks, Doubles, by_slab_or_none
from kofn.core.designs import TopStream, smallest
from kofn.core.distance import Centers
from kofn.core.lloyd import Trained, nearest_rows, train
from kofn.items import Items
from kofn.method import Method, Paper, param, shared_out
from kofn.represent.uniform import check_not_negative
from kofn.rng import Rng
from kofn.selection import Selection

FLOOR = 1e-3  # of the mean loss: every row keeps a chance, or estimates would be biased


@dataclass(frozen=True, kw_only=True)
class Sensitivity(Method):
    """Rows drawn in proportion to loss(center) + scale * squared distance to the center, without replacement.

    k-means on a hashed sample gives the centers. The loss of a center is the score of the row nearest to it; without
    scores it is the same for all (then half the chance is uniform and half follows the distance). Rows are drawn by priority
    sampling on their own numbers, so k distinct rows come out and estimates stay unbiased.

    Guarantee: when the loss is Lipschitz in the embedding with constant `scale`, 2 / epsilon^2 rows estimate the mean loss
    within epsilon (mean loss + scale * k-means cost) (Axiotis et al. 2024, Theorem 2, there for draws with replacement).

    Needs: embeddings. Streams: yes. Weights: 1 / inclusion, rescaled. Cost: O(n d clusters) time, two passes.
    """

    clusters: int | None = param(None, "k-means clusters; by default k, at most 1000", low=1, high=1_000_000)
    scale: float | None = param(
        None, "how much loss a unit of squared distance may add; by default both count alike", low=0.0
    )
    sample: int = param(64, "rows a cluster to train k-means on; 0: all rows", low=0)
    rounds: int = param(10, "Lloyd rounds at most", low=0, high=10_000)
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "sensitivity"
    summary: ClassVar[str] = "rows at random, more where the data are spread out or the loss is high"
    paper: ClassVar[Paper | None] = Paper(
        "Data-Efficient Learning via Clustering-Based Sensitivity Sampling: Foundation Models and Beyond",
        "Kyriakos Axiotis and Vincent Cohen-Addad and Monika Henzinger and Sammy Jerome and Vahab Mirrokni and "
        "David Saulpic and David Woodruff and Michael Wunder",
        "ICML",
        2024,
        "https://arxiv.org/abs/2402.17327",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"scores"})
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})
    streams: ClassVar[bool] = True
    weights: ClassVar[str] = "design"
    claims: ClassVar[str] = "unbiased; error epsilon (mean loss + scale * k-means cost) with 2 / epsilon^2 rows"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Draw k rows."""
        if items.scores is not None:
            check_not_negative(items)
        blocks = items.blocks(self.metric)
        trained = train(
            blocks, min(self.clusters or min(k, 1000), items.n), rng, items.hold,
            sample=self.sample, rounds=self.rounds, weights=items.weights,
        )  # fmt: skip
        losses = center_losses(items, trained)
        scale = self._scale(losses, trained)
        picks, inclusion = draw(items, blocks, trained, losses, scale, k, rng)
        return Selection(
            indices=picks,
            weights=shared_out(items, picks, inclusion),
            inclusion=inclusion,
            provenance={"design": {"kind": "priority", "population": items.free}, "scale": scale},
        )

    def _scale(self, losses: Doubles, trained: Trained) -> float:
        if self.scale is not None:
            return self.scale
        return float(losses.mean() / trained.mean_cost) if trained.mean_cost > 0 else 0.0

    def bytes(self, n: int, d: int, k: int) -> int:
        """The training sample, sums of a few slabs, and the rows drawn so far."""
        clusters = min(self.clusters or min(k, 1000), n)
        trained = min(n, self.sample * clusters) or n
        return 4 * trained * d * bool(self.sample) + 24 * trained + 64 * clusters * (d + 4) + 150 * k + 64 * SLAB

    def passes(self, n: int, d: int, k: int) -> int:
        """One to take the sample, one to draw; or the rounds over all rows."""
        return 2 if self.sample else self.rounds + 4


def center_losses(items: Items, trained: Trained) -> Doubles:
    """The loss that stands for each cluster: the score of the training row nearest to its center; 1 without scores."""
    centers = trained.clustering.centers
    if items.scores is None:
        return np.ones(len(centers))
    scores = items.scores if trained.rows is None else items.scores[trained.rows]
    near = nearest_rows(trained.blocks, centers)
    found = near.rows < trained.blocks.n
    losses = np.full(len(centers), scores.mean())
    losses[found] = scores[near.rows[found]]
    floor = FLOOR * scores.mean()
    return np.maximum(losses, floor if floor > 0 else 1.0)


def draw(
    items: Items, blocks: Blocks, trained: Trained, losses: Doubles, scale: float, k: int, rng: Rng
) -> tuple[Any, Doubles]:
    """k rows by priority sampling in one pass, and their inclusion."""
    weights, held = by_slab_or_none(items.weights, items.n), by_slab_or_none(items.have, items.n)
    top = TopStream(k + 1)
    centers = Centers(trained.clustering.centers)
    pairs = list(zip(weights, held, strict=True))
    for keys, sizes, rows in blocks.map(_priorities, centers, losses, scale, k + 1, rng, each=pairs):
        top.add(keys, sizes, rows)
    return top.sample(k)


def _priorities(
    block: Block, centers: Centers, losses: Doubles, scale: float, most: int, rng: Rng, pair: tuple[Any, Any]
) -> tuple[Doubles, Doubles, Any]:
    weights, held = pair
    labels, squared = nearest_in_block(block, centers)
    sizes = losses[labels] + scale * squared.astype(np.float64)
    if weights is not None:
        sizes *= weights
    keys = sizes / rng.rows(block.start, block.stop, "draw")
    if held is not None:
        keys[held] = -1.0
    best = np.sort(smallest(-keys, min(most, len(keys))))
    best = best[keys[best] >= 0]
    return keys[best], sizes[best], best + block.start

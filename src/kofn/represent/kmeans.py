"""k-means: the row nearest to each of k cluster centers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kofn.core.assign import cell_weights
from kofn.core.block import SLAB, Blocks, Doubles, Rows, dense
from kofn.core.lloyd import Nearest, nearest_rows, train
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection


@dataclass(frozen=True, kw_only=True)
class KMeans(Method):
    """k clusters by Lloyd's algorithm (under cosine: spherical k-means); the pick of each is the row nearest to its center.

    Rows in `have` are centers that do not move, so the k new clusters go where they leave room. Training looks at
    `sample` rows a cluster, drawn by row hash, and then one pass over all rows assigns them (faiss does the same).

    Guarantee: k-means++ seeding is within 8 (ln k + 2) of the best cost in expectation (Arthur and Vassilvitskii 2007) and
    Lloyd's rounds never raise the cost on the rows they see; taking the row nearest to a center at most doubles it.

    Needs: embeddings. Streams: yes. Weights: cluster sizes. Cost: O(rounds s d k) for a sample of s rows, then O(n d k).
    """

    rounds: int = param(10, "Lloyd rounds at most", low=0, high=10_000)
    sample: int = param(256, "rows a cluster to train on; 0: all rows at every round", low=0)
    candidates: int = param(
        1,
        "seeds that are tried at each draw; 8 or so lower the cost, at the price of a pass a draw",
        low=1,
        high=32_767,
    )
    tolerance: float = param(1e-4, "stop when a round lowers the cost by less than this share", low=0.0, high=1.0)
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "kmeans"
    summary: ClassVar[str] = "the row nearest to the center of each of k clusters"
    paper: ClassVar[Paper | None] = Paper(
        "Least squares quantization in PCM",
        "Stuart P. Lloyd",
        "IEEE Transactions on Information Theory 28(2)",
        1982,
        "https://doi.org/10.1109/TIT.1982.1056489",
    )
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})
    streams: ClassVar[bool] = True
    weights: ClassVar[str] = "count"
    cells: ClassVar[bool] = False
    objective: ClassVar[str | None] = "mean_squared_distance"
    claims: ClassVar[str] = "seeds within 8 (ln k + 2) of the best k-means cost in expectation; rounds never raise it"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose the row nearest to each center."""
        blocks = items.blocks(self.metric)
        trained = train(
            blocks, k, rng, items.hold, sample=self.sample, rounds=self.rounds, tol=self.tolerance,
            weights=items.weights, have=items.have_rows, unit=self.metric == "cosine", candidates=self.candidates,
        )  # fmt: skip
        nearest = nearest_rows(blocks, trained.clustering.centers, weights=items.weights, excluded=items.have)
        picks, weights, filled = fill(items, blocks, nearest, k)
        notes = [f"{filled} of {k} picks fill clusters that no row is nearest to"] if filled else []
        cost = nearest.cost / float(items.row_weights.sum())
        return Selection(
            indices=picks,
            weights=weights,
            provenance={"notes": notes, "clustering": {"mean_squared_distance_to_center": cost}},
        )

    def bytes(self, n: int, d: int, k: int) -> int:
        """The sample and its seeding, and sums of a few slabs."""
        trained = min(n, self.sample * k)
        pairs = 0 if self.candidates == 1 else 12 * (trained or n)  # of greedy seeding
        return 4 * trained * d + 24 * (trained or n) + pairs + 64 * k * (d + 4) + 40 * SLAB

    def passes(self, n: int, d: int, k: int) -> int:
        """One to take the sample, one to assign; or one a round, and what greedy seeding takes."""
        greedy = 0 if self.candidates == 1 else 20 + 8 * self.candidates + k * self.candidates // 100
        return 2 if self.sample else self.rounds + 3 + greedy


def fill(items: Items, blocks: Blocks, nearest: Nearest, k: int) -> tuple[Rows, Doubles, int]:
    """The picks of k clusters and their weights; clusters without a pick take the lowest free row numbers."""
    picks, weights = nearest.rows[:k].copy(), nearest.weights[:k].copy()
    missing = np.flatnonzero(picks == blocks.n)
    if not len(missing):
        return picks, weights, 0
    taken = np.zeros(items.n, dtype=bool)
    taken[picks[picks < blocks.n]] = True
    taken[items.have_rows] = True
    picks[missing] = np.flatnonzero(~taken)[: len(missing)]
    # Clusters can no longer be told apart: every row is counted anew, to the nearest pick.
    rows = np.concatenate([picks, items.have_rows])
    return picks, cell_weights(blocks, dense(blocks.take(rows)), items.weights, rows)[:k], len(missing)

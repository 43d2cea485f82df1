"""k-means++: rows drawn by their squared distance to what was drawn before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kofn.core.assign import cell_weights
from kofn.core.block import dense
from kofn.core.seeding import draw_seeds
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.rng import Rng
from kofn.selection import Selection


@dataclass(frozen=True, kw_only=True)
class KMeansPlusPlus(Method):
    """Each pick is drawn with chance proportional to its weight times its squared distance to the nearest pick so far.

    The first is drawn in proportion to the weights; rows in `have` count as picked before. The law is exact: rows are
    proposed by outdated distances and rejected so that what is accepted follows it, which takes a few passes, not k.
    With `candidates` > 1 (the greedy form) the best of that many draws is kept, at several times the work.

    Guarantee: expected cost at most 8 (ln k + 2) times that of the best k centers (Arthur and Vassilvitskii, SODA 2007),
    for candidates=1.

    Needs: embeddings. Streams: yes. Weights: Voronoi counts. Cost: O(n d) time a pass, at worst O(n k d), then O(n k d)
    for the weights; 5 bytes a row, with candidates 17.
    """

    candidates: int = param(1, "draws of which the best is kept; 1: the exact law", low=1, high=1_000)
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "kmeans++"
    summary: ClassVar[str] = "rows drawn by their squared distance to those drawn before"
    paper: ClassVar[Paper | None] = Paper(
        "k-means++: the advantages of careful seeding",
        "David Arthur and Sergei Vassilvitskii",
        "Proceedings of the 18th ACM-SIAM Symposium on Discrete Algorithms",
        2007,
        "https://dl.acm.org/doi/10.5555/1283383.1283494",
    )
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})
    streams: ClassVar[bool] = True
    prefix: ClassVar[bool] = True
    weights: ClassVar[str] = "count"
    objective: ClassVar[str | None] = "mean_squared_distance"
    claims: ClassVar[str] = "expected mean squared distance within 8 (ln k + 2) of the best, for candidates=1"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Draw k rows, then count whom each stands for."""
        blocks = items.blocks(self.metric)
        seeds = draw_seeds(blocks, k, rng, weights=items.weights, have=items.have_rows, candidates=self.candidates)
        rows = np.concatenate([seeds.rows, items.have_rows])
        weights = cell_weights(blocks, dense(blocks.take(rows)), items.weights, rows)[:k]
        notes = (
            [f"{seeds.filled} of {k} picks fill up: all rows coincide with picks before them"] if seeds.filled else []
        )
        return Selection(indices=seeds.rows, weights=weights, provenance={"notes": notes})

    def bytes(self, n: int, d: int, k: int) -> int:
        """Bounds and their sums, proposals, centers, products; pairs of the greedy form and those of slabs in flight."""
        plain = 9 * n + 12 * d * (8192 + 2 * k) + 128 * k + (8 << 20)
        return plain if self.candidates == 1 else plain + 12 * n + 50_000 * self.candidates + (24 << 20)

    def passes(self, n: int, d: int, k: int) -> int:
        """As measured on mixtures, with some to spare: refreshes, the rows of proposals, and one pass for the weights."""
        if self.candidates == 1:
            return 12 + k // 200
        return 20 + 8 * self.candidates + k * self.candidates // 100

    @classmethod
    def examples(cls) -> list[Method]:
        """Both forms."""
        return [cls(), cls(candidates=4)]

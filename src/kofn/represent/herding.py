"""Kernel herding: rows taken one by one, each where the picks so far are thinnest beside all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kofn.core.kernels import KERNELS, kernel_of
from kofn.items import Items
from kofn.method import Method, Paper, param
from kofn.represent.thinning import embedded, embedded_bytes, left_weight, products_bytes, runner_of, summary_of
from kofn.rng import Rng
from kofn.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Herding(Method):
    """The next pick is the row where the mean kernel of all rows, less the picks' kernel sum over one more than their number,
    is largest: of all rows the one that brings the picks' mean kernel nearest to that of all. Ties go to the lowest row.

    Rows of `have` count as picks that were made before.

    Guarantee: MMD of order 1 / sqrt(k), as for random rows (Bach, Lacoste-Julien and Obozinski, ICML 2012: herding is
    Frank-Wolfe); 1 / k where the mean lies inside the hull of the kernels, which holds for finite dimensions only (Chen,
    Welling and Smola, UAI 2010). In practice far below random rows.

    Needs: embeddings. Streams: no. Weights: equal. Cost: O(n^2 d) time once for the mean kernel, then O(n k d).
    """

    kernel: str = param("gaussian", "whose mean the picks keep", choices=KERNELS)
    bandwidth: float | None = param(
        None, "what distances are divided by; by default the median distance of 1,000 rows", low=1e-30
    )
    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "herding"
    summary: ClassVar[str] = "rows one by one, each where the picks are thinnest beside all rows"
    paper: ClassVar[Paper | None] = Paper(
        "Super-Samples from Kernel Herding",
        "Yutian Chen and Max Welling and Alex Smola",
        "UAI",
        2010,
        "https://arxiv.org/abs/1203.3472",
    )
    random: ClassVar[bool] = False
    prefix: ClassVar[bool] = True
    weights: ClassVar[str] = "equal"
    objective: ClassVar[str | None] = "mmd"
    claims: ClassVar[str] = "MMD of order 1 / sqrt(k) at worst; the picks for a smaller k begin those for a larger one"
    lifts: ClassVar[str | None] = (
        "two rounds on random parts: the MMD is at most that of the union to all rows plus that of the picks to the union"
    )

    @classmethod
    def examples(cls) -> list[Method]:
        """The default, and another kernel between directions."""
        return [cls(), cls(kernel="matern32", metric="cosine")]

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Take k rows, one by one."""
        form = kernel_of(self.kernel, items.d)
        points, bandwidth = embedded(items, self.metric, self.bandwidth, form)
        summary = summary_of(points, np.arange(items.n), items, form, runner_of(items))
        picks = np.zeros(k, np.int64)
        summary.taken[items.have_rows] = True
        summary.grow(picks, 0, growing=True)
        weights = np.full(k, left_weight(items) / k)
        return Selection(indices=picks, weights=weights, provenance={"bandwidth": bandwidth})

    def bytes(self, n: int, d: int, k: int) -> int:
        """The rows; then their mean kernel, the picks' kernel sums and one row of the kernel, or the bandwidth's sample."""
        return embedded_bytes(n, d, 40 * n + 32 * k + products_bytes(n, d, 0, n))

    def passes(self, n: int, d: int, k: int) -> int:
        """One: the rows stay in memory."""
        return 1

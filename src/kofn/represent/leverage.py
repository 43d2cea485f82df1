"""Leverage score sampling: rows that decide more of a least-squares fit are drawn more often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import SLAB, Doubles, Rows
from kofn.core.designs import TopStream, smallest_numbers
from kofn.core.draw import pivotal, to_chances
from kofn.core.leverage import ROUNDS, cut_weights, orthonormal_basis, scores_in
from kofn.core.lewis import lewis_weights
from kofn.core.space import grow_tree, leaves_in_block, order_by_leaves, space_order
from kofn.errors import ParameterError
from kofn.items import Items
from kofn.method import Method, Paper, param, shared_out
from kofn.rng import Rng
from kofn.selection import Selection

FLOOR = 0.1
"""Of the mean chance: what every row keeps, or estimates of what has nothing to do with leverage would be biased."""

SAMPLE = 1 << 16
"""Rows at most that the tree is grown from; beyond, rows find their leaf as they pass."""

CLOSE = 0.01
"""Residual of the Lewis weights at which they are good enough for chances."""


@dataclass(frozen=True, kw_only=True)
class Leverage(Method):
    """Rows drawn in proportion to their leverage: the share that a row alone can have in a least-squares loss.

    Chances are min(1, c score) and add up to k; exactly k distinct rows come out. With `design="pivotal"` neighbours in space
    duel for their places, so picks spread and a fit needs fewer of them; with "independent" rows are drawn by priority
    sampling, whose errors are easier to judge. Other norms than the second: by Lewis weights.

    Guarantee: k = O(d log d + d / epsilon) rows, weighted by 1 / inclusion, give a fit whose squared loss over all rows is at
    most 1 + epsilon times the least, whatever the labels, with constant probability (Shimizu et al. 2024, for any pivotal
    order, p=2); for polynomials of one column O(d / epsilon) rows do. The floor under the chances takes a tenth of k at most.

    Needs: embeddings. Streams: yes. Weights: 1 / inclusion, rescaled. Cost: O(n d^2) time, two to five passes.
    """

    p: float = param(2.0, "norm of the loss: 2 least squares, 1 least absolute deviations", low=1.0, high=64.0)
    ridge: float = param(0.0, "ridge of the fit; only for p=2", low=0.0)
    intercept: bool = param(True, "whether the fit has an intercept")
    design: str = param("pivotal", "how rows are drawn", choices=("pivotal", "independent"))

    name: ClassVar[str] = "leverage"
    summary: ClassVar[str] = "rows at random, more of those that decide a linear fit, spread over space"
    paper: ClassVar[Paper | None] = Paper(
        "Improved Active Learning via Dependent Leverage Score Sampling",
        "Atsushi Shimizu and Xiaoou Cheng and Christopher Musco and Jonathan Weare",
        "ICLR",
        2024,
        "https://arxiv.org/abs/2310.04966",
    )
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})
    streams: ClassVar[bool] = True
    dtype: ClassVar[Any] = np.float64
    weights: ClassVar[str] = "design"
    claims: ClassVar[str] = (
        "unbiased; squared loss of the weighted fit within 1 + epsilon with O(d log d + d / epsilon) rows"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p != 2 and self.ridge > 0:
            raise ParameterError(
                f"leverage: ridge={self.ridge:g} with p={self.p:g}: a ridge is for p=2 only; leave one out"
            )

    @classmethod
    def examples(cls) -> list[Method]:
        """Both designs, and another norm."""
        return [cls(), cls(design="independent"), cls(p=1.0), cls(ridge=2.0, intercept=False)]

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Draw k rows."""
        sizes, known = self._sizes(items)
        rank = float(sizes.sum())
        _give_floor(sizes, items)
        if self.design == "independent":
            picks, inclusion, kind = *draw_independently(items, sizes, k, rng), "priority"
        else:
            order, depth = tree_order(items, k, rng)
            picks, inclusion, kind = *draw_along(order, depth, sizes, k, rng), "pivotal"
        columns = items.d + self.intercept
        few = f"{k} rows do not determine a fit of {columns} columns; ask for more, or fit with a ridge"
        return Selection(
            indices=picks,
            weights=shared_out(items, picks, inclusion),
            inclusion=inclusion,
            provenance={
                "design": {"kind": kind, "population": items.free},
                "effective_dimension": rank,
                "notes": [few] if k < columns else [],
                **known,
            },
        )

    def _sizes(self, items: Items) -> tuple[Doubles, dict[str, Any]]:
        """Leverage scores or Lewis weights, and what is known of them. Row weights multiply the loss of a row."""
        blocks = items.blocks(dtype=self.dtype)
        if self.p != 2:
            found = lewis_weights(
                blocks, self.p, tolerance=CLOSE, rounds=self._rounds(), weights=items.weights, intercept=self.intercept
            )
            return found.weights, {"residual": found.residual}
        cut = cut_weights(items.weights)
        basis = orthonormal_basis(blocks, ridge=self.ridge, weights=cut, intercept=self.intercept)
        return scores_in(blocks, basis, weights=cut), {"rank": basis.rank}

    def _rounds(self) -> int:
        """Rounds in which the residual of Lewis weights comes down from some thousands of `CLOSE`."""
        rate = 1 - self.p / 2 if self.p < 2 else (self.p - 2) / (self.p + 2)
        return 2 + int(np.ceil(np.log(5000) / -np.log(rate)))

    def bytes(self, n: int, d: int, k: int) -> int:
        """The most of: scores beside a slab in float64, the tree and the rows that it is grown from, the draw."""
        columns, slab, grown = d + self.intercept, min(n, SLAB), min(n, tree_sample(d))
        most = (8 if self.p == 2 else 16) * n + 8 * slab * d
        if self.design == "pivotal":
            tree = 10 * n + (4 * d + 40) * grown + (d * grown if n > grown else 0)
            most = max(most, tree, 27 * n)
        return most + 24 * 8 * columns**2 + 50 * k + 60 * slab + (4 << 20)

    def passes(self, n: int, d: int, k: int) -> int:
        """Bases until one is orthonormal, the scores, and rows to their leaves."""
        spread = 1 if self.design == "pivotal" and n > tree_sample(d) else 0
        return ((ROUNDS + 1) * (1 if self.p == 2 else self._rounds() + 1)) + spread


def _give_floor(sizes: Doubles, items: Items) -> None:
    """Every row at least `FLOOR` of the mean size, by its weight; those that `have` holds none. In place."""
    total = float(sizes.sum())
    mean = total / items.n if total > 0 else 1.0
    if items.weights is None:
        np.maximum(sizes, FLOOR * mean, out=sizes)
    else:
        scale = FLOOR * mean * items.n / float(items.weights.sum())
        for at in range(0, items.n, SLAB):
            cut = slice(at, at + SLAB)
            np.maximum(sizes[cut], scale * items.weights[cut], out=sizes[cut])
    sizes[items.have_rows] = 0.0


def draw_independently(items: Items, sizes: Doubles, k: int, rng: Rng) -> tuple[Rows, Doubles]:
    """k rows by priority sampling on their own numbers, and their inclusion."""
    stream = TopStream(k + 1)
    for start in range(0, items.n, SLAB):
        own = sizes[start : start + SLAB]
        free = np.flatnonzero(own > 0)
        stream.add((own / rng.rows(start, start + len(own), "draw"))[free], own[free], free + start)
    return stream.sample(k)


def tree_sample(d: int) -> int:
    """Rows that the tree is grown from: a power of two, some 2^26 numbers at most, and 4,096 at least."""
    return int(np.clip(2 ** int(np.log2((1 << 26) / d)), 1 << 12, SAMPLE))


def tree_order(items: Items, k: int, rng: Rng) -> tuple[Rows, NDArray[np.uint8] | None]:
    """Rows in the order of a tree over space, and its depths where it is not the one that halves the order.

    Few rows: the tree goes down to single rows. Many: it is grown from a sample, to four leaves a pick or more."""
    blocks, most = items.blocks(), tree_sample(items.d)
    if items.n <= most:
        return space_order(blocks.take(np.arange(items.n))), None
    levels = int(np.clip(np.ceil(np.log2(4 * k)), 8, np.log2(most) - 2))
    grown = min(most, 16 << levels)
    sample = smallest_numbers(items.n, grown, lambda start, stop: rng.rows(start, stop, "tree"))
    tree = grow_tree(blocks.take(np.sort(sample)), levels)
    leaves, at = np.empty(items.n, np.uint16), 0
    for part in blocks.map(leaves_in_block, tree):
        leaves[at : at + len(part)] = part
        at += len(part)
    return order_by_leaves(leaves, levels)


def draw_along(order: Rows, depth: NDArray[np.uint8] | None, sizes: Doubles, k: int, rng: Rng) -> tuple[Rows, Doubles]:
    """k rows by pivotal sampling along the tree, in its order, and their inclusion. `sizes` are used up."""
    n = len(order)
    to_chances(sizes, k)
    laid = sizes[order]
    sizes.resize(0, refcheck=False)
    uniforms = np.empty(n)
    for start in range(0, n, SLAB):
        uniforms[start : start + SLAB] = rng.rows(start, min(start + SLAB, n), "duel")
    places = pivotal(laid, uniforms, depth=depth)
    return order[places], laid[places]

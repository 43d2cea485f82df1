"""Two rounds: choose in parts, then choose among what was chosen. A wrapper that is a method and knows none by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from kofn.core.assign import cell_weights
from kofn.core.block import Block, Rows, by_slab
from kofn.errors import BudgetError
from kofn.items import Items
from kofn.method import Method
from kofn.rng import Rng
from kofn.selection import Selection

SMALLEST = 1 << 10


@dataclass(frozen=True, kw_only=True)
class TwoRound(Method):
    """Runs a method on parts of the rows, then once more on the union of what it picked there, weighted.

    Rows are dealt to parts by their hash, so that every part is a random sample of the whole. What is left of the method's
    guarantee is its own `lifts` sentence.

    Needs: what the method needs. Streams: no. Weights: Voronoi counts over all rows. Cost: the method's on every part and
    on the union; ceil(n / part) + 1 passes.
    """

    method: Method = field()
    part: int = field()

    name: ClassVar[str] = "two rounds"
    summary: ClassVar[str] = "a method on parts, then on what it picked there"

    def __post_init__(self) -> None:
        """Nothing to check: the front door chose the part."""

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose k in each part, then k among those."""
        parts = -(-items.n // self.part)
        deal = _deal(items.n, parts, rng)
        metric = getattr(self.method, "metric", "euclidean")
        rows, weights = [], []
        for at in range(parts):
            mine = np.flatnonzero(deal == at).astype(np.int64)
            inner = items.subset(mine, _gather(items, metric, deal, at))
            first = self.method.select(inner, min(k, inner.free), rng.child(f"part {at}"))
            rows.append(mine[first.indices])
            weights.append(first.weights)
        candidates = np.concatenate([*rows, items.have_rows])
        mass = np.concatenate([*weights, np.ones(len(items.have_rows))])
        order = np.argsort(candidates, kind="stable")
        candidates, mass = candidates[order], mass[order]
        blocks = items.blocks(metric)
        union = items.subset(candidates, blocks.take(candidates), mass)
        last = self.method.select(union, k, rng.child("union"))
        picks = candidates[last.indices]
        counts = self._weights(items, picks, metric)
        return replace(last, indices=picks, weights=counts, gains=None, inclusion=None)

    def bytes(self, n: int, d: int, k: int) -> int:
        """The larger of a part's and the union's."""
        union = -(-n // self.part) * k
        return max(self.method.bytes(self.part, d, k), self.method.bytes(union, d, k)) + 5 * n

    def passes(self, n: int, d: int, k: int) -> int:
        """One for each part, and one for the weights."""
        return -(-n // self.part) + 1

    def _weights(self, items: Items, picks: Rows, metric: str) -> Any:
        blocks = items.blocks(metric)
        points = blocks.take(np.concatenate([picks, items.have_rows]))
        return cell_weights(blocks, points, items.weights)[: len(picks)]


def parts_for(method: Method, n: int, d: int, k: int, memory: int) -> int:
    """The largest power-of-two number of rows whose part and union both fit in `memory`."""
    part = 1 << int(np.ceil(np.log2(n)))
    while part >= max(SMALLEST, 2 * k):
        union = -(-n // part) * k
        if method.bytes(part, d, k) <= memory and method.bytes(union, d, k) <= memory:
            return part
        part //= 2
    raise BudgetError(
        f"{method.name} does not fit in {memory / 2**20:,.0f} MiB even in parts of {max(SMALLEST, 2 * k):,} rows "
        f"(k={k}, {d} dimensions); give more with --memory, or use a method that streams"
    )


def _deal(n: int, parts: int, rng: Rng) -> Any:
    deal = np.empty(n, np.int32)
    step = 1 << 16
    for start in range(0, n, step):
        stop = min(start + step, n)
        deal[start:stop] = rng.rows(start, stop, "deal") * parts
    return deal


def _gather(items: Items, metric: str, deal: Any, part: int) -> Any:
    return np.concatenate(list(items.blocks(metric).map(_rows_of_part, part, each=by_slab(deal))))


def _rows_of_part(block: Block, part: int, deal: Any) -> Any:
    return block.x[deal == part]

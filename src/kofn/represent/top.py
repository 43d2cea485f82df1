"""The k highest scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kofn.core.designs import smallest
from kofn.items import Items
from kofn.method import Method
from kofn.rng import Rng
from kofn.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Top(Method):
    """The k rows with the highest score, best first; ties go to the lowest row number.

    Guarantee: the largest sum of scores that k rows can have. Says nothing about the rows left out.

    Needs: scores. Streams: yes. Weights: equal shares. Cost: O(n + k log k) time, 16 bytes a row.
    """

    name: ClassVar[str] = "top"
    summary: ClassVar[str] = "the k highest scores"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})
    streams: ClassVar[bool] = True
    random: ClassVar[bool] = False
    prefix: ClassVar[bool] = True
    weights: ClassVar[str] = "none"
    objective: ClassVar[str | None] = "total_score"
    claims: ClassVar[str] = "the largest sum of scores of any k rows"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose the k highest scores."""
        keys = -items.scores
        keys[items.have_rows] = np.inf
        picks = smallest(keys, k)
        held = items.row_weights[items.have_rows].sum()
        share = (items.row_weights.sum() - held) / k
        return Selection(indices=picks, weights=np.full(k, share), gains=items.scores[picks])

    def bytes(self, n: int, d: int, k: int) -> int:
        """A negated copy of the scores, and the partition of it."""
        return 16 * n + 64 * k

    def passes(self, n: int, d: int, k: int) -> int:
        """None over the vectors: the scores are a column."""
        return 0

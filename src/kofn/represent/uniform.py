"""Rows at random: simple, stratified by group, or in proportion to a score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from kofn.core.block import SLAB, Doubles, Rows
from kofn.core.designs import priority_sample, smallest_numbers
from kofn.errors import DataError
from kofn.items import Items
from kofn.method import Method, Paper, param, shared_out
from kofn.rng import Rng
from kofn.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Uniform(Method):
    """Every row has a random number of its own; the k smallest are picked, before any data are read.

    With `groups`, seats go to the groups one by one by Webster's rule (proportional) or in turn (equal), and within a
    group to the smallest numbers. With `scores`, rows are drawn in proportion to them by priority sampling (within each
    group, when both are given).

    Guarantee: `estimate` is unbiased, with an honest standard error (Horvitz-Thompson; for scores, Duffield, Lund and
    Thorup, J. ACM 2007). A group without a seat is not represented; the result says so.

    Needs: nothing. Streams: yes. Weights: 1 / inclusion, rescaled. Cost: O(n) time; O(k) memory, 24 bytes a row with
    groups or scores.
    """

    allocation: str = param("proportional", "how groups share the k seats", choices=("proportional", "equal"))

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "rows at random; stratified by group, or in proportion to a score"
    paper: ClassVar[Paper | None] = Paper(
        "Priority sampling for estimation of arbitrary subset sums",
        "Nick Duffield and Carsten Lund and Mikkel Thorup",
        "Journal of the ACM 54(6)",
        2007,
        "https://doi.org/10.1145/1314690.1314696",
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    uses: ClassVar[frozenset[str]] = frozenset({"scores", "groups"})
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})
    streams: ClassVar[bool] = True
    prefix: ClassVar[bool] = True
    weights: ClassVar[str] = "design"
    claims: ClassVar[str] = "unbiased estimates of any mean or total, with a valid standard error"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Draw k rows."""
        if items.scores is not None:
            check_distribution(items, k)
        if items.groups is None and items.scores is None:
            picks = smallest_numbers(items.n, k, partial(rng.rows, purpose="draw"), items.have)
            inclusion, strata, left_out = np.full(k, k / items.free), None, 0
        elif items.groups is None:
            picks, inclusion, strata, left_out = *draw_by_score(items, k, rng), None, 0
        else:
            picks, inclusion, strata, left_out = draw_by_group(items, k, rng, self.allocation == "equal")
        notes = [f"{left_out} groups got no pick: estimates leave them out; ask for more rows"] if left_out else []
        kind = "simple" if items.scores is None else "priority"
        return Selection(
            indices=picks,
            weights=shared_out(items, picks, inclusion),
            inclusion=inclusion,
            strata=strata,
            provenance={"notes": notes, "design": {"kind": kind, "population": items.free}},
        )

    def bytes(self, n: int, d: int, k: int) -> int:
        """24 bytes a row cover groups and scores; without them it is O(k)."""
        return 24 * n + 200 * k + 16 * SLAB

    def passes(self, n: int, d: int, k: int) -> int:
        """None: choosing needs no data."""
        return 0


def draw_by_score(items: Items, k: int, rng: Rng) -> tuple[Rows, Doubles]:
    """k rows in proportion to their score, and their inclusion."""
    sizes = items.scores.copy()
    sizes[items.have_rows] = 0.0
    return priority_sample(sizes, rng.rows(0, items.n, "draw"), k)


def draw_by_group(items: Items, k: int, rng: Rng, equal: bool) -> tuple[Rows, Doubles, Rows, int]:
    """Seats for groups one by one, rows within a group by their number; picks, inclusion, group, groups without a seat."""
    drawable = np.ones(items.n, dtype=bool) if items.have is None else ~items.have
    if items.scores is not None:
        drawable &= items.scores > 0  # a row without a chance takes no seat
    free = np.flatnonzero(drawable)
    codes, names = items.group_codes
    codes, u = codes[free], rng.rows(0, items.n, "draw")[free]
    keys = u if items.scores is None else u / items.scores[free]
    order = np.lexsort((keys, codes))
    sizes = np.bincount(codes, minlength=len(names))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    place = np.arange(len(free)) - starts[codes[order]]  # 0 for the first row of its group
    turn = place if equal else (2 * place + 1) / sizes[codes[order]]  # Webster's divisors: 1, 3, 5, ...
    seated = np.lexsort((keys[order], turn))[:k]
    picks, strata = order[seated], codes[order[seated]]
    seats = np.bincount(strata, minlength=len(names))
    if items.scores is None:
        inclusion = seats[strata] / sizes[strata]
    else:
        following = np.minimum(starts + seats, len(order) - 1)  # the row that would have been next in each group
        last = seats == sizes
        tau = np.where(last, 0.0, 1.0 / keys[order[following]])
        with np.errstate(divide="ignore"):
            inclusion = np.minimum(1.0, items.scores[free[picks]] / tau[strata])
    return free[picks].astype(np.int64), inclusion, strata, int((seats[sizes > 0] == 0).sum())


def check_distribution(items: Items, k: int) -> None:
    """Raise DataError unless the scores can be chances: none negative, at least k of them positive."""
    check_not_negative(items)
    scores: Any = items.scores if items.have is None else np.where(items.have, 0.0, items.scores)
    positive = int((scores > 0).sum())
    if positive < k:
        what = "all scores are 0" if positive == 0 else f"only {positive} rows have a score above 0"
        raise DataError(f"{what}; drawing k={k} rows in proportion to the score needs at least that many above 0")


def check_not_negative(items: Items) -> None:
    """Raise DataError when a score cannot be a chance or a loss."""
    below = np.flatnonzero(items.scores < 0)
    if len(below):
        raise DataError(
            f"score {items.scores[below[0]]:g} of row {int(below[0])} is negative; drawing in proportion needs scores of 0 or "
            "more (for the highest scores use --method top)"
        )

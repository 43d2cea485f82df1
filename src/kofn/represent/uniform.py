"""Rows at random: simple, stratified by group, or in proportion to a score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import SLAB, Doubles, Rows
from kofn.core.designs import TopStream, smallest_numbers
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

    Needs: nothing. Streams: yes. Weights: 1 / inclusion, rescaled. Cost: O(n) time; O(k) memory, with groups 4 bytes a row.
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
        kind = "simple" if items.scores is None else "priority"
        population = population_of(items, strata)
        notes = _notes(items, left_out, population)
        return Selection(
            indices=picks,
            weights=shared_out(items, picks, inclusion),
            inclusion=inclusion,
            strata=strata,
            provenance={"notes": notes, "design": {"kind": kind, "population": population}},
        )

    def bytes(self, n: int, d: int, k: int) -> int:
        """Row weights and the codes of groups, twice k picks, and what the groups of a slab are sorted with."""
        return 16 * n + 400 * k + 160 * SLAB

    def passes(self, n: int, d: int, k: int) -> int:
        """None: choosing needs no data."""
        return 0


def population_of(items: Items, strata: Rows | None) -> int:
    """Rows that estimates are about: those that nobody has, that have a chance, and whose group has a pick."""
    if strata is None and items.scores is None:
        return items.free
    total = 0
    for rows in drawable_rows(items):
        total += len(rows) if strata is None else int(np.isin(items.group_codes[0][rows], strata).sum())
    return total


def _notes(items: Items, left_out: int, population: int) -> list[str]:
    """What estimates are not about."""
    notes = []
    if left_out:
        groups = "1 group has" if left_out == 1 else f"{left_out:,} groups have"
        notes.append(f"{groups} no pick: estimates are about the {population:,} rows of the others; ask for more rows")
    if items.scores is not None:
        free = np.ones(items.n, np.bool_) if items.have is None else ~items.have
        never = int((free & (items.scores <= 0)).sum())
        if never:
            rows = "1 row has" if never == 1 else f"{never:,} rows have"
            notes.append(f"{rows} a score of 0 and cannot be drawn: estimates are about the others")
    return notes


def draw_by_score(items: Items, k: int, rng: Rng) -> tuple[Rows, Doubles]:
    """k rows in proportion to their score, and their inclusion. O(k) memory."""
    stream = TopStream(k + 1)
    for rows in drawable_rows(items):
        sizes = items.scores[rows]
        stream.add(sizes / numbers_of(rows, rng), sizes, rows)
    return stream.sample(k)


def draw_by_group(items: Items, k: int, rng: Rng, equal: bool) -> tuple[Rows, Doubles, Rows, int]:
    """Seats for groups one by one, rows within a group by their number; picks, inclusion, group, groups without a seat."""
    codes, names = items.group_codes
    sizes = np.zeros(len(names), np.int64)
    for rows in drawable_rows(items):
        sizes += np.bincount(codes[rows], minlength=len(names))
    most = most_seats(sizes, k, equal)
    found, keys, place = first_of_groups(items, rng, codes, most + 1)
    strata = codes[found].astype(np.int64)
    turn = place if equal else (2 * place + 1) / sizes[strata]  # Webster's divisors: 1, 3, 5, ...
    seated = np.lexsort((keys, turn))[:k]
    picks, mine = found[seated], strata[seated]
    seats = np.bincount(mine, minlength=len(names))
    if items.scores is None:
        return picks, seats[mine] / sizes[mine], mine, int((seats[sizes > 0] == 0).sum())
    tau = np.zeros(len(names))
    following = place == seats[strata]  # the row that would have been next in its group
    tau[strata[following]] = 1.0 / keys[following]
    with np.errstate(divide="ignore"):
        inclusion = np.minimum(1.0, items.scores[picks] / tau[mine])
    return picks, inclusion, mine, int((seats[sizes > 0] == 0).sum())


def drawable_rows(items: Items) -> Iterator[Rows]:
    """Row numbers that may be drawn, slab by slab: nobody has them, and they have a chance."""
    for start in range(0, items.n, SLAB):
        cut = slice(start, min(start + SLAB, items.n))
        free = np.ones(cut.stop - start, dtype=bool) if items.have is None else ~items.have[cut]
        if items.scores is not None:
            free &= items.scores[cut] > 0  # a row without a chance takes no seat
        yield np.flatnonzero(free) + start


def numbers_of(rows: Rows, rng: Rng) -> Doubles:
    """The numbers of these ascending rows."""
    if not len(rows):
        return np.empty(0)
    first = int(rows[0])
    return np.asarray(rng.rows(first, int(rows[-1]) + 1, "draw")[rows - first])


def most_seats(sizes: Rows, k: int, equal: bool) -> Rows:
    """At least as many seats as each group gets, int64: those whose turn is no later than a turn that seats k."""

    def by(turn: float) -> Rows:
        seats = np.full(len(sizes), turn + 1) if equal else (turn * sizes + 1) / 2
        return np.minimum(sizes, np.floor(seats).astype(np.int64))

    low, high = 0.0, float(2 * sizes.max())
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (low, middle) if by(middle).sum() >= k else (middle, high)
    return by(high * (1 + 1e-9))  # a little later, so that rounding hides no turn


def first_of_groups(items: Items, rng: Rng, codes: NDArray[np.int32], most: Rows) -> tuple[Rows, Doubles, Rows]:
    """The `most` rows of each group with the smallest keys; rows, keys and place in the group, by group and key."""
    kept, keys = np.zeros(0, np.int64), np.zeros(0)
    place = kept
    for rows in drawable_rows(items):
        u = numbers_of(rows, rng)
        kept, keys = (
            np.concatenate([kept, rows]),
            np.concatenate([keys, u if items.scores is None else u / items.scores[rows]]),
        )
        order = np.lexsort((keys, codes[kept]))
        group = codes[kept[order]]
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
        first = place < most[group]
        kept, keys, place = kept[order[first]], keys[order[first]], place[first]
    return kept, keys, place


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

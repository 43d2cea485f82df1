"""k-means++ seeding by the exact D^2 law, in far fewer distances than n k."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kofn.core.block import Blocks, Doubles, Rows, dense
from kofn.core.dsquared import BATCH, DSquared
from kofn.core.greedyseeding import greedy_draws


class Chance(Protocol):
    """What seeding asks of `kofn.rng.Rng`."""

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator at its beginning."""


@dataclass(frozen=True, eq=False)
class Seeds:
    """What was picked.

    Attributes
    ----------
    rows : int64 (k,)
        In pick order.
    filled : int
        How many of them, the last ones, coincide with earlier picks or `have`: there were no other rows left.
    """

    rows: Rows
    filled: int


def seed_rows(
    blocks: Blocks,
    k: int,
    rng: Chance,
    *,
    weights: Doubles | None = None,
    have: Rows | None = None,
    candidates: int = 1,
) -> Rows:
    """k row numbers by k-means++: `draw_seeds` without the count of rows filled in."""
    return draw_seeds(blocks, k, rng, weights=weights, have=have, candidates=candidates).rows


def draw_seeds(
    blocks: Blocks,
    k: int,
    rng: Chance,
    *,
    weights: Doubles | None = None,
    have: Rows | None = None,
    candidates: int = 1,
) -> Seeds:
    """k rows, each drawn with chance proportional to its weight times its squared distance to the nearest center so far.

    The first is drawn in proportion to the weights. Rows in `have` are centers from the start and never picked. When every
    row coincides with a center, the lowest free row numbers fill up.

    Expected cost at most 8 (ln k + 2) times the best (Arthur and Vassilvitskii, "k-means++: the advantages of careful
    seeding", SODA 2007); for `candidates` > 1 it is usually lower, but what is proven is weaker.

    Parameters
    ----------
    blocks : Blocks
        The n rows.
    k : int
        At most n less the rows in `have`.
    rng : Rng
        Its generator "kmeans++" is used. The picks for a smaller k begin those for a larger one.
    weights : float64 (n,), optional
        How much each row counts; default 1.
    have : int64 (h,), optional
        Rows that are centers already.
    candidates : int
        1: the law itself. More: the greedy form, which draws so many rows from the law and keeps the one that lowers the
        weighted cost most (ties: the one drawn first), at the price of one pass a pick.
    """
    generator = rng.generator("kmeans++")
    held = np.zeros(0, np.int64) if have is None else np.asarray(have, np.int64)
    picks: list[int] = []
    if not len(held):
        picks.append(_first_row(blocks.n, generator, weights))
    start = held if len(held) else np.array(picks, np.int64)
    law = DSquared(blocks, dense(blocks.take(start)), weights)
    wanted = k - len(picks)
    picks += _draws(law, generator, wanted) if candidates == 1 else greedy_draws(law, generator, wanted, candidates)
    drawn = len(picks)
    if drawn < k:
        picks += _lowest_free(blocks.n, k - drawn, np.concatenate([held, np.array(picks, np.int64)]))
    return Seeds(np.array(picks, np.int64), k - drawn)


def _first_row(n: int, generator: np.random.Generator, weights: Doubles | None) -> int:
    u = float(generator.random())
    if weights is None:
        return min(int(u * n), n - 1)
    cumulative = np.cumsum(weights)
    at = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    return min(at, int(np.searchsorted(cumulative, cumulative[-1])))


def _draws(law: DSquared, generator: np.random.Generator, wanted: int) -> Iterator[int]:
    """Rows one after the other, each a center for the next; fewer than wanted when all rows coincide with centers."""
    while wanted > 0 and law.total > 0.0:
        rows, limits = law.propose(generator.random((law.chunk, 2)))
        x = dense(law.blocks.take(rows))
        for at in range(0, len(rows), BATCH):
            batch = slice(at, at + BATCH)
            passed = at + law.accepted(x[batch], limits[batch])
            chosen = passed[law.one_by_one(x[passed], limits[passed])][:wanted]
            law.add(x[chosen])
            wanted -= len(chosen)
            yield from rows[chosen].tolist()
            if wanted == 0 or law.stale:
                break
        if law.stale and wanted:
            law.refresh()


def _lowest_free(n: int, count: int, taken: Rows) -> list[int]:
    """The `count` lowest row numbers that are not taken."""
    first = np.arange(min(n, count + len(taken)))
    return first[~np.isin(first, taken)][:count].tolist()

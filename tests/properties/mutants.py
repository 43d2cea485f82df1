"""Methods that are wrong, each in one way, and the honest ones that they were made from."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from kofn import Items, Method, Rng, Selection, param
from kofn.core.assign import cell_weights
from kofn.core.distance import distances_to_point
from kofn.core.objectives import OBJECTIVES
from kofn.errors import DataError
from kofn.represent import Leverage, Top, Uniform


@dataclass(frozen=True, kw_only=True)
class Honest(Method):
    """Farthest-first from the row nearest the mean, written plainly: what the wrong covering methods are made from.

    Needs: embeddings. Streams: yes. Weights: Voronoi counts. Cost: k passes.
    """

    metric: str = param("euclidean", "how far apart rows are", choices=("euclidean", "cosine"))

    name: ClassVar[str] = "honest"
    summary: ClassVar[str] = "farthest first"
    streams: ClassVar[bool] = True
    random: ClassVar[bool] = False
    prefix: ClassVar[bool] = True
    objective: ClassVar[str | None] = "radius"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose k rows."""
        blocks = items.blocks(self.metric)
        nearest = np.full(items.n, np.inf)
        for point in blocks.take(items.have_rows):
            nearest = np.minimum(nearest, self.to_point(items, blocks, point))
        picks: list[int] = []
        if items.have is None:
            picks.append(int(np.argmin(self.to_point(items, blocks, self.center(items, blocks)))))
        filled = 0
        while True:
            if picks:
                nearest = np.minimum(nearest, self.to_point(items, blocks, blocks.take(np.array(picks[-1:]))[0]))
                filled += picks[-1] in items.have_rows
            if len(picks) == k:
                break
            left = np.where(np.isin(np.arange(items.n), [*picks, *items.have_rows]), -1.0, nearest)
            picks.append(self.farthest(left))
            filled += left.max() == 0
        rows = np.array(picks)
        return Selection(
            indices=rows,
            weights=self.counts(items, blocks, rows),
            provenance={"notes": [f"{filled} picks are duplicates of others"] if filled else []},
        )

    def center(self, items: Items, blocks: Any) -> Any:
        """The mean of the rows, in an order that nothing can change."""
        total = sum(blocks.map(sum_of_block)) / items.n
        return total.astype(np.float32)

    def farthest(self, left: Any) -> int:
        """The first of the largest."""
        return int(np.argmax(left))

    def to_point(self, items: Items, blocks: Any, point: Any) -> Any:
        """Squared distances to a point, by differences."""
        return np.concatenate(list(blocks.map(block_to_point, point)))

    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        """Voronoi counts."""
        standing = np.concatenate([rows, items.have_rows])
        return cell_weights(blocks, blocks.take(standing), items.weights, standing)[: len(rows)]

    def bytes(self, n: int, d: int, k: int) -> int:
        """Distances, and copies of them."""
        return 32 * n + 8 * k

    def passes(self, n: int, d: int, k: int) -> int:
        """One a pick, one for the mean, one for the row nearest to it, one for the weights."""
        return k + 3


def block_to_point(block: Any, point: Any) -> Any:
    return distances_to_point(block.x, point)


def sum_of_block(block: Any) -> Any:
    return block.x.sum(axis=0, dtype=np.float64)


# Wrong picks --------------------------------------------------------------------------------------------------------


class RepeatsAPick(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        return replace(selection, indices=np.r_[selection.indices[:-1], selection.indices[:1]])


class PicksOneTooFew(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(items, max(1, k - 1), rng)


class NumbersRowsFromOne(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        return replace(selection, indices=selection.indices + 1)


class FillsFromTheEnd(Honest):
    def farthest(self, left: Any) -> int:
        return int(np.argmax(left)) if left.max() > 0 else int(np.flatnonzero(left == 0)[-1])


class TakesTheLastOfEquals(Honest):
    def farthest(self, left: Any) -> int:
        return int(np.flatnonzero(left == left.max())[-1])


class IgnoresHave(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(replace(items, have=None), k, rng)


class DoesNotCountHaveAsCovered(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        free = np.setdiff1d(np.arange(items.n), items.have_rows)
        inner = super().select(items.subset(free, items.blocks().take(free)), k, rng)
        return replace(inner, indices=free[inner.indices])


class IsNoPrefix(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        return replace(selection, indices=selection.indices[::-1], weights=selection.weights[::-1])


class TakesTheFirstRows(Top):
    objective: ClassVar[str | None] = None

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        free = np.setdiff1d(np.arange(items.n), items.have_rows)[:k]
        return replace(super().select(items, k, rng), indices=free)


class InvertsTheScore(Top):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(replace(items, scores=-items.scores), k, rng)


class ClaimsToCover(Uniform):
    objective: ClassVar[str | None] = "mean_squared_distance"


# Not the same twice -------------------------------------------------------------------------------------------------


class ReadsTheClock(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(items, k, Rng(time.perf_counter_ns()))


class IgnoresTheSeed(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(items, k, Rng(0))


class ReadsTheThreads(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(items, k, rng.child(f"{items.run.workers}"))


class ReadsTheFiles(Honest):
    def center(self, items: Items, blocks: Any) -> Any:
        groups = getattr(getattr(items.embeddings, "dataset", None), "groups", [None])
        return super().center(items, blocks) + np.float32(len(groups) % 7)


class AddsUpByThread(Top):
    """Numbers added up in float32 shares, one a thread: other threads, other bits."""

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        shares = [np.cumsum(share)[-1] for share in np.array_split(items.scores.astype(np.float32), items.run.workers)]
        return replace(selection, gains=selection.gains / np.float64(np.sum(shares)))


class MultipliesInOtherShapes(Uniform):
    """Rows counted to the nearest pick by float32 products whose height depends on the threads, close calls not settled."""

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    weights: ClassVar[str] = "count"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        x = items.everything()
        points = x[selection.indices]
        half = (points * points).sum(axis=1) / 2
        parts = np.array_split(x, 64 * items.run.workers + 1)
        labels = np.concatenate([np.argmin(half - part @ points.T, axis=1) for part in parts])
        return replace(selection, weights=np.bincount(labels, minlength=k) + 1e-9, inclusion=None)


# Wrong weights ------------------------------------------------------------------------------------------------------


class WeighsFivePercentTooMuch(Honest):
    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        return 1.05 * super().counts(items, blocks, rows)


class SharesWeightsEqually(Honest):
    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        counts = super().counts(items, blocks, rows)
        return np.full(len(counts), counts.mean())


class SwapsWeights(Honest):
    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        return np.roll(super().counts(items, blocks, rows), 1)


class CountsWhatHaveCovers(Honest):
    def counts(self, items: Items, blocks: Any, rows: Any) -> Any:
        return cell_weights(blocks, blocks.take(rows), items.weights, rows)


class ForgetsRowWeights(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(replace(items, weights=None), k, rng)


class SaysTwoPercentTooLittle(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        return replace(selection, inclusion=0.98 * selection.inclusion)


class PrefersOneHalf(Uniform):
    """Draws with chances that lean towards high row numbers, and reports equal ones: estimates are some 2 % off."""

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        leaning = replace(items, scores=1.0 + 0.9 * np.arange(items.n) / items.n, groups=None)
        equal = super().select(items, k, rng)
        return replace(super().select(leaning, k, rng), inclusion=equal.inclusion, weights=equal.weights)


class TooSureOfItself(Uniform):
    """A sample in proportion to scores, whose errors are worked out as if it were a simple one."""

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        design = {"kind": "simple", "population": items.free}
        return replace(selection, strata=None, provenance={**selection.provenance, "design": design})


class InclusionAboveOne(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        return replace(selection, inclusion=selection.inclusion + 1.0)


# Careless with input ------------------------------------------------------------------------------------------------


class MendsNaN(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        x = np.nan_to_num(np.asarray(items.embeddings), posinf=0.0, neginf=0.0)
        return super().select(replace(items, embeddings=x), k, rng)


class ExpandsSquares(Honest):
    def to_point(self, items: Items, blocks: Any, point: Any) -> Any:
        x = items.everything(self.metric)
        return np.maximum((x * x).sum(axis=1) - 2 * (x @ point) + (point * point).sum(), 0)


class CalculatesInTheGivenType(Uniform):
    """Rows counted to the nearest pick by differences in the type that they came in."""

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    weights: ClassVar[str] = "count"

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        x = np.asarray(items.embeddings)
        nearest = np.argmin([((x - x[row]) ** 2).sum(axis=1) for row in selection.indices], axis=0)
        return replace(selection, weights=np.bincount(nearest, minlength=k) + 1e-9, inclusion=None)


class RefusesOneDimension(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        if items.d < 2:
            raise DataError("too few dimensions")
        return super().select(items, k, rng)


class TakesSparseForDense(Honest):
    accepts: ClassVar[frozenset[str]] = frozenset({"dense", "sparse"})

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        assert isinstance(items.embeddings, np.ndarray), "not an array"
        return super().select(items, k, rng)


class CentersTheInput(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        items.embeddings[...] -= items.embeddings.mean(axis=0)
        return super().select(items, k, rng)


class FreezesTheInput(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        items.embeddings.flags.writeable = False
        return super().select(items, k, rng)


class HandsOutTheInput(Top):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return replace(super().select(items, k, rng), gains=items.scores[:k])


class RemembersOnItself(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        object.__setattr__(self, "last", k)
        return super().select(items, k, rng)


class RemembersOnItsClass(Uniform):
    calls: ClassVar[list[int]] = []

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        self.calls.append(k)
        return super().select(items, k, rng)


class StartsFromTheLastAnswer(Uniform):
    last: ClassVar[list[int]] = []

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        self.last.append(items.n)
        return super().select(items, k, rng.child(str(self.last[-2:])))


# Not what they say --------------------------------------------------------------------------------------------------


class PeeksAtScores(Honest):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(items, k, rng) if items.scores is None else Top().select(items, k, rng)


class NeedsWhatItDoesNotRead(Honest):
    uses: ClassVar[frozenset[str]] = frozenset({"groups", "scores"})


class IgnoresGroups(Uniform):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        return super().select(replace(items, groups=None), k, rng)


class ChecksNoParameter(Honest):
    def __post_init__(self) -> None:
        pass


class PromisesAnUnknownObjective(Honest):
    objective: ClassVar[str | None] = "beauty"


class NeedsLessOfMore(Honest):
    def bytes(self, n: int, d: int, k: int) -> int:
        return 10**12 - n


class ShiftsGains(Top):
    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        return replace(selection, gains=selection.gains - 0.01)


class GainsMoreAndMore(Top):
    objective: ClassVar[str | None] = None
    diminishing: ClassVar[bool] = True

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        selection = super().select(items, k, rng)
        return replace(selection, gains=selection.gains[::-1])


class PromisesTooMuch(Honest):
    def bound(self, items: Items, selection: Selection) -> tuple[str, float, float]:
        """Claims a radius of zero."""
        return "radius", OBJECTIVES["radius"].value(items.blocks(), selection.indices, None, None), 0.0


class HidesMemory(Top):
    def bytes(self, n: int, d: int, k: int) -> int:
        """Forgets its copy of the scores."""
        return 8 * n


class HidesPasses(Honest):
    def passes(self, n: int, d: int, k: int) -> int:
        """Forgets the mean and the weights."""
        return k


@dataclass(frozen=True, kw_only=True)
class SaysEqualAndWeighs(Honest):
    """Calls its weights equal shares, and counts cells."""

    weights: ClassVar[str] = "equal"


@dataclass(frozen=True, kw_only=True)
class SpreadsAndLeans(Leverage):
    """Draws along a tree, and says of every pick that its chance was 2 % less than it was."""

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Draw k rows."""
        chosen = super().select(items, k, rng)
        return replace(chosen, inclusion=0.98 * chosen.inclusion)

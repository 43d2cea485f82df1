"""What a comparison found, as numbers: runs in rows, their means, the best, and how many rows are enough."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kofn.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

ALL_ROWS, UNIFORM = "all rows", "uniform"

MAIN = "mean_distance"
"""What coverage is read off."""


class Run(NamedTuple):
    """One number. `seed` is None for the reference "all rows"; `parameters` is JSON."""

    method: str
    parameters: str
    k: int
    seed: int | None
    metric: str
    value: float


class Summary(NamedTuple):
    """The runs of a method, k and metric: their mean, its standard error (None: one run), and how many they are."""

    method: str
    k: int
    metric: str
    mean: float
    error: float | None
    runs: int


class Failure(NamedTuple):
    """A method that could not choose so many rows, and why."""

    method: str
    k: int
    reason: str


class Enough(NamedTuple):
    """How many rows a method needs.

    `k` is None where no measured k is enough; `kind` says how it is known: "between" (interpolated between two measured
    k), "measured", "at most" (already the smallest measured k is enough), "more than" (not even the largest is).
    """

    method: str
    k: float | None
    kind: str


@dataclass(frozen=True)
class Figure:
    """What a column of the table is.

    Attributes
    ----------
    name, title, about : str
    higher_is_better : bool or None
    judged : bool
        Whether a best is named: not for seconds and memory, which are measured once.
    counted : int or None
        Of how many rows a share was counted, where they are a sample: two shares then differ by chance as well.
    """

    name: str
    title: str
    about: str
    higher_is_better: bool | None
    judged: bool = True
    counted: int | None = None


@dataclass(frozen=True, eq=False)
class Tally:
    """The numbers of a comparison.

    Attributes
    ----------
    runs : tuple of Run
        Tidy: one number a row.
    figures : tuple of Figure
        What was measured, in the order of the tables.
    ks, seeds : tuple of int
    failures : tuple of Failure
    steady : tuple of str
        Methods that draw nothing: one run of them is all there is to know.
    start : float or None
        Mean distance to one row at random: where coverage begins.
    facts : dict
        n, rows that could be chosen, measured and set aside, metric, versions, command, notes. Plain JSON.
    """

    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    ks: tuple[int, ...]
    seeds: tuple[int, ...]
    failures: tuple[Failure, ...] = ()
    steady: tuple[str, ...] = ()
    start: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The methods that were run, uniform first, without "all rows"."""
        return [name for name in dict.fromkeys(run.method for run in self.runs) if name != ALL_ROWS]

    def figure(self, name: str) -> Figure:
        """What the column of this name is."""
        return next(each for each in self.figures if each.name == name)

    @cached_property
    def _cells(self) -> dict[tuple[str, int, str], Summary]:
        values: dict[tuple[str, int, str], list[float]] = {}
        for run in self.runs:
            values.setdefault((run.method, run.k, run.metric), []).append(run.value)
        return {key: _summed_up(*key, found) for key, found in values.items()}

    def summary(self) -> list[Summary]:
        """Mean and standard error of every method, k and metric, in the order of the runs."""
        return list(self._cells.values())

    def cell(self, method: str, k: int, metric: str) -> Summary | None:
        """The summary of one method, k and metric; None where it was not measured."""
        return self._cells.get((method, k, metric))

    def reference(self, metric: str) -> float | None:
        """What all (measured) rows give; None where they were not asked. Rounding errors beside the methods' means are 0."""
        found = [cell for cell in self._cells.values() if cell.metric == metric]
        value = next((cell.mean for cell in found if cell.method == ALL_ROWS), None)
        if value is None:
            return None
        return 0.0 if abs(value) <= 1e-6 * max(abs(cell.mean) for cell in found) else value

    def best(self, metric: str, k: int) -> Summary | None:
        """The best method, where it is better than the second, and than random rows, by more than noise; else None."""
        figure = self.figure(metric)
        found = [cell for name in self.methods if (cell := self.cell(name, k, metric)) is not None]
        if figure.higher_is_better is None or not figure.judged or len(found) < 2:
            return None
        sign = -1.0 if figure.higher_is_better else 1.0
        first, second = sorted(found, key=lambda cell: sign * cell.mean)[:2]
        rivals = [second, *(cell for cell in found if cell.method == UNIFORM and cell is not first)]
        return first if all(self.apart(first, each, figure) for each in rivals) else None

    def apart(self, one: Summary, other: Summary, figure: Figure) -> bool:
        """Whether the two differ by more than chance makes them; never where a method that draws was run once."""
        known = all(each.runs > 1 or each.method in self.steady for each in (one, other))
        return known and beyond_noise(one, other, figure)

    def enough(self, share: float = 0.9) -> list[Enough]:
        """The smallest k at which each method reaches a share of the coverage gain.

        The gain goes from the mean distance to one row at random to the smallest mean distance of any method at the largest
        k. Between measured k, the distance is taken to be linear in log k.

        Parameters
        ----------
        share : float
            More than 0, at most 1.
        """
        if not 0 < share <= 1:
            raise UsageError(f"share={share} is no share of the gain; give more than 0 and at most 1, such as 0.9")
        goal = self.goal(share)
        return [] if goal is None else [_reached(name, self.curve(name), goal) for name in self.methods]

    def goal(self, share: float) -> float | None:
        """The mean distance at which this share of the coverage gain is reached; None where it was not measured."""
        ends = [cell.mean for name in self.methods if (cell := self.cell(name, self.ks[-1], MAIN)) is not None]
        if self.start is None or not ends or min(ends) >= self.start:
            return None
        return self.start - share * (self.start - min(ends))

    def curve(self, method: str, metric: str = MAIN) -> list[Summary]:
        """The summaries of a method over the k that were measured, ascending."""
        return [cell for k in self.ks if (cell := self.cell(method, k, metric)) is not None]

    def to_arrow(self) -> pa.Table:
        """The runs as an Arrow table: method, parameters, k, seed, metric, value; the facts in the schema's metadata."""
        import pyarrow as pa

        kinds = {"method": pa.string(), "parameters": pa.string(), "k": pa.int64(), "seed": pa.int64(),
                 "metric": pa.string(), "value": pa.float64()}  # fmt: skip
        columns = {name: pa.array([getattr(run, name) for run in self.runs], kind) for name, kind in kinds.items()}
        text = json.dumps(self.facts, sort_keys=True, default=str)
        return pa.table(columns).replace_schema_metadata({b"kofn_comparison": text.encode()})

    def to_pandas(self) -> Any:
        """The runs as a pandas table, one number a row."""
        return self.to_arrow().to_pandas()

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the runs: .parquet, .arrow, .csv or .jsonl. Whole or not at all."""
        from kofn.blocks.write import write_table

        check_runs(path, force=force)
        write_table(self.to_arrow(), os.fspath(path), force=force)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: {facts, k, seeds, figures, summary, best, enough, failures}."""
        best = [
            (each.name, k, found.method) for each in self.figures for k in self.ks if (found := self.best(each.name, k))
        ]
        return {
            "facts": self.facts,
            "k": list(self.ks),
            "seeds": list(self.seeds),
            "figures": [vars(each) for each in self.figures],
            "summary": [each._asdict() for each in self.summary()],
            "best": [dict(zip(("metric", "k", "method"), each)) for each in best],
            "enough": [each._asdict() for each in self.enough()],
            "failures": [each._asdict() for each in self.failures],
        }


def check_runs(path: str | os.PathLike[str], *, force: bool) -> None:
    """Raise OutputError where the runs cannot be written to this path."""
    from kofn.blocks.write import ENDINGS, check_output

    check_output(os.fspath(path), force=force, endings=tuple(ending for ending in ENDINGS if ending != ".npy"))


def beyond_noise(one: Summary, other: Summary, figure: Figure) -> bool:
    """Whether the two differ by more than chance makes them: Welch's t-test over the seeds, at 5 %.

    A method that draws nothing adds no error of its own. Shares counted on a sample of rows add a binomial error each, as
    if they were counted on different rows: that errs on the side of noise.
    """
    from scipy.special import stdtrit

    parts = [((each.error or 0.0) ** 2, each.runs - 1) for each in (one, other)]
    if figure.counted is not None:
        parts += [(max(0.0, each.mean * (1 - each.mean)) / figure.counted, figure.counted - 1) for each in (one, other)]
    variance = sum(part for part, _ in parts)
    difference = abs(one.mean - other.mean)
    if difference <= 1e-9 * max(abs(one.mean), abs(other.mean)):
        return False
    if variance == 0.0:
        return True
    freedom = variance**2 / sum(part**2 / max(1, each) for part, each in parts)
    return bool(difference > stdtrit(freedom, 0.975) * np.sqrt(variance))


def _summed_up(method: str, k: int, metric: str, values: Sequence[float]) -> Summary:
    count = len(values)
    error = float(np.std(values, ddof=1) / np.sqrt(count)) if count > 1 else None
    return Summary(method, k, metric, float(np.mean(values)), error, count)


def _reached(method: str, curve: list[Summary], goal: float) -> Enough:
    before = None
    for cell in curve:
        if cell.mean <= goal * (1 + 1e-12):
            if before is None:
                return Enough(method, float(cell.k), "at most")
            if cell.mean >= goal:
                return Enough(method, float(cell.k), "measured")
            way = (before.mean - goal) / (before.mean - cell.mean)
            return Enough(method, float(before.k * (cell.k / before.k) ** way), "between")
        before = cell
    return Enough(method, None, "more than")

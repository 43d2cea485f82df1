"""The second level of `verify`: what the picks are worth, computed again from the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from kofn.core.block import Doubles
from kofn.core.designs import smallest
from kofn.core.objectives import OBJECTIVES
from kofn.front import digest_of
from kofn.items import Items
from kofn.method import door_metric, measures_plainly, shared_out
from kofn.represent.uniform import population_of
from kofn.request import Request
from kofn.selection import Selection
from kofn.verdict import Check, failed, passed

EXACT = 1e-9
"""Relative error that recomputed weights and sums in float64 may have."""

SAME = 1e-6
"""Relative error between processors of what is measured in float32."""


def value_checks(request: Request, answer: Selection) -> Iterator[Check]:
    """Weights, design, objective, gains and bound of an answer whose rows are right, in this order.

    Parameters
    ----------
    request : Request
        The selection as it was asked for; nothing of it is run.
    answer : Selection
        What was written, in rank order, in row numbers of the data.
    """
    items = request.items
    yield from _input_checks(request, answer)
    local = replace(answer, indices=_local(request, answer), provenance=_design(answer))
    if request.method.weights == "design" and not _lifted(answer):
        yield from _inclusion_checks(items, local, uniform=request.method.name == "uniform")
    yield from _weight_checks(request, local, lifted=_lifted(answer))
    yield from _objective_checks(request, local, answer.provenance.get("objective"))
    yield from _gain_checks(request, local)
    yield from _bound_checks(request, local, lifted=_lifted(answer))


def _input_checks(request: Request, answer: Selection) -> Iterator[Check]:
    items, p, kept = request.items, answer.provenance, request.kept
    held = items.have_rows if kept is None else kept[items.have_rows]
    if len(held) != p["have"]:
        yield failed("inputs", "rows in `have`", expected=p["have"], found=len(held))
        return
    if len(held) and digest_of(held) != p["digests"].get("have"):
        yield failed("inputs", "digest of the rows in `have`", expected=p["digests"].get("have"), found=digest_of(held))
        return
    total = float(items.row_weights.sum())
    if abs(total - p["total_weight"]) > EXACT * total:
        yield failed("inputs", "total weight of all rows", expected=p["total_weight"], found=total)
        return
    barred = np.isin(answer.indices, held)
    dropped = np.zeros(len(answer), bool) if kept is None else ~np.isin(answer.indices, kept)
    wrong = np.flatnonzero(barred | dropped)
    if len(wrong):
        row = int(answer.indices[wrong[0]])
        what = "row of `have`" if barred[wrong[0]] else "row with NaN, infinity or null that was to be dropped"
        yield failed(
            "inputs", f"row {row} at rank {wrong[0]}", row=row, expected="a row that may be picked", found=f"a {what}"
        )
        return
    beside = f", {len(held):,} of them in `have`" if len(held) else ""
    yield passed("inputs", f"{items.n:,} rows of weight {total:,.6g} in all{beside}; no pick is barred")


def _local(request: Request, answer: Selection) -> Any:
    """The picks as row numbers of the items that the method saw."""
    return answer.indices if request.kept is None else np.searchsorted(request.kept, answer.indices)


def _design(answer: Selection) -> dict[str, Any]:
    return {"design": answer.provenance.get("design", {}), "parameters": answer.provenance["parameters"]}


def _lifted(answer: Selection) -> bool:
    return "part" in answer.provenance["run"]


def _inclusion_checks(items: Items, answer: Selection, *, uniform: bool) -> Iterator[Check]:
    inclusion, design = answer.inclusion, answer.provenance["design"]
    if inclusion is None:
        yield failed("inclusion", "column kofn_inclusion of a random design", expected="one", found="none")
        return
    wrong = np.flatnonzero(~((inclusion > 0) & (inclusion <= 1)))
    if len(wrong):
        yield _off("inclusion", answer, int(wrong[0]), "kofn_inclusion", "more than 0 and at most 1", inclusion)
        return
    population = population_of(items, answer.strata) if uniform else items.free
    if design.get("population") != population:
        yield failed("inclusion", "rows that the design drew from", expected=population, found=design.get("population"))
        return
    if answer.strata is not None:
        codes = items.group_codes[0][answer.indices]
        wrong = np.flatnonzero(answer.strata != codes)
        if len(wrong):
            yield _off("inclusion", answer, int(wrong[0]), "kofn_stratum", int(codes[wrong[0]]), answer.strata)
            return
    if design.get("kind") != "simple":
        yield passed(
            "inclusion", f"{inclusion.min():.3g} to {inclusion.max():.3g}, all in (0, 1]; --rerun checks the rest"
        )
        return
    expected = _simple_inclusion(items, answer)
    wrong = _apart(inclusion, expected, EXACT)
    if len(wrong):
        yield _off("inclusion", answer, int(wrong[0]), "kofn_inclusion", float(expected[wrong[0]]), inclusion)
        return
    how = "picks / rows that may be picked" if answer.strata is None else "seats / rows of each group"
    yield passed("inclusion", f"{inclusion.min():.3g} to {inclusion.max():.3g}: {how}")


def _simple_inclusion(items: Items, answer: Selection) -> Doubles:
    """Picks over size of the group that each pick was drawn in; of all rows without groups."""
    codes, names = items.group_codes
    sizes = np.bincount(codes if items.have is None else codes[~items.have], minlength=len(names))
    mine = codes[answer.indices]
    seats = np.bincount(mine, minlength=len(names))
    return np.asarray(seats[mine] / sizes[mine], np.float64)


def _weight_checks(request: Request, answer: Selection, *, lifted: bool) -> Iterator[Check]:
    items, weights = request.items, answer.weights
    wrong = np.flatnonzero(~((weights > 0) & np.isfinite(weights)))
    if len(wrong):
        yield _off("weights", answer, int(wrong[0]), "kofn_weight", "more than 0 and finite", weights)
        return
    counted = request.method.cells and measures_plainly(request.method)
    recount = getattr(request.method, "recount", None)
    if not counted and not lifted and recount is not None:
        yield _recounts(recount(items, answer.indices)[0], answer)
        return
    if request.method.weights == "count" and not counted and not lifted:
        yield _cluster_check(items, answer)
        return
    expected, tolerance, how = _expected_weights(request, answer, lifted)
    wrong = _apart(weights, expected, tolerance)
    if len(wrong):
        yield _off("weights", answer, int(wrong[0]), "kofn_weight", float(expected[wrong[0]]), weights)
        return
    yield passed("weights", f"{_range(weights)}: {how}")


def _recounts(expected: Doubles, answer: Selection) -> Check:
    """Weights by a metric that the method alone can measure by."""
    wrong = _apart(answer.weights, expected, EXACT)
    if len(wrong):
        return _off("weights", answer, int(wrong[0]), "kofn_weight", float(expected[wrong[0]]), answer.weights)
    return passed(
        "weights", f"{_range(answer.weights)}: rows nearest to each pick by the method's metric, counted again"
    )


def _own_objective(request: Request, answer: Selection, stored: Any) -> Check:
    """The objective by such a metric."""
    recount = getattr(request.method, "recount", None)
    if recount is None:
        return passed("objective", f"{request.method.objective} cannot be computed again from the picks alone")
    value = recount(request.items, answer.indices)[1]
    if isinstance(stored, dict) and not _near(value, stored.get("value"), SAME):
        return failed("objective", f"{stored.get('name')}, as stored", expected=value, found=stored.get("value"))
    return passed("objective", f"mean dissimilarity of a row to its nearest pick: {value:.6g}")


def _cluster_check(items: Items, answer: Selection) -> Check:
    """Sizes of clusters cannot be counted without their centers; that they are whole and complete can be told."""
    weights, whole = answer.weights, _whole(items.row_weights)
    broken: Any = np.flatnonzero(weights != np.floor(weights)) if whole else []
    if len(broken):
        return _off("weights", answer, int(broken[0]), "kofn_weight", "a whole number of rows", weights)
    left, total = _left(items), float(weights.sum())
    slack = 0.0 if whole else EXACT * left
    if total > left + slack or (not len(items.have_rows) and total < left - slack):
        most = "at most " if len(items.have_rows) else ""
        return failed("weights", "sum of the weights", expected=f"{most}{left:,.17g}", found=total)
    beside = ", what `have` stands for left out" if len(items.have_rows) else ""
    return passed("weights", f"{_range(weights)}: sizes of clusters{beside}; --rerun counts them again")


def _expected_weights(request: Request, answer: Selection, lifted: bool) -> tuple[Doubles, float, str]:
    """What each weight must be, within which relative error, and how that is told."""
    items, method = request.items, request.method
    if method.weights == "count" or (lifted and method.weights != "equal"):
        counts = answer.weights_from(items, metric=_metric(request))
        return counts, 0.0 if _whole(counts) else EXACT, "rows nearest to each pick, counted again"
    if method.weights == "design":
        assert answer.inclusion is not None
        return shared_out(items, answer.indices, answer.inclusion), EXACT, "1 / inclusion, rescaled"
    return np.full(len(answer), _left(items) / len(answer)), EXACT, "equal shares"


def _left(items: Items) -> float:
    """Total weight of the rows that `have` does not hold."""
    return float(items.row_weights.sum() - items.row_weights[items.have_rows].sum())


def _range(weights: Doubles) -> str:
    return f"{weights.min():.6g} to {weights.max():.6g}, sum {weights.sum():,.6g}"


def _objective_checks(request: Request, answer: Selection, stored: Any) -> Iterator[Check]:
    """The figure that the method works on, computed again and held against what was stored and what the gains add up to."""
    name, items = request.method.objective, request.items
    if name is None:
        return
    if not measures_plainly(request.method):
        yield _own_objective(request, answer, stored)
        return
    objective = OBJECTIVES.get(name)
    if objective is None or (objective.needs == "scores" and items.scores is None):
        yield passed("objective", f"{name} cannot be computed again from the picks alone")
        return
    covered = items.have_rows if objective.needs == "embeddings" else items.have_rows[:0]
    rows = np.concatenate([answer.indices, covered])
    blocks = items.blocks(_metric(request)) if objective.needs == "embeddings" else None
    value = objective.value(blocks, rows, items.weights, items.scores)
    if isinstance(stored, dict) and stored.get("name") == name and not _near(value, stored.get("value"), SAME):
        yield failed("objective", f"{objective.title}, as stored", expected=value, found=stored.get("value"))
        return
    if objective.higher_is_better and answer.gains is not None and not len(items.have_rows):
        total = float(answer.gains.sum())
        if not _near(value, total, SAME):
            yield failed("objective", f"{objective.title}, as the gains add up", expected=value, found=total)
            return
    yield passed("objective", f"{objective.title}: {value:.6g}")


def _gain_checks(request: Request, answer: Selection) -> Iterator[Check]:
    method, items, gains = request.method, request.items, answer.gains
    if gains is None:
        return
    if method.objective == "total_score" and method.prefix and items.scores is not None:
        keys = -items.scores
        keys[items.have_rows] = np.inf
        wrong = np.flatnonzero(gains != items.scores[answer.indices])
        if len(wrong):
            expected = float(items.scores[answer.indices[wrong[0]]])
            yield _off("gains", answer, int(wrong[0]), "kofn_gain", expected, gains)
            return
        best = smallest(keys, len(answer))
        wrong = np.flatnonzero(best != answer.indices)
        if len(wrong):
            at = int(wrong[0])
            found = int(answer.indices[at])
            yield failed(
                "gains", f"row with the highest score left at rank {at}", row=found, expected=int(best[at]), found=found
            )
            return
        yield passed("gains", f"the {len(gains):,} highest scores, best first, {gains[0]:.6g} to {gains[-1]:.6g}")
        return
    wrong = np.flatnonzero(np.diff(gains) > SAME * np.abs(gains).max()) + 1
    if method.diminishing and len(wrong):
        at = int(wrong[0])
        yield _off("gains", answer, at, "kofn_gain", f"at most {gains[at - 1]:.6g}, the gain before it", gains)
        return
    how = ", none larger than the one before it" if method.diminishing else ""
    yield passed("gains", f"{gains[0]:.6g} first, {gains[-1]:.6g} last{how}")


def _bound_checks(request: Request, answer: Selection, *, lifted: bool) -> Iterator[Check]:
    bound = getattr(request.method, "bound", None)
    found = None if bound is None or lifted else bound(request.items, answer)
    if found is None:
        return
    sentence, value, limit = found
    if not value <= limit * (1 + SAME):
        yield failed("bound", sentence, expected=f"at most {limit:.6g}", found=value)
        return
    yield passed("bound", f"{sentence}: {value:.6g}, limit {limit:.6g}")


def _off(name: str, answer: Selection, at: int, column: str, expected: Any, values: Any) -> Check:
    row = int(answer.indices[at])
    return failed(name, f"{column} of row {row} at rank {at}", row=row, expected=expected, found=values[at].item())


def _apart(found: Doubles, expected: Doubles, tolerance: float) -> Any:
    return np.flatnonzero(~(np.abs(found - expected) <= tolerance * np.abs(expected)))


def _near(value: float, other: Any, tolerance: float) -> bool:
    return isinstance(other, int | float) and abs(value - other) <= tolerance * max(abs(value), abs(other))


def _whole(values: Doubles) -> bool:
    return bool((values == np.floor(values)).all())


def _metric(request: Request) -> str:
    return door_metric(request.method)

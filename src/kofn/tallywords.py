"""What a comparison found, in sentences and as a table of plain text."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.tally import ALL_ROWS, MAIN, UNIFORM, Enough, Figure, Summary, Tally

SHARE = 0.9
"""Share of the coverage gain that is asked for."""


def number(value: float, error: float | None = None) -> str:
    """A number with its standard error: as many decimals as the error has two digits; four digits without one."""
    if not np.isfinite(value):
        return str(value)
    if not error:
        whole = abs(value) >= 1000
        return f"{value:,.0f}" if whole else f"{value:.4g}" + (" ± 0" if error == 0.0 else "")
    places = max(0, int(1 - np.floor(np.log10(error))))
    if places > 6:
        return f"{value:.4g} ± {error:.2g}"
    return f"{value:,.{places}f} ± {error:,.{places}f}"


def finding(tally: Tally) -> str:
    """What was found at the largest k, in a sentence or two."""
    k = tally.ks[-1]
    figure = next((each for each in tally.figures if each.name == MAIN), None)
    figure = figure or next((each for each in tally.figures if each.judged and each.higher_is_better is not None), None)
    uniform = None if figure is None else tally.cell(UNIFORM, k, figure.name)
    if figure is None or uniform is None:
        return f"{len(tally.methods)} methods were compared at k = {_listed(tally.ks)}"
    found = [tally.cell(name, k, figure.name) for name in tally.methods]
    sign = -1.0 if figure.higher_is_better else 1.0
    best = min((cell for cell in found if cell is not None), key=lambda cell: sign * cell.mean)
    if best.method != UNIFORM and uniform.runs == 1:
        figures = f"{_round(best.mean)}, random rows {_round(uniform.mean)}"
        return f"At k = {k:,} {best.method} has the best {figure.title} ({figures}), but one seed does not tell it from noise"
    if best.method == UNIFORM or not tally.apart(best, uniform, figure):
        few = f"; {uniform.runs} seeds tell only large differences from it" if 1 < uniform.runs < 4 else ""
        return f"At k = {k:,} no method beats random rows in {figure.title} by more than noise{few}"
    return (
        f"At k = {k:,} {best.method} is best at {figure.title}: {_round(best.mean)}, random rows "
        f"{_round(uniform.mean)}{_change(best, uniform)}{_probe(tally, best.method, k)}"
    )


def _change(best: Summary, uniform: Summary) -> str:
    if uniform.mean == 0:
        return ""
    change = best.mean / uniform.mean - 1
    return f" ({abs(change):.0%} {'more' if change > 0 else 'less'})"


def _probe(tally: Tally, method: str, k: int) -> str:
    """What a classifier learns from the picks of the method, where it was tried."""
    name = "logistic_accuracy"
    cells = [tally.cell(each, k, name) for each in (method, UNIFORM)]
    reference = tally.reference(name)
    if cells[0] is None or cells[1] is None or reference is None:
        return ""
    return (
        f". A logistic regression on its picks is right for {cells[0].mean:.1%} of the rows set aside, on random rows for "
        f"{cells[1].mean:.1%}, on all rows for {reference:.1%}"
    )


def how_many(tally: Tally, share: float = SHARE) -> list[str]:
    """ "How many do I need?": what is meant, then a sentence a method."""
    found = tally.enough(share)
    if not found:
        return []
    ends = [cell for name in tally.methods if (cell := tally.cell(name, tally.ks[-1], MAIN)) is not None]
    best = min(ends, key=lambda cell: cell.mean)
    lead = (
        f"{share:.0%} of the coverage gain is reached at a mean distance of {_round(tally.goal(share) or 0.0)}; the gain goes "
        f"from one random row ({_round(tally.start or 0.0)}) to the best at k = {tally.ks[-1]:,} ({best.method}, "
        f"{_round(best.mean)})."
    )
    uniform = next((each for each in found if each.method == UNIFORM), None)
    said = [_needs(tally, each, uniform) for each in found]
    if any(each.kind == "between" for each in found):
        lead += " Between measured k it is interpolated."
    return [lead, *said]


def _needs(tally: Tally, each: Enough, uniform: Enough | None) -> str:
    name = "random rows (uniform)" if each.method == UNIFORM else each.method
    if each.k is None:
        return f"{name}: not reached by k = {tally.ks[-1]:,}"
    if each.kind == "at most":
        return f"{name}: at most {each.k:,.0f} rows, the smallest k measured"
    words = f"{name}: {each.k:,.0f} rows" if each.kind == "measured" else f"{name}: about {about(each.k)} rows"
    if uniform is None or each is uniform:
        return words
    if uniform.k is None:
        return f"{words}; random rows need more than {tally.ks[-1]:,}"
    if uniform.kind == "at most":
        return words
    ratio = uniform.k / each.k
    if 0.95 < ratio < 1.05:
        return f"{words}, about as many as random rows"
    if ratio < 1:
        return f"{words}; random rows need fewer, {ratio:.2g} times as many"
    return f"{words}; random rows need {ratio:.2g} times as many"


def about(k: float) -> str:
    """A count that was interpolated, to two digits."""
    places = int(np.floor(np.log10(k))) - 1
    return f"{round(k, -places):,.0f}" if places > 0 else f"{k:.0f}"


def direction(figure: Figure) -> str:
    """Which way is better, in words."""
    if figure.higher_is_better is None:
        return ""
    return "higher is better" if figure.higher_is_better else "lower is better"


def table_of(tally: Tally, figure: Figure) -> list[tuple[str, list[tuple[str, bool]]]]:
    """The rows of a metric's table: (method, [(text, whether best) for every k]); "all rows" last where it is known."""
    best = {k: found.method for k in tally.ks if (found := tally.best(figure.name, k)) is not None}
    rows = []
    for method in tally.methods:
        cells = [(k, tally.cell(method, k, figure.name)) for k in tally.ks]
        if any(cell is not None for _, cell in cells):
            rows.append((method, [(_shown(cell), best.get(k) == method) for k, cell in cells]))
    reference = tally.reference(figure.name)
    if reference is not None:
        rows.append((ALL_ROWS, [(number(reference), False)] * len(tally.ks)))
    return rows


def plain(tally: Tally) -> str:
    """The whole comparison as text; the best of a column bears a star where it differs by more than noise."""
    lines = [f"Comparison: {finding(tally)}", ""]
    for figure in tally.figures:
        rows = table_of(tally, figure)
        better = direction(figure)
        lines.append(figure.title + (f" ({better})" if better else ""))
        heads = ["", *(f"k={k:,}" for k in tally.ks)]
        body = [[name, *(text + (" *" if star else "") for text, star in cells)] for name, cells in rows]
        widths = [max(len(line[at]) for line in [heads, *body]) for at in range(len(heads))]
        lines += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [heads, *body]
        ]
        lines.append("")
    lines += _ending(tally)
    return "\n".join(lines).rstrip()


def _ending(tally: Tally) -> list[str]:
    lines = []
    needed = how_many(tally)
    if needed:
        lines += ["How many do I need?", *(f"  {line}" for line in needed), ""]
    lines += [f"not run: {name}, k = {ks}: {reason}" for name, ks, reason in failures(tally)]
    return [*lines, *footer(tally)]


def failures(tally: Tally) -> list[tuple[str, str, str]]:
    """Methods that could not choose: (method, the k as text, reason)."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for each in tally.failures:
        grouped.setdefault((each.method, each.reason), []).append(each.k)
    return [(name, _listed(sorted(set(ks))), reason) for (name, reason), ks in grouped.items()]


def footer(tally: Tally) -> list[str]:
    """How it was measured."""
    f = tally.facts
    lines = [
        f"Mean ± standard error over seeds {_listed(tally.seeds)}; a method that draws nothing is run once (no ±)."
    ]
    some = f"{f['measured']:,} of the {f['pool']:,} rows, chosen by row hash" if f["measured"] < f["pool"] else None
    what = 'distances, MMD, k-means cost and the reference "all rows"' if f.get("d") else 'the reference "all rows"'
    lines.append(
        f"Measured on {some}: {what}." if some else f"Measured on all {f['pool']:,} rows that could be chosen."
    )
    if f.get("aside"):
        judged = f" (probes are judged on {f['judged']:,} of them)" if f["judged"] < f["aside"] else ""
        lines.append(
            f"{f['aside']:,} of {f['n']:,} rows were set aside by row hash before anything was chosen{judged}; k is of the rest."
        )
    lines += list(f.get("notes", ()))
    chance = ", the rows set aside being a sample" if f.get("aside") else ""
    if len(tally.seeds) == 1:
        lines.append(
            "With one seed nothing is known of the chance in methods that draw, so they are never compared; give more."
        )
    return [
        *lines,
        "The best is marked (*, bold) where it differs from the second and from random rows by more than chance: Welch's test, "
        f"5 %{chance}.",
    ]


def _shown(cell: Summary | None) -> str:
    return "-" if cell is None else number(cell.mean, cell.error)


def _round(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _listed(values: Any) -> str:
    shown = [f"{value:,}" for value in values]
    return ", ".join(shown) if len(shown) <= 12 else f"{', '.join(shown[:10])}, ... {shown[-1]}"

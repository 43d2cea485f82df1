"""The map as a chart: the whole in grey, the picks on it, and what a point and a click say."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.page.atlas import Atlas, Points
from kofn.page.charts import Chart, Columns, _compiled, _few, _ink, _short, _source
from kofn.page.coverage import Coverage
from kofn.page.subject import Subject
from kofn.page.words import rows

TIPS = 1_200_000
"""Bytes that the texts of the points may take together."""

CUTS = (200, 120, 60)
"""Characters of a text at a point: as many as the bytes allow."""

SILENT = ("x", "y", "weight", "near")
"""Columns that no tooltip shows."""

OWN = (*SILENT, "nearest pick", "at distance", "stands for", "picture")
"""Columns that the map makes itself."""


def map_chart(subject: Subject, coverage: Coverage | None, atlas: Atlas) -> Chart:
    """The whole in grey, the picks in one colour sized by weight, rows of `have` hollow."""
    import altair as alt

    where = _axes(atlas)
    data = {
        "whole": _points(subject, atlas.whole, coverage),
        "held": _points(subject, atlas.held),
        "picks": _picks(subject, atlas),
    }
    _shorten(list(data.values()))
    largest = float(np.clip(90_000 / max(1, len(atlas.at)), 70, 480))
    heaviest = float(subject.selection.weights.max())
    narrow = "min(1, width / 640)"
    areas = {"rangeMin": alt.ExprRef(f"{largest / 12} * {narrow}"), "rangeMax": alt.ExprRef(f"{largest} * {narrow}")}
    size = alt.Size("weight:Q", legend=None, scale=alt.Scale(domain=[0, heaviest], **areas))
    dust = float(np.clip(30_000 / max(1, len(atlas.whole.rows)), 11, 22))
    lit, own = "datum.near === lit", "datum.row === lit"
    layers = [
        _source("whole")
        .mark_circle(size=alt.ExprRef(f"{dust} * {narrow}"))
        .encode(
            color=alt.condition(lit, alt.value(_ink("glow")), alt.value(_ink("rows"))),
            opacity=alt.condition(f"lit < 0 || {lit}", alt.value(0.75), alt.value(0.22)),
            size=alt.condition(
                lit, alt.value(alt.ExprRef(f"{2.6 * dust} * {narrow}")), alt.value(alt.ExprRef(f"{dust} * {narrow}"))
            ),
            tooltip=_tips(data["whole"]),
            **where,
        ),
        _source("held")
        .mark_point(size=34, strokeWidth=1.3, filled=False, color=_ink("ink"))
        .encode(tooltip=_tips(data["held"]), **where),
        _source("picks")
        .mark_circle(
            stroke=_ink("paper"),
            strokeWidth=0.8,
            color=_ink("accent"),
            cursor="default" if coverage is None else "pointer",
        )
        .encode(
            opacity=alt.condition(f"lit < 0 || {own}", alt.value(0.9), alt.value(0.3)),
            size=size,
            tooltip=_tips(data["picks"]),
            **where,
        ),
    ]
    kept = zip(layers, (atlas.whole, atlas.held, atlas.picks), strict=True)
    layers = [layer for layer, points in kept if len(points.rows)]
    chart = alt.layer(*layers).add_params(alt.param(name="lit", value=-1))
    about = f"Map of the rows: {len(atlas.picks.rows):,} picks among {len(atlas.whole.rows):,} other rows."
    return Chart("map", about, _compiled(chart, height="container"), data, "canvas")


def _axes(atlas: Atlas) -> dict[str, Any]:
    import altair as alt

    scale = alt.Scale(zero=False, nice=False, padding=12)
    if atlas.axes is None:
        return {"x": alt.X("x:Q", axis=None, scale=scale), "y": alt.Y("y:Q", axis=None, scale=scale)}
    across, up = atlas.axes
    return {
        "x": alt.X("x:Q", title=across, axis=_few(",.12~g"), scale=scale),
        "y": alt.Y("y:Q", title=up, axis=_few(",.12~g"), scale=scale),
    }


def _picks(subject: Subject, atlas: Atlas) -> Columns:
    picks = _points(subject, atlas.picks)
    weights = subject.selection.weights[atlas.at]
    picks["weight"] = [_short(w, 6) for w in weights]
    picks["stands for"] = [f"{rows(float(w))} {'row' if w == 1 else 'rows'}" for w in weights]
    return picks


def _points(subject: Subject, points: Points, coverage: Coverage | None = None) -> Columns:
    columns: Columns = {
        "x": [_short(v, 4) for v in points.place[:, 0]],
        "y": [_short(v, 4) for v in points.place[:, 1]],
    }
    described = subject.describe(points.rows)
    for name in described[0] if described else ():
        columns[_free(name)] = [each[name] for each in described]
    if coverage is not None and len(points.rows):
        order = np.argsort(coverage.rows)
        at = order[np.searchsorted(coverage.rows, points.rows, sorter=order)]
        columns["near"] = [int(row) for row in coverage.nearest[at]]
        columns["nearest pick"] = [f"row {row}" for row in coverage.nearest[at]]
        columns["at distance"] = [_short(v, 3) for v in coverage.distance[at]]
    if subject.faces.pictures:
        columns["picture"] = [subject.faces.pictures.get(int(row), "") for row in points.rows]
    return columns


def _shorten(sets: list[Columns]) -> None:
    """Cut texts alike until they are small together."""
    for most in CUTS:
        for columns in sets:
            for name, values in columns.items():
                if name not in OWN and values and isinstance(values[0], str):
                    columns[name] = [_brief(value, most) for value in values]
        texts = (value for columns in sets for name, values in columns.items() if name not in OWN for value in values)
        if sum(len(value.encode()) for value in texts if isinstance(value, str)) <= TIPS:
            return


def _brief(value: str, most: int) -> str:
    return value if len(value) <= most else value[: most - 1] + "…"


def _free(name: str) -> str:
    """A column's name that is none of the chart's own."""
    return f"{name} (column)" if name in OWN else name


def _tips(columns: Columns) -> list[Any]:
    import altair as alt

    names = [name for name in columns if name not in SILENT]
    return [alt.Tooltip(field=_escaped(name), type="nominal", title=name) for name in names]


def _escaped(name: str) -> str:
    """A field's name in which dots and brackets are no paths into nested data."""
    for sign in ("\\", ".", "[", "]"):
        name = name.replace(sign, f"\\{sign}")
    return name

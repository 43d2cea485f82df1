"""The charts as Vega specifications: drawn by Altair, compiled here; their colours and data are filled in by the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.page.coverage import Coverage, curve
from kofn.page.shares import Shares, Weighing
from kofn.page.subject import Subject
from kofn.page.words import distances, percent

INKS = ("ink", "soft", "line", "rows", "band", "accent", "glow", "paper")
"""Colours, by the names of the page's CSS variables: it sets them as signals, so that a theme can change in place."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

SHOWN = 20
"""Labels drawn at most."""

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes
    ----------
    name : str
        Of its element on the page.
    about : str
        What it shows, for those who cannot see it.
    spec : dict
        Vega, without data.
    data : dict
        Data set to columns.
    renderer : {"svg", "canvas"}
    """

    name: str
    about: str
    spec: dict[str, Any]
    data: dict[str, Columns]
    renderer: str = "svg"


def curve_chart(subject: Subject, coverage: Coverage) -> Chart:
    """Share of rows within distance r of a pick, random choices as a band behind."""
    import altair as alt

    x = alt.X("r:Q", title=f"r, {distances(subject)}", scale=alt.Scale(zero=False, nice=False))
    share: dict[str, Any] = {"axis": _percents(5), "scale": alt.Scale(domain=[0, 1])}
    tips = [
        alt.Tooltip("r:Q", format=".3~f"),
        alt.Tooltip("picks:Q", format=".1%"),
        alt.Tooltip("mean:Q", title="random", format=".1%"),
    ]
    base = _source("curve")
    layers = [
        base.mark_area(color=_ink("band")).encode(
            x=x, y=alt.Y("low:Q", title="share of rows within r of a pick", **share), y2="high:Q"
        ),
        base.mark_line(color=_ink("soft"), strokeDash=[5, 4], strokeWidth=1.5).encode(x=x, y=alt.Y("mean:Q", **share)),
        base.mark_line(color=_ink("accent"), strokeWidth=2.5).encode(x=x, y=alt.Y("picks:Q", **share)),
        base.mark_point(opacity=0, size=200).encode(x=x, y=alt.Y("picks:Q", **share), tooltip=tips),
    ]
    columns = {name: [_short(value, 5) for value in values] for name, values in curve(coverage).items()}
    return Chart(
        "within", "Share of rows within distance r of a pick.", _compiled(alt.layer(*layers)), {"curve": columns}
    )


def ladder_chart(subject: Subject, coverage: Coverage, k: int) -> Chart:
    """Mean distance against the number of random rows, and where this selection lies."""
    import altair as alt

    ladder, matched = coverage.ladder, coverage.as_good_as()
    axis = alt.Axis(values=[int(size) for size in ladder.sizes], format=",", labelOverlap="greedy")
    x = alt.X(
        "k:Q", title="rows chosen (logarithmic scale)", scale=alt.Scale(type="log", nice=False, padding=14), axis=axis
    )
    y: dict[str, Any] = {"title": f"mean {distances(subject)} to the nearest pick", "scale": alt.Scale(zero=False)}
    random, this, reach, own = _source("random"), _source("this"), _source("reach"), _source("own")
    distance = alt.Tooltip("mean:Q", title="mean distance", format=".4~g")
    tips = [alt.Tooltip("k:Q", title="random rows", format=","), distance]
    mine = [alt.Tooltip("k:Q", title="these picks", format=","), distance]
    cut = [alt.Tooltip("k:Q", title="the first picks", format=","), distance]
    layers = [
        random.mark_area(color=_ink("band")).encode(x=x, y=alt.Y("low:Q", **y), y2="high:Q"),
        random.mark_line(color=_ink("soft"), strokeDash=[5, 4], strokeWidth=1.5).encode(x=x, y=alt.Y("mean:Q", **y)),
        random.mark_circle(color=_ink("soft"), size=36, opacity=1).encode(x=x, y=alt.Y("mean:Q", **y), tooltip=tips),
        reach.mark_line(color=_ink("accent"), strokeWidth=1.5, strokeDash=[2, 3]).encode(x=x, y=alt.Y("mean:Q", **y)),
        own.mark_line(color=_ink("accent"), strokeWidth=2.5).encode(x=x, y=alt.Y("mean:Q", **y)),
        own.mark_circle(color=_ink("accent"), size=36, opacity=1).encode(x=x, y=alt.Y("mean:Q", **y), tooltip=cut),
        this.mark_circle(color=_ink("accent"), size=150, opacity=1).encode(x=x, y=alt.Y("mean:Q", **y), tooltip=mine),
    ]
    random_means = ladder.means
    columns: Columns = {
        "k": [int(size) for size in ladder.sizes],
        "mean": [_short(v) for v in ladder.mean],
        "low": [_short(v) for v in random_means.min(axis=0)],
        "high": [_short(v) for v in random_means.max(axis=0)],
    }
    ours = _short(coverage.mean)
    ends = [k, matched] if matched is not None and np.isfinite(matched) else []
    if coverage.own is None:
        del layers[4:6]
    if not ends:
        del layers[3]
    sizes, means = coverage.own or ((), ())
    data: dict[str, Columns] = {
        "random": columns,
        "own": {"k": [int(size) for size in sizes], "mean": [_short(v) for v in means]},
        "this": {"k": [k], "mean": [ours]},
        "reach": {"k": ends, "mean": [ours] * len(ends)},
    }
    about = "Mean distance to the nearest pick against the number of rows chosen at random."
    return Chart("enough", about, _compiled(alt.layer(*layers)), data)


def weights_chart(weighing: Weighing) -> Chart:
    """The weights in order."""
    import altair as alt

    ordered = weighing.ordered
    at = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), 400)).astype(np.int64))
    steep = ordered[0] > 30 * np.median(ordered)
    scale = alt.Scale(type="log", nice=False) if steep else alt.Scale(zero=True)
    axis = alt.Axis(values=_decades(ordered[-1], ordered[0]), format="~s") if steep else _few("~s")
    title = "rows that it stands for" + (" (logarithmic scale)" if steep else "")
    x = alt.X("pick:Q", title="picks, heaviest first (rank)", scale=alt.Scale(nice=False), axis=_few(",d"))
    y = alt.Y("weight:Q", title=title, scale=scale, axis=axis)
    tips = [alt.Tooltip("pick:Q", format=","), alt.Tooltip("weight:Q", title="stands for", format=",.4~g")]
    layers = [_source("weights").mark_line(color=_ink("accent"), strokeWidth=2.5).encode(x=x, y=y)]
    if not steep:
        area = _source("weights").mark_area(color=_ink("accent"), opacity=0.12).encode(x=x, y=y)
        layers.insert(0, area)
    layers.append(_source("weights").mark_point(opacity=0, size=200).encode(x=x, y=y, tooltip=tips))
    data: dict[str, Columns] = {
        "weights": {"pick": [int(i) + 1 for i in at], "weight": [_short(v, 6) for v in ordered[at]]}
    }
    return Chart("weighing", "The weights of the picks, heaviest first.", _compiled(alt.layer(*layers)), data)


def shares_chart(shares: Shares, number: int) -> Chart:
    """Share of every label in the rows and in the picks, largest gap first."""
    import altair as alt

    shown = min(SHOWN, len(shares.names))
    y = alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=150, ticks=False, domain=False, grid=True))
    x: dict[str, Any] = {
        "axis": _percents(5),
        "title": "share of rows and picks",
        "scale": alt.Scale(zero=False, padding=10),
    }
    tips = [
        alt.Tooltip("name:N", title=shares.title),
        alt.Tooltip("rows:N", title="of the rows"),
        alt.Tooltip("picks:N", title="of the picks, by weight"),
        alt.Tooltip("once:N", title="of the picks, each counted once"),
        alt.Tooltip("count:Q", title="number of picks", format=","),
    ]
    base = _source("shares")
    layers = [
        base.mark_rule(color=_ink("soft"), strokeWidth=1.5).encode(y=y, x=alt.X("whole:Q", **x), x2="picked:Q"),
        base.mark_point(color=_ink("accent"), size=60, strokeWidth=1.4, filled=False, opacity=0.9).encode(
            y=y, x=alt.X("plain:Q", **x), tooltip=tips
        ),
        base.mark_circle(color=_ink("soft"), size=70, opacity=1).encode(y=y, x=alt.X("whole:Q", **x), tooltip=tips),
        base.mark_circle(color=_ink("accent"), size=90, opacity=1).encode(y=y, x=alt.X("picked:Q", **x), tooltip=tips),
    ]
    whole, picked, plain = shares.whole[:shown], shares.picks[:shown], shares.plain[:shown]
    columns: Columns = {
        "name": _apart(shares.names[:shown]),
        "whole": [_short(v) for v in whole], "picked": [_short(v) for v in picked],
        "plain": [_short(v) for v in plain], "once": [percent(float(v)) for v in plain],
        "rows": [percent(float(v)) for v in whole], "picks": [percent(float(v)) for v in picked],
        "count": [int(v) for v in shares.counts[:shown]],
    }  # fmt: skip
    about = f"Share of each value of {shares.title} in the rows and in the picks."
    spec = _compiled(alt.layer(*layers), height=24 * shown + 8)
    return Chart(f"shares{number}", about, spec, {"shares": columns})


def _apart(names: list[str]) -> list[str]:
    """Names that differ also where they were cut alike."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    counts: dict[str, int] = {}
    out = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({counts[name]})")
    return out


def _source(name: str) -> Any:
    import altair as alt

    return alt.Chart(alt.NamedData(name))


def _ink(name: str) -> Any:
    import altair as alt

    return alt.ExprRef(name)


def _few(form: str) -> Any:
    import altair as alt

    return alt.Axis(format=form, tickCount=5, labelOverlap="greedy")


def _decades(low: float, high: float) -> list[float]:
    """1, 3, 10, 30, ... between the two; without the threes where there are many."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 3) if len(powers) <= 4 else (1,)
    return [value for power in powers for step in steps if low <= (value := step * 10.0**power) <= high]


def _percents(count: int) -> Any:
    import altair as alt

    return alt.Axis(tickCount=count, labelExpr="format(100 * datum.value, '.6~g') + '\u00a0%'", labelOverlap="greedy")


def _short(value: Any, digits: int = 5) -> float:
    return float(f"{float(value):.{digits}g}")


def _compiled(chart: Any, *, height: Any = 300) -> dict[str, Any]:
    """Vega from an Altair chart, with the page's signals and type."""
    import altair as alt
    import vl_convert

    chart = (
        chart.add_params(*(alt.param(name=ink, value="gray") for ink in INKS))
        .properties(
            width="container",
            height=height,
            background="transparent",
            padding={"left": 2, "right": 8, "top": 6, "bottom": 2},
        )
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_ink("soft"),
            titleColor=_ink("soft"),
            gridColor=_ink("line"),
            domainColor=_ink("line"),
            tickColor=_ink("line"),
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=10,
            labelPadding=6,
            ticks=False,
            domain=False,
        )
    )
    return dict(vl_convert.vegalite_to_vega(chart.to_dict()))

"""The page of a comparison: the finding, how many rows are enough, a curve and a table for every metric."""

from __future__ import annotations

from html import escape
from typing import Any

from kofn.blocks.write import write_whole
from kofn.page.charts import Chart, Columns, _compiled, _ink, _short, _source
from kofn.page.html import document, element, text
from kofn.tally import ALL_ROWS, MAIN, UNIFORM, Figure, Tally
from kofn.tallywords import SHARE, direction, failures, finding, footer, how_many, number, table_of

ENDINGS = (".html",)

COLOURS = ("#2f6bff", "#e8710a", "#12996f", "#a04be0", "#d6336c", "#0b93a8", "#a88400", "#7a6a5a")
"""For methods but uniform, in their order: seen on white and on black, and told apart with most colour blindness."""

DASHES = ([1, 0], [8, 3], [3, 3])
"""Lines past the last colour are told apart by these."""


def write_page(tally: Tally, path: str, *, force: bool = False) -> None:
    """Write the page, whole or not at all; the same bytes for the same comparison."""
    page = lay_comparison(tally).encode()
    write_whole(path, lambda file: file.write(page), force=force, endings=ENDINGS)


def lay_comparison(tally: Tally) -> str:
    """The whole page as HTML."""
    charts: list[Chart] = []
    sections = [_opening(tally), _enough(tally, charts), *(_metric(tally, each, charts) for each in tally.figures)]
    sections += [_failed(tally), _how(tally), _footer(tally)]
    return document(f"kofn: {finding(tally)}", element("main", *sections), charts)


def _opening(tally: Tally) -> str:
    f = tally.facts
    sentence, _, rest = finding(tally).partition(". ")
    ks = ", ".join(f"{k:,}" for k in tally.ks)
    lead = f"{len(tally.methods)} methods, each choosing k = {ks} of {f['pool']:,} rows."
    return element(
        "header",
        element("p", "<b>kofn</b> &nbsp;compare", css="brand"),
        text("h1", f"{sentence}."),
        text("p", f"{rest}. {lead}" if rest else lead, css="lead"),
        id="headline",
    )


def _enough(tally: Tally, charts: list[Chart]) -> str:
    said = how_many(tally)
    if not said:
        return ""
    chart = _drawn(tally, tally.figure(MAIN), "enough", tally.goal(SHARE))
    charts.append(chart)
    lines = element("ul", *(text("li", line) for line in said[1:]), css="plain")
    caption = (
        f"Dotted: {SHARE:.0%} of the coverage gain; lower is better. Between measured k, lines are straight in log k."
    )
    return element(
        "section",
        text("h2", "How many do I need?"),
        text("p", said[0]),
        lines,
        _figure(tally, chart, caption),
        id="enough-section",
    )


def _metric(tally: Tally, figure: Figure, charts: list[Chart]) -> str:
    """One metric: what it is, its curve (that of coverage is drawn above), its table."""
    better = direction(figure)
    parts = [
        text("h2", _upper(figure.title)),
        text("p", f"{_upper(figure.about)}{f' ({better})' if better else ''}.", css="soft"),
    ]
    if figure.name != MAIN or not how_many(tally):
        chart = _drawn(tally, figure, f"curve-{figure.name}")
        charts.append(chart)
        parts.append(_figure(tally, chart, "Mean over the seeds, whiskers one standard error."))
    return element("section", *parts, _table(tally, figure), id=f"metric-{figure.name}")


def _upper(words: str) -> str:
    """With a capital at the beginning; what follows, symbols among it, as it is."""
    return words[:1].upper() + words[1:]


def _figure(tally: Tally, chart: Chart, caption: str) -> str:
    marks = []
    for name in tally.methods:
        colour, _ = _look(tally, name)
        line = f"border-top-color: {colour}" if name != UNIFORM else "border-top: 2.5px dashed var(--soft)"
        marks.append(element("li", element("span", css="stroke", style=line), text("span", name)))
    if chart.data.get("whole", {}).get("mean"):
        line = "border-top: 1.5px dotted var(--ink)"
        marks.append(element("li", element("span", css="stroke", style=line), text("span", ALL_ROWS)))
    about = {"id": chart.name, "css": "chart", "role": "img", "aria-label": chart.about}
    place = element("div", text("noscript", "This chart needs JavaScript."), **about)
    return element("figure", element("ul", *marks, css="legend"), place, text("figcaption", caption))


def _table(tally: Tally, figure: Figure) -> str:
    """Numbers over their errors, so that five columns fit a narrow screen."""
    right, left = "text-align: right; width: auto; padding: 7px 0 7px 8px", "width: auto; padding-right: 4px"
    heads = element("th", style=left) + "".join(text("th", f"k = {k:,}", scope="col", style=right) for k in tally.ks)
    rows = []
    for name, cells in table_of(tally, figure):
        shown = [element("td", _cell(words, best), style=right) for words, best in cells]
        rows.append(element("tr", text("td", name, style=left), *shown))
    return element("table", element("thead", element("tr", heads)), element("tbody", *rows))


def _cell(words: str, best: bool) -> str:
    mean, _, error = words.partition(" ± ")
    inside = element("b", escape(mean)) if best else escape(mean)
    return inside + (f"<br>{text('small', f'± {error}')}" if error else "")


def _failed(tally: Tally) -> str:
    lines = [text("li", f"{name}, k = {ks}: {reason}") for name, ks, reason in failures(tally)]
    return element("section", text("h2", "What could not be run"), element("ul", *lines), id="failed") if lines else ""


def _how(tally: Tally) -> str:
    f = tally.facts
    versions = f"kofn {f.get('kofn')}, numpy {f.get('numpy')}, Python {f.get('python')}, {f.get('blas')}"
    known = [
        ("Rows", f"{f['n']:,}" + (f" of {f['d']:,} numbers" if f.get("d") else "")),
        ("Distances", str(f.get("metric"))),
        ("Seeds", ", ".join(str(seed) for seed in tally.seeds)),
        ("Versions", versions),
    ]
    return element(
        "section",
        text("h2", "How it was measured"),
        element("ul", *(text("li", line) for line in footer(tally))),
        element("dl", *(text("dt", name) + text("dd", value) for name, value in known)),
        text("h3", "To get it again"),
        element("pre", escape(str(f.get("command", "")), quote=False)),
        id="how",
    )


def _footer(tally: Tally) -> str:
    line = "This page holds all it shows and loads nothing: it can be mailed, archived and read without a network."
    return element("footer", text("p", line))


def _look(tally: Tally, method: str) -> tuple[str, list[int]]:
    """Colour and dashes of a method's line."""
    others = [name for name in tally.methods if name != UNIFORM]
    if method == UNIFORM:
        return "var(--soft)", [5, 4]
    at = others.index(method)
    return COLOURS[at % len(COLOURS)], DASHES[at // len(COLOURS) % len(DASHES)]


def _drawn(tally: Tally, figure: Figure, name: str, goal: float | None = None) -> Chart:
    """A curve a method over k, uniform in grey; with a goal, the line that is to be reached and where it is."""
    import altair as alt

    axis = alt.Axis(values=list(tally.ks), format=",", labelOverlap="greedy")
    x = alt.X(
        "k:Q",
        title="k, rows chosen (logarithmic scale)",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=axis,
    )
    y = alt.Y("mean:Q", title=figure.title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format="~g"))
    tips = [alt.Tooltip("method:N"), alt.Tooltip("k:Q", format=",d"), alt.Tooltip("shown:N", title="mean")]
    layers: list[Any] = []
    data: dict[str, Columns] = {}
    reference = tally.reference(figure.name)
    if goal is None and reference:
        data["whole"] = {"mean": [_short(reference)]}
        layers.append(_source("whole").mark_rule(color=_ink("ink"), strokeDash=[1, 3], strokeWidth=1.5).encode(y=y))
    looks = [_look(tally, method) for method in tally.methods]
    inks = [_ink("soft") if method == UNIFORM else ink for method, (ink, _) in zip(tally.methods, looks)]
    ink = alt.Color("method:N", legend=None, scale=alt.Scale(domain=tally.methods, range=inks))
    dash = alt.StrokeDash(
        "method:N", legend=None, scale=alt.Scale(domain=tally.methods, range=[each for _, each in looks])
    )
    data["runs"] = _points(tally, figure)
    base = _source("runs")
    layers += [
        base.mark_rule(strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=ink),
        base.mark_line(strokeWidth=2.2).encode(x=x, y=y, color=ink, strokeDash=dash),
        base.mark_circle(size=46, opacity=1).encode(x=x, y=y, color=ink, tooltip=tips),
    ]
    if goal is not None:
        data |= {"goal": {"mean": [_short(goal)]}, "reached": _reached(tally, goal)}
        layers.append(_source("goal").mark_rule(color=_ink("ink"), strokeDash=[2, 3], strokeWidth=1.5).encode(y=y))
        there = [alt.Tooltip("method:N"), alt.Tooltip("rows:N", title="enough")]
        marks = _source("reached").mark_point(color=_ink("ink"), size=110, strokeWidth=1.6, filled=False)
        layers.append(marks.encode(x=x, y=y, tooltip=there))
    about = f"{figure.title} against the number of rows chosen, a line a method."
    return Chart(name, about, _compiled(alt.layer(*layers)), data)


def _points(tally: Tally, figure: Figure) -> Columns:
    cells = [cell for method in tally.methods for cell in tally.curve(method, figure.name)]
    return {
        "method": [cell.method for cell in cells],
        "k": [cell.k for cell in cells],
        "mean": [_short(cell.mean) for cell in cells],
        "low": [_short(cell.mean - (cell.error or 0.0)) for cell in cells],
        "high": [_short(cell.mean + (cell.error or 0.0)) for cell in cells],
        "shown": [number(cell.mean, cell.error) for cell in cells],
    }


def _reached(tally: Tally, goal: float) -> Columns:
    found = [each for each in tally.enough(SHARE) if each.k is not None and each.kind in ("between", "measured")]
    return {
        "method": [each.method for each in found],
        "k": [_short(each.k) for each in found],
        "mean": [_short(goal) for _ in found],
        "rows": [f"about {each.k:,.0f} rows" for each in found],
    }

"""The page, section by section."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kofn.page.advice import NOT_FOR
from kofn.page.again import check, command
from kofn.page.atlas import PICKS, Atlas
from kofn.page.charts import SHOWN, Chart, curve_chart, ladder_chart, shares_chart, weights_chart
from kofn.page.coverage import Coverage, curve
from kofn.page.gallery import Gallery, show_least, show_missing, show_picks
from kofn.page.html import document, element, text
from kofn.page.mapchart import map_chart
from kofn.page.shares import Shares, Weighing
from kofn.page.subject import Subject
from kofn.page.words import (
    FEATURES,
    about,
    enough,
    halves,
    headline,
    idea,
    listed,
    number,
    own_curve,
    percent,
    plural,
    shares_in_words,
    spread,
    underline,
    unit,
    warnings,
    weights_in_words,
    within,
)
from kofn.registry import METHODS, method_class

USE = """import numpy as np
import pandas as pd

subset = pd.{read}
# an average over all rows
np.average(subset["value"], weights=subset["kofn_weight"])
# training, x and y taken from the subset
model.fit(x, y, sample_weight=subset["kofn_weight"])
"""
"""How weights are used, for whoever has never done it."""

READERS = {
    ".parquet": "read_parquet({path!r})", ".arrow": "read_feather({path!r})", ".csv": "read_csv({path!r})",
    ".jsonl": "read_json({path!r}, lines=True)",
}  # fmt: skip
"""pandas' reader of each format that keeps the weights."""


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the page shows.

    Attributes
    ----------
    subject : Subject
    coverage, atlas : or None
        None where there are no embeddings; a map can also be drawn by columns.
    gallery : Gallery
        The picks and rows that are shown one by one.
    weighing : Weighing
    shares : list of Shares
    page, out : str or None
        Where the page, and the picks, are written.
    look : dict
        Options of the page that were given, by name.
    """

    subject: Subject
    coverage: Coverage | None
    atlas: Atlas | None
    gallery: Gallery
    weighing: Weighing
    shares: list[Shares]
    page: str
    out: str | None
    look: dict[str, Any]
    charts: list[Chart] = field(default_factory=list)

    @property
    def k(self) -> int:
        """Number of picks."""
        return len(self.subject.selection)

    def figure(
        self, chart: Chart, caption: str, legend: list[tuple[str, str]], css: str = "chart", below: str = ""
    ) -> str:
        """A chart with its legend, as (class of the mark, words), and its caption; keeps the chart for the script."""
        self.charts.append(chart)
        marks = [element("li", element("span", css=mark), text("span", words)) for mark, words in legend]
        place = element(
            "div",
            text("noscript", "This chart needs JavaScript."),
            id=chart.name,
            css=css,
            role="img",
            **{"aria-label": chart.about},
        )
        return element("figure", element("ul", *marks, css="legend"), place, below, text("figcaption", caption))


def lay_page(found: Findings) -> str:
    """The whole page as HTML."""
    sections = [
        _opening(found), _map(found), show_picks(found.subject, found.gallery), _lost(found), _how_many(found), _shares(found),
        _weights(found), _method(found), _footer(found),
    ]  # fmt: skip
    title = headline(found.subject, found.coverage)
    return document(f"kofn: {title}", element("main", *sections), found.charts)


def _opening(found: Findings) -> str:
    subject, coverage = found.subject, found.coverage
    notes = warnings(subject, coverage, found.weighing, found.shares)
    what = f"<b>kofn</b> &nbsp;{_escaped(subject.data)}" if subject.data else "<b>kofn</b>"
    return element(
        "header",
        element("p", what, css="brand"),
        text("h1", f"{headline(subject, coverage)}."),
        text("p", underline(subject, coverage), css="lead"),
        element("div", *(_tile(*each) for each in _tiles(found)), css="tiles"),
        element("ul", *(text("li", note) for note in notes), css="warnings") if notes else "",
        id="headline",
    )


def _tiles(found: Findings) -> list[tuple[str, str, str]]:
    subject, coverage, k = found.subject, found.coverage, found.k
    old = f", beside {int(subject.have.sum()):,} you had" if subject.have is not None else ""
    tiles = [("picks", f"{k:,}", f"of {subject.n:,} rows ({percent(k / subject.n)}){old}")]
    if coverage is not None:
        means, radii = coverage.random_means, coverage.random_radii
        beside = f"{plural(k, 'random row')}: {number(float(means.mean()))}"
        tiles.append(("mean distance of a row to its nearest pick", number(coverage.mean), beside))
        beside = f"{plural(k, 'random row')}: {number(float(radii.mean()))}"
        tiles.append(("radius: the farthest row from any pick", number(coverage.radius), beside))
    else:
        tiles.append(
            ("effective sample size", f"{found.weighing.effective:,.0f}", f"of {plural(k, 'pick')}, by their weights")
        )
    values = (
        (f"values of {each.title} with a pick", f"{each.covered:,} of {len(each.names):,}", each)
        for each in found.shares
    )
    return tiles + [(name, value, _missing(each)) for name, value, each in values]


def _missing(shares: Shares) -> str:
    return f"without: {listed(shares.missing, 2)}" if shares.missing else "none is left out"


def _tile(name: str, value: str, beside: str) -> str:
    parts = (text("div", name, css="name"), text("div", value, css="value"), text("div", beside, css="beside"))
    return element("div", *parts, css="tile")


def _map(found: Findings) -> str:
    subject, coverage, atlas = found.subject, found.coverage, found.atlas
    if atlas is None:
        return ""
    legend = [("dot", "picks, larger where they stand for more rows"), ("dot rows", "other rows")]
    if len(atlas.held.rows):
        legend.append(("dot held", "rows you had"))
    if coverage is not None:
        legend.append(("dot glow", "rows nearest to a pick that is clicked"))
    drawn = [f"{len(atlas.whole.rows):,} other rows"]
    if len(atlas.picks.rows) < found.k:
        which = ", the heaviest" if found.k > PICKS else ""
        drawn.insert(0, f"{len(atlas.picks.rows):,} of {found.k:,} picks{which}")
    else:
        drawn.insert(0, f"all {found.k:,} picks" if found.k > 1 else "the pick")
    caption = f"Drawn: {' and '.join(drawn)}. {atlas.how} Hover or tap for what a point is."
    chart = map_chart(subject, coverage, atlas)
    click = "Click a pick to light up the rows that it stands for."
    lit = text("p", click, id="lit", **{"aria-live": "polite"}) if coverage is not None else ""
    figure = found.figure(chart, caption, legend, "chart map", lit)
    return element("section", text("h2", "What was kept"), figure, id="map-section")


def _lost(found: Findings) -> str:
    """What the picks do not stand for: the least covered rows, distances beside random rows, values without a pick."""
    subject, coverage = found.subject, found.coverage
    missing = show_missing(found.shares)
    if coverage is None:
        lead = text("p", "No embeddings were given, so only labels and groups can be missed.", css="soft")
        return element("section", text("h2", "What was lost"), lead, missing, id="lost") if missing else ""
    low, high = _draws(coverage)
    legend = [("stroke", "these picks"), ("stroke random", f"{plural(found.k, 'random row')}: mean and range of {low}")]
    caption = (
        f"The share of rows that have a pick within r; higher is better. Seeds of the draws: {high}. {unit(subject)}"
    )
    parts = [
        text("p", within(curve(coverage, 2000), found.k)),
        found.figure(curve_chart(subject, coverage), caption, legend),
        text("h3", f"The {len(found.gallery.least)} least covered rows, each beside its nearest pick"),
        show_least(subject, coverage, found.gallery),
    ]
    if missing:
        parts += [text("h3", "Labels and groups without a pick"), missing]
    return element("section", text("h2", "What was lost"), *parts, id="lost")


def _draws(coverage: Coverage) -> tuple[str, str]:
    return f"{len(coverage.seeds)} draws", ", ".join(str(seed) for seed in coverage.seeds)


def _how_many(found: Findings) -> str:
    coverage = found.coverage
    if coverage is None:
        return ""
    matched = coverage.as_good_as()
    legend = [("dot", f"these {plural(found.k, 'pick')}"), ("stroke random", "random rows: mean and range")]
    if coverage.own is not None:
        legend.insert(1, ("stroke", "the first of these picks, as a smaller k would choose them"))
    caption = "Lower is better."
    if matched is not None and np.isfinite(matched):
        caption += f" The dotted line leads to the number of random rows that come as close: about {about(matched)}."
    return element(
        "section",
        text("h2", "How many would have been enough"),
        text("p", f"{enough(coverage, found.k)} {halves(coverage.ladder)}"),
        text("p", other) if (other := own_curve(found.subject, coverage)) else "",
        found.figure(ladder_chart(found.subject, coverage, found.k), f"{caption} {unit(found.subject)}", legend),
        id="enough-section",
    )


def _weights(found: Findings) -> str:
    weighing = found.weighing
    parts = [text("h2", "How much each pick counts"), text("p", weights_in_words(weighing))]
    if not weighing.equal:
        parts.append(element("pre", _escaped(_use(found.out))))
        parts.append(found.figure(weights_chart(weighing), "Every pick's weight, heaviest first.", []))
    if found.subject.selection.inclusion is not None:
        written = (
            found.out if found.out is not None and found.out.endswith((".parquet", ".arrow")) else "subset.parquet"
        )
        said = (
            "The chance of every pick is known, so a value measured on the picks tells of all rows, with an interval:"
        )
        parts += [
            text("p", said),
            element("pre", _escaped(shlex.join(["kofn", "estimate", written, "--value", "COL"]))),
        ]
    return element("section", *parts, id="weights")


def _use(out: str | None) -> str:
    path = out if out is not None and out.endswith(tuple(READERS)) else "subset.parquet"
    read = READERS[path[path.rindex(".") :]].format(path=path)
    return USE.format(read=read).rstrip()


def _shares(found: Findings) -> str:
    if not found.shares:
        return ""
    parts = [text("h2", "Fairness: who is in, and how often")]
    for at, each in enumerate(found.shares):
        legend = [
            ("dot soft", "share of the rows"), ("dot", "share of the picks, by weight"),
            ("dot hollow", "share of the picks, each counted once"),
        ]  # fmt: skip
        caption = "Largest gap first."
        if len(each.names) > SHOWN:
            caption += f" The {SHOWN} largest gaps of {len(each.names):,} values are drawn."
        if found.subject.have is not None:
            caption += " Rows you had are left out on both sides."
        parts += [
            text("h3", f"By {each.title}"),
            text("p", shares_in_words(each)),
            found.figure(shares_chart(each, at), caption, legend),
        ]
    return element("section", *parts, id="shares")


def _method(found: Findings) -> str:
    subject, p = found.subject, found.subject.selection.provenance
    parts = [text("h2", f"The method: {subject.method}"), *(_paragraph(each) for each in idea(subject))]
    run = p.get("run", {})
    if run.get("guarantee"):
        parts.append(
            text("p", f"It was run on parts ({run['mode']}); what is left of the guarantee: {run['guarantee']}.")
        )
    if subject.method in NOT_FOR:
        parts.append(
            element("p", text("b", "When not to use it."), " ", text("span", f"{_upper(NOT_FOR[subject.method])}."))
        )
    paper = method_class(subject.method).paper if subject.method in METHODS else None
    if paper is not None:
        cited = f"{paper.authors.replace(' and ', ', ')}: {paper.title}. {paper.venue}, {paper.year}."
        link = (
            element("a", "Read it", href=paper.url, rel="noreferrer noopener")
            if paper.url.startswith("https://")
            else ""
        )
        parts.append(element("p", text("span", f"Paper: {cited}"), " ", link))
    parts += [
        text("h3", "To get it again"),
        element("pre", _escaped(command(subject, found.out, found.page, found.look)), id="again"),
        element("dl", *(text("dt", name) + text("dd", value) for name, value in _circumstances(subject))),
        text("h3", "Check it"),
        text(
            "p",
            "It counts the weights and the objective again from the data; rerun also chooses again and compares bit for bit.",
        ),
        element("pre", _escaped(check(subject, found.out)), id="check"),
    ]
    return element("section", *parts, id="method")


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _paragraph(plain: str) -> str:
    """A paragraph of a docstring; a leading "Guarantee:" in bold, the line of facts small."""
    lead, colon, rest = plain.partition(": ")
    if not colon or " " in lead:
        return text("p", plain)
    return (
        text("p", plain, css="soft")
        if lead == "Needs"
        else element("p", text("b", f"{lead}."), " ", text("span", rest))
    )


def _circumstances(subject: Subject) -> list[tuple[str, str]]:
    p = subject.selection.provenance
    settings = ", ".join(f"{name} = {value}" for name, value in sorted(p.get("parameters", {}).items()))
    known = [
        ("Seed", p.get("seed")),
        ("Parameters", settings),
        ("Data", f"{subject.n:,} rows" + (f" of {subject.d:,} numbers" if subject.d else "")),
        (
            "Features",
            next((note for note in p.get("notes", []) if note.startswith(FEATURES)), "").removeprefix(FEATURES).strip(),
        ),
        ("Fingerprint", p.get("data", {}).get("fingerprint")),
        ("Versions", f"kofn {p['kofn']}, numpy {p['numpy']}, {p['blas']}" if "kofn" in p else None),
        ("How", p.get("run", {}).get("mode")),
    ]
    return [(name, str(value)) for name, value in known if value not in (None, "")]


def _footer(found: Findings) -> str:
    subject, coverage = found.subject, found.coverage
    lines = []
    if coverage is not None:
        m = len(coverage.rows)
        if m < subject.n:
            lines.append(
                f"Distances, shares within r, the radius and the least covered rows are measured on {m:,} of the {subject.n:,} "
                "rows, chosen by row hash; weights and shares of labels are counted on all rows."
            )
        else:
            lines.append(f"Everything is measured on all {subject.n:,} rows.")
        lines.append(
            f"Random rows are those that the method uniform draws with seeds {_draws(coverage)[1]}; their mean distances at "
            f"k = {found.k:,} run from {spread(coverage.random_means)}."
        )
    lines.append(
        "This page holds all it shows and loads nothing: it can be mailed, archived and read without a network."
    )
    return element("footer", *(text("p", line) for line in lines))


def _escaped(plain: str | None) -> str:
    from html import escape

    return escape(plain or "", quote=False)

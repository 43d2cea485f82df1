"""The picks and the least covered rows, shown as people know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.block import Rows
from kofn.page.coverage import Coverage
from kofn.page.html import element, table, text
from kofn.page.shares import Shares
from kofn.page.subject import Subject
from kofn.page.words import first_in_words, listed, number, percent, plural, rows

SHOWN = 24
"""Picks that are shown of each kind: the heaviest, and the first by rank."""

LEAST = 12
"""Rows named among the least covered."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """What is shown one by one.

    Attributes
    ----------
    heaviest, first : int64 (<= SHOWN,)
        Positions in the selection; no heaviest where all weigh the same, no first where the heaviest are all there are.
    farthest : dict
        Pick's row number to (row number, distance) of the farthest row that it represents; empty without vectors.
    least : int64 (<= LEAST,)
        Positions among the measured rows, farthest first.
    """

    heaviest: Rows
    first: Rows
    farthest: dict[int, tuple[int, float]]
    least: Rows

    def named(self, subject: Subject, coverage: Coverage | None) -> Rows:
        """The row numbers of all that is shown, the most important first."""
        picks = subject.selection.indices[np.concatenate([self.heaviest, self.first])]
        far = [self.farthest[int(row)][0] for row in picks if int(row) in self.farthest]
        lost = [] if coverage is None else [coverage.rows[self.least], coverage.nearest[self.least]]
        return np.concatenate([picks, *lost, np.array(far, np.int64)]).astype(np.int64)


def choose(subject: Subject, coverage: Coverage | None, *, equal: bool) -> Gallery:
    """Which picks and rows are shown."""
    weights, k = subject.selection.weights, len(subject.selection)
    none = np.zeros(0, np.int64)
    heaviest = none if equal else np.argsort(-weights, kind="stable")[:SHOWN]
    first = none if len(heaviest) == k else np.arange(min(SHOWN, k))
    farthest = coverage.farthest() if coverage is not None else {}
    return Gallery(heaviest, first, farthest, none if coverage is None else coverage.worst(LEAST))


def show_picks(subject: Subject, gallery: Gallery) -> str:
    """The section of the picks."""
    k = len(subject.selection)
    parts = [text("h2", "The picks"), *(text("p", note, css="soft") for note in subject.faces.notes())]
    if len(gallery.heaviest):
        many = f"All {plural(k, 'pick')}, heaviest first" if len(gallery.heaviest) == k else f"The {SHOWN} heaviest"
        parts += [text("h3", many), _cards(subject, gallery, gallery.heaviest)]
    if len(gallery.first):
        title = f"All {plural(k, 'pick')}" if k <= SHOWN else f"The first {SHOWN} in the order of picking"
        said = text("p", first_in_words(subject), css="soft")
        cards = _cards(subject, gallery, gallery.first)
        if len(gallery.heaviest):
            parts.append(element("details", text("summary", title), said, cards))
        else:
            parts += [text("h3", title), said, cards]
    return element("section", *parts, id="picks")


def _cards(subject: Subject, gallery: Gallery, at: Rows) -> str:
    picks = subject.selection.indices[at]
    far = [gallery.farthest.get(int(row)) for row in picks]
    described = subject.describe(picks)
    beyond = subject.describe(np.array([each[0] for each in far if each is not None], np.int64))
    following = iter(beyond)
    cards = []
    for position, face, away in zip(at, described, far, strict=True):
        weight = float(subject.selection.weights[position])
        parts = [
            _face(subject, face),
            element("p", "stands for ", text("b", f"{rows(weight)} {'row' if weight == 1 else 'rows'}"), css="stands"),
        ]
        if away is not None:
            parts.append(_farthest(subject, next(following), away[1]))
        cards.append(element("li", *parts))
    css = "cards pictured" if subject.faces.pictures else "cards" if subject.faces.texts else "cards bare"
    return element("ol", *cards, css=css)


def _farthest(subject: Subject, face: dict[str, Any], distance: float) -> str:
    lead = text("small", f"farthest of the rows nearest to it, {number(distance)} away")
    return element("div", lead, _face(subject, face, small=True), css="far")


def _face(subject: Subject, row: dict[str, Any], *, small: bool = False) -> str:
    """A row: its picture, its text, and whatever else it is called."""
    picture = subject.faces.pictures.get(row["row"])
    title = subject.show.title if subject.show is not None else None
    said = str(row.get(title, "")) if title is not None else ""
    known = {name: str(value) for name, value in row.items() if name not in ("row", title)}
    known = {name: value for name, value in known.items() if value != str(row["row"])}
    rest = [f"{name} {value}" if _is_bare(value) else value for name, value in known.items() if value]
    parts = (
        [element("img", src=picture, alt=f"row {row['row']}", css="pixels" if _has_pixels(subject) else "")]
        if picture
        else []
    )
    if said:
        parts.append(text("span", said, css="said"))
    parts.append(text("small", " · ".join([f"row {row['row']:,}", *rest])))
    return element("div", *parts, css="face small" if small else "face")


def _is_bare(value: str) -> bool:
    """Whether a value is a number that says nothing without its column's name."""
    return value.removeprefix("-").replace(".", "", 1).isdigit() or value in ("True", "False", "(none)")


def _has_pixels(subject: Subject) -> bool:
    return subject.show is not None and subject.show.kind == "pixels"


def show_least(subject: Subject, coverage: Coverage, gallery: Gallery) -> str:
    """The least covered rows beside their nearest picks: as a table, or where rows are pictures side by side."""
    lost = subject.describe(coverage.rows[gallery.least])
    near = subject.describe(coverage.nearest[gallery.least])
    nearest = "nearest pick" if subject.have is None else "nearest pick or row you had"
    if subject.faces.pictures:
        pairs = zip(gallery.least, lost, near, strict=True)
        cards = [
            element(
                "li",
                _face(subject, row),
                element("p", "distance", text("b", number(float(coverage.distance[at]))), css="stands"),
                element("div", text("small", f"its {nearest}"), _face(subject, pick, small=True), css="far"),
            )
            for at, row, pick in pairs
        ]
        return element("ol", *cards, css="cards pictured")
    cells = [
        [_face(subject, row), number(float(coverage.distance[at])), _face(subject, pick)]
        for at, row, pick in zip(gallery.least, lost, near, strict=True)
    ]
    return table([("least covered row", ""), ("distance", "figure"), (nearest, "")], cells)


def show_missing(shares: list[Shares]) -> str:
    """Labels and groups without a pick, by name and with their share of the rows."""
    lines = []
    for each in shares:
        if not each.missing:
            continue
        whole = dict(zip(each.names, each.whole, strict=True))
        named = [f"{name} ({percent(float(whole[name]))} of the rows)" for name in each.missing]
        verb = "has" if len(each.missing) == 1 else "have"
        lines.append(
            f"{len(each.missing):,} of {len(each.names):,} values of {each.title} {verb} no pick: {listed(named, SHOWN)}."
        )
    return "".join(text("p", line) for line in lines)

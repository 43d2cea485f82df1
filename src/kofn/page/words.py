"""The page's sentences: what was found, in words and with the reader's own numbers."""

from __future__ import annotations

from inspect import getdoc
from typing import Any

import numpy as np

from kofn.core.block import Doubles
from kofn.core.objectives import OBJECTIVES
from kofn.page.coverage import Coverage, Ladder
from kofn.page.shares import Shares, Weighing
from kofn.page.subject import Subject
from kofn.registry import METHODS, method_class

NARROW = "\u00a0"
"""A space that does not break: a number stays with its unit."""

ALIKE = 1.1
"""A choice that N random rows match is told from one that k match when N is k times at least this."""


FEATURES = "features:"
"""How the note begins that says which columns became the vectors: no warning."""


def number(value: float) -> str:
    """Three significant digits, with thousands separators."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{min(digits, 12)}f}"


def about(value: float) -> str:
    """Two significant digits, for what was read off a curve."""
    scale = 10.0 ** (int(np.floor(np.log10(value))) - 1)
    return f"{round(round(value / scale) * scale):,}"


def percent(share: float) -> str:
    """A share in percent: whole from 10 up, else two significant digits."""
    value = 100 * share
    if value == 0 or value >= 10:
        return f"{value:.0f}{NARROW}%"
    return f"{value:.1f}{NARROW}%" if value >= 1 else f"{value:.2g}{NARROW}%"


def rows(weight: float) -> str:
    """How many rows a pick stands for: whole where it is whole."""
    return f"{round(weight):,}" if abs(weight - round(weight)) < 1e-6 * weight or weight >= 1000 else number(weight)


def plural(count: int, one: str) -> str:
    """A counted noun: 1 pick, 2 picks."""
    return f"{count:,} {one if count == 1 else one + 's'}"


def listed(names: list[str], most: int = 6) -> str:
    """Names in a row, the rest counted."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def headline(subject: Subject, coverage: Coverage | None) -> str:
    """What the page has to say, in one sentence."""
    k, n = f"{len(subject.selection):,}", f"{subject.n:,}"
    stand = "stands" if len(subject.selection) == 1 else "stand"
    if coverage is None:
        return f"{k} of {n} rows, chosen by {subject.method}"
    if len(subject.selection) == subject.free and subject.bad is None:
        return f"All {k} rows were kept" if subject.have is None else f"All {k} rows that you did not have were kept"
    if subject.method == "uniform":
        kind = "by chance alone" if subject.selection.strata is None else "by chance, group by group"
        return f"{k} of {n} rows, drawn {kind}"
    matched = coverage.as_good_as()
    if matched is None or matched < ALIKE * len(subject.selection):
        better = matched is not None and matched > len(subject.selection) / ALIKE
        how = "which cover the rest no better than" if better else "on average farther from the rest than"
        return f"{k} of {n} rows, {how} random rows{_aim(subject)}"
    if matched == float("inf"):
        return f"{k} of {n} rows {stand} for the rest better than {coverage.ladder.sizes[-1]:,} chosen at random"
    return f"{k} of {n} rows {stand} for the rest as well as about {about(matched)} chosen at random"


def underline(subject: Subject, coverage: Coverage | None) -> str:
    """The measurement behind the headline."""
    if coverage is None:
        return f"{summary(subject)} No embeddings were given, so distances between rows are not measured."
    k, means = len(subject.selection), coverage.random_means
    nearest = "its nearest pick"
    if subject.have is not None:
        nearest = f"the nearest of the picks and the {plural(int(subject.have.sum()), 'row')} you had"
    drawn = plural(k, "random row" if subject.method != "uniform" else "other random row")
    return (
        f"On average a row is {number(coverage.mean)} away from {nearest}. With {drawn} it is "
        f"{number(float(means.mean()))} (mean of {len(means)} draws, {number(means.min())} to {number(means.max())})."
    )


def summary(subject: Subject) -> str:
    """What the method keeps, as a sentence."""
    if subject.method not in METHODS:
        return f"Chosen by {subject.method}."
    text = method_class(subject.method).summary
    return f"{text[0].upper()}{text[1:]}."


def enough(coverage: Coverage, k: int) -> str:
    """How many random rows do as well."""
    matched, ladder = coverage.as_good_as(), coverage.ladder
    if matched is None:
        return f"Even {int(ladder.sizes[0]):,} random rows lie closer to the rest on average than these {k:,} picks."
    if matched == float("inf"):
        return f"These {k:,} picks lie closer to the rest than {int(ladder.sizes[-1]):,} random rows, the most that were tried."
    if k / ALIKE < matched < ALIKE * k:
        return f"These {k:,} picks are as close to the rest as {k:,} random rows: on this measure nothing is gained or lost."
    return f"These {k:,} picks are as good as about {about(matched)} at random."


def halves(ladder: Ladder) -> str:
    """How fast more random rows help."""
    means, sizes = ladder.mean, ladder.sizes
    if len(sizes) < 2 or means[0] == 0:
        return ""
    saved = 1 - means[-1] / means[0]
    return (
        f"For scale: going from {sizes[0]:,} to {sizes[-1]:,} random rows lowers the mean distance by {percent(saved)}."
    )


AIMS = {
    "thinning": "averages over all rows",
    "herding": "averages over all rows",
    "coreset": "the cost of clusterings",
    "leverage": "linear fits",
    "sensitivity": "unbiased estimates",
}
"""What methods are for that are not made to cover: the page measures coverage."""


def _aim(subject: Subject) -> str:
    aim = AIMS.get(subject.method)
    return "" if aim is None else f"; {subject.method} is for {aim}, which this page does not measure"


def own_curve(subject: Subject, coverage: Coverage) -> str:
    """What is known of this method at other k."""
    if coverage.own is None:
        if subject.prefix or subject.method not in METHODS:
            return ""
        again = f"kofn compare {subject.data or 'DATA'} -k K,K,K --methods {subject.method}"
        return f"For another k this method picks other rows; its curve costs a run for each k: `{again}`."
    sizes, means = coverage.own
    fewer = [f"{number(mean)} with {size:,}" for size, mean in zip(sizes, means) if size < sizes[-1]]
    return f"With fewer picks by this method the mean distance is {', '.join(fewer[-2:])}." if fewer else ""


def within(shares: dict[str, Any], k: int) -> str:
    """Read the curve at the distance that half of the rows are within."""
    at = int(np.searchsorted(shares["picks"], 0.5))
    at = min(at, len(shares["r"]) - 1)
    picks, mean, low, high = (percent(float(shares[name][at])) for name in ("picks", "mean", "low", "high"))
    return (
        f"{picks} of the rows lie within {number(float(shares['r'][at]))} of a pick; with {plural(k, 'random row')} "
        f"{mean} do (between {low} and {high} over the draws)."
    )


def weights_in_words(weighing: Weighing) -> str:
    """What the weights mean for whoever uses the picks."""
    k, ordered = len(weighing.ordered), weighing.ordered
    if weighing.equal:
        return f"Every pick counts the same: each stands for {rows(float(ordered[0]))} rows, so they can be used without weights."
    few = (
        ""
        if len(ordered) < 10
        else f"The heaviest {weighing.few:,} account for {percent(weighing.share)} of the rows. "
    )
    return (
        f"The heaviest pick stands for {rows(float(ordered[0]))} rows, the lightest for {rows(float(ordered[-1]))}. {few}"
        f"A weighted average over the {k:,} picks is as steady as a plain one over about "
        f"{weighing.effective:,.0f} (the effective sample size). "
        "Use `kofn_weight` as the sample weight when you train or average; without it, rare rows count too much:"
    )


def shares_in_words(shares: Shares) -> str:
    """How far the picks' shares are from the rows'."""
    gap = float(shares.picks[0] - shares.whole[0])
    if abs(gap) < 5e-4:
        return "The picks, counted with their weights, show every value as often as the rows do."
    word = "more" if gap > 0 else "less"
    once = (
        ""
        if abs(shares.apart_plain - shares.apart) < 5e-4
        else f" (each pick counted once: {percent(shares.apart_plain)})"
    )
    return (
        f"Counted with their weights, the picks put {percent(shares.apart)} of their mass{once} on other values than the rows "
        "do. "
        f"The largest gap: {shares.names[0]} makes up {percent(float(shares.whole[0]))} of the rows and "
        f"{percent(float(shares.picks[0]))} of the picks, {word} than its share."
    )


def warnings(subject: Subject, coverage: Coverage | None, weighing: Weighing, shares: list[Shares]) -> list[str]:
    """What the reader must not miss."""
    k, found = len(subject.selection), []
    if k >= 4 and weighing.few <= max(1, k // 10):
        verb = "stands" if weighing.few == 1 else "stand"
        found.append(f"{plural(weighing.few, 'pick')} {verb} for {percent(weighing.share)} of the rows.")
    for each in shares:
        if each.missing:
            verb = "has" if len(each.missing) == 1 else "have"
            found.append(
                f"{len(each.missing):,} of {len(each.names):,} values of {each.title} {verb} no pick: {listed(each.missing)}."
            )
    if coverage is not None:
        if coverage.twins:
            verb = "is an exact duplicate" if coverage.twins == 1 else "are exact duplicates"
            found.append(f"{plural(coverage.twins, 'pick')} {verb} of an earlier pick.")
        if coverage.copies:
            found.append(_copies(subject, coverage))
        if _aims_at_distance(subject) and k < subject.free and coverage.mean >= coverage.random_means.min():
            found.append("On average these picks are no closer to the rows than random picks.")
    if subject.bad is not None and subject.selection.provenance.get("reading", {}).get("invalid") != "drop":
        found.append(f"{int(subject.bad.sum()):,} rows hold NaN, infinity or null; distances leave them out.")
    notes = [note for note in subject.selection.provenance.get("notes", []) if note and not note.startswith(FEATURES)]
    found.extend(f"{note[0].upper()}{note[1:]}." for note in notes)
    return found + _other_metric(subject) + subject.asides


def _other_metric(subject: Subject) -> list[str]:
    """That the page measures by another metric than the method, where it does."""
    named = subject.selection.provenance.get("parameters", {}).get("metric")
    if named in (None, "euclidean", "cosine"):
        return []
    of = "rows of the matrix" if named == "precomputed" else "rows"
    what = "dissimilarities that were given" if named == "precomputed" else f"the metric {named}"
    return [f"The picks were chosen by {what}; this page measures Euclidean distances between {of}."]


def _copies(subject: Subject, coverage: Coverage) -> str:
    verb = "is an exact duplicate" if coverage.copies == 1 else "are exact duplicates"
    m = len(coverage.rows)
    among = f"the {m:,} rows" if m == subject.n else f"the {m:,} rows that were measured (of {subject.n:,})"
    alike = " in direction" if subject.selection.metric == "cosine" else ""
    return f"{coverage.copies:,} of {among} {verb}{alike} of an earlier one; each copy counts as a row."


def _aims_at_distance(subject: Subject) -> bool:
    if subject.method not in METHODS:
        return False
    objective = OBJECTIVES.get(method_class(subject.method).objective or "")
    return objective is not None and objective.covers


def idea(subject: Subject) -> list[str]:
    """The method in words: the paragraphs of its docstring."""
    if subject.method not in METHODS:
        return [f"{subject.method} is not one of kofn's own methods; ask whoever made the selection."]
    cls = method_class(subject.method)
    return [" ".join(part.split()) for part in (getdoc(cls) or "").split("\n\n") if part.strip()]


def distances(subject: Subject) -> str:
    """What a distance is, for axes."""
    return "distance (of unit vectors)" if subject.selection.metric == "cosine" else "distance (Euclidean)"


def unit(subject: Subject) -> str:
    """What a distance is measured in, as a sentence."""
    if subject.selection.metric == "cosine":
        return "Distances are those of vectors made one long, from 0 to 2: the square is twice one minus the cosine."
    features = subject.source.embedding if subject.source.has_features else None
    if features is not None:
        return f"Distances are Euclidean, over {len(features.columns):,} columns that were standardised or one-hot."
    return "Distances are Euclidean, in units of the data."


def first_in_words(subject: Subject) -> str:
    """What the order of picking means."""
    if subject.prefix:
        return "The first so many of the picks are what this method picks for a smaller k."
    if subject.method not in METHODS:
        return "In the order in which the method gave them."
    return "The method chooses all at once: their order is not one of importance."


def spread(values: Doubles) -> str:
    """Lowest and highest, as "0.740 to 0.744"."""
    return f"{number(float(values.min()))} to {number(float(values.max()))}"

"""When not to use a method, in a sentence each: what its class does not say of itself."""

from __future__ import annotations

NOT_FOR = {
    "uniform": (
        "when rare kinds of rows must be seen and no column names the groups (`hierarchical`), or when every row should have a "
        "pick close by (`facility`, `kmeans`)"
    ),
    "top": (
        "when the highest scores are near copies of one another: draw in proportion to the score (`uniform` with a score), or "
        "spread the picks by distance (`facility`) among the best rows"
    ),
    "facility": (
        "above some 100,000 rows: the work grows with their square (`kmeans`, `sensitivity`); when no row may be far from "
        "a pick (`kcenter`) or rare kinds count as much as common ones (`hierarchical`)"
    ),
    "kmeans++": (
        "for the best cover of overlapping data, where it is hardly better than random rows: run `kmeans`, which begins with it"
    ),
    "kmeans": (
        "when k is close to n (`facility`), when rare kinds matter as much as common ones (`hierarchical`), or when no row may "
        "be far from a pick (`kcenter`); columns of very different spread must be standardised first"
    ),
    "sensitivity": (
        "to estimate a mean that has little to do with how far a row is from the others: there `uniform` has the smaller error"
    ),
    "thinning": (
        "when rare kinds must be in (`hierarchical`) or no row may be far from a pick (`kcenter`): averages do not see them; "
        "when an interval is wanted (`uniform`); with hundreds of independent dimensions it gains less"
    ),
    "herding": (
        "above some 100,000 rows, or when the last bit of accuracy counts: `thinning` swaps picks afterwards, herding never "
        "takes one back"
    ),
    "coreset": (
        "when clusters hardly differ in size and spread: uniform rows keep the cost of clusterings about as well (`uniform`); "
        "when single rows matter for what they are (`kmeans`, `facility`); for active learning's core-set method (`kcenter`)"
    ),
    "leverage": (
        "to estimate plain means (`uniform`), or to fit anything but a linear model of the columns as they stand (`sensitivity`)"
    ),
    "hierarchical": (
        "when the picks should mirror the data (`uniform`, `kmeans`): it lifts what is rare, and what is compact among the "
        "vectors gets few seats"
    ),
    "kmedoids": (
        "when a smaller k shall begin a larger one (`facility`), or squared distances between many vectors are meant (`kmeans`)"
    ),
    "kcenter": (
        "for rows that stand for the typical (`kmeans`, `facility`): it prefers the unusual, and without `outliers` its first "
        "picks are often errors in the data"
    ),
}
"""Every method of the registry."""

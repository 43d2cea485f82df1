"""A metric: a number about a selection, with its name, its unit and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kofn.check.context import Context
from kofn.errors import UsageError
from kofn.items import Items
from kofn.selection import Selection

EMBEDDINGS, LABELS, ASIDE = "embeddings", "labels", "rows set aside"
"""What a metric may need."""

METRICS = {
    "mean_distance": "kofn.check.cover:MEAN_DISTANCE",
    "radius": "kofn.check.cover:RADIUS",
    "kmeans_cost_error": "kofn.check.cover:KMEANS_COST_ERROR",
    "mmd": "kofn.check.mmd:MMD",
    "vendi": "kofn.check.vendi:VENDI",
    "label_coverage": "kofn.check.labels:LABEL_COVERAGE",
    "label_shift": "kofn.check.labels:LABEL_SHIFT",
    "nearest_accuracy": "kofn.check.probes:NEAREST_ACCURACY",
    "logistic_accuracy": "kofn.check.probes:LOGISTIC_ACCURACY",
}
"""The table of metrics: a name, and where it is. The order is that of every table."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number about a selection.

    Parameters
    ----------
    name : str
        Letters, digits and underscores: a column's name.
    title : str
        Title of an axis, with the unit.
    higher_is_better : bool or None
        None: neither; then no method is called the best.
    about : str
        The formula, in a sentence.
    needs : frozenset of {"embeddings", "labels", "rows set aside"}
        What it cannot do without.
    measured : callable
        `measured(items, selection, context) -> float`.

    Examples
    --------
    >>> from kofn.check import Metric
    >>> spread = Metric(
    ...     name="spread", title="largest weight", higher_is_better=False, about="the weight of the heaviest pick",
    ...     measured=lambda items, selection, context: selection.weights.max(),
    ... )
    >>> spread.needs
    frozenset()
    """

    name: str
    title: str
    higher_is_better: bool | None
    about: str
    measured: Callable[[Items, Selection, Context], float]
    needs: frozenset[str] = frozenset()

    def measure(self, items: Items, selection: Selection, context: Context) -> float:
        """The number.

        Parameters
        ----------
        items : Items
            What was chosen from.
        selection : Selection
            Rows and weights; the weights are those that the method's picks are to be used with.
        context : Context
            The rows that are measured, and what was made ready for them.
        """
        return float(self.measured(items, selection, context))


def metric_of(given: Any) -> Metric:
    """A metric from its name, or from a plain function `(items, selection) -> float`, which is named as it is.

    Raises
    ------
    UsageError
        When it is neither.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        return named(given)
    name = getattr(given, "__name__", None)
    if not callable(given) or name is None:
        raise UsageError(
            f"metrics holds {given!r}; give names ({', '.join(METRICS)}), functions (items, selection) -> float, or a Metric"
        )
    return Metric(
        name=name, title=name.replace("_", " "), higher_is_better=None, about="a function of the caller's",
        measured=lambda items, selection, context: given(items, selection),
    )  # fmt: skip


def named(name: str) -> Metric:
    """The metric of this name; an unknown one is an error that lists them."""
    if name not in METRICS:
        raise UsageError(f"metric {name!r} is unknown; there are: {', '.join(METRICS)}")
    module, _, attribute = METRICS[name].partition(":")
    return getattr(import_module(module), attribute)


def metrics_of(given: Sequence[Any] | None, ready: frozenset[str]) -> list[Metric]:
    """The metrics that were asked for, or all that can be measured with what is there.

    Raises
    ------
    UsageError
        When one that was asked for needs what is not there, or two have one name.
    """
    if given is None:
        return [metric for metric in map(named, METRICS) if metric.needs <= ready]
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UsageError(f"metrics={given!r} is no list; write metrics=[...] of names or functions")
    found = [metric_of(each) for each in given]
    for at, metric in enumerate(found):
        missing = sorted(metric.needs - ready)
        if missing:
            raise UsageError(f"metric {metric.name} needs {missing[0]}, which are not there; {_mend(missing[0])}")
        if metric.name in [each.name for each in found[:at]]:
            raise UsageError(f"two metrics are called {metric.name!r}; give them different names")
    return found


def _mend(missing: str) -> str:
    if missing == EMBEDDINGS:
        return "name the column of vectors with embedding="
    return "name a column of labels with label="

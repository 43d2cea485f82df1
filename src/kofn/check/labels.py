"""Whether every label has a pick, and whether labels weigh as much in the picks as they do in the rows."""

from __future__ import annotations

import numpy as np

from kofn.check.context import Context
from kofn.check.metric import LABELS, Metric
from kofn.core.block import Doubles
from kofn.items import Items
from kofn.selection import Selection


def label_coverage(items: Items, selection: Selection, context: Context) -> float:
    """Share of the labels, among those that occur, that at least one pick bears. Counted on all rows."""
    present = _counts(context) > 0
    picked = np.bincount(context.labelled[selection.indices], minlength=len(present)) > 0
    return float((present & picked).sum() / present.sum())


def label_shift(items: Items, selection: Selection, context: Context) -> float:
    """Total variation between the labels' shares of the rows and of the weights: half the sum of the gaps, 0 to 1."""
    counts = _counts(context)
    masses = np.bincount(context.labelled[selection.indices], weights=selection.weights, minlength=len(counts))
    return float(np.abs(counts / counts.sum() - masses / masses.sum()).sum() / 2)


def _counts(context: Context) -> Doubles:
    return context.once("counts of labels", lambda: np.bincount(context.labelled).astype(np.float64))


LABEL_COVERAGE = Metric(
    name="label_coverage",
    title="share of labels with a pick",
    higher_is_better=True,
    about="share of the labels that at least one pick bears",
    needs=frozenset({LABELS}),
    measured=label_coverage,
)

LABEL_SHIFT = Metric(
    name="label_shift",
    title="total variation between label shares",
    higher_is_better=False,
    about="half the sum over labels of |share of the rows - share of the picks' weight|",
    needs=frozenset({LABELS}),
    measured=label_shift,
)

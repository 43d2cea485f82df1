"""Probes: what a plain classifier learns from the picks, judged on rows that nothing was chosen from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kofn.check.context import Context
from kofn.check.metric import ASIDE, EMBEDDINGS, LABELS, Metric
from kofn.items import Items
from kofn.selection import Selection

ITERATIONS = 500
"""Steps of the logistic regression at most."""


def nearest_accuracy(items: Items, selection: Selection, context: Context) -> float:
    """Share of the rows set aside whose nearest pick bears their label: a 1-nearest-neighbour classifier."""
    rows, labels = context.set_aside
    nearest = context.nearest(context.picks(selection), rows)
    return float(np.mean(context.labelled[selection.indices][nearest] == labels))


def logistic_accuracy(items: Items, selection: Selection, context: Context) -> float:
    """Accuracy on the rows set aside of a logistic regression fitted to the picks, each counted by its weight.

    scikit-learn's `LogisticRegression` (L2, C = 1, lbfgs) on columns standardised by the picks' own weighted mean and
    deviation; weights are scaled to a mean of one, so that the penalty weighs the same for all methods. Where all picks
    bear one label, that label is the answer.
    """
    rows, labels = context.set_aside
    taught = context.labelled[selection.indices]
    if len(np.unique(taught)) == 1:
        return float(np.mean(labels == taught[0]))
    model = _fitted(context.picks(selection), taught, selection.weights / selection.weights.mean())
    return float(np.mean(model.predict(rows.astype(np.float64)) == labels))


def _fitted(x: Any, labels: Any, weights: Any) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the steps are bounded alike for every method
        fit = {"standardscaler__sample_weight": weights, "logisticregression__sample_weight": weights}
        return model.fit(x.astype(np.float64), labels, **fit)


_NEEDS = frozenset({EMBEDDINGS, LABELS, ASIDE})

NEAREST_ACCURACY = Metric(
    name="nearest_accuracy",
    title="accuracy of the nearest pick's label on rows set aside",
    higher_is_better=True,
    about="share of the rows set aside whose nearest pick bears their label",
    needs=_NEEDS,
    measured=nearest_accuracy,
)

LOGISTIC_ACCURACY = Metric(
    name="logistic_accuracy",
    title="accuracy of a logistic regression on rows set aside",
    higher_is_better=True,
    about="accuracy on the rows set aside of a logistic regression on the standardised picks, weighted",
    needs=_NEEDS,
    measured=logistic_accuracy,
)

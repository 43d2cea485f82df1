"""Metrics by name, from the caller, and what they need."""

import pytest

from check.judging import chosen, judged
from kofn.check import Metric
from kofn.check.metric import ASIDE, EMBEDDINGS, LABELS, METRICS, metric_of, metrics_of, named
from kofn.errors import UsageError


def heaviest(items, selection):
    return selection.weights.max() / items.n


def test_a_plain_function_is_a_metric_under_its_own_name():
    context = judged([[0.0], [1.0]])
    metric = metric_of(heaviest)
    assert (metric.name, metric.higher_is_better) == ("heaviest", None)
    assert metric.measure(context.items, chosen([0, 1], [5, 1]), context) == 2.5


def test_every_name_of_the_table_leads_to_the_metric_of_that_name():
    assert [named(name).name for name in METRICS] == list(METRICS)


def test_by_default_all_are_measured_that_can_be():
    assert [each.name for each in metrics_of(None, frozenset())] == []
    assert {each.name for each in metrics_of(None, frozenset({LABELS}))} == {"label_coverage", "label_shift"}
    assert "logistic_accuracy" not in [each.name for each in metrics_of(None, frozenset({EMBEDDINGS, LABELS}))]
    assert [each.name for each in metrics_of(None, frozenset({EMBEDDINGS, LABELS, ASIDE}))] == list(METRICS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["label_shift"], "needs labels.*label="),
        (["radius", "radius"], "two metrics are called 'radius'"),
        (["diameter"], "'diameter' is unknown; there are: mean_distance"),
        ([3], "metrics holds 3"),
        ("radius", "is no list"),
    ],
)
def test_what_cannot_be_measured_is_an_error_that_says_why(given, said):
    with pytest.raises(UsageError, match=said):
        metrics_of(given, frozenset({EMBEDDINGS}))


def test_a_metric_of_the_callers_own_sees_what_the_others_see():
    far = Metric(
        name="far", title="rows farther than 1", higher_is_better=False, about="share of rows farther than 1 from a pick",
        needs=frozenset({EMBEDDINGS}), measured=lambda items, selection, context: (context.squared(selection) > 1).mean(),
    )  # fmt: skip
    context = judged([[0.0], [0.5], [3.0], [9.0]])
    assert far.measure(context.items, chosen([0]), context) == 0.5

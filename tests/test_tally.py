"""Means, errors, the best, and how many rows are enough: from runs written down by hand."""

import numpy as np
import pytest

from kofn.errors import UsageError
from kofn.tally import Figure, Run, Tally
from kofn.tallywords import finding, how_many, number, plain

DISTANCE = Figure("mean_distance", "mean distance to the nearest pick", "the mean", False)
STEADY = ("facility", "kcenter")
FACTS = {"n": 1000, "d": 2, "pool": 1000, "measured": 1000, "aside": 0, "judged": 0, "notes": []}


def tally(values, figure=DISTANCE, start=100.0, **more):
    """From {method: {k: [value a seed]}}."""
    runs = tuple(
        Run(method, "{}", k, seed, figure.name, value)
        for method, found in values.items()
        for k, each in found.items()
        for seed, value in enumerate(each)
    )
    ks = tuple(sorted({run.k for run in runs if run.method != "all rows"}))
    return Tally(runs=runs, figures=(figure,), ks=ks, seeds=(0, 1, 2), start=start, facts=FACTS, steady=STEADY, **more)


def test_the_error_is_the_deviation_over_the_root_of_the_runs_and_one_run_has_none():
    found = tally({"uniform": {10: [1.0, 2.0, 6.0]}, "facility": {10: [2.5]}})
    uniform, facility = found.summary()
    assert (uniform.mean, uniform.runs) == (3.0, 3)
    assert uniform.error == pytest.approx(np.sqrt((4 + 1 + 9) / 2 / 3))
    assert (facility.mean, facility.error, facility.runs) == (2.5, None, 1)


def test_the_best_is_named_only_where_the_second_is_worse_by_more_than_noise():
    apart = tally({"uniform": {10: [5.0, 5.1, 4.9]}, "kmeans": {10: [4.0, 4.1, 3.9]}})
    near = tally({"uniform": {10: [5.0, 6.0, 4.0]}, "kmeans": {10: [4.6, 5.6, 3.6]}})
    assert apart.best("mean_distance", 10).method == "kmeans"
    assert near.best("mean_distance", 10) is None
    assert tally({"uniform": {10: [5.0]}, "kmeans": {10: [5.0]}}).best("mean_distance", 10) is None


def test_of_one_run_of_a_method_that_draws_nothing_is_concluded():
    assert tally({"uniform": {10: [5.0]}, "kmeans": {10: [1.0]}}).best("mean_distance", 10) is None
    assert tally({"uniform": {10: [5.0]}, "facility": {10: [1.0]}}).best("mean_distance", 10) is None
    assert tally({"kcenter": {10: [5.0]}, "facility": {10: [1.0]}}).best("mean_distance", 10).method == "facility"


def test_few_seeds_need_a_larger_difference():
    # 3 standard errors apart: more than noise with 16 degrees of freedom, not with 2 (t = 4.3)
    few = tally({"uniform": {10: [0.0, 2.0]}, "kmeans": {10: [-4.25, -2.25]}})
    steady = np.tile([0.0, 2.0], 5)
    error = np.std(steady, ddof=1) / np.sqrt(10)
    many = tally({"uniform": {10: steady}, "kmeans": {10: steady - 3 * np.sqrt(2) * error}})
    assert few.best("mean_distance", 10) is None
    assert many.best("mean_distance", 10).method == "kmeans"


def test_shares_counted_on_few_rows_differ_by_chance():
    def share(counted):
        return Figure("accuracy", "accuracy", "a share", True, counted=counted)

    values = {"uniform": {10: [0.90, 0.90]}, "facility": {10: [0.93]}}
    assert tally(values, share(100)).best("accuracy", 10) is None
    assert tally(values, share(10_000)).best("accuracy", 10).method == "facility"


def test_all_rows_are_a_reference_and_never_the_best():
    found = tally({"kcenter": {10: [5.0]}, "facility": {10: [4.0]}, "all rows": {10: [0.0]}})
    assert found.best("mean_distance", 10).method == "facility"
    assert found.reference("mean_distance") == 0.0


def test_what_nobody_calls_better_has_no_best():
    figure = Figure("heaviest", "heaviest", "a function of the caller's", None)
    assert tally({"uniform": {10: [5.0]}, "kmeans": {10: [4.0]}}, figure).best("heaviest", 10) is None


def test_enough_is_read_off_between_measured_k_in_the_logarithm():
    # from 100 to 0 at k = 1,000: nine tenths are reached at 10
    found = tally({
        "uniform": {10: [40.0], 1000: [20.0]},
        "kmeans": {10: [20.0], 1000: [0.0]},
        "facility": {10: [9.0], 1000: [1.0]},
        "kcenter": {10: [30.0], 1000: [10.0]},
    })  # fmt: skip
    assert found.goal(0.9) == pytest.approx(10.0)
    uniform, kmeans, facility, kcenter = found.enough(0.9)
    assert (uniform.k, uniform.kind) == (None, "more than")
    assert (kmeans.k, kmeans.kind) == (pytest.approx(100.0), "between")
    assert (facility.k, facility.kind) == (10.0, "at most")
    assert (kcenter.k, kcenter.kind) == (1000.0, "measured")


def test_the_sentences_say_how_many_for_each_method_and_for_random_rows():
    found = tally({"uniform": {10: [55.0], 1000: [5.0]}, "kmeans": {10: [20.0], 1000: [0.0]}})
    lead, uniform, kmeans = how_many(found)
    assert "90% of the coverage gain" in lead
    assert uniform == "random rows (uniform): about 630 rows"  # 10 * 100 ** 0.9
    assert kmeans == "kmeans: about 100 rows; random rows need 6.3 times as many"
    assert found.methods == ["uniform", "kmeans"]


def test_a_share_that_is_none_is_an_error():
    with pytest.raises(UsageError, match="share=90"):
        tally({"uniform": {10: [5.0]}}).enough(90)


def test_the_finding_does_not_call_noise_a_success():
    said = "At k = 10 no method beats random rows in mean distance to the nearest pick by more than noise"
    near = tally({"uniform": {10: [5.0, 6.0, 4.0]}, "kmeans": {10: [4.6, 5.6, 3.6]}})
    assert finding(near) == f"{said}; 3 seeds tell only large differences from it"
    more = tally({"uniform": {10: [5.0, 6.0, 4.0, 5.0]}, "kmeans": {10: [4.6, 5.6, 3.6, 4.6]}})
    assert finding(more) == said
    apart = tally({"uniform": {10: [5.1, 4.9, 5.0]}, "kmeans": {10: [4.1, 3.9, 4.0]}})
    once = tally({"uniform": {10: [5.0]}, "kmeans": {10: [4.0]}})
    assert finding(once).endswith("random rows 5), but one seed does not tell it from noise")
    assert finding(apart).endswith("is best at mean distance to the nearest pick: 4, random rows 5 (20% less)")


def test_the_table_stars_the_best_and_leaves_a_dash_where_nothing_was_measured():
    lines = plain(tally({"kcenter": {10: [5.0], 20: [4.0]}, "facility": {20: [3.0]}})).splitlines()
    assert "  kcenter   5     4" in lines
    assert "  facility  -     3 *" in lines


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (1.23456, 0.0123, "1.235 ± 0.012"),
        (12345.6, 120.0, "12,346 ± 120"),
        (0.5, None, "0.5"),
        (28812.4, None, "28,812"),
    ],
)
def test_numbers_show_what_their_error_lets_be_known(value, error, said):
    assert number(value, error) == said


def test_small_units_are_no_rounding_errors():
    found = tally({"uniform": {10: [5e-9, 6e-9]}, "all rows": {10: [2e-9]}})
    assert found.reference("mean_distance") == 2e-9
    assert "5.5e-09 ± 5e-10" in plain(found)

"""Concluding from what was drawn: right on average, and inside the interval as often as it says."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from kofn import Items, Rng
from kofn.core.draw import inclusion_of, pivotal
from kofn.core.estimators import Design, Estimate, estimate_ratio, estimate_total
from kofn.represent import Sensitivity, Uniform

SEEDS = 1_000
N, K = 6_000, 600


def simple(inclusion, population, strata=None):
    return Design(np.asarray(inclusion, float), "simple", None if strata is None else np.asarray(strata), population)


def test_every_sample_of_three_from_six_averages_to_the_truth_and_its_variance():
    values = np.array([1.0, 4.0, 4.0, 7.0, 9.0, 11.0])
    samples = [values[list(rows)] for rows in combinations(range(6), 3)]
    design = simple([0.5] * 3, 6)
    totals = np.array(
        [estimate_total(each, design, calibrated=False, of="total", level=0.95).value for each in samples]
    )
    assert totals.mean() == pytest.approx(36)
    assert np.mean([design.spread(each)[0] for each in samples]) == pytest.approx(totals.var())


def test_one_pick_of_many_says_that_it_cannot_know_its_error():
    assert simple([0.1], 10).spread(np.array([3.0]))[0] == np.inf
    assert simple([1.0], 1).spread(np.array([3.0]))[0] == 0


def test_strata_with_one_pick_are_put_together():
    """Three strata of 10 rows, one pick each, values 1, 2, 6: totals 10, 20, 60 around 30: 3/2 (400 + 100 + 900) = 2,100."""
    assert simple([0.1] * 3, 30, [0, 1, 2]).spread(np.array([1.0, 2.0, 6.0]))[0] == pytest.approx(2_100)


def test_a_lonely_stratum_takes_the_variance_of_all_picks():
    """Stratum of 4 rows, picks 1 and 3: 16 (1/2) 2 / 2 = 8. One of 5 rows, one pick: 25 (4/5) var(1, 3, 8) = 20 * 13."""
    found = simple([0.5, 0.5, 0.2], 9, [4, 4, 7]).spread(np.array([1.0, 3.0, 8.0]))[0]
    assert found == pytest.approx(8 + 20 * 13)


def test_a_priority_variance_by_hand():
    """Inclusion 1, 1/2, 1/4, values 5, 2, 1: 0 + 4 (1/2) / (1/4) + 1 (3/4) / (1/16) = 8 + 12."""
    design = Design(np.array([1.0, 0.5, 0.25]), "priority", None, 7)
    assert design.spread(np.array([5.0, 2.0, 1.0]))[0] == pytest.approx(20)
    assert design.equal_picks == pytest.approx(49 / 21)  # w = 1, 2, 4


def test_a_spread_draws_variance_by_hand():
    """f / pi is 4, 8, 6 and 2 at chance 1/2, beside a sure row: 4/(2 3) 1/2 (16 + 4 + 16) = 12."""
    design = Design(np.array([0.5, 1.0, 0.5, 0.5, 0.5]), "pivotal", None, 9)
    variance, _ = design.spread(np.array([2.0, 70.0, 4.0, 3.0, 1.0]))
    assert variance == pytest.approx(12)
    assert Design(np.array([1.0, 0.5]), "pivotal", None, 3).spread(np.array([1.0, 2.0]))[0] == np.inf
    assert Design(np.ones(3), "pivotal", None, 3).spread(np.arange(3.0))[0] == 0


@pytest.mark.parametrize(("smooth", "widest", "most"), [(0.0, 2.0, 1.0), (0.5, 2.0, 1.0), (0.5, 0.5, 0.06)])
def test_spread_draws_know_their_error_and_gain_where_neighbours_are_alike(smooth, widest, most):
    """Chances unequal or not, values that follow the order or not; a simple sample's error is 0.086 in the last case."""
    rng = np.random.default_rng(1)
    place, noise = rng.normal(size=300), 0.3 * rng.normal(size=300)
    values, order = 1 + noise + smooth * place, np.argsort(place)
    chances = inclusion_of(rng.uniform(0.5, widest, 300), 40)
    told, found = [], []
    for _ in range(2_000):
        picks = pivotal(chances, rng.random(300), order)
        design = Design(chances[picks], "pivotal", None, 300)
        estimate = estimate_total(values[picks], design, calibrated=False, of="mean", level=0.95)
        found.append(estimate)
        told.append(estimate.standard_error**2)
    means = np.array([each.value for each in found])
    assert abs(means.mean() - values.mean()) < 5 * means.std() / np.sqrt(2_000)
    assert 0.9 < np.sqrt(np.mean(told)) / means.std() < 1.1
    truth = values.mean()
    assert np.mean([each.interval[0] <= truth <= each.interval[1] for each in found]) > 0.92
    assert means.std() < most


def test_calibration_gives_a_constant_its_own_value_without_error():
    design = Design(np.array([0.9, 0.5, 0.1]), "priority", None, 40)
    found = estimate_total(np.full(3, 7.0), design, calibrated=True, of="mean", level=0.95)
    assert (found.value, found.standard_error) == (pytest.approx(7), pytest.approx(0, abs=1e-12))
    assert estimate_total(np.full(3, 7.0), design, calibrated=False, of="mean", level=0.95).standard_error > 0


def test_a_ratio_of_proportional_numbers_has_no_error():
    design = Design(np.array([0.9, 0.5, 0.1]), "priority", None, 40)
    over = np.array([1.0, 2.0, 5.0])
    found = estimate_ratio(3 * over, over, design, of="ratio", level=0.95)
    assert found.value == pytest.approx(3)
    assert found.standard_error == pytest.approx(0, abs=1e-12)


def test_all_right_of_twenty_is_not_certain_and_a_census_is():
    """Wilson's lower end with t instead of z: k / (k + t^2), here without the finite population's correction."""
    few = estimate_ratio(np.ones(20), np.ones(20), simple([1e-6] * 20, 20_000_000), of="share", level=0.95)
    assert few.value == 1
    assert few.interval == (pytest.approx(20 / (20 + 2.0930**2), abs=1e-4), 1.0)
    census = estimate_ratio(np.ones(20), np.ones(20), simple([1.0] * 20, 20), of="share", level=0.95)
    assert census.interval == (1.0, 1.0)


def test_a_group_is_estimated_from_its_own_picks():
    """Simple sample of 4 from 40; two picks in the group: 20 rows, mean 3. e = (1 - 3, 5 - 3, 0, 0) / 20; variance
    1600 (9/10) var(e) / 4 = 360 (8/400) / 3 = 2.4, twice that because the mean was fitted to two; one degree of freedom."""
    found = estimate_ratio(
        np.array([1.0, 5.0, 9.0, 9.0]), np.ones(4), simple([0.1] * 4, 40), of="mean", level=0.95,
        within=np.array([True, True, False, False]),
    )  # fmt: skip
    assert (found.value, found.n, found.k) == (pytest.approx(3), pytest.approx(20), 2)
    assert found.standard_error == pytest.approx(4.8**0.5)
    assert found.interval[1] - 3 == pytest.approx(12.7062 * 4.8**0.5, rel=1e-4)


def test_a_group_of_one_pick_knows_no_error_unless_everything_was_picked():
    one = np.array([True, False, False, False])
    values = np.array([1.0, 5.0, 9.0, 9.0])
    for design in (simple([0.1] * 4, 40), Design(np.full(4, 0.1), "priority", None, 40)):
        found = estimate_ratio(values, np.ones(4), design, of="mean", level=0.95, within=one)
        assert (found.value, found.interval) == (1.0, (-np.inf, np.inf))
    census = estimate_ratio(values, np.ones(4), simple([1.0] * 4, 4), of="mean", level=0.95, within=one)
    assert census.interval == (1.0, 1.0)


def test_the_interval_of_a_symmetric_sample_is_students_and_that_of_a_skewed_one_leans_to_its_tail():
    even = estimate_total(
        np.array([1.0, 2.0, 3.0]), simple([0.001] * 3, 3_000), calibrated=False, of="mean", level=0.95
    )
    assert even.interval[1] - even.value == pytest.approx(4.3027 * even.standard_error, rel=1e-4)
    assert even.interval[0] - even.value == pytest.approx(-4.3027 * even.standard_error, rel=1e-4)
    values = np.array([0.0] * 95 + [10.0] * 5)
    low, high = estimate_total(values, simple([0.001] * 100, 100_000), calibrated=False, of="mean", level=0.95).interval
    assert high - 0.5 > 1.2 * (0.5 - low) > 0


def test_an_estimate_prints_two_figures_of_its_width():
    found = Estimate(0.87123, 0.009, (0.85211, 0.88942), 12e6, 1000, "share", "", 0.95)
    assert str(found) == "share 0.871, 95 % interval 0.852 to 0.889, from 1,000 of 12,000,000 rows"
    found = Estimate(12345.678, 99, (12_150.2, 12_540.9), 5e4, 200, "total", "", 0.9)
    assert str(found) == "total 12,346, 90 % interval 12,150 to 12,541, from 200 of 50,000 rows"


def population():
    """Rows in four blobs of unequal size, a heavy-tailed value (lognormal, skewness 6) and one of 0 and 1, both related to
    a score that is related to neither entirely."""
    rng = np.random.default_rng(12)
    groups = np.sort(rng.choice(8, N, p=[0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.03, 0.02]))
    x = rng.normal(size=(N, 3)).astype(np.float32) + 4 * (groups[:, None] % 4)
    heavy = np.exp(rng.normal(size=N) + 0.1 * groups)
    scores = heavy**0.5 * np.exp(0.3 * rng.normal(size=N)) + 0.2
    binary = rng.random(N) < 0.2 + 0.05 * groups
    return x, groups, scores, heavy, binary


DESIGNS = {
    "uniform": (Uniform(), ()),
    "proportional strata": (Uniform(), ("groups",)),
    "equal strata": (Uniform(allocation="equal"), ("groups",)),
    "by score": (Uniform(), ("scores",)),
    "by score in strata": (Uniform(), ("groups", "scores")),
    "sensitivity": (Sensitivity(clusters=8, sample=64, rounds=3), ()),
    "sensitivity by loss": (Sensitivity(clusters=8, sample=64, rounds=3), ("scores",)),
}


def surveyed(name, targets, biased=False):
    """For each target (truth, estimate of a selection): the share of seeds whose interval holds the truth, and the mean
    error in its own standard errors."""
    x, groups, scores, *_ = population()
    method, columns = DESIGNS[name]
    given = {key: column for key, column in (("groups", groups), ("scores", scores)) if key in columns}
    items = Items(embeddings=x, **given)
    inside, errors = np.zeros(len(targets)), np.empty((SEEDS, len(targets)))
    for seed in range(SEEDS):
        selection = method.select(items, K, Rng(seed))
        if biased:
            selection = replace(selection, inclusion=np.minimum(1.0, 1.02 * selection.inclusion))
        for at, (truth, estimated) in enumerate(targets):
            found = estimated(selection)
            inside[at] += found.interval[0] <= truth <= found.interval[1]
            errors[seed, at] = found.value - truth
    return inside / SEEDS, np.abs(errors.mean(axis=0)) / (errors.std(axis=0) / SEEDS**0.5)


def holds(coverage, off):
    return (coverage >= 0.93) & (coverage <= 0.97) & (off < 5.3)


def mean_and_share():
    *_, heavy, binary = population()
    return [
        (heavy.mean(), lambda selection: selection.estimate(heavy[selection.indices])),
        (binary.mean(), lambda selection: selection.estimate(binary[selection.indices])),
    ]


@pytest.mark.parametrize("name", DESIGNS)
def test_intervals_hold_the_truth_in_95_of_100_draws(name):
    coverage, off = surveyed(name, mean_and_share())
    assert holds(coverage, off).all(), (coverage, off)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_whose_chances_are_two_percent_off_is_noticed(name):
    assert not holds(*surveyed(name, mean_and_share()[:1], biased=True)).all()


def test_calibrated_means_ratios_and_groups_hold_the_truth_too():
    _, groups, _, heavy, binary = population()
    values, second = heavy * binary, groups == 1
    targets = [
        (heavy.mean(), lambda selection: selection.estimate(heavy[selection.indices], calibrated=True)),
        (
            values.sum() / heavy.sum(),
            lambda selection: selection.estimate_ratio(values[selection.indices], heavy[selection.indices]),
        ),
        (
            binary[second].mean(),
            lambda selection: selection.estimate_by(binary[selection.indices], second[selection.indices])[True],
        ),
    ]
    coverage, _ = surveyed("by score", targets)
    assert ((coverage >= 0.93) & (coverage <= 0.97)).all(), coverage

import numpy as np
import pytest

from kofn.decode.answers import (
    BetaBinomial,
    PowerLaw,
    coverage_curve,
    fit_beta_binomial,
    fit_power_law,
    forecast_coverage,
    pass_at_k,
)
from kofn.errors import DataError, ParameterError


def drawn(alpha, beta, problems, samples, seed=0):
    """Right answers of problems whose difficulty is beta distributed."""
    rng = np.random.default_rng(seed)
    return rng.binomial(samples, rng.beta(alpha, beta, size=problems))


def test_the_curve_is_pass_at_k_at_every_k():
    correct, samples = np.array([0, 1, 3, 10]), np.array([10, 12, 20, 10])
    curve = coverage_curve(correct, samples, ks=[1, 2, 5, 10])
    for column, k in enumerate(curve.k):
        rate = pass_at_k(correct, samples, int(k))
        np.testing.assert_allclose(curve.per_problem[:, column], rate.per_problem)
        assert curve.coverage[column] == pytest.approx(rate.mean)
        assert curve.standard_error[column] == pytest.approx(rate.standard_error)


def test_the_default_curve_reaches_from_one_to_the_least_number_of_answers():
    curve = coverage_curve([3, 4], [100, 64])
    assert (curve.k[0], curve.k[-1]) == (1, 64)
    assert (np.diff(curve.coverage) > 0).all()
    assert coverage_curve([1], 2).k.tolist() == [1, 2]


@pytest.mark.parametrize(("a", "b"), [(-3.0, 0.4), (-0.5, 0.9), (-6.0, 0.2)])
def test_a_known_power_law_is_recovered(a, b):
    k = np.unique(np.geomspace(1, 1000, 30).astype(int))
    truth = PowerLaw(a, b).coverage(k)
    exact = fit_power_law(k, truth)
    assert (exact.a, exact.b) == (pytest.approx(a, rel=1e-6), pytest.approx(b, rel=1e-6))
    noisy = fit_power_law(k, np.clip(truth + np.random.default_rng(0).normal(0, 0.003, len(k)), 0, 1))
    assert (noisy.a, noisy.b) == (pytest.approx(a, rel=0.05), pytest.approx(b, rel=0.05))


def test_a_known_beta_law_is_recovered_from_counts():
    found = fit_beta_binomial(drawn(0.4, 2.5, 20_000, 50), 50)
    assert (found.alpha, found.beta) == (pytest.approx(0.4, rel=0.05), pytest.approx(2.5, rel=0.05))


def test_the_beta_curve_is_the_mean_over_difficulties():
    q = np.random.default_rng(0).beta(0.5, 3.0, size=400_000)
    for k in (1, 10, 500):
        assert BetaBinomial(0.5, 3.0).coverage(k) == pytest.approx(np.mean(1 - (1 - q) ** k), abs=4e-3)
    assert BetaBinomial(0.5, 1.5).coverage(1) == pytest.approx(0.25)


def test_weights_are_repetitions_of_problems():
    correct, samples = np.array([0, 1, 5, 9]), np.array([10, 10, 8, 10])
    times = np.array([3, 1, 2, 2])
    weighed = fit_beta_binomial(correct, samples, times)
    repeated = fit_beta_binomial(np.repeat(correct, times), np.repeat(samples, times))
    assert weighed.alpha == pytest.approx(repeated.alpha, rel=1e-4)
    assert weighed.beta == pytest.approx(repeated.beta, rel=1e-4)


def errors_at_ten_times(alpha, beta):
    """Mean absolute error at 10 times the answers drawn, of both models, over ten sets of 500 problems."""
    truth = float(BetaBinomial(alpha, beta).coverage(1000))
    found = {"beta-binomial": [], "power-law": []}
    for seed in range(10):
        correct = drawn(alpha, beta, 500, 100, seed)
        curve = coverage_curve(correct, 100)
        found["power-law"].append(abs(fit_power_law(curve.k, curve.coverage).coverage(1000) - truth))
        found["beta-binomial"].append(abs(fit_beta_binomial(correct, 100).coverage(1000) - truth))
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 2.0), (1.0, 20.0)])
def test_on_beta_difficulties_the_beta_fit_forecasts_better_than_the_power_law(alpha, beta):
    error = errors_at_ten_times(alpha, beta)
    assert error["beta-binomial"] < 0.8 * error["power-law"]
    assert error["beta-binomial"] < 0.015


@pytest.mark.parametrize(("alpha", "beta", "limit"), [(0.3, 10.0, 0.025), (0.6, 6.0, 0.01)])
def test_there_are_beta_difficulties_where_the_power_law_does_as_well(alpha, beta, limit):
    assert max(errors_at_ten_times(alpha, beta).values()) < limit


def test_where_some_problems_are_impossible_the_beta_fit_promises_too_much():
    rng = np.random.default_rng(0)
    q = np.where(rng.random(2000) < 0.5, 0.0, rng.beta(2, 8, size=2000))
    correct = rng.binomial(100, q)
    truth = np.mean(1 - (1 - q) ** 10_000)
    assert fit_beta_binomial(correct, 100).coverage(10_000) > truth + 0.1


@pytest.mark.parametrize("model", ["beta-binomial", "power-law"])
def test_a_forecast_is_its_fit_with_an_interval_around_it_that_belongs_to_the_seed(model):
    correct = drawn(0.3, 3.0, 120, 40)
    first = forecast_coverage(correct, 40, 400, model=model, resamples=60)
    assert first.low < first.coverage < first.high
    assert first.coverage == float(first.fit.coverage(400))
    again = forecast_coverage(correct, 40, 400, model=model, resamples=60)
    other = forecast_coverage(correct, 40, 400, model=model, resamples=60, seed=1)
    assert (again.low, again.high) == (first.low, first.high) != (other.low, other.high)
    narrow = forecast_coverage(correct, 40, 400, model=model, resamples=60, level=0.5)
    assert narrow.high - narrow.low < first.high - first.low


def test_the_interval_of_the_right_model_holds_the_truth_most_of_the_time():
    truth = float(BetaBinomial(0.4, 3.0).coverage(300))
    held = 0
    for seed in range(20):
        found = forecast_coverage(drawn(0.4, 3.0, 150, 30, seed), 30, 300, resamples=40)
        held += found.low <= truth <= found.high
    assert held >= 15


@pytest.mark.parametrize("model", ["beta-binomial", "power-law"])
def test_resampled_problems_that_are_all_wrong_count_as_no_coverage(model):
    # Five problems, one of them ever solved: a third of the resampled sets, (4/5)^5, hold no right answer.
    # So the quantiles at 0.025 and 0.2 (an interval of level 0.6) are 0, and that at 0.45 (level 0.1) is not.
    found, most, least = (
        forecast_coverage([1, 0, 0, 0, 0], 10, 100, model=model, level=level, resamples=60)
        for level in (0.95, 0.6, 0.1)
    )
    assert found.low == 0.0 < found.coverage < found.high < 1.0
    assert most.low == 0.0 < least.low


@pytest.mark.parametrize("model", ["beta-binomial", "power-law"])
def test_resampled_problems_that_are_all_right_count_as_full_coverage(model):
    found = forecast_coverage([10, 10, 10, 10, 0], 10, 100, model=model, resamples=60)
    assert found.coverage < found.high == 1.0


@pytest.mark.parametrize("model", ["beta-binomial", "power-law"])
def test_one_right_answer_of_two_hundred_does_not_make_a_certain_forecast(model):
    found = forecast_coverage([0, 1], 100, 10_000, model=model, resamples=60)
    assert found.low == 0.0
    assert found.high > 0.99


@pytest.mark.parametrize("model", ["beta-binomial", "power-law"])
@pytest.mark.parametrize(("correct", "samples"), [([1], 1000), ([3, 3, 3], 20)])
def test_problems_that_do_not_differ_have_no_interval(model, correct, samples):
    found = forecast_coverage(correct, samples, 10_000, model=model)
    assert 0 < found.coverage <= 1
    assert np.isnan([found.low, found.high]).all()
    differ = forecast_coverage([3, 3], [20, 30], 10_000, model=model, resamples=20)
    assert not np.isnan([differ.low, differ.high]).any()


def test_the_interval_of_few_and_hard_problems_holds_the_truth_most_of_the_time():
    truth, held = float(BetaBinomial(0.2, 10.0).coverage(100)), []
    for seed in range(30):
        correct = drawn(0.2, 10.0, 8, 10, seed)
        if correct.any():
            found = forecast_coverage(correct, 10, 100, resamples=40)
            held.append(found.low <= truth <= found.high)
    # Dropping the sets that are all wrong would lift the low end above the truth in six worlds of ten.
    assert np.mean(held) > 0.75


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(DataError, match="0 everywhere"):
        fit_power_law([1, 2, 4], [0, 0, 0])
    with pytest.raises(DataError, match="two different k"):
        fit_power_law([2, 2], [0.1, 0.1])
    with pytest.raises(DataError, match="all answers are right or all are wrong"):
        fit_beta_binomial([0, 0], 10)
    with pytest.raises(DataError, match="k=11 is more than the 10 answers of problem 0"):
        coverage_curve([1], 10, ks=[1, 11])
    with pytest.raises(DataError, match="rising"):
        coverage_curve([1], 10, ks=[4, 2])
    for model in ("beta-binomial", "power-law"):
        with pytest.raises(ParameterError, match="samples=0"):
            forecast_coverage([0, 1], [0, 3], 4, model=model)
    with pytest.raises(ParameterError, match="model='cubic'"):
        forecast_coverage([1, 2], 10, 20, model="cubic")
    with pytest.raises(ParameterError, match="level=1"):
        forecast_coverage([1, 2], 10, 20, level=1)

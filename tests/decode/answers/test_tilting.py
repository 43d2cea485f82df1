import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import check_grad, minimize

from kofn.decode.answers import (
    BestOfNTilt,
    BoNBoN,
    ExponentialTilt,
    best_of_n_kl,
    best_of_n_law,
    best_of_n_win_rate,
    reward_tilt,
    reward_tilt_at_kl,
)
from kofn.errors import DataError, ParameterError


@pytest.mark.parametrize("n", [1, 2, 5, 32])
def test_best_of_n_is_a_tilt_of_the_rank_with_the_paper_s_win_rate_and_kl(n):
    tilt = BestOfNTilt(n)
    assert quad(tilt.density, 0, 1)[0] == pytest.approx(1)
    assert quad(lambda u: u * tilt.density(u), 0, 1)[0] == pytest.approx(tilt.win_rate)
    entropy = quad(lambda u: tilt.density(u) * np.log(tilt.density(u)), 1e-300, 1)[0]
    assert tilt.kl == pytest.approx(entropy, abs=1e-8)
    assert (tilt.win_rate, tilt.kl) == (n / (n + 1), pytest.approx(np.log(n) - (n - 1) / n))


def test_a_nearly_continuous_reward_has_these_figures_within_a_thousandth():
    cells = 20_000
    p, rewards = np.full(cells, 1 / cells), np.arange(cells)
    for n in (2, 4, 16, 64):
        assert best_of_n_win_rate(p, rewards, n) == pytest.approx(BestOfNTilt(n).win_rate, abs=1e-3)
        assert best_of_n_kl(p, rewards, n) == pytest.approx(BestOfNTilt(n).kl, abs=1e-3)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.019, 0.021, 3.0, 50.0, 900.0])
def test_the_exponential_tilt_s_win_rate_and_kl_are_its_integrals(rate):
    tilt, near = ExponentialTilt(rate), [1 - 10 / rate] if rate > 20 else None
    assert quad(tilt.density, 0, 1, points=near)[0] == pytest.approx(1, abs=1e-9)
    assert quad(lambda u: u * tilt.density(u), 0, 1, points=near)[0] == pytest.approx(tilt.win_rate, abs=1e-10)

    def integrand(u):
        return tilt.density(u) * np.log(np.maximum(tilt.density(u), 1e-300))

    assert quad(integrand, 0, 1, points=near)[0] == pytest.approx(tilt.kl, abs=1e-9)


@pytest.mark.parametrize("kl", [1e-10, 0.01, 0.1931, 2.0, 8.0])
def test_the_exponential_tilt_of_a_given_kl_is_found(kl):
    assert ExponentialTilt.at_kl(kl).kl == pytest.approx(kl, rel=1e-9)
    assert ExponentialTilt.at_kl(0).rate == 0


def test_best_of_n_nearly_attains_the_best_win_rate_of_its_kl():
    gap = {n: ExponentialTilt.at_kl(BestOfNTilt(n).kl).win_rate - n / (n + 1) for n in (2, 4, 8, 16, 64, 256)}
    assert all(value > 0 for value in gap.values())
    assert gap[2] == pytest.approx(0.0092, abs=5e-5)  # "essentially optimal": not to a thousandth for n below 8
    assert gap[4] == pytest.approx(0.0040, abs=5e-5)
    assert max(gap[n] for n in (8, 16, 64, 256)) < 1e-3


@pytest.mark.parametrize("shape", ["normal", "uniform", "lognormal", "two humps"])
def test_a_tilt_by_reward_at_the_same_kl_does_not_beat_the_exponential_tilt_of_the_rank(shape):
    rng = np.random.default_rng(0)
    rewards = {
        "normal": rng.normal(size=2000),
        "uniform": rng.uniform(size=2000),
        "lognormal": rng.lognormal(size=2000),
        "two humps": np.append(rng.normal(size=1000), rng.normal(6, 1, size=1000)),
    }[shape]
    p = np.full(2000, 1 / 2000)
    below = (rewards[None, :] < rewards[:, None]).mean(axis=1) + 0.5 / 2000
    for n in (2, 8, 64):
        tilt = reward_tilt_at_kl(p, rewards, best_of_n_kl(p, rewards, n))
        assert tilt.kl == pytest.approx(best_of_n_kl(p, rewards, n), rel=1e-9)
        best = ExponentialTilt.at_kl(BestOfNTilt(n).kl).win_rate
        assert tilt.law @ below < best + 1e-3
        if n >= 8:
            assert tilt.law @ below < n / (n + 1) + 1e-3


def test_the_discrete_tilts_are_integrals_of_the_density_over_ranks():
    p, rewards = np.array([0.2, 0.3, 0.1, 0.4]), np.array([3.0, 1.0, 1.0, 2.0])
    edges = {1.0: (0.0, 0.4), 2.0: (0.4, 0.8), 3.0: (0.8, 1.0)}
    mass = {1.0: 0.4, 2.0: 0.4, 3.0: 0.2}
    for tilt in (BestOfNTilt(5), ExponentialTilt(4.0), ExponentialTilt(0.0)):
        expected = [quad(tilt.density, *edges[r])[0] * q / mass[r] for q, r in zip(p, rewards)]
        np.testing.assert_allclose(tilt.law(p, rewards), expected, rtol=1e-9)


def test_a_tilt_by_reward_by_hand():
    tilt = reward_tilt([0.5, 0.5, 0.0], [0.0, np.log(3) * 2, 5000.0], 2.0)
    np.testing.assert_allclose(tilt.law, [0.25, 0.75, 0.0])
    assert tilt.kl == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5))


def test_a_kl_that_no_tilt_reaches_is_refused_with_the_limit():
    with pytest.raises(ParameterError, match=r"below 0\.693147 nats"):
        reward_tilt_at_kl([0.5, 0.5], [0, 1], 0.7)
    with pytest.raises(ParameterError, match="rate=-1"):
        ExponentialTilt(-1)


def pairs(p, n):
    """Best and worst of n draws from p, rewards rising with the number: every pair with its exact chance."""

    def within(low, high):
        return p[low : high + 1].sum() ** n if low <= high else 0.0

    best, worst, chance = [], [], []
    for low in range(len(p)):
        for high in range(low, len(p)):
            inner = within(low + 1, high) + within(low, high - 1) - within(low + 1, high - 1)
            best.append(high)
            worst.append(low)
            chance.append(within(low, high) - inner)
    return np.array(best), np.array(worst), np.array(chance)


def trained(p, n, alpha):
    best, worst, chance = pairs(p, n)
    loss = BoNBoN(n=n, alpha=alpha)
    found = minimize(
        lambda logits: loss.bandit_loss(logits, p, best, worst, chance),
        np.log(p),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 50_000, "ftol": 1e-15, "gtol": 1e-10},
    )
    law = np.exp(found.x - found.x.max())
    return law / law.sum()


def apart(q, p):
    return 0.5 * np.abs(q - p).sum()


BASE = np.random.default_rng(0).dirichlet(np.ones(20))


def test_the_pairs_of_the_twin_have_best_of_n_as_their_margin():
    best, _, chance = pairs(BASE, 4)
    np.testing.assert_allclose(np.bincount(best, chance), best_of_n_law(BASE, np.arange(20), 4), atol=1e-14)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_training_on_the_loss_recovers_best_of_n_where_the_supervised_part_leads(n):
    law = best_of_n_law(BASE, np.arange(20), n)
    assert apart(trained(BASE, n, 0.99), law) < 0.02
    assert apart(trained(BASE, n, 1.0), law) < 1e-5
    assert apart(BASE, law) > 0.2


@pytest.mark.parametrize("n", [2, 4, 8])
def test_at_the_paper_s_alpha_the_optimum_on_a_full_table_is_nearer_to_best_of_n_than_the_base_law_but_not_it(n):
    law = best_of_n_law(BASE, np.arange(20), n)
    found = trained(BASE, n, BoNBoN(n=n).alpha)
    assert 0.05 < apart(found, law) < 0.5 * apart(BASE, law)


def test_for_two_draws_the_contrastive_part_alone_leads_to_an_exponential_tilt_of_the_rank():
    cells = 60
    p = np.full(cells, 1 / cells)
    tilt = ExponentialTilt(2 * BoNBoN(n=2).target).law(p, np.arange(cells))
    assert apart(trained(p, 2, 0.0), tilt) < 0.01
    assert apart(best_of_n_law(p, np.arange(cells), 2), tilt) > 0.05


@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_target_is_the_mean_gap_of_log_ratios_under_best_of_n(n):
    u = np.random.default_rng(0).uniform(size=(400_000 // n, n))
    gap = (n - 1) * (np.log(u.max(axis=1)) - np.log(u.min(axis=1)))
    error = gap.std() / np.sqrt(len(gap))
    assert BoNBoN(n=n).target == pytest.approx(gap.mean(), abs=5 * error)


def test_the_gradient_is_the_loss_s_derivative():
    best, worst = np.array([2, 3, 3, 1]), np.array([0, 1, 3, 0])
    p, weights = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 0.5, 3.0])
    loss = BoNBoN(n=3, alpha=0.3)
    start = np.array([0.2, -0.4, 1.0, 0.3])

    def both(logits):
        return loss.bandit_loss(logits, p, best, worst, weights)

    assert check_grad(lambda x: both(x)[0], lambda x: both(x)[1], start) < 1e-5


def test_the_loss_of_one_pair_by_hand():
    loss = BoNBoN(n=3, alpha=0.25).loss([-1.0], [-2.0], [-1.5], [-1.75])
    gap = 1.0 - 0.25 - 2 * (1 + 1 / 2)
    assert (loss.sft, loss.ipo) == (pytest.approx(1.0), pytest.approx(gap**2))
    assert loss.value == pytest.approx(0.25 + 0.75 * gap**2)
    assert loss.best_gradient[0] == pytest.approx(0.75 * 2 * gap - 0.25)
    assert loss.worst_gradient[0] == pytest.approx(-0.75 * 2 * gap)


def test_mistakes_are_named():
    with pytest.raises(ParameterError, match="n=1"):
        BoNBoN(n=1)
    with pytest.raises(ParameterError, match=r"alpha=1.5"):
        BoNBoN(n=2, alpha=1.5)
    with pytest.raises(DataError, match=r"lengths \[2, 1, 2, 2, 2\]"):
        BoNBoN(n=2).loss([0, 0], [0], [0, 0], [0, 0])
    with pytest.raises(DataError, match="weights are negative or all 0"):
        BoNBoN(n=2).loss([0, 0], [0, 0], [0, 0], [0, 0], [0, 0])
    with pytest.raises(DataError, match="worst is not a row of outcomes; give whole numbers from 0 to 1"):
        BoNBoN(n=2).bandit_loss([0, 0], [0.5, 0.5], [1], [-1])
    with pytest.raises(DataError, match="p has 2 outcomes and logits 3"):
        BoNBoN(n=2).bandit_loss([0, 0, 0], [0.5, 0.5], [1], [0])
    with pytest.raises(DataError, match=r"base_worst\[0\]=-inf"):
        BoNBoN(n=2).bandit_loss([0, 0], [0.0, 1.0], [1], [0])

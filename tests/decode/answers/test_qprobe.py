import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import chisquare

from kofn.decode.answers import (
    FittedQProbe,
    QProbe,
    best_of_n_law,
    policy_objective,
    reward_tilt,
    soft_best_of_n_law,
)
from kofn.errors import DataError, ParameterError


def apart(q, p):
    return 0.5 * np.abs(q - p).sum()


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0])
def test_the_choice_among_k_draws_tends_to_the_kl_constrained_optimum(beta):
    rng = np.random.default_rng(0)
    p, f = rng.dirichlet(np.ones(30)), rng.uniform(0, 1, size=30)
    limit = reward_tilt(p, f, beta).law
    distance = [apart(soft_best_of_n_law(p, f, k, beta), limit) for k in (1, 4, 16, 64, 256)]
    assert distance == sorted(distance, reverse=True)
    assert distance[0] > 0.1 or beta == 1.0
    assert distance[-1] < 0.02
    np.testing.assert_allclose(soft_best_of_n_law(p, f, 8, 1e-7), best_of_n_law(p, f, 8), atol=1e-12)


def made(questions=300, k=8, d=20, seed=0):
    """Answers whose reward is 1 with a chance that one direction of the features knows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(questions, k, d)) * np.linspace(0.5, 5, d) + 3.0
    direction = np.random.default_rng(99).normal(size=d) / np.linspace(0.5, 5, d)
    logit = (x - 3.0) @ direction / 2 - 1.5
    return x, (rng.random((questions, k)) < 1 / (1 + np.exp(-logit))).astype(float)


@pytest.mark.parametrize("objective", ["regression", "classification", "policy"])
def test_a_probe_raises_the_reward_on_questions_that_it_has_not_seen(objective):
    x, r = made()
    held_out, rewards = made(seed=1)
    questions = np.repeat(np.arange(len(x)), x.shape[1]) if objective == "policy" else None
    probe = QProbe(objective=objective).fit(x.reshape(-1, x.shape[-1]), r.ravel(), questions)
    chosen = probe.choose(held_out, temperature=0, seed=0, question=np.arange(len(x)))
    gain = rewards[np.arange(len(x)), chosen] - rewards.mean(axis=1)
    assert gain.mean() > 8 * gain.std() / np.sqrt(len(gain))
    assert chosen.tolist() == probe.score(held_out).argmax(axis=1).tolist()
    warm = probe.choose(held_out, temperature=1e6, seed=0, question=np.arange(len(x)))
    assert abs(rewards[np.arange(len(x)), warm].mean() - rewards.mean()) < 0.1


def test_equal_questions_are_answered_independently():
    probe = FittedQProbe(weights=np.array([1.0, -1.0]), intercept=0.5)
    features, questions = np.array([[0.0, 0.0], [1.0, 0.5], [2.0, 1.0]]), 10_000
    chosen = probe.choose(np.tile(features, (questions, 1, 1)), temperature=0.5, seed=1)
    weight = np.exp(np.array([0.0, 0.5, 1.0]) / 0.5)
    assert chisquare(np.bincount(chosen, minlength=3), weight / weight.sum() * questions).pvalue > 1e-6
    alone = [int(probe.choose(features, temperature=0.5, seed=1, question=at)) for at in range(50)]
    assert chosen[:50].tolist() == alone


def test_regression_is_ridge_on_standardised_features_by_the_normal_equations():
    x, r = made(questions=10)
    x, r = x.reshape(-1, x.shape[-1]), r.ravel()
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    coefficients = np.linalg.solve(z.T @ z + 7.0 * np.eye(z.shape[1]), z.T @ (r - r.mean()))
    np.testing.assert_allclose(QProbe(penalty=7.0).fit(x, r).score(x), z @ coefficients + r.mean(), atol=1e-10)


def test_classification_s_gradient_vanishes_at_its_fit():
    x, r = made(questions=40)
    x, r = x.reshape(-1, x.shape[-1]), r.ravel()
    probe = QProbe(objective="classification", penalty=2.0).fit(x, r)
    left = r - 1 / (1 + np.exp(-probe.score(x)))
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(z.T @ left, 2.0 * probe.weights * x.std(axis=0), atol=1e-3)


def test_units_and_offsets_of_features_do_not_change_a_score():
    x, r = made(questions=30)
    x, r = x.reshape(-1, x.shape[-1]), r.ravel()
    plain, scaled = QProbe().fit(x, r), QProbe().fit(1000 * x + 5.0, r)
    np.testing.assert_allclose(plain.score(x), scaled.score(1000 * x + 5.0), atol=1e-9)
    still = np.column_stack([x, np.full(len(x), 7.0)])
    assert QProbe().fit(still, r).weights[-1] == 0


def test_the_policy_objective_is_the_expected_reward_of_a_softmax_and_has_its_gradient():
    f, r, questions = np.array([0.0, np.log(3), 5.0, 1.0, 1.0]), np.array([1.0, 2.0, 7.0, 0.0, 4.0]), [4, 4, 2, 9, 9]
    value, gradient = policy_objective(f, r, questions)
    assert value == pytest.approx(((0.25 * 1 + 0.75 * 2) + 7 + 2) / 3)
    assert gradient[2] == 0

    def both(x):
        return policy_objective(x, r, questions)

    assert check_grad(lambda x: both(x)[0], lambda x: both(x)[1], f) < 1e-6


def test_the_policy_objective_is_what_soft_choice_earns_on_the_draws():
    x, r = made(questions=2000, k=4)
    f = (x @ np.linspace(-1, 1, x.shape[-1])) / 20
    questions = np.repeat(np.arange(len(x)), 4)
    weight = np.exp(f - f.max(axis=1, keepdims=True))
    earned = (weight / weight.sum(axis=1, keepdims=True) * r).sum(axis=1).mean()
    assert policy_objective(f.ravel(), r.ravel(), questions)[0] == pytest.approx(earned)


def test_the_policy_objective_sees_within_a_question_what_regression_over_all_answers_gets_backwards():
    rng = np.random.default_rng(0)

    def answers(questions):
        """Easy questions have a large column and a large reward; within a question a large column is a bad sign."""
        ease, quality = rng.normal(size=(questions, 1)), rng.normal(size=(questions, 6))
        return np.stack([3 * ease - quality, 0.1 * rng.normal(size=quality.shape)], axis=-1), 3 * ease + quality

    x, r = answers(400)
    fresh, rewards = answers(2000)
    rows, questions = x.reshape(-1, 2), np.repeat(np.arange(400), 6)
    earned = {}
    for objective in ("regression", "policy"):
        probe = QProbe(objective=objective).fit(rows, r.ravel(), questions if objective == "policy" else None)
        chosen = probe.choose(fresh, temperature=0, seed=0, question=np.arange(2000))
        earned[objective] = rewards[np.arange(2000), chosen].mean()
    assert earned["regression"] < rewards.mean() - 1
    assert earned["policy"] > rewards.mean() + 1


def test_a_larger_penalty_gives_shorter_weights_for_every_objective():
    x, r = made(questions=50)
    rows, questions = x.reshape(-1, x.shape[-1]), np.repeat(np.arange(50), 8)
    for objective in ("regression", "classification", "policy"):
        of = questions if objective == "policy" else None
        soft, hard = (
            QProbe(objective=objective, penalty=penalty).fit(rows, r.ravel(), of) for penalty in (0.1, 1000.0)
        )
        assert np.linalg.norm(hard.weights) < 0.8 * np.linalg.norm(soft.weights)


def test_mistakes_are_named():
    x, r = np.ones((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ParameterError, match="needs questions"):
        QProbe(objective="policy").fit(x, r)
    with pytest.raises(ParameterError, match="knows no questions"):
        QProbe().fit(x, r, [0, 0, 1, 1])
    with pytest.raises(DataError, match="not both 0 and 1"):
        QProbe(objective="classification").fit(x, r * 2)
    with pytest.raises(DataError, match="features of answer 2 are not finite"):
        QProbe().fit([[0, 1], [1, 1], [np.nan, 0]], [0, 1, 0])
    with pytest.raises(DataError, match="the probe knows 2 columns"):
        QProbe().fit(np.eye(2), [0, 1]).score(np.ones((3, 3)))
    with pytest.raises(DataError, match=r"questions of the shape \(2, 1\)"):
        policy_objective([1, 2], [0, 1], [[0], [1]])
    with pytest.raises(ParameterError, match="penalty=0"):
        QProbe(penalty=0)
    with pytest.raises(ParameterError, match="objective='svm'"):
        QProbe(objective="svm")

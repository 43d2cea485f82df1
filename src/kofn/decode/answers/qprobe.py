"""Q-probe: a linear function of what a model thinks of its own answers, trained on rewards, chooses among new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from kofn.decode.answers.laws import Doubles, Integers, finite, positive
from kofn.decode.answers.soft_best_of import soft_best_of_n
from kofn.errors import DataError, ParameterError

Objective = Literal["regression", "classification", "policy"]


@dataclass(frozen=True, eq=False)
class FittedQProbe:
    """f(x) = weights . x + intercept, which is ready to choose.

    Attributes
    ----------
    weights : float64 (d,)
    intercept : float
    """

    weights: Doubles
    intercept: float

    def score(self, features: ArrayLike) -> Doubles:
        """f of each answer: float64 (n,) for features (n, d), (m, n) for (m, n, d)."""
        x = np.asarray(features, np.float64)
        if x.ndim < 1 or x.shape[-1] != len(self.weights):
            raise DataError(
                f"features has the shape {x.shape}, the probe knows {len(self.weights)} columns; give those"
            )
        return np.asarray(x @ self.weights + self.intercept)

    def choose(self, features: ArrayLike, *, temperature: float, seed: int, question: ArrayLike = 0) -> Integers:
        """Choose among k answers with chance proportional to exp(f / temperature); 0 is the best of k by f.

        As k grows the chosen answer's law tends to p exp(f / temperature) / Z, the optimum of the expected f less
        temperature times the KL from the base law p. For finite k it is `soft_best_of_n_law(p, f, k, temperature)`.

        Parameters
        ----------
        features : (k, d) or (m, k, d)
            Of the answers to one question, or to m of them.
        temperature, seed, question
            As for `soft_best_of_n`.

        Returns
        -------
        index : int64 () or (m,)
        """
        return soft_best_of_n(self.score(features), temperature=temperature, seed=seed, question=question)


@dataclass(frozen=True, kw_only=True)
class QProbe:
    """Train a probe on features of answers (hidden states, embeddings of an API) and their rewards.

    Parameters
    ----------
    objective : {"regression", "classification", "policy"}
        "regression" fits the reward by least squares, "classification" a reward of 0 or 1 by logistic loss. "policy"
        maximises the reward itself: the importance-weighted policy gradient, in which answers of one question that the
        base law drew are weighted by exp(f) / sum exp(f), an estimate of the chosen law's ratio to the base law.
    penalty : float
        Weight of the squared length of the coefficients on standardised features, above 0; raise it when answers are
        few. It is added to the loss summed over answers (halved for "classification" and "policy").

    Notes
    -----
    Li, Jelassi, Zhang, Kakade, Wattenberg and Brandfonbrener, "Q-Probe: A Lightweight Approach to Reward Maximization
    for Language Models", 2024. Cost: O(m d^2 + d^3) time for "regression", O(m d) a step for the others.
    """

    objective: Objective = "regression"
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.objective not in ("regression", "classification", "policy"):
            raise ParameterError(
                f"objective={self.objective!r} is unknown; give 'regression', 'classification' or 'policy'"
            )
        object.__setattr__(self, "penalty", positive(self.penalty, "penalty"))

    def fit(self, features: ArrayLike, rewards: ArrayLike, questions: ArrayLike | None = None) -> FittedQProbe:
        """Train on m answers.

        Parameters
        ----------
        features : (m, d)
            One row an answer.
        rewards : (m,)
            Higher is better; 0 or 1 for "classification".
        questions : int (m,), optional
            The question that each answer answers; "policy" needs it, the others do not use it and refuse it.
        """
        x, r = _features(features), finite(rewards, "rewards")
        if len(x) != len(r):
            raise DataError(f"features has {len(x)} answers and rewards {len(r)}; give one reward an answer")
        if (self.objective == "policy") != (questions is not None):
            need = (
                "needs questions, the number of each answer's question" if questions is None else "knows no questions"
            )
            raise ParameterError(f"objective={self.objective!r} {need}; mend the call to fit")
        center, scale = x.mean(axis=0), x.std(axis=0)
        # A column that does not vary says nothing: dividing by one leaves it at zero.
        scale = np.where(scale > 1e-12 * np.abs(center), scale, 1.0)
        standard = (x - center) / scale
        if self.objective == "policy":
            coefficients, intercept = _policy(standard, r, np.asarray(questions), self.penalty), 0.0
        elif self.objective == "classification":
            coefficients, intercept = _logistic(standard, r, self.penalty)
        else:
            coefficients, intercept = _ridge(standard, r, self.penalty)
        weights = coefficients / scale
        return FittedQProbe(weights=weights, intercept=intercept - float(center @ weights))


def policy_objective(f: ArrayLike, rewards: ArrayLike, questions: ArrayLike) -> tuple[float, Doubles]:
    """Expected reward of choosing within each question by softmax(f), averaged over questions; and its gradient by f.

    Parameters
    ----------
    f : (m,)
        The probe's value of each answer.
    rewards : (m,)
    questions : int (m,)

    Returns
    -------
    value : float
    gradient : float64 (m,)
        softmax_i (r_i - sum_j softmax_j r_j) / number of questions.
    """
    value, r = finite(f, "f"), finite(rewards, "rewards")
    asked = np.asarray(questions)
    if not value.shape == r.shape == asked.shape:
        raise DataError(
            f"{len(value)} values, {len(r)} rewards and questions of the shape {asked.shape}; give one each an answer"
        )
    groups, of = np.unique(asked, return_inverse=True)
    return _expected(value, r, of, len(groups))


def _expected(f: Doubles, r: Doubles, of: Integers, groups: int) -> tuple[float, Doubles]:
    top = np.full(groups, -np.inf)
    np.maximum.at(top, of, f)
    weight = np.exp(f - top[of])
    chance = weight / np.bincount(of, weight, groups)[of]
    gain = np.bincount(of, chance * r, groups)
    return float(gain.mean()), chance * (r - gain[of]) / groups


def _policy(x: Doubles, r: Doubles, questions: Any, penalty: float) -> Doubles:
    from scipy.optimize import minimize

    if questions.shape != (len(x),):
        raise DataError(f"{len(x)} answers and questions of the shape {questions.shape}; give one number an answer")
    groups, of = np.unique(questions, return_inverse=True)

    def loss(w: Doubles) -> tuple[float, Doubles]:
        gain, slope = _expected(x @ w, r, of, len(groups))
        return -len(x) * gain + 0.5 * penalty * float(w @ w), -len(x) * (slope @ x) + penalty * w

    return np.asarray(minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x)


def _logistic(x: Doubles, r: Doubles, penalty: float) -> tuple[Doubles, float]:
    from sklearn.linear_model import LogisticRegression

    if set(np.unique(r).tolist()) != {0.0, 1.0}:
        raise DataError("rewards are not both 0 and 1, and nothing else; use objective='regression' for other rewards")
    model = LogisticRegression(C=1.0 / penalty, tol=1e-8, max_iter=2000).fit(x, r)
    return np.asarray(model.coef_[0], np.float64), float(model.intercept_[0])


def _ridge(x: Doubles, r: Doubles, penalty: float) -> tuple[Doubles, float]:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=penalty, solver="cholesky").fit(x, r)
    return np.asarray(model.coef_, np.float64), float(model.intercept_)


def _features(features: ArrayLike) -> Doubles:
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or x.size == 0:
        raise DataError(f"features has the shape {x.shape}; give (m, d), one row an answer")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise DataError(
            f"features of answer {bad[0]} are not finite ({len(bad)} of {len(x)} answers); drop or mend those"
        )
    return x

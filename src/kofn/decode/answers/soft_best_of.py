"""Soft best-of-n: of n draws keep one by a softmax of their rewards, between the base law and best-of-n."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kofn.decode.answers.laws import Doubles, Integers, RankedLaw, finite, positive, ranked, whole
from kofn.decode.answers.tilting import reward_tilt
from kofn.errors import DataError
from kofn.rng import Rng

STEP = 0.2
"""Step of the quadrature in log t; the trapezoidal rule's error is of order exp(-pi^2 / STEP) = 4e-22."""


def soft_best_of_n(scores: ArrayLike, *, temperature: float, seed: int, question: ArrayLike = 0) -> Integers:
    """Choose one of n answers with chance proportional to exp(score / temperature).

    The uniform number that decides belongs to (seed, question), so neither the order nor the number of questions asked
    at once changes a choice. O(m n) time.

    Parameters
    ----------
    scores : (n,) or (m, n)
        Scores of the n answers to one question, or to m of them; higher is better.
    temperature : float
        At least 0. 0 is best-of-n (ties to the lowest index); without end it is a uniform draw.
    seed : int
        Non-negative.
    question : int or int (m,)
        Number of the first question, those of the rest follow it: by default row i is question i. Or the number of
        each. Non-negative; questions of one number share their uniform.

    Returns
    -------
    index : int64 () or (m,)

    Notes
    -----
    Verdun, Oesterling, Lakkaraju and Calmon, "Soft Best-of-n Sampling for Model Alignment", 2025.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise DataError(f"scores has the shape {values.shape}; give (n,) for one question or (m, n) for m of them")
    rows = values.reshape(-1, values.shape[-1])
    finite(rows.ravel(), "scores")
    numbers = _numbers(question, len(rows))
    if positive(temperature, "temperature", zero=True) == 0:
        chosen = rows.argmax(axis=1)
    else:
        climb = np.cumsum(_softmax(rows, temperature), axis=1)
        rng = Rng(seed)
        u = np.array([rng.rows(number, number + 1, "soft best-of-n")[0] for number in numbers])
        chosen = (climb <= (u * climb[:, -1])[:, None]).sum(axis=1)
    return chosen.astype(np.int64).reshape(values.shape[:-1])


def soft_best_of_n_law(p: ArrayLike, rewards: ArrayLike, n: int, temperature: float) -> Doubles:
    """The exact law of soft best-of-n, float64 (V,), to about 1e-14.

    With w = exp(reward / temperature) and S the sum of w over the other n - 1 draws, outcome y is returned with chance
    n p(y) E[w(y) / (w(y) + S)]. Writing 1 / (w + S) as the integral of exp(-t (w + S)) over t > 0 makes the draws
    independent:

        law(y) = n p(y) * integral of w(y) exp(-t w(y)) phi(t)^(n - 1) dt,    phi(t) = sum_j p(j) exp(-t w(j))

    In log t this is smooth and falls off at both ends, where the trapezoidal rule converges exponentially. O(290 L^2)
    time for L distinct rewards, whatever n.

    Parameters
    ----------
    p : (V,)
        The base law.
    rewards : (V,)
        Higher is better.
    n : int
        Draws, at least 1.
    temperature : float
        Above 0; towards 0 the law becomes best-of-n's.

    Notes
    -----
    The method: Verdun, Oesterling, Lakkaraju and Calmon 2025. It is also the law of a Q-probe's choice (Li et al. 2024).
    """
    law, draws = ranked(p, rewards), whole(n, "n")
    log_w = (law.rewards - law.rewards[-1]) / positive(temperature, "temperature")
    z = 4.0 - STEP * np.arange(int((44.0 + np.log(draws)) / STEP) + 1, dtype=np.float64)
    kernel = np.exp(z - np.exp(z))
    ratio = np.array([draws * STEP * (kernel @ _others(law, log_w - own, z, draws - 1)) for own in log_w])
    return law.spread(law.mass * ratio)


def soft_best_of_n_kl_bound(p: ArrayLike, rewards: ArrayLike, n: int, temperature: float) -> float:
    """An upper bound of KL(tilt by reward || soft best-of-n), falling as 1 / n.

    log(1 + Var[w] / (n E[w]^2)) with w = exp(reward / temperature) under the base law: Jensen's inequality on
    E[1 / (w + S)]. For rewards in [0, 1] it is at most sinh^2(1 / (2 temperature)) / n, the theorem's form.

    Notes
    -----
    Verdun, Oesterling, Lakkaraju and Calmon 2025.
    """
    tilted = reward_tilt(p, rewards, temperature).law
    base = ranked(p, rewards).p
    seen = base > 0
    # E_tilted[tilted / base] = E[w^2] / E[w]^2 = 1 + Var[w] / E[w]^2
    return float(np.log1p((np.sum(tilted[seen] ** 2 / base[seen]) - 1.0) / whole(n, "n")))


def _numbers(question: ArrayLike, count: int) -> list[int]:
    """Each question's own number: a single one is that of the first, and the rest are counted up from it."""
    numbers = np.asarray(question)
    if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (count,)) or (numbers < 0).any():
        raise DataError(
            f"question is neither one whole number >= 0 nor {count} of them; leave it out to number the rows 0, 1, 2 ..."
        )
    return [int(numbers) + row for row in range(count)] if numbers.ndim == 0 else [int(each) for each in numbers]


def _others(law: RankedLaw, log_w: Doubles, log_t: Doubles, count: int) -> Doubles:
    """phi(t)^count at every log t; through log1p where phi is near one, so that a large count keeps its digits."""
    exponent = np.exp(np.minimum(log_t[None, :] + log_w[:, None], 700.0))
    fallen = law.mass @ -np.expm1(-exponent)
    direct = law.mass @ np.exp(-exponent)
    with np.errstate(divide="ignore"):
        log_phi = np.where(fallen < 0.5, np.log1p(-np.minimum(fallen, 0.5)), np.log(direct))
    return np.exp(count * log_phi) if count else np.ones_like(log_phi)


def _softmax(rows: Doubles, temperature: float) -> Doubles:
    # The difference comes first: where a score divided by a tiny temperature overflows, the best still has weight 1.
    with np.errstate(over="ignore"):
        weight = np.exp((rows - rows.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))

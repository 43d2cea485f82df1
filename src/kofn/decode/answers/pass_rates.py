"""pass@k, pass^k and G-Pass@k: how often k of n drawn answers hold one right one, only right ones, or enough of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kofn.decode.answers.laws import Doubles, Integers, whole
from kofn.errors import DataError, ParameterError


@dataclass(frozen=True, eq=False)
class PassRate:
    """A rate over problems.

    Attributes
    ----------
    mean : float
        Mean over the problems.
    standard_error : float
        Of the mean, as if the problems were drawn at random; NaN for a single one.
    per_problem : float64 (m,)
        Each problem's unbiased estimate.
    """

    mean: float
    standard_error: float
    per_problem: Doubles


def pass_at_k(correct: ArrayLike, samples: ArrayLike, k: int) -> PassRate:
    """Chance that at least one of k answers is right, 1 - C(n - c, k) / C(n, k): unbiased for k <= n.

    Parameters
    ----------
    correct : int (m,)
        c, how many of each problem's answers are right.
    samples : int or int (m,)
        n, how many answers each problem has.
    k : int
        At least 1, at most each problem's n.

    Raises
    ------
    DataError
        When a problem has fewer than k answers or more right ones than answers; it is named.

    Notes
    -----
    Chen et al., "Evaluating Large Language Models Trained on Code", 2021. O(k) time for each distinct pair (n, c).

    Examples
    --------
    >>> pass_at_k([1, 0], 4, 2).per_problem.round(12).tolist()
    [0.5, 0.0]
    """
    right, drawn, size = _counts(correct, samples, k)
    return _rate(-np.expm1(log_miss(right, drawn, np.array([size]))[:, 0]))


def pass_all_k(correct: ArrayLike, samples: ArrayLike, k: int) -> PassRate:
    """Chance that all of k answers are right, C(c, k) / C(n, k) ("pass^k"): unbiased for k <= n.

    Parameters and errors as for `pass_at_k`.

    Notes
    -----
    Yao et al., "tau-bench: A Benchmark for Tool-Agent-User Interaction in Real-World Domains", 2024.
    """
    right, drawn, size = _counts(correct, samples, k)
    # All of k right is none of k wrong.
    return _rate(np.exp(log_miss(drawn - right, drawn, np.array([size]))[:, 0]))


def g_pass_at_k(correct: ArrayLike, samples: ArrayLike, k: int, tau: float) -> PassRate:
    """G-Pass@k_tau: chance that at least ceil(tau k) of k answers are right; unbiased for k <= n.

    tau towards 0 is pass@k, tau = 1 is pass^k; the rate falls in tau. O(k) time for each distinct pair (n, c).

    Parameters
    ----------
    correct, samples, k
        As for `pass_at_k`.
    tau : float
        Above 0, at most 1.

    Notes
    -----
    Liu et al., "Are Your LLMs Capable of Stable Reasoning?", 2024.
    """
    right, drawn, size = _counts(correct, samples, k)
    share = isinstance(tau, int | float | np.integer | np.floating) and not isinstance(tau, bool)
    if not share or not 0 < tau <= 1:
        raise ParameterError(f"tau={tau!r} is not above 0 and at most 1; pass_at_k is the limit towards 0")
    # 0.56 * 25 is 14.000000000000002 in floating point and means 14.
    least = max(int(np.ceil(tau * size - 1e-9)), 1)
    return _rate(tails(right, drawn, size)[:, least])


def mean_g_pass_at_k(correct: ArrayLike, samples: ArrayLike, k: int) -> PassRate:
    """mG-Pass@k: twice the integral of G-Pass@k_tau over tau from 0.5 to 1.

    G-Pass is a staircase in tau, so the integral is a sum over its steps. For even k it is the paper's sum. For odd k
    that sum leaves out the half step from 0.5 to (k + 1) / (2 k), which is counted here: pass@1 keeps its value at k = 1,
    where the paper's sum is empty.

    Parameters and errors as for `pass_at_k`.

    Notes
    -----
    Liu et al., "Are Your LLMs Capable of Stable Reasoning?", 2024.
    """
    right, drawn, size = _counts(correct, samples, k)
    steps = np.arange(1, size + 1)
    widths = np.clip(steps / size - 0.5, 0.0, 1.0 / size)
    return _rate(2.0 * (tails(right, drawn, size)[:, 1:] @ widths))


def tails(correct: Integers, samples: Integers, k: int) -> Doubles:
    """P(at least j right among k of n answers without replacement) for j = 0..k, float64 (m, k + 1).

    Ratios of neighbouring hypergeometric terms are multiplied up and normalised, so that no factorial is formed and
    far tails keep their relative precision.
    """
    pairs, back = np.unique(np.stack([correct, samples]), axis=1, return_inverse=True)
    c, n = pairs[0][:, None].astype(np.float64), pairs[1][:, None].astype(np.float64)
    j = np.arange(k, dtype=np.float64)[None, :]
    possible = (np.arange(k + 1)[None, :] <= c) & (np.arange(k + 1)[None, :] >= k - (n - c))
    below = n - c - k + j + 1  # wrong answers that are left over when j + 1 right ones are taken
    inside = possible[:, 1:] & possible[:, :-1]
    up = np.where(inside, (c - j) * (k - j), 1.0)
    down = np.where(inside, (j + 1) * below, 1.0)
    log_term = np.concatenate([np.zeros((len(c), 1)), np.cumsum(np.log(up / down), axis=1)], axis=1)
    log_term = np.where(possible, log_term, -np.inf)
    term = np.exp(log_term - log_term.max(axis=1, keepdims=True))
    tail = np.cumsum(term[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((tail / tail[:, :1])[back.ravel()])


def log_miss(hits: Integers, samples: Integers, ks: Integers) -> Doubles:
    """log of C(n - hits, k) / C(n, k), the chance that k of n miss all hits, float64 (m, len(ks)); -inf where they cannot."""
    pairs, back = np.unique(np.stack([hits, samples]), axis=1, return_inverse=True)
    most = int(ks.max())
    log_rate = np.empty((pairs.shape[1], len(ks)))
    taken = np.arange(most, dtype=np.float64)
    for row, (hit, drawn) in enumerate(pairs.T):
        left = np.maximum(drawn - taken, 1.0)  # columns with k > n are refused before or never asked for
        with np.errstate(divide="ignore"):
            log_rate[row] = np.cumsum(np.log1p(-np.minimum(hit / left, 1.0)))[ks - 1]
    return np.asarray(log_rate[back.ravel()])


def _rate(per_problem: Doubles) -> PassRate:
    several = len(per_problem) > 1
    error = float(per_problem.std(ddof=1) / np.sqrt(len(per_problem))) if several else float("nan")
    return PassRate(mean=float(per_problem.mean()), standard_error=error, per_problem=per_problem)


def counts(correct: ArrayLike, samples: ArrayLike) -> tuple[Integers, Integers]:
    """Right answers and answers of each problem, int64 (m,) both, checked."""
    right = _integers(correct, "correct")
    drawn = (
        np.broadcast_to(_integers(samples, "samples"), right.shape)
        if np.ndim(samples) == 0
        else _integers(samples, "samples")
    )
    if drawn.shape != right.shape:
        raise DataError(f"correct counts {len(right)} problems and samples {len(drawn)}; give one number a problem")
    wrong = np.flatnonzero((right < 0) | (right > drawn))
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"problem {at} has {right[at]} right of {drawn[at]} answers; give a count from 0 to {drawn[at]}"
        )
    return right, drawn


def _counts(correct: Any, samples: Any, k: Any) -> tuple[Integers, Integers, int]:
    size = whole(k, "k")
    right, drawn = counts(correct, samples)
    short = np.flatnonzero(drawn < size)
    if len(short):
        at = int(short[0])
        raise DataError(
            f"k={size} is more than the {drawn[at]} answers of problem {at} ({len(short)} such); draw more or ask for less"
        )
    return right, drawn, size


def _integers(values: ArrayLike, name: str) -> Integers:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name} is a ragged list; give how many answers, one whole number a problem") from error
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size == 0:
        raise DataError(
            f"{name} has the shape {array.shape} and the type {array.dtype}, and is not a row of whole numbers; give how "
            "many answers, one number a problem: of a matrix of 0 and 1 with a row a problem its .sum(axis=1).astype(int)"
        )
    return np.atleast_1d(array).astype(np.int64)

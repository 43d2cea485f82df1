"""Best-of-n: draw n answers, keep the one of highest score; its exact law, KL and win rate, and an estimate of the KL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kofn.decode.answers.laws import Doubles, finite, ranked, whole
from kofn.errors import DataError


@dataclass(frozen=True, eq=False)
class Choice:
    """One answer of several.

    Attributes
    ----------
    answer : object
        The answer that was chosen.
    index : int
        Its place among the answers.
    score : float
        Its score.
    """

    answer: Any
    index: int
    score: float


@dataclass(frozen=True, eq=False)
class KLEstimate:
    """An estimate of KL(best-of-n || base) from winners.

    Attributes
    ----------
    value : float
        Mean of the terms, in nats.
    standard_error : float
        Of the mean over the winners; NaN for a single one.
    terms : float64 (m,)
        One for each winner.
    """

    value: float
    standard_error: float
    terms: Doubles


def best_of_n(answers: Sequence[Any], scores: ArrayLike) -> Choice:
    """The answer of highest score; ties go to the lowest index.

    Parameters
    ----------
    answers : sequence of n objects
        What was drawn: texts, token lists, anything.
    scores : (n,)
        Higher means more wanted.

    Raises
    ------
    DataError
        When the lengths differ or a score is not finite.

    Examples
    --------
    >>> best_of_n(["a", "b", "c"], [0.1, 0.7, 0.7]).answer
    'b'
    """
    values = finite(scores, "scores")
    if len(answers) != len(values):
        raise DataError(f"{len(answers)} answers and {len(values)} scores; give one score an answer")
    index = int(np.argmax(values))
    return Choice(answer=answers[index], index=index, score=float(values[index]))


def best_of_n_law(p: ArrayLike, rewards: ArrayLike, n: int) -> Doubles:
    """The exact law of best-of-n, float64 (V,).

    The best of n draws has a reward of at most r with chance F(r)^n. The difference between neighbouring levels is
    shared among outcomes of equal reward in proportion to p, which is what keeping the first of equals does.
    Differences of powers are taken as exp(n log F) (1 - (F' / F)^n) through log1p and expm1, so that tiny p and
    n = 10^6 lose no digits. O(V log V) time.

    Parameters
    ----------
    p : (V,)
        The base law.
    rewards : (V,)
        Higher is better.
    n : int
        Draws, at least 1.

    Notes
    -----
    Beirami, Agarwal, Berant, D'Amour, Eisenstein, Nagpal and Suresh, "Theoretical guarantees on the best-of-n alignment
    policy", 2024.

    Examples
    --------
    >>> best_of_n_law([0.5, 0.5], [0.0, 1.0], 3).round(12).tolist()
    [0.125, 0.875]
    """
    law = ranked(p, rewards)
    return law.spread(np.exp(_log_levels(law, whole(n, "n"))))


def best_of_n_kl(p: ArrayLike, rewards: ArrayLike, n: int) -> float:
    """KL(best-of-n || base) in nats, exactly; at most `best_of_n_kl_bound(n)`, and below it wherever there are atoms.

    The ratio of the two laws is one number a level, so the sum runs over levels of reward. O(V log V) time.
    """
    law = ranked(p, rewards)
    log_level = _log_levels(law, whole(n, "n"))
    return max(float(np.sum(np.exp(log_level) * (log_level - np.log(law.mass)))), 0.0)


def best_of_n_kl_bound(n: int) -> float:
    """log n - (n - 1) / n in nats: the KL of best-of-n for a continuous reward, an upper bound for every other."""
    draws = whole(n, "n")
    return float(np.log(draws) - (draws - 1) / draws)


def best_of_n_win_rate(p: ArrayLike, rewards: ArrayLike, n: int) -> float:
    """Chance that best-of-n has more reward than one fresh draw, ties counted half; at most n / (n + 1)."""
    law = ranked(p, rewards)
    return float(np.exp(_log_levels(law, whole(n, "n"))) @ law.win_rate)


def best_of_n_kl_estimate(log_probabilities: ArrayLike, n: int) -> KLEstimate:
    """Estimate KL(best-of-n || base) from the base law's log-probabilities of answers that won.

    For a winner of base probability e the term is the KL of a law with one top atom of mass e and no other atoms:

        (1 - e)^n (log n + (n - 1) log(1 - e) - (n - 1) / n)  +  (1 - (1 - e)^n) log((1 - (1 - e)^n) / e)

    It is the bound when e is far below 1 / n and -log e when e is far above. No reward is needed, and sequences whose
    probability underflows are fine, because logarithms come in. O(m) time.

    Parameters
    ----------
    log_probabilities : (m,)
        Natural logarithm of the base law's probability of the whole answer, one for each draw of best-of-n.
    n : int
        Draws that each winner was chosen from.

    Notes
    -----
    Beirami et al. 2024, section "Proposed estimator for KL divergence".
    """
    log_e, draws = finite(log_probabilities, "log_probabilities"), whole(n, "n")
    if (log_e > 0).any():
        at = int(np.flatnonzero(log_e > 0)[0])
        raise DataError(f"log_probabilities[{at}]={log_e[at]:g} is above 0; give natural logarithms of probabilities")
    e = np.exp(log_e)
    with np.errstate(divide="ignore"):
        log_rest = np.log1p(-e)
    missed = np.exp(draws * log_rest)
    hit = -np.expm1(draws * log_rest)
    # Where e = 1 nothing is missed, and where e underflows nothing is hit: 0 times infinity is 0 in both.
    without = best_of_n_kl_bound(draws) + (draws - 1) * np.where(missed > 0, log_rest, 0.0)
    with_atom = np.log(np.where(hit > 0, hit, 1.0)) - np.where(hit > 0, log_e, 0.0)
    terms = missed * without + hit * with_atom
    error = float(terms.std(ddof=1) / np.sqrt(len(terms))) if len(terms) > 1 else float("nan")
    return KLEstimate(value=float(terms.mean()), standard_error=error, terms=terms)


def _log_levels(law: Any, n: int) -> Doubles:
    """Logarithm of F_l^n - F_(l-1)^n for each level."""
    with np.errstate(divide="ignore"):
        return np.asarray(n * law.log_at_most + np.log(-np.expm1(n * law.log_step)))

"""Discrete laws over outcomes that bear a reward: what every rule for choosing among answers is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kofn.core.numbers import is_whole
from kofn.errors import DataError, ParameterError

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankedLaw:
    """A law whose outcomes are put in order of reward; equal rewards share a level.

    Attributes
    ----------
    p : float64 (V,)
        Probability of each outcome; sums to one.
    possible : int64 (m,)
        Outcomes of positive probability; the rest cannot be drawn, so they have no level.
    level : int64 (m,)
        Level of each possible outcome, 0 the least reward.
    rewards : float64 (L,)
        The reward of each level, rising.
    mass : float64 (L,)
        Probability of each level.
    at_most : float64 (L,)
        F: probability of a reward of at most this level's.
    above : float64 (L,)
        1 - F, summed from the top so that it is exact near F = 1.
    """

    p: Doubles
    possible: Integers
    level: Integers
    rewards: Doubles
    mass: Doubles
    at_most: Doubles
    above: Doubles

    @property
    def log_at_most(self) -> Doubles:
        """Logarithm of F, to full relative precision at both ends, float64 (L,)."""
        near_one = np.log1p(-np.minimum(self.above, 0.5))
        return np.where(self.at_most < 0.5, np.log(self.at_most), near_one)

    @property
    def log_step(self) -> Doubles:
        """Logarithm of F(level below) / F(level), float64 (L,); -inf at the lowest level."""
        share = np.minimum(self.mass / self.at_most, 1.0)
        log_f = self.log_at_most
        below = np.concatenate([[-np.inf], log_f[:-1]])
        with np.errstate(divide="ignore"):
            return np.where(share < 0.5, np.log1p(-share), below - log_f)

    @property
    def win_rate(self) -> Doubles:
        """Chance that each level beats a fresh draw, ties counted half, float64 (L,)."""
        return np.concatenate([[0.0], self.at_most[:-1]]) + 0.5 * self.mass

    def spread(self, level_law: Doubles) -> Doubles:
        """A law over levels as a law over outcomes: within a level in proportion to p, float64 (V,)."""
        law = np.zeros_like(self.p)
        law[self.possible] = level_law[self.level] * (self.p[self.possible] / self.mass[self.level])
        return law


def ranked(p: ArrayLike, rewards: ArrayLike) -> RankedLaw:
    """Put a law's outcomes in order of reward. O(V log V) time.

    Parameters
    ----------
    p : (V,)
        Probabilities; their sum is one within 1e-6 and is made exact.
    rewards : (V,)
        Reward of each outcome; higher is better.

    Raises
    ------
    DataError
        When lengths differ, a probability is negative, the sum is not one, or a number is not finite.
    """
    law, values = check_law(p), finite(rewards, "rewards")
    if law.shape != values.shape:
        raise DataError(f"p has {len(law)} outcomes and rewards {len(values)}; give one reward an outcome")
    possible = np.flatnonzero(law)
    levels, level = np.unique(values[possible], return_inverse=True)
    mass = np.asarray(np.bincount(level, weights=law[possible], minlength=len(levels)), np.float64)
    above = np.concatenate([np.cumsum(mass[:0:-1])[::-1], [0.0]])
    return RankedLaw(law, possible, level.astype(np.int64), levels, mass, np.cumsum(mass), above)


def check_law(p: ArrayLike) -> Doubles:
    """The probabilities as float64 (V,), summing to one."""
    law = finite(p, "p")
    if (law < 0).any():
        at = int(np.flatnonzero(law < 0)[0])
        raise DataError(f"p[{at}]={law[at]:g} is negative; probabilities are at least 0")
    total = float(law.sum())
    if abs(total - 1.0) > 1e-6:
        raise DataError(f"p sums to {total:.8g}, not to 1; divide it by its sum")
    return law / total


def finite(values: ArrayLike, name: str) -> Doubles:
    """Numbers as float64 (m,), m at least one; NaN and infinity are errors that name the first."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is no row of numbers ({error}); give a list or an array of numbers") from error
    if array.ndim != 1 or len(array) == 0:
        raise DataError(f"{name} has the shape {array.shape}; give one row of at least one number")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise DataError(
            f"{name}[{bad[0]}]={array[bad[0]]} is not finite ({len(bad)} of {len(array)}); mend or drop those"
        )
    return array


def whole(value: Any, name: str, least: int = 1) -> int:
    """A parameter that is a whole number of at least `least`."""
    if not is_whole(value, least):
        raise ParameterError(f"{name}={value!r} is not a whole number >= {least}; give one, for example {name}={least}")
    return int(value)


def positive(value: Any, name: str, zero: bool = False) -> float:
    """A parameter that is a finite number above 0 (or at least 0)."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not np.isfinite(value) or value < 0 or (value == 0 and not zero):
        limit = "at least 0" if zero else "above 0"
        raise ParameterError(f"{name}={value!r} is not a finite number {limit}; give one, for example {name}=1.0")
    return float(value)


def kl_divergence(q: Doubles, p: Doubles) -> float:
    """KL(q || p) = sum q log(q / p) in nats, for laws on the same outcomes with q = 0 wherever p = 0."""
    seen = q > 0
    return float(np.sum(q[seen] * (np.log(q[seen]) - np.log(p[seen]))))

"""What may be concluded about all rows from the rows of a random design, and how far off it may be.

Every estimate here is, to first order, a total of one number a pick over its chance. Its variance and its skewness come
from those numbers and the design; the interval takes the skewness off, because the sums of heavy-tailed values are skewed
long after they are many (Hall, "On the removal of skewness by transformation", JRSS B 54, 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Rows


@dataclass(frozen=True)
class Estimate:
    """A number about all rows, concluded from the picks.

    Attributes
    ----------
    value : float
        The number.
    standard_error : float
        Its standard error.
    interval : (float, float)
        Where the true number lies in a share `level` of all draws, or so.
    n : float
        Rows that it is about; an estimate where it is about a group of them.
    k : int
        Picks that it was concluded from.
    of : {"mean", "total", "share", "ratio"}
        What it is.
    how : str
        The estimator, in words.
    level : float
        Confidence of the interval.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    n: float
    k: int
    of: str
    how: str
    level: float = 0.95

    @property
    def mean(self) -> float:
        """The mean of a row."""
        return self.value / self.n if self.of == "total" else self.value

    @property
    def total(self) -> float:
        """The total over the rows; of a ratio there is none."""
        return self.value if self.of == "total" else float("nan") if self.of == "ratio" else self.value * self.n

    def __str__(self) -> str:
        low, high = self.interval
        digits = digits_of(high - low, max(abs(self.value), abs(low), abs(high)))
        value, low_, high_ = (f"{number:,.{digits}f}" for number in (self.value, low, high))
        return (
            f"{self.of} {value}, {100 * self.level:g} % interval {low_} to {high_}, "
            f"from {self.k:,} of {self.n:,.0f} rows"
        )


@dataclass(frozen=True, eq=False)
class Design:
    """How the picks were drawn.

    Attributes
    ----------
    inclusion : float64 (k,)
        What the inverse of which is unbiased.
    kind : {"simple", "priority", "pivotal"}
        One simple random sample without replacement, or in each stratum one; or rows drawn by priority sampling, whose
        estimates are uncorrelated (Duffield, Lund and Thorup, 2007); or a draw that spreads the picks along an order, which is
        that of the picks: its variance is judged by picks that are neighbours.
    strata : int64 (k,) or None
        The stratum of each pick.
    population : int
        Rows that could be drawn.
    """

    inclusion: Doubles
    kind: str
    strata: Rows | None
    population: int

    def spread(self, values: Doubles) -> tuple[float, float]:
        """Variance and third central moment of sum(values / inclusion); infinite where nothing can be said."""
        pi = self.inclusion
        if self.kind == "priority":
            at = pi < 1  # what is sure to be drawn adds no chance, however it is counted
            if not at.any():  # of the rows that were not drawn nothing is known
                return (0.0 if self.population <= len(pi) else float("inf")), 0.0
            values, pi = values[at], pi[at]
            variance = values**2 * (1 - pi) / pi**2
            if not np.isfinite(values).all():
                return float("inf"), 0.0
            third = values**3 * (1 - pi) * (1 - 2 * pi) / pi**3
            return float(variance.sum()), float(third.sum())
        if not np.isfinite(values).all():
            return float("inf"), 0.0
        if self.kind == "pivotal":
            return _spread_of_neighbours(values, pi, self.population)
        codes = (
            np.zeros(len(values), np.int64) if self.strata is None else np.unique(self.strata, return_inverse=True)[1]
        )
        return _spread_of_strata(values, pi, codes)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance: picks less strata; under unequal chances the picks that equal ones would be."""
        if self.kind == "priority":
            return max(1.0, self.equal_picks - 1)
        if self.kind == "pivotal":  # k - 1 differences, each pick in two of them
            return max(1.0, 2 / 3 * (self.equal_picks - 1))
        strata = 1 if self.strata is None else len(np.unique(self.strata))
        return max(1.0, len(self.inclusion) - strata)

    def freedom_of(self, within: NDArray[np.bool_] | None) -> float:
        """Degrees of freedom where only these picks count: of a group, as many equal picks as they are, less one."""
        return self.freedom if within is None else max(1.0, _equal_picks(self.inclusion[within]) - 1)

    @property
    def equal_picks(self) -> float:
        """Kish's effective sample size, (sum w)^2 / sum w^2 with w = 1 / inclusion."""
        return _equal_picks(self.inclusion)


def estimate_total(values: Doubles, design: Design, *, calibrated: bool, of: str, level: float) -> Estimate:
    """The total or the mean over all rows.

    Not calibrated: sum f / inclusion, unbiased (Horvitz and Thompson 1952). Calibrated: the same for what is left of f once
    its part that goes with the known number of rows is taken off, b n + sum (f - b) / inclusion, with the b of least
    estimated variance; its bias is of the order 1 / k, and its error never larger once k is (the optimal regression
    estimator: Montanari, "Post-sampling efficient QR-prediction in large-sample surveys", 1987).
    """
    pi, n = design.inclusion, design.population
    slope, pull = 0.0, (1 - pi) / pi**2
    if calibrated:
        slope = float((pull * values).sum() / pull.sum()) if pull.any() else float(values.mean())
    left = values - slope
    total = n * slope + float((left / pi).sum())
    variance, third = design.spread(_widened(left, pull) if calibrated else left)
    scale = 1 / n if of == "mean" else 1.0
    how = "calibrated to the number of rows" if calibrated else "unbiased"
    return _finish(total * scale, variance * scale**2, third * scale**3, design, n, len(values), of, how, level)


def estimate_ratio(
    values: Doubles, over: Doubles, design: Design, *, of: str, level: float, within: NDArray[np.bool_] | None = None
) -> Estimate:
    """sum f / sum g over all rows, or over those of a group: each total estimated, the error by the linear part of their
    ratio (Sarndal, Swensson and Wretman, "Model Assisted Survey Sampling", 5.6); bias of the order 1 / k."""
    pi = design.inclusion
    inside = np.ones(len(values), np.bool_) if within is None else within
    f, g = np.where(inside, values, 0.0), np.where(inside, over, 0.0)
    base = float((g / pi).sum())
    n = design.population if within is None else float((inside / pi).sum())
    if base == 0.0:
        nothing = float("nan")
        return Estimate(nothing, nothing, (nothing, nothing), n, int(inside.sum()), of, "ratio", level)
    value = float((f / pi).sum()) / base
    left = (f - value * g) / base
    power = 0.5 if design.kind == "simple" else 1.0
    variance, third = design.spread(np.where(pi < 1, _widened(left, g / pi, power), left))
    k = int(inside.sum())
    if of == "share":
        return _finish_share(value, variance, design, inside, n, k, level)
    how = "ratio of two estimated totals"
    return _finish(value, variance, third, design, n, k, of, how, level, design.freedom_of(within))


def _widened(left: Doubles, pull: Doubles, power: float = 1.0) -> Doubles:
    """What is left of each value, as a fit without that value would leave it: a pick of great weight pulls the fit towards
    itself, and what is left of it is too small by that (MacKinnon and White 1985).

    e / (1 - h), the jackknife's, by default; with power 1/2 e / sqrt(1 - h), which is exact where all chances are equal."""
    total = pull.sum()
    if total <= 0:
        return left
    leverage = pull / total
    alone = leverage > 1 - 1e-12  # a fit of one pick leaves nothing, and says nothing
    return np.where(alone, np.inf, left / np.where(alone, 1.0, 1 - leverage) ** power)


def _finish(
    value: float, variance: float, third: float, design: Design, n: float, k: int, of: str, how: str, level: float,
    freedom: float | None = None,
) -> Estimate:  # fmt: skip
    error = float(np.sqrt(variance))
    reach = _quantile(level, freedom or design.freedom)
    low, high = _unskewed(value, error, third / variance**1.5 if 0 < variance < np.inf else 0.0, reach)
    return Estimate(value, error, (low, high), n, k, of, how, level)


def _finish_share(
    value: float, variance: float, design: Design, inside: NDArray[np.bool_], n: float, k: int, level: float
) -> Estimate:
    """Wilson's interval at the number of simple picks that would be as sure: it stays within 0 and 1, and all right of 20
    is not taken for certain."""
    reach = _quantile(level, design.freedom)
    chance = value * (1 - value)
    if chance > 1e-12 and 0 < variance < np.inf:
        picks = chance / variance
    else:
        mine = design.inclusion[inside]
        spare = 1 - len(mine) / float((1 / mine).sum())  # of a census nothing is left to doubt
        picks = _equal_picks(mine) / spare if spare > 0 else np.inf
    doubt = reach**2 / picks
    middle = (value + doubt / 2) / (1 + doubt)
    half = float(np.sqrt(max(0.0, chance * doubt + doubt**2 / 4))) / (1 + doubt)
    interval = (max(0.0, middle - half), min(1.0, middle + half))
    how = "ratio of two estimated totals, Wilson's interval"
    return Estimate(value, float(np.sqrt(variance)), interval, n, k, "share", how, level)


def _unskewed(value: float, error: float, skewness: float, reach: float) -> tuple[float, float]:
    """The interval of a studentised estimate by Hall's transformation t + g t^2 / 3 + g^2 t^3 / 27 + g / 6."""
    if not np.isfinite(error) or abs(skewness) < 1e-9:
        return value - reach * error, value + reach * error

    def back(x: float) -> float:
        return float(3 / skewness * (np.cbrt(1 + skewness * (x - skewness / 6)) - 1))

    return value - error * back(reach), value - error * back(-reach)


def _equal_picks(inclusion: Doubles) -> float:
    w = 1 / inclusion
    return float(w.sum() ** 2 / (w**2).sum())


def _quantile(level: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + level / 2))


def _spread_of_strata(values: Doubles, pi: Doubles, codes: Rows) -> tuple[float, float]:
    """Simple random samples, one in each stratum. Strata with one pick are put together: what differs between them counts
    as chance, so the variance is too large rather than too small (Cochran, "Sampling Techniques", 5A.12)."""
    count = np.bincount(codes)
    mean = np.bincount(codes, values) / count
    apart = values - mean[codes]
    chance = np.bincount(codes, pi) / count
    size = count / chance
    many = count > 1
    square, cube = np.bincount(codes, apart**2), np.bincount(codes, apart**3)
    least = np.maximum(count, 2)
    variance = size**2 * (1 - chance) * square / (least - 1) / least
    third = size**3 * (1 - chance) * (1 - 2 * chance) * cube / least**3
    alone = ~many & (chance < 1)
    lonely = int(alone.sum())
    extra = 0.0
    if lonely > 1:
        totals, sizes = (mean * size)[alone], size[alone]
        extra = lonely / (lonely - 1) * float(((totals - sizes / sizes.sum() * totals.sum()) ** 2).sum())
    elif lonely == 1:
        if len(values) < 2:
            return float("inf"), 0.0
        at = int(np.flatnonzero(alone)[0])
        extra = float(size[at] ** 2 * (1 - chance[at]) * values.var(ddof=1))
    return float(variance[many].sum()) + extra, float(third[many].sum())


def _spread_of_neighbours(values: Doubles, pi: Doubles, population: int) -> tuple[float, float]:
    """Variance from differences of picks that follow one another, f / inclusion each; the third moment from what is left of
    a pick beside the mean of its two neighbours.

    Exact on average where the values do not depend on the order, too large where neighbours are more alike than others, as
    with the successive differences of systematic samples (Wolter, "Introduction to Variance Estimation", chapter 8).
    """
    at = pi < 1
    if not at.any():
        return (0.0 if population <= len(pi) else float("inf")), 0.0
    z, rest = values[at] / pi[at], 1 - pi[at]
    m = len(z)
    if m < 2:
        return float("inf"), 0.0
    apart = np.diff(z) ** 2
    variance = m / (2 * (m - 1)) * float((0.5 * (rest[1:] + rest[:-1]) * apart).sum())
    if m < 3:
        return variance, 0.0
    left = z[1:-1] - 0.5 * (z[2:] + z[:-2])
    third = m / (m - 2) * float((rest[1:-1] * (2 * rest[1:-1] - 1) * left**3).sum()) / 0.75
    return variance, third


def digits_of(width: float, largest: float) -> int:
    """Decimals that show two figures of the interval's width."""
    if not np.isfinite(width) or not np.isfinite(largest):
        return 3
    if width <= 0:
        return 3 if largest < 1000 else 0
    return int(np.clip(1 - np.floor(np.log10(width)), 0, 12))

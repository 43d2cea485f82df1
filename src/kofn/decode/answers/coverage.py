"""Coverage: the share of problems that k answers solve, as a curve in k, and its forecast beyond what was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from kofn.decode.answers.laws import Doubles, Integers, finite, positive, whole
from kofn.decode.answers.pass_rates import counts, log_miss
from kofn.errors import DataError, ParameterError
from kofn.rng import Rng

Model = Literal["power-law", "beta-binomial"]


@dataclass(frozen=True, eq=False)
class CoverageCurve:
    """pass@k against k.

    Attributes
    ----------
    k : int64 (K,)
        Numbers of answers, rising.
    coverage : float64 (K,)
        Mean over the problems of the unbiased pass@k.
    standard_error : float64 (K,)
        Of the mean over problems; NaN for a single one.
    per_problem : float64 (m, K)
        Each problem's pass@k.
    """

    k: Integers
    coverage: Doubles
    standard_error: Doubles
    per_problem: Doubles


@dataclass(frozen=True)
class PowerLaw:
    """The exponentiated power law: coverage(k) = exp(a k^-b).

    Parameters
    ----------
    a : float
        log of the coverage at k = 1; negative.
    b : float
        How fast -log coverage falls; positive where coverage grows.

    Notes
    -----
    Brown et al., "Large Language Monkeys: Scaling Inference Compute with Repeated Sampling", 2024.
    """

    a: float
    b: float

    def coverage(self, k: ArrayLike) -> Doubles:
        """Coverage at k answers, float64 of k's shape."""
        return np.asarray(np.exp(self.a * np.asarray(k, np.float64) ** -self.b))


@dataclass(frozen=True)
class BetaBinomial:
    """Each problem's chance of a right answer is drawn from a beta law: coverage(k) = 1 - B(alpha, beta + k) / B(alpha, beta).

    Parameters
    ----------
    alpha, beta : float
        Shapes of the beta law; a small alpha means many problems that are hardly ever solved.
    """

    alpha: float
    beta: float

    def coverage(self, k: ArrayLike) -> Doubles:
        """Coverage at k answers, float64 of k's shape."""
        from scipy.special import betaln

        log_miss = betaln(self.alpha, self.beta + np.asarray(k, np.float64)) - betaln(self.alpha, self.beta)
        return np.asarray(-np.expm1(log_miss))


@dataclass(frozen=True, eq=False)
class Forecast:
    """Coverage at a number of answers that nobody has drawn yet.

    Attributes
    ----------
    k : int
        That number.
    coverage : float
        What the fit says.
    low, high : float
        Percentile interval over resampled problems: the problems' chance, not the model's error. NaN where all
        problems have the same counts, as a single one has: nothing then says how problems differ.
    fit : PowerLaw or BetaBinomial
        The fit on all problems.
    """

    k: int
    coverage: float
    low: float
    high: float
    fit: PowerLaw | BetaBinomial


def coverage_curve(correct: ArrayLike, samples: ArrayLike, ks: ArrayLike | None = None) -> CoverageCurve:
    """pass@k for many k at once. O(k) time for each distinct pair (n, c).

    Parameters
    ----------
    correct : int (m,)
        Right answers of each problem.
    samples : int or int (m,)
        Answers of each problem.
    ks : int (K,), optional
        Rising, from 1 to the least number of answers. Default: up to 32 numbers, even in log k.
    """
    right, drawn = counts(correct, samples)
    most = int(drawn.min())
    if ks is None:
        chosen = np.unique(np.rint(np.geomspace(1, whole(most, "samples"), 32)).astype(np.int64))
    else:
        chosen = np.atleast_1d(np.asarray(ks))
        if chosen.dtype.kind not in "iu" or chosen.size == 0 or (np.diff(chosen) <= 0).any() or chosen[0] < 1:
            raise DataError("ks is not a rising row of whole numbers >= 1; give for example [1, 2, 4, 8]")
        if chosen[-1] > most:
            at = int(drawn.argmin())
            raise DataError(
                f"k={chosen[-1]} is more than the {most} answers of problem {at}; draw more or ask for less"
            )
    per_problem = -np.expm1(log_miss(right, drawn, chosen.astype(np.int64)))
    root = np.sqrt(len(right))
    several = len(right) > 1
    error = per_problem.std(axis=0, ddof=1) / root if several else np.full(len(chosen), np.nan)
    return CoverageCurve(chosen.astype(np.int64), per_problem.mean(axis=0), error, per_problem)


def fit_power_law(k: ArrayLike, coverage: ArrayLike) -> PowerLaw:
    """Least squares of exp(a k^-b) on a coverage curve, in units of coverage.

    Give k even in log k (`coverage_curve` does), so that every order of magnitude counts alike.

    Parameters
    ----------
    k : (K,)
        At least two different numbers.
    coverage : (K,)
        In [0, 1], not all 0 and not all 1.
    """
    from scipy.optimize import least_squares

    size, share = finite(k, "k"), finite(coverage, "coverage")
    if len(size) != len(share) or len(np.unique(size)) < 2 or (size < 1).any():
        raise DataError(
            f"{len(size)} numbers k and {len(share)} coverages; give two different k >= 1 or more, and one each"
        )
    inside = (share > 0) & (share < 1)
    if (share < 0).any() or (share > 1).any() or not inside.any():
        raise DataError(
            "coverage is 0 everywhere, 1 everywhere or outside 0 to 1, so no curve can be fitted; add problems"
        )
    log_k = np.log(size)
    # Where it starts: the straight line of log(-log coverage) against log k.
    height = np.log(-np.log(np.clip(share, 1e-9, 1 - 1e-9)))
    slope, level = np.polyfit(log_k, height, 1)

    def residual(parameters: Doubles) -> Doubles:
        return np.asarray(np.exp(-np.exp(np.clip(parameters[0] - parameters[1] * log_k, -700, 700))) - share)

    found = least_squares(residual, [level, -slope], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return PowerLaw(a=-float(np.exp(found.x[0])), b=float(found.x[1]))


def fit_beta_binomial(correct: ArrayLike, samples: ArrayLike, weights: ArrayLike | None = None) -> BetaBinomial:
    """Maximum likelihood of a beta law of difficulty, from counts of right answers.

    Parameters
    ----------
    correct, samples
        As for `coverage_curve`.
    weights : (m,), optional
        How often each problem counts. Default: once.

    Notes
    -----
    Kazdan et al., "Efficient Prediction of Pass@k Scaling in Large Language Models", 2025, forecast coverage this way;
    Schaeffer et al., "How Do Large Language Monkeys Get Their Power (Laws)?", 2025, explain why: the curve's tail is
    the left tail of difficulty. Shapes are sought in [1e-5, 1e5].
    """
    right, drawn = counts(correct, samples)
    often = np.ones(len(right)) if weights is None else finite(weights, "weights")
    if len(often) != len(right):
        raise DataError(f"{len(right)} problems and {len(often)} weights; give one weight a problem")
    pairs, back = np.unique(np.stack([right, drawn]), axis=1, return_inverse=True)
    share = np.bincount(back.ravel(), often) / often.sum()
    return _most_likely(pairs[0].astype(np.float64), pairs[1].astype(np.float64), share)


def forecast_coverage(
    correct: ArrayLike,
    samples: ArrayLike,
    k: int,
    *,
    model: Model = "beta-binomial",
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Forecast:
    """Coverage at k answers, any k, from fewer answers a problem; with an interval by resampling problems.

    Parameters
    ----------
    correct, samples
        As for `coverage_curve`.
    k : int
        The number of answers to forecast for.
    model : {"beta-binomial", "power-law"}
        The first is the better forecast where difficulties are anything like a beta law; the second is the form of
        Brown et al. 2024. docs/decode/answers.md compares them.
    resamples : int
        Sets of problems drawn with replacement, at least 2. A set that is all wrong counts as coverage 0, one that is
        all right as 1.
    level : float
        Coverage of the interval, in (0, 1).
    seed : int
        Non-negative.
    """
    right, drawn = counts(correct, samples)
    whole(int(drawn.min()), "samples")
    wanted, rounds = whole(k, "k"), whole(resamples, "resamples", least=2)
    if positive(level, "level") >= 1:
        raise ParameterError(f"level={level!r} is not below 1; give for example level=0.95")
    if model not in ("beta-binomial", "power-law"):
        raise ParameterError(f"model={model!r} is unknown; give 'beta-binomial' or 'power-law'")
    curve = coverage_curve(right, drawn) if model == "power-law" else None

    def fit(times: Doubles) -> PowerLaw | BetaBinomial:
        if curve is None:
            return fit_beta_binomial(right, drawn, times)
        return fit_power_law(curve.k, np.clip(times @ curve.per_problem / times.sum(), 0.0, 1.0))

    whole_fit = fit(np.ones(len(right)))
    generator = Rng(seed).generator("coverage forecast")
    drawn_sets = generator.multinomial(len(right), np.full(len(right), 1 / len(right)), size=rounds).astype(np.float64)
    low, high = float("nan"), float("nan")
    if (right != right[0]).any() or (drawn != drawn[0]).any():
        rates = [float(times @ right) / float(times @ drawn) for times in drawn_sets]
        # A set that is all wrong or all right cannot be fitted, and tells most: its fits tend to coverage 0 and 1.
        values = [
            float(fit(times).coverage(wanted)) if 0 < rate < 1 else rate for times, rate in zip(drawn_sets, rates)
        ]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Forecast(wanted, float(whole_fit.coverage(wanted)), low, high, whole_fit)


def _most_likely(right: Doubles, drawn: Doubles, share: Doubles) -> BetaBinomial:
    from scipy.optimize import minimize
    from scipy.special import betaln, digamma

    rate = float(share @ right) / float(share @ drawn)
    if not 0 < rate < 1:
        raise DataError("all answers are right or all are wrong, so no law of difficulty can be fitted; add problems")

    def loss(logs: Doubles) -> tuple[float, Any]:
        a, b = np.exp(logs)
        value = -float(share @ (betaln(a + right, b + drawn - right) - betaln(a, b)))
        common = digamma(a + b) - digamma(a + b + drawn)
        slope_a = share @ (digamma(a + right) - digamma(a) + common)
        slope_b = share @ (digamma(b + drawn - right) - digamma(b) + common)
        return value, np.array([-a * slope_a, -b * slope_b])

    edge = np.log(1e5)
    starts = [np.log([rate * size, (1 - rate) * size]) for size in (1.0, 10.0)]
    found = [
        minimize(loss, np.clip(start, -edge, edge), jac=True, method="L-BFGS-B", bounds=[(-edge, edge)] * 2)
        for start in starts
    ]
    best = min(found, key=lambda each: float(each.fun))
    return BetaBinomial(alpha=float(np.exp(best.x[0])), beta=float(np.exp(best.x[1])))

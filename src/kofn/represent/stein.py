"""Stein thinning: rows that stand for a distribution whose density is known up to a constant, whatever they were drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles
from kofn.core.jit import kernel, one_form
from kofn.core.kernels import median_distance
from kofn.core.numbers import is_whole
from kofn.errors import DataError, ParameterError, UsageError
from kofn.selection import Selection


def stein_thinning(x: Any, gradients: Any, k: int, *, bandwidth: float | None = None) -> Selection:
    """k of n points, taken one by one, whose kernel Stein discrepancy to the target density is smallest at each step.

    The Stein kernel of the inverse multiquadric (1 + |x - y|^2 / l^2)^(-1/2) has mean zero under the target, so nothing but
    the gradient of its log density is needed: points of a chain that was biased, or started far away, are mended by it.
    The k distinct points are an equally weighted sample of the target; ties go to the lowest row.

    Guarantee: over all rows the discrepancy of the first k picks is within O(sqrt(log(k) / k)) of that of the best weights on
    the rows (Riabiz, Chen, Cockayne, Swietach, Niederer, Mackey and Oates, "Optimal Thinning of MCMC Output", JRSS B 2022,
    where a row may be taken more than once; here each is taken at most once).

    Parameters
    ----------
    x : array (n, d)
        The points.
    gradients : array (n, d)
        Gradient of the log density of the target at each point.
    k : int
        How many to take, 1 to n.
    bandwidth : float, optional
        l; by default the median distance of 1,000 points.

    Returns
    -------
    Selection
        `indices` in pick order, each of weight n / k. The provenance holds the bandwidth and the discrepancy.

    Raises
    ------
    DataError, UsageError, ParameterError
        Shapes that differ, numbers that are not finite, k or a bandwidth out of range.

    Notes
    -----
    O(n k d) time, O(n d) memory.
    """
    points, slopes = _matrix(x, "x"), _matrix(gradients, "gradients")
    if points.shape != slopes.shape:
        raise UsageError(f"x has shape {points.shape} and gradients {slopes.shape}; give one gradient for each point")
    n = len(points)
    if not is_whole(k, 1, n):
        raise UsageError(f"k={k!r} of {n} points; ask for a whole number from 1 to {n}")
    if bandwidth is not None and not (np.isfinite(bandwidth) and bandwidth > 0):
        raise ParameterError(f"stein_thinning: bandwidth={bandwidth} is out of range; it takes a number above 0")
    length = median_distance(points) if bandwidth is None else float(bandwidth)
    picks = np.zeros(k, np.int64)
    total = _thin(one_form(points), one_form(slopes), 1.0 / length**2, picks)
    known = {
        "method": "stein thinning",
        "n": n,
        "bandwidth": length,
        "discrepancy": float(np.sqrt(max(total, 0.0)) / k),
    }
    return Selection(indices=picks, weights=np.full(k, n / k), provenance=known)


def stein_kernel(x: Any, gradients: Any, y: Any, gradients_of_y: Any, *, bandwidth: float) -> Doubles:
    """The Stein kernel of every point of x with every point of y, float64 (len(x), len(y)). O(len(x) len(y) d) time."""
    a, of_a, b, of_b = (np.ascontiguousarray(each, np.float64) for each in (x, gradients, y, gradients_of_y))
    out = np.empty((len(a), len(b)))
    _pairs(one_form(a), one_form(of_a), one_form(b), one_form(of_b), 1.0 / bandwidth**2, out)
    return out


def _matrix(values: Any, name: str) -> NDArray[np.float64]:
    try:
        array = np.ascontiguousarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} are not numbers ({error}); give an array of shape (points, dimensions)") from None
    if array.ndim != 2 or not array.size:
        raise DataError(f"{name} has shape {array.shape}; give an array of shape (points, dimensions)")
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(wrong):
        share = f"{len(wrong):,} of {len(array):,} rows, the first at row {wrong[0]}"
        raise DataError(f"{name} hold NaN or infinity in {share}; mend them")
    return array


@kernel
def _stein(x: Doubles, of_x: Doubles, y: Doubles, of_y: Doubles, gamma: float) -> float:
    """k0(x, y) for k = (1 + gamma |x - y|^2)^(-1/2): div div k + grad_x k . s(y) + grad_y k . s(x) + k s(x) . s(y)."""
    apart = lean = product = 0.0
    for c in range(len(x)):
        t = x[c] - y[c]
        apart += t * t
        lean += t * (of_x[c] - of_y[c])
        product += of_x[c] * of_y[c]
    k = 1.0 / np.sqrt(1.0 + gamma * apart)
    k3 = k * k * k
    return gamma * k3 * (len(x) + lean) - 3.0 * gamma * gamma * apart * k3 * k * k + k * product


@kernel
def _pairs(x: Doubles, of_x: Doubles, y: Doubles, of_y: Doubles, gamma: float, out: Doubles) -> None:
    for i in range(len(x)):
        for j in range(len(y)):
            out[i, j] = _stein(x[i], of_x[i], y[j], of_y[j], gamma)


@kernel
def _thin(x: Doubles, slopes: Doubles, gamma: float, picks: NDArray[np.int64]) -> float:
    """Greedy picks by half the kernel with itself plus the kernel with the picks; the sum of the kernel over all pairs."""
    n = len(x)
    score, own = np.empty(n), np.empty(n)
    taken = np.zeros(n, np.bool_)
    for i in range(n):
        own[i] = _stein(x[i], slopes[i], x[i], slopes[i], gamma)
        score[i] = 0.5 * own[i]
    total = 0.0
    for at in range(len(picks)):
        best, least = -1, np.inf
        for i in range(n):
            if not taken[i] and score[i] < least:
                best, least = i, score[i]
        picks[at] = best
        taken[best] = True
        total += 2.0 * least
        for i in range(n):
            score[i] += _stein(x[i], slopes[i], x[best], slopes[best], gamma)
    return total

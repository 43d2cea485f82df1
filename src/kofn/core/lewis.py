"""Importance of rows in other norms than the second: root leverage, Lewis weights, l_p sensitivities.

The l_p sensitivity of row i is the largest share |x_i v|^p / |X v|_p^p that it can have over all v. Lewis weights are the
leverage scores of the rows scaled by those same weights; they bound sensitivities from above, and cost a few passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.blas import one_blas_thread
from kofn.core.block import Blocks, Doubles, by_slab
from kofn.core.jit import kernel, one_form
from kofn.core.leverage import (
    as_blocks,
    cut_weights,
    is_blocks,
    leverage_scores,
    orthonormal_basis,
    prepared,
    scores_in,
)
from kofn.errors import UsageError

STEPS = 400  # of a solver for one sensitivity, at most
_THREADS = 2


@dataclass(frozen=True, eq=False)
class LewisWeights:
    """l_p Lewis weights, and how close they are.

    Attributes
    ----------
    weights : float64 (n,)
        Add up to the rank.
    residual : float
        Largest |log| of the factor by which one more application of the defining equation would change a weight.
    rounds : int
        Applications of the equation; each takes two to four passes.
    p : float
        The norm.
    scores : float64 (n,)
        Leverage of the rows as these weights scale them: the weights themselves, once the residual is 0.
    """

    weights: Doubles
    residual: float
    rounds: int
    p: float
    scores: Doubles

    @property
    def bounds(self) -> Doubles:
        """Upper bounds of the l_p sensitivities, float64 (n,), which hold for these weights as they are.

        With M = X^T W^(1-2/p) X and q_i = x_i M^-1 x_i, |x_i v|^2 <= q_i |v|_M^2. For p >= 2, |v|_M^2 <=
        (sum w)^(1-2/p) |X v|_p^2 by Hoelder's inequality; for p < 2 it is the sum of |x_j v|^p (|x_j v| w_j^(-1/p))^(2-p), at
        most |X v|_p^p |v|_M^(2-p) times the largest (q_j w_j^(-2/p))^(1-p/2).
        """
        p, w = self.p, self.weights
        factor = float(w.sum()) ** (p / 2 - 1) if p >= 2 else np.exp(self.residual * (2 - p) / p)
        quotient = np.divide(self.scores, w, out=np.zeros(len(w)), where=w > 0)
        return np.asarray(np.minimum(factor * w * quotient ** (p / 2), 1.0))


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """l_p sensitivities between two bounds.

    Attributes
    ----------
    values : float64 (n,)
        Upper bounds; with `exact` within the tolerance of the truth.
    lower : float64 (n,)
        Shares that some v attains; 0 where none was looked for.
    exact : bool
        Whether every pair of bounds met within the tolerance.
    """

    values: Doubles
    lower: Doubles
    exact: bool

    @property
    def total(self) -> float:
        """Their sum, which says how many rows a sample needs."""
        return float(self.values.sum())


def root_leverage_scores(x: Any, **options: Any) -> Doubles:
    """Roots of leverage scores, float64 (n,), with the options of `leverage_scores`.

    Chances in proportion to these suit l_1 and logistic losses: a row's share in |X v|_1 is at most the root of its leverage
    (by |X v|_2 <= |X v|_1). Munteanu, Schwiegelshohn, Sohler and Woodruff, "On coresets for logistic regression", NeurIPS 2018.
    """
    return np.asarray(np.sqrt(leverage_scores(x, **options)))


def lewis_weights(
    x: Any, p: float, *, tolerance: float = 1e-6, rounds: int = 200, weights: Any = None, intercept: bool = False
) -> LewisWeights:
    """l_p Lewis weights: w_i = leverage of row i of W^(1/2 - 1/p) X.

    Parameters
    ----------
    x : array (n, d), sparse matrix (n, d), or Blocks
        Rows.
    p : float
        At least 1.
    tolerance : float
        Residual at which to stop.
    rounds : int
        At most; the residual says what was reached.
    weights : array (n,), optional
        Each row counts as if it were multiplied by weight^(1/p), so that its term in |X v|_p^p is.
    intercept : bool
        Append a column of ones.

    Notes
    -----
    O(n d^2) time a round, 16 bytes a row. The step is log w -> (1 - s) log w + s log T(w), T(w)_i = (x_i M^-1 x_i)^(p/2),
    M = X^T W^(1-2/p) X, that is w (scores / w)^(s p / 2). For p <= 2, s = 1: Cohen and Peng, "l_p row sampling by Lewis
    weights", STOC 2015; the residual shrinks by |1 - p/2| a round. Above, s = 4 / (p + 2), which shrinks it by
    (p - 2) / (p + 2) near the answer and is a contraction for p < 4. Should a round not shrink it, s = 2 / p from there on:
    then w becomes the scores, which lowers in every round, from anywhere, the function of V = W^(1-2/p) whose only minimum
    Lewis weights are, (1 - 2/p) sum w - log det X^T V X: the second term lies below its tangent in log V.
    """
    if not p >= 1 or np.isinf(p):
        raise UsageError(f"p={p} is not a norm that has Lewis weights; give a number from 1 on, below infinity")
    blocks = as_blocks(x)
    cut_weights(weights, blocks.n)  # refuses what is no weight
    numbers = None if weights is None else np.asarray(weights, np.float64)
    with one_blas_thread():
        current = _leverage(blocks, _Scales(np.ones(blocks.n), numbers, p), intercept)
        step, residual, taken = 1.0 if p <= 2 else 4 / (p + 2), np.inf, 0
        while True:
            scores = _leverage(blocks, _Scales(current, numbers, p), intercept)
            before, residual, taken = residual, _residual(current, scores, p), taken + 1
            if residual <= tolerance or taken >= rounds:
                return LewisWeights(current, residual, taken, p, scores)
            if p > 2 and residual >= before:
                step = 2 / p
            _move(current, scores, step * p / 2)


class _Scales(Sequence[Doubles]):
    """What the rows of each slab are weighted by under these Lewis weights, made when it is asked for."""

    def __init__(self, current: Doubles, weights: Doubles | None, p: float) -> None:
        self.current, self.weights, self.p = by_slab(current), None if weights is None else by_slab(weights), p

    def __len__(self) -> int:
        return len(self.current)

    def __getitem__(self, slab: Any) -> Any:
        now = self.current[slab]
        scale = np.zeros(len(now))
        np.power(now, 1 - 2 / self.p, out=scale, where=now > 0)
        return scale if self.weights is None else scale * self.weights[slab] ** (2 / self.p)


def _leverage(blocks: Blocks, scales: _Scales, intercept: bool) -> Doubles:
    return scores_in(blocks, orthonormal_basis(blocks, weights=scales, intercept=intercept), weights=scales)


def _residual(current: Doubles, scores: Doubles, p: float) -> float:
    largest = 0.0
    for w, score in zip(by_slab(current), by_slab(scores), strict=True):
        there = (w > 0) & (score > 0)
        largest = max(largest, p / 2 * float(np.abs(np.log(score[there] / w[there])).max(initial=0.0)))
    return largest


def _move(current: Doubles, scores: Doubles, power: float) -> None:
    """w (scores / w)^power, in place; a row that has lost all leverage to rounding is out."""
    for w, score in zip(by_slab(current), by_slab(scores), strict=True):
        there = (w > 0) & (score > 0)
        w[~there] = 0.0
        w[there] *= (score[there] / w[there]) ** power


def lp_sensitivities(
    x: Any,
    p: float,
    *,
    exact: bool = True,
    tolerance: float = 1e-8,
    weights: Any = None,
    intercept: bool = False,
) -> Sensitivities:
    """l_p sensitivities: exact ones by one convex program a row, or upper bounds by Lewis weights.

    Parameters
    ----------
    x : array (n, d), sparse matrix (n, d), or Blocks (bounds only, unless p = 2)
        Rows.
    p : float
        At least 1. p = 2: leverage scores, whatever `exact` says.
    exact : bool
        True: O(n^2 d^2) time a step of the solver, for some thousand rows at most. p = 1 by linear programs (HiGHS), p > 1 by
        Newton's method (reweighted least squares with steps of 1 / (p - 1)), until the bounds that a vector v gives from
        below and a dual vector from above meet.
        False: min(1, rank^max(0, p/2 - 1) w_i) with Lewis weights w, O(n d^2) time a round.
    tolerance : float
        Relative distance of the bounds at which the solver stops; for upper bounds that of the Lewis weights.
    weights, intercept
        As in `lewis_weights`.
    """
    if not p >= 1 or np.isinf(p):
        raise UsageError(f"p={p} is out of range; give a number from 1 on, below infinity")
    if p == 2:
        scores = leverage_scores(x, weights=weights, intercept=intercept)
        return Sensitivities(scores, scores, True)
    if not exact:
        bounds = lewis_weights(x, p, tolerance=tolerance, weights=weights, intercept=intercept).bounds
        return Sensitivities(bounds, np.zeros(len(bounds)), False)
    p = float(p)  # one type, one kernel
    rows = _coordinates(x, p, weights, intercept)
    lower, upper = np.zeros(len(rows)), np.zeros(len(rows))
    if p == 1:
        for i in np.flatnonzero((rows**2).sum(axis=1)):
            lower[i] = upper[i] = _by_linear_program(rows, int(i))
    else:
        cuts = np.array_split(np.arange(len(rows)), 8)
        calls = [
            (one_form(rows), p, int(cut[0]), int(cut[-1]) + 1, tolerance, lower, upper) for cut in cuts if len(cut)
        ]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda call: _by_newton(*call), calls))
    return Sensitivities(upper, lower, bool((upper - lower <= tolerance * upper).all()))


def _coordinates(x: Any, p: float, weights: Any, intercept: bool) -> Doubles:
    """The rows in a basis in which l_2 is the identity: sensitivities do not depend on the basis, their solvers do."""
    if is_blocks(x):
        raise UsageError("exact sensitivities take an array that fits in memory; ask for exact=False")
    given = None if weights is None else np.asarray(weights, np.float64) ** (2 / p)
    blocks = as_blocks(x)
    with one_blas_thread():
        basis = orthonormal_basis(blocks, weights=cut_weights(given), intercept=intercept)
        return np.ascontiguousarray(prepared(blocks.take(np.arange(blocks.n)), intercept, given) @ basis.matrix)


def _by_linear_program(rows: Doubles, i: int) -> float:
    """max |x_i v| / |X v|_1: the least sum of t >= |X v| where x_i v = 1, inverted."""
    from scipy.optimize import linprog
    from scipy.sparse import bmat, csr_matrix, identity

    n, d = rows.shape
    eye, x = identity(n, format="csr"), csr_matrix(rows)
    cost = np.concatenate([np.zeros(d), np.ones(n)])
    one = np.concatenate([rows[i], np.zeros(n)])[None]
    found = linprog(
        cost,
        bmat([[x, -eye], [-x, -eye]], format="csr"),
        np.zeros(2 * n),
        one,
        [1.0],
        [(None, None)] * d + [(0, None)] * n,
    )
    return min(1.0, 1.0 / float(found.fun))


@kernel
def _by_newton(
    rows: Doubles, p: float, start: int, stop: int, tolerance: float, lower: Doubles, upper: Doubles
) -> None:
    """Least |X v|_p^p where x_i v = 1, for rows start to stop - 1, between its value and a dual one.

    Any y with X^T y = x_i bounds it: 1 = x_i v = y X v <= |y|_q |X v|_p with 1/p + 1/q = 1. Here y = D X u of the weighted
    least-squares problem that Newton's step solves.
    """
    n, d = rows.shape
    v, u, r, move, weight = np.empty(d), np.empty(d), np.empty(n), np.empty(n), np.empty(n)
    gram = np.empty((d, d))
    for i in range(start, stop):
        length = 0.0
        for j in range(d):
            length += rows[i, j] ** 2
        if length == 0.0:
            continue
        v[:] = rows[i] / length
        value = _residuals(rows, v, p, r)
        best = np.inf
        for _ in range(STEPS):
            top = np.abs(r).max()
            for j in range(n):
                weight[j] = max(np.abs(r[j]) / top, 1e-9) ** (p - 2)
            _weighted_solve(rows, weight, rows[i], gram, u)
            _residuals(rows, u, p, move)
            dual, form = 0.0, 0.0
            for j in range(n):
                dual += np.abs(weight[j] * move[j]) ** (p / (p - 1))
            for j in range(d):
                form += rows[i, j] * u[j]
            best = min(best, dual ** (p - 1))
            if best - 1 / value <= tolerance * best:
                break
            u /= form
            u -= v
            if not _line_search(rows, p, v, u, r, move, value, 1 / (p - 1) if p > 2 else min(1 / (p - 1), 1.9)):
                break
            value = 0.0
            for j in range(n):
                value += np.abs(r[j]) ** p
        lower[i] = 1 / value
        upper[i] = max(min(best, 1.0), lower[i])


@kernel
def _line_search(
    rows: Doubles, p: float, v: Doubles, u: Doubles, r: Doubles, move: Doubles, value: float, step: float
) -> bool:
    """Move v along u by the first step that lowers |X v|_p^p, from this one downwards; r follows. False where none does."""
    _residuals(rows, u, p, move)
    for _ in range(40):
        new = 0.0
        for j in range(len(r)):
            new += np.abs(r[j] + step * move[j]) ** p
        if new < value:
            v += step * u
            r += step * move
            return True
        step *= 0.5
    return False


@kernel
def _residuals(rows: Doubles, v: Doubles, p: float, out: Doubles) -> float:
    total = 0.0
    for i in range(len(rows)):
        value = 0.0
        for j in range(len(v)):
            value += rows[i, j] * v[j]
        out[i] = value
        total += np.abs(value) ** p
    return total


@kernel
def _weighted_solve(rows: Doubles, weight: Doubles, right: Doubles, gram: Doubles, out: Doubles) -> None:
    """(X^T D X) out = right by Cholesky, in place."""
    n, d = rows.shape
    gram[:] = 0.0
    for i in range(n):
        for a in range(d):
            scaled = weight[i] * rows[i, a]
            for b in range(a + 1):
                gram[a, b] += scaled * rows[i, b]
    top = 0.0
    for a in range(d):
        top = max(top, gram[a, a])
    for a in range(d):
        gram[a, a] += 1e-15 * top
        out[a] = right[a]
        for b in range(a + 1):
            for c in range(b):
                gram[a, b] -= gram[a, c] * gram[b, c]
            gram[a, b] = np.sqrt(max(gram[a, a], 1e-300)) if a == b else gram[a, b] / gram[b, b]
        for b in range(a):
            out[a] -= gram[a, b] * out[b]
        out[a] /= gram[a, a]
    for a in range(d - 1, -1, -1):
        for b in range(a + 1, d):
            out[a] -= gram[b, a] * out[b]
        out[a] /= gram[a, a]

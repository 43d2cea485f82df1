"""The law on a few tokens that is nearest to given probabilities by a Bregman divergence, and how near it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.core.block import Doubles
from kofn.core.jit import kernel, one_form

_STEPS = 100  # of Newton's method at most; about eight are taken


def renormalized(p: Doubles, alpha: float, dual: bool = False) -> Doubles:
    """The law q on these tokens that is nearest to p (k,), whose sum is at most 1; see `Bregman`.

    Newton's method on the one unknown nu, from the side from which it is monotone. O(k) a step, about 8 steps.
    """
    q = np.empty(len(p))
    _solve(one_form(p), float(alpha), dual, q)
    return q


def divergence(a: Doubles, b: Doubles, alpha: float) -> float:
    """D(a, b) = sum phi(a) - phi(b) - phi'(b) (a - b), where b > 0 wherever a > 0 (and alpha > 1 where b = 0)."""
    return float(_divergence(one_form(a), one_form(b), float(alpha)))


def best_length(p: Doubles, penalty: float, alpha: float, dual: bool = False) -> int:
    """The k <= len(p) with the smallest loss(k) + penalty k, p falling: the first at which one more token does not pay.

    The loss is discretely convex, so the k is bracketed by doubling and found by binary search: O(log k) solutions on
    at most 2 k tokens.
    """
    return int(_best_length(one_form(p), float(penalty), float(alpha), dual))


@kernel
def _solve(p: Any, alpha: Any, dual: Any, q: Any) -> Any:
    total = 0.0
    for i in range(len(p)):
        total += p[i]
    if len(p) == 1:
        q[0] = 1.0
    elif alpha == 1.0:
        for i in range(len(p)):
            q[i] = p[i] / total
    elif alpha == 2.0:
        for i in range(len(p)):
            q[i] = p[i] + (1.0 - total) / len(p)
    else:
        _newton(p, alpha, dual, q)
        total = 0.0
        for i in range(len(p)):
            total += q[i]
        for i in range(len(p)):
            q[i] /= total


@kernel
def _newton(p: Any, alpha: Any, dual: Any, q: Any) -> Any:
    """sum q(nu) = 1. The sum is concave in nu for alpha >= 2 and convex below: begin at 0, or where q[0] alone is 1."""
    rate = alpha - 1.0
    if alpha >= 2.0:
        nu = 0.0
    elif dual:
        nu = 1.0 - p[0]
    else:
        nu = (1.0 - p[0] ** rate) / rate
    for i in range(len(p)):
        q[i] = p[i]
    for _ in range(_STEPS):
        total = 0.0
        slope = 0.0
        for i in range(len(p)):
            if dual:
                q[i] = _dual_root(p[i], nu, alpha)
                slope += q[i] ** (3.0 - alpha) / (rate * q[i] - (alpha - 2.0) * p[i])
            else:
                base = p[i] ** rate + rate * nu
                q[i] = base ** (1.0 / rate)
                slope += q[i] / base
            total += q[i]
        step = (1.0 - total) / slope
        nu += step
        if abs(step) <= 1e-15 * abs(nu) or abs(total - 1.0) <= 1e-15:
            break


@kernel
def _dual_root(p: Any, nu: Any, alpha: Any) -> Any:
    """q >= p with (q - p) q ** (alpha - 2) = nu >= 0, by Newton's method within a bracket."""
    if nu <= 0.0:
        return p
    low = p
    # for q <= 1 and alpha < 2, q ** (alpha - 2) >= 1; for alpha > 2, q ** (alpha - 2) >= (q - p) ** (alpha - 2)
    high = p + nu if alpha < 2.0 else p + nu ** (1.0 / (alpha - 1.0))
    q = high
    for _ in range(_STEPS):
        power = q ** (alpha - 2.0)
        f = (q - p) * power - nu
        if f > 0.0:
            high = q
        else:
            low = q
        slope = power + (alpha - 2.0) * (q - p) * power / q
        after = q - f / slope
        if not (low < after < high):
            after = 0.5 * (low + high)
        if abs(after - q) <= 1e-16 + 1e-15 * q:
            return after
        q = after
    return q


@kernel
def _divergence(a: Any, b: Any, alpha: Any) -> Any:
    total = 0.0
    for i in range(len(a)):
        if alpha == 1.0:
            if a[i] > 0.0:
                total += a[i] * np.log(a[i] / b[i])
            total += b[i] - a[i]
        elif b[i] == 0.0:
            total += a[i] ** alpha / (alpha * (alpha - 1.0))
        else:
            power = b[i] ** (alpha - 1.0)
            total += (a[i] ** alpha - power * b[i]) / (alpha * (alpha - 1.0)) - power / (alpha - 1.0) * (a[i] - b[i])
    return total


@kernel
def _loss(p: Any, alpha: Any, dual: Any, q: Any) -> Any:
    _solve(p, alpha, dual, q)
    return _divergence(p, q, alpha) if dual else _divergence(q, p, alpha)


@kernel
def _rises(p: Any, k: Any, penalty: Any, alpha: Any, dual: Any, q: Any) -> Any:
    """Whether k + 1 tokens cost more than k. What a token costs while it is left out enters with the one that joins."""
    more = _loss(p[: k + 1], alpha, dual, q[: k + 1])
    less = _loss(p[:k], alpha, dual, q[:k])
    if alpha == 1.0:
        left_out = p[k]
    elif dual:
        left_out = p[k] ** alpha / (alpha * (alpha - 1.0))
    else:
        left_out = p[k] ** alpha / alpha
    return more - less - left_out + penalty >= 0.0


@kernel
def _best_length(p: Any, penalty: Any, alpha: Any, dual: Any) -> Any:
    q = np.empty(len(p))
    low, high = 1, 1
    while high < len(p) and not _rises(p, high, penalty, alpha, dual, q):
        low = high + 1
        high = min(2 * high, len(p))
    high = max(low, high)
    while low < high:
        middle = (low + high) // 2
        if _rises(p, middle, penalty, alpha, dual, q):
            high = middle
        else:
            low = middle + 1
    return low

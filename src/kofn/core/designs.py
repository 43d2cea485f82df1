"""Random designs: drawing rows by their own numbers, and concluding from what was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Rows


def smallest(keys: Any, k: int) -> Rows:
    """Positions of the k smallest keys in ascending order, ties to the lowest position. O(n) time."""
    keys = np.asarray(keys)
    if k >= len(keys):
        return np.argsort(keys, kind="stable").astype(np.int64)
    limit = np.partition(keys, k - 1)[k - 1]
    below = np.flatnonzero(keys < limit)
    level = np.flatnonzero(keys == limit)[: k - len(below)]
    chosen = np.concatenate([below, level])
    chosen.sort()
    return chosen[np.argsort(keys[chosen], kind="stable")].astype(np.int64)


def priority_sample(sizes: Doubles, uniforms: Doubles, k: int) -> tuple[Rows, Doubles]:
    """Priority sampling: the k rows with the largest size / uniform, in that order, and their inclusion.

    With tau the (k+1)-th largest priority, inclusion = min(1, size / tau) given tau; estimates weighted by its inverse
    are unbiased and uncorrelated (Duffield, Lund and Thorup, "Priority sampling for estimation of arbitrary subset
    sums", J. ACM 2007). Rows of size 0 are never drawn.

    Returns
    -------
    positions : int64 (k,)
    inclusion : float64 (k,)
    """
    priority = sizes / uniforms
    order = smallest(-priority, min(k + 1, len(sizes)))
    tau = priority[order[k]] if len(order) > k else 0.0
    picks = order[:k]
    inclusion = np.ones(len(picks)) if tau <= 0 else np.minimum(1.0, sizes[picks] / tau)
    return picks, inclusion


def horvitz_thompson(
    values: Doubles, inclusion: Doubles, kind: str, strata: NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """Unbiased total of the values over all rows, and its standard error.

    kind "simple": one simple random sample without replacement; with `strata`, one in each. Kind "priority": rows drawn by
    `priority_sample`, whose estimates are uncorrelated.
    """
    total = float((values / inclusion).sum())
    if kind == "priority":
        variance = float((values**2 * (1 - inclusion) / inclusion**2).sum())
    else:
        codes = np.zeros(len(values), np.int64) if strata is None else strata
        variance = sum(_simple_variance(values[codes == code], inclusion[codes == code]) for code in np.unique(codes))
    return total, float(np.sqrt(variance))


def _simple_variance(values: Doubles, inclusion: Doubles) -> float:
    k = len(values)
    if k < 2:
        return 0.0 if inclusion[0] == 1.0 else float("inf")
    n = k / inclusion[0]
    return float(n * n * (1 - inclusion[0]) * values.var(ddof=1) / k)

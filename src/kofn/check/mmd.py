"""Maximum mean discrepancy: whether the weighted picks are distributed as the rows are."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.check.context import Context, shares
from kofn.check.metric import EMBEDDINGS, Metric
from kofn.core.block import Doubles, Floats
from kofn.items import Items
from kofn.selection import Selection

SAMPLE = 1_000
"""Rows whose distances give the bandwidth."""

BLOCK = 2_048
"""Rows and columns of the kernel that exist at once: 32 MiB of float64."""


def mmd(items: Items, selection: Selection, context: Context) -> float:
    """Distance of two distributions under a Gaussian kernel: the rows, and the picks by weight.

    MMD^2 = mean of k(x, x') - 2 mean of k(x, p) + mean of k(p, p'), over all measured rows x and all picks p by weight, pairs
    of a row with itself among them (the biased estimate, never negative: Gretton et al., "A kernel two-sample test", JMLR
    2012). k(a, b) = exp(-|a - b|^2 / (2 s^2)), s the median distance between two different ones of 1,000 measured rows.
    The figure is its square root, from 0 (the same) to the square root of 2.

    O((m^2 + m k + k^2) d) time, the m^2 once; 32 MiB of the kernel at a time.
    """
    rows, points = context.vectors, context.picks(selection)
    each = np.full(len(rows), 1.0 / len(rows))
    weights = shares(selection)
    gamma, whole = context.once("kernel of the rows", lambda: _of_rows(rows, each))
    center = rows.mean(axis=0, dtype=np.float64)
    across = _mean_kernel(rows, each, points, weights, gamma, center)
    among = _mean_kernel(points, weights, points, weights, gamma, center)
    return float(np.sqrt(max(0.0, whole - 2 * across + among)))


def bandwidth(rows: Floats) -> float:
    """Median distance between two different rows among the first 1,000; 1 where all are alike."""
    from scipy.spatial.distance import pdist

    apart = pdist(rows[:SAMPLE].astype(np.float64))
    apart = apart[apart > 0]
    return float(np.median(apart)) if len(apart) else 1.0


def _of_rows(rows: Floats, each: Doubles) -> tuple[float, float]:
    gamma = 1.0 / (2.0 * bandwidth(rows) ** 2)
    return gamma, _mean_kernel(rows, each, rows, each, gamma, rows.mean(axis=0, dtype=np.float64))


def _mean_kernel(a: Floats, of_a: Doubles, b: Floats, of_b: Doubles, gamma: float, center: Any) -> float:
    """Sum of w_i v_j k(a_i, b_j), block by block, each pair of blocks once where both are the same."""
    total = 0.0
    for i in range(0, len(a), BLOCK):
        left, w = a[i : i + BLOCK] - center, of_a[i : i + BLOCK]
        for j in range(i if b is a else 0, len(b), BLOCK):
            right, v = b[j : j + BLOCK] - center, of_b[j : j + BLOCK]
            part = float(w @ _gaussian(left, right, gamma) @ v)
            total += part if b is not a or j == i else 2 * part
    return total


def _gaussian(left: Doubles, right: Doubles, gamma: float) -> Doubles:
    squares = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)
    kernel = left @ right.T
    kernel *= -2.0
    kernel += squares
    np.maximum(kernel, 0.0, out=kernel)
    kernel *= -gamma
    return np.exp(kernel, out=kernel)


MMD = Metric(
    name="mmd",
    title="maximum mean discrepancy (Gaussian kernel)",
    higher_is_better=False,
    about=(
        "maximum mean discrepancy of the weighted picks and the rows, Gaussian kernel, its bandwidth the median distance of "
        "1,000 rows, biased estimate, square root"
    ),
    needs=frozenset({EMBEDDINGS}),
    measured=mmd,
)

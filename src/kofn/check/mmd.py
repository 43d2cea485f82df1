"""Maximum mean discrepancy: whether the weighted picks are distributed as the rows are."""

from __future__ import annotations

import numpy as np

from kofn.check.context import Context, shares
from kofn.check.metric import EMBEDDINGS, Metric
from kofn.core.block import Doubles, Floats
from kofn.core.discrepancy import mean_kernel
from kofn.core.kernels import SAMPLE, median_distance
from kofn.items import Items
from kofn.selection import Selection


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
    across = mean_kernel(rows, each, points, weights, gamma, center)
    among = mean_kernel(points, weights, points, weights, gamma, center)
    return float(np.sqrt(max(0.0, whole - 2 * across + among)))


def _of_rows(rows: Floats, each: Doubles) -> tuple[float, float]:
    gamma = 1.0 / (2.0 * median_distance(rows[:SAMPLE]) ** 2)
    return gamma, mean_kernel(rows, each, rows, each, gamma, rows.mean(axis=0, dtype=np.float64))


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

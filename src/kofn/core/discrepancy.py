"""Maximum mean discrepancy under a Gaussian kernel: how far two sets of weighted rows are from one distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.core.block import Block, Blocks, Doubles, Floats, Rows, by_slab, dense
from kofn.core.kernels import SAMPLE, median_distance
from kofn.core.products import finite_product
from kofn.core.reduce import tree_sum

PIECE = 2_048
"""Rows and columns of the kernel that exist at once: 32 MiB of float64."""


def mean_kernel(a: Floats, of_a: Doubles, b: Floats, of_b: Doubles, gamma: float, center: Any) -> float:
    """Sum of w_i v_j exp(-gamma |a_i - b_j|^2), piece by piece, each pair of pieces once where both are the same.

    `center` is taken off all rows before squares are expanded.
    """
    total = 0.0
    for i in range(0, len(a), PIECE):
        left, w = a[i : i + PIECE] - center, of_a[i : i + PIECE]
        for j in range(i if b is a else 0, len(b), PIECE):
            right, v = b[j : j + PIECE] - center, of_b[j : j + PIECE]
            part = float(w @ _gaussian(left, right, gamma) @ v)
            total += part if b is not a or j == i else 2 * part
    return total


def discrepancy_to_rows(blocks: Blocks, rows: Rows, weights: Doubles | None = None) -> float:
    """MMD^2 of the rows of these numbers, counted alike, to all rows by weight, less the part that no choice changes.

    MMD^2 = mean k(x, x') - 2 mean k(x, p) + mean k(p, p') over rows x and points p, where the first mean is the same for
    every choice and would need all pairs of rows: the other two are returned, so the figure is negative. k(a, b) =
    exp(-|a - b|^2 / (2 s^2)), s the median distance between two different ones of 1,000 rows at equal steps. One pass,
    O(n k d) time.
    """
    size = min(SAMPLE, blocks.n)
    sample = dense(blocks.take(np.arange(size) * blocks.n // size))
    gamma = 1.0 / (2.0 * median_distance(sample) ** 2)
    center = sample.mean(axis=0, dtype=np.float64)
    points = np.asarray(dense(blocks.take(rows)))
    each = None if weights is None else by_slab(weights)
    alike = np.full(len(points), 1.0 / len(points))
    mass = float(blocks.n if weights is None else weights.sum())
    across = tree_sum(blocks.map(_across, points, alike, gamma, center, each=each)) / mass
    return float(mean_kernel(points, alike, points, alike, gamma, center) - 2.0 * across)


def _across(block: Block, points: Floats, alike: Doubles, gamma: float, center: Any, weights: Any = None) -> float:
    mine = np.ones(block.stop - block.start) if weights is None else weights
    parts = block.map_tiles(_across_tile, points, alike, gamma, center, each=mine)
    return float(sum(parts))


def _across_tile(start: int, x: Any, points: Floats, alike: Doubles, gamma: float, center: Any, w: Doubles) -> float:
    return mean_kernel(dense(x), w, points, alike, gamma, center)


def _gaussian(left: Doubles, right: Doubles, gamma: float) -> Doubles:
    squares = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)
    kernel = finite_product(left, right.T)
    kernel *= -2.0
    kernel += squares
    np.maximum(kernel, 0.0, out=kernel)
    kernel *= -gamma
    return np.exp(kernel, out=kernel)

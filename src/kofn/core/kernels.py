"""Positive definite kernels: their square roots and powers, rows of values, mean embeddings, and the median bandwidth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.blas import one_blas_thread
from kofn.core.block import TILE, Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.distance import WIDE
from kofn.core.jit import kernel, one_form
from kofn.core.kerneltiles import (
    CUBIC,
    FARTHEST,
    GAUSSIAN,
    IMQ,
    MATERN12,
    MATERN32,
    MATERN52,
    PIECES,
    SINC,
    TABLE,
    TRIANGLE,
    VALUES,
    settle,
    tile,
)  # fmt: skip
from kofn.core.products import finite_product
from kofn.core.scratch import scratch
from kofn.errors import ParameterError

KERNELS = ("gaussian", "laplace", "matern32", "matern52", "imq", "sinc", "bspline")

SAMPLE = 1_000
"""Rows whose distances give the bandwidth."""

SPAN = 512
"""Targets of a mean embedding that are summed together."""

PIECE = 1_024
"""Points whose products with a span of targets exist at once: 2 MiB."""

MANY = 16
"""Columns from which radial kernels are computed from products of rows."""

LARGEST = 1e15
"""Scaled coordinates are cut off there: their squares are finite in float32, and every kernel but the IMQ is 0 long before."""

_TOGETHER = 8  # rows that are added in float32 before they go to a sum in float64
_TAKEN = 4  # coordinates that are scaled at once
_STRIPS = 4  # spans whose sums over all rows exist at once


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel of points that are scaled by its bandwidth, with k(x, x) = 1.

    Attributes
    ----------
    terms : float64 (terms, 4)
        Code of the family, what distances are multiplied by, the family's own parameter, weight; weights sum to 1.
    tables : float32 (terms, points)
        Profile of those families that have no elementary form.
    """

    terms: Doubles
    tables: Floats

    def values(self, a: Floats, b: Floats) -> Floats:
        """k(a_i, b_j) of scaled points, float32 (len(a), len(b)). O(len(a) len(b) d) time."""
        out = np.empty((len(a), len(b)), np.float32)
        _matrix(one_form(_columns(a)), one_form(_columns(b)), self.terms, self.tables, out)
        return out

    def by_products(self, d: int) -> bool:
        """Whether points of d coordinates are measured by products, which want them row by row in memory."""
        return d >= MANY and bool((self.terms[:, 0] < SINC).all())


def kernel_of(name: str, d: int, power: str = "target") -> Kernel:
    """A kernel in d dimensions, or one that it is built from.

    The spectral density of the "root" is the square root of the kernel's own (Dwivedi and Mackey, "Kernel Thinning", JMLR
    2024); that of the "power" is its power alpha, 1/2 <= alpha < 1 (the same authors, "Generalized Kernel Thinning", ICLR
    2022). Gaussian: the same with the bandwidth over sqrt(2), alpha = 1/2. Sinc: itself. Cubic B-spline:
    the triangle. Matern of smoothness s: the root has smoothness s/2 - d/4, where that is positive; the power has s - 1 (1/4
    for Laplace), alpha = (its smoothness + d/2) / (s + d/2). Inverse multiquadric (1 + r^2)^(-1/2): (1 + (r / 0.45)^2)^-(1/4
    + d/4), whose squared spectral density is at least a constant times the kernel's own (a square-root dominating kernel).

    Parameters
    ----------
    name : one of `KERNELS`
        Laplace: exp(-r). matern32: (1 + z) exp(-z) with z = sqrt(3) r. matern52: (1 + z + z^2/3) exp(-z) with z = sqrt(5) r.
        sinc and bspline: products over coordinates of sin(z)/z and of the cubic B-spline (support -2 to 2) over its peak.
    d : int
        Dimensions.
    power : "target", "root", "power" or "plus"
        "plus": the mean of the target and the power, each 1 at distance 0.

    Raises
    ------
    ParameterError
        The kernel has no square root in d dimensions.
    """
    target = {
        "gaussian": (GAUSSIAN, 1.0, 0.0),
        "laplace": (MATERN12, 1.0, 0.5),
        "matern32": (MATERN32, math.sqrt(3), 1.5),
        "matern52": (MATERN52, math.sqrt(5), 2.5),
        "imq": (IMQ, 1.0, 0.5),
        "sinc": (SINC, 1.0, 0.0),
        "bspline": (CUBIC, 1.0, 0.0),
    }[name]
    if power == "target":
        return _kernel([(*target, 1.0)])
    root = _root(name, d) if power == "root" else _power(name, d)
    return _kernel([(*root, 1.0)] if power != "plus" else [(*target, 0.5), (*root, 0.5)])


_Term = tuple[int, float, float]


def _root(name: str, d: int) -> _Term:
    smoothness = {"laplace": 0.5, "matern32": 1.5, "matern52": 2.5}.get(name)
    if smoothness is None:
        return _power(name, d)
    if 2 * smoothness <= d:
        raise ParameterError(
            f"algorithm=root: the {name} kernel has no square root in {d} dimensions; use algorithm target, power or plus"
        )
    return TABLE, math.sqrt(2 * smoothness) if name != "laplace" else 1.0, smoothness / 2 - d / 4


def _power(name: str, d: int) -> _Term:
    return {
        "gaussian": (GAUSSIAN, math.sqrt(2), 0.0),
        "laplace": (TABLE, 1.0, 0.25),
        "matern32": (MATERN12, math.sqrt(3), 0.5),
        "matern52": (MATERN32, math.sqrt(5), 1.5),
        "imq": (IMQ, 1 / 0.45, 0.25 + d / 4),
        "sinc": (SINC, 1.0, 0.0),
        "bspline": (TRIANGLE, 1.0, 0.0),
    }[name]


def _kernel(terms: list[tuple[int, float, float, float]]) -> Kernel:
    tables = [_profile(term[2]) if term[0] == TABLE else np.zeros(1, np.float32) for term in terms]
    widest = max(len(table) for table in tables)
    return Kernel(np.array(terms, np.float64), np.stack([np.resize(table, widest) for table in tables]))


def _profile(smoothness: float) -> Floats:
    """2^(1-s)/Gamma(s) z^s K_s(z) at equal steps of sqrt(z), in which it is smooth for s >= 1/4; float32."""
    from scipy.special import gamma, kv

    z = np.linspace(0, math.sqrt(FARTHEST), PIECES + 1) ** 2
    z[0] = 1.0
    values = 2 ** (1 - smoothness) / gamma(smoothness) * z**smoothness * kv(smoothness, z)
    values[0] = 1.0
    return np.asarray(values, dtype=np.float32)


def scaled(x: Floats, bandwidth: float) -> Floats:
    """Points less their mean, over the bandwidth, one row a coordinate: float32 (d, n), which kernels are computed from."""
    columns = np.array(x.T, np.float32, order="C")
    scale(columns, bandwidth)
    return columns


def scale(columns: Floats, bandwidth: float) -> None:
    """Take the mean off each coordinate and divide by the bandwidth, in place; float32 (d, n), differences in float64."""
    for at in range(0, len(columns), _TAKEN):
        taken = columns[at : at + _TAKEN].astype(np.float64, order="C")
        for column in taken:
            column -= column.mean()
            column /= bandwidth
        np.clip(taken, -LARGEST, LARGEST, out=taken)
        columns[at : at + _TAKEN] = taken


def median_distance(x: Floats | Doubles) -> float:
    """Median distance between two different ones of at most 1,000 rows at equal steps; 1 where all are alike.

    O(1,000^2 d) time, 4 MB of memory.
    """
    from scipy.spatial.distance import pdist

    rows = np.arange(min(SAMPLE, len(x))) * len(x) // min(SAMPLE, len(x))
    apart = pdist(x[rows].astype(np.float64))
    positive = np.count_nonzero(apart)
    if not positive:
        return 1.0
    middle = len(apart) - positive + positive // 2
    apart.partition(middle)  # np.median sorts out a third place besides, which takes five times as long
    upper = apart[middle]
    return float(upper if positive % 2 else (apart[:middle].max() + upper) / 2)


def mean_embedding(
    points: Floats, weights: Doubles, targets: Floats, form: Kernel, runner: TileRunner = run_serially, tell: Any = None
) -> Doubles:
    """Sum of w_i k(x_i, t_j) over all points, float64 (targets,). O(n targets d) time, chunks of targets on threads.

    Parameters
    ----------
    points : float32 (d, n)
        Scaled, one row a coordinate.
    weights : float64 (n,)
        Weight of each point.
    targets : float32 (d, m)
        Where the embedding is wanted.
    tell : callable, optional
        `tell(stage, done, total)` is told how many chunks of targets are done.
    """
    total = np.zeros(targets.shape[1])
    size = SPAN if len(total) >= 8 * SPAN else SPAN // 2  # few targets must do for several threads
    spans = [(at, min(at + size, len(total))) for at in range(0, len(total), size)]
    if form.by_products(len(points)):
        rows = rows_of(points)
        if targets is points:
            return _embed_among(rows, weights, form, runner, tell)
        ends, known = rows_of(targets), (rows, lengths(rows), weights, form)
        calls: list[Any] = [(*known, ends[a:b], total[a:b]) for a, b in spans]
        embed: Any = _embed_by_products
    else:
        shared = one_form(points), weights, one_form(targets), form.terms, form.tables
        calls, embed = [(*shared, total[a:b], a) for a, b in spans], _embed
    each = 16 if tell else max(1, len(spans))
    for at in range(0, len(spans), each):
        with one_blas_thread():
            runner(embed, calls[at : at + each])
        if tell:
            tell("mean embedding", min(at + each, len(spans)), len(spans))
    return total


def rows_of(points: Floats) -> Floats:
    """Points row by row, float32 (n, d): themselves where they lie so in memory."""
    return np.ascontiguousarray(points.T)


def lengths(rows: Floats) -> Floats:
    """Squared lengths, float32 (n,)."""
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def taken(points: Floats, columns: Rows) -> Floats:
    """Points of these numbers, float32 (d, len(columns)), in memory as they lie."""
    if points.flags.c_contiguous:
        return np.ascontiguousarray(points[:, columns])
    return np.take(points.T, columns, axis=0).T


def product_tile(a: Floats, of_a: Floats, b: Floats, of_b: Floats, form: Kernel, out: Floats) -> None:
    """k(a_i, b_j) of rows by their product, float32 (len(a), len(b)). The squared lengths are `lengths` of the rows."""
    finite_product(a, b.T, out=out)
    settle(out, of_a, of_b, one_form(a), one_form(b), form.terms, form.tables)


def squared_mmd(points: Floats, weights: Doubles, form: Kernel, runner: TileRunner = run_serially) -> float:
    """Sum of w_i w_j k(x_i, x_j) for signed weights: MMD^2 of two measures whose difference they are. O(n^2 d) time."""
    return float(weights @ mean_embedding(points, weights, points, form, runner))


def _columns(x: Floats) -> Floats:
    return np.ascontiguousarray(np.asarray(x, np.float32).T)


def kernel_rows(rows: Floats, of_rows: Floats, some: Rows, form: Kernel, runner: TileRunner) -> Floats:
    """k(rows[some_i], rows[j]) by products, float32 (len(some), n)."""
    out = np.empty((len(some), len(rows)), np.float32)
    known = rows[some], of_rows[some], rows, of_rows, form, out
    with one_blas_thread():
        runner(_write_rows, [(*known, slice(low, low + TILE)) for low in range(0, len(rows), TILE)])
    return out


def _write_rows(
    mine: Floats, of_mine: Floats, rows: Floats, of_rows: Floats, form: Kernel, out: Floats, span: slice
) -> None:
    part = rows[span]
    values = scratch("kernel", len(mine), len(part))
    product_tile(mine, of_mine, part, of_rows[span], form, values)
    out[:, span] = values


def _embed_among(rows: Floats, weights: Doubles, form: Kernel, runner: TileRunner, tell: Any) -> Doubles:
    """The mean embedding of rows at themselves: each pair of different spans is computed once."""
    total, known, starts = np.zeros(len(rows)), (rows, lengths(rows), weights, form), range(0, len(rows), SPAN)
    for at in range(0, len(starts), _STRIPS):
        some = starts[at : at + _STRIPS]
        with one_blas_thread():
            strips = runner(_strip, [(*known, low) for low in some])
        for low, strip in zip(some, strips, strict=True):
            total[: min(low + SPAN, len(rows))] += strip
        if tell:
            tell("mean embedding", min(at + _STRIPS, len(starts)), len(starts))
    return total


def _strip(rows: Floats, of_rows: Floats, weights: Doubles, form: Kernel, low: int) -> Doubles:
    """What a span of rows gets from itself and from all rows before it, and they from the span."""
    span = slice(low, low + SPAN)
    ends, of_ends, mine = rows[span], of_rows[span], weights[span].astype(np.float32)
    strip, sums, lanes = np.zeros(low + len(ends)), np.empty(len(ends), np.float32), np.empty(WIDE, np.float32)
    for at in [*range(0, low, PIECE), low]:
        part = slice(at, min(at + PIECE, low) if at < low else low + SPAN)
        values = scratch("kernel", len(rows[part]), len(ends))
        product_tile(rows[part], of_rows[part], ends, of_ends, form, values)
        _accumulate(values.reshape(-1), weights, at, len(values), sums, strip[low:])
        if at < low:
            _accumulate_across(values, mine, lanes, strip[part])
    return strip


def _embed_by_products(
    rows: Floats, of_rows: Floats, weights: Doubles, form: Kernel, targets: Floats, total: Doubles
) -> None:
    """As `_embed`, for targets row by row."""
    of_targets, sums = lengths(targets), np.empty(len(targets), np.float32)
    for low in range(0, len(rows), PIECE):
        part = rows[low : low + PIECE]
        values = scratch("kernel", len(part), len(targets))
        product_tile(part, of_rows[low : low + PIECE], targets, of_targets, form, values)
        _accumulate(values.reshape(-1), weights, low, len(part), sums, total)


@kernel
def _matrix(a: Floats, b: Floats, terms: Doubles, tables: Floats, out: Floats) -> None:
    squares, values = np.empty(VALUES, np.float32), np.empty(VALUES, np.float32)
    for i in range(a.shape[1]):
        for start in range(0, b.shape[1], VALUES):
            m = min(VALUES, b.shape[1] - start)
            tile(a, i, 1, b, start, m, terms, tables, squares, values)
            for j in range(m):
                out[i, start + j] = values[j]


@kernel
def _embed(
    points: Floats, weights: Doubles, targets: Floats, terms: Doubles, tables: Floats, total: Doubles, start: int
) -> None:
    """Add each point's weight times its kernel row at the targets from `start` on, points in order."""
    m, n = len(total), points.shape[1]
    squares, values = np.empty(_TOGETHER * m, np.float32), np.empty(_TOGETHER * m, np.float32)
    sums = np.empty(m, np.float32)
    for low in range(0, n, _TOGETHER):
        rows = min(_TOGETHER, n - low)
        tile(points, low, rows, targets, start, m, terms, tables, squares, values)
        _accumulate(values, weights, low, rows, sums, total)


@kernel
def _accumulate(values: Floats, weights: Doubles, first: int, rows: int, sums: Floats, total: Doubles) -> None:
    """Add rows of values by weight: `_TOGETHER` at a time in float32, these sums in float64."""
    m = np.uint64(len(total))
    for low in range(0, rows, _TOGETHER):
        for i in range(low, min(low + _TOGETHER, rows)):
            weight, base, more = np.float32(weights[first + i]), np.uint64(i) * m, i > low
            if more:
                for j in range(m):
                    sums[j] += weight * values[base + j]
            else:
                for j in range(m):
                    sums[j] = weight * values[base + j]
        for j in range(m):
            total[j] += sums[j]


@kernel
def _accumulate_across(values: Floats, weights: Floats, lanes: Floats, total: Doubles) -> None:
    """Add each row's weighted sum of values: in float32 lane by lane, the lanes' sums in float64."""
    m = values.shape[1]
    whole = m - m % WIDE
    for i in range(len(values)):
        for lane in range(WIDE):
            lanes[lane] = np.float32(0)
        for j in range(0, whole, WIDE):
            for lane in range(WIDE):
                lanes[lane] += values[i, j + lane] * weights[j + lane]
        for lane in range(WIDE):
            total[i] += lanes[lane]
        for j in range(whole, m):
            total[i] += values[i, j] * weights[j]

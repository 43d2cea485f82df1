"""Positive definite kernels: their square roots and powers, rows of values, mean embeddings, and the median bandwidth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic

from kofn.core.block import Doubles, Floats, TileRunner, run_serially
from kofn.core.jit import kernel, one_form
from kofn.errors import ParameterError

KERNELS = ("gaussian", "laplace", "matern32", "matern52", "imq", "sinc", "bspline")

SAMPLE = 1_000
"""Rows whose distances give the bandwidth."""

CHUNK = 512
"""Values of a kernel that exist at once: what they are made of stays in the fastest cache."""

LARGEST = 1e15
"""Scaled coordinates are cut off there: their squares are finite in float32, and every kernel but the IMQ is 0 long before."""

_GAUSSIAN, _MATERN12, _MATERN32, _MATERN52, _IMQ, _TABLE, _SINC, _CUBIC, _TRIANGLE = range(9)
_TOGETHER = 8  # rows that are added in float32 before they go to a sum in float64
_PIECES, _FARTHEST = 8_192, 30.0  # of a table: linear between points, so within 3e-7; beyond the last one below 1e-11

_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_THIRD, _LEAST = np.float32(1 / 3), np.float32(87)
_LOG2E, _ROUND = (
    np.float32(1.4426950408889634),
    np.float32(12582912.0),
)  # 1.5 * 2^23: adding it rounds to a whole number
# (2^f - 1) / f for |f| <= 1/2 within 8e-09: the first Chebyshev polynomials of it.
_E1, _E2, _E3, _E4, _E5, _E6 = (
    np.float32(value)
    for value in (0.693147188029, 0.240226509223, 0.0555035710425, 0.00961805666989, 0.00133908673514, 0.00015461447463)
)


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
        "gaussian": (_GAUSSIAN, 1.0, 0.0),
        "laplace": (_MATERN12, 1.0, 0.5),
        "matern32": (_MATERN32, math.sqrt(3), 1.5),
        "matern52": (_MATERN52, math.sqrt(5), 2.5),
        "imq": (_IMQ, 1.0, 0.5),
        "sinc": (_SINC, 1.0, 0.0),
        "bspline": (_CUBIC, 1.0, 0.0),
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
    return _TABLE, math.sqrt(2 * smoothness) if name != "laplace" else 1.0, smoothness / 2 - d / 4


def _power(name: str, d: int) -> _Term:
    return {
        "gaussian": (_GAUSSIAN, math.sqrt(2), 0.0),
        "laplace": (_TABLE, 1.0, 0.25),
        "matern32": (_MATERN12, math.sqrt(3), 0.5),
        "matern52": (_MATERN32, math.sqrt(5), 1.5),
        "imq": (_IMQ, 1 / 0.45, 0.25 + d / 4),
        "sinc": (_SINC, 1.0, 0.0),
        "bspline": (_TRIANGLE, 1.0, 0.0),
    }[name]


def _kernel(terms: list[tuple[int, float, float, float]]) -> Kernel:
    tables = [_profile(term[2]) if term[0] == _TABLE else np.zeros(1, np.float32) for term in terms]
    widest = max(len(table) for table in tables)
    return Kernel(np.array(terms, np.float64), np.stack([np.resize(table, widest) for table in tables]))


def _profile(smoothness: float) -> Floats:
    """2^(1-s)/Gamma(s) z^s K_s(z) at equal steps of sqrt(z), in which it is smooth for s >= 1/4; float32."""
    from scipy.special import gamma, kv

    z = np.linspace(0, math.sqrt(_FARTHEST), _PIECES + 1) ** 2
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
    for row in columns:
        column = row.astype(np.float64)
        column -= column.mean()
        column /= bandwidth
        np.clip(column, -LARGEST, LARGEST, out=column)
        row[:] = column


def median_distance(x: Floats | Doubles) -> float:
    """Median distance between two different ones of at most 1,000 rows at equal steps; 1 where all are alike.

    O(1,000^2 d) time, 8 MB of memory.
    """
    from scipy.spatial.distance import pdist

    rows = np.arange(min(SAMPLE, len(x))) * len(x) // min(SAMPLE, len(x))
    apart = pdist(x[rows].astype(np.float64))
    apart = apart[apart > 0]
    return float(np.median(apart)) if len(apart) else 1.0


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
    shared = one_form(points), weights, one_form(targets), form.terms, form.tables
    size = CHUNK if len(total) >= 8 * CHUNK else CHUNK // 2  # few targets must do for several threads
    spans = [(at, min(at + size, len(total))) for at in range(0, len(total), size)]
    each = 16 if tell else max(1, len(spans))
    for at in range(0, len(spans), each):
        runner(_embed, [(*shared, total[a:b], a) for a, b in spans[at : at + each]])
        if tell:
            tell("mean embedding", min(at + each, len(spans)), len(spans))
    return total


def squared_mmd(points: Floats, weights: Doubles, form: Kernel, runner: TileRunner = run_serially) -> float:
    """Sum of w_i w_j k(x_i, x_j) for signed weights: MMD^2 of two measures whose difference they are. O(n^2 d) time."""
    return float(weights @ mean_embedding(points, weights, points, form, runner))


def _columns(x: Floats) -> Floats:
    return np.ascontiguousarray(np.asarray(x, np.float32).T)


@intrinsic
def _two_to(typing: Any, power: Any) -> Any:
    """2^power for a float32 that is a whole number from -126 to 127: its bits written down."""

    def bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.fptosi(args[0], ir.IntType(32))
        exponent = builder.shl(builder.add(whole, ir.Constant(ir.IntType(32), 127)), ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(exponent, ir.FloatType())

    return numba.types.float32(numba.types.float32), bits


@intrinsic
def _fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once. IEEE 754 says which number that is, so it is the same on every processor."""

    def product(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, b, c), product


@kernel
def _exp_minus(v: np.float32) -> np.float32:
    """exp(-v) for v >= 0 in float32, within 1e-7: the same on every processor."""
    t = -min(v, _LEAST) * _LOG2E
    whole = (t + _ROUND) - _ROUND
    f = t - whole
    p = _fused(f, _fused(f, _fused(f, _E6, _E5), _E4), _E3)
    return _fused(f, _fused(f, _fused(f, p, _E2), _E1), _ONE) * _two_to(whole)


@kernel
def _squares(point: Floats, x: Floats, start: int, m: int, out: Floats) -> None:
    """Squared distances of a point to columns start to start + m of x."""
    rest, low, end = len(point) % 4, np.uint64(start), np.uint64(m)  # unsigned: nothing is counted from the end
    for c in range(0, max(1, rest)):
        t = point[c]
        for j in range(end):
            t0 = x[c, low + j] - t
            out[j] = _fused(t0, t0, out[j] if c else _ZERO) if rest else _ZERO
    for c in range(rest, len(point), 4):
        p0, p1, p2, p3 = point[c], point[c + 1], point[c + 2], point[c + 3]
        for j in range(end):
            t0, t1, t2, t3 = x[c, low + j] - p0, x[c + 1, low + j] - p1, x[c + 2, low + j] - p2, x[c + 3, low + j] - p3
            out[j] = _fused(t0, t0, _fused(t1, t1, _fused(t2, t2, _fused(t3, t3, out[j]))))


@kernel
def _products(code: int, scale: np.float32, point: Floats, x: Floats, start: int, m: int, out: Floats) -> None:
    """Products over coordinates: of sin(z)/z, of the cubic B-spline over its peak, or of the triangle 1 - |z|."""
    for j in range(m):
        out[j] = _ONE
    for c in range(len(point)):
        for j in range(m):
            z = abs(x[c, start + j] - point[c]) * scale
            if code == _SINC:
                if z > 1e-4:
                    out[j] *= np.float32(math.sin(np.float64(z)) / np.float64(z))
            elif code == _TRIANGLE:
                out[j] *= max(_ZERO, _ONE - z)
            elif z < _ONE:
                out[j] *= _ONE - np.float32(1.5) * z * z * (_ONE - _HALF * z)
            else:
                rest = max(_ZERO, _TWO - z)
                out[j] *= np.float32(0.25) * rest * rest * rest


@kernel
def _profiles(
    code: int,
    scale: np.float32,
    parameter: float,
    weight: np.float32,
    squares: Floats,
    tables: Floats,
    term: int,
    m: int,
    more: bool,
    out: Floats,
) -> None:
    """Weight times the profile of a radial kernel at these squared distances; `more`: added to what is there."""
    by = scale * scale
    if code == _GAUSSIAN:
        half = _HALF * by
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight * _exp_minus(squares[j] * half)
    elif code == _MATERN12:
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight * _exp_minus(math.sqrt(squares[j]) * scale)
    elif code == _MATERN32:
        for j in range(m):
            z = math.sqrt(squares[j]) * scale
            out[j] = (out[j] if more else _ZERO) + weight * ((_ONE + min(z, _LEAST)) * _exp_minus(z))
    elif code == _MATERN52:
        for j in range(m):
            z = math.sqrt(squares[j]) * scale
            short = min(z, _LEAST)
            out[j] = (out[j] if more else _ZERO) + weight * ((_ONE + short * (_ONE + short * _THIRD)) * _exp_minus(z))
    elif code == _IMQ and parameter == 0.5:
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight / math.sqrt(_ONE + squares[j] * by)
    elif code == _IMQ:
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight * np.float32(
                (1.0 + np.float64(squares[j]) * by) ** -parameter
            )
    else:
        steps = np.float32(_PIECES / math.sqrt(_FARTHEST))
        for j in range(m):
            if not more:
                out[j] = _ZERO
            t = math.sqrt(math.sqrt(squares[j]) * scale) * steps
            if t < _PIECES:
                at = int(t)
                low, high = tables[term, at], tables[term, at + 1]
                out[j] += weight * (low + np.float32(t - at) * (high - low))


@kernel
def kernel_row(
    point: Floats, x: Floats, start: int, m: int, terms: Doubles, tables: Floats, squares: Floats, out: Floats
) -> None:
    """k(point, x[:, start + j]) for j < m <= CHUNK into `out`; `squares` is room for as many numbers."""
    _add_row(_ONE, point, x, start, m, terms, tables, squares, False, out)


@kernel
def _add_row(
    by: np.float32,
    point: Floats,
    x: Floats,
    start: int,
    m: int,
    terms: Doubles,
    tables: Floats,
    squares: Floats,
    more: bool,
    out: Floats,
) -> None:
    """`by` times a row of the kernel; `more`: added to what is there."""
    radial = False
    for term in range(len(terms)):
        radial |= terms[term, 0] < _SINC
    if radial:
        _squares(point, x, start, m, squares)
    for term in range(len(terms)):
        code, scale, weight = int(terms[term, 0]), np.float32(terms[term, 1]), np.float32(terms[term, 3]) * by
        if code < _SINC:
            _profiles(code, scale, terms[term, 2], weight, squares, tables, term, m, more or term > 0, out)
        else:
            _products(code, scale, point, x, start, m, squares)
            for j in range(m):
                out[j] = (out[j] if more or term else _ZERO) + weight * squares[j]


@kernel
def _matrix(a: Floats, b: Floats, terms: Doubles, tables: Floats, out: Floats) -> None:
    squares, values, point = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.empty(len(a), np.float32)
    for i in range(a.shape[1]):
        for c in range(len(a)):
            point[c] = a[c, i]
        for start in range(0, b.shape[1], CHUNK):
            m = min(CHUNK, b.shape[1] - start)
            kernel_row(point, b, start, m, terms, tables, squares, values)
            for j in range(m):
                out[i, start + j] = values[j]


@kernel
def _embed(
    points: Floats, weights: Doubles, targets: Floats, terms: Doubles, tables: Floats, total: Doubles, start: int
) -> None:
    """Add each point's weight times its kernel row at the targets from `start` on, points in order, `_TOGETHER` at a time."""
    squares, values, point = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.empty(len(points), np.float32)
    m = len(total)
    for low in range(0, points.shape[1], _TOGETHER):
        for i in range(low, min(low + _TOGETHER, points.shape[1])):
            for c in range(len(points)):
                point[c] = points[c, i]
            _add_row(np.float32(weights[i]), point, targets, start, m, terms, tables, squares, i > low, values)
        for j in range(m):
            total[j] += values[j]

"""Tiles of kernel values, by differences or from products of rows, and what pairs of points are halved by in them."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.distance import WIDE, squared_distance
from kofn.core.jit import kernel

GAUSSIAN, MATERN12, MATERN32, MATERN52, IMQ, TABLE, SINC, CUBIC, TRIANGLE = range(9)
"""Codes of the families: radial ones before SINC, products over coordinates from there on."""

VALUES = 4_096
"""Values of a tile: what they are made of stays in the fastest cache, and a call costs little beside them."""

PIECES, FARTHEST = 8_192, 30.0
"""Of a table: linear between points at equal steps of the root, so within 3e-7; beyond the last one below 1e-11."""

NEAR = 0.05
"""Squared distances below this share of both squared lengths are computed again by differences: products lose digits there."""

_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_THIRD, _LEAST, _NEAR = np.float32(1 / 3), np.float32(87), np.float32(NEAR)
_LOG2E, _ROUND = (
    np.float32(1.4426950408889634),
    np.float32(12582912.0),
)  # 1.5 * 2^23: adding it rounds to a whole number
# (2^f - 1) / f for |f| <= 1/2 within 8e-09: the first Chebyshev polynomials of it.
_E1, _E2, _E3, _E4, _E5, _E6 = (
    np.float32(value)
    for value in (0.693147188029, 0.240226509223, 0.0555035710425, 0.00961805666989, 0.00133908673514, 0.00015461447463)
)


@kernel
def tile(
    a: Floats,
    i0: int,
    rows: int,
    b: Floats,
    j0: int,
    columns: int,
    terms: Doubles,
    tables: Floats,
    squares: Floats,
    out: Floats,
) -> None:
    """k(a[:, i0 + i], b[:, j0 + j]) into out[i * columns + j]; `squares` is room for as many numbers, `VALUES` at most."""
    radial = False
    for term in range(len(terms)):
        radial |= terms[term, 0] < SINC
    if radial:
        _squares(a, i0, rows, b, j0, columns, squares)
    for term in range(len(terms)):
        code, scale, weight = int(terms[term, 0]), np.float32(terms[term, 1]), np.float32(terms[term, 3])
        if code < SINC:
            _profiles(code, scale, terms[term, 2], weight, squares, tables, term, rows * columns, term > 0, out)
        else:
            _products(code, scale, a, i0, rows, b, j0, columns, squares)
            for j in range(rows * columns):
                out[j] = (out[j] if term else _ZERO) + weight * squares[j]


@kernel
def settle(products: Floats, of_a: Floats, of_b: Floats, a: Floats, b: Floats, terms: Doubles, tables: Floats) -> None:
    """Turn products of rows a_i . b_j into values of a radial kernel, in place.

    `of_a` and `of_b` are the rows' squared lengths, of which |a - b|^2 = |a|^2 + |b|^2 - 2 a . b. Close rows are measured
    again by differences, so that values are within 1e-5 of the kernel's.
    """
    squares, sums, columns = np.empty(products.shape[1], np.float32), np.empty(WIDE), np.uint64(products.shape[1])
    for i in range(len(products)):
        row, mine, close = products[i], of_a[i], 0
        for j in range(columns):
            both = mine + of_b[j]
            square = both - _TWO * row[j]
            squares[j] = square
            close += 1 if square < _NEAR * both else 0
        if close:
            for j in range(columns):
                if squares[j] < _NEAR * (mine + of_b[j]):
                    squares[j] = np.float32(squared_distance(a[i], b[j], sums))
        for term in range(len(terms)):
            code, scale, weight = int(terms[term, 0]), np.float32(terms[term, 1]), np.float32(terms[term, 3])
            _profiles(code, scale, terms[term, 2], weight, squares, tables, term, len(squares), term > 0, row)


@kernel
def decide(
    values: Floats,
    lean: Doubles,
    uniforms: Doubles,
    factor: float,
    variance: float,
    signs: Doubles,
    swapped: NDArray[np.bool_],
) -> float:
    """Toss the coins of a group of pairs from the kernel values among them; the variance proxy afterwards.

    Pairs of a group have their first points before their second ones. `signs` are of first points, which are left or kept.
    """
    half = len(lean)
    for i in range(half):
        a, b = 2 * half * i, 2 * half * (half + i)
        gap = max(0.0, 2.0 - 2.0 * np.float64(values[a + half + i]))  # |k(a, .) - k(b, .)|^2, for k(x, x) = 1
        threshold = max(math.sqrt(gap * variance * factor), gap)
        chance = 0.5 if threshold == 0.0 else 0.5 * (1.0 - lean[i] / threshold)
        swapped[i] = uniforms[i] < chance
        signs[i] = 1.0 if swapped[i] else -1.0
        if threshold > 0.0:
            variance += gap * max(0.0, 1.0 + (gap - 2.0 * threshold) * variance / (threshold * threshold))
        for j in range(half):
            lean[j] += signs[i] * ((values[a + j] - values[a + half + j]) - (values[b + j] - values[b + half + j]))
    return variance


@kernel
def balance(values: Floats, signs: Doubles, half: int, group: int, lean: Doubles) -> None:
    """Add to later pairs' leans what the pairs of a group bring, whose signs are known."""
    pairs = len(lean)
    for i in range(half):
        sign = signs[i]
        for low in range(0, pairs, group):
            m = min(group, pairs - low)
            a, b = 2 * (pairs * i + low), 2 * (pairs * (half + i) + low)
            for j in range(m):
                lean[low + j] += sign * ((values[a + j] - values[a + m + j]) - (values[b + j] - values[b + m + j]))


@kernel
def _squares(a: Floats, i0: int, rows: int, b: Floats, j0: int, columns: int, out: Floats) -> None:
    """Squared distances of columns of a to columns of b, in flat rows."""
    d, low, end = len(a), np.uint64(j0), np.uint64(columns)  # unsigned: nothing is counted from the end
    rest = d % 4
    for i in range(rows):
        at, base = i0 + i, np.uint64(i * columns)
        if rest == 0:
            for j in range(end):
                out[base + j] = _ZERO
        elif rest == 1:
            p0 = a[0, at]
            for j in range(end):
                t0 = b[0, low + j] - p0
                out[base + j] = t0 * t0
        elif rest == 2:
            p0, p1 = a[0, at], a[1, at]
            for j in range(end):
                t0, t1 = b[0, low + j] - p0, b[1, low + j] - p1
                out[base + j] = _fused(t1, t1, t0 * t0)
        else:
            p0, p1, p2 = a[0, at], a[1, at], a[2, at]
            for j in range(end):
                t0, t1, t2 = b[0, low + j] - p0, b[1, low + j] - p1, b[2, low + j] - p2
                out[base + j] = _fused(t2, t2, _fused(t1, t1, t0 * t0))
        for c in range(rest, d, 4):
            p0, p1, p2, p3 = a[c, at], a[c + 1, at], a[c + 2, at], a[c + 3, at]
            for j in range(end):
                t0, t1 = b[c, low + j] - p0, b[c + 1, low + j] - p1
                t2, t3 = b[c + 2, low + j] - p2, b[c + 3, low + j] - p3
                out[base + j] = _fused(t0, t0, _fused(t1, t1, _fused(t2, t2, _fused(t3, t3, out[base + j]))))


@kernel
def _products(
    code: int, scale: np.float32, a: Floats, i0: int, rows: int, b: Floats, j0: int, columns: int, out: Floats
) -> None:
    """Products over coordinates: of sin(z)/z, of the cubic B-spline over its peak, or of the triangle 1 - |z|."""
    for at in range(rows * columns):
        out[at] = _ONE
    for i in range(rows):
        for c in range(len(a)):
            p, base = a[c, i0 + i], i * columns
            for j in range(columns):
                z = abs(b[c, j0 + j] - p) * scale
                if code == SINC:
                    if z > 1e-4:
                        out[base + j] *= np.float32(math.sin(np.float64(z)) / np.float64(z))
                elif code == TRIANGLE:
                    out[base + j] *= max(_ZERO, _ONE - z)
                elif z < _ONE:
                    out[base + j] *= _ONE - np.float32(1.5) * z * z * (_ONE - _HALF * z)
                else:
                    rest = max(_ZERO, _TWO - z)
                    out[base + j] *= np.float32(0.25) * rest * rest * rest


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
    if code == GAUSSIAN:
        half = _HALF * by
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight * _exp_minus(squares[j] * half)
    elif code == MATERN12:
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight * _exp_minus(math.sqrt(squares[j]) * scale)
    elif code == MATERN32:
        for j in range(m):
            z = math.sqrt(squares[j]) * scale
            out[j] = (out[j] if more else _ZERO) + weight * ((_ONE + min(z, _LEAST)) * _exp_minus(z))
    elif code == MATERN52:
        for j in range(m):
            z = math.sqrt(squares[j]) * scale
            short = min(z, _LEAST)
            out[j] = (out[j] if more else _ZERO) + weight * ((_ONE + short * (_ONE + short * _THIRD)) * _exp_minus(z))
    elif code == IMQ and parameter == 0.5:
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight / math.sqrt(_ONE + squares[j] * by)
    elif code == IMQ:
        for j in range(m):
            out[j] = (out[j] if more else _ZERO) + weight * np.float32(
                (1.0 + np.float64(squares[j]) * by) ** -parameter
            )
    else:
        steps = np.float32(PIECES / math.sqrt(FARTHEST))
        for j in range(m):
            if not more:
                out[j] = _ZERO
            t = math.sqrt(math.sqrt(squares[j]) * scale) * steps
            if t < PIECES:
                at = int(t)
                low, high = tables[term, at], tables[term, at + 1]
                out[j] += weight * (low + np.float32(t - at) * (high - low))

"""Scans of a row of logits: exponentials, their sums and moments, tokens above a cut. Float32 in, sums in float64.

Numbers of tokens are large (262,144) and rows few, so each scan is one loop that the compiler vectorises: blocks of
fixed length, sums in fixed lanes (the same additions on every processor), nothing stored that is not asked for. Rows
hold no NaN and no +inf (`top_of` tells); -inf is a token that cannot be.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.jit import kernel, one_form

Tokens = NDArray[np.int64]

BLOCK = 1_024
"""Logits whose exponentials exist at once, and what `block_sums` answers for."""

BINS = 4_096
FINE = 64
"""Bins of distances, and how many of them to a nat."""

LANES = 64
"""Lanes of a sum: each adds every 64th number."""

_SHORT = 64  # logits that are looked at one by one where any of them is wanted
_LOG2E = math.log2(math.e)
_LOWEST = np.float32(-126.0)  # exponentials below 2 ** this, 1e-38 of the largest, are 0
_MAGIC = np.float32(12_582_912.0)  # 1.5 * 2**23: adding it rounds to a whole number
# 2**f on [-1/2, 1/2]: the polynomial of degree 5 with the smallest relative error, 1e-7
_C1, _C2, _C3, _C4, _C5 = (np.float32(c) for c in (0.69314700, 0.24022242, 0.05550734, 0.00967151, 0.00132647))
_ONE = np.float32(1)
_ZERO = np.float32(0)


def top_of(x: Floats) -> float:
    """The largest logit; NaN where any is NaN."""
    return float(np.max(x))


def total(x: Floats, top: float) -> float:
    """Sum of exp(x - top)."""
    return float(_total(one_form(x), np.float32(top)))


def total_and_moment(x: Floats, top: float) -> tuple[float, float]:
    """Sums of e and of e (x - top), where e = exp(x - top)."""
    ties, rest, moment = _moments(one_form(x), np.float32(top))
    return float(ties + rest), float(moment)


def entropy(x: Floats, top: float) -> float:
    """Entropy of softmax(x) in nats, to a relative error of 1e-6 also where the law is all but one-hot."""
    ties, rest, moment = _moments(one_form(x), np.float32(top))
    return math.log(ties) + math.log1p(rest / ties) - moment / (ties + rest)


def log_normalizers(logits: Floats) -> Doubles:
    """log sum exp of each row, float64 (rows,), of logits (rows, V). O(rows V) time, no memory."""
    out = np.empty(len(logits))
    for row, x in enumerate(logits):
        top = top_of(x)
        out[row] = top + math.log(total(x, top))
    return out


def block_sums(x: Floats, top: float) -> Doubles:
    """Sum of exp(x - top) of each block of `BLOCK` logits."""
    out = np.empty((len(x) + BLOCK - 1) // BLOCK)
    _block_sums(one_form(x), np.float32(top), out)
    return out


def place_of(cumulated: Doubles, u: float) -> int:
    """Where u times the total falls among cumulated weights, 0 < u < 1: a draw by weight, never one without weight."""
    place = int(np.searchsorted(cumulated, u * cumulated[-1], side="right"))
    # the product may round to the total: then the last place of positive weight
    return min(place, int(np.searchsorted(cumulated, cumulated[-1], side="left")))


def drawn_place(x: Floats, top: float, u: float) -> int:
    """The place at which the cumulative softmax of x first exceeds u in (0, 1).

    Exponentials are added by blocks; only the block that holds u is cumulated. O(m) time, O(m / 1,024) memory.
    """
    start = 0
    if len(x) > BLOCK:
        reach = np.cumsum(block_sums(x, top))
        block = place_of(reach, u)
        before = float(reach[block - 1]) if block else 0.0
        u = (u * float(reach[-1]) - before) / (float(reach[block]) - before)
        start = block * BLOCK
        x = x[start : start + BLOCK]
    return start + place_of(np.cumsum(np.exp(x.astype(np.float64) - top)), u)


def count_above(x: Floats, cut: float) -> int:
    """How many logits are at least `cut`."""
    return int(_count(one_form(x), np.float32(cut)))


def tokens_above(x: Floats, cut: float) -> Tokens:
    """Tokens whose logits are at least `cut`, in their order."""
    out = np.empty(count_above(x, cut), np.int64)
    _above(one_form(x), np.float32(cut), out)
    return out


def tokens_near(x: Floats, center: float, radius: float) -> Tokens:
    """Tokens with |x - center| <= radius in float32, in their order."""
    center32, radius32 = np.float32(center), np.float32(radius)
    out = np.empty(_count_near(one_form(x), center32, radius32), np.int64)
    _near(one_form(x), center32, radius32, out)
    return out


def distance_masses(x: Floats, top: float, center: float) -> Doubles:
    """Sums of exp(x - top) by the distance of x to `center`: `BINS` bins of 1 / `FINE` nats, the last for all beyond."""
    out = np.zeros(BINS)
    _distance_masses(one_form(x), np.float32(top), np.float32(center), out)
    return out


def split_by_bin(x: Floats, center: float, bin: int) -> tuple[Floats, int, Tokens]:
    """The logits of the bins of `distance_masses` before this one, the rest at -inf; how many; and this bin's tokens."""
    before, inside = np.empty(len(x), np.float32), np.empty(len(x), np.int32)
    count, more = _split_by_bin(one_form(x), np.float32(center), bin, before, inside)
    return before, int(count), inside[:more].astype(np.int64)


def kept_above(x: Floats, cut: float) -> Floats:
    """Logits that are at least `cut`, the rest at -inf."""
    out = np.empty(len(x), np.float32)
    _kept_above(one_form(x), np.float32(cut), out)
    return out


def spread(x: Floats, top: float) -> float:
    """Standard deviation (population) of the finite logits."""
    return float(_spread(one_form(x), np.float32(top)))


@intrinsic
def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), emit


@intrinsic
def _scaled(context: Any, p: Any, t: Any) -> Any:
    """p * 2**k, where t = k + _MAGIC: the whole number in t's low bits is added to the exponent of p in [0.7, 1.5]."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.shl(builder.bitcast(args[1], word), ir.Constant(word, 23))
        return builder.bitcast(builder.add(builder.bitcast(args[0], word), bits), ir.FloatType())

    return types.float32(types.float32, types.float32), emit


@kernel
def exp_block(x: Any, top: Any, e: Any) -> Any:
    """e = exp(x - top), relative error about 1e-7 (2 + |x - top|)."""
    log2e = np.float32(_LOG2E)
    for i in range(len(x)):
        y = (x[i] - top) * log2e
        y = y if y > _LOWEST else _LOWEST
        t = y + _MAGIC
        f = y - (t - _MAGIC)
        p = _fma(_C5, f, _C4)
        p = _fma(p, f, _C3)
        p = _fma(p, f, _C2)
        p = _fma(p, f, _C1)
        p = _fma(p, f, _ONE)
        e[i] = _scaled(p, t) if y > _LOWEST else _ZERO


@kernel
def lane_sum(e: Any, lanes: Any) -> Any:
    """Sum of a block: each lane adds every 64th number in float32, lanes are added in float64."""
    lanes[:] = _ZERO
    whole = len(e) // LANES
    for i in range(whole):
        row = e[i * LANES : i * LANES + LANES]
        for j in range(LANES):
            lanes[j] += row[j]
    s = 0.0
    for j in range(LANES):
        s += lanes[j]
    for i in range(whole * LANES, len(e)):
        s += e[i]
    return s


@kernel
def _total(x: Any, top: Any) -> Any:
    e, lanes = np.empty(BLOCK, np.float32), np.empty(LANES, np.float32)
    z = 0.0
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        part = e[: len(block)]
        exp_block(block, top, part)
        z += lane_sum(part, lanes)
    return z


@kernel
def _block_sums(x: Any, top: Any, out: Any) -> Any:
    e, lanes = np.empty(BLOCK, np.float32), np.empty(LANES, np.float32)
    for b in range(len(out)):
        block = x[b * BLOCK : b * BLOCK + BLOCK]
        part = e[: len(block)]
        exp_block(block, top, part)
        out[b] = lane_sum(part, lanes)


@kernel
def _weigh(x: Any, top: Any, e: Any) -> Any:
    """e becomes e (x - top), 0 where e is."""
    for i in range(len(x)):
        d = x[i] - top
        d = d if d > np.float32(-1e4) else np.float32(-1e4)
        e[i] = e[i] * d


@kernel
def _moments(x: Any, top: Any) -> Any:
    """How many logits are `top`, the sum of e over the others, and of e (x - top) over all."""
    e, lanes = np.empty(BLOCK, np.float32), np.empty(LANES, np.float32)
    ties = 0
    rest = 0.0
    moment = 0.0
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        part = e[: len(block)]
        exp_block(block, top, part)
        if _count_block(block, top) > 0:  # beside a 1 small numbers would be lost
            for i in range(len(block)):
                if block[i] >= top:
                    ties += 1
                    part[i] = _ZERO
        rest += lane_sum(part, lanes)
        _weigh(block, top, part)
        moment += lane_sum(part, lanes)
    return ties, rest, moment


@kernel
def _count(x: Any, cut: Any) -> Any:
    found = 0
    for start in range(0, len(x), BLOCK):
        found += _count_block(x[start : start + BLOCK], cut)
    return found


@kernel
def _count_block(x: Any, cut: Any) -> Any:
    found: Any = np.int32(0)
    for i in range(len(x)):
        found = np.int32(found + np.int32(x[i] >= cut))
    return found


@kernel
def _above(x: Any, cut: Any, out: Any) -> Any:
    found = 0
    for start in range(0, len(x), _SHORT):
        block = x[start : start + _SHORT]
        if _count_block(block, cut) > 0:
            for i in range(len(block)):
                if block[i] >= cut:
                    out[found] = start + i
                    found += 1


@kernel
def _near_block(x: Any, center: Any, radius: Any) -> Any:
    found: Any = np.int32(0)
    for i in range(len(x)):
        found = np.int32(found + np.int32(abs(x[i] - center) <= radius))
    return found


@kernel
def _count_near(x: Any, center: Any, radius: Any) -> Any:
    found = 0
    for start in range(0, len(x), BLOCK):
        found += _near_block(x[start : start + BLOCK], center, radius)
    return found


@kernel
def _near(x: Any, center: Any, radius: Any, out: Any) -> Any:
    found = 0
    for start in range(0, len(x), _SHORT):
        block = x[start : start + _SHORT]
        if _near_block(block, center, radius) > 0:
            for i in range(len(block)):
                if abs(block[i] - center) <= radius:
                    out[found] = start + i
                    found += 1


@kernel
def _bins_of(x: Any, center: Any, bins: Any) -> Any:
    """Bins of distances as floats: whole numbers up to BINS - 1."""
    last = np.float32(BINS - 1)
    fine = np.float32(FINE)
    for i in range(len(x)):
        scaled = abs(x[i] - center) * fine
        bins[i] = scaled if scaled < last else last


@kernel
def _distance_masses(x: Any, top: Any, center: Any, out: Any) -> Any:
    e, bins = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        exp_block(block, top, e[: len(block)])
        _bins_of(block, center, bins[: len(block)])
        for i in range(len(block)):
            out[int(bins[i])] += e[i]


@kernel
def _split_by_bin(x: Any, center: Any, wanted: Any, before: Any, inside: Any) -> Any:
    bins = np.empty(BLOCK, np.float32)
    below, up_to = np.float32(wanted), np.float32(wanted + 1)
    nothing = np.float32(-np.inf)
    count = 0
    more = 0
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        part = bins[: len(block)]
        _bins_of(block, center, part)
        out = before[start : start + BLOCK]
        few: Any = np.int32(0)
        some: Any = np.int32(0)
        for i in range(len(block)):
            out[i] = block[i] if part[i] < below else nothing
            few = np.int32(few + np.int32(part[i] < below))
            some = np.int32(some + np.int32(part[i] < up_to))
        count += few
        if some > few:
            for i in range(len(block)):
                if below <= part[i] < up_to and block[i] > nothing:
                    inside[more] = start + i
                    more += 1
    return count, more


@kernel
def _kept_above(x: Any, cut: Any, out: Any) -> Any:
    nothing = np.float32(-np.inf)
    for i in range(len(x)):
        out[i] = x[i] if x[i] >= cut else nothing


@kernel
def _spread(x: Any, top: Any) -> Any:
    some, lanes = np.empty(BLOCK, np.float32), np.empty(LANES, np.float32)
    count = 0
    first = 0.0
    second = 0.0
    floor = np.float32(-np.inf)
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        part = some[: len(block)]
        finite: Any = np.int32(0)
        for i in range(len(block)):
            part[i] = block[i] - top if block[i] > floor else _ZERO
            finite = np.int32(finite + np.int32(block[i] > floor))
        count += finite
        first += lane_sum(part, lanes)
        for i in range(len(block)):
            part[i] = part[i] * part[i]
        second += lane_sum(part, lanes)
    mean = first / count
    return math.sqrt(max(second / count - mean * mean, 0.0))

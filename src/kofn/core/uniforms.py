"""Counter-based uniform numbers: Philox4x32-10 of (seed, step, place), the same whoever asks, in whatever order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles
from kofn.core.jit import kernel

Seeds = NDArray[np.uint64]

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_11 = np.uint64(11)
_UNIT = 2.0**-53


def uniforms(seeds: Seeds, step: int, purpose: int = 0) -> Doubles:
    """One number in (0, 1) for each seed, float64 (n,): the first word pair of the counter (step, 0, purpose)."""
    out = np.empty((len(seeds), 1))
    _fill(seeds, np.uint64(step), np.uint64(purpose), out)
    return out[:, 0]


def uniform_rows(seeds: Seeds, step: int, count: int, purpose: int = 0) -> Doubles:
    """`count` numbers in (0, 1) for each seed, float64 (n, count); the first of each row is that of `uniforms`.

    Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) with the seed as key and (step,
    place // 2, purpose) as counter; two numbers of 53 bits come from a block. 8 n count bytes.
    """
    out = np.empty((len(seeds), count))
    _fill(seeds, np.uint64(step), np.uint64(purpose), out)
    return out


def child_seeds(seed: int, start: int, stop: int) -> Seeds:
    """Seeds of sequences start..stop-1, uint64: 64 bits of Philox with key `seed` and the sequence as counter."""
    out = np.empty(stop - start, np.uint64)
    _children(np.uint64(seed & 0xFFFFFFFFFFFFFFFF), start, out)
    return out


@kernel
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Ten rounds on 32-bit words, each held in a uint64."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@kernel
def _fill(seeds: Any, step: Any, purpose: Any, out: Any) -> Any:
    for row in range(len(seeds)):
        k0 = seeds[row] & _LOW
        k1 = seeds[row] >> _32
        for pair in range((out.shape[1] + 1) // 2):
            a, b, c, d = philox(step & _LOW, step >> _32, np.uint64(pair), purpose, k0, k1)
            out[row, 2 * pair] = (np.float64((a << _32 | b) >> _11) + 0.5) * _UNIT
            if 2 * pair + 1 < out.shape[1]:
                out[row, 2 * pair + 1] = (np.float64((c << _32 | d) >> _11) + 0.5) * _UNIT


@kernel
def _children(seed: Any, start: Any, out: Any) -> Any:
    for i in range(len(out)):
        number = np.uint64(start + i)
        # the last word keeps children apart from the draws of the same seed
        a, b, _, _ = philox(number & _LOW, number >> _32, np.uint64(0), _LOW, seed & _LOW, seed >> _32)
        out[i] = a << _32 | b

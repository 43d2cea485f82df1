"""Leverage scores from a sketch, and rows kept by leverage in a single pass: right up to a factor, in O(d^2) memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.blas import one_blas_thread
from kofn.core.block import Block, Doubles, Rows, slab_count
from kofn.core.jit import kernel, one_form
from kofn.core.leverage import Basis, as_blocks, cut_weights, prepared, scores_in
from kofn.core.reduce import tree_sum
from kofn.errors import UsageError

Numbers = Callable[[int, int], Doubles]
"""`numbers(start, stop)` gives rows start to stop - 1 their uniform numbers in (0, 1), such as `rng.rows` for a purpose."""

ENTRIES = 8
"""Non-zero entries in a column of the sketching matrix."""

_PIECE = 4096


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Rows that stand for all of them in every direction.

    Attributes
    ----------
    rows : int64 (m,)
        Ascending.
    chances : float64 (m,)
        With which each was kept; rows over the roots of these keep |X v|^2 in every direction v.
    """

    rows: Rows
    chances: Doubles


def streaming_leverage_scores(
    x: Any,
    numbers: Numbers,
    *,
    epsilon: float = 0.25,
    directions: int | None = None,
    ridge: float = 0.0,
    weights: Any = None,
    intercept: bool = False,
) -> Doubles:
    """Leverage scores up to a factor, float64 (n,): one pass adds rows up in a sketch, one measures them by it.

    Parameters
    ----------
    x : array (n, d), sparse matrix (n, d), or Blocks
        Rows.
    numbers : callable
        Uniform numbers of rows, for the sketch; see `Numbers`.
    epsilon : float
        In (0, 1). The sketch has (sqrt(columns) + 6)^2 / epsilon^2 rows. Where it keeps every length within 1 +- epsilon,
        scores are within [1 / (1 + epsilon)^2, 1 / (1 - epsilon)^2] of the exact ones. A Gaussian sketch of that size does so
        but for a chance of 3e-8 (Davidson and Szarek 2001); for this sparse one the proven size has another factor
        log(columns) (Cohen, "Nearly tight oblivious subspace embeddings by trace inequalities", SODA 2016).
    directions : int, optional
        Measure rows along so many random directions only (Johnson-Lindenstrauss): O(d directions) instead of O(d^2) a row,
        and each score has a relative standard error of sqrt(2 / directions) besides.
    ridge, weights, intercept
        As in `leverage_scores`.

    Notes
    -----
    O(n d (8 + min(directions, d))) time, two passes, memory of the sketch: O(d^2 / epsilon^2). After Drineas,
    Magdon-Ismail, Mahoney and Woodruff, "Fast approximation of matrix coherence and statistical leverage", JMLR 2012, with a
    sparse embedding (Nelson and Nguyen, "OSNAP", FOCS 2013).
    """
    if not 0 < epsilon < 1:
        raise UsageError(f"epsilon={epsilon} is not between 0 and 1; give one, such as 0.25")
    if directions is not None and directions < 1:
        raise UsageError(f"directions={directions} is below 1; give a whole number, such as 64")
    blocks = as_blocks(x)
    cut = cut_weights(weights, blocks.n)
    columns = blocks.d + intercept
    buckets = int(np.ceil((np.sqrt(columns) + 6) ** 2 / epsilon**2 / ENTRIES))
    each: Sequence[Any] = cut or [None] * slab_count(blocks.n)
    with one_blas_thread():
        sketch = tree_sum(blocks.map(_sketch_of_block, buckets, intercept, numbers, each=each))
        matrix = _whitening(sketch, ridge, blocks.n)
        if directions is not None and directions < matrix.shape[1]:
            signs = np.where(numbers(0, matrix.shape[1] * directions) < 0.5, -1.0, 1.0)
            matrix = matrix @ signs.reshape(-1, directions) / np.sqrt(directions)
        return scores_in(blocks, Basis(matrix, intercept, float("nan"), 1), weights=cut)


def _whitening(sketch: Doubles, ridge: float, n: int) -> Doubles:
    """The matrix that makes the sketch's columns orthonormal; directions that it does not have are left out."""
    columns = sketch.shape[1]
    length = np.sqrt((sketch**2).sum(axis=0) + ridge)
    there = length > 0
    held = np.concatenate([sketch, np.sqrt(ridge) * np.eye(columns)]) if ridge else sketch
    _, values, right = np.linalg.svd(held[:, there] / length[there], full_matrices=False)
    kept = values > max(n, columns) * np.finfo(np.float64).eps * values.max(initial=0.0)
    matrix = np.zeros((columns, int(kept.sum())))
    matrix[there] = right[kept].T / values[kept] / length[there][:, None]
    return matrix


def _sketch_of_block(block: Block, buckets: int, intercept: bool, numbers: Numbers, weights: Any) -> Doubles:
    sketch = np.zeros((ENTRIES * buckets, block.x.shape[1] + intercept))
    bits = (numbers(block.start, block.stop) * 2.0**52).astype(np.uint64)
    for at in range(0, block.x.shape[0], _PIECE):
        cut = slice(at, at + _PIECE)
        _scatter(
            one_form(_dense(block.x[cut], intercept, None if weights is None else weights[cut])), bits[cut], sketch
        )
    return np.asarray(sketch / np.sqrt(ENTRIES))


def _dense(x: Any, intercept: bool, weights: Any) -> Doubles:
    rows = prepared(x, intercept, weights)
    return np.asarray(rows if isinstance(rows, np.ndarray) else rows.toarray())


@kernel
def _scatter(x: Doubles, bits: NDArray[np.uint64], sketch: Doubles) -> None:
    """Add each row, with a random sign, to one random row in each of `ENTRIES` parts of the sketch."""
    buckets = len(sketch) // ENTRIES
    for i in range(len(x)):
        for part in range(ENTRIES):
            z = bits[i] + np.uint64(0x9E3779B97F4A7C15) * np.uint64(part + 1)  # SplitMix64 (Steele, Lea and Flood 2014)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
            sign = 1.0 if z & np.uint64(1) else -1.0
            into = sketch[part * buckets + np.int64((z >> np.uint64(33)) % np.uint64(buckets))]
            for j in range(x.shape[1]):
                into[j] += sign * x[i, j]


def online_row_sampling(
    x: Any,
    numbers: Numbers,
    *,
    ridge: float,
    epsilon: float = 0.5,
    oversampling: float | None = None,
    weights: Sequence[float] | None = None,
    intercept: bool = False,
) -> KeptRows:
    """Rows kept or dropped for good as they pass, so that those kept stand for all in every direction.

    A row's chance is `oversampling` times (1 + epsilon) times its ridge leverage among the rows kept so far, at most 1.

    Parameters
    ----------
    x : array (n, d), sparse matrix (n, d), or Blocks
        Rows, in the order in which they pass.
    numbers : callable
        Uniform numbers of rows; see `Numbers`.
    ridge : float
        Above 0: squared lengths below epsilon times this need not be kept.
    epsilon : float
        In (0, 1): with high probability |X v|^2 is kept within 1 +- epsilon, and epsilon ridge |v|^2.
    oversampling : float, optional
        By default the proof's 8 log(columns) / epsilon^2; far fewer do in practice.
    weights, intercept
        As in `leverage_scores`.

    Notes
    -----
    O(n d^2) time, one pass, O(d^2) memory and what is kept: in expectation
    O(d log(d) log(|X|^2 / ridge) / epsilon^2) rows. Cohen, Musco and Pachocki, "Online row sampling", APPROX 2016.
    """
    if not ridge > 0:
        raise UsageError(f"ridge={ridge} is not above 0; the first rows are measured against it")
    if not 0 < epsilon < 1:
        raise UsageError(f"epsilon={epsilon} is not between 0 and 1; give one, such as 0.5")
    blocks = as_blocks(x)
    cut = cut_weights(weights, blocks.n)
    columns = blocks.d + intercept
    scale = 8 * max(1.0, float(np.log(columns))) / epsilon**2 if oversampling is None else float(oversampling)
    triangle = np.sqrt(ridge) * np.eye(columns)
    rows: list[Rows] = []
    chances: list[Doubles] = []
    each: Sequence[Any] = cut or [None] * slab_count(blocks.n)
    start = 0
    for slab in blocks.here.map(_slab_of, intercept, each=each):
        found = _keep(one_form(slab), numbers(start, start + len(slab)), triangle, scale * (1 + epsilon))
        at = np.flatnonzero(found)
        rows.append(at + start)
        chances.append(found[at])
        start += len(slab)
    return KeptRows(np.concatenate(rows).astype(np.int64), np.concatenate(chances))


def _slab_of(block: Block, intercept: bool, weights: Any) -> Doubles:
    return _dense(block.x, intercept, weights).copy()


@kernel
def _keep(x: Doubles, uniforms: Doubles, triangle: Doubles, scale: float) -> Doubles:
    """Chance of each row that is kept, 0 for the others; `triangle` is the Cholesky factor of the rows kept so far, upper,
    and takes on each that is kept by rotations."""
    m, d = x.shape
    found, z = np.zeros(m), np.empty(d)
    for i in range(m):
        score = 0.0
        z[:] = x[i]
        for j in range(d):
            top = z[j] / triangle[j, j]
            score += top * top
            for t in range(j + 1, d):
                z[t] -= top * triangle[j, t]
        chance = min(1.0, scale * min(1.0, score))
        if uniforms[i] >= chance:
            continue
        found[i] = chance
        for t in range(d):
            z[t] = x[i, t] / np.sqrt(chance)
        for j in range(d):
            length = np.hypot(triangle[j, j], z[j])
            cosine, sine = length / triangle[j, j], z[j] / triangle[j, j]
            triangle[j, j] = length
            for t in range(j + 1, d):
                triangle[j, t] = (triangle[j, t] + sine * z[t]) / cosine
                z[t] = cosine * z[t] - sine * triangle[j, t]
    return found

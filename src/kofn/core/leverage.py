"""Leverage scores: how much each row alone decides of a least-squares fit.

The leverage of row i is x_i (X^T X)^+ x_i^T, the largest share that the row can have in |X v|^2 over all v; scores add up to
the rank. Exact ones take two to four passes: an orthonormal basis B of the columns (so that X B has orthonormal columns),
then squared row norms of X B. `kofn.core.lewis` has those of other norms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.blas import one_blas_thread
from kofn.core.block import SLAB, TILE, Block, Blocks, Doubles, Rows, by_slab, slab_count
from kofn.core.products import finite_product
from kofn.core.reduce import tree_sum
from kofn.core.scratch import scratch
from kofn.errors import DataError, UsageError

GOOD = 1e6
"""A squared condition number from which a basis is orthonormal to some 1e-10: the rounding of a Gram matrix times this."""

ROUNDS = 3
"""Bases at most; each squares the condition number down, so three do for what float64 can tell apart."""

_EPS = float(np.finfo(np.float64).eps)
_PIECE = 1 << 17  # numbers in a product's result: it stays in the cache until it is squared
_THREADS = 2
_TILES = 4  # tiles of a slab whose Gram matrices are held at a time


@dataclass(frozen=True, eq=False)
class Basis:
    """What turns rows into orthonormal coordinates.

    Attributes
    ----------
    matrix : float64 (d, rank), or (d + 1, rank) with an intercept
        Rows times this have orthonormal columns, up to rounding; with a ridge, those of the rows and the ridge's.
    intercept : bool
        Whether a column of ones is appended to the rows.
    condition : float
        Of the rows, their columns scaled to one length; infinite where columns depend on one another.
    passes : int
        Over the rows.
    """

    matrix: Doubles
    intercept: bool
    condition: float
    passes: int

    @property
    def rank(self) -> int:
        """Columns that do not depend on one another."""
        return int(self.matrix.shape[1])


def leverage_scores(
    x: Any, *, ridge: float = 0.0, weights: Any = None, intercept: bool = False, method: str = "gram"
) -> Doubles:
    """Exact leverage scores, float64 (n,), each in [0, 1]; without a ridge they add up to the rank.

    Parameters
    ----------
    x : array (n, d), sparse matrix (n, d), or Blocks
        Rows; arrays of float64 keep their precision, others are widened tile by tile.
    ridge : float
        Scores x_i (X^T X + ridge I)^-1 x_i^T; they add up to the effective dimension.
    weights : array (n,), optional
        Each row counts as if it were multiplied by the root of its weight; not negative.
    intercept : bool
        Append a column of ones (to which the ridge applies as well).
    method : {"gram", "qr"}
        Gram matrices, orthonormalised again until nothing is lost; or Householder QR of tiles, some ten times slower.

    Notes
    -----
    O(n d^2) time, two to four passes, O(d^2) memory beyond the scores. Relative error of a score: about 1e-16 times the
    condition number. Columns count as dependent when a singular value is below max(n, d) 2e-16
    times the largest, as in `numpy.linalg.matrix_rank`.

    Gram matrices square the condition number; a second one, of the rows in the first basis, takes that back: CholeskyQR2
    (Yamamoto, Nakatsukasa, Yanagisawa and Fukaya 2015), with a floor under the small eigenvalues where Cholesky would fail
    (shifted CholeskyQR3, Fukaya et al. 2020), by eigenvectors, which dependent columns do not stop (Stathopoulos and Wu, "A
    block orthogonalization procedure with constant synchronization requirements", SIAM J. Sci. Comput. 2002).
    """
    blocks = as_blocks(x)
    cut = cut_weights(weights, blocks.n)
    with one_blas_thread():
        basis = orthonormal_basis(blocks, ridge=ridge, weights=cut, intercept=intercept, method=method)
        return scores_in(blocks, basis, weights=cut)


def orthonormal_basis(
    blocks: Blocks,
    *,
    ridge: float = 0.0,
    weights: Sequence[Any] | None = None,
    intercept: bool = False,
    method: str = "gram",
) -> Basis:
    """The basis that `leverage_scores` measures rows in; `weights` cut by slab."""
    if not ridge >= 0:
        raise UsageError(f"ridge={ridge} is below 0; give 0 or more")
    find = {"gram": _basis_by_gram, "qr": _basis_by_qr}.get(method)
    if find is None:
        raise UsageError(f"method={method!r} is unknown; use one of: gram, qr")
    return find(blocks, ridge, weights, intercept)


def scores_in(blocks: Blocks, basis: Basis, *, weights: Sequence[Any] | None = None) -> Doubles:
    """Squared lengths of the rows in this basis, float64 (n,): one pass."""
    scores, at = np.empty(blocks.n), 0
    for part in blocks.map(scores_in_block, basis, each=weights or [None] * slab_count(blocks.n)):
        scores[at : at + len(part)] = part
        at += len(part)
    return scores


def scores_in_block(block: Block, basis: Basis, weights: Doubles | None = None) -> Doubles:
    """Squared lengths of a slab's rows in this basis, float64 (m,), at most 1."""
    return np.concatenate(block.map_tiles(_scores_of_tile, basis, each=weights))


def _scores_of_tile(_start: int, x: Any, basis: Basis, weights: Doubles | None = None) -> Doubles:
    scores, at = np.empty(x.shape[0]), 0
    for y in _pieces(x, basis.matrix, basis.intercept, weights):
        np.einsum("ij,ij->i", y, y, out=scores[at : at + len(y)])
        at += len(y)
    return np.minimum(scores, 1.0, out=scores)


def _basis_by_gram(blocks: Blocks, ridge: float, weights: Sequence[Any] | None, intercept: bool) -> Basis:
    """Bases by eigenvectors of Gram matrices, until one has nothing left to mend."""
    columns = blocks.d + intercept
    noise = 8 * columns * _EPS  # below this share of the largest, an eigenvalue may be rounding
    zero = max(noise, max(blocks.n, columns) * _EPS) ** 2
    matrix, smallest, drowned = np.eye(columns), 1.0, False
    for passes in range(1, ROUNDS + 1):
        gram = _gram(blocks, None if passes == 1 else matrix, intercept, weights) + ridge * (matrix.T @ matrix)
        if passes == 1:  # columns of one length: what differs in scale alone is not ill-conditioned
            matrix, gram = _scaled(matrix, gram)
        if not len(gram):
            return Basis(np.zeros((columns, 0)), intercept, float("inf"), passes)
        values, vectors = np.linalg.eigh(gram)
        values, largest = values / values[-1], values[-1]
        if passes == 2 and drowned:  # what the noise's floor held up, and may be too small to be a direction of its own
            kept = values * noise > zero
            values, vectors = values[kept], vectors[:, kept]
            smallest = values[0] * noise
        if passes == 1:
            smallest, drowned = values[0], values[0] < noise
        matrix = matrix @ (vectors / np.sqrt(largest * np.maximum(values, noise)))
        if values[0] * GOOD >= 1.0:
            break
    whole = matrix.shape[1] == columns
    return Basis(matrix, intercept, float(smallest) ** -0.5 if whole else float("inf"), passes)


def _scaled(matrix: Doubles, gram: Doubles) -> tuple[Doubles, Doubles]:
    """Basis and Gram matrix with columns of length one, and without those that are nothing but zeros."""
    length = np.sqrt(gram.diagonal())
    if not np.isfinite(length).all():
        raise DataError("the rows hold NaN, infinity, or numbers whose squares are beyond 1e308; mend or scale them")
    there = length > 0
    length = length[there]
    return matrix[:, there] / length, gram[np.ix_(there, there)] / np.outer(length, length)


def _gram(blocks: Blocks, matrix: Doubles | None, intercept: bool, weights: Sequence[Any] | None) -> Doubles:
    """Gram matrix of the rows in a basis, added up in a fixed order."""
    each = weights or [None] * slab_count(blocks.n)
    return np.asarray(tree_sum(blocks.map(_gram_of_block, matrix, intercept, each=each)))


def _gram_of_block(block: Block, matrix: Doubles | None, intercept: bool, weights: Doubles | None) -> Doubles:
    total: Any = None
    tiles = range(0, block.x.shape[0], TILE)
    for group in range(0, len(tiles), _TILES):  # a few at a time, for d x d numbers may be many
        calls = [
            (block.x[at : at + TILE], matrix, intercept, None if weights is None else weights[at : at + TILE])
            for at in tiles[group : group + _TILES]
        ]
        for part in block.runner(_gram_of_tile, calls):
            total = part if total is None else np.add(total, part, out=total)
    return np.asarray(total)


def _gram_of_tile(x: Any, matrix: Doubles | None, intercept: bool, weights: Doubles | None) -> Doubles:
    total: Any = None
    for y in _pieces(x, matrix, intercept, weights):
        part = y.T @ y
        part = part if isinstance(part, np.ndarray) else part.toarray()
        total = part if total is None else np.add(total, part, out=total)
    return np.asarray(total)


def _pieces(x: Any, matrix: Doubles | None, intercept: bool, weights: Doubles | None) -> Iterator[Any]:
    """The rows in float64, weighted, with the intercept, in the basis: in pieces whose shape d alone decides."""
    size = int(2 ** np.clip(np.floor(np.log2(_PIECE / (x.shape[1] + 1))), 6, 12))
    for at in range(0, x.shape[0], size):
        rows = prepared(x[at : at + size], intercept, None if weights is None else weights[at : at + size])
        if matrix is None:
            yield rows
        elif isinstance(rows, np.ndarray):
            yield finite_product(rows, matrix, out=doubles("in the basis", len(rows), matrix.shape[1]))
        else:
            yield rows @ matrix


def prepared(x: Any, intercept: bool, weights: Doubles | None) -> Any:
    """Rows in float64, times the roots of their weights, a column of ones appended first; dense ones in a lent buffer."""
    if not isinstance(x, np.ndarray):
        return _prepared_sparse(x, intercept, weights)
    if x.dtype == np.float64 and not intercept and weights is None:
        return x
    rows = doubles("prepared", len(x), x.shape[1] + intercept)
    rows[:, : x.shape[1]] = x
    if intercept:
        rows[:, -1] = 1.0
    if weights is not None:
        rows *= np.sqrt(weights)[:, None]
    return rows


def _prepared_sparse(x: Any, intercept: bool, weights: Doubles | None) -> Any:
    from scipy.sparse import csr_matrix, diags_array, hstack

    rows = x.astype(np.float64)
    if intercept:
        rows = hstack([rows, csr_matrix(np.ones((x.shape[0], 1)))])
    if weights is not None:
        rows = diags_array(np.sqrt(weights)) @ rows
    return rows.tocsr()


def doubles(purpose: str, rows: int, columns: int) -> Doubles:
    """An uninitialised float64 array that belongs to this thread and purpose until the next call for it."""
    return scratch(purpose, rows, 2 * columns).view(np.float64)


def _basis_by_qr(blocks: Blocks, ridge: float, weights: Sequence[Any] | None, intercept: bool) -> Basis:
    """One triangle for all rows, tile under tile (tall-skinny QR), then its singular vectors."""
    columns = blocks.d + intercept
    triangle: Any = np.sqrt(ridge) * np.eye(columns)[: columns if ridge else 0]
    for part in blocks.map(_triangle_of_block, intercept, each=weights or [None] * slab_count(blocks.n)):
        triangle = np.linalg.qr(np.concatenate([triangle, part]), mode="r")
    length = np.sqrt((triangle**2).sum(axis=0))
    if not np.isfinite(length).all():
        raise DataError("the rows hold NaN, infinity, or numbers whose squares are beyond 1e308; mend or scale them")
    there = length > 0
    _, values, right = np.linalg.svd(triangle[:, there] / length[there], full_matrices=False)
    kept = values > max(blocks.n, columns) * _EPS * values.max(initial=0.0)
    matrix = np.zeros((columns, int(kept.sum())))
    matrix[there] = right[kept].T / values[kept] / length[there][:, None]
    whole = matrix.shape[1] == columns
    return Basis(matrix, intercept, float(values[0] / values[-1]) if whole else float("inf"), 1)


def _triangle_of_block(block: Block, intercept: bool, weights: Doubles | None) -> Doubles:
    triangle: Any = np.zeros((0, block.x.shape[1] + intercept))
    for at in range(0, block.x.shape[0], TILE):
        rows = prepared(block.x[at : at + TILE], intercept, None if weights is None else weights[at : at + TILE])
        rows = rows if isinstance(rows, np.ndarray) else rows.toarray()
        triangle = np.linalg.qr(np.concatenate([triangle, rows]), mode="r")
    return np.asarray(triangle)


def cut_weights(weights: Any, n: int | None = None) -> list[Doubles] | None:
    """Row weights cut by slab, or None; where n is given, there must be so many."""
    if weights is None:
        return None
    numbers = np.asarray(weights, dtype=np.float64)
    if numbers.ndim != 1 or (n is not None and len(numbers) != n):
        raise UsageError(f"weights have shape {numbers.shape}; give one for each of the {n} rows")
    if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
        raise UsageError("weights hold a number that is below 0 or not finite; give 0 or more for each row")
    return by_slab(numbers)


def as_blocks(x: Any) -> Blocks:
    """`x` itself if it is Blocks, else an array or sparse matrix as Blocks that keep its type."""
    return x if is_blocks(x) else ArrayBlocks(x)


def is_blocks(x: Any) -> bool:
    """Whether `x` is Blocks, and not a table that happens to have verbs of the same names."""
    return hasattr(x, "map") and hasattr(x, "take") and not hasattr(x, "__array__")


class ArrayBlocks:
    """`Blocks` over an array as it is, for numerics that are called without `Items`: no type is changed."""

    def __init__(self, x: Any) -> None:
        self.x = x.tocsr() if hasattr(x, "tocsr") else np.asarray(x)
        if self.x.ndim != 2 or self.x.dtype.kind not in "fiub" or 0 in self.x.shape:
            raise DataError(
                f"x has shape {self.x.shape} and type {self.x.dtype}; give a matrix of numbers (rows, columns)"
            )

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0])

    @property
    def d(self) -> int:
        """Length of a row."""
        return int(self.x.shape[1])

    @property
    def here(self) -> ArrayBlocks:
        """These rows: they are in this process."""
        return self

    def map(self, fn: Callable[..., Any], *shared: Any, each: Sequence[Any] | None = None) -> Iterator[Any]:
        """`fn(block, *shared[, each[i]])` for every slab i, on two threads, results in slab order."""

        def work(slab: int) -> Any:
            rows = self.x[slab * SLAB : (slab + 1) * SLAB]
            rows = np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else rows
            return fn(Block(slab * SLAB, rows), *shared, *(() if each is None else (each[slab],)))

        slabs, waiting = slab_count(self.n), deque[Any]()
        with one_blas_thread(), ThreadPoolExecutor(_THREADS) as pool:
            for slab in range(slabs):
                waiting.append(pool.submit(work, slab))
                if len(waiting) > _THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def take(self, rows: Rows) -> Any:
        """The rows of these numbers, in this order."""
        return self.x[rows]

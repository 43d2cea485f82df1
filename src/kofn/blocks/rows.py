"""What every door does to rows on their way in: floats, finite, and of unit length where asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import TILE
from kofn.errors import InvalidRows, UsageError

METRICS = ("euclidean", "cosine")


def check_metric(metric: str) -> str:
    """The metric, if there is one of that name."""
    if metric not in METRICS:
        raise UsageError(f"metric={metric!r} is unknown; use one of: {', '.join(METRICS)}")
    return metric


def as_floats(x: Any, dtype: Any = np.float32) -> Any:
    """Rows as floats of this type, dense ones C-contiguous; the same memory where they are that already."""
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite: the check finds them
        return np.ascontiguousarray(x, dtype=dtype) if isinstance(x, np.ndarray) else x.astype(dtype)


def bad_rows(x: Any, metric: str) -> NDArray[np.bool_]:
    """Which rows hold NaN or infinity, or are zero vectors under cosine. Looks closely only where a sum is off."""
    bad = np.zeros(x.shape[0], dtype=bool)
    for at in range(0, x.shape[0], TILE):
        tile = x[at : at + TILE]
        values = tile if isinstance(tile, np.ndarray) else tile.data
        flat = values.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(np.dot(flat, flat)):
                bad[at : at + TILE] = _not_finite(tile)
        if metric == "cosine":
            bad[at : at + TILE] |= _row_norms(tile) == 0
    return bad


def check_rows(x: Any, start: int, metric: str) -> None:
    """Raise InvalidRows at the first slab with a bad row; whoever catches it counts them all."""
    bad = bad_rows(x, metric)
    if bad.any():
        first = start + int(np.flatnonzero(bad)[0])
        raise InvalidRows(f"row {first} holds NaN or infinity, or is a zero vector under cosine", first)


def unit_rows(x: Any) -> Any:
    """Rows scaled to length one, as a copy. Zero rows stay zero."""
    norms = _row_norms(x)
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0).astype(x.dtype)
    if isinstance(x, np.ndarray):
        return x * scale[:, None]
    from scipy.sparse import diags_array

    return (diags_array(scale) @ x).tocsr()


def _row_norms(x: Any) -> NDArray[np.float64]:
    if isinstance(x, np.ndarray):
        with np.errstate(over="ignore", invalid="ignore"):
            return np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
    return np.sqrt(np.asarray(x.multiply(x).sum(axis=1), dtype=np.float64)).ravel()


def _not_finite(tile: Any) -> NDArray[np.bool_]:
    if isinstance(tile, np.ndarray):
        return np.asarray(~np.isfinite(tile).all(axis=1))
    bad = np.zeros(tile.shape[0], dtype=bool)
    rows = np.repeat(np.arange(tile.shape[0]), np.diff(tile.indptr))
    bad[rows[~np.isfinite(tile.data)]] = True
    return bad

"""Logits as callers have them (NumPy, torch, anything with DLPack) as rows of float32, and the answer in their kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Floats
from kofn.decode.rules.support import Support
from kofn.decode.rules.together import each_row
from kofn.errors import UsageError

_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Rows:
    """Rows of logits, float32 (B, V), and where they came from."""

    values: Floats
    tops: tuple[float, ...]
    shape: tuple[int, ...]
    given: Any

    def answer(self, supports: Sequence[Support]) -> Any:
        """Logits of the given kind, dtype, shape and device: the supports' values, the rest at -inf."""
        if len(supports) == 1 and not np.may_share_memory(supports[0].values, self.values):
            own = _whole_row(supports[0], self.values.shape[1])
            return self._as_given(own.reshape(self.shape), keep_dtype=True)
        out = np.empty(self.values.shape, np.float32)
        each_row(_write, list(zip(out, supports, strict=True)), self.values.shape[1])
        return self._as_given(out.reshape(self.shape), keep_dtype=True)

    def numbers(self, values: NDArray[Any]) -> Any:
        """One number a row, in the given kind and the leading shape."""
        return self._as_given(values.reshape(self.shape[:-1]), keep_dtype=False)

    def _as_given(self, out: NDArray[Any], *, keep_dtype: bool) -> Any:
        if _is_torch(self.given):
            import torch

            tensor = torch.from_numpy(_within_half(out) if self.given.dtype == torch.float16 and keep_dtype else out)
            dtype = self.given.dtype if keep_dtype and self.given.dtype.is_floating_point else None
            return tensor.to(device=self.given.device, dtype=dtype)
        dtype = getattr(self.given, "dtype", None)
        if keep_dtype and isinstance(dtype, np.dtype) and dtype.kind == "f":
            return (_within_half(out) if dtype == np.float16 else out).astype(dtype, copy=False)
        return out


def rows_of(logits: Any, name: str = "logits") -> Rows:
    """Logits (V,) or (..., V) as rows; NaN, +inf and rows without a possible token are errors that name the row.

    A float32 array or CPU tensor in C order is not copied; what lives on another device comes to the host.
    """
    x = _numpy(logits)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise UsageError(f"{name} have shape {tuple(x.shape)}; give (V,) or (..., V) with V >= 1")
    shape = x.shape
    if not np.issubdtype(x.dtype, np.number) or np.issubdtype(x.dtype, np.complexfloating):
        raise UsageError(f"{name} have type {x.dtype}; give real numbers")
    rows = np.ascontiguousarray(x.reshape(-1, shape[-1]), np.float32)
    tops = each_row(lambda number: _checked_top(rows[number], number, name), range(len(rows)), shape[-1])
    return Rows(rows, tuple(tops), shape, logits)


def _checked_top(row: Floats, number: int, name: str) -> float:
    top = float(np.max(row))
    if math.isfinite(top):
        return top
    if top == -math.inf:
        raise UsageError(f"row {number} of the {name} is -inf throughout: no token is possible; mask fewer tokens")
    wrong = np.flatnonzero(np.isnan(row) | (row == np.inf))
    kind = "NaN" if np.isnan(row[wrong[0]]) else "+inf"
    raise UsageError(
        f"row {number} of the {name} has {len(wrong)} NaN or +inf, the first ({kind}) at token {wrong[0]}; "
        "such a row has no law: look at the model (float16 overflow is a common cause)"
    )


def _write(place: tuple[Floats, Support]) -> None:
    """A support's logits into a row over the vocabulary."""
    row, support = place
    if support.tokens is None:
        row[:] = support.values
    else:
        row.fill(-np.inf)
        row[support.tokens] = support.values


def _within_half(out: NDArray[Any]) -> NDArray[Any]:
    """The same laws with no logit above what float16 holds: rows that go beyond are moved down to 0."""
    tops = out.max(axis=-1, keepdims=True)
    return np.where(tops > _LARGEST_HALF, out - tops, out)


def _whole_row(support: Support, vocabulary: int) -> Floats:
    """A support's logits over the vocabulary; what a rule has just made is not copied."""
    if support.tokens is None:
        return support.values
    row = np.full(vocabulary, -np.inf, np.float32)
    row[support.tokens] = support.values
    return row


def _is_torch(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "torch"


def _numpy(x: Any) -> NDArray[Any]:
    if _is_torch(x):
        import torch

        x = x.detach()
        if x.dtype != torch.float64:
            x = x.to(torch.float32)
        return x.cpu().numpy()
    if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    return np.asarray(x)

"""Which rows of two Arrow columns hold the same contents, whatever their chunks, offsets and null slots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kofn.core.block import SLAB

Mask = NDArray[np.bool_]


def first_difference(left: pa.ChunkedArray, right: pa.ChunkedArray) -> int | None:
    """Position of the first row whose contents differ; None where all are equal. Both columns have the same length.

    Values are compared, not types: a column that a file format had to store as another type is cast back. NaN equals NaN,
    null equals null. Works through `SLAB` rows at a time.
    """
    for at in range(0, len(left), SLAB):
        pair = _whole(left.slice(at, SLAB)), _whole(right.slice(at, SLAB))
        differs = np.flatnonzero(~equal_rows(*pair))
        if len(differs):
            return at + int(differs[0])
    return None


def equal_rows(left: Any, right: Any) -> Mask:
    """Which rows of two Arrow arrays of the same length hold the same contents; bool (n,)."""
    left, right = _without_views(left), _without_views(right)
    if not left.type.equals(right.type):
        try:
            left = left.cast(right.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return _equal_one_by_one(left, right)
    if left.equals(right):
        return np.ones(len(left), dtype=bool)
    kind = left.type
    if isinstance(kind, pa.BaseExtensionType):
        return equal_rows(left.storage, right.storage)
    if pa.types.is_dictionary(kind):
        return equal_rows(left.dictionary_decode(), right.dictionary_decode())
    present = _present(left)
    same = present == _present(right)
    both = np.flatnonzero(present & same)
    if len(both):
        same[both] = _equal_values(left.take(pa.array(both)), right.take(pa.array(both)))
    return same


def _equal_values(left: Any, right: Any) -> Mask:
    """As `equal_rows`, for arrays of one type without nulls at their top level."""
    kind = left.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _equal_lists(left, right)
    if pa.types.is_struct(kind):
        fields = [equal_rows(*pair) for pair in zip(left.flatten(), right.flatten(), strict=True)]
        return np.logical_and.reduce(fields) if fields else np.ones(len(left), dtype=bool)
    if pa.types.is_floating(kind):
        x, y = left.to_numpy(zero_copy_only=False), right.to_numpy(zero_copy_only=False)
        return np.asarray((x == y) | (np.isnan(x) & np.isnan(y)))
    try:
        return np.asarray(pc.equal(left, right).to_numpy(zero_copy_only=False))
    except pa.ArrowNotImplementedError:
        return _equal_one_by_one(left, right)


def _equal_lists(left: Any, right: Any) -> Mask:
    lengths = pc.list_value_length(left).to_numpy(zero_copy_only=False)
    same = np.asarray(lengths == pc.list_value_length(right).to_numpy(zero_copy_only=False))
    level = np.flatnonzero(same)
    values = equal_rows(*(side.take(pa.array(level)).flatten() for side in (left, right)))
    owners = np.repeat(level, lengths[level])
    same[owners[~values]] = False
    return same


def _equal_one_by_one(left: Any, right: Any) -> Mask:
    # Kinds that Arrow has no kernel for: maps, unions, intervals.
    pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
    return np.array([x == y or repr(x) == repr(y) for x, y in pairs], dtype=bool)


def _without_views(array: Any) -> Any:
    # Arrow cannot take rows of string and binary views.
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array


def _present(array: Any) -> Mask:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def _whole(column: Any) -> Any:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):
        return pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    return whole

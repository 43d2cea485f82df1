"""Which columns hold the embedding, and how a batch of them becomes a float32 matrix."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pyarrow as pa

from kofn.blocks.dataset import Dataset
from kofn.core.block import Floats, Rows
from kofn.errors import DataError, UsageError

DTYPES = ("float16", "float32", "float64", "int8", "uint8")


@dataclass(frozen=True)
class Embedding:
    """The columns that hold a row's vector.

    Attributes
    ----------
    columns : tuple of str
        One list or binary column, or several numeric ones in their order.
    kind : {"list", "binary", "numeric"}
        How the vector lies.
    d : int
        Length of the vector.
    dtype : str
        Type of the numbers in the file.
    """

    columns: tuple[str, ...]
    kind: str
    d: int
    dtype: str

    def fill(self, batch: pa.RecordBatch, out: Floats, rows: int | Rows) -> None:
        """Write the batch's vectors into `out` (rows, d); null rows become NaN, numbers beyond float32 infinity.

        `rows` is the number of the batch's first row, or the numbers of all its rows: errors name them.
        """
        with np.errstate(over="ignore"):
            self._fill(batch, out, rows)

    def _fill(self, batch: pa.RecordBatch, out: Floats, rows: int | Rows) -> None:
        if self.kind == "numeric":
            for at, name in enumerate(self.columns):
                column = batch.column(batch.schema.get_field_index(name))
                if pa.types.is_boolean(column.type):  # with nulls they would become objects
                    column = column.cast(pa.int8())
                out[:, at] = column.to_numpy(zero_copy_only=False)
            return
        column = batch.column(batch.schema.get_field_index(self.columns[0]))
        if column.null_count or (self.kind == "list" and _has_null_values(column)):
            self._fill_around_nulls(column, out, rows)
        elif self.kind == "binary":
            out[:] = _binary_values(column, self.dtype, self.d)
        else:
            out[:] = _list_values(column, self.d, rows, self.columns[0])

    def _fill_around_nulls(self, column: Any, out: Floats, rows: int | Rows) -> None:
        out[:] = np.nan
        valid = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        kept = column.take(pa.array(valid))
        if self.kind == "binary":
            out[valid] = _binary_values(kept, self.dtype, self.d)
        else:
            values = kept.flatten().to_numpy(zero_copy_only=False).astype(out.dtype)
            _check_lengths(kept, self.d, rows + valid if isinstance(rows, int) else rows[valid], self.columns[0])
            out[valid] = values.reshape(-1, self.d)


def find_embedding(dataset: Dataset, name: str | None, dtype: str | None) -> Embedding | None:
    """The embedding that `name` means, or the only column that can be one; None when there is no such column."""
    if dtype is not None and dtype not in DTYPES:
        raise DataError(f"dtype={dtype!r} is unknown; use one of: {', '.join(DTYPES)}")
    if name is not None and any(mark in name for mark in "*?["):
        return _numeric(dataset, name)
    if name is None:
        candidates = [field.name for field in dataset.schema if _looks_like_vectors(field.type, dtype)]
        if not candidates and len(dataset.schema) == 1 and _is_list(dataset.schema.field(0).type):
            candidates = dataset.schema.names  # lists of other numbers, in a file of nothing else
        if len(candidates) > 1:
            raise UsageError(
                f"{len(candidates)} columns could be the embedding ({', '.join(candidates)}); "
                f"say which, for example --embedding {candidates[0]}"
            )
        if not candidates:
            return None
        name = candidates[0]
    dataset.check_column(name, "embedding")
    return _vectors(dataset, name, dtype)


def _looks_like_vectors(kind: Any, dtype: str | None) -> bool:
    if pa.types.is_fixed_size_binary(kind):
        return dtype is not None
    return _is_list(kind) and str(kind.value_type).replace("halffloat", "float16") in (*DTYPES, "float", "double")


def _is_list(kind: Any) -> bool:
    return pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _vectors(dataset: Dataset, name: str, dtype: str | None) -> Embedding:
    kind = dataset.schema.field(name).type
    if pa.types.is_fixed_size_binary(kind):
        if dtype is None:
            raise UsageError(
                f"{name!r} is binary ({kind.byte_width} bytes a row); say what numbers it holds: --dtype float32"
            )
        size = np.dtype(dtype).itemsize
        if kind.byte_width % size:
            raise UsageError(
                f"{name!r} has {kind.byte_width} bytes a row, not a multiple of {dtype}'s {size}; give another --dtype"
            )
        return Embedding((name,), "binary", kind.byte_width // size, dtype)
    if not _is_list(kind):
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return Embedding((name,), "numeric", 1, str(kind))
        raise DataError(
            f'{name!r} holds {kind}, not vectors; the embedding is a list of numbers, or numeric columns by glob ("pca_*")'
        )
    if not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)):
        raise DataError(f"{name!r} holds lists of {kind.value_type}; the embedding must be lists of numbers")
    d = kind.list_size if pa.types.is_fixed_size_list(kind) else _first_length(dataset, name)
    if d < 1:
        raise DataError(f"{name!r} holds vectors of length 0; nothing can be measured between them")
    return Embedding((name,), "list", d, str(kind.value_type).replace("halffloat", "float16"))


def _numeric(dataset: Dataset, pattern: str) -> Embedding:
    names = [name for name in dataset.schema.names if fnmatch(name, pattern)]
    if not names:
        raise DataError(f"no column matches {pattern!r}; columns: {', '.join(dataset.schema.names[:20])}")
    for name in names:
        kind = dataset.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise DataError(f"{name!r} matches {pattern!r} but holds {kind}, not numbers; narrow the glob")
    return Embedding(tuple(names), "numeric", len(names), str(dataset.schema.field(names[0]).type))


def _first_length(dataset: Dataset, name: str) -> int:
    for batch in dataset.read(0, dataset.n, [name]):
        column = batch.column(0).drop_null()
        if len(column):
            return len(column[0])
    raise DataError(f"{name!r} is null in every row; name another column with --embedding")


def _binary_values(column: Any, dtype: str, d: int) -> Any:
    raw = np.frombuffer(column.buffers()[1], dtype=dtype)
    return raw[column.offset * d : (column.offset + len(column)) * d].reshape(-1, d)


def _list_values(column: Any, d: int, rows: int | Rows, name: str) -> Any:
    values = column.flatten()
    if not pa.types.is_fixed_size_list(column.type):
        _check_lengths(column, d, rows, name)
    return values.to_numpy(zero_copy_only=False).reshape(-1, d)


def _check_lengths(column: Any, d: int, rows: int | Rows, name: str) -> None:
    if pa.types.is_fixed_size_list(column.type):
        return
    lengths = np.diff(column.offsets.to_numpy())
    wrong = np.flatnonzero(lengths != d)
    if len(wrong):
        first = int(wrong[0])
        row = rows + first if isinstance(rows, int) else int(rows[first])
        raise DataError(
            f"row {row} of {name!r} has {int(lengths[first])} numbers where the first row has {d}; "
            "every vector must have the same length: mend that row, or name another column with --embedding"
        )


def _has_null_values(column: Any) -> bool:
    return bool(column.flatten().null_count)

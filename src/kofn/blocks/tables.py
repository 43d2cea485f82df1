"""Tables of every library, through Arrow: read one, and hand picked rows back in the type they came in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kofn.blocks.dataset import Dataset
from kofn.blocks.formats import DataFile
from kofn.core.block import TILE, Rows
from kofn.errors import DataError, UsageError


def is_table(data: Any) -> bool:
    """Whether the object is a table: Arrow, pandas, polars, a Hugging Face dataset, or speaks the PyCapsule protocol."""
    return isinstance(data, pa.Table | pa.RecordBatch) or hasattr(data, "__arrow_c_stream__") or _hugging_face(data)


def as_arrow(data: Any) -> pa.Table:
    """The table as Arrow; without a copy where its library allows it."""
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if _hugging_face(data):
        return data.with_format("arrow")[:]
    if type(data).__module__.startswith("pandas"):
        if not hasattr(data, "columns"):
            raise UsageError(
                f"a {type(data).__name__} is one column; give the table: frame[['a', 'b']] or series.to_frame()"
            )
        if not data.columns.is_unique:
            twice = data.columns[data.columns.duplicated()][0]
            raise DataError(f"the table has two columns named {twice!r}; give every column a name of its own")
        try:
            return pa.Table.from_pandas(data, preserve_index=False).replace_schema_metadata()
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DataError(f"this pandas table cannot become Arrow: {str(error).splitlines()[0]}") from error
    if isinstance(data, np.ndarray):
        if data.ndim == 1:
            return pa.table({"value": data})
        values = pa.array(np.ascontiguousarray(data).reshape(-1))
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(values, data.shape[1])})
    if hasattr(data, "tocsr"):
        raise UsageError("a sparse matrix is no table; save the picks without it: selection.save(path)")
    return _without_views(pa.table(data))


def _without_views(table: pa.Table) -> pa.Table:
    """polars speaks Arrow with view types, which Arrow's own kernels cannot take rows of yet."""
    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    fields = [field.with_type(plain.get(field.type, field.type)) for field in table.schema]
    return table if fields == list(table.schema) else table.cast(pa.schema(fields))


def table_dataset(data: Any) -> Dataset:
    """A table in memory as a `Dataset`, so that everything about columns is written once."""
    table = as_arrow(data).combine_chunks()
    if not table.num_rows:
        raise DataError("the table has no rows; nothing can be chosen")

    def batches(groups: list[int], columns: list[str]) -> Any:
        yield from table.select(columns).to_batches(max_chunksize=16 * TILE)

    file = _TableFile(None, "", "table", table.nbytes, table.schema.remove_metadata(), (table.num_rows,), batches)
    return Dataset([file])


def take_rows(data: Any, rows: Rows, n: int | None = None) -> Any:
    """Rows of a table, array, list, `Dataset` or path, in this order, of the same type as `data`."""
    if isinstance(data, str) or hasattr(data, "__fspath__"):
        return take_rows(Dataset.open(str(data)), rows, n)
    length = data.n if isinstance(data, Dataset) else data.shape[0] if hasattr(data, "shape") else len(data)
    if n is not None and length != n:
        raise UsageError(
            f"the picks were made among {n} rows, this data has {length}; give the data that was chosen from"
        )
    if isinstance(data, Dataset):
        return data.take(rows)
    if type(data).__module__.startswith("pandas"):
        return data.iloc[rows]
    if isinstance(data, pa.Table | pa.RecordBatch | pa.Array | pa.ChunkedArray):
        return data.take(pa.array(rows))
    if _hugging_face(data):
        return data.select(rows)
    if isinstance(data, list | tuple):
        return type(data)(data[int(row)] for row in rows)
    return data[rows]


class _TableFile(DataFile):
    def tail(self) -> bytes:
        """Digest of the first and last rows: a table has no footer."""
        table = pa.Table.from_batches(list(self.reader([0], self.schema.names)))
        ends = [table.slice(0, 512), table.slice(max(0, table.num_rows - 512))]
        from kofn.blocks.dataset import digest_rows

        return "".join(digest_rows(end) for end in ends).encode()


def _hugging_face(data: Any) -> bool:
    return type(data).__module__.startswith("datasets.") and hasattr(data, "with_format")

"""One data file: its columns, its groups of rows, and their batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from kofn.blocks import texts
from kofn.core.block import TILE
from kofn.errors import DataError

TAIL = 1 << 16
BUFFER = 8 << 20
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class DataFile:
    """A file of rows.

    Attributes
    ----------
    path, name : str
        Where it lies, and its name relative to what the user typed.
    group_rows : tuple of int
        Rows of each group that the file can be entered at.
    keys : tuple of (str, str or None)
        Columns that its folders spell and it does not hold itself, as in `year=2024/part-0.parquet`.
    digest : bytes
        Of all its contents, where opening it has read them: text files.
    changed : str
        When it was written, in UTC; empty where its filesystem does not say.
    """

    filesystem: Any = field(repr=False)
    path: str
    name: str
    size: int
    schema: Any = field(repr=False)
    group_rows: tuple[int, ...] = field(repr=False)
    reader: Any = field(repr=False)
    keys: tuple[tuple[str, str | None], ...] = ()
    digest: bytes = b""
    changed: str = ""

    @property
    def is_text(self) -> bool:
        """Whether every reading of it, of however few columns, reads and parses it from its beginning."""
        return self.path.endswith(texts.ENDINGS)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.group_rows)

    def batches(self, groups: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of the rows of these groups, in order, holding these columns in this order."""
        names = list(self.schema.names if columns is None else columns)
        keys = dict(self.keys)
        inside = [name for name in names if name not in keys]
        try:
            self.check_unchanged()
            for batch in self.reader(list(groups), inside):
                yield _with_keys(batch, names, keys, self.schema) if keys else batch.select(names)
        except (pa.ArrowInvalid, OSError, pa.ArrowNotImplementedError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            self.check_unchanged()
            broken = next((at for at in groups if not self._can_be_read(at, inside)), None)
            where = f"row groups {groups[0]} to {groups[-1]}" if broken is None else f"row group {broken}"
            raise DataError(
                f"{self.name}: {where} cannot be read ({_first_line(error)}); write the file again"
            ) from error

    def _can_be_read(self, group: int, columns: list[str]) -> bool:
        """Whether a group can be read alone: of several that fail together, the message names the one that is broken."""
        try:
            for _ in self.reader([group], columns):
                pass
        except (pa.ArrowInvalid, OSError, pa.ArrowNotImplementedError, ValueError):
            return False
        return True

    def check_unchanged(self) -> None:
        """Raise DataError where the file is not as it was when it was opened: what was read of it would not fit the rest."""
        if not self.path:
            return
        now = self.filesystem.get_file_info(self.path)
        if now.type.name == "NotFound":
            raise DataError(
                f"{self.name} is not there{_on_this_machine()}; it must be found under {self.path} while it is read"
            )
        if (now.size, _time_of(now)) != (self.size, self.changed):
            raise DataError(
                f"{self.name} has changed since it was opened (from {self.size:,} to {now.size:,} bytes, written "
                f"{_time_of(now)}); run again when nobody writes to it"
            )

    def tail(self) -> bytes:
        """The last 64 KiB; of a text file, which bears no statistics at its end, the digest of all of it."""
        if self.digest:
            return self.digest
        with self.filesystem.open_input_file(self.path) as source:
            return bytes(source.read_at(min(TAIL, self.size), max(0, self.size - TAIL)))


def open_file(filesystem: Any, path: str, name: str) -> DataFile:
    """Open one file by its ending; reads its header or footer only, but of a text file all of it."""
    info = filesystem.get_file_info(path)
    size = info.size
    if size == 0:
        raise DataError(f"{name} is empty (0 bytes); write it again")
    try:
        schema, group_rows, reader, *digest = _opener(path)(filesystem, path)
    except (pa.ArrowInvalid, OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{name} cannot be read ({_first_line(error)}); is it whole, and of the kind its name says?"
        ) from error
    keys = tuple((key, value) for key, value in _folder_keys(name) if key not in schema.names)
    for key, _ in keys:
        schema = schema.append(pa.field(key, pa.string()))
    whole = digest[0] if digest else b""
    return DataFile(filesystem, path, name, size, schema, group_rows, reader, keys, whole, _time_of(info))


def of_one_table(files: Sequence[DataFile]) -> list[DataFile]:
    """The files as parts of one table: text files settle their types together, others bring theirs."""
    if not all(file.is_text for file in files) or all(file.schema == files[0].schema for file in files):
        return list(files)
    schemas = texts.joined([file.schema for file in files], [file.path for file in files])
    return [
        replace(file, schema=schema, reader=texts.reader_of(file.filesystem, file.path, schema))
        for file, schema in zip(files, schemas, strict=True)
    ]


def _opener(path: str) -> Any:
    openers: dict[Any, Any] = {
        ".npy": _open_npy,
        (".parquet", ".pq"): _open_parquet,
        texts.CSV: texts.open_csv,
        texts.JSONL: texts.open_jsonl,
    }
    return next((opener for ending, opener in openers.items() if path.endswith(ending)), _open_ipc)


def _open_parquet(filesystem: Any, path: str) -> tuple[Any, tuple[int, ...], Any]:
    import pyarrow.parquet as pq

    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source, pre_buffer=False)
        metadata, schema = file.metadata, file.schema_arrow
    rows = tuple(metadata.row_group(at).num_rows for at in range(metadata.num_row_groups))
    return schema.remove_metadata(), rows, partial(_parquet_batches, filesystem, path, metadata)


def _parquet_batches(filesystem: Any, path: str, metadata: Any, groups: list[int], columns: list[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(
            source, metadata=metadata, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True
        )
        if columns:
            yield from file.iter_batches(TILE, row_groups=groups, columns=columns, use_threads=False)
        else:  # only columns that the folders spell
            for at in groups:
                yield _empty_batch(metadata.row_group(at).num_rows)


def _open_ipc(filesystem: Any, path: str) -> tuple[Any, tuple[int, ...], Any]:
    file = pa.ipc.open_file(_source(filesystem, path))
    rows = tuple(file.get_batch(at).num_rows for at in range(file.num_record_batches))
    return file.schema.remove_metadata(), rows, partial(_ipc_batches, filesystem, path)


def _ipc_batches(filesystem: Any, path: str, groups: list[int], columns: list[str]) -> Iterator[Any]:
    file = pa.ipc.open_file(_source(filesystem, path))
    for at in groups:
        batch = file.get_batch(at)
        yield batch.select(columns) if columns else _empty_batch(batch.num_rows)


def _open_npy(filesystem: Any, path: str) -> tuple[Any, tuple[int, ...], Any]:
    with filesystem.open_input_file(path) as source:
        version = np.lib.format.read_magic(source)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(source)
        offset = source.tell()
        size = source.size()
    if dtype.hasobject:
        raise DataError(f"{path} holds Python objects; save a plain array of numbers")
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise DataError(f"{path} holds {dtype}, not numbers that kofn reads; save it as float32")
    if len(shape) != 2 or fortran:
        order = " in Fortran order" if fortran else ""
        raise DataError(
            f"{path} holds an array of shape {shape}{order}; kofn needs (rows, dimensions) in C order: "
            "save np.ascontiguousarray(x), for one number a row x[:, None]"
        )
    n, d = shape
    if size < offset + n * d * dtype.itemsize:
        whole = max(0, size - offset) // (d * dtype.itemsize)
        raise DataError(f"{path} is cut off: it holds {whole:,} of its {n:,} rows; write it again")
    schema = pa.schema([pa.field("embedding", pa.list_(pa.from_numpy_dtype(dtype), d))])
    return schema, (n,), partial(_npy_batches, filesystem, path, n, d, dtype, offset)


def _npy_batches(
    filesystem: Any, path: str, n: int, d: int, dtype: Any, offset: int, groups: list[int], columns: list[str]
) -> Iterator[Any]:
    with _source(filesystem, path) as source:
        width = d * dtype.itemsize
        for start in range(0, n, TILE):
            rows = min(TILE, n - start)
            raw = source.read_at(rows * width, offset + start * width)
            if len(raw) < rows * width:
                raise DataError(f"{path} is cut off at row {start + len(raw) // width}; write it again")
            values = pa.array(np.frombuffer(raw, dtype=dtype).astype(dtype.newbyteorder("="), copy=False))
            yield pa.record_batch([pa.FixedSizeListArray.from_arrays(values, d)], names=["embedding"])


def _time_of(info: Any) -> str:
    return "" if info.mtime_ns is None else np.datetime_as_string(np.datetime64(info.mtime_ns, "ns"))


def _on_this_machine() -> str:
    import platform

    return f" on {platform.node()}"


def _source(filesystem: Any, path: str) -> Any:
    if type(filesystem).__name__ == "LocalFileSystem":
        return pa.memory_map(path)
    return filesystem.open_input_file(path)


def _folder_keys(name: str) -> tuple[tuple[str, str | None], ...]:
    parts = [part.partition("=") for part in os.path.dirname(name).split("/") if "=" in part]
    return tuple((unquote(key), None if value == _NULL_FOLDER else unquote(value)) for key, _, value in parts)


def _with_keys(batch: Any, names: list[str], keys: dict[str, Any], schema: Any) -> Any:
    columns = [
        pa.repeat(pa.scalar(keys[name], pa.string()), batch.num_rows) if name in keys else batch.column(name)
        for name in names
    ]
    return pa.record_batch(columns, schema=pa.schema([schema.field(name) for name in names]))


def _empty_batch(rows: int) -> Any:
    return pa.record_batch([pa.nulls(rows)], names=["_"]).select([]) if rows == 0 else _rows_only(rows)


def _rows_only(rows: int) -> Any:
    return pa.record_batch([pa.nulls(rows)], names=["_"])


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""CSV and JSONL: the types of the columns are settled by all rows at once, before the first row is used."""

from __future__ import annotations

import csv as plain_csv
import io
import re
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kofn.errors import DataError

CSV = (".csv", ".csv.gz")
JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
ENDINGS = (*CSV, *JSONL)

BLOCK = 2 << 20
"""Bytes that are decoded at once; a row of a CSV file must fit."""

_NUMBERS = (pa.int64(), pa.float64())
_TIMES = (pa.date32(), pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ns"))
_CHAINS = (_NUMBERS, (pa.bool_(),), _TIMES, (pa.timestamp("us", "UTC"),))
"""What the values of a column may all be; each type of a chain reads what those before it read."""

_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_CODE = r"^\s*[+-]?(0[0-9xX]|[0-9]{19,}$)"
"""Digits that a number would lose: leading zeros, and more of them than an integer holds."""


def open_csv(filesystem: Any, path: str) -> tuple[Any, tuple[int, ...], Any, bytes]:
    """Schema, rows of each group, reader and digest of the contents of a CSV file, from one pass over it."""
    names = _header(filesystem, path)
    settled, rows, last = {name: _Settled() for name in names}, 0, None
    with _stream(filesystem, path) as source:
        hashed = _Hashed(source)
        try:
            for batch in _reader(pa.PythonFile(hashed, mode="r"), dict.fromkeys(names, pa.string()), None):
                rows += batch.num_rows
                last = batch.slice(batch.num_rows - 1) if batch.num_rows else last
                for name, column in zip(names, batch.columns, strict=True):
                    settled[name].look(column)
        except pa.ArrowInvalid as error:
            raise _bad_csv(filesystem, path, str(error)) from error
    if last is not None and hashed.quotes % 2 and any("\n" in value for value in last.to_pylist()[0].values()):
        raise DataError(f"{path}: a quote is left open in row {rows - 1}, which takes up all that follows; close it")
    schema = pa.schema([(name, settled[name].type) for name in names])
    return schema, (rows,), reader_of(filesystem, path, schema), hashed.digest.digest()


def _header(filesystem: Any, path: str) -> list[str]:
    """The names in the first line."""
    try:
        with _stream(filesystem, path) as source:
            names = _reader(source, None, None).schema.names
    except pa.ArrowInvalid as error:
        raise _bad_csv(filesystem, path, str(error)) from error
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise DataError(f"{path} has two columns named {twice!r}; give every column a name of its own")
    mark = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
    if mark is not None:
        raise _other_mark(path, mark)
    return list(names)


def _other_mark(path: str, mark: str) -> DataError:
    return DataError(
        f"{path} seems to have {mark!r} between its values; write it with commas, and numbers with decimal points: "
        f"pandas.read_csv({path!r}, sep={mark!r}).to_csv(...)"
    )


def open_jsonl(filesystem: Any, path: str) -> tuple[Any, tuple[int, ...], Any, bytes]:
    """Schema, rows of each group, reader and digest of the contents of a JSONL file, from one pass over it."""
    types: dict[str, Any] = {}
    rows = 0
    with _stream(filesystem, path) as source:
        hashed = _Hashed(source)
        for block, line in _whole_lines(hashed):
            table = _parse(block, line, path, None)
            rows += table.num_rows
            for field in table.schema:
                try:
                    types[field.name] = _join_json(types.get(field.name, pa.null()), field.type)
                except TypeError as error:
                    raise DataError(
                        f"{path}: {field.name!r} holds {error.args[0]} before line {line} and {error.args[1]} after it; "
                        "give the key values of one type"
                    ) from error
    schema = pa.schema(list(types.items()))
    return schema, (rows,), reader_of(filesystem, path, schema), hashed.digest.digest()


def reader_of(filesystem: Any, path: str, schema: Any) -> Any:
    """What brings the rows of a text file with columns of these types."""
    return partial(_csv_batches if path.endswith(CSV) else _jsonl_batches, filesystem, path, schema)


def joined(schemas: Sequence[Any], paths: Sequence[str]) -> list[Any]:
    """The schemas of text files that are one table, each in its own order, with types that hold the values of all.

    A key that some JSONL files lack is null there; a CSV file that lacks a column stays as it is, for others to refuse.
    """
    types: dict[str, Any] = {}
    for schema, path in zip(schemas, paths, strict=True):
        for field in schema:
            join = _join_csv if path.endswith(CSV) else _join_json
            try:
                types[field.name] = join(types.get(field.name, pa.null()), field.type)
            except TypeError as error:
                raise DataError(
                    f"{path}: {field.name!r} holds {error.args[1]}, in the files before it {error.args[0]}; "
                    "give the key values of one type"
                ) from error
    lacking = [
        [] if path.endswith(CSV) else [name for name in types if name not in schema.names]
        for schema, path in zip(schemas, paths, strict=True)
    ]
    return [
        pa.schema([(name, types[name]) for name in (*schema.names, *more)])
        for schema, more in zip(schemas, lacking, strict=True)
    ]


def _stream(filesystem: Any, path: str) -> Any:
    return filesystem.open_input_stream(path, compression="gzip" if path.endswith(".gz") else None)


class _Hashed:
    """A stream that digests what is read from it, and counts its quotes."""

    closed = False

    def __init__(self, source: Any) -> None:
        self.source, self.digest, self.quotes = source, blake2b(digest_size=16), 0

    def read(self, size: int) -> bytes:
        data = bytes(self.source.read(size))
        self.digest.update(data)
        self.quotes += data.count(b'"')
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _reader(source: Any, types: dict[str, Any] | None, columns: list[str] | None) -> Any:
    from pyarrow import csv

    return csv.open_csv(
        source,
        read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types, include_columns=columns, true_values=list(_TRUE), false_values=list(_FALSE)
        ),
    )


def _csv_batches(filesystem: Any, path: str, schema: Any, groups: list[int], columns: list[str]) -> Iterator[Any]:
    """Batches of these columns; an empty text is null."""
    wanted = columns or schema.names[:1]
    with _stream(filesystem, path) as source:
        for batch in _reader(source, {name: schema.field(name).type for name in wanted}, wanted):
            filled = [_without_empty(column) for column in batch.columns]
            yield pa.record_batch(filled, schema=batch.schema)


def _without_empty(column: Any) -> Any:
    if not pa.types.is_string(column.type):
        return column
    empty = pc.equal(column, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), column) if pc.any(empty).as_py() else column


class _Settled:
    """Which types still read every value of a column."""

    def __init__(self) -> None:
        self.chains = [list(chain) for chain in _CHAINS]
        self.nulls: Any = None
        self.empty = True

    def look(self, column: Any) -> None:
        """Drop the types that do not read these values."""
        if not any(self.chains):
            return
        if self.nulls is None:
            from pyarrow import csv

            self.nulls = pa.array(csv.ConvertOptions().null_values)
        values = column.filter(pc.invert(pc.is_in(column, value_set=self.nulls)))
        self.empty &= not len(values)
        for chain in self.chains:
            while chain and len(values) and not _reads(values, chain[0]):
                chain.pop(0)

    @property
    def type(self) -> Any:
        """The first type that reads everything; text where none does."""
        if self.empty:
            return pa.null()
        return next((chain[0] for chain in self.chains if chain), pa.string())


def _reads(values: Any, kind: Any) -> bool:
    if pa.types.is_boolean(kind):
        return bool(pc.all(pc.is_in(values, value_set=pa.array([*_TRUE, *_FALSE]))).as_py())
    if kind in _NUMBERS:
        values = pc.utf8_trim_whitespace(values)
    at = 0
    while at < len(values):  # a few first: Arrow puts every value that it cannot read into words
        upto = min(len(values), max(64, 8 * at))
        try:
            values.slice(at, upto - at).cast(kind)
        except pa.ArrowInvalid:
            return False
        at = upto
    return kind not in _NUMBERS or not pc.any(pc.match_substring_regex(values, _CODE)).as_py()


def _bad_csv(filesystem: Any, path: str, message: str) -> DataError:
    """What is wrong with a CSV file, with the line; Arrow counts records, which may span lines."""
    found = re.search(r"Expected (\d+) columns, got (\d+)", message)
    if found is not None:
        fields = int(found[1])
        with io.TextIOWrapper(_stream(filesystem, path), encoding="utf-8", errors="replace") as text:
            first = text.readline()
        mark = next((mark for mark in ";\t|" if fields == 1 and mark in first), None)
        if mark is not None:
            return _other_mark(path, mark)
        with io.TextIOWrapper(_stream(filesystem, path), encoding="utf-8", errors="replace", newline="") as text:
            lines = plain_csv.reader(text)
            at = next((lines.line_num for record in lines if record and len(record) != fields), None)
        where = "a line" if at is None else f"line {at}"
        return DataError(
            f"{path}: {where} has not the {fields} fields of the header but {found[2]}; mend it, or put quotes around "
            "values that hold commas"
        )
    if "UTF8" in message:
        return DataError(f"{path} is not UTF-8 ({message.splitlines()[0]}); save it as UTF-8")
    if "straddl" in message:
        return DataError(
            f"{path} holds a row longer than {BLOCK >> 20} MiB; is a quote left open? If not, write the data as Parquet"
        )
    return DataError(f"{path} cannot be read ({message.splitlines()[0]}); is it a CSV file with a header?")


def _whole_lines(source: Any) -> Iterator[tuple[bytes, int]]:
    """Runs of whole lines with anything in them, and the number of their first line, from 1."""
    rest, line = b"", 1
    while data := source.read(BLOCK):
        data = rest + data
        cut = data.rfind(b"\n") + 1
        block, rest = data[:cut], data[cut:]
        if block.strip():
            yield block, line
        line += block.count(b"\n")
    if rest.strip():
        yield rest, line


def _parse(block: bytes, line: int, path: str, schema: Any) -> Any:
    from pyarrow import json

    options = {} if schema is None else {"explicit_schema": schema, "unexpected_field_behavior": "ignore"}
    try:
        return json.read_json(
            pa.BufferReader(block),
            read_options=json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=json.ParseOptions(**options),
        )
    except pa.ArrowInvalid as error:
        message = str(error).splitlines()[0]
        found = re.search(r" in row (\d+)$", message)
        at = f"line {_line_of(block, line, int(found[1]))}" if found else f"line {line} or after"
        said = message.removeprefix("JSON parse error: ")[: found.start() - len(message) if found else None]
        raise DataError(
            f"{path}: {at} cannot be read ({said}); every line must be one JSON object, with values of one type a key"
        ) from error


def _line_of(block: bytes, line: int, row: int) -> int:
    filled = [at for at, text in enumerate(block.split(b"\n")) if text.strip()]
    return line + filled[min(row, len(filled) - 1)]


def _jsonl_batches(filesystem: Any, path: str, schema: Any, groups: list[int], columns: list[str]) -> Iterator[Any]:
    wanted = pa.schema([schema.field(name) for name in columns or schema.names[:1]])
    with _stream(filesystem, path) as source:
        for block, line in _whole_lines(source):
            yield from _parse(block, line, path, wanted).combine_chunks().to_batches()


def _join_csv(one: Any, other: Any) -> Any:
    """The type that reads what both read."""
    if pa.types.is_null(one) or one == other:
        return other
    if pa.types.is_null(other):
        return one
    chain = next((chain for chain in _CHAINS if one in chain and other in chain), None)
    return pa.string() if chain is None else max(one, other, key=chain.index)


def _join_json(one: Any, other: Any) -> Any:
    """The type that holds the values of both; TypeError of the two that no type holds."""
    if pa.types.is_null(one) or one == other:
        return other
    if pa.types.is_null(other):
        return one
    if {one, other} == set(_NUMBERS):
        return pa.float64()
    if {one, other} == {pa.timestamp("s"), pa.string()}:  # texts, only some of which look like times
        return pa.string()
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_join_json(one.value_type, other.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields = {field.name: field.type for field in one}
        for field in other:
            fields[field.name] = _join_json(fields.get(field.name, pa.null()), field.type)
        return pa.struct(list(fields.items()))
    raise TypeError(one, other)

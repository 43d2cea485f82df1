"""Files as one numbered table: Parquet, Arrow IPC, .npy, CSV and JSONL, found and opened by pyarrow, in order of their path."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from kofn.blocks.engine import Tell, available_threads
from kofn.blocks.formats import DataFile, of_one_table, open_file
from kofn.blocks.paths import find_files
from kofn.core.block import Rows
from kofn.errors import DataError, UsageError

GATHERED = "rows by number"
"""The stage of progress in which rows are gathered."""


@dataclass(frozen=True)
class Group:
    """A run of rows that a file can be entered at: a Parquet row group, an Arrow batch, or a whole .npy."""

    start: int
    rows: int
    file: int
    index: int

    @property
    def stop(self) -> int:
        """Global number one past the last row."""
        return self.start + self.rows


class Dataset:
    """A table in files: n rows, numbered over the files sorted by path.

    Parameters
    ----------
    files : sequence of DataFile
        In the order that defines the row numbers, all with the same columns.
    """

    def __init__(self, files: Sequence[DataFile]) -> None:
        self.files = tuple(files)
        self.schema: pa.Schema = self.files[0].schema
        for file in self.files[1:]:
            _same_columns(self.files[0], file)
        self.groups = _number_groups(self.files)
        if not self.groups:
            raise DataError(f"{self.describe()} has no rows; nothing can be chosen")

    @classmethod
    def open(cls, path: str) -> Dataset:
        """Open a file, folder, glob or URI. Reads footers only; text files are read whole, to settle their types."""
        filesystem, found = find_files(path)
        workers = min(16, len(found))
        with ThreadPoolExecutor(workers) as pool:
            return cls(of_one_table(list(pool.map(lambda entry: open_file(filesystem, *entry), found))))

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.groups[-1].stop

    @property
    def nbytes(self) -> int:
        """Bytes of all files as they lie."""
        return sum(file.size for file in self.files)

    @property
    def names(self) -> list[str]:
        """The files' names, in order."""
        return [file.name for file in self.files]

    def describe(self) -> str:
        """The file's name, or the first of several and their number."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0].name}{more}"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of every file's name, size, rows and last bytes (a Parquet footer: its layout and statistics)."""
        digest = blake2b(digest_size=16)
        for file in self.files:
            digest.update(f"{file.name}\x1f{file.size}\x1f{file.rows}\x1f".encode())
            digest.update(file.tail())
        return digest.hexdigest()

    def check_column(self, name: str, role: str) -> None:
        """Raise DataError when there is no such column, naming those there are."""
        if name not in self.schema.names:
            from difflib import get_close_matches

            near = get_close_matches(name, self.schema.names, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"columns: {', '.join(self.schema.names[:20])}"
            raise DataError(f"{role}={name!r} is not a column of {self.describe()}; {hint}")

    def group_at(self, row: int) -> int:
        """Position in `groups` of the group that holds this row."""
        return bisect_right(self._starts, row) - 1

    def place_of(self, row: int) -> str:
        """The file that holds this row, and the row's number in it where there are several files."""
        number = self.groups[self.group_at(row)].file
        name = self.files[number].name
        return name if len(self.files) == 1 else f"row {row - sum(file.rows for file in self.files[:number])} of {name}"

    def group_of(self, row: int) -> str:
        """The file that holds this row, and the number of the row group in it, for messages."""
        group = self.groups[self.group_at(row)]
        return f"{self.files[group.file].name}, row group {group.index}"

    def read(self, start: int, stop: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Batches that hold rows start..stop-1, in order, entered at the group that holds `start`."""
        first, last = self.group_at(start), self.group_at(stop - 1)
        at = first
        while at <= last:
            file = self.groups[at].file
            until = at
            while until < last and self.groups[until + 1].file == file:
                until += 1
            position = self.groups[at].start
            indices = [group.index for group in self.groups[at : until + 1]]
            for batch in self.files[file].batches(indices, self.schema.names if columns is None else columns):
                low, high = max(start - position, 0), min(stop - position, batch.num_rows)
                if high > low:
                    yield batch.slice(low, high - low) if (low, high) != (0, batch.num_rows) else batch
                position += batch.num_rows
                if position >= stop and stop < self.groups[until].stop:
                    return
            if position != self.groups[until].stop:
                raise _not_whole(self.files[file])
            at = until + 1

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column in memory."""
        field = self.schema.field(name)
        chunks = [batch.column(0) for batch in self.read(0, self.n, [name])]
        return pa.chunked_array(chunks, type=field.type)

    def take(
        self, rows: Rows, columns: Sequence[str] | None = None, threads: int | None = None, tell: Tell | None = None
    ) -> pa.Table:
        """The rows of these numbers, in this order. Reads the groups that hold one, a batch at a time."""
        if len(rows) and (rows.min() < 0 or rows.max() >= self.n):
            wrong = int(rows.min() if rows.min() < 0 else rows.max())
            raise UsageError(f"row {wrong} is not among the {self.n} rows of {self.describe()}")
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        cuts = np.searchsorted(ordered, [*self._starts, self.n])
        jobs = [(at, ordered[a:b]) for at, (a, b) in enumerate(pairwise(cuts)) if b > a]
        wanted = list(self.schema.names if columns is None else columns)
        done = 0
        with ThreadPoolExecutor(threads or available_threads()) as pool:
            batches: list[pa.RecordBatch] = []
            for part in pool.map(lambda job: self._take_group(job[0], job[1], wanted), jobs):
                batches += part
                done += sum(batch.num_rows for batch in part)
                if tell is not None:
                    tell(GATHERED, done, len(rows))
        table = pa.Table.from_batches(batches, pa.schema([self.schema.field(name) for name in wanted]))
        back = np.empty(len(rows), dtype=np.int64)
        back[order] = np.arange(len(rows))
        return table.take(pa.array(back))

    @cached_property
    def _starts(self) -> list[int]:
        return [group.start for group in self.groups]

    def _take_group(self, at: int, rows: Rows, columns: Sequence[str]) -> list[pa.RecordBatch]:
        group, taken, position = self.groups[at], [], self.groups[at].start
        for batch in self.files[group.file].batches([group.index], columns):
            low, high = np.searchsorted(rows, [position, position + batch.num_rows])
            if high > low:
                taken.append(batch.take(pa.array(rows[low:high] - position)))
            position += batch.num_rows
            if position > rows[-1]:
                return taken
        raise _not_whole(self.files[group.file])


def _not_whole(file: DataFile) -> DataError:
    return DataError(f"{file.name} does not hold as many rows as it says it does; write it again")


def _same_columns(first: DataFile, other: DataFile) -> None:
    """Raise DataError unless both have columns of the same names and types, in whatever order."""
    mine, theirs = ({field.name: field for field in file.schema} for file in (first, other))
    if mine != theirs:
        shared = mine.keys() & theirs.keys()
        differing = [name for name in mine | theirs if name not in shared or mine[name] != theirs[name]]
        raise DataError(
            f"{other.name} and {first.name} do not have the same columns (they differ in {', '.join(differing[:5])}); "
            "write them with one schema, or select from one of them"
        )


def _number_groups(files: Sequence[DataFile]) -> list[Group]:
    groups, start = [], 0
    for number, file in enumerate(files):
        for index, rows in enumerate(file.group_rows):
            if rows:
                groups.append(Group(start, rows, number, index))
                start += rows
    return groups


def digest_rows(table: Any) -> str:
    """Digest of the contents of an Arrow table, whatever its chunks, column by column."""
    digest = blake2b(digest_size=16)
    for name in table.schema.names:
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        digest.update(f"{name}\x1f{column.type}\x1f".encode())
        batch = pa.record_batch([column.take(pa.array(np.arange(len(column))))], names=["x"])
        digest.update(batch.serialize())
    return digest.hexdigest()

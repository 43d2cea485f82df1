"""What files say of themselves without being read: how many bytes a column takes in each group, and its nulls."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kofn.blocks.dataset import Dataset
from kofn.blocks.formats import TAIL, DataFile

Sizes = NDArray[np.int64]


@dataclass(frozen=True)
class Footers:
    """Sizes and statistics of the columns of a `Dataset`, from footers alone.

    Parameters
    ----------
    dataset : Dataset
        The files.
    """

    dataset: Dataset

    @cached_property
    def in_memory(self) -> bool:
        """Whether the dataset is a table in memory: nothing of it is read from a disk."""
        return not self.dataset.files[0].path

    @cached_property
    def mapped(self) -> int:
        """Bytes of files that are mapped into memory (.npy, Arrow IPC): they count as the process's while it reads them."""
        return sum(file.size for file in self.dataset.files if file.path and not (_is_parquet(file) or file.is_text))

    @cached_property
    def overhead(self) -> int:
        """Bytes that opening the files twice (to choose, to take) and digesting their ends reads; text files are read whole."""
        files = [file for file in self.dataset.files if file.path]
        return sum(2 * file.size if file.is_text else 3 * min(TAIL, file.size) for file in files)

    def stored(self, columns: Sequence[str]) -> Sizes:
        """Bytes that these columns take as they lie, int64 (groups, leaves): a column of columns has several leaves."""
        return self._of_groups(columns, "total_compressed_size")

    def row_bytes(self, columns: Sequence[str]) -> int:
        """Bytes of a row of these columns once decoded, on average, in the group where it takes most.

        A lower bound for text that repeats, which lies in a dictionary.
        """
        rows = np.array([group.rows for group in self.dataset.groups])
        total = 0.0
        for name in columns:
            lying = self._of_groups([name], "total_uncompressed_size").sum(axis=1) / rows
            total += max(float(lying.max()), _width(self.dataset.schema.field(name).type))
        return int(np.ceil(total))

    def nulls(self, column: str) -> int | None:
        """Nulls in a column as the statistics of its groups count them; None where they do not say.

        In a list column the entries of the lists are counted too, so only 0 says something about rows.
        """
        total = 0
        for number, file in enumerate(self.dataset.files):
            if not _is_parquet(file):
                return None
            if column not in self._leaves[number]:
                continue  # spelled by a folder: never null
            metadata = self._metadata[number]
            for group in range(metadata.num_row_groups):
                for leaf in self._leaves[number][column]:
                    statistics = metadata.row_group(group).column(leaf).statistics
                    if statistics is None or not statistics.has_null_count:
                        return None
                    total += statistics.null_count
        return total

    def _of_groups(self, columns: Sequence[str], what: str) -> Sizes:
        rows = [self._of_group(group.file, group.index, columns, what) for group in self.dataset.groups]
        width = max(map(len, rows))
        return np.array([row + [0] * (width - len(row)) for row in rows], np.int64).reshape(len(rows), width)

    def _of_group(self, number: int, index: int, columns: Sequence[str], what: str) -> list[int]:
        file = self.dataset.files[number]
        if not file.path:
            return [0] * len(columns)
        if file.is_text and what == "total_compressed_size":  # every reading is of whole lines
            return [file.size if at == 0 else 0 for at, _ in enumerate(columns)]
        if not _is_parquet(file):
            share = file.group_rows[index] / max(1, file.rows)
            return [int(file.size * share * part) for part in _parts(file, columns)]
        leaves = self._leaves[number]
        group = self._metadata[number].row_group(index)
        return [int(getattr(group.column(leaf), what)) for name in columns for leaf in leaves.get(name, ())]

    @cached_property
    def _metadata(self) -> list[Any]:
        with ThreadPoolExecutor(min(16, len(self.dataset.files))) as pool:
            return list(pool.map(_read_footer, self.dataset.files))

    @cached_property
    def _leaves(self) -> list[dict[str, list[int]]]:
        return [{} if metadata is None else _leaf_columns(metadata) for metadata in self._metadata]


def _read_footer(file: DataFile) -> Any:
    import pyarrow.parquet as pq

    if not _is_parquet(file):
        return None
    with file.filesystem.open_input_file(file.path) as source:
        return pq.read_metadata(source)


def _leaf_columns(metadata: Any) -> dict[str, list[int]]:
    """Numbers of the stored columns behind each column of the table."""
    leaves, at = {}, 0
    for field in metadata.schema.to_arrow_schema():
        count = _leaf_count(field.type)
        leaves[field.name] = list(range(at, at + count))
        at += count
    return leaves


def _leaf_count(kind: Any) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaf_count(kind.storage_type)
    if not pa.types.is_nested(kind):
        return 1
    return sum(_leaf_count(kind.field(at).type) for at in range(kind.num_fields))


def _parts(file: DataFile, columns: Sequence[str]) -> list[float]:
    """The share of a mapped file that each column takes, by the width of its type; text counts as 16 bytes."""
    widths = {field.name: _width(field.type) for field in file.schema}
    total = sum(widths.values())
    return [widths[name] / total for name in columns]


def _width(kind: Any) -> float:
    if pa.types.is_fixed_size_list(kind):
        return float(kind.list_size * _width(kind.value_type))
    try:
        return float(kind.bit_width / 8)
    except ValueError:
        return 16.0


def _is_parquet(file: DataFile) -> bool:
    return file.path.endswith((".parquet", ".pq"))

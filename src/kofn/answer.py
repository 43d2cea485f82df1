"""Written selections, read back: the table, the numbers that kofn added to it, and where they come from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kofn.blocks.paths import find_files
from kofn.blocks.tables import as_arrow, is_table
from kofn.core.block import Rows
from kofn.errors import DataError, UsageError
from kofn.selection import COLUMNS, METADATA_KEY, Selection

_WITHOUT = (".csv", ".jsonl", ".npy")
_NEEDED = {
    "kofn": str, "method": str, "parameters": dict, "seed": int, "k": int, "n": int, "total_weight": float, "have": int,
    "columns": dict, "data": dict, "run": dict, "digests": dict,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Answer:
    """A selection as it was written.

    Attributes
    ----------
    name : str
        The file's name.
    table : pyarrow.Table
        Rows as they lie in the file, by rank or by row number.
    provenance : dict
        What the run said of itself.
    """

    name: str
    table: pa.Table
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def contents(self) -> list[str]:
        """The names of the columns that come from the data."""
        return [name for name in self.table.schema.names if name not in COLUMNS]

    @property
    def index(self) -> Rows:
        """`kofn_index` as it lies in the file, int64 (k,)."""
        return np.asarray(self.numbers("kofn_index"), np.int64)

    @property
    def rank(self) -> Rows:
        """`kofn_rank` as it lies in the file, int64 (k,)."""
        return np.asarray(self.numbers("kofn_rank"), np.int64)

    def numbers(self, name: str) -> NDArray[Any] | None:
        """A column that kofn wrote, as it lies in the file; None where there is none."""
        return self.table.column(name).to_numpy() if name in self.table.schema.names else None

    def in_rank_order(self) -> Selection:
        """The selection that was written. The ranks must be a permutation."""
        order = np.argsort(self.rank)
        found = {name: self.numbers(name) for name in COLUMNS}
        cut = {name: None if values is None else values[order] for name, values in found.items()}
        return Selection(
            indices=self.index[order],
            weights=np.asarray(cut["kofn_weight"]),
            inclusion=cut["kofn_inclusion"],
            gains=cut["kofn_gain"],
            strata=cut["kofn_stratum"],
            provenance=self.provenance,
        )


def read_answer(subset: Any) -> Answer:
    """Read what `kofn select` or `Selection.save` wrote, what `Selection.to_arrow` gave, or a Selection.

    Raises
    ------
    DataError
        When the file cannot be read, bears no provenance of kofn's, or lacks one of kofn's columns.
    """
    if isinstance(subset, Selection):
        name, table = "the selection", subset.to_arrow()
    elif isinstance(subset, str | os.PathLike):
        name, table = os.fspath(subset), _read(os.fspath(subset))
    elif is_table(subset):
        name, table = "the table", as_arrow(subset)
    else:
        raise UsageError(f"subset of type {type(subset).__name__} is no selection; give a .parquet or .arrow file")
    answer = Answer(name, table, _provenance(name, table.schema))
    for column in COLUMNS:
        _check_numbers(answer, column)
    return answer


def _read(path: str) -> pa.Table:
    if path.endswith(_WITHOUT):
        raise DataError(
            f"{path!r} carries no provenance, so it cannot be verified; write the selection as .parquet or .arrow"
        )
    filesystem, found = find_files(path)
    if len(found) > 1:
        raise UsageError(f"{path!r} holds {len(found)} files; a selection is one .parquet or .arrow file")
    try:
        with filesystem.open_input_file(found[0][0]) as source:
            return _read_parquet(path, source) if path.endswith((".parquet", ".pq")) else _read_ipc(path, source)
    except (pa.ArrowInvalid, OSError, pa.ArrowNotImplementedError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path!r} cannot be read ({line}); select again") from error


def _read_parquet(path: str, source: Any) -> pa.Table:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source, pre_buffer=False)
    _provenance(path, file.schema_arrow)  # a foreign file may be large: ask before it is read
    return file.read()


def _read_ipc(path: str, source: Any) -> pa.Table:
    file = pa.ipc.open_file(source)
    _provenance(path, file.schema)
    return file.read_all()


def _provenance(name: str, schema: pa.Schema) -> dict[str, Any]:
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise DataError(
            f"{name!r} is no output of kofn: its schema carries no provenance; give what kofn select --out wrote"
        )
    try:
        provenance = json.loads(text)
    except ValueError as error:
        raise DataError(f"the provenance in {name!r} is damaged ({error}); select again") from error
    kinds = _NEEDED.items() if isinstance(provenance, dict) else [("", dict)]
    for key, kind in kinds:
        found = provenance.get(key) if isinstance(provenance, dict) else provenance
        if not isinstance(found, (kind, int) if kind is float else kind) or isinstance(found, bool):
            what = f"{key!r}" if key else "a record"
            raise DataError(
                f"the provenance in {name!r} lacks {what}; only selections made by kofn select (kofn.select) can be verified"
            )
    return dict(provenance)


def _check_numbers(answer: Answer, column: str) -> None:
    whole = column in ("kofn_index", "kofn_rank", "kofn_stratum")
    optional = column not in ("kofn_index", "kofn_rank", "kofn_weight")
    if column not in answer.table.schema.names:
        if optional:
            return
        raise DataError(f"{answer.name!r} has no column {column}; select again")
    found = answer.table.column(column)
    fits = pa.types.is_integer(found.type) if whole else pa.types.is_floating(found.type)
    if not fits or found.null_count:
        what = f"{found.null_count} nulls" if fits else str(found.type)
        wanted = "a whole number" if whole else "a number"
        raise DataError(f"column {column} of {answer.name!r} holds {what}, not {wanted} in every row; select again")

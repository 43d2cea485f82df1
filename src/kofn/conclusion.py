"""Numbers about all rows, concluded from a written selection: picks, values measured on them, and their design."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kofn.answer import Answer, read_answer
from kofn.blocks.dataset import Dataset
from kofn.core.labels import sortable
from kofn.errors import DataError, UsageError
from kofn.selection import COLUMNS, Selection

if TYPE_CHECKING:
    from kofn.core.estimators import Estimate


@dataclass(frozen=True)
class Conclusion:
    """Estimates of one column, and where they come from.

    Attributes
    ----------
    value : str
        The column that was measured on the picks.
    overall : Estimate
        About all rows.
    groups : dict
        Group to Estimate; empty where no groups were asked for.
    notes : tuple of str
        What a reader must know.
    """

    value: str
    overall: Estimate
    groups: dict[Any, Estimate]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; groups as a list, in their order."""
        return {
            "value": self.value,
            **_plain(self.overall),
            "groups": [{"group": group, **_plain(found)} for group, found in self.groups.items()],
            "notes": list(self.notes),
        }


def load(subset: str) -> Selection:
    """The selection that `kofn select --out` or `Selection.save` wrote, read back.

    Parameters
    ----------
    subset : str
        A .parquet or .arrow file: other formats carry no provenance.

    Returns
    -------
    Selection
        In the order of picking.
    """
    return read_answer(subset).in_rank_order()


def conclude(
    subset: str,
    value: str,
    *,
    by: str | None = None,
    over: str | None = None,
    of: str | None = None,
    values: str | None = None,
    calibrated: bool = False,
    level: float = 0.95,
) -> Conclusion:
    """Estimate a column's mean, total or share, or the ratio of two, over all rows.

    Parameters
    ----------
    subset : str
        What `kofn select --out` wrote.
    value : str
        A column of it, or of `values`: numbers or truth values.
    by : str, optional
        A column of groups; each gets an estimate of its own.
    over : str, optional
        A column to whose total the total of `value` is put in relation.
    of : {"mean", "total", "share"}, optional
        Default: share for truth values and whole numbers that are all 0 or 1, else mean.
    values : str, optional
        A file with a column `kofn_index` and what was measured, in any order and format; for measurements made on a copy
        of the subset by a program that drops the provenance.
    calibrated : bool
        See `Selection.estimate`.
    level : float
        Confidence of the intervals.
    """
    if os.fspath(subset).endswith((".csv", ".jsonl", ".npy")):
        raise DataError(
            f"{subset!r} does not say how its rows were drawn; give the .parquet or .arrow file that kofn select wrote, and "
            f"measurements made on a copy of it with --values {subset}"
        )
    answer = read_answer(subset)
    selection = answer.in_rank_order()
    read = _Columns(answer, selection, values)
    numbers = read.numbers(value)
    kind = of or ("share" if _is_truth(numbers) and over is None else None)
    if over is not None:
        if by is not None or of is not None or calibrated:
            raise UsageError("--over gives one ratio over all rows; leave out --by, --of and --calibrated")
        overall = selection.estimate_ratio(numbers, read.numbers(over), level=level)
    else:
        overall = selection.estimate(numbers, of=kind, calibrated=calibrated, level=level)
    groups: dict[Any, Estimate] = {}
    if by is not None:
        if kind == "total":
            raise UsageError("totals by group are not estimated; leave out --of total, or leave out --by")
        groups = selection.estimate_by(numbers, read.labels(by), of=kind, level=level)
    return Conclusion(value, overall, groups, _notes(selection, groups))


class _Columns:
    """Columns of the picks in the order of picking, from the selection's file or from the file of values."""

    def __init__(self, answer: Answer, selection: Selection, values: str | None) -> None:
        self.name = answer.name if values is None else os.fspath(values)
        if values is None:
            self.table, self.order = answer.table, np.argsort(answer.rank)
            return
        measured = Dataset.open(values)
        measured.check_column("kofn_index", "--values")
        rows = measured.column("kofn_index").to_numpy()
        order = np.argsort(rows, kind="stable")
        at = np.minimum(np.searchsorted(rows[order], selection.indices), len(rows) - 1)
        missing = rows[order][at] != selection.indices
        if missing.any():
            first = int(selection.indices[np.flatnonzero(missing)[0]])
            raise DataError(
                f"{self.name} has no row for {int(missing.sum()):,} of the {len(selection):,} picks, the first for "
                f"kofn_index {first}; an estimate needs every pick, so measure those too"
            )
        if (np.diff(rows[order]) == 0).any():
            twice = int(rows[order][np.flatnonzero(np.diff(rows[order]) == 0)[0]])
            raise DataError(f"{self.name} has kofn_index {twice} more than once; keep one row for each pick")
        self.table, self.order = measured.take(np.arange(measured.n)), order[at]

    def numbers(self, name: str) -> NDArray[Any]:
        import pyarrow as pa

        column = self._column(name)
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise DataError(f"column {name!r} of {self.name} holds {kind}, not numbers or truth values")
        if column.null_count:
            raise DataError(
                f"column {name!r} of {self.name} is null for {column.null_count:,} of {len(column):,} picks; an estimate "
                "needs every pick, so measure those too"
            )
        return np.asarray(column.to_numpy())[self.order]

    def labels(self, name: str) -> NDArray[Any]:
        column = self._column(name)
        found = column.to_pylist()
        if any(isinstance(label, list | dict) for label in found):
            raise DataError(f"column {name!r} of {self.name} holds {column.type}, which names no groups")
        return sortable(np.array(found, object) if None in found else found)[self.order]

    def _column(self, name: str) -> Any:
        names = self.table.schema.names
        if name not in names:
            from difflib import get_close_matches

            own = [each for each in names if each not in COLUMNS]
            near = get_close_matches(name, own, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"columns: {', '.join(own[:20])}"
            raise DataError(
                f"{self.name} has no column {name!r}; {hint} (measured elsewhere: --values FILE with kofn_index and {name})"
            )
        return self.table.column(name)


def _is_truth(numbers: NDArray[Any]) -> bool:
    if numbers.dtype == bool:
        return True
    return np.issubdtype(numbers.dtype, np.integer) and bool(np.isin(numbers, (0, 1)).all())


def _notes(selection: Selection, groups: dict[Any, Estimate]) -> tuple[str, ...]:
    said = selection.provenance.get("notes", [])
    notes = [note for note in said if "estimates" in note or note.endswith("were left out")]
    if selection.provenance.get("have"):
        notes.append(
            f"about the rows that were not held already: {selection.provenance['have']:,} of `have` are left out"
        )
    few = [str(group) for group, found in groups.items() if found.k < 10]
    if few:
        notes.append(f"fewer than 10 picks in {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}: read with care")
    return tuple(notes)


def _plain(found: Estimate) -> dict[str, Any]:
    known = {
        "of": found.of, "estimate": found.value, "standard_error": found.standard_error, "low": found.interval[0],
        "high": found.interval[1], "level": found.level, "picks": found.k, "rows": found.n, "how": found.how,
    }  # fmt: skip
    return {  # JSON knows no infinity
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in known.items()
    }

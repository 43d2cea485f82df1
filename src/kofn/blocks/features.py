"""Columns of a plain table as vectors: numbers standardised, categories one-hot, fitted on a sample, applied in batches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kofn.blocks.dataset import Dataset
from kofn.core.block import Doubles, Floats, Rows
from kofn.errors import UsageError

SAMPLE = 20_000
"""Rows that the recipe is fitted on, at most."""

LEVELS = 50
"""Columns that a category becomes, at most, the one for every other level included; nulls have one more."""

RARE = 0.01
"""Levels that fewer of the sample's rows hold than this share are counted as "other"."""

_TEXT = (32, 2.0)
"""Strings of more characters, or of more blanks, on average, are free text."""

_SAID = 8


@dataclass(frozen=True)
class Feature:
    """One column of the table, and what becomes of it.

    Attributes
    ----------
    name : str
    kind : {"number", "truth", "date", "category", "null"}
        "null": a column that holds one value or none at all; only which of the two it is counts.
    mean, scale : float
        What is taken off a number, and what it is divided by then.
    levels : tuple of str
        Those with a column of their own, sorted.
    other : bool
        Whether the levels that are rare or not in the sample have a column together.
    nulls : bool
        Whether nulls have a column. A number that is null or NaN counts as the mean.
    """

    name: str
    kind: str
    mean: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    other: bool = False
    nulls: bool = False

    @property
    def width(self) -> int:
        """Columns of the vector that it takes."""
        own = {"category": len(self.levels) + self.other, "null": 0}.get(self.kind, 1)
        return own + self.nulls

    def fill(self, column: Any, out: Floats) -> None:
        """Write the column's part of the vectors into `out` (rows, width)."""
        if self.kind == "category":
            self._fill_levels(_as_text(column), out)
            return
        values = _as_numbers(column)
        missing = np.isnan(values)
        if self.nulls:
            out[:, -1] = missing
        if self.kind != "null":
            out[:, 0] = np.where(missing, 0.0, (values - self.mean) / self.scale)

    def _fill_levels(self, column: Any, out: Floats) -> None:
        null = column.is_null().to_numpy(zero_copy_only=False)
        found = pc.index_in(column, value_set=pa.array(self.levels, pa.large_string()))
        codes = found.fill_null(len(self.levels)).to_numpy(zero_copy_only=False)
        codes = np.where(null, self.width - 1, codes)
        shown = np.where(null, self.nulls, (codes < len(self.levels)) | self.other)
        out[:] = 0
        rows = np.flatnonzero(shown)
        out[rows, codes[rows]] = 1 / np.sqrt(self.width)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without what does not apply."""
        kept = {"category": ("levels", "other"), "null": ()}.get(self.kind, ("mean", "scale"))
        found = asdict(self)
        return {name: found[name] for name in ("name", "kind", *kept, "nulls")} | (
            {"levels": list(self.levels)} if self.kind == "category" else {}
        )


@dataclass(frozen=True)
class Features:
    """The columns of a table that are its vectors, and how. Stands where `Embedding` stands.

    Attributes
    ----------
    parts : tuple of Feature
        The columns that are used, in the order of the vector.
    left_out : dict
        Why each of the other columns is not used, by name.
    sample : int
        Rows that the recipe was fitted on.
    looked : tuple of str
        The columns that were read for it; none where the recipe was given.
    """

    parts: tuple[Feature, ...]
    left_out: dict[str, str]
    sample: int
    looked: tuple[str, ...] = ()

    kind = "features"
    dtype = "float32"

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that are read."""
        return tuple(part.name for part in self.parts)

    @property
    def d(self) -> int:
        """Length of the vector."""
        return sum(part.width for part in self.parts)

    def fill(self, batch: pa.RecordBatch, out: Floats, rows: int | Rows) -> None:
        """Write the batch's vectors into `out` (rows, d). An infinite number stays one: the door refuses it."""
        at = 0
        with np.errstate(over="ignore"):
            for part in self.parts:
                column = batch.column(batch.schema.get_field_index(part.name))
                part.fill(column, out[:, at : at + part.width])
                at += part.width

    def sentence(self) -> str:
        """What is used and what is not, in one line."""
        names = {"number": "numbers", "truth": "truth values", "date": "dates", "category": "categories"}
        said = []
        for kind, plural in names.items():
            found = [part for part in self.parts if part.kind == kind]
            if found:
                word = plural if len(found) > 1 else {"category": "category", "truth": "truth value"}.get(kind, kind)
                width = sum(part.width for part in found)
                said.append(f"{len(found)} {word}" + (f" ({width} columns)" if kind == "category" else ""))
        nulls = sum(part.nulls for part in self.parts if part.kind != "category")
        if nulls:
            said.append(f"{nulls} of nulls")
        return f"features: {', '.join(said) or 'none'}" + (f"; left out: {self.lost()}" if self.left_out else "")

    def lost(self) -> str:
        """The columns that are left out and why, the first few."""
        listed = [f"{name} ({why})" for name, why in self.left_out.items()]
        return ", ".join(listed[:_SAID]) + (f" and {len(listed) - _SAID} more" if len(listed) > _SAID else "")

    def recipe(self) -> dict[str, Any]:
        """All that is needed to make the same vectors again, as plain JSON."""
        columns = [part.to_dict() for part in self.parts]
        return {"sample": self.sample, "columns": columns, "left_out": dict(self.left_out)}


def from_recipe(recipe: Mapping[str, Any]) -> Features:
    """The features whose `recipe()` this is."""
    parts = [Feature(**{**part, "levels": tuple(part.get("levels", ()))}) for part in recipe["columns"]]
    return Features(tuple(parts), dict(recipe["left_out"]), int(recipe["sample"]))


def fit_features(
    dataset: Dataset,
    asked: Sequence[str] | None,
    roles: Mapping[str, str],
    rows: Rows,
    threads: int | None = None,
    given: Mapping[str, Any] | None = None,
) -> Features:
    """Choose columns and fit what becomes of them.

    Parameters
    ----------
    asked : sequence of str, optional
        The columns to use; by default, all that can be used.
    roles : dict of str to str
        What columns are used as besides, by name: a label must not leak into the vectors.
    rows : int64 (m,)
        The sample, ascending. The recipe depends on nothing but the contents of these rows.
    given : dict of str to array (m,), optional
        Values at these rows that are used in a role without a column's name: a column that holds the same is left out.

    Raises
    ------
    UsageError
        When a column that was asked for cannot be used.

    Notes
    -----
    One read of the groups that hold a sampled row; memory for the sampled rows.
    """
    names = dataset.schema.names if asked is None else list(asked)
    left_out = {
        name: why for name in names if (why := _unfit(name, dataset.schema.field(name).type, roles)) is not None
    }
    looked = [name for name in names if name not in left_out]
    parts: dict[str, Feature] = {}
    if looked:
        table = dataset.take(rows, looked, threads)
        for name in looked:
            role = next((role for role, values in (given or {}).items() if _same(table.column(name), values)), None)
            if role is not None:
                left_out[name] = f"the {role}"
                continue
            found = _fit(name, table.column(name).combine_chunks(), rows, dataset.n, asked is not None)
            if isinstance(found, Feature):
                parts[name] = found
            else:
                left_out[name] = found
    if asked is not None and left_out:
        name = next(name for name in names if name in left_out)
        raise UsageError(f"features: column {name!r} cannot be used ({left_out[name]}); leave it out")
    ordered = {name: left_out[name] for name in names if name in left_out}
    return Features(tuple(parts[name] for name in names if name in parts), ordered, len(rows), tuple(looked))


def _same(column: Any, values: Any) -> bool:
    """Whether a column holds these values: numbers as numbers, everything else as text, nulls and NaN in the same rows."""
    try:
        other = pa.array(values, from_pandas=True)
        numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (column.type, other.type))
        kind = pa.float64() if numbers else pa.large_string()
        own, other = column.combine_chunks().cast(kind), other.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return False  # no column of this table can hold such values
    if numbers:
        own = pc.if_else(pc.is_nan(own), pa.scalar(None, kind), own)
    return own.null_count == other.null_count and bool(pc.all(pc.equal(own, other)).as_py())


def _unfit(name: str, kind: Any, roles: Mapping[str, str]) -> str | None:
    """Why a column of this name and type is not used; None where its values decide."""
    if name in roles:
        return f"the {roles[name]}"
    if name.startswith("kofn_"):
        return "written by kofn"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return "nothing but nulls"
    if pa.types.is_nested(kind):
        return "a list" if "list" in str(kind) else "nested"
    if _kind_of(kind) is None:
        return "binary" if "binary" in str(kind) else str(kind)
    return None


def _kind_of(kind: Any) -> str | None:
    is_a = pa.types
    if is_a.is_boolean(kind):
        return "truth"
    if is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind):
        return "number"
    if is_a.is_date(kind) or is_a.is_timestamp(kind) or is_a.is_time(kind) or is_a.is_duration(kind):
        return "date"
    text = is_a.is_string(kind) or is_a.is_large_string(kind) or is_a.is_string_view(kind) or is_a.is_dictionary(kind)
    return "category" if text else None


def _fit(name: str, column: Any, rows: Rows, n: int, wanted: bool) -> Feature | str:
    """What becomes of a column, from the sampled rows; or why it is left out."""
    kind = _kind_of(column.type)
    assert kind is not None
    if kind == "category":
        return _fit_levels(name, _as_text(column), partial=len(rows) < n)
    values = _as_numbers(column)
    valid = values[~np.isnan(values)]
    nulls = len(valid) < len(values)
    if not len(valid):
        return "nothing but nulls"
    if valid.min() == valid.max():
        return Feature(name, "null", nulls=True) if nulls else "constant"
    if pa.types.is_integer(column.type) and not nulls and not wanted and _numbers_rows(name, values, rows, n):
        return "unique, like row numbers"
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.where(np.isfinite(values), values, np.nan)[:, None])
    return Feature(name, kind, mean=float(scaler.mean_[0]), scale=float(scaler.scale_[0]), nulls=nulls)


def _numbers_rows(name: str, values: Doubles, rows: Rows, n: int) -> bool:
    """Whether whole numbers tell rows apart and nothing else: all different, and dense, rising with the rows, or so called."""
    if len(values) < 3 or len(np.unique(values)) < len(values):
        return False
    span, steps = values.max() - values.min() + 1, np.diff(values)
    reach = n if len(rows) == n else int(rows[-1] - rows[0] + 1)
    in_order = bool((steps > 0).all() or (steps < 0).all())
    named = re.search(r"(^|[^a-z])(id|idx|index|key)$|[a-z](Id|ID)$", name if name != name.upper() else name.lower())
    return bool(span <= 1.2 * reach or (in_order and span <= 10 * reach) or named is not None)


def _fit_levels(name: str, column: Any, *, partial: bool) -> Feature | str:
    valid = column.drop_null()
    nulls = len(valid) < len(column)
    if not len(valid):
        return "nothing but nulls"
    distinct = len(valid.unique())
    if distinct == 1 and not nulls:
        return "constant"
    if distinct > 0.9 * len(valid) and len(valid) > 1:
        return _is_text(valid) or ("unique" if distinct == len(valid) else "nearly unique")
    levels, covered = _frequent(np.asarray(valid.to_numpy(zero_copy_only=False), object))
    if covered < 0.5 * len(valid):
        return _is_text(valid) or f"too many values: {distinct:,}"
    return Feature(name, "category", levels=levels, other=partial or len(levels) < distinct, nulls=nulls)


def _frequent(values: NDArray[Any]) -> tuple[tuple[str, ...], int]:
    """The levels that get columns of their own, and how many values they cover."""
    from sklearn.preprocessing import OneHotEncoder

    encoder = OneHotEncoder(min_frequency=RARE, max_categories=LEVELS, handle_unknown="infrequent_if_exist")
    encoder.fit(values[:, None])
    rare = encoder.infrequent_categories_[0]
    hidden = set() if rare is None else set(rare)
    levels = [level for level in encoder.categories_[0] if level not in hidden]
    return tuple(str(level) for level in levels), int(np.isin(values, levels).sum())


def _is_text(column: Any) -> str | None:
    length, blanks = pc.mean(pc.utf8_length(column)).as_py(), pc.mean(pc.count_substring(column, " ")).as_py()
    return "free text" if length > _TEXT[0] or blanks > _TEXT[1] else None


def _as_text(column: Any) -> Any:
    if not pa.types.is_dictionary(column.type):
        return column.cast(pa.large_string())
    texts = column.dictionary.cast(pa.large_string())  # first: those of polars are of a type that no kernel decodes
    return pa.DictionaryArray.from_arrays(column.indices, texts).dictionary_decode()


def _as_numbers(column: Any) -> Doubles:
    """Values as float64, NaN for null; dates and times in the unit that they lie in."""
    kind = column.type
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        column = column.cast(pa.int32())
    elif _kind_of(kind) == "date":
        column = column.cast(pa.int64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if not pa.types.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    values = column.to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64)

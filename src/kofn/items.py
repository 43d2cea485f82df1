"""The n things, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks import FileBlocks, MemoryBlocks, Run, file_blocks
from kofn.core.block import SLAB, Block, Blocks, Doubles, Floats, Rows
from kofn.errors import DataError, InvalidRows, UsageError

COLUMNS = ("ids", "labels", "scores", "groups", "weights", "have")


@dataclass(frozen=True, eq=False)
class Items:
    """n things to choose from.

    Parameters
    ----------
    embeddings : array (n, d), scipy.sparse matrix (n, d), or a FileBlocks
        The rows as vectors. Never modified.
    ids : array (n,)
        The caller's names of the rows; handed back for the picks.
    labels : array (n,)
        For reports only; no method reads them.
    scores : array (n,)
        Higher means more wanted.
    groups : array (n,)
        Any hashable values.
    weights : array (n,) of positive numbers
        How many rows each row stands for; default 1.
    have : bool array (n,), or row numbers
        Rows that the caller has already: never picked, not counted in k, counted as covered.
    run : Run
        Threads and progress; never changes a result.
    """

    embeddings: Any = None
    ids: Any = None
    labels: Any = None
    scores: Any = None
    groups: Any = None
    weights: Any = None
    have: Any = None
    rows: int | None = None
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        if self.embeddings is not None and not isinstance(self.embeddings, FileBlocks):
            object.__setattr__(self, "embeddings", _matrix(self.embeddings))
        n = self._find_n()
        object.__setattr__(self, "rows", n)
        for name in ("ids", "labels", "groups"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _column(getattr(self, name), n, name))
        for name in ("scores", "weights"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _numbers(getattr(self, name), n, name))
        if self.weights is not None and not (self.weights > 0).all():
            first = int(np.flatnonzero(~(self.weights > 0))[0])
            raise DataError(f"weights[{first}] is {self.weights[first]:g}; every weight must be more than 0")
        if self.have is not None:
            object.__setattr__(self, "have", _mask(self.have, n))

    @property
    def n(self) -> int:
        """Number of rows."""
        assert self.rows is not None
        return self.rows

    @property
    def d(self) -> int:
        """Length of a row's vector; 0 without embeddings."""
        if self.embeddings is None:
            return 0
        return int(self.embeddings.d if isinstance(self.embeddings, FileBlocks) else self.embeddings.shape[1])

    @property
    def sparse(self) -> bool:
        """Whether the embeddings are a sparse matrix."""
        return self.embeddings is not None and not isinstance(self.embeddings, FileBlocks | np.ndarray)

    @cached_property
    def have_rows(self) -> Rows:
        """Row numbers of `have`, ascending, int64."""
        return np.zeros(0, np.int64) if self.have is None else np.flatnonzero(self.have).astype(np.int64)

    @property
    def free(self) -> int:
        """Number of rows that may be picked."""
        return self.n - len(self.have_rows)

    @cached_property
    def row_weights(self) -> Doubles:
        """How many rows each row stands for, float64 (n,)."""
        return np.ones(self.n) if self.weights is None else self.weights

    @cached_property
    def group_codes(self) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """(code of each row's group, the groups' values in sorted order). Slab by slab: 4 bytes a row."""
        if self.groups is None:
            return np.zeros(self.n, np.int32), np.array(["all"])
        values = self.groups if self.groups.dtype != object else np.array([str(value) for value in self.groups])
        slabs = [slice(start, start + SLAB) for start in range(0, self.n, SLAB)]
        names = np.unique(np.concatenate([np.unique(values[slab]) for slab in slabs]))
        codes = np.empty(self.n, np.int32)
        for slab in slabs:
            codes[slab] = np.searchsorted(names, values[slab])
        return codes, names

    def blocks(self, metric: str = "euclidean", dtype: type[np.floating[Any]] = np.float32) -> Blocks:
        """The rows as `Blocks`; under "cosine" scaled to length one (the only place that does so)."""
        if self.embeddings is None:
            raise DataError(
                "these items have no embeddings; give embeddings, or choose a method that needs none: uniform, top"
            )
        if isinstance(self.embeddings, FileBlocks):
            door = self.embeddings
            return file_blocks(door.dataset, door.embedding, metric=metric, kept=door.kept, run=self.run, dtype=dtype)
        return MemoryBlocks(self.embeddings, metric=metric, run=self.run, dtype=dtype)

    def hold(self, x: Any) -> Blocks:
        """Rows of a sample, or centers, as `Blocks` of their own with these items' threads."""
        return MemoryBlocks(x, run=Run(self.run.threads))

    def everything(self, metric: str = "euclidean") -> Floats:
        """All rows as one float32 (n, d) array, for methods that work in memory. A view where that is possible."""
        blocks = self.blocks(metric)
        if isinstance(self.embeddings, FileBlocks):  # slab by slab: `take` would hold an Arrow table beside them
            rows = np.empty((self.n, self.d), np.float32)
            for _ in blocks.here.map(_write_into, rows):
                pass
            return rows
        x = blocks.take(np.arange(self.n))
        return x if isinstance(x, np.ndarray) else x.toarray()

    def subset(self, rows: Rows, embeddings: Any, weights: Doubles | None = None) -> Items:
        """Items of these rows alone, their vectors given, every column cut alike."""
        kept = {name: getattr(self, name)[rows] for name in COLUMNS if getattr(self, name) is not None}
        if weights is not None:
            kept["weights"] = weights
        return Items(embeddings=embeddings, rows=len(rows), run=Run(self.run.threads), **kept)

    def _find_n(self) -> int:
        if isinstance(self.embeddings, FileBlocks):
            n = self.embeddings.n
        elif self.embeddings is not None:
            n = int(self.embeddings.shape[0])
        elif self.rows is not None:
            n = self.rows
        else:
            given = [getattr(self, name) for name in COLUMNS[:-1] if getattr(self, name) is not None]
            if not given:
                raise UsageError("Items needs embeddings, a column, or rows=n to know how many things there are")
            n = len(given[0])
        if self.rows not in (None, n):
            raise UsageError(f"rows={self.rows}, but the embeddings have {n} rows")
        if n < 1:
            raise DataError("there are no rows; nothing can be chosen")
        return n


def _write_into(block: Block, rows: Floats) -> None:
    rows[block.start : block.stop] = block.x


def _matrix(x: Any) -> Any:
    if hasattr(x, "tocsr"):
        x = x.tocsr()
        if not x.has_canonical_format:
            x = x.copy()
            x.sum_duplicates()
    else:
        x = np.asarray(x)
        if x.ndim == 1 and x.dtype != object:
            raise DataError(
                f"embeddings have shape {x.shape}; give (rows, dimensions), for one number a row x[:, None]"
            )
        if x.ndim != 2 or x.dtype.kind not in "fiub":
            raise DataError(
                f"embeddings have shape {x.shape} and type {x.dtype}; give a matrix of numbers (rows, dimensions)"
            )
    if x.shape[1] < 1:
        raise DataError("embeddings have 0 columns; nothing can be measured between rows")
    return x


def _column(values: Any, n: int, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise UsageError(f"{name} has shape {array.shape}; give one value for each of the {n} rows")
    return array


def _numbers(values: Any, n: int, name: str) -> Doubles:
    array = _column(values, n, name)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} holds {array.dtype}, not numbers; give one number for each row")
    numbers = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        first = int(bad[0])
        raise InvalidRows(
            f"{name} hold null, NaN or infinity in {len(bad):,} of {n:,} rows, the first at row {first}; mend them",
            first,
        )
    return numbers


def _mask(have: Any, n: int) -> NDArray[np.bool_]:
    array = np.asarray(have)
    if array.dtype == bool:
        if array.shape != (n,):
            raise UsageError(
                f"have has shape {array.shape}; give one truth value for each of the {n} rows, or row numbers"
            )
        mask = array.copy()
    else:
        if array.size and array.dtype.kind not in "iu":
            raise UsageError(f"have holds {array.dtype}; give truth values or row numbers")
        if array.size and (array.min() < 0 or array.max() >= n):
            wrong = int(array.min() if array.min() < 0 else array.max())
            raise UsageError(
                f"have names row {wrong}, but rows go from 0 to {n - 1}; give row numbers of this data, or ids with --id COL"
            )
        mask = np.zeros(n, dtype=bool)
        mask[array.astype(np.int64)] = True
    if mask.all():
        raise UsageError(f"have holds all {n} rows; nothing is left to choose")
    return mask

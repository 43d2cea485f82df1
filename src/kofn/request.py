"""A selection as it was asked for: data, columns, method, k and memory, checked before the first row is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kofn.blocks import Run
from kofn.core.count import count, memory_bytes
from kofn.core.numbers import is_whole
from kofn.encoding import FOLDER, MODEL, Texts
from kofn.errors import BudgetError, DataError, InvalidRows, UsageError
from kofn.featuring import settle_features
from kofn.gone_on import begin, check_in_files
from kofn.intake import Source, bad_rows_of, read_have, read_source, settle_embedding, source_of
from kofn.items import Items
from kofn.method import Method, door_metric, is_matrix, measures_plainly
from kofn.registry import build, registered
from kofn.tworound import TwoRound, lifted

ENGINES = ("local", "ray")

COLUMNS = {"score": "scores", "group": "groups", "weight": "weights"}


def check_options(
    engine: str, threads: int | None, invalid: str, address: Any = None, checkpoint: Any = None, cache: Any = None
) -> None:
    """Raise UsageError for an option that no run understands."""
    for name, value in (("address", address), ("checkpoint", checkpoint), ("cache", cache)):
        if value is not None and (not isinstance(value, str | os.PathLike) or not os.fspath(value)):
            what = "an address such as 'auto' or 'host:6379'" if name == "address" else "the path of a folder"
            raise UsageError(f"{name}={value!r} is not {what}; give one, or leave it out")
    if engine not in ENGINES:
        raise UsageError(f"engine={engine!r} is unknown; use one of: {', '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise UsageError(f"address={address!r} is that of a Ray cluster; give it with engine='ray', or leave it out")
    if threads is not None and not is_whole(threads, 1):
        raise UsageError(f"threads={threads!r} is not a number of threads; give at least 1, or leave it out")
    if invalid not in ("error", "drop"):
        raise UsageError(f"invalid={invalid!r} is unknown; use 'error' or 'drop'")


@dataclass
class Request:
    """A selection that has been checked and can be run."""

    source: Source
    items: Items
    k: int
    method: Method
    memory: int
    kept: Any
    columns: dict[str, Any]
    notes: list[str]
    asked: str
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def lifted(self) -> TwoRound | None:
        """How the method is run on parts of the rows; None where it fits as it is."""
        n, d = self.items.n, self.items.d
        need = self.method.bytes(n, d, self.k)
        if need <= self.memory:
            return None
        if not measures_plainly(self.method):
            why = "a matrix has no parts" if is_matrix(self.method) else "parts are for euclidean and cosine"
            raise BudgetError(
                f"{self.method.name} needs {_gib(need)} for {n:,} rows and k={self.k}, memory is {_gib(self.memory)}, and "
                f"{why}; give --memory {_gib(need, up=True)}"
            )
        if self.method.lifts is None:
            raise BudgetError(
                f"{self.method.name} needs {_gib(need)} for {n:,} x {d} rows and k={self.k}, memory is {_gib(self.memory)}; "
                f"give --memory {_gib(need, up=True)}, or use {ways_out(self.items, self.method)}"
            )
        in_files = self.source.array is None
        try:
            return lifted(self.method, n, d, self.k, self.memory, len(self.items.have_rows), in_files)
        except BudgetError as error:
            enough = _enough(self.method, n, d, self.k, self.memory)
            raise BudgetError(
                f"{error} ({_streaming(self.items, self.method)}); {_gib(enough, up=True)} is enough"
            ) from None


def texts_of(column: str | None, model: str | None, folder: str | None) -> Texts | None:
    """What `text`, `model` and `cache` ask for."""
    if column is None:
        if model is not None or folder is not None:
            raise UsageError(f"{'cache' if model is None else 'model'} is for texts; name their column with text")
        return None
    return Texts(column, model or MODEL, folder or FOLDER)


def check_cached(source: Source) -> None:
    """Raise UsageError where a cache would keep nothing: for rows that are in memory already."""
    if source.array is not None or source.dataset is None or not source.dataset.files[0].path:
        raise UsageError("cache keeps the rows of files, but these are in memory already; leave it out, or give a path")


def prepare(
    data: Any, k: Any, *, method: str | Method, embedding: Any, columns: dict[str, Any], id: Any,
    have: Any, metric: str | None, invalid: str, memory: Any, dtype: str | None, run: Run, params: dict[str, Any],
    features: Any = None, texts: Texts | None = None, seed: int = 0,
) -> Request:  # fmt: skip
    """Check everything that can be checked before the first row is read."""
    limit = memory_bytes(memory)
    if isinstance(data, Items):
        if run.cluster is not None or run.checkpoint is not None:
            what = "checkpoint" if run.cluster is None else "engine='ray'"
            raise UsageError(
                f"{what} is for data in files, and ready Items are read as they were opened; give their path"
            )
        if invalid == "drop":
            raise UsageError(
                "invalid='drop' works on data, not on ready Items; leave the rows out before you make them"
            )
        if texts is not None:
            raise UsageError("text names a column of a table, but Items are ready; leave it out")
        if features is not None:
            raise UsageError("features were given beside ready Items; set them there: kofn.open(data, features=...)")
        source = source_of(data)
    else:
        source = read_source(data, embedding=embedding, features=features, texts=texts, dtype=dtype, run=run)
    roles = {**columns, "id": id, "have": have}
    if run.checkpoint is not None or run.cluster is not None:
        check_in_files(source, "engine='ray' is" if run.cluster is not None else "checkpoint is")
    if run.cache is not None:
        check_cached(source)
    if run.checkpoint is not None:
        request = {
            "method": method,
            "k": k,
            "metric": metric,
            "params": params,
            "seed": seed,
            "memory": limit,
            "invalid": invalid,
        }
        request |= {"embedding": embedding, "features": features, "dtype": dtype, "columns": roles, "texts": texts}
        begin(run.checkpoint, source, request)
    chosen = resolve(method, source, k, metric, params, roles)
    if is_matrix(chosen):
        _settle_matrix(source, features)
    elif "embeddings" in chosen.needs:
        settle_features(source, roles)
    settle_embedding(source, "embeddings" in chosen.needs)
    _check_columns(chosen, source, columns, data)
    for role, name in (("label", columns["label"]), ("id", id)):
        _check_name(source, role, name)
    held = read_have(source, have, id if isinstance(id, str) else None)
    kept, notes = _kept(source, chosen, columns, invalid)
    if source.has_features and "embeddings" in chosen.needs:
        notes.insert(0, source.embedding.sentence())
    try:
        items = data if isinstance(data, Items) else _items(source, chosen, columns, id, held, kept, run)
    except InvalidRows as error:
        what = str(error).partition(";")[0]
        raise DataError(
            f"{what}{place(source, error.first)}; mend them, or leave them out with --invalid drop"
        ) from error
    if items.sparse and "sparse" not in chosen.accepts and "embeddings" in chosen.needs:
        raise DataError(f"{chosen.name} needs dense rows; give x.toarray(), or reduce them first (TruncatedSVD)")
    notes += _lost_in_float32(items, chosen)
    picked = count(k, items.free, what="rows" if items.have is None else "rows that you do not have yet")
    asked = method if isinstance(method, str) else chosen.name
    named = {**columns, "embedding": embedding, "id": id, "have": have}
    reading = {"invalid": invalid, "dtype": dtype}
    return Request(source, items, picked, chosen, limit, kept, named, notes, asked, reading)


def resolve(
    method: str | Method, source: Source, k: Any, metric: str | None, params: dict[str, Any], columns: dict[str, Any]
) -> Method:
    """The method as a value: built from its name, or by shapes for "auto"."""
    if isinstance(method, Method):
        if params or metric is not None:
            extra = sorted(params)[0] if params else "metric"
            raise UsageError(f"{extra}= was given beside a ready {method!r}; set it there")
        return method
    if not isinstance(method, str):
        raise UsageError(f"method={method!r} is neither a name nor a Method; kofn.methods() lists the names")
    name = _auto(source, k, columns) if method == "auto" else method
    given = dict(params) if metric is None else {**params, "metric": metric}
    return build(name, given)


def _auto(source: Source, k: Any, columns: dict[str, Any]) -> str:
    if columns.get("group") is not None or (columns.get("weight") is not None and source.array is None):
        return "uniform"
    if source.array is None and source.embedding is None:
        if columns.get("score") is not None and source.features is None:
            return "uniform"
        settle_features(source, columns)
        if source.embedding is None:
            return "uniform"
    picked = count(k, source.n)
    if source.n <= 50_000:
        return "facility"
    return "kmeans" if source.n * picked <= 2e10 else "sensitivity"


def _lost_in_float32(items: Items, method: Method) -> list[str]:
    """That rows of an array in double precision lie too far from 0 for their differences to survive; 1,000 rows are looked at."""
    x = items.embeddings
    measured = "embeddings" in method.needs and np.dtype(method.dtype).itemsize < 8 and not is_matrix(method)
    if not measured or not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu" or x.dtype.itemsize < 8:
        return []
    sample = x[np.linspace(0, items.n - 1, min(items.n, 1_000)).astype(np.int64)].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        spread, size = sample.std(axis=0), np.abs(sample).max(axis=0)
        lost = int(((spread > 0) & (size * np.finfo(np.float32).eps > 1e-2 * spread)).sum())
    if not lost:
        return []
    return [
        f"{lost:,} of {items.d:,} columns lie so far from 0 for their spread that float32, in which rows are measured, loses "
        "their differences; subtract their means first"
    ]


def _settle_matrix(source: Source, features: Any) -> None:
    """A table that is a matrix of dissimilarities: its numeric columns as they stand."""
    from kofn.blocks.embedding import find_embedding

    if features is not None:
        raise UsageError(
            "features are made for distances to be measured, but metric='precomputed' gives them; leave one out"
        )
    if source.dataset is not None and source.array is None and source.embedding is None:
        source.embedding = find_embedding(source.dataset, "*", None)


def _check_columns(method: Method, source: Source, columns: dict[str, Any], data: Any) -> None:
    given = {COLUMNS[role] for role in COLUMNS if columns.get(role) is not None}
    if isinstance(data, Items):
        given |= {name for name in COLUMNS.values() if getattr(data, name) is not None}
    reads = method.needs | method.uses | {"weights"}
    for name in sorted(given - reads):
        raise UsageError(
            f"{method.name} cannot use {name}; leave them out, or choose a method that reads them (kofn methods)"
        )
    for name in sorted(method.needs - given - {"embeddings"}):
        raise UsageError(f"{method.name} needs {name}; name the column with --{name.rstrip('s')}")
    if "embeddings" in method.needs and source.array is None and source.embedding is None:
        name = source.dataset.describe() if source.dataset else "these items"
        lost = "" if source.passed_over is None else f" or can be a feature: {source.passed_over.lost()}"
        raise DataError(
            f"{method.name} needs embeddings, and no column of {name} is a list of numbers{lost}; "
            "name numeric columns by glob (--embedding 'pca_*'), or use --method uniform"
        )


def _check_name(source: Source, role: str, name: Any) -> None:
    """A column that is only read at the end must exist at the beginning."""
    if not isinstance(name, str):
        return
    if source.dataset is None:
        raise UsageError(
            f"{role}={name!r} is a column's name, but the data is an array; give {role} as an array of length {source.n}"
        )
    source.dataset.check_column(name, role)


def _kept(source: Source, method: Method, columns: dict[str, Any], invalid: str) -> tuple[Any, list[str]]:
    if invalid == "error":
        return None, []
    bad = np.zeros(source.n, dtype=bool)
    if "embeddings" in method.needs:
        bad |= bad_rows_of(source, door_metric(method))
    if columns.get("score") is not None:
        score = source.column(columns["score"], "score")
        assert score is not None
        bad |= ~np.isfinite(score.astype(np.float64))
    if not bad.any():
        return None, []
    if bad.all():
        raise DataError(f"all {source.n} rows hold NaN, infinity or null; nothing is left to choose from")
    return np.flatnonzero(~bad).astype(np.int64), [f"{int(bad.sum()):,} rows with NaN, infinity or null were left out"]


def _items(source: Source, method: Method, columns: dict[str, Any], id: Any, have: Any, kept: Any, run: Run) -> Items:
    cut: Callable[[Any], Any] = (lambda x: x) if kept is None else (lambda x: None if x is None else x[kept])
    given = {COLUMNS[role]: cut(source.column(columns.get(role), role)) for role in COLUMNS}
    ids = None if isinstance(id, str) else cut(source.column(id, "id"))
    rows = source.rows(kept) if "embeddings" in method.needs | method.uses else None
    n = source.n if kept is None else len(kept)
    if have is not None and kept is not None:
        mask = have if have.dtype == bool else np.isin(np.arange(source.n), have)
        have = mask[kept]
    return Items(embeddings=rows, rows=n, ids=ids, have=have, run=run, **given)


def place(source: Source, row: int) -> str:
    """Where a row lies, for a message: the file, in brackets; nothing for arrays."""
    return "" if source.dataset is None or source.array is not None else f" ({source.dataset.place_of(row)})"


def ways_out(items: Items, method: Method) -> str:
    """The methods that need less memory at once, by name."""
    split = ", ".join(cls.name for cls in _others(items, method) if not cls.streams and cls.lifts is not None)
    return f"a method that streams ({_streaming(items, method)})" + (f" or can be split ({split})" if split else "")


def _streaming(items: Items, method: Method) -> str:
    return ", ".join(cls.name for cls in _others(items, method) if cls.streams)


def _others(items: Items, method: Method) -> list[type[Method]]:
    """The other methods that can read these items."""
    ready = {"embeddings"} | {name for name in COLUMNS.values() if getattr(items, name) is not None}
    return [cls for cls in registered() if cls.needs <= ready and cls is not type(method)]


def _enough(method: Method, n: int, d: int, k: int, memory: int) -> int:
    """The first of `memory` times 2, 4, 8, ... in which the method fits, whole or in parts."""
    while True:
        memory *= 2
        if method.bytes(n, d, k) <= memory:
            return memory
        with suppress(BudgetError):
            lifted(method, n, d, k, memory)
            return memory


def _gib(size: int, *, up: bool = False) -> str:
    units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
    unit, name = next((unit, name) for unit, name in units if size >= unit)
    return f"{int(np.ceil(size / unit))}{name}" if up else f"{size / unit:.3g} {name}"

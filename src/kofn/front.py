"""The front door: select. Does, once, what no method should do again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from kofn.blocks import Run
from kofn.core.blas import blas_kernel, one_blas_thread
from kofn.core.count import count, memory_bytes
from kofn.errors import BudgetError, DataError, InvalidRows, UsageError
from kofn.intake import Source, bad_rows_of, read_have, read_source, settle_embedding, source_of
from kofn.items import Items
from kofn.method import Method, parameters
from kofn.registry import build, registered
from kofn.rng import Rng
from kofn.selection import Selection
from kofn.tworound import TwoRound, parts_for
from kofn.version import __version__

MEMORY = "2GiB"
COLUMNS = {"score": "scores", "group": "groups", "weight": "weights"}


def select(
    data: Any,
    k: int | float | str,
    *,
    method: str | Method = "auto",
    embedding: Any = None,
    label: Any = None,
    score: Any = None,
    group: Any = None,
    weight: Any = None,
    id: Any = None,
    have: Any = None,
    metric: str | None = None,
    seed: int = 0,
    memory: int | str = MEMORY,
    threads: int | None = None,
    engine: str = "local",
    invalid: str = "error",
    dtype: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **params: Any,
) -> Selection:
    """Choose k of n rows.

    Parameters
    ----------
    data : array (n, d), table, or path
        NumPy, SciPy sparse or DLPack array; pandas, polars, Arrow or Hugging Face table; a file, folder, glob or URI of
        Parquet, Arrow IPC or .npy files; or `Items`.
    k : int, float in (0, 1), or str
        1000, 0.01 or "1%".
    method : str or Method
        A name (`kofn.methods()`), an instance, or "auto": by shapes only, `uniform` without embeddings, `facility` up to
        50,000 rows, `kmeans` while n k <= 2e10, else `sensitivity`.
    embedding : str or array, optional
        Column, or glob of numeric columns ("pca_*"); found by itself where only one can be meant.
    label, score, group, weight, id : str or array (n,), optional
        Columns. Higher score means more wanted. `label` is only reported on; `id` names the picks.
    have : str, path, Selection or array, optional
        Rows that you have already: never picked, not counted in k, counted as covered.
    metric : {"euclidean", "cosine"}, optional
        How far apart rows are, where the method measures.
    seed : int
        Same rows, seed and parameters: same picks, bit for bit, whatever files, threads or memory layout.
    memory : int or str
        What the run may use; what does not fit is run in two rounds where the method's guarantee allows, or refused.
    threads : int, optional
        As many as the process may use, by default. Never changes the picks.
    invalid : {"error", "drop"}
        What becomes of rows with NaN, infinity or null.
    dtype : str, optional
        Type of the numbers in a fixed-size binary column.
    progress : callable, optional
        Called as `progress(stage, done, total)`.
    **params
        The method's own parameters.

    Returns
    -------
    Selection

    Raises
    ------
    KofnError
        For everything that the caller can mend; the message says how.

    Examples
    --------
    >>> import kofn, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(1000, 8))
    >>> len(kofn.select(x, k=10, method="uniform", seed=7))
    10
    """
    if engine != "local":
        raise UsageError(f"engine={engine!r} is unknown; use engine='local'")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise UsageError(f"threads={threads!r} is not a number of threads; give at least 1, or leave it out")
    if invalid not in ("error", "drop"):
        raise UsageError(f"invalid={invalid!r} is unknown; use 'error' or 'drop'")
    columns = {"label": label, "score": score, "group": group, "weight": weight}
    request = prepare(
        data, k, method=method, embedding=embedding, columns=columns, id=id, have=have, metric=metric, invalid=invalid,
        memory=memory, dtype=dtype, run=Run(threads, progress), params=params,
    )  # fmt: skip
    return carry_out(request, Rng(seed))


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
    def in_parts(self) -> int | None:
        """Rows of a part where the method must be run in two rounds; None where it fits."""
        n, d = self.items.n, self.items.d
        need = self.method.bytes(n, d, self.k)
        if need <= self.memory:
            return None
        if self.method.lifts is None:
            raise BudgetError(
                f"{self.method.name} needs {_gib(need)} for {n:,} x {d} rows and k={self.k}, memory is {_gib(self.memory)}; "
                f"give --memory {_gib(need, up=True)}, or use {_ways_out(self.items, self.method)}"
            )
        try:
            return parts_for(self.method, n, d, self.k, self.memory)
        except BudgetError as error:
            enough = _enough(self.method, n, d, self.k, self.memory)
            raise BudgetError(
                f"{error} ({_streaming(self.items, self.method)}); {_gib(enough, up=True)} is enough"
            ) from None


def prepare(
    data: Any, k: Any, *, method: str | Method, embedding: Any, columns: dict[str, Any], id: Any,
    have: Any, metric: str | None, invalid: str, memory: Any, dtype: str | None, run: Run, params: dict[str, Any],
) -> Request:  # fmt: skip
    """Check everything that can be checked before the first row is read."""
    limit = memory_bytes(memory)
    if isinstance(data, Items):
        source = source_of(data)
    else:
        source = read_source(data, embedding=embedding, dtype=dtype, run=run)
    chosen = resolve(method, source, k, metric, params, columns)
    settle_embedding(source, "embeddings" in chosen.needs)
    _check_columns(chosen, source, columns, data)
    held = read_have(source, have, id if isinstance(id, str) else None)
    kept, notes = _kept(source, chosen, columns, invalid)
    try:
        items = data if isinstance(data, Items) else _items(source, chosen, columns, id, held, kept, run)
    except InvalidRows as error:
        what = str(error).partition(";")[0]
        raise DataError(f"{what}{_where(source, error.first)}; mend them, or leave them out with --invalid drop") from error
    if items.sparse and "sparse" not in chosen.accepts and "embeddings" in chosen.needs:
        raise DataError(f"{chosen.name} needs dense rows; give x.toarray(), or reduce them first (TruncatedSVD)")
    picked = count(k, items.free, what="rows" if items.have is None else "rows that you do not have yet")
    asked = method if isinstance(method, str) else chosen.name
    named = {**columns, "embedding": embedding, "id": id, "have": have}
    reading = {"invalid": invalid, "dtype": dtype}
    return Request(source, items, picked, chosen, limit, kept, named, notes, asked, reading)


def carry_out(request: Request, rng: Rng) -> Selection:
    """Run a checked request and fill in the provenance."""
    method, items = request.method, request.items
    part = request.in_parts
    runner = method if part is None else TwoRound(method=method, part=part)
    try:
        with one_blas_thread():
            chosen = runner.select(items, request.k, rng)
    except InvalidRows as error:
        raise _count_invalid(request, error) from error
    except MemoryError as error:
        ways = _ways_out(items, method)
        raise BudgetError(f"{method.name} ran out of memory; give fewer rows, or use {ways}") from error
    assert len(np.unique(chosen.indices)) == len(chosen), f"{method.name} picked a row twice"
    rows = chosen.indices if request.kept is None else request.kept[chosen.indices]
    ids = items.ids[chosen.indices] if items.ids is not None else _ids(request, rows)
    provenance = {**_provenance(request, rng, part, rows, chosen), **_labels(request, rows)}
    return replace(chosen, indices=rows, ids=ids, provenance=provenance)


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
        return "uniform"
    picked = count(k, source.n)
    if source.n <= 50_000:
        return "facility"
    return "kmeans" if source.n * picked <= 2e10 else "sensitivity"


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
        raise DataError(
            f"{method.name} needs embeddings, and no column of {source.dataset.describe() if source.dataset else 'these items'} "
            "is a list of numbers; name numeric columns by glob (--embedding 'pca_*'), or use --method uniform"
        )


def _kept(source: Source, method: Method, columns: dict[str, Any], invalid: str) -> tuple[Any, list[str]]:
    if invalid == "error":
        return None, []
    bad = np.zeros(source.n, dtype=bool)
    if "embeddings" in method.needs:
        bad |= bad_rows_of(source, getattr(method, "metric", "euclidean"))
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


def _count_invalid(request: Request, error: InvalidRows) -> DataError:
    metric = getattr(request.method, "metric", "euclidean")
    source = request.source
    bad = np.flatnonzero(bad_rows_of(source, metric))
    first = int(bad[0])
    zero = " or are zero vectors, which have no direction under cosine" if metric == "cosine" else ""
    return DataError(
        f"{len(bad):,} of {source.n:,} rows hold null, NaN or infinity{zero}, the first at row {first}{_where(source, first)}; "
        "mend them, or leave them out with --invalid drop"
    )


def _where(source: Source, row: int) -> str:
    return "" if source.dataset is None or source.array is not None else f" ({source.dataset.place_of(row)})"


def _ids(request: Request, rows: Any) -> Any:
    name = request.columns.get("id")
    if not isinstance(name, str):
        return None
    request.source.dataset.check_column(name, "id")
    return np.asarray(request.source.dataset.take(rows, [name]).column(0).to_numpy())


def _labels(request: Request, rows: Any) -> dict[str, Any]:
    labels = request.source.column(request.columns.get("label"), "label")
    if labels is None:
        return {}
    names = [str(value) for value in labels]
    present = len({names[row] for row in rows})
    return {"labels": {"present": present, "of": len(set(names))}}


def _provenance(request: Request, rng: Rng, part: int | None, rows: Any, chosen: Selection) -> dict[str, Any]:
    method, items = request.method, request.items
    mode = "streamed" if method.streams else "in memory"
    run: dict[str, Any] = {"mode": mode, "memory": request.memory}
    if part is not None:
        run = {
            "mode": f"two rounds over parts of {part:,} rows",
            "part": part,
            "memory": request.memory,
            "guarantee": method.lifts,
        }
    settings = {each.name: _plain(getattr(method, each.name)) for each in parameters(type(method))}
    return {
        **chosen.provenance,
        "kofn": __version__,
        "numpy": np.__version__,
        "blas": blas_kernel(),
        "method": method.name,
        "parameters": settings,
        "seed": rng.seed,
        "k": request.k,
        "n": request.source.n,
        "d": items.d,
        "total_weight": float(items.row_weights.sum()),
        "have": len(items.have_rows),
        "columns": _named(request),
        "reading": request.reading,
        "data": request.source.describe(),
        "run": run,
        "notes": [*request.notes, *chosen.provenance.get("notes", [])],
        "digests": _digests(request, rows, chosen),
    }


def _named(request: Request) -> dict[str, str]:
    """The columns that were given, by role: a name, a path, or "array"."""
    given = {**{role: getattr(request.items, name) for role, name in COLUMNS.items()}, "have": request.items.have}
    given |= {role: value for role, value in request.columns.items() if value is not None}
    named = {role: os.fspath(value) if isinstance(value, str | os.PathLike) else "array" for role, value in given.items()}
    return {role: value for role, value in named.items() if given[role] is not None}


def _digests(request: Request, rows: Any, chosen: Selection) -> dict[str, str]:
    digests = {"indices": digest_of(rows), "weights": digest_of(chosen.weights)}
    held = request.items.have_rows
    if len(held):
        digests["have"] = digest_of(held if request.kept is None else request.kept[held])
    return digests


def digest_of(values: Any) -> str:
    """Digest of an array's bytes, as the provenance keeps them."""
    return blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Method):
        return {"method": value.name, **value.settings()}
    return value.item() if isinstance(value, np.generic) else value


def _ways_out(items: Items, method: Method) -> str:
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
            parts_for(method, n, d, k, memory)
            return memory


def _gib(size: int, *, up: bool = False) -> str:
    units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
    unit, name = next((unit, name) for unit, name in units if size >= unit)
    return f"{int(np.ceil(size / unit))}{name}" if up else f"{size / unit:.3g} {name}"

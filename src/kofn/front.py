"""The front door: select. Does, once, what no method should do again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np

from kofn.blocks import Run
from kofn.core.blas import blas_kernel, one_blas_thread
from kofn.core.labels import sortable
from kofn.errors import BudgetError, DataError, InvalidRows, UsageError
from kofn.intake import bad_rows_of
from kofn.method import Method, door_metric, plain_settings
from kofn.request import COLUMNS, Request, check_options, place, prepare, texts_of, ways_out
from kofn.rng import Rng
from kofn.selection import Selection
from kofn.tworound import TwoRound
from kofn.version import __version__

MEMORY = "2GiB"


def select(
    data: Any,
    k: int | float | str,
    *,
    method: str | Method = "auto",
    embedding: Any = None,
    features: Any = None,
    text: str | None = None,
    model: str | None = None,
    cache: str | None = None,
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
    address: str | None = None,
    checkpoint: str | None = None,
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
        Parquet, Arrow IPC, .npy, CSV or JSONL files; or `Items`.
    k : int, float in (0, 1), or str
        1000, 0.01 or "1%".
    method : str or Method
        A name (`kofn.methods()`), an instance, or "auto": by shapes only, `uniform` without embeddings or features,
        `facility` up to 50,000 rows, `kmeans` while n k <= 2e10, else `sensitivity`.
    embedding : str or array, optional
        Column, or glob of numeric columns ("pca_*"); found by itself where only one can be meant.
    features : "auto" or list of str, optional
        Plain columns that become the vectors: numbers, truth values and dates standardised, categories one-hot over the
        square root of their number of columns, nulls shown by a column of their own. "auto" leaves out identifiers,
        constants, free text and columns in another role; a table without an embedding gets it by itself where the method
        needs vectors, but "auto" beside a score still means `uniform`. What was used is in `provenance["notes"]`.
    text : str, optional
        A column of texts whose vectors are the rows: made by a sentence-transformers model, kept in parts in `cache`, and
        taken from there the next time. Needs `pip install 'kofn[text]'`.
    model : str, optional
        The model for `text`: a folder, or a name on the Hugging Face hub; default "sentence-transformers/all-MiniLM-L6-v2".
    cache : str, optional
        Folder for the rows of files: the first pass over them writes their vectors there, later passes and runs read that;
        on a cluster, on every machine's own disk. When a file has changed all are written anew, and the old ones stay until
        you delete them: the folder can be deleted at any time. With `text`, the folder for the texts' vectors; default
        "kofn-texts". Never changes the picks.
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
        As many as the process may use, by default; with engine="ray", blocks that are worked on at a time. Never changes
        the picks.
    engine : {"local", "ray"}
        Where files are read and worked on: in this process, or by the workers of a Ray cluster, where the files must be found
        under the same path. Needs `pip install 'kofn[ray]'`. Never changes the picks.
    address : str, optional
        With engine="ray": "auto" (a running cluster), "local" (a new one for this run), or host:port. By default the cluster
        that this process is connected to, which is left running; else "auto" where RAY_ADDRESS is set, else "local".
    checkpoint : str, optional
        A folder that keeps what is finished, so that the same call goes on where it was stopped. Data in files only. Delete
        the folder when you have the picks.
    invalid : {"error", "drop"}
        What becomes of rows with NaN, infinity or null.
    dtype : str, optional
        Type of the numbers in a fixed-size binary column.
    progress : callable, optional
        Called as `progress(stage, done, total)`; if it has a method `pass_ended`, that is called with a `PassReport` after
        every pass over the rows.
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
    check_options(engine, threads, invalid, address, checkpoint, cache)
    columns = {"label": label, "score": score, "group": group, "weight": weight}
    with running(threads, progress, engine, address, checkpoint, None if text is not None else cache) as run:
        return choose(
            run, data, k, method=method, embedding=embedding, features=features, text=text, model=model, cache=cache,
            columns=columns, id=id, have=have, metric=metric, seed=seed, memory=memory, invalid=invalid, dtype=dtype,
            params=params,
        )  # fmt: skip


def choose(
    run: Run, data: Any, k: Any, *, seed: int, text: str | None, model: str | None, cache: str | None, **given: Any
) -> Selection:
    """`select` on a run that is open already; `given` is what `prepare` takes."""
    texts = texts_of(text, model, None if text is None else cache)  # without texts it is the run's, for rows of files
    try:
        request = prepare(data, k, run=run, texts=texts, seed=seed, **given)
        return carry_out(request, Rng(seed))
    except (UsageError, BudgetError):
        if run.checkpoint is not None and run.checkpoint.new:  # the mended call is another run
            run.checkpoint.forget()
        raise


@contextmanager
def running(
    threads: int | None,
    progress: Callable[[str, int, int], None] | None = None,
    engine: str = "local",
    address: str | None = None,
    checkpoint: str | None = None,
    cache: str | None = None,
) -> Iterator[Run]:
    """How work is run, as the options of `select` say it; a cluster that is started for it ends with the block.

    `cache` is the folder for the rows of files.
    """
    from kofn.blocks.checkpoint import Checkpoint
    from kofn.blocks.slabcache import cache_folder

    run = Run(
        threads,
        progress,
        ended=getattr(progress, "pass_ended", None),
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint),
        cache=None if cache is None else cache_folder(cache),
    )
    if engine == "local":
        yield run
        return
    from kofn.blocks.cluster import ray_cluster

    with ray_cluster(address, threads) as cluster:
        yield replace(run, cluster=cluster)


def carry_out(request: Request, rng: Rng) -> Selection:
    """Run a checked request and fill in the provenance."""
    method, items = request.method, request.items
    parts = request.lifted
    runner = method if parts is None else parts
    try:
        with one_blas_thread():
            chosen = runner.select(items, request.k, rng)
    except InvalidRows as error:
        raise _count_invalid(request, error) from error
    except MemoryError as error:
        ways = ways_out(items, method)
        raise BudgetError(f"{method.name} ran out of memory; give fewer rows, or use {ways}") from error
    assert len(np.unique(chosen.indices)) == len(chosen), f"{method.name} picked a row twice"
    rows = chosen.indices if request.kept is None else request.kept[chosen.indices]
    ids = items.ids[chosen.indices] if items.ids is not None else _ids(request, rows)
    provenance = {**_provenance(request, rng, parts, rows, chosen), **_labels(request, rows)}
    return replace(chosen, indices=rows, ids=ids, provenance=provenance)


def _count_invalid(request: Request, error: InvalidRows) -> DataError:
    metric = door_metric(request.method)
    source = request.source
    bad = np.flatnonzero(bad_rows_of(source, metric))
    if not len(bad):  # what is wrong with them, only the method can tell
        return DataError(str(error))
    first = int(bad[0])
    zero = " or are zero vectors, which have no direction under cosine" if metric == "cosine" else ""
    return DataError(
        f"{len(bad):,} of {source.n:,} rows hold null, NaN or infinity{zero}, the first at row {first}{place(source, first)}; "
        "mend them, or leave them out with --invalid drop"
    )


def _ids(request: Request, rows: Any) -> Any:
    name = request.columns.get("id")
    if not isinstance(name, str):
        return None
    return np.asarray(request.source.dataset.take(rows, [name]).column(0).to_numpy())


def _labels(request: Request, rows: Any) -> dict[str, Any]:
    labels = request.source.column(request.columns.get("label"), "group")
    if labels is None:
        return {}
    names, codes = np.unique(sortable(labels), return_inverse=True)
    return {"labels": {"present": len(np.unique(codes[rows])), "of": len(names)}}


def _provenance(request: Request, rng: Rng, parts: TwoRound | None, rows: Any, chosen: Selection) -> dict[str, Any]:
    method, items = request.method, request.items
    mode = "streamed" if method.streams else "in memory"
    run: dict[str, Any] = {"mode": mode, "memory": request.memory}
    if parts is not None:
        run = {
            "mode": f"{parts.words()} over parts of {parts.part:,} rows",
            "part": parts.part,
            "rounds": parts.rounds,
            "deal": parts.deal,
            "memory": request.memory,
            "guarantee": method.lifts,
        }
    return {
        **chosen.provenance,
        "kofn": __version__,
        "numpy": np.__version__,
        "blas": blas_kernel(),
        "method": method.name,
        "parameters": plain_settings(method),
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
    named = {
        role: os.fspath(value) if isinstance(value, str | os.PathLike) else "array" for role, value in given.items()
    }
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

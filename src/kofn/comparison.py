"""The front door: compare. What methods choose, measured alike, beside random rows and all rows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kofn.blocks import Run as Threads
from kofn.check.cover import distance_to_one
from kofn.check.metric import ASIDE, Metric, metrics_of, named
from kofn.core.blas import blas_kernel, one_blas_thread
from kofn.core.count import count, memory_bytes
from kofn.errors import DataError, UsageError
from kofn.front import MEMORY
from kofn.items import Items
from kofn.pool import Pool, read_pool
from kofn.request import check_options, texts_of
from kofn.tally import ALL_ROWS, Failure, Figure, Run, Tally
from kofn.tallywords import plain
from kofn.trials import Apart, Entrant, entrants, run_trials
from kofn.version import __version__

SECONDS = Figure(
    "seconds", "seconds", "seconds of one run in a process of its own, reading included", False, judged=False
)
PEAK = Figure(
    "peak_mib", "peak memory (MiB)", "MiB at the peak of that process, libraries and rows in memory included", False,
    judged=False,
)  # fmt: skip

Tell = Callable[[str, int, int], None]


class Comparison(Tally):
    """What `kofn.compare` found: runs in tidy rows, means, the best, and how many rows are enough; see `Tally`."""

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)

    def report(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write one HTML page with the tables, the curves, and how many rows are enough. It loads nothing from anywhere.

        Raises
        ------
        OutputError
            When the page cannot be written.
        """
        from kofn.page.compared import write_page

        write_page(self, os.fspath(path), force=force)


def compare(
    data: Any,
    k: Any,
    *,
    methods: Any = None,
    metrics: Sequence[Any] | None = None,
    seeds: int | Sequence[int] = 5,
    label: Any = None,
    embedding: Any = None,
    features: Any = None,
    text: str | None = None,
    model: str | None = None,
    cache: str | None = None,
    score: Any = None,
    metric: str | None = None,
    memory: int | str = MEMORY,
    threads: int | None = None,
    invalid: str = "error",
    dtype: str | None = None,
    apart: bool = True,
    progress: Tell | None = None,
) -> Comparison:
    """Compare methods on your data, beside random rows and all rows.

    Every method chooses from the same rows by `kofn.select` and is measured on the same rows with the same metrics.

    Parameters
    ----------
    data : array (n, d), table, path or Items
        See `kofn.select`.
    k : int, share, or list of them
        How many rows: [100, 300, 1000] or ["1%", "5%"].
    methods : list of str or Method, "all", or None
        None: a few that suit the number of rows. `uniform` is always in it.
    metrics : list, optional
        Names (`kofn.check.metric.METRICS`), plain functions `(items, selection) -> float`, or `kofn.check.Metric`; by default
        all that can be measured with the columns that were given.
    seeds : int or list of int
        How often methods that draw are run. Methods that do not are run once.
    label : str or array (n,), optional
        Adds label metrics and probes; 20 % of the rows are then set aside by row hash before anything is chosen.
    embedding, features, text, model, cache, score, invalid, dtype : optional
        As in `kofn.select`; the score is given to the methods that need one.
    metric : {"euclidean", "cosine"}, optional
        How far apart rows are, for the methods and for what is measured. By default each method's own, measured in euclidean
        distance.
    memory, threads : optional
        As in `kofn.select`, for every method.
    apart : bool
        Whether each method is run once more, with the first seed, in a process of its own, for seconds and peak memory.
    progress : callable, optional
        Called as `progress(stage, done, total)`.

    Returns
    -------
    Comparison

    Raises
    ------
    KofnError
        For everything that the caller can mend. A method that cannot run is listed with its reason instead.

    Notes
    -----
    A method whose picks for a smaller k begin those for a larger one is run once a seed, and its seconds are those of the
    largest k. At most 20,000 rows, chosen by row hash, are measured; beside what the methods need, their vectors (256 MiB at
    most) and twice the picks' are held, 12 bytes a row for labels and rows set aside, and with `apart` a copy on disk of rows
    that lie in memory.

    Examples
    --------
    >>> import kofn, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(300, 4))
    >>> found = kofn.compare(x, k=[10, 20], methods=["kcenter"], metrics=["radius"], seeds=2, apart=False)
    >>> found.best("radius", 20).method
    'kcenter'
    """
    check_options("local", threads, invalid)
    memory_bytes(memory)
    drawn = _seeds(seeds)
    wanted = None if metrics is None else [named(each) if isinstance(each, str) else each for each in metrics]
    probes = label_given(data, label) and (
        wanted is None or any(ASIDE in getattr(each, "needs", ()) for each in wanted)
    )
    pool = read_pool(
        data, embedding=embedding, features=features, texts=texts_of(text, model, cache), label=label, score=score,
        metric=metric or "euclidean", dtype=dtype, invalid=invalid, probes=probes, run=Threads(threads),
    )  # fmt: skip
    ks = _sizes(k, pool.items.n)
    chosen = metrics_of(wanted, pool.ready)
    if not chosen:
        raise DataError(
            "nothing can be measured: the data have no column of vectors; name one, or give label= or metrics="
        )
    taking_part = entrants(methods, pool.items.n, metric)
    tell = progress or (lambda stage, done, total: None)
    with one_blas_thread():
        runs, failures = _measured(pool, taking_part, ks, drawn, chosen, memory, tell)
        start = distance_to_one(pool.context) if pool.context.x is not None else None
    costs, notes = _costs(pool, taking_part, ks, drawn, memory, tell, failures) if apart else ([], [])
    figures = [_figure(each, pool) for each in chosen]
    figures += [SECONDS, PEAK] if costs else []
    command = _command(k, methods, seeds, label, metric)
    return Comparison(
        runs=(*runs, *costs), figures=tuple(figures), ks=ks, seeds=drawn, failures=tuple(failures), start=start,
        steady=tuple(each.label for each in taking_part if not each.method.random),
        facts=_facts(pool, notes, command),
    )  # fmt: skip


def _figure(metric: Metric, pool: Pool) -> Figure:
    counted = len(pool.context.set_aside[1]) if ASIDE in metric.needs else None
    return Figure(metric.name, metric.title, metric.about, metric.higher_is_better, counted=counted)


def label_given(data: Any, label: Any) -> bool:
    """Whether there are labels: given, or on ready Items."""
    return label is not None or (isinstance(data, Items) and data.labels is not None)


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        if seeds < 1:
            raise UsageError(f"seeds={seeds} is no number of runs; give at least 1")
        return tuple(range(int(seeds)))
    found = tuple(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else ()
    if not found or not all(isinstance(each, int | np.integer) and each >= 0 for each in found):
        raise UsageError(f"seeds={seeds!r} is neither a number of runs nor a list of whole numbers >= 0; give seeds=5")
    if len(set(found)) < len(found):
        raise UsageError(f"seeds={seeds!r} holds one twice; give each once")
    return tuple(int(each) for each in found)


def _sizes(k: Any, n: int) -> tuple[int, ...]:
    each = [k] if isinstance(k, str) or not isinstance(k, Sequence | np.ndarray) else list(k)
    if not each:
        raise UsageError("k=[] asks for nothing; give k=[100, 300, 1000]")
    return tuple(sorted({count(size, n, what="rows to choose from") for size in each}))


def _measured(
    pool: Pool, taking_part: list[Entrant], ks: tuple[int, ...], seeds: tuple[int, ...], metrics: list[Metric],
    memory: Any, tell: Tell,
) -> tuple[list[Run], list[Failure]]:  # fmt: skip
    runs: list[Run] = []
    failures: list[Failure] = []
    context = pool.context
    total = sum(len(ks) * len(each.seeds(seeds)) for each in taking_part)
    done = 0
    for entrant in taking_part:
        settings = json.dumps(entrant.method.settings(), default=str)
        tell(f"running {entrant.label}", done, total)
        for trial in run_trials(entrant, pool, ks, seeds, memory):
            if trial.selection is None:
                failures.append(Failure(entrant.label, trial.k, trial.reason))
            else:
                each = [(metric.name, metric.measure(pool.items, trial.selection, context)) for metric in metrics]
                runs += [Run(entrant.label, settings, trial.k, trial.seed, name, value) for name, value in each]
            done += 1
            tell(f"running {entrant.label}", done, total)
    whole = context.everything
    tell("measuring all rows", 0, 1)
    runs += [
        Run(ALL_ROWS, "{}", len(whole), None, each.name, each.measure(pool.items, whole, context)) for each in metrics
    ]
    order = {k: at for at, k in enumerate(ks)}
    return sorted(runs, key=lambda run: _place(run, taking_part, order)), list(dict.fromkeys(failures))


def _place(run: Run, taking_part: list[Entrant], order: dict[int, int]) -> tuple[int, int, int]:
    """Methods as they were given, then k, then seed; all rows last. Sorting is stable: metrics keep their order."""
    names = [each.label for each in taking_part]
    if run.method not in names:
        return len(names), 0, 0
    return names.index(run.method), order[run.k], run.seed or 0


def _costs(
    pool: Pool, taking_part: list[Entrant], ks: tuple[int, ...], seeds: tuple[int, ...], memory: Any, tell: Tell,
    failures: list[Failure],
) -> tuple[list[Run], list[str]]:  # fmt: skip
    runs, notes = [], []
    cut = [each.label for each in taking_part if each.cut]
    with TemporaryDirectory(prefix="kofn-compare-") as folder:
        processes = Apart(pool, folder, memory)
        for at, entrant in enumerate(taking_part):
            tell("one process a method", at, len(taking_part))
            failed = {each.k for each in failures if each.method == entrant.label}
            able = [k for k in ks if k not in failed]
            if not able:
                continue
            found = processes.run(entrant, able, seeds[0])
            if isinstance(found, str):
                notes.append(f"No seconds and memory of {entrant.label}: {found}")
                continue
            settings = json.dumps(entrant.method.settings(), default=str)
            for cost in found:
                runs.append(Run(entrant.label, settings, cost.k, seeds[0], SECONDS.name, cost.seconds))
                runs.append(Run(entrant.label, settings, cost.k, seeds[0], PEAK.name, cost.peak / 2**20))
    notes.insert(
        0, f"Seconds and memory: one process a method, seed {seeds[0]}, after a trial run that loads its kernels."
    )
    if cut and len(ks) > 1:
        notes.insert(
            1, f"For a smaller k the first picks of the largest are kept ({', '.join(cut)}), so that alone is timed."
        )
    return runs, notes


def _facts(pool: Pool, notes: list[str], command: str) -> dict[str, Any]:
    context, said = pool.context, list(notes)
    if pool.features:
        said.append(f"{pool.features}; fitted without looking at the label.")
    if pool.dropped:
        said.append(f"{pool.dropped:,} rows with NaN, infinity or null were left out.")
    return {
        "n": pool.total,
        "d": pool.items.d,
        "pool": pool.items.n,
        "measured": len(context.rows),
        "aside": pool.aside,
        "judged": 0 if context.aside is None else len(context.aside[1]),
        "labels": 0 if context.labels is None else len(np.unique(context.labels)),
        "metric": context.metric,
        "kofn": __version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "blas": blas_kernel(),
        "command": command,
        "notes": said,
    }


def _command(k: Any, methods: Any, seeds: Any, label: Any, metric: str | None) -> str:
    """The call, as far as it can be written down."""
    given = {"k": k, "methods": methods, "seeds": seeds, "label": label, "metric": metric}
    said = [
        f"{name}={value!r}" if isinstance(value, str | int | float | list | tuple) else f"{name}=..."
        for name, value in given.items()
        if value is not None
    ]
    return f"kofn.compare(data, {', '.join(said)})"

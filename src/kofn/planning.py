"""What a selection will cost before it is run: passes, bytes, memory, time, and how it will be run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kofn.blocks import Run
from kofn.blocks.footers import Footers
from kofn.blocks.slabcache import cache_folder
from kofn.footprint import bytes_read, held_on_ray, memory_held, passes_of, process_peak
from kofn.front import MEMORY
from kofn.gone_on import check_in_files
from kofn.method import Method
from kofn.probing import Probe, probe
from kofn.request import Request, check_cached, check_options, prepare
from kofn.rng import Rng


@dataclass(frozen=True)
class Plan:
    """What `kofn.select` with the same arguments would do and take.

    Attributes
    ----------
    method : str
    parameters : dict
    n, d, k : int
        Rows that can be chosen from (those that `have` holds included), their dimensions (0: no vectors are read), picks.
    run : {"streamed", "in memory", "two rounds", "three rounds", ...}
    part, parts : int
        Rows of a part and number of parts, where the run is in two rounds; else n and 1.
    guarantee : str
        What the method promises, run like this.
    passes : int
        How often the rows are read from beginning to end.
    reads : dict of int
        Bytes: `a_pass` over the embedding in the files, `rows` in all passes, `columns`, `footers`, `picks` (at most);
        `remote`: of all these, from where the files lie; `local`: from the cache; `total`.
    memory : dict of int
        Bytes at most: `process` (measured: Python, libraries and the columns that were loaded), `method`, `columns`,
        `kernels`, `rows` in flight, `files`, `picks`, and `total`, which the process's peak does not exceed. With engine="ray"
        all of these are the driver's, with `ray`, and `worker` is what each worker takes at most.
    limit : int
        What `memory=` allows the method.
    seconds : (float, float) or None
        From a probe on this machine: a range, not a promise. None where the method could not be tried.
    probe : dict
        What was measured; see `kofn.probing.Probe`.
    notes : list of str
        What the checks found.
    """

    method: str
    parameters: dict[str, Any]
    n: int
    d: int
    k: int
    run: str
    part: int
    parts: int
    guarantee: str
    passes: int
    reads: dict[str, int]
    memory: dict[str, int]
    limit: int
    seconds: tuple[float, float] | None
    probe: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the schema is in docs/cli.md."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """What there is to say, as (topic, sentence)."""
        settings = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        said = [
            ("picks", f"{self.k:,} of {self.n:,} rows by {self.method}" + (f" ({settings})" if settings else "")),
            ("run", self._how()),
            ("guarantee", self.guarantee),
            ("reads", self._reads()),
            ("memory", self._memory()),
            ("time", self._time()),
        ]
        return [*said, *(("note", note) for note in self.notes)]

    def __str__(self) -> str:
        return "\n".join(["Plan:", *(f"  {topic:<9} {text}" for topic, text in self.lines())])

    def _how(self) -> str:
        if self.run.endswith("rounds"):
            then = (
                "their picks in parts again, and so on"
                if self.run != "two rounds"
                else f"their {self.parts * self.k:,} picks"
            )
            return (
                f"in {self.run}: {self.parts:,} parts of {self.part:,} rows, then {then}; "
                f"all rows at once is more than memory={size(self.limit)}"
            )
        if self.run == "streamed":
            return "directly, streamed: rows pass by and are not kept"
        return f"directly, in memory: the method needs {size(self.memory['method'])}, memory={size(self.limit)}"

    def _reads(self) -> str:
        reads = self.reads
        if not reads["total"]:
            return f"nothing from disk; {_times(self.passes)} over rows in memory"
        over = f"{_times(self.passes)} over the embedding"
        if self.passes:
            lying = " in the files" if reads["local"] else ""
            over += f", {size(reads['a_pass'])}" + (" each" if self.passes > 1 else "") + lying
        columns = f"columns {size(reads['columns'])}, " if reads["columns"] else ""
        kept = f", {size(reads['local'])} of it from the cache" if reads["local"] else ""
        return f"{over}, {columns}the picks at most {size(reads['picks'])}; {size(reads['total'])} in all at most{kept}"

    def _memory(self) -> str:
        parts = [
            f"{name} {size(held)}" for name, held in self.memory.items() if name not in ("total", "worker") and held
        ]
        worker = f"; each worker at most {size(self.memory['worker'])}" if "worker" in self.memory else ""
        return f"at most {size(self.memory['total'])} ({', '.join(parts)}){worker}"

    def _time(self) -> str:
        if self.seconds is None:
            return f"not measured: {self.probe['problem']}"
        low, high = self.seconds
        return (
            f"{duration(low)} to {duration(high)}, from a trial on {self.probe['rows']:,} rows; a range, not a promise"
        )


def plan(
    data: Any,
    k: int | float | str,
    *,
    method: str | Method = "auto",
    embedding: Any = None,
    features: Any = None,
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
    invalid: str = "error",
    dtype: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **params: Any,
) -> Plan:
    """What `kofn.select` with the same arguments will read, hold and take; checks everything that it checks first.

    Parameters
    ----------
    data, k, ...
        As for `kofn.select`.

    Returns
    -------
    Plan

    Raises
    ------
    KofnError
        Where `select` would raise one before it reads the first row.

    Examples
    --------
    >>> import kofn, numpy as np
    >>> kofn.plan(np.eye(100), 10, method="uniform").passes
    0
    """
    check_options(engine, threads, invalid, cache=cache)
    on_ray = engine == "ray"
    Rng(seed)
    columns = {"label": label, "score": score, "group": group, "weight": weight}
    request = prepare(
        data, k, method=method, embedding=embedding, features=features, columns=columns, id=id, have=have, metric=metric,
        invalid=invalid, memory=memory, dtype=dtype, run=Run(threads, progress), params=params,
    )  # fmt: skip
    if on_ray:
        check_in_files(request.source, "engine='ray' is")
    if cache is None:
        return plan_of(request, on_ray=on_ray)
    check_cached(request.source)
    return plan_of(request, cache_folder(cache), on_ray=on_ray)


def plan_of(request: Request, cache: str | None = None, *, on_ray: bool = False) -> Plan:
    """The plan of a checked request; `cache` is the folder for the rows of files, which nothing is written to here."""
    method, items, parts_of = request.method, request.items, request.lifted
    process = process_peak()  # before the probe, which takes memory of its own
    parts = 1 if parts_of is None else -(-items.n // parts_of.part)
    dealing = on_ray and parts_of is not None and parts_of.deal == "hash"
    extra = min(parts, items.run.workers) - 1 if dealing else 0
    reads = bytes_read(request, parts_of, cache, extra)
    measured = _measure(request)
    held = memory_held(request, parts_of, process, warm=bool(measured.rows) and not measured.compiled)
    lifted = parts_of.words() if parts_of is not None else "streamed" if method.streams else "in memory"
    planned = Plan(
        method=method.name,
        parameters=method.settings(),
        n=items.n,
        d=items.d,
        k=request.k,
        run=lifted,
        part=items.n if parts_of is None else parts_of.part,
        parts=parts,
        guarantee=(method.claims if parts_of is None else method.lifts) or "none",
        passes=passes_of(request, parts_of) + extra,
        reads=reads,
        memory=held_on_ray(request, parts_of, held) if on_ray else held,
        limit=request.memory,
        seconds=None,
        probe=asdict(measured),
        notes=list(request.notes) + [_workers(request)] * on_ray,
    )
    return replace(planned, seconds=_seconds(planned, measured, request))


def _workers(request: Request) -> str:
    return (
        f"counted on {request.items.run.workers} blocks at a time (--threads), each worker as fast as this process; the cluster "
        "was not asked"
    )


def _measure(request: Request) -> Probe:
    dataset = request.source.dataset
    if dataset is None or not dataset.files[0].path:
        return probe(request, 0, 0.0)
    footers, names = Footers(dataset), dataset.schema.names
    return probe(request, footers.row_bytes(names), float(footers.stored(names).sum()) / dataset.n)


def _seconds(planned: Plan, measured: Probe, request: Request) -> tuple[float, float] | None:
    working = measured.working(planned.n, planned.k, planned.parts, request.method.streams)
    if working is None:
        return None
    dataset = request.source.dataset
    readers = 1 if dataset is None else min(request.items.run.workers, len(dataset.groups))
    once = _bytes_of_embedding(request)
    reads = planned.reads
    passes = reads["a_pass"] * planned.passes / once if once else 0.0
    low, high = measured.reading(request.source.n, passes, readers)
    if reads["local"]:  # at best these passes cost nothing; at worst as much as those over the files
        low, _ = measured.reading(request.source.n, (reads["rows"] - reads["local"]) / once, readers)
    picks = planned.reads["picks"] * measured.byte
    return max(low, working[0]) + picks / 4 / readers, high + working[1] + 2 * picks


def _bytes_of_embedding(request: Request) -> int:
    source = request.source
    if source.dataset is None or source.array is not None or source.embedding is None:
        return 0
    return int(Footers(source.dataset).stored(source.embedding.columns).sum())


def _times(passes: int) -> str:
    return "no pass" if passes == 0 else "1 pass" if passes == 1 else f"{passes} passes"


def size(amount: float) -> str:
    """Bytes for people: 1.5 GiB."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if amount >= unit:
            return f"{amount / unit:.3g} {name}"
    return f"{amount:.0f} B"


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 90 s, 25 min, 3 h."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"

"""Runs measurements in processes of their own, in turn, and says on what machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STEERING = ("OPENBLAS_", "OMP_", "MKL_", "NUMBA_", "GOTO_", "NVPL_", "KOFN_")
"""Variables that change kernels or threads: unset for every measured process."""

PACKAGES = ("kofn", "numpy", "scipy", "numba", "pyarrow", "scikit-learn", "threadpoolctl")
PEERS = ("numpy", "numba", "scikit-learn", "faiss-cpu", "apricot-select")
PROBE = (
    "import importlib.metadata as m, json, sys\n"
    "def v(name):\n try: return m.version(name)\n except m.PackageNotFoundError: return None\n"
    "print(json.dumps({name: v(name) for name in sys.argv[1:]}))"
)


@dataclass(frozen=True)
class Entry:
    """One thing that is measured.

    Attributes
    ----------
    key : str
        Its name in goals and results.
    who : str
        "kofn", a peer, or "floor".
    what : str
        What it does, for the table.
    case : str
        "module:function" for `measure.py`; "" when `command` is timed from outside.
    params : dict
        Of the case; `seed` is added where the case has one.
    command : tuple of str
        Words of a command whose wall time is measured, with {python}, {kofn} and {folder} filled in.
    peers : bool
        Whether the peers' interpreter runs it.
    env : dict
        Variables beside the clean environment.
    repeat : int or None
        At most so often, where it is slow.
    seeded : bool
        Whether the run's number is its seed.
    """

    key: str
    who: str
    what: str
    case: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    peers: bool = False
    env: dict[str, str] = field(default_factory=dict)
    repeat: int | None = None
    seeded: bool = True


@dataclass(frozen=True)
class Goal:
    """A figure and its limits: (of - minus) / (sum of factor times figure in over), medians of `field` over the runs.

    `low` and `high` are included; None where there is no limit. `minus` and `over` may be empty.
    """

    text: str
    of: str
    field: str = "seconds"
    minus: str = ""
    over: tuple[tuple[float, str], ...] = ()
    low: float | None = None
    high: float | None = None
    unit: str = "x"


@dataclass(frozen=True)
class Job:
    """Entries that are measured in turn, A B A B, and what is asked of them."""

    name: str
    title: str
    data: frozenset[str]
    entries: tuple[Entry, ...]
    goals: tuple[Goal, ...]


def clean_environment(extra: dict[str, str]) -> dict[str, str]:
    """This environment without what steers BLAS and threads, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    return {**kept, **extra}


def run_job(job: Job, repeat: int, peers: str, timeout: float, say: Any) -> dict[str, Any]:
    """All entries of a job, `repeat` rounds over them in turn; an entry that fails is not run again."""
    runs: dict[str, list[dict[str, Any]]] = {entry.key: [] for entry in job.entries}
    failed: dict[str, str] = {}
    for turn in range(repeat):
        for entry in job.entries:
            if turn >= (entry.repeat or repeat) or entry.key in failed:
                continue
            load = os.getloadavg()[0]
            try:
                found = _timed_command(entry, timeout) if entry.command else measured(entry, turn, peers, timeout)
            except MeasurementError as error:
                failed[entry.key] = str(error)
                say(f"  {job.name} / {entry.key}: not measured: {error}")
                continue
            runs[entry.key].append({"seed": turn if entry.seeded else None, "load": round(load, 2), **found})
            peak = f", {found['peak_mib']:,.0f} MiB" if "peak_mib" in found else ""
            say(f"  {job.name} / {entry.key} #{turn}: {found['seconds']:.3f} s{peak}")
    entries = [
        {**_plain(entry), "runs": runs[entry.key], **({"failed": failed[entry.key]} if entry.key in failed else {})}
        for entry in job.entries
    ]
    goals = [asdict(goal) for goal in job.goals]
    return {"name": job.name, "title": job.title, "date": now(), "entries": entries, "goals": goals}


class MeasurementError(Exception):
    """A measured process did not bring a figure; the message is its last line."""


def measured(entry: Entry, turn: int, peers: str, timeout: float) -> dict[str, Any]:
    """The figures of one run of `measure.py`."""
    params = {**entry.params, **({"seed": turn} if entry.seeded else {})}
    request = json.dumps({"case": entry.case, "params": params}, default=str)
    words = [peers if entry.peers else sys.executable, str(HERE / "measure.py"), request]
    return json.loads(_output(words, clean_environment(entry.env), timeout, HERE).splitlines()[-1])


def _timed_command(entry: Entry, timeout: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        script = str(Path(sys.executable).parent / "kofn")
        places = {"{python}": sys.executable, "{kofn}": script, "{folder}": folder}
        words = [_filled(word, places) for word in entry.command]
        env = clean_environment({name: _filled(value, places) for name, value in entry.env.items()})
        start = time.perf_counter()
        output = _output(words, env, timeout, Path(folder))
        seconds = time.perf_counter() - start
    last = output.splitlines()[-1] if output.strip() else ""
    return {"seconds": seconds, **(json.loads(last) if last.startswith("{") else {})}


def _filled(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(name, value)
    return text


def _output(words: list[str], env: dict[str, str], timeout: float, folder: Path) -> str:
    try:
        done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"it took more than {timeout:.0f} s") from None
    except OSError as error:
        raise MeasurementError(str(error)) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        ended = f"ended with {done.returncode}"
        raise MeasurementError(f"{ended}: {lines[-1]}" if lines else ended)
    return done.stdout


def meta(**settings: Any) -> dict[str, Any]:
    """Date, processor, memory, system, versions and settings: what every result names."""
    return {
        "date": now(),
        "cpu": _cpu(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        **settings,
    }


def now() -> str:
    """Date and time."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def peer_versions(peers: str, names: tuple[str, ...] = PEERS) -> dict[str, Any]:
    """Versions in the peers' interpreter, None for what it lacks."""
    try:
        return json.loads(_output([peers, "-c", PROBE, *names], clean_environment({}), 60, HERE))
    except MeasurementError:
        return dict.fromkeys(names)


def _cpu() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plain(entry: Entry) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(entry).items() if value not in ("", (), {}, None)}
    if "params" in kept:  # paths by their file's name: the folder is the reader's own
        kept["params"] = {name: _named(value) for name, value in kept["params"].items()}
    return kept


def _named(value: Any) -> Any:
    return os.path.basename(str(value)) if isinstance(value, Path) else value


def warm_cache(paths: list[Path]) -> None:
    """Read files once, so that all measurements find them in memory."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1, default=str) + "\n")
    temporary.rename(path)

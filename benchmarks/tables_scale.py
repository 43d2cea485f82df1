"""The tables of docs/scale.md: what was measured, how well the cost model tells it, and what it says of larger runs."""

from __future__ import annotations

from typing import Any

from cost_model import Result, checked, figure, fit, reckoned, sizes_of

METHODS = ("sensitivity", "kmeans")
SIZES = 3
"""Jobs of a method: a model is fitted to the smaller ones, and checked on the largest."""

LARGE = (1e9, 1e11)
MACHINES = (16, 256)
WIDE = 768


def scale(result: Result, argument: str, grid: Any) -> str:
    """The table of this name."""
    return {"runs": runs, "model": model, "large": large, "flat": flat}[argument](result, grid)


def measured_methods(result: Result) -> list[str]:
    """The methods whose sizes have all been run."""
    return [method for method in METHODS if len(sizes_of(result, method)) == SIZES]


def runs(result: Result, grid: Any) -> str:
    """Seconds of every job on every engine."""
    rows = []
    for job in result["jobs"]:
        seconds = {entry["key"]: figure(job, entry["key"]) for entry in job["entries"]}
        told = [f"{value:.3g}" for value in seconds.values()]
        rows.append([job["title"], *told, f"{seconds['ray 2'] / seconds['local 2']:.2f}x"])
    heads = ["job", "1 thread", "2 threads", "Ray, 1 worker", "Ray, 2 workers", "Ray beside threads, at 2"]
    return grid(heads, rows)


def flat(result: Result, grid: Any) -> str:
    """Peak memory by the number of rows."""
    rows = []
    for method in measured_methods(result):
        for job in sizes_of(result, method):
            peaks = [figure(job, "local 2", "peak_mib"), figure(job, "ray 2", "driver_peak_mib")]
            worker = figure(job, "ray 2", "worker_peak_mib")
            rows.append([job["title"], *(f"{peak:,.0f}" for peak in (*peaks, worker))])
    return grid(["job", "one process, 2 threads: MiB", "driver: MiB", "worker: MiB"], rows)


def model(result: Result, grid: Any) -> str:
    """Reckoned from the smaller sizes, and measured at the largest."""
    rows = []
    for method in measured_methods(result):
        for engine, count, told, seen in checked(result, method):
            rows.append([method, f"{count:,}", engine, f"{told:.3g}", f"{seen:.3g}", f"{told / seen:.2f}"])
    return grid(["method", "rows", "engine and workers", "reckoned: s", "measured: s", "ratio"], rows)


def large(result: Result, grid: Any) -> str:
    """What nobody has run."""
    rows = []
    for method in measured_methods(result):
        found = fit(result, method)
        for count in LARGE:
            for machines in MACHINES:
                cost = reckoned(found, count, WIDE, machines)
                rows.append(
                    [
                        method, f"{count:.0e}".replace("e+", "e"), str(machines), time_of(cost.seconds), size_of(cost.held),
                        size_of(cost.travels), size_of(count * WIDE / 64 * found.row_bytes * found.passes), cost.short,
                    ]
                )  # fmt: skip
    heads = [
        "method",
        "rows x 768",
        "machines",
        "time",
        "driver holds",
        "results to the driver",
        "read from storage",
        "short first",
    ]
    return grid(heads, rows)


def time_of(seconds: float) -> str:
    """Seconds for people."""
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def size_of(amount: float) -> str:
    """Bytes for people."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if amount >= unit:
            return f"{amount / unit:.3g} {name}"
    return f"{amount:.0f} B"

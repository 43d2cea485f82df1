"""What a run costs by the number of rows and workers: fitted to small runs of `scale.py`, checked on its large ones.

    seconds = fixed + rows (work / workers + alone)

`work` is what workers do for a row in all passes: read its bytes, and compute. `alone` is what the driver does for a row in the
order of the rows. Both come from the two smaller sizes, in one process on one and two threads, by least squares; nothing of
Ray's runs nor of the largest size goes into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

Result = dict[str, Any]

WORKERS = 16
"""Processors of a machine in the large runs that are reckoned."""

NETWORK = 1.25e9
"""Bytes a second between a machine and the storage: 10 Gbit/s."""


@dataclass(frozen=True)
class Model:
    """Fitted seconds, and what a row holds and brings.

    Attributes
    ----------
    fixed : float
        Seconds whatever the rows.
    work, alone : float
        Seconds a row, shared by the workers and not.
    read : float
        Seconds a row of `work` that a pass takes to read.
    passes : int
        Over the rows.
    row_bytes : float
        Of a row as it lies.
    driver_bytes : float
        A row, that the driver holds.
    result_bytes : float
        A row, that come back from workers in all passes.
    """

    fixed: float
    work: float
    alone: float
    read: float
    passes: int
    row_bytes: float
    driver_bytes: float
    result_bytes: float

    def seconds(self, rows: int, workers: int) -> float:
        """Seconds of a run."""
        return self.fixed + rows * (self.work / workers + self.alone)


def sizes_of(result: Result, method: str) -> list[Result]:
    """The jobs of a method, the smallest first."""
    jobs = [job for job in result["jobs"] if job["name"].rpartition("-")[0] == method]
    return sorted(jobs, key=lambda job: rows_of(job))


def rows_of(job: Result) -> int:
    """Rows of a job."""
    return next(run["rows"] for entry in job["entries"] for run in entry["runs"])


def figure(job: Result, key: str, field: str = "seconds") -> float:
    """The median of a figure over the runs of an entry."""
    entry = next(entry for entry in job["entries"] if entry["key"] == key)
    return float(median(run[field] for run in entry["runs"]))


def fit(result: Result, method: str) -> Model:
    """The model of a method, from its two smaller sizes in one process."""
    small, middle, large = sizes_of(result, method)
    rows, seconds = [], []
    for job in (small, middle):
        for workers in (1, 2):
            rows.append([1.0, rows_of(job) / workers, rows_of(job)])
            seconds.append(figure(job, f"local {workers}"))
    # By their share: a small run counts as much as a large one.
    scale = 1.0 / np.array(seconds)
    found, *_ = np.linalg.lstsq(np.array(rows) * scale[:, None], np.ones(len(scale)), rcond=None)
    fixed, work, alone = (float(value) for value in found)
    reading = sizes_of(result, "read")[1]
    passes = next(run["passes"] for entry in reading["entries"] for run in entry["runs"])
    held = (figure(large, "ray 2", "driver_peak_mib") - figure(small, "ray 2", "driver_peak_mib")) * 2**20
    runs = [run for entry in small["entries"] for run in entry["runs"] if run.get("result_bytes")]
    return Model(
        fixed, work, alone, figure(reading, "local 1") / passes / rows_of(reading), len(passes_of(large)),
        figure(large, "local 1", "bytes_a_pass") / rows_of(large), max(0.0, held / (rows_of(large) - rows_of(small))),
        runs[0]["result_bytes"] / 65_536,
    )  # fmt: skip


def passes_of(job: Result) -> list[Result]:
    """What was told of the passes of a run."""
    return next(run["passes"] for entry in job["entries"] for run in entry["runs"])


def checked(result: Result, method: str) -> Iterator[tuple[str, int, float, float]]:
    """(engine and workers, rows, reckoned, measured) of the largest size."""
    model, large = fit(result, method), sizes_of(result, method)[-1]
    for entry in large["entries"]:
        workers = int(entry["key"].split()[1])
        yield entry["key"], rows_of(large), model.seconds(rows_of(large), workers), figure(large, entry["key"])


@dataclass(frozen=True)
class Large:
    """What a run would cost that nobody has made: seconds, bytes, and what is short first."""

    computing: float
    reading: float
    alone: float
    travels: float
    held: float

    @property
    def seconds(self) -> float:
        """Reading and computing overlap between machines, not within a worker; the driver's share comes on top."""
        return max(self.computing, self.reading) + self.alone

    @property
    def short(self) -> str:
        """What takes longest."""
        parts = {"processors": self.computing, "network": self.reading, "driver": self.alone}
        return max(parts, key=lambda name: parts[name])


def reckoned(model: Model, rows: float, d: int, machines: int) -> Large:
    """The same method on longer rows and more machines: bytes and products grow with d, the driver's share does not."""
    longer = d / 64
    compute = max(0.0, model.work - model.passes * model.read)
    work = longer * (compute + model.passes * model.read)
    return Large(
        rows * work / (machines * WORKERS),
        rows * longer * model.row_bytes * model.passes / (machines * NETWORK),
        rows * model.alone,
        rows * model.result_bytes,
        rows * model.driver_bytes,
    )

"""A selection on one engine, warmed up on the same engine, with what every pass took."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import status_mib

from kofn.blocks.dataset import Dataset
from kofn.blocks.footers import Footers
from kofn.core.block import SLAB
from kofn.front import choose, digest_of, running
from kofn.intake import read_source

GIVEN: dict[str, Any] = {
    "columns": dict.fromkeys(("label", "score", "group", "weight")), "text": None, "model": None, "cache": None,
    "embedding": None, "id": None, "have": None, "metric": None, "invalid": "error", "dtype": None,
}  # fmt: skip


OPEN = ExitStack()
"""The cluster, until the process ends."""


class Reports:
    """What `select` tells of its passes."""

    def __init__(self) -> None:
        self.passes: list[dict[str, Any]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Progress: nothing to show."""

    def pass_ended(self, report: Any) -> None:
        """Keep it."""
        self.passes.append(asdict(report))


def select(
    data: str,
    small: str,
    method: str,
    k: int,
    memory: str,
    params: dict[str, Any],
    engine: str,
    workers: int,
    seed: int,
) -> tuple[Callable[[], Any], Callable[[Any], dict[str, Any]]]:
    """`kofn.select` on the files that the glob `data` means; the cluster is started and warmed up before the clock runs."""
    reports = Reports()
    run = OPEN.enter_context(running(workers, reports, engine, "local" if engine == "ray" else None))
    choose(run, small, k, method=method, memory=memory, params=params, seed=seed, **GIVEN)
    reports.passes.clear()

    def chosen() -> Any:
        return choose(run, data, k, method=method, memory=memory, params=params, seed=seed, **GIVEN)

    def report(selection: Any) -> dict[str, Any]:
        dataset = Dataset.open(data)
        files = Footers(dataset)
        return {
            "rows": dataset.n,
            "bytes_a_pass": int(files.stored(["embedding"]).sum()),
            "passes": reports.passes,
            "digest": digest_of(selection.indices) + digest_of(selection.weights),
            "worker_peak_mib": worker_peak(),
            "driver_peak_mib": status_mib("VmHWM"),
            "result_bytes": result_bytes(small, method, k, memory, params, seed) if engine == "local" else None,
        }

    return chosen, report


def result_bytes(data: str, method: str, k: int, memory: str, params: dict[str, Any], seed: int) -> float:
    """Bytes of the results of one slab over all passes, as they come back from workers: what a checkpoint keeps of them.

    Rows that are gathered by number, such as a sample, do not grow with the data, and are left out.
    """
    slabs = -(-Dataset.open(data).n // SLAB)
    with TemporaryDirectory() as folder:
        with running(2, None, checkpoint=folder) as run:
            choose(run, data, k, method=method, memory=memory, params=params, seed=seed, **GIVEN)
        passes = [list(each.iterdir()) for each in Path(folder).glob("*/pass-*")]
        kept = sum(path.stat().st_size for each in passes if len(each) == slabs for path in each)
    return kept / slabs


def read(
    data: str, small: str, engine: str, workers: int, passes: int
) -> tuple[Callable[[], Any], Callable[[Any], dict[str, Any]]]:
    """Passes that only read: every row comes to a function that looks at none of them."""
    run = OPEN.enter_context(running(workers, None, engine, "local" if engine == "ray" else None))
    warm, items = (read_source(path, run=run).rows(None) for path in (small, data))
    _rows_seen(warm)

    def chosen() -> int:
        return sum(_rows_seen(items) for _ in range(passes))

    def report(rows: int) -> dict[str, Any]:
        dataset = Dataset.open(data)
        bytes_a_pass = int(Footers(dataset).stored(["embedding"]).sum())
        return {"rows": dataset.n, "bytes_a_pass": bytes_a_pass, "passes": passes, "digest": str(rows)}

    return chosen, report


def _rows_seen(items: Any) -> int:
    return sum(items.map(_height))


def _height(block: Any) -> int:
    return int(block.x.shape[0])


def worker_peak() -> float | None:
    """The largest peak of this user's Ray workers, in MiB; None where there are none."""
    peaks = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or not _below(int(entry.name), os.getpid()):
            continue
        try:
            title = (entry / "cmdline").read_bytes()
            status = (entry / "status").read_text()
        except OSError:
            continue
        if title.startswith(b"ray::"):
            peaks.append(next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")))
    return max(peaks, default=None)


def _below(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False

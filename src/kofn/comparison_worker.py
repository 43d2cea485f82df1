"""One method in a process of its own: `python -m kofn.comparison_worker JOB OUT`. Seconds and peak memory for each k."""

from __future__ import annotations

import json
import pickle
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kofn.blocks import Run
from kofn.front import select
from kofn.items import Items
from kofn.method import Method
from kofn.pool import taken_over

TRIED = 512
"""Rows of the trial that loads and compiles kernels before anything is measured."""


def measure(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the job: [{k, seconds, peak}], the peak in bytes of the whole process, rows in memory included."""
    method, seed, memory = job["method"], job["seed"], job["memory"]
    items = taken_over(job["found"], Run(job["threads"]))
    _warm(method, items, seed)
    costs = []
    for k in job["ks"]:
        reset_peak()
        began = time.perf_counter()
        select(items, k, method=method, seed=seed, memory=memory)
        costs.append({"k": k, "seconds": time.perf_counter() - began, "peak": peak()})
    return costs


def _warm(method: Method, items: Items, seed: int) -> None:
    rows = np.arange(min(TRIED, items.n), dtype=np.int64)
    few = items.subset(rows, None if items.embeddings is None else items.blocks().take(rows))
    with suppress(Exception):  # what is wrong will be said by the run itself
        select(few, min(16, len(rows)), method=method, seed=seed)


def reset_peak() -> None:
    """Let the kernel count the peak from here; without effect where it cannot."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes that this process held at most: VmHWM on Linux (a child's ru_maxrss would show its parent's peak)."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


def main(job: str, out: str) -> int:
    """Read the job, run it, write what it took; on failure the reason on stderr."""
    try:
        costs = measure(pickle.loads(Path(job).read_bytes()))
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
        return 1
    Path(out).write_text(json.dumps(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

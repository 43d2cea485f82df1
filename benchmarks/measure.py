"""One measurement in a process of its own: `python measure.py '{"case": "cases_kofn:kmeans", "params": {...}}'`.

A case is a function of its parameters that makes everything ready, warms up on small data, and returns two functions:
`run()`, which is timed, and `report(answer)`, which is called afterwards and returns a dict of further figures
(`fixed_seconds` among them: what the run spent whatever the size of the data, measured in the warm-up). The last line of
the output is JSON. The peak is VmHWM of this very process, read before `report`; `ru_maxrss` of a child would show
its parent's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any


def status_mib(field: str) -> float:
    """A memory field of /proc/self/status, in MiB."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}; measure on Linux")


def kernels() -> list[str]:
    """The BLAS libraries of this process with the kernels they run, as threadpoolctl sees them."""
    from threadpoolctl import threadpool_info

    found = set()
    for library in threadpool_info():
        if library["user_api"] == "blas":
            home = os.path.basename(os.path.dirname(library["filepath"])).removesuffix(".libs")
            found.add(
                f"{home}: {library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()
            )
    return sorted(found)


def measure(case: str, params: dict[str, Any]) -> dict[str, Any]:
    """Run one case and return its figures."""
    module, _, name = case.partition(":")
    run, report = getattr(import_module(module), name)(**params)
    before = status_mib("VmRSS")
    busy, start = time.process_time(), time.perf_counter()
    answer = run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    peak = status_mib("VmHWM")
    figures = {"seconds": seconds, "cpu_seconds": cpu, "before_mib": before, "peak_mib": peak}
    figures |= {"kernels": kernels(), **report(answer)}
    figures["net_seconds"] = seconds - figures.get("fixed_seconds", 0.0)
    return figures


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(json.dumps(measure(request["case"], request["params"])))

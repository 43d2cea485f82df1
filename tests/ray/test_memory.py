"""What `kofn plan --engine ray` says of memory holds for the driver and for every worker, and the limit decides parts alike."""

import json
import subprocess
import sys

import numpy as np
import pytest

from blocks.laying import write_parquet

RUN = """
import json, os, sys
from pathlib import Path
import kofn

def status(process, field):
    text = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(field + ":"))) * 1024

def workers():
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
                session = (entry / "environ").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::") and MARK in session:
                yield status(entry.name, "VmHWM")

MARK = b"KOFN_MEMORY_TEST=" + str(os.getpid()).encode()
os.environ["KOFN_MEMORY_TEST"] = str(os.getpid())
path, given = sys.argv[1], json.loads(sys.argv[2])
plan = kofn.plan(path, 50, engine="ray", threads=2, **given)

class Peaks:
    worker = 0
    def __call__(self, stage, done, total):
        self.worker = max([self.worker, *workers()])

peaks = Peaks()
selection = kofn.select(path, 50, engine="ray", address="local", threads=2, progress=peaks, **given)
print(json.dumps({"plan": plan.memory, "part": plan.part, "driver": status("self", "VmHWM"), "worker": peaks.worker,
                  "run": selection.provenance["run"]}))
"""

CASES = {
    "streamed": {"method": "sensitivity"},
    "rounds over all rows": {"method": "kmeans", "sample": 0, "rounds": 3},
    "in parts": {"method": "kcenter", "memory": "96MiB"},
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    x = np.random.default_rng(0).normal(size=(400_000, 24)).astype(np.float32)
    return write_parquet(tmp_path_factory.mktemp("rows") / "x.parquet", x, 65_536)


@pytest.mark.parametrize("case", CASES)
def test_driver_and_workers_stay_below_what_the_plan_says(case, rows, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, rows, json.dumps(CASES[case])], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    plan = found["plan"]
    assert 0 < found["worker"] <= plan["worker"]
    assert found["driver"] <= plan["total"]
    if case == "in parts":
        assert found["run"]["part"] == found["part"] < 400_000
        assert found["run"]["rounds"] == 2

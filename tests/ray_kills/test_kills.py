"""A driver that is killed at any moment loses at most the slabs in flight, and nobody ever sees half an output."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from blocks.laying import write_parquet
from kofn.cli import main
from kofn.core.block import SLAB

TESTS = Path(__file__).parents[1]
WORKERS = {"scan": 1, "train": 2, "assign": 2, "write": 1}
"""Of each chain. They never wait for one another's: Ray would end workers, and starting them is what takes time."""

PASSES = 5  # the scan, one of seeding, Lloyd's two rounds, the assignment
SLABS = 10
SCAN = [
    [1, 0, "asked"], [1, 0, "half"], [1, 0, "asked"], [1, 3, "unnamed"], [1, 2, "loaded"], [1, 0, "loaded"], [1, 3, "asked"],
    [1, 1, "loaded"], [1, 7, "named"], [1, 5, "loaded"], [1, 7, "loaded"], [1, 8, "asked"],
]  # fmt: skip
TRAIN = [
    ["rows", 0, "half"], ["rows", 0, "unnamed"],
    [2, 0, "asked"], [2, 2, "half"], [2, 1, "loaded"], [2, 9, "unnamed"], [2, 9, "asked"],
    [3, 4, "kept"], [3, 0, "loaded"], [3, 4, "loaded"], [3, 5, "asked"],
    [4, 2, "made"], [4, 1, "loaded"], [4, 8, "named"], [4, 9, "asked"],
]  # fmt: skip
ASSIGN = [
    [PASSES, 0, "asked"], [PASSES, 0, "made"], [PASSES, 0, "asked"], [PASSES, 4, "kept"], [PASSES, 4, "loaded"],
    [PASSES, 2, "loaded"], [PASSES, 5, "asked"], [PASSES, 7, "half"], [PASSES, 6, "loaded"], [PASSES, 0, "loaded"],
    [PASSES, 7, "asked"], [PASSES, 9, "unnamed"],
]  # fmt: skip
WRITE = [
    ["write", 0, "begun"], ["write", 0, "rows asked"], ["write", 0, "read"], ["write", 0, "opened"], ["write", 0, "half"],
    ["write", 4, "half"], ["write", 9, "half"], ["write", 0, "unflushed"], ["write", 0, "unnamed"], ["write", 0, "named"],
    ["write", 0, "half forgotten"],
]  # fmt: skip
LOCAL = [
    ["begin", 0, "half"], ["begin", 0, "unnamed"], [1, 0, "made"], [1, 3, "half"], [1, 2, "loaded"], ["rows", 0, "half"],
    [2, 4, "unnamed"], [3, 5, "kept"], [4, 2, "asked"], [PASSES, 1, "half"], [PASSES, 0, "loaded"], [PASSES, 8, "named"],
    ["write", 0, "opened"], ["write", 4, "half"], ["write", 0, "unnamed"], ["write", 0, "named"],
    ["write", 0, "written"], ["write", 0, "forgotten"],
]  # fmt: skip
PHASES = {"scan": SCAN, "train": TRAIN, "assign": ASSIGN, "write": WRITE}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten slabs in two files; a row of every 100,003 has no numbers. Only in the first of their groups two slabs begin."""
    folder = tmp_path_factory.mktemp("data")
    x = np.random.default_rng(0).normal(size=(SLABS * SLAB - 1_000, 4)).astype(np.float32)
    x[::100_003] = np.nan
    write_parquet(folder / "a.parquet", x[:300_000], 70_000)
    write_parquet(folder / "b.parquet", x[300_000:], 70_000)
    return str(folder)


@pytest.fixture(scope="module")
def command(data):
    settings = ["--set", "sample=0", "--set", "rounds=2", "--invalid", "drop", "--json"]
    return ["select", data, "-k", "8", "--method", "kmeans", *settings]


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    """Digest of the output of a run that nobody kills."""
    out = tmp_path_factory.mktemp("undisturbed") / "out.parquet"
    assert main([*command, "--out", str(out)]) == 0
    return blake2b(out.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def address():
    """Where a cluster listens that lives as long as these tests."""
    running = subprocess.Popen(
        [sys.executable, TESTS / "ray_kills" / "cluster.py", str(sum(WORKERS.values()))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), text=True,
    )  # fmt: skip
    found = running.stdout.readline().strip()
    assert found, "the cluster did not start"
    yield found
    running.stdin.close()
    running.wait(60)


def environment():
    """That of cluster and drivers: products in one thread, so that forks are safe; no token, for an address by name asks for
    none; workers as urgent as other processes, or they take long to start."""
    quiet = {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    quiet |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}


def carry_out(chains, folder):
    """The chains, at the same time; for each what its runs left, and what happened in them."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps(chains))
    driver = [sys.executable, str(TESTS / "ray_kills" / "driver.py"), str(plan)]
    subprocess.run(driver, env=environment(), cwd=folder, check=True, timeout=600)
    found = {}
    for chain in chains:
        runs = [json.loads(line) for line in (Path(chain["folder"]) / "runs").read_text().splitlines()]
        for number, run in enumerate(runs):
            path = Path(chain["folder"]) / f"{number:03d}.moments"
            run["happened"] = [json.loads(line) for line in path.read_text().splitlines()]
        found[chain["name"]] = runs
    return found


def chain_of(name, moments, folder, command, more, last=None):
    given = {"name": name, "moments": moments, "folder": str(folder / name), "command": command}
    return {**given, "more": more, "last": more if last is None else last}


def check_chain(runs, undisturbed, in_flight):
    """What holds after every kill; how many slabs were done again in all."""
    kept, asked, again = set(), set(), 0
    for run in runs:
        moment = run["moment"]
        assert run["status"] == (0 if moment is None else -signal.SIGKILL), run
        assert all(name.startswith(".out.parquet.") and name.endswith(".part") for name in run["beside"])
        named = any(each.get("moment") == ["write", 0, "named"] for each in run["happened"])
        assert run["out"] == (undisturbed if named else None)
        if named and moment is not None:
            assert run["again"] == 2, "the output is there, and not to be written over without --force"
            assert run["left alone"]
        for each in run["happened"]:
            if "known" in each:
                assert {(each["where"], slab) for slab in each["known"]} == {a for a in kept if a[0] == each["where"]}
        of_slabs = [
            each["moment"] for each in run["happened"] if "moment" in each and isinstance(each["moment"][0], int)
        ]
        given_out = {(where, slab) for where, slab, what in of_slabs if what == "asked"}
        assert not given_out & kept, "what was kept is whole, and not done again"
        assert len(given_out & asked) <= in_flight
        again += len(given_out & asked)
        asked |= given_out
        kept |= {(where, slab) for where, slab, what in of_slabs if what == "named"}
        if any(each.get("moment", [0])[-1] == "half forgotten" for each in run["happened"]):
            kept, asked = set(), set()
    passes = {each["where"] for run in runs for each in run["happened"] if "known" in each}
    assert passes == set(range(1, PASSES + 1)), "the moments above are those of a run of so many passes"
    assert runs[-1]["kept"] == 0
    return again


def tell(engine, found, again):
    for name, runs in found.items():
        for run in runs[:-1]:
            where, which, what = run["moment"]
            print(
                f"{engine}: killed in {name}: pass {where}, {which} {what}; {run['kept']} files kept, {run['seconds']} s"
            )
    print(f"{engine}: {sum(len(runs) - 1 for runs in found.values())} kills, {again} slabs done again")


def test_a_driver_on_ray_killed_at_fifty_moments_goes_on(command, undisturbed, address, tmp_path):
    chains = []
    for name, moments in PHASES.items():
        more = ["--engine", "ray", "--address", address, "--threads", str(WORKERS[name])]
        chains.append(chain_of(name, moments, tmp_path, command, more))
    chains[2]["last"] = []  # what was killed on the cluster is gone on with by this process alone
    found = carry_out(chains, tmp_path)
    again = 0
    for name, runs in found.items():  # so many calls are ahead of the one that is due; the first is of two slabs
        again += check_chain(runs, undisturbed, in_flight=2 * WORKERS[name] + 3)
    tell("ray", found, again)
    kills = Counter({name: len(runs) - 1 for name, runs in found.items()})
    assert kills.total() >= 50
    assert min(kills.values()) >= 10


def test_a_local_run_killed_at_such_moments_goes_on(command, undisturbed, tmp_path):
    found = carry_out([chain_of("local", LOCAL, tmp_path, command, ["--threads", "2"])], tmp_path)
    again = check_chain(found["local"], undisturbed, in_flight=3)
    tell("local", found, again)

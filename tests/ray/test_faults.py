"""Faults that a run on a Ray cluster survives, or stops at with the file and its row group: each is injected here."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import faults
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from blocks.laying import normal, table_of, write_parquet
from kofn.blocks import FileBlocks, Run
from kofn.blocks.checkpoint import Checkpoint
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.blocks.remote import RayBlocks, file_blocks
from kofn.core.block import SLAB
from kofn.errors import CheckpointError, DataError, EngineError, UsageError

N = 5 * SLAB + 7
"""Rows of six slabs. In groups of 70,000 rows, 2 and 3 begin in row group 0 of the second file, 4 in its row group 1."""

BOTH = pytest.mark.parametrize("engine", ["local", "ray"])


@pytest.fixture(scope="module")
def rows():
    return normal(N, 4)


@pytest.fixture
def folder(rows, tmp_path):
    """Two files of rows."""
    lay(tmp_path / "data", rows)
    return str(tmp_path / "data")


def lay(folder, rows, group=70_000):
    folder.mkdir(exist_ok=True)
    write_parquet(folder / "a.parquet", rows[: 2 * SLAB], group)
    write_parquet(folder / "b.parquet", rows[2 * SLAB :], group)


def door(folder, cluster, **run):
    """The rows as a run on the cluster sees them."""
    dataset = Dataset.open(folder)
    return file_blocks(dataset, find_embedding(dataset, None, None), run=Run(cluster=cluster, **run))


def expected(folder):
    dataset = Dataset.open(folder)
    blocks = FileBlocks(dataset, find_embedding(dataset, None, None), run=Run(1))
    return np.array(list(blocks.map(plain_sums)))


def plain_sums(block):
    return block.x.sum(axis=0, dtype=np.float64)


def pick(path, k=20, **given):
    """What a run picks, as bytes."""
    settings = {"method": "kmeans", "sample": 0, "rounds": 3, **given}
    selection = kofn.select(path, k, **settings)
    return selection.indices.tobytes() + selection.weights.tobytes()


class Stop(Exception):
    """The run ends here."""


class Reports:
    """Progress that keeps what it is told, and calls `at_pass[number]` when that pass is over, `at_slab` after every slab."""

    def __init__(self, at_pass=None, stop=None):
        self.at_pass, self.stop, self.slabs, self.passes, self.stages = at_pass or {}, stop, 0, [], []

    def __call__(self, stage, done, total):
        self.slabs += stage.startswith("pass")
        self.stages.append(stage)
        if self.slabs == self.stop:
            raise Stop

    def pass_ended(self, report):
        self.passes.append(report)
        self.at_pass.get(report.number, lambda: None)()


# blocks that go wrong


@pytest.mark.parametrize(("trouble", "times"), [("dies", 1), ("fails", 2)])
def test_a_block_that_dies_once_or_fails_twice_changes_no_result(cluster, folder, tmp_path, trouble, times):
    reports = Reports()
    blocks = door(folder, cluster, ended=reports.pass_ended, tell=reports)
    assert isinstance(blocks, RayBlocks)
    found = np.array(list(blocks.map(faults.sums, marks(tmp_path), 2, trouble, times)))
    np.testing.assert_array_equal(found, expected(folder), strict=True)
    begun = faults.attempts(tmp_path / "marks")
    assert begun.pop("slab2") == 1 + times
    assert set(begun.values()) == {1}
    assert [(each.slabs, each.known, each.retries) for each in reports.passes] == [(6, 0, times)]
    assert reports.stages[-1] == f"pass 1, {times} given out again"


def test_a_worker_that_is_killed_in_the_middle_of_a_block_changes_no_pick(local_ray, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kofn.blocks.remote.slabs_of", partial(faults.killed_once, marks(tmp_path)))
    reports = Reports()
    assert pick(folder, engine="ray", progress=reports) == pick(folder)
    assert [each.retries for each in reports.passes] == [1] + [0] * (len(reports.passes) - 1)


def marks(tmp_path):
    (tmp_path / "marks").mkdir(exist_ok=True)
    return str(tmp_path / "marks")


def test_a_block_that_always_fails_stops_the_run_names_its_place_and_keeps_what_is_finished(cluster, folder, tmp_path):
    def run(reports=None):
        checkpoint = Checkpoint(str(tmp_path / "kept"))
        checkpoint.begin({"sums": "of all rows"}, {})
        blocks = door(folder, cluster, checkpoint=checkpoint, ended=reports and reports.pass_ended)
        return np.array(list(blocks.map(faults.sums, marks(tmp_path), 4, "fails", 1000)))

    with pytest.raises(EngineError) as told:
        run()
    assert str(told.value) == (
        "the block of rows 262,144 to 327,679 (b.parquet, row group 1) failed: RuntimeError: the block cannot be worked on; "
        "what was finished is kept with --checkpoint"
    )
    first = faults.attempts(tmp_path / "marks")
    assert first["slab4"] == 3
    (tmp_path / "marks" / "mended").touch()
    reports = Reports()
    np.testing.assert_array_equal(run(reports), expected(folder), strict=True)
    again = faults.attempts(tmp_path / "marks")
    assert reports.passes[0].known == 4
    assert [again[f"slab{at}"] for at in range(5)] == [1, 1, 1, 1, 4]
    assert again["slab5"] == first.get("slab5", 0) + 1


def test_a_block_that_kills_its_worker_each_time_is_named_with_its_place(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kofn.blocks.cluster.DEATHS", 2)
    words = r"^rows 262,144 to 327,679 \(b\.parquet, row group 1\): the worker died 2 times .*is there memory enough"
    with pytest.raises(EngineError, match=words):
        list(door(folder, cluster).map(faults.sums, marks(tmp_path), 4, "dies", 1000))


# files that are corrupt, or change


@BOTH
@pytest.mark.parametrize("invalid", ["error", "drop"])
@pytest.mark.parametrize("group", [70_000, 30_000])
def test_a_corrupt_row_group_is_named_and_never_left_out(local_ray, rows, tmp_path, engine, invalid, group):
    lay(tmp_path / "data", rows, group)
    corrupt(tmp_path / "data" / "b.parquet", 1)
    with pytest.raises(DataError, match=r"^b\.parquet: row group 1 cannot be read \(.*\); write the file again$"):
        pick(str(tmp_path / "data"), engine=engine, invalid=invalid)


def corrupt(path, group):
    """Overwrite the bytes of a row group."""
    start, stop = place_of(path, group)
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(b"\xff" * (stop - start))


def place_of(path, group):
    """First and last byte of the first column of a row group."""
    chunk = pq.read_metadata(path).row_group(group).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return start, start + chunk.total_compressed_size


@BOTH
@pytest.mark.parametrize("invalid", ["error", "drop"])
def test_numbers_that_were_overwritten_are_found_where_pages_have_checksums(local_ray, rows, tmp_path, engine, invalid):
    """Nothing else tells them from others: as NaN they would be dropped."""
    path = tmp_path / "x.parquet"
    plain = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(table_of(rows), path, row_group_size=70_000, **plain)
    with open(path, "r+b") as file:
        file.seek(sum(place_of(path, 2)) // 2)
        file.write(b"\xff" * 4)
    with pytest.raises(DataError, match=r"^x\.parquet: row group 2 cannot be read \(.*\); write the file again$"):
        pick(str(path), engine=engine, invalid=invalid)


def shrink(folder):
    write_parquet(Path(folder) / "b.parquet", normal(SLAB, 4), 70_000)


def alter(folder):
    """Other rows, and neither size nor footer says so."""
    with open(Path(folder) / "b.parquet", "r+b") as file:
        file.seek(1000)
        file.write(b"\0" * 8)


@BOTH
@pytest.mark.parametrize("change", [shrink, alter])
def test_a_file_that_changes_between_passes_is_an_error_that_names_it(local_ray, folder, engine, change):
    reports = Reports({1: lambda: change(folder)})
    with pytest.raises(
        DataError, match=r"^b\.parquet has changed since it was opened .*; run again when nobody writes"
    ):
        pick(folder, engine=engine, progress=reports)
    assert len(reports.passes) == 1


@BOTH
def test_a_file_that_vanishes_between_passes_is_an_error_that_names_it(local_ray, folder, engine):
    with pytest.raises(DataError, match=r"^b\.parquet is not there"):
        pick(folder, engine=engine, progress=Reports({1: (Path(folder) / "b.parquet").unlink}))


# stopped, and gone on with


@pytest.mark.parametrize(("first", "second"), [("ray", "local"), ("local", "ray"), ("ray", "ray")])
def test_a_run_that_was_stopped_goes_on_with_either_engine(local_ray, folder, tmp_path, first, second):
    alone = pick(folder)
    kept = str(tmp_path / "kept")
    with pytest.raises(Stop):
        pick(folder, engine=first, checkpoint=kept, progress=Reports(stop=8))
    reports = Reports()
    assert pick(folder, engine=second, checkpoint=kept, progress=reports) == alone
    assert sum(each.known for each in reports.passes) == 8


def test_a_file_that_has_changed_since_the_run_was_stopped_is_refused_by_name(local_ray, folder, tmp_path):
    kept = str(tmp_path / "kept")
    with pytest.raises(Stop):
        pick(folder, engine="ray", checkpoint=kept, progress=Reports(stop=8))
    alter(folder)
    with pytest.raises(CheckpointError, match=r"^b\.parquet has changed since the run in .* began"):
        pick(folder, engine="ray", checkpoint=kept)


def test_runs_at_the_same_time_in_one_folder_pick_what_they_pick_alone(local_ray, folder, tmp_path):
    """Two of one seed, which share what they keep, beside one of another."""
    alone = {seed: pick(folder, seed=seed) for seed in (1, 2)}
    found = {}

    def run(at, seed):
        found[at] = pick(folder, engine="ray", seed=seed, checkpoint=str(tmp_path / "kept"))

    threads = [threading.Thread(target=run, args=(at, seed)) for at, seed in enumerate((1, 1, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {0: alone[1], 1: alone[1], 2: alone[2]}


def command(*given):
    return [sys.executable, "-m", "kofn", *given]


DYING = """
import sys
from functools import partial
import faults
from kofn.blocks import remote
from kofn.cli import main

remote.slabs_of = partial(faults.killed_once, sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


def test_ctrl_c_says_how_to_go_on_and_the_next_run_ends_as_an_undisturbed_one_although_a_worker_dies(
    tmp_path, environment
):
    np.save(tmp_path / "x.npy", normal(8 * SLAB, 4))
    select = ["select", "x.npy", "-k", "20", "--method", "kmeans", "--json"]
    select += ["--set", "sample=0", "--set", "tolerance=0", "--set", "rounds=10"]
    on_ray = [*select, "--out", "o.arrow", "--engine", "ray", "--address", "local", "--checkpoint", "kept"]
    where = {"cwd": tmp_path, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(*on_ray), **where, start_new_session=True) as run:
        assert faults.wait_for(lambda: len(list(tmp_path.glob("kept/*/pass-*/[0-9]*"))) > 12 or run.poll() is not None)
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does: to everything that was started
        told, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert told == ""
    assert said.splitlines()[-1] == "stopped; what was finished is kept in kept: the same command goes on there"
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "x.npy"]
    again = subprocess.run([sys.executable, "-c", DYING, marks(tmp_path), *on_ray], **where, timeout=120)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["out"] == "o.arrow"  # and not a word of Ray's
    passes = [json.loads(line) for line in again.stderr.splitlines() if line.startswith('{"pass"')]
    assert passes[0]["known"] == 8
    assert sum(each["retries"] for each in passes) == 1
    undisturbed = subprocess.run(command(*select, "--out", "alone.arrow"), **where, timeout=120)
    assert undisturbed.returncode == 0
    assert (tmp_path / "o.arrow").read_bytes() == (tmp_path / "alone.arrow").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.arrow", "kept", "marks", "o.arrow", "x.npy"]
    assert not list((tmp_path / "kept").iterdir())


# machines

NODES = """
import json, sys, threading
from pathlib import Path
from ray.cluster_utils import Cluster as Machines
import faults, kofn
from kofn.blocks.cluster import ray_cluster

path, folder = sys.argv[1:]
room = {"num_cpus": 1, "object_store_memory": 100 << 20}
soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 4}
head = {**room, "include_dashboard": False, "_system_config": soon}
machines = Machines(initialize_head=True, head_node_args=head)
first, second = [machines.add_node(**room) for _ in range(2)]

def remove(machine):
    machines.remove_node(machine, allow_graceful=False)

def remove_when_caught():
    faults.wait_for(lambda: "caught" in faults.attempts(folder))
    remove(first)
    Path(folder, "gone").touch()

class Removing:
    def __init__(self):
        self.thread, self.passes = threading.Thread(target=remove, args=(second,)), []
    def __call__(self, stage, done, total):
        if stage.startswith("pass 2") and not self.thread.ident:
            self.thread.start()
    def pass_ended(self, report):
        self.passes.append(report.number)
        if report.number == 4:
            self.thread.join()

with ray_cluster(machines.address) as cluster:
    before = len(cluster.nodes)
    thread = threading.Thread(target=remove_when_caught)
    thread.start()
    homes = [machines.head_node.node_id, *[first.node_id] * 3, *[None] * 8]
    calls = [(at,) for at in range(12)]
    squares = [found.tolist() for found in cluster.map(faults.beside, (folder, first.node_id), calls, str, homes)]
    squares = [found[0] for found in squares if len(set(found)) == 1]
    thread.join()
    removing = Removing()
    picked = kofn.select(path, 20, method="kmeans", sample=0, rounds=6, tolerance=0, engine="ray", progress=removing)
    after = len(machines.list_all_nodes())
    left = cluster.map(faults.sleeps, (0.01,), [(at,) for at in range(50)], str)
    next(left)
unheard = []
sys.unraisablehook = unheard.append
del left  # an iteration that nobody ended outlives its cluster
machines.shutdown()
print(json.dumps({
    "before": before, "after": after, "squares": squares, "retries": cluster.retries, "passes": removing.passes,
    "unheard": len(unheard), "picked": picked.indices.tolist(), "weights": picked.weights.tolist(),
}))
"""


def test_machines_that_go_while_they_work_change_no_pick(folder, tmp_path, environment):
    ran = script(environment, NODES, folder, marks(tmp_path))
    local = kofn.select(folder, 20, method="kmeans", sample=0, rounds=6, tolerance=0)
    assert (ran["before"], ran["after"]) == (3, 1)
    assert ran["squares"] == [at * at for at in range(12)]
    assert ran["retries"] >= 3  # a call that was at work there, and two whose results lay there
    assert max(ran["passes"]) > 4  # some came after the machine was gone
    assert ran["unheard"] == 0
    assert ran["picked"] == local.indices.tolist()
    assert ran["weights"] == local.weights.tolist()


def script(environment, text, *given):
    """What a script prints as JSON in its last line, run in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", text, *given], capture_output=True, text=True, env=environment, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


OTHER_KERNEL = """
import json, os, sys
import kofn
from kofn.core.blas import blas_kernel

here = blas_kernel()
os.environ["OPENBLAS_CORETYPE"] = "Nehalem"  # heard by workers alone: here the kernel is chosen already
try:
    kofn.select(sys.argv[1], 20, method="kmeans", engine="ray", address="local", threads=1)
    told = "picked"
except kofn.errors.EngineError as error:
    told = str(error)
print(json.dumps({"here": here, "told": told}))
"""


def test_a_worker_with_another_blas_kernel_is_refused_by_both_names(folder, environment):
    ran = script(environment, OTHER_KERNEL, folder)
    assert "Nehalem" not in ran["here"]
    assert "has the BLAS kernel openblas" in ran["told"]
    assert "Nehalem, this process has " + ran["here"] in ran["told"]
    assert "set OPENBLAS_CORETYPE to the same value on every machine, before Python starts" in ran["told"]


# what cannot be run on a cluster


@pytest.mark.parametrize("make", [lambda x: x, lambda x: pandas.DataFrame(x, columns=list("abcd"))])
def test_rows_in_memory_are_refused_with_what_to_write(local_ray, rows, make):
    with pytest.raises(
        UsageError, match=r"engine='ray' is for data in files; write the table as Parquet or .* np\.save"
    ):
        kofn.select(make(rows[:100]), 5, method="kmeans", engine="ray")


def test_ready_items_are_refused_because_they_were_opened_without_the_cluster(local_ray, folder):
    with pytest.raises(UsageError, match=r"engine='ray' is for data in files.*give their path"):
        kofn.select(kofn.open(folder), 5, method="kmeans", engine="ray")


@BOTH
def test_a_ray_dataset_is_refused_with_the_line_that_writes_it(local_ray, rows, engine):
    import ray.data

    dataset = ray.data.from_arrow(pa.table({"x": rows[:100, 0]}))
    with pytest.raises(UsageError, match=r"no stable row number.*dataset\.write_parquet\(folder\)"):
        kofn.select(dataset, 5, method="uniform", engine=engine)


def test_an_address_without_the_engine_is_refused(folder):
    with pytest.raises(UsageError, match="address='auto' is that of a Ray cluster; give it with engine='ray'"):
        pick(folder, address="auto")


def test_another_cluster_than_the_one_that_is_connected_is_refused(local_ray, folder):
    with pytest.raises(
        EngineError, match=r"connected to the Ray cluster at .*, not to 10\.0\.0\.1:6379; call ray\.shutdown"
    ):
        pick(folder, engine="ray", address="10.0.0.1:6379")


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nonsense"])
def test_a_cluster_that_is_not_there_is_an_error_that_says_how_to_start_one(folder, tmp_path, address, environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        where = address.format(port=taken.getsockname()[1])
        given = ["select", folder, "-k", "5", "--out", str(tmp_path / "o.npy"), "--engine", "ray", "--address", where]
        ran = subprocess.run(command(*given), capture_output=True, text=True, env=environment, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: no Ray cluster at '{where}' (")
    assert ran.stderr.strip().endswith(
        "); start one with: ray start --head, or give --address auto, local or host:port"
    )
    assert len(ran.stderr.splitlines()) == 1


WITHOUT = """
import json, sys
import kofn
folder, out = sys.argv[1:]
loaded = ["ray" in sys.modules]
picked = kofn.select(folder, 5, method="uniform")
loaded.append("ray" in sys.modules)
sys.modules["ray"] = None  # as where it is not installed
try:
    kofn.select(folder, 5, method="uniform", engine="ray")
except kofn.errors.MissingExtra as error:
    print(json.dumps({"loaded": loaded, "told": str(error), "picked": len(picked)}))
"""


def test_ray_is_loaded_when_it_is_asked_for_and_where_it_is_missing_the_command_is_told(folder, tmp_path, environment):
    assert script(environment, WITHOUT, folder, str(tmp_path)) == {
        "loaded": [False, False],
        "told": "engine='ray' needs Ray; install it: pip install 'kofn[ray]'",
        "picked": 5,
    }

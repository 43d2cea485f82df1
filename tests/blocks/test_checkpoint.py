"""What a checkpoint keeps, what it refuses, and that a run which goes on with one ends where it would have."""

import errno
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import kofn
from blocks.laying import normal, write_parquet
from kofn.blocks import Run
from kofn.blocks.checkpoint import Checkpoint, digest_of, write_atomically
from kofn.blocks.passes import remembered, run_pass
from kofn.core.block import SLAB
from kofn.errors import CheckpointError, DataError, OutputError
from kofn.rng import Rng

N = 3 * SLAB + 7
"""Rows of four slabs."""

ASKED = {"k": 5, "seed": 0}
STATE = {"x.parquet": "10 bytes"}


class Stop(Exception):
    """The run ends here."""


def begun(folder, state=STATE, asked=ASKED):
    checkpoint = Checkpoint(str(folder))
    checkpoint.begin(asked, state)
    return checkpoint


def tens(computed):
    """Work on slabs whose result is ten times their number; what was worked on is listed."""

    def compute(slabs):
        for slab in slabs:
            computed.append(slab)
            yield slab * 10

    return compute


def one_pass(folder, computed, *, identity=("sums",), state=STATE, **told):
    run = Run(1, checkpoint=begun(folder, state), **told)
    return list(run_pass(run, N, identity, tens(computed)))


def slab_files(folder):
    return sorted(path for path in folder.glob("*/pass-*/*") if path.name.isdigit())


def parts(folder):
    """Files that are not whole."""
    return [name for _, _, files in os.walk(folder) for name in files if name.endswith(".part")]


# one pass


def test_a_second_run_computes_nothing_that_the_first_has_finished(tmp_path):
    first, second = [], []
    assert one_pass(tmp_path, first) == one_pass(tmp_path, second) == [0, 10, 20, 30]
    assert (first, second) == ([0, 1, 2, 3], [])


def test_a_run_that_was_stopped_goes_on_behind_the_last_slab_it_kept(tmp_path):
    first, second = [], []
    ran = run_pass(Run(1, checkpoint=begun(tmp_path)), N, ("sums",), tens(first))
    assert [next(ran), next(ran)] == [0, 10]
    ran.close()
    assert one_pass(tmp_path, second) == [0, 10, 20, 30]
    assert (first, second) == ([0, 1], [2, 3])


def test_slabs_that_are_missing_anywhere_are_computed_and_no_others(tmp_path):
    one_pass(tmp_path, [])
    for at in (0, 2):
        slab_files(tmp_path)[0 if at == 0 else 1].unlink()
    again = []
    assert one_pass(tmp_path, again) == [0, 10, 20, 30]
    assert again == [0, 2]


def test_passes_are_told_apart_by_their_number_and_by_what_they_depend_on(tmp_path):
    checkpoint = begun(tmp_path)
    first = checkpoint.results_of_pass(("sums", np.arange(3)))
    other = begun(tmp_path).results_of_pass(("sums", np.arange(1, 4)))
    second = checkpoint.results_of_pass(("sums", np.arange(3)))
    assert len({first.folder, other.folder, second.folder}) == 3
    assert begun(tmp_path).results_of_pass(("sums", np.arange(3))).folder == first.folder


def test_runs_are_told_apart_by_what_was_asked(tmp_path):
    folders = {begun(tmp_path, asked={**ASKED, "seed": seed}).folder for seed in range(3)}
    assert len(folders) == 3


def test_a_report_of_a_pass_says_how_many_slabs_were_known(tmp_path):
    reports, told = [], []
    one_pass(tmp_path, [], ended=reports.append)
    slab_files(tmp_path)[1].unlink()
    one_pass(tmp_path, [], ended=reports.append, tell=lambda *words: told.append(words))
    assert [(each.number, each.rows, each.slabs, each.known, each.retries) for each in reports] == [
        (1, N, 4, 0, 0),
        (1, N, 4, 3, 0),
    ]
    assert told == [("pass 1", min(rows, N), N) for rows in (SLAB, 2 * SLAB, 3 * SLAB, N)]


def test_what_is_no_pass_is_kept_beside_the_passes_in_their_order(tmp_path):
    made = []

    def run(folder):
        run = Run(1, checkpoint=begun(folder))
        first = remembered(run, ("rows", 3), lambda: made.append("rows") or "rows")
        return first, list(run_pass(run, N, ("sums",), tens(made)))

    assert run(tmp_path) == run(tmp_path) == ("rows", [0, 10, 20, 30])
    assert made == ["rows", 0, 1, 2, 3]
    assert remembered(Run(1), ("rows", 3), lambda: 7) == 7


def test_what_fails_is_not_kept(tmp_path):
    def compute(slabs):
        for slab in slabs:
            if slab == 2:
                raise Stop
            yield slab * 10

    with pytest.raises(Stop):
        list(run_pass(Run(1, checkpoint=begun(tmp_path)), N, ("sums",), compute))
    again = []
    assert one_pass(tmp_path, again) == [0, 10, 20, 30]
    assert again == [2, 3]


@pytest.mark.parametrize("bit", [0, 7, 8 * 16, -1])
def test_a_slab_with_a_flipped_bit_is_made_anew(tmp_path, bit):
    one_pass(tmp_path, [])
    damaged = slab_files(tmp_path)[1]
    data = bytearray(damaged.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    damaged.write_bytes(data)
    again, third = [], []
    assert one_pass(tmp_path, again) == [0, 10, 20, 30]
    assert again == [1]
    assert one_pass(tmp_path, third) == [0, 10, 20, 30]
    assert third == []  # it was kept anew


@pytest.mark.parametrize("length", [0, 5, 16, 20])
def test_a_slab_that_was_cut_off_is_made_anew(tmp_path, length):
    one_pass(tmp_path, [])
    slab_files(tmp_path)[1].write_bytes(slab_files(tmp_path)[1].read_bytes()[:length])
    again = []
    assert one_pass(tmp_path, again) == [0, 10, 20, 30]
    assert again == [1]


def test_half_written_files_are_not_taken_for_slabs(tmp_path):
    one_pass(tmp_path, [])
    whole = slab_files(tmp_path)[3]
    whole.rename(whole.with_name(".abc.part"))
    again = []
    assert one_pass(tmp_path, again) == [0, 10, 20, 30]
    assert again == [3]


def test_a_slab_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    one_pass(tmp_path, [])
    slab = slab_files(tmp_path)[1]
    slab.unlink()
    slab.mkdir()
    with pytest.raises(CheckpointError, match=rf"{slab}.* cannot be read .*; delete it and run again"):
        one_pass(tmp_path, [])


# the state that it was begun with


def test_what_has_changed_is_named_with_what_it_was_and_what_it_is(tmp_path):
    begun(tmp_path)
    with pytest.raises(CheckpointError) as told:
        begun(tmp_path, {"x.parquet": "11 bytes"})
    text = str(told.value)
    assert "x.parquet has changed" in text
    assert "it was 10 bytes, it is 11 bytes" in text
    assert "give another --checkpoint, or delete" in text


@pytest.mark.parametrize("now", [{**STATE, "y.parquet": "1 byte"}, {}], ids=["a file more", "a file less"])
def test_other_files_are_refused(tmp_path, now):
    begun(tmp_path)
    with pytest.raises(CheckpointError, match="has changed since the run"):
        begun(tmp_path, now)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": 3}', '{"state": null}', "\ufeff\x00"])
def test_a_damaged_record_is_an_error_that_says_what_to_delete(tmp_path, text):
    record = begun(tmp_path).folder / "run.json"
    record.write_text(text)
    with pytest.raises(CheckpointError, match=f"run.json is damaged; delete {record.parent} and run again"):
        begun(tmp_path)


def test_slabs_made_from_another_state_are_never_taken(tmp_path):
    """As after a kill in the middle of the deletion: the record is gone, slabs are left, and the input has changed."""
    one_pass(tmp_path, [])
    next(tmp_path.glob("*/run.json")).unlink()
    again = []
    one_pass(tmp_path, again, state={"x.parquet": "11 bytes"})
    assert again == [0, 1, 2, 3]


def test_forgetting_a_run_leaves_the_others(tmp_path):
    first, other = begun(tmp_path), begun(tmp_path, asked={"seed": 1})
    first.forget()
    assert [path.name for path in tmp_path.iterdir()] == [other.folder.name]
    first.forget()  # again: nothing is left to be forgotten
    Checkpoint(str(tmp_path)).forget()  # nor before it has begun


def test_what_is_left_of_a_deletion_that_was_killed_is_swept_up(tmp_path, monkeypatch):
    checkpoint = begun(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *args, **kw: None)
        checkpoint.forget()
    assert not checkpoint.folder.exists()
    assert len(list(tmp_path.iterdir())) == 1
    begun(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.folder.name]


# two at once


def test_the_same_run_twice_at_the_same_time_gives_each_the_same(tmp_path):
    computed = [], []
    runs = [run_pass(Run(1, checkpoint=begun(tmp_path)), N, ("sums",), tens(each)) for each in computed]
    found = [[], []]
    for _ in range(4):
        for mine, run in zip(found, runs):
            mine.append(next(run))
    assert found == [[0, 10, 20, 30]] * 2
    assert not parts(tmp_path)


def test_a_run_survives_that_its_twin_deletes_what_it_works_with(tmp_path):
    one_pass(tmp_path, [])
    mine, twin = begun(tmp_path), begun(tmp_path)
    computed = []
    run = run_pass(Run(1, checkpoint=mine), N, ("sums",), tens(computed))
    assert next(run) == 0
    twin.forget()
    assert list(run) == [10, 20, 30]
    assert computed == [1, 2, 3]


def test_runs_with_different_seeds_side_by_side_in_one_folder(rows_in_file, tmp_path):
    alone = {seed: pick(rows_in_file, seed=seed) for seed in (1, 2)}
    beside = at_once([lambda seed=seed: pick(rows_in_file, seed=seed, checkpoint=tmp_path / "kept") for seed in (1, 2)])
    assert beside == [alone[1], alone[2]]


def test_the_same_call_twice_at_once_gives_the_same_picks_and_leaves_a_sound_folder(rows_in_file, tmp_path):
    alone = pick(rows_in_file)
    assert at_once([lambda: pick(rows_in_file, checkpoint=tmp_path / "kept")] * 3) == [alone] * 3
    reports = Reports()
    assert pick(rows_in_file, checkpoint=tmp_path / "kept", progress=reports) == alone
    assert all(each.known == each.slabs for each in reports.passes)


def at_once(calls):
    results = [None] * len(calls)

    def do(at):
        results[at] = calls[at]()

    threads = [threading.Thread(target=do, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


# no room


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_that_asks_for_room_and_leaves_nothing_half(tmp_path, monkeypatch, code):
    one_pass(tmp_path, [])
    slab_files(tmp_path)[2].unlink()

    def full(*args, **kw):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(
            OutputError, match=f"{os.strerror(code)}; free room and run again: what was finished is kept"
        ):
            one_pass(tmp_path, [])
    assert not parts(tmp_path)
    again = []
    assert one_pass(tmp_path, again) == [0, 10, 20, 30]
    assert again == [2]


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path):
    (tmp_path / "kept").write_text("")
    with pytest.raises(OutputError, match=r"could not be written: .*; give a folder that can be written to"):
        begun(tmp_path / "kept")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    write_atomically(tmp_path / "x", b"first")

    class Broken:
        def __len__(self):
            return 1

    with pytest.raises(TypeError):
        write_atomically(tmp_path / "x", Broken())
    assert (tmp_path / "x").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# digests


def test_digests_tell_values_apart_by_contents_type_and_shape():
    x = np.arange(6.0)
    values = [
        x, x.astype(np.float32), x.reshape(2, 3), x[::-1], (1, 2), [1, 2], ((1,), 2), {"a": 1}, {"b": 1}, None, "None", 1,
        1.0, True, "1", len, max, Rng(0), Rng(1), np.float32(1),
    ]  # fmt: skip
    assert len({digest_of(value) for value in values}) == len(values)
    assert digest_of(x) == digest_of(x.copy()) == digest_of(np.asfortranarray(x))
    assert digest_of(x[::2]) == digest_of(x[::2].copy())


# whole runs, by the front door


@pytest.fixture
def rows_in_file(tmp_path):
    return write_parquet(tmp_path / "x.parquet", normal(N, 4), group=50_000)


def pick(path, checkpoint=None, k=20, **given):
    """What a run picks, as bytes."""
    kept = None if checkpoint is None else str(checkpoint)
    settings = {"method": "kmeans", "sample": 0, "rounds": 3, **given}
    selection = kofn.select(path, k, threads=2, checkpoint=kept, **settings)
    return selection.indices.tobytes() + selection.weights.tobytes()


class Reports:
    """Progress that lists the reports of passes, and may end the run at a slab."""

    def __init__(self, stop=None):
        self.stop, self.slabs, self.passes = stop, 0, []

    def __call__(self, stage, done, total):
        self.slabs += stage.startswith("pass")
        if self.slabs == self.stop:
            raise Stop

    def pass_ended(self, report):
        self.passes.append(report)


@pytest.mark.parametrize("at", [1, 4, 6, 9])
def test_a_run_that_was_stopped_anywhere_picks_what_an_undisturbed_one_picks(rows_in_file, tmp_path, at):
    alone = pick(rows_in_file)
    with pytest.raises(Stop):
        pick(rows_in_file, checkpoint=tmp_path / "kept", progress=Reports(at))
    reports = Reports()
    assert pick(rows_in_file, checkpoint=tmp_path / "kept", progress=reports) == alone
    assert sum(each.known for each in reports.passes) == at


def test_a_damaged_slab_changes_no_pick(rows_in_file, tmp_path):
    alone = pick(rows_in_file, checkpoint=tmp_path / "kept")
    for at, slab in enumerate(slab_files(tmp_path / "kept")):
        data = bytearray(slab.read_bytes())
        data[at % len(data)] ^= 4
        slab.write_bytes(data)
    assert pick(rows_in_file, checkpoint=tmp_path / "kept") == alone


def rewrite(path):
    write_parquet(path, normal(N, 4, seed=1), group=50_000)


def shrink(path):
    write_parquet(path, normal(N - SLAB, 4), group=50_000)


def touch(path):
    """Other rows, and neither size nor footer says so."""
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"\0" * 8)


@pytest.mark.parametrize("change", [rewrite, shrink, touch])
def test_a_file_that_has_changed_is_refused_by_name(rows_in_file, tmp_path, change):
    pick(rows_in_file, checkpoint=tmp_path / "kept")
    change(rows_in_file)
    with pytest.raises(CheckpointError, match=r"x\.parquet has changed since the run .* began"):
        pick(rows_in_file, checkpoint=tmp_path / "kept")


def test_rows_to_have_that_have_changed_are_refused_by_name(rows_in_file, tmp_path):
    have = tmp_path / "have.txt"
    have.write_text("1\n2\n3\n")
    pick(rows_in_file, checkpoint=tmp_path / "kept", have=str(have))
    have.write_text("1\n2\n4\n")
    with pytest.raises(CheckpointError, match=r"have='.*have\.txt' has changed"):
        pick(rows_in_file, checkpoint=tmp_path / "kept", have=str(have))


@pytest.mark.parametrize(
    ("name", "place", "now"),
    [
        ("kofn", "kofn.gone_on.__version__", "99.0"),
        ("NumPy", "numpy.__version__", "1.26.0"),
        ("BLAS kernel", "kofn.gone_on.blas_kernel", lambda: "openblas 0.3.30 Nehalem"),
    ],
)
def test_other_versions_and_another_blas_kernel_are_refused_by_name(
    rows_in_file, tmp_path, monkeypatch, name, place, now
):
    pick(rows_in_file, checkpoint=tmp_path / "kept")
    monkeypatch.setattr(place, now)
    told = now if isinstance(now, str) else now()
    with pytest.raises(CheckpointError, match=f"^{name} has changed since the run .* began.*it is {told}"):
        pick(rows_in_file, checkpoint=tmp_path / "kept")


def test_a_checkpoint_of_rows_in_memory_or_of_ready_items_is_refused(rows_in_file, tmp_path):
    with pytest.raises(kofn.errors.UsageError, match="checkpoint is for data in files; write the table as Parquet"):
        pick(normal(100, 4), checkpoint=tmp_path / "kept")
    with pytest.raises(kofn.errors.UsageError, match=r"checkpoint is for data in files.*give their path"):
        pick(kofn.open(rows_in_file), checkpoint=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


# input that changes while it is read, corrupt input


class Meddling(Reports):
    """Progress that changes the input once the first pass is over."""

    def __init__(self, change, path):
        super().__init__()
        self.change, self.path = change, path

    def pass_ended(self, report):
        if report.number == 1:
            self.change(self.path)


@pytest.mark.parametrize("change", [rewrite, shrink, touch])
def test_a_file_that_changes_between_passes_is_an_error_that_names_it(rows_in_file, change):
    with pytest.raises(DataError, match=r"x\.parquet has changed since it was opened .*; run again"):
        pick(rows_in_file, progress=Meddling(change, rows_in_file))


def test_a_file_that_is_deleted_between_passes_is_an_error_that_names_it(rows_in_file):
    with pytest.raises(DataError, match=r"x\.parquet is not there"):
        pick(rows_in_file, progress=Meddling(os.unlink, rows_in_file))


# a full disk, by a limit of the system on the size of files

LIMITED = """
import json, os, resource, sys
import kofn
from kofn.errors import OutputError

path, folder, slabs = sys.argv[1], sys.argv[2], int(sys.argv[3])
settings = dict(method="kmeans", sample=0, rounds=3, threads=2)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

class Filling:
    def __init__(self, at):
        self.at, self.seen, self.known = at, 0, 0
    def __call__(self, stage, done, total):
        self.seen += stage.startswith("pass")
        if self.seen == self.at:
            limit(16)
    def pass_ended(self, report):
        self.known += report.known

alone = kofn.select(path, 20, **settings)  # and kernels are compiled
told = ""
try:
    kofn.select(path, 20, checkpoint=folder, progress=Filling(slabs), **settings)
except OutputError as error:
    told = str(error)
limit(resource.RLIM_INFINITY)
left = [name for _, _, files in os.walk(folder) for name in files]
again = Filling(-1)
picked = kofn.select(path, 20, checkpoint=folder, progress=again, **settings)
print(json.dumps({
    "told": told, "left": left, "known": again.known, "same": picked.indices.tolist() == alone.indices.tolist()
}))
"""


def test_a_disk_that_fills_while_slabs_are_kept_stops_the_run_and_a_later_one_goes_on(rows_in_file, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, rows_in_file, str(tmp_path / "kept"), "6"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert f"the checkpoint in '{tmp_path / 'kept'}' could not be written: File too large; free room" in found["told"]
    assert all(name == "run.json" or name.isdigit() for name in found["left"])
    assert found["known"] == 6
    assert found["same"]


WRITING = """
import resource, sys
from kofn.blocks import write
from kofn.cli import main

whole = write.write_whole

def with_little_room(*given, **named):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    whole(*given, **named)

if sys.argv[1] == "full":
    write.write_whole = with_little_room
sys.exit(main(sys.argv[2:]))
"""


def test_a_disk_that_fills_while_the_output_is_written_leaves_none_and_the_next_run_has_no_work_left(tmp_path):
    write_parquet(tmp_path / "x.parquet", normal(SLAB + 7, 4))

    def run(disk, out, *more):
        given = ["select", "x.parquet", "-k", "500", "--method", "kmeans", "--set", "sample=1", "--out", out, *more]
        command = [sys.executable, "-c", WRITING, disk, *given, "--json"]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    alone = run("empty", "alone.arrow")
    assert alone.returncode == 0, alone.stderr
    full = run("full", "o.arrow", "--checkpoint", "kept")
    assert full.returncode == 2, full.stderr
    assert "error: 'o.arrow' could not be written: File too large; free room or choose another folder" in full.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.arrow", "kept", "x.parquet"]
    again = run("empty", "o.arrow", "--checkpoint", "kept")
    assert again.returncode == 0, again.stderr
    passes = [json.loads(line) for line in again.stderr.splitlines() if line.startswith("{")]
    assert passes
    assert all(each["known"] == each["slabs"] for each in passes)
    assert (tmp_path / "o.arrow").read_bytes() == (tmp_path / "alone.arrow").read_bytes()
    assert not list((tmp_path / "kept").iterdir())

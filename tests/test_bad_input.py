"""Everything that a user can get wrong: one or two lines with the value and the mend, exit code 2, nothing written."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kofn.cli import main

N, D = 60, 4


def listing(folder):
    return sorted((str(path), path.is_file() and path.read_bytes()) for path in folder.rglob("*"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with ok.parquet: text, scores, groups and a 4-dimensional embedding in 3 row groups."""
    monkeypatch.chdir(tmp_path)
    write("ok.parquet")
    return tmp_path


@pytest.fixture
def refused(folder, capsys):
    """`refused(arguments, words...)`: the command fails with exactly such a message and leaves the folder as it was."""

    def check(arguments, *words):
        before = listing(folder)
        capsys.readouterr()
        code = main(arguments.split() if isinstance(arguments, str) else arguments)
        out, err = capsys.readouterr()
        assert code == 2, err
        assert out == ""
        assert err.startswith("error: ")
        assert len(err.splitlines()) <= 2
        assert "Traceback" not in err
        assert "Warning" not in err
        for word in words:
            assert word in err, f"{word!r} is not said: {err}"
        assert listing(folder) == before
        return err

    return check


def vectors(seed=0, rows=N):
    return np.random.default_rng(seed).normal(size=(rows, D)).astype(np.float32)


def as_lists(x):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(x).reshape(-1)), x.shape[1])


def write(name, **columns):
    usual = {
        "id": pa.array([f"r{row}" for row in range(N)]),
        "score": pa.array(np.linspace(0.1, 1, N)),
        "group": pa.array(["a", "b"] * (N // 2)),
        "embedding": as_lists(vectors()),
    }
    table = pa.table({key: values for key, values in {**usual, **columns}.items() if values is not None})
    pq.write_table(table, name, row_group_size=25)


def select(data, more="", k="5", out="o.parquet"):
    return f"select {data} -k {k} --out {out} {more}"


def test_the_usual_file_is_accepted(folder, capsys):
    assert main(select("ok.parquet", "--method kmeans").split()) == 0
    assert Path("o.parquet").exists()


# which data


def test_data_that_is_not_there(refused):
    refused(select("nofile.parquet"), "'nofile.parquet' does not exist", "give a file")
    refused(select("nofolder/x.npy"), "does not exist")
    refused(["select", "", "-k", "5", "--out", "o.parquet"], "path is empty", "give a file")
    refused(select("*.pq"), "no data file in '*.pq'", ".parquet")
    os.mkdir("bare")
    refused(select("bare"), "no data file in 'bare'", ".npy")
    refused(select("nowhere://bucket/x.parquet"), "cannot be opened", "nowhere")


def test_data_of_another_kind(refused):
    Path("words.txt").write_text("1 2 3\n")
    refused(select("words.txt"), "'words.txt'", "not of a kind", ".parquet", ".arrow", ".npy")


@pytest.mark.parametrize("name", ["empty.parquet", "empty.arrow", "empty.npy"])
def test_a_file_of_no_bytes(refused, name):
    Path(name).touch()
    refused(select(name), name, "empty (0 bytes)", "write it again")


def test_a_file_of_no_rows(refused):
    pq.write_table(pq.read_table("ok.parquet").slice(0, 0), "none.parquet")
    np.save("none.npy", np.zeros((0, D), np.float32))
    refused(select("none.parquet"), "none.parquet has no rows")
    refused(select("none.npy"), "none.npy has no rows")


def test_parquet_that_is_cut_off_or_no_parquet(refused):
    whole = Path("ok.parquet").read_bytes()
    Path("cut.parquet").write_bytes(whole[: len(whole) // 2])
    Path("other.parquet").write_text("hello " * 100)
    for name in ("cut.parquet", "other.parquet"):
        refused(select(name), f"{name} cannot be read", "is it whole")


def test_parquet_that_is_corrupt_inside(refused):
    whole = bytearray(Path("ok.parquet").read_bytes())
    metadata = pq.read_metadata("ok.parquet")
    chunk = metadata.row_group(1).column(3)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    for at in range(start, start + chunk.total_compressed_size):
        whole[at] ^= 0x5A
    Path("corrupt.parquet").write_bytes(bytes(whole))
    refused(select("corrupt.parquet", "--method kmeans"), "corrupt.parquet: row group", "cannot be read", "again")


def test_arrow_and_npy_that_are_cut_off(refused):
    table = pq.read_table("ok.parquet")
    with pa.ipc.new_file("cut.arrow", table.schema) as writer:
        writer.write_table(table)
    np.save("cut.npy", vectors())
    for name in ("cut.arrow", "cut.npy"):
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[: len(whole) - 10 * D * 4])
    refused(select("cut.arrow", "--method kmeans"), "cut.arrow", "whole")
    refused(select("cut.npy"), "cut.npy is cut off", "50 of its 60 rows", "write it again")


def test_npy_that_holds_no_matrix_of_numbers(refused):
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("complex.npy", vectors().astype(complex))
    np.save("flat.npy", vectors()[:, 0])
    np.save("fortran.npy", np.asfortranarray(vectors()))
    refused(select("objects.npy"), "objects.npy holds Python objects", "plain array")
    refused(select("words.npy"), "words.npy holds <U1", "float32")
    refused(select("complex.npy"), "complex128", "float32")
    refused(select("flat.npy"), "shape (60,)", "x[:, None]")
    refused(select("fortran.npy"), "Fortran", "np.ascontiguousarray")


def test_files_of_one_folder_that_do_not_match(refused):
    os.mkdir("both")
    write("both/a.parquet")
    write("both/b.parquet", score=None)
    refused(select("both", "--method uniform"), "b.parquet and a.parquet", "differ in score", "one schema")


# which columns


@pytest.mark.parametrize("role", ["score", "group", "label", "id"])
def test_a_column_that_is_not_there(refused, role):
    method = "top" if role == "score" else "uniform"
    refused(select("ok.parquet", f"--method {method} --{role} grup"), f"{role}='grup' is not a column", "group?")


def test_an_embedding_that_is_not_there(refused):
    refused(select("ok.parquet", "--embedding emb"), "embedding='emb' is not a column", "id, score, group, embedding")
    refused(select("ok.parquet", "--embedding pca_*"), "no column matches 'pca_*'", "columns: id")
    refused(select("ok.parquet", "--embedding id"), "'id' holds string", "list of numbers")
    refused(select("ok.parquet", "--embedding [is]*"), "'id' matches '[is]*' but holds string", "narrow")


def test_two_columns_that_could_be_the_embedding(refused):
    write("two.parquet", other=as_lists(vectors(1)))
    err = refused(select("two.parquet", "--method kmeans"), "2 columns", "embedding, other", "--embedding embedding")
    assert err == refused("plan two.parquet -k 5 --method kmeans")


def test_no_column_that_could_be_the_embedding(refused):
    write("none.parquet", embedding=None, score=None, group=None)
    refused(select("none.parquet", "--method kmeans"), "kmeans needs embeddings", "--embedding 'pca_*'", "uniform")
    write("words.parquet", embedding=pa.array([["a", "b"]] * N), score=None, group=None)
    refused(select("words.parquet", "--method kmeans"), "needs embeddings", "words.parquet")
    refused(select("words.parquet", "--method kmeans --embedding embedding"), "lists of string", "lists of numbers")


def test_lists_of_several_lengths(refused):
    lists = [[1.0, 2.0]] * N
    lists[33] = [1.0, 2.0, 3.0]
    write("ragged.parquet", embedding=pa.array(lists))
    words = "row 33 of 'embedding' has 3 numbers", "first row has 2", "same length"
    refused(select("ragged.parquet", "--method kmeans"), *words)
    refused("inspect ragged.parquet", *words)


def test_lists_of_no_numbers_and_columns_of_nothing_but_nulls(refused):
    write("length0.parquet", embedding=pa.array([[]] * N, pa.list_(pa.float32())))
    write("null.parquet", embedding=pa.array([None] * N, pa.list_(pa.float32())))
    refused(select("length0.parquet", "--method kmeans"), "vectors of length 0")
    refused(select("null.parquet", "--method kmeans"), "null in every row", "--embedding")


def test_binary_vectors_of_unknown_numbers(refused):
    write("binary.parquet", embedding=pa.array([bytes(10)] * N, pa.binary(10)))
    base = select("binary.parquet", "--method kmeans --embedding embedding")
    refused(base, "10 bytes a row", "--dtype float32")
    refused(base + " --dtype float32", "10 bytes a row", "float32's 4")
    refused(base + " --dtype float99", "'float99' is unknown", "float16, float32")


def test_a_group_that_names_no_groups(refused):
    refused(select("ok.parquet", "--method uniform --group embedding"), "group='embedding'", "names no groups", "text")


# which rows


def test_null_nan_and_infinity_in_the_embedding(refused):
    x = vectors()
    x[7, 1], x[9, 0], x[50] = np.nan, np.inf, -np.inf
    write("invalid.parquet", embedding=as_lists(x))
    words = "3 of 60 rows hold null, NaN or infinity", "first at row 7 (invalid.parquet)", "--invalid drop"
    refused(select("invalid.parquet", "--method kmeans"), *words)
    lists = [[1.0, float(row)] for row in range(N)]
    write("null.parquet", embedding=pa.array([*lists[:40], None, [1.0, None], *lists[42:]], pa.list_(pa.float32())))
    refused(select("null.parquet", "--method kmeans"), "2 of 60 rows", "first at row 40 (null.parquet)")


def test_the_file_of_several_that_holds_the_first_invalid_row_is_named(refused):
    os.mkdir("parts")
    x = vectors()
    x[9, 0] = np.nan
    write("parts/a.parquet")
    write("parts/b.parquet", embedding=as_lists(x))
    refused(select("parts", "--method kmeans"), "1 of 120 rows", "first at row 69 (row 9 of b.parquet)")


def test_numbers_beyond_float32_are_infinite(refused):
    write("huge.parquet", embedding=as_lists(vectors().astype(np.float64) * 1e300))
    refused(select("huge.parquet", "--method kmeans"), "60 of 60 rows", "infinity")
    refused(select("huge.parquet", "--method kmeans --invalid drop"), "all 60 rows", "nothing is left")


def test_zero_vectors_under_cosine(refused):
    x = vectors()
    x[13] = 0
    write("zero.parquet", embedding=as_lists(x))
    words = "1 of 60 rows", "zero vectors", "no direction", "row 13 (zero.parquet)", "--invalid drop"
    refused(select("zero.parquet", "--method kmeans --metric cosine"), *words)


# which scores


def test_scores_that_are_no_numbers(refused):
    refused(select("ok.parquet", "--method top --score id"), "score='id' holds string", "numeric column")
    refused(select("ok.parquet", "--method top --score embedding"), "not numbers", "numeric column")


def test_scores_with_null_nan_and_infinity(refused):
    write("holes.parquet", score=pa.array([1.0] * 30 + [None, float("nan"), float("inf")] + [1.0] * 27))
    words = "3 of 60 rows", "first at row 30 (holes.parquet)", "--invalid drop"
    for method in ("top", "uniform", "sensitivity"):
        refused(select("holes.parquet", f"--method {method} --score score"), "scores", *words)


def test_scores_that_are_no_distribution(refused):
    write("negative.parquet", score=pa.array([1.0] * 20 + [-2.5] + [1.0] * 39))
    write("zeros.parquet", score=pa.array([0.0] * N))
    write("few.parquet", score=pa.array([1.0] * 3 + [0.0] * 57))
    given = "--method uniform --score score"
    refused(select("negative.parquet", given), "score -2.5 of row 20 is negative", "0 or more", "--method top")
    refused(select("zeros.parquet", given), "all scores are 0", "k=5")
    refused(select("few.parquet", given), "only 3 rows have a score above 0", "k=5")


def test_a_score_that_the_method_does_not_read_and_one_that_it_lacks(refused):
    refused(select("ok.parquet", "--method kmeans --score score"), "kmeans cannot use scores", "leave them out")
    refused(select("ok.parquet", "--method top"), "top needs scores", "--score")


# how many


@pytest.mark.parametrize(
    ("k", "words"),
    [
        ("0", ("k=0 ", "at least 1")),
        ("-3", ("k=-3 ", "at least 1")),
        ("many", ("'many'", "whole number")),
        ("0%", ("k=0%", "more than 0%")),
        ("120%", ("k=120%", "at most 100%")),
        ("1.0", ("k=1.0", "whole number")),
        ("2.5", ("k=2.5", "whole number")),
        ("nan", ("nan", "whole number")),
        ("61", ("k=61 is more than the 60 rows", "at most 60")),
    ],
)
@pytest.mark.parametrize("command", ["select ok.parquet --out o.parquet", "plan ok.parquet"])
def test_a_number_of_rows_that_cannot_be(refused, command, k, words):
    refused([*command.split(), "--method", "uniform", "-k", k], *words)


# which method, with which parameters


def test_a_method_that_does_not_exist(refused):
    refused(select("ok.parquet", "--method unifrm"), "'unifrm' is unknown", "did you mean uniform", "kofn methods")
    refused(select("ok.parquet", "--method zzz"), "'zzz' is unknown", "uniform, top", "kofn methods")
    refused("methods kcentre", "'kcentre' is unknown", "kcenter")


def test_a_parameter_that_does_not_exist(refused):
    given = "--method kmeans --set clusters=3"
    refused(select("ok.parquet", given), "no parameter 'clusters'", "rounds: int = 10", "metric: str = euclidean")
    refused(select("ok.parquet", "--method top --score score --set a=1"), "top has no parameter 'a'", "takes none")
    refused(select("ok.parquet", "--set rounds=3"), "--set needs to know the method", "--method NAME")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rounds=-1", ("rounds=-1", "out of range", "from 0 to 10000")),
        ("tolerance=7", ("tolerance=7", "out of range", "from 0 to 1")),
        ("tolerance=nan", ("tolerance=nan", "from 0 to 1")),
        ("rounds=abc", ("rounds='abc'", "int", "--set rounds=200")),
        ("rounds=1.5", ("rounds='1.5'", "int")),
        ("rounds=", ("rounds=''", "int")),
        ("rounds", ("'rounds' is not NAME=VALUE", "--set clusters=200")),
        ("metric=l1", ("metric is an option of its own", "--metric l1")),
        ("rounds=1 --set rounds=2", ("rounds is given twice",)),
    ],
)
def test_a_parameter_with_a_wrong_value(refused, setting, words):
    refused(select("ok.parquet", f"--method kmeans --set {setting}"), *words)


def test_a_metric_that_does_not_exist_or_is_not_used(refused):
    refused(select("ok.parquet", "--method kmeans --metric l1"), "metric='l1' is unknown", "euclidean, cosine")
    refused(select("ok.parquet", "--method uniform --metric cosine"), "uniform has no parameter 'metric'")


def test_a_choice_that_does_not_exist(refused):
    refused(select("ok.parquet", "--method uniform --set allocation=3"), "allocation='3'", "proportional, equal")
    refused(select("ok.parquet", "--method uniform --order best"), "'best' is unknown", "rank or input")
    refused(select("ok.parquet", "--method uniform --invalid mend"), "'mend' is unknown", "'error' or 'drop'")


# how to run it


def test_options_of_the_run_that_cannot_be(refused):
    base = select("ok.parquet", "--method uniform")
    refused(base + " --seed -1", "seed=-1", "seed=0")
    refused(base + " --seed x", "--seed", "'x' is not a whole number", "kofn select --help")
    refused(base + " --threads 0", "threads=0", "at least 1")
    refused(base + " --threads two", "--threads", "'two' is not a whole number")
    refused(base + " --memory lots", "memory='lots'", "2GiB")
    refused(base + " --memory 0", "memory='0'", "2GiB")


def test_memory_that_is_too_small(refused):
    words = (
        "kmeans needs 2",
        "memory is 1 KiB",
        "give --memory 3MiB",
        "streams (uniform",
        "sensitivity",
        "can be split (",
        "kcenter",
    )
    refused(select("ok.parquet", "--method kmeans --memory 1KiB"), *words)
    refused("plan ok.parquet -k 5 --method kmeans --memory 1KiB", *words)
    given = "--method kcenter --memory 1KiB"
    refused(select("ok.parquet", given), "kcenter does not fit", "streams (uniform, ", "is enough")


def test_usage_that_the_parser_refuses(refused):
    refused("select ok.parquet --out o.parquet", "Missing option '-k'", "kofn select --help")
    refused("select ok.parquet -k 5", "Missing option '--out'")
    refused("select -k 5 --out o.parquet", "Missing argument 'DATA'")
    refused(select("ok.parquet", "--bogus 1"), "No such option: --bogus", "kofn select --help")
    refused("selct ok.parquet", "No such command 'selct'", "select", "kofn --help")


# which rows are there already


def test_rows_had_that_cannot_be_read(refused):
    base = select("ok.parquet", "--method uniform")
    refused(base + " --have nofile.txt", "have='nofile.txt'", "neither a column nor a file", "give")
    Path("words.txt").write_text("r1\nr2\n")
    refused(base + " --have words.txt", "have='words.txt' holds no row numbers", "--id COL")
    Path("halves.txt").write_text("1.5\n")
    refused(base + " --have halves.txt", "no row numbers")
    Path("bytes.bin").write_bytes(bytes(range(256)))
    refused(base + " --have bytes.bin", "have='bytes.bin' cannot be read as text", "one a line")
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(base + " --have objects.npy", "have='objects.npy' cannot be read")
    refused(base + " --have ok.parquet", "have='ok.parquet' holds no kofn_index", "--id COL")


def test_rows_had_that_are_not_there(refused):
    base = select("ok.parquet", "--method uniform")
    Path("far.txt").write_text("1\n200\n")
    Path("minus.txt").write_text("-1\n")
    refused(base + " --have far.txt", "have names row 200", "0 to 59", "row numbers of this data")
    refused(base + " --have minus.txt", "have names row -1", "0 to 59")
    Path("strangers.txt").write_text("r1\nzz\n")
    refused(base + " --have strangers.txt --id id", "1 ids of have are not in column 'id'", "'zz'")


def test_rows_had_that_leave_nothing_to_choose(refused):
    Path("all.txt").write_text("\n".join(str(row) for row in range(N)))
    refused(select("ok.parquet", "--method uniform --have all.txt"), "have holds all 60 rows", "nothing is left")
    Path("most.txt").write_text("\n".join(str(row) for row in range(N - 3)))
    refused(select("ok.parquet", "--method uniform --have most.txt"), "k=5 is more than the 3 rows", "at most 3")


# where it goes


def test_an_output_that_exists_is_kept(refused):
    Path("o.parquet").write_text("mine")
    refused(select("ok.parquet"), "'o.parquet' exists", "another name", "--force")


def test_data_are_never_overwritten(refused):
    words = "'ok.parquet' is a file that is read here", "another name"
    refused(select("ok.parquet", "--method uniform --force", out="ok.parquet"), *words)
    refused(select("*.parquet", "--method uniform --force", out="ok.parquet"), *words)


def test_an_output_that_cannot_be(refused):
    os.mkdir("inside")
    Path("words.txt").touch()
    refused(select("ok.parquet", out="no/where/o.parquet"), "'no/where' does not exist", "mkdir -p no/where")
    refused(select("ok.parquet", out="words.txt/o.parquet"), "'words.txt' is a file, not a folder")
    refused(select("ok.parquet", out="inside"), "'inside' is a folder", "inside/subset.parquet")
    refused(select("ok.parquet", out="o.xlsx"), "'o.xlsx' ends in '.xlsx'", ".parquet, .arrow, .csv")
    refused(select("ok.parquet", out="o"), "'o' has no ending", ".parquet")


def test_a_report_that_cannot_be(refused):
    Path("mine.html").write_text("mine")
    given = "--method uniform --report"
    refused(select("ok.parquet", f"{given} page.txt"), "'page.txt' ends in '.txt'", ".html")
    refused(select("ok.parquet", f"{given} mine.html"), "'mine.html' exists", "--force")


def test_a_folder_that_cannot_be_written_to(refused, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(select("ok.parquet"), "cannot be written to", "choose another")


def test_a_disk_that_fills_up_at_the_last_moment(refused, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(select("ok.parquet", "--method uniform"), "'o.parquet' could not be written: No space left", "free room")


def test_a_file_that_grows_beyond_what_the_disk_takes(folder):
    write("long.parquet", id=pa.array([f"{row} " * 2000 for row in range(N)]))
    before = listing(folder)
    code = """
import resource
from kofn.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
for ending in ("parquet", "arrow", "csv", "jsonl", "npy"):
    print(main(f"select long.parquet -k 50 --method uniform --out o.{ending}".split()))
"""
    run = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "2\n" * 5
    assert run.stderr.splitlines() == [
        f"error: 'o.{ending}' could not be written: File too large; free room or choose another folder"
        for ending in ("parquet", "arrow", "csv", "jsonl", "npy")
    ]
    assert listing(folder) == before


# Ctrl-C

WATCHED = """
import sys, time
import kofn.blocks.write as write
from kofn.cli import main
from kofn.progress import Progress

def tell(*words):
    print(*words, file=sys.stderr, flush=True)

def slowly(table, file):
    file.write(b"half of it")
    file.flush()
    tell("writing")
    time.sleep(60)

if sys.argv[1] == "choosing":
    Progress.__call__ = lambda self, stage, done, total: tell(stage)
else:
    write._parquet = slowly
sys.exit(main(sys.argv[2:]))
"""


def interrupted(run):
    """What a run says once it is stopped. Python drops an interrupt that falls into a finaliser: people press again."""
    for _ in range(6):
        run.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return run.communicate(timeout=10)
    raise AssertionError("Ctrl-C does not end the run")


@pytest.mark.parametrize("moment", ["choosing", "writing"])
def test_ctrl_c_ends_the_run_and_leaves_nothing(folder, moment):
    np.save("many.npy", vectors(rows=150_000))
    more = "--method kmeans --set sample=0 --set rounds=10000 --set tolerance=0" if moment == "choosing" else ""
    arguments = select("many.npy", more or "--method uniform", k="20").split()
    before = listing(folder)
    command = [sys.executable, "-c", WATCHED, moment, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stderr.readline()  # it is at work
        out, err = interrupted(run)
    assert run.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "stopped; nothing was written"
    assert "Traceback" not in err
    assert listing(folder) == before


# features, CSV and JSONL


def write_table_without_vectors():
    write(
        "plain.parquet",
        embedding=None,
        x=pa.array(vectors()[:, 0]),
        comment=pa.array([f"all of {row} words" for row in range(N)]),
    )


def test_features_that_are_no_columns_or_of_no_use(refused):
    write_table_without_vectors()
    refused(select("plain.parquet", "--features x,scor"), "features='scor' is not a column", "did you mean score")
    refused(
        select("plain.parquet", "--features x,comment"), "column 'comment' cannot be used (free text)", "leave it out"
    )
    refused(select("plain.parquet", "--features id"), "column 'id' cannot be used (unique)")
    refused(select("plain.parquet", "--features x,group --label group"), "'group' cannot be used (the label)")
    refused(select("plain.parquet", "--features x,x"), "features name 'x' twice")
    refused(select("plain.parquet", "--features x,"), "features='' is not a column")
    refused(select("ok.parquet", "--features embedding"), "'embedding' cannot be used (a list)")


def test_features_beside_an_embedding_or_without_a_table(refused):
    np.save("x.npy", vectors())
    refused(select("ok.parquet", "--features score --embedding embedding"), "features and embedding", "leave one out")
    refused(
        select("x.npy", "--features auto"), "no column of x.npy can be used: embedding (a list)", "--method uniform"
    )


def test_tables_of_which_no_column_can_be_a_feature(refused):
    write("words.parquet", embedding=None, score=None, group=None)
    refused(
        select("words.parquet", "--features auto"), "no column of words.parquet can be used: id (unique)", "uniform"
    )
    refused(select("words.parquet", "--method kmeans"), "needs embeddings", "or can be a feature: id (unique)")


def test_features_that_hold_infinity(refused):
    write("inf.parquet", embedding=None, x=pa.array([1.0, float("inf")] * (N // 2)))
    refused(select("inf.parquet", "--method kmeans"), "30 of 60 rows", "infinity", "row 1", "--invalid drop")


def test_csv_and_jsonl_that_do_not_hold_together(refused):
    Path("ragged.csv").write_text("a,b\n" + "1,2\n" * 50 + "1,2,3\n")
    refused(select("ragged.csv"), "ragged.csv: line 52 has not the 2 fields of the header but 3", "mend it")
    Path("latin.csv").write_bytes(b"name,b\n" + "Zürich,2\n".encode("latin-1"))
    refused(select("latin.csv"), "latin.csv is not UTF-8", "save it as UTF-8")
    Path("broken.jsonl").write_text('{"a": 1}\n' * 9 + '{"a": \n')
    refused(select("broken.jsonl"), "broken.jsonl: line 10 cannot be read", "one JSON object")
    Path("list.jsonl").write_text("[1, 2]\n")
    refused(select("list.jsonl"), "list.jsonl: line 1 cannot be read", "one JSON object")
    Path("bare.csv").write_text("a,b\n")
    refused(select("bare.csv"), "bare.csv has no rows")
    Path("empty.csv").touch()
    refused(select("empty.csv"), "empty.csv is empty (0 bytes)")


def test_an_output_in_text_cannot_be_verified(refused):
    assert main(select("ok.parquet", out="picks.csv").split()) == 0
    refused("verify picks.csv ok.parquet", "'picks.csv' carries no provenance", ".parquet")

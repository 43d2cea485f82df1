"""Files are found as in a shell, and numbered by their path."""

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from kofn.blocks.dataset import Dataset
from kofn.blocks.paths import find_files
from kofn.errors import DataError, KofnError, UsageError

LAID = [
    "b.parquet", "a.npy", "B.arrow", "c10.pq", "c9.parquet", "notes.txt", "model.parquet.bak", ".hidden.parquet",
    "_metadata.parquet", "deep/z.parquet", "deep/er/y.feather", "deep/er/x.ipc", ".git/x.parquet", "_tmp/x.parquet",
    "deep/.cache/x.parquet", "out.parquet/part-1.parquet", "out.parquet/part-0.parquet", "out.parquet/_SUCCESS",
]  # fmt: skip


def lay(folder, names=LAID):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def names_of(path):
    return [name for _, name in find_files(str(path))[1]]


def test_a_folder_gives_its_data_files_in_order_of_their_path_but_for_hidden_ones(tmp_path):
    expected = [
        "B.arrow", "a.npy", "b.parquet", "c10.pq", "c9.parquet", "deep/er/x.ipc", "deep/er/y.feather", "deep/z.parquet",
        "out.parquet/part-0.parquet", "out.parquet/part-1.parquet",
    ]  # fmt: skip
    assert names_of(lay(tmp_path)) == expected
    assert names_of(f"{tmp_path}/") == expected


def test_hidden_is_what_is_hidden_below_the_folder_that_was_named(tmp_path):
    folder = lay(tmp_path / ".cache" / "_data", ["a.parquet", ".b.parquet"])
    assert names_of(folder) == ["a.parquet"]
    assert names_of(folder / ".b.parquet") == [".b.parquet"]


GLOBS = {
    "*.parquet": ["b.parquet", "c9.parquet", "out.parquet/part-0.parquet", "out.parquet/part-1.parquet", "_metadata.parquet"],
    "c?.parquet": ["c9.parquet"],
    "c*": ["c10.pq", "c9.parquet"],
    "[ab].*": ["a.npy", "b.parquet"],
    "deep/*": ["z.parquet"],
    "deep/**/*.feather": ["er/y.feather"],
    "**/[xz].*": ["deep/er/x.ipc", "deep/z.parquet", "_tmp/x.parquet"],
    "**/part-*.parquet": ["out.parquet/part-0.parquet", "out.parquet/part-1.parquet"],
    "d*p/e*/*": ["deep/er/x.ipc", "deep/er/y.feather"],
    ".hid*": [".hidden.parquet"],
}  # fmt: skip


@pytest.fixture(scope="module")
def in_memory():
    memory = fsspec.filesystem("memory")
    for name in LAID:
        memory.pipe(f"/data/{name}", b"x")
    yield "memory://data"
    memory.rm("/data", recursive=True)


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_glob_gives_what_a_shell_would_on_every_filesystem(tmp_path, in_memory, pattern):
    lay(tmp_path)
    assert names_of(f"{tmp_path}/{pattern}") == sorted(GLOBS[pattern])
    assert names_of(f"file://{tmp_path}/{pattern}") == sorted(GLOBS[pattern])
    assert names_of(f"{in_memory}/{pattern}") == sorted(GLOBS[pattern])


def test_folders_and_files_of_other_filesystems_are_those_of_the_disk(tmp_path, in_memory):
    lay(tmp_path)
    for uri in (in_memory, f"{in_memory}/", "memory:///data", f"file://{tmp_path}"):
        assert names_of(uri) == names_of(tmp_path)
    assert names_of(f"{in_memory}/deep/z.parquet") == ["z.parquet"]
    assert names_of(f"{in_memory}/out.parquet") == ["part-0.parquet", "part-1.parquet"]


def test_rows_are_read_through_fsspec(in_memory):
    memory = fsspec.filesystem("memory")
    for year, start in (("2023", 0), ("2024", 5)):
        with memory.open(f"/rows/year={year}/a.parquet", "wb") as file:
            pq.write_table(pa.table({"row": np.arange(start, start + 5)}), file)
    for path in ("memory://rows", "memory://rows/*/a.parquet", "memory://rows/year=*/*.parquet"):
        dataset = Dataset.open(path)
        assert dataset.names == ["year=2023/a.parquet", "year=2024/a.parquet"]
        table = dataset.take(np.array([7, 0]))
        assert table.to_pydict() == {"row": [7, 0], "year": ["2024", "2023"]}
    memory.rm("/rows", recursive=True)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    lay(tmp_path, ["run[1].parquet", "run1.parquet", "what?.npy"])
    assert names_of(tmp_path / "run[1].parquet") == ["run[1].parquet"]
    assert names_of(tmp_path / "what?.npy") == ["what?.npy"]
    assert names_of(tmp_path / "run[12].parquet") == ["run1.parquet"]


def test_a_path_with_a_tilde_or_a_relative_one_is_found(tmp_path, monkeypatch):
    lay(tmp_path, ["sub/a.parquet"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names_of("~/sub") == ["a.parquet"]
    monkeypatch.chdir(tmp_path)
    for path in ("sub", "./sub", "sub/a.parquet", "sub/*.parquet", "../" + tmp_path.name + "/sub"):
        assert names_of(path) == ["a.parquet"]
    assert names_of(".") == ["sub/a.parquet"]
    assert names_of("*/a.parquet") == ["sub/a.parquet"]


def test_the_filesystem_of_a_plain_path_is_the_disk(tmp_path):
    filesystem, ((path, name),) = find_files(str(lay(tmp_path, ["a.npy"])))
    assert isinstance(filesystem, fs.LocalFileSystem)
    assert path == f"{tmp_path}/a.npy"
    assert name == "a.npy"


MISTAKES = {
    "nowhere.parquet": (DataError, "does not exist"),
    "nowhere/*.parquet": (DataError, "no data file in"),
    "notes.txt": (UsageError, r"not of a kind.*\.parquet.*\.npy"),
    "empty": (DataError, "no data file in"),
    "*.csv": (DataError, "no data file in"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_found_is_an_error_that_repeats_the_path(tmp_path, name):
    lay(tmp_path)
    (tmp_path / "empty").mkdir()
    error, words = MISTAKES[name]
    with pytest.raises(error, match=words) as caught:
        find_files(f"{tmp_path}/{name}")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["", "   ", "nonsense://x/y.parquet", "s3a b://x", "memory://no-such-folder"])
def test_an_address_that_leads_nowhere_is_an_error(uri):
    with pytest.raises(KofnError):
        find_files(uri)

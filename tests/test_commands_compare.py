"""`kofn compare` as it is typed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kofn.cli import main


@pytest.fixture
def data(tmp_path, monkeypatch):
    """x.parquet in the current folder: 150 rows in three clouds, with the cloud's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    x = np.random.default_rng(0).normal(size=(150, 3)) + 8 * np.eye(3)[np.arange(150) % 3]
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float32).reshape(-1)), 3)
    pq.write_table(pa.table({"emb": column, "cloud": [f"cloud {at % 3}" for at in range(150)]}), "x.parquet")


def run(capsys, *arguments):
    capsys.readouterr()
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_compare_prints_the_tables_and_how_many_and_writes_runs_and_page(data, capsys):
    code, out, err = run(
        capsys, "x.parquet", "-k", "5,20", "--methods", "kcenter,top", "--label", "cloud", "--seeds", "2",
        "--out", "runs.parquet", "--report", "page.html",
    )  # fmt: skip
    assert (code, err) == (0, "wrote runs.parquet and page.html\n")
    for words in ("k=5", "k=20", "uniform", "kcenter", "all rows", "How many do I need?", "90% of the coverage gain",
                  "not run: top, k = 5, 20: top needs scores", "rows were set aside by row hash", "peak memory"):  # fmt: skip
        assert words in out
    runs = pq.read_table("runs.parquet").to_pylist()
    assert {run["method"] for run in runs} == {"uniform", "kcenter", "all rows"}
    assert {run["k"] for run in runs if run["metric"] == "seconds"} == {5, 20}
    page = Path("page.html").read_text()
    assert "kofn compare x.parquet -k 5,20 --methods kcenter,top --seeds 2 --label cloud" in page


def test_json_holds_the_documented_keys(data, capsys):
    code, out, _ = run(capsys, "x.parquet", "-k", "10%,20", "--methods", "kcenter", "--seeds", "1", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {
        "out", "report", "facts", "k", "seeds", "figures", "summary", "best", "enough", "failures",
    }  # fmt: skip
    assert found["k"] == [15, 20]
    assert set(found["summary"][0]) == {"method", "k", "metric", "mean", "error", "runs"}
    assert {each["method"] for each in found["enough"]} == {"uniform", "kcenter"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-k", ","], "-k ',' is empty"),
        (["-k", "151"], "151"),
        (["-k", "5", "--methods", "kcentre"], "did you mean kcenter"),
        (["-k", "5", "--label", "colour"], "colour"),
        (["-k", "5", "--out", "runs.npy"], "npy"),
        (["-k", "5", "--report", "page.txt"], ".html"),
    ],
)
def test_mistakes_are_said_in_a_line_or_two_before_anything_is_run(data, capsys, arguments, said):
    code, out, err = run(capsys, "x.parquet", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") <= 2

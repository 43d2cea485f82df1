"""The command on a cluster: the same bytes as on one machine, and what it says on its way."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from blocks.laying import normal, table_of
from kofn.cli import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two files with a list, texts and numbers beside the vectors, five blocks of rows."""
    folder = tmp_path_factory.mktemp("data")
    for at, n in enumerate((180_000, 130_000)):
        x = normal(n, 4, seed=at)
        columns = {"name": [f"row {row}" for row in range(n)], "tags": [[row, row + 1] for row in range(n)]}
        pq.write_table(table_of(x, **columns), folder / f"part-{at}.parquet", row_group_size=50_000)
    return str(folder)


@pytest.mark.parametrize("order", ["rank", "input"])
def test_the_written_file_has_the_same_bytes_as_that_of_one_machine(local_ray, data, tmp_path, order):
    said = ["select", data, "-k", "300", "--method", "sensitivity", "--seed", "3", "--order", order]
    assert main([*said, "--out", str(tmp_path / "a.parquet")]) == 0
    assert main([*said, "--out", str(tmp_path / "b.parquet"), "--engine", "ray"]) == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert main(["verify", str(tmp_path / "b.parquet"), data, "--rerun"]) == 0


def test_json_says_a_line_for_every_pass_on_stderr(local_ray, data, tmp_path, capsys):
    said = ["select", data, "-k", "20", "--method", "kmeans++", "--engine", "ray", "--json"]
    assert main([*said, "--out", str(tmp_path / "a.parquet")]) == 0
    found = capsys.readouterr()
    answer = json.loads(found.out)
    lines = [json.loads(line) for line in found.err.splitlines() if line.startswith("{")]
    assert [line["pass"] for line in lines] == list(range(1, len(lines) + 1))
    assert {(line["rows"], line["slabs"], line["known"], line["retries"]) for line in lines} == {(310_000, 5, 0, 0)}
    assert all(line["seconds"] > 0 and line["rows_per_second"] > 0 for line in lines)
    assert answer["n"] == 310_000


def test_a_checkpoint_is_gone_when_the_output_is_written_and_used_before(
    local_ray, data, tmp_path, capsys, monkeypatch
):
    kept = tmp_path / "kept"
    said = ["select", data, "-k", "20", "--method", "kmeans++", "--json", "--checkpoint", str(kept)]
    with monkeypatch.context() as patched:
        patched.setattr("kofn.blocks.write.write_table", no_room)
        assert main([*said, "--out", str(tmp_path / "a.parquet"), "--engine", "ray"]) == 2
    capsys.readouterr()
    assert list(kept.iterdir())
    assert main([*said, "--out", str(tmp_path / "a.parquet")]) == 0  # on the other engine
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert all(line["known"] == line["slabs"] for line in lines)
    assert not [path for path in kept.iterdir() if not path.name.startswith(".")]
    x = pq.read_table(tmp_path / "a.parquet")
    assert len(np.unique(x.column("kofn_index"))) == 20


def no_room(*args, **kw):
    from kofn.errors import OutputError

    raise OutputError("no room")

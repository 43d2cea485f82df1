"""The command line itself: help that reads well and comes at once, exit codes, what goes where, documented JSON."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn import cli
from kofn.cli import main

ROOT = Path(__file__).parent.parent
COMMANDS = ("select", "compare", "estimate", "plan", "inspect", "methods", "verify", "report", "demo")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """x.parquet in the current folder: 300 rows of a 4-dimensional embedding, with text and scores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    table = pa.table(
        {
            "text": pa.array([f"row {row}" for row in range(300)]),
            "score": pa.array(np.linspace(0, 1, 300)),
            "emb": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 4),
        }
    )
    pq.write_table(table, "x.parquet", row_group_size=100)
    return table


def run(capsys, arguments):
    capsys.readouterr()
    code = main(arguments.split())
    out, err = capsys.readouterr()
    return code, out, err


# help


def test_help_fits_80_columns_and_names_every_command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ("--help", *(f"{command} --help" for command in COMMANDS)):
        code, out, err = run(capsys, arguments)
        assert (code, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        assert "[bold]" not in out
    _, out, _ = run(capsys, "--help")
    assert "..." not in out.split("Commands:")[1]  # no summary is cut short
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", out, re.MULTILINE)


def test_every_option_says_what_it_is(capsys):
    for command in COMMANDS:
        _, out, _ = run(capsys, f"{command} --help")
        for line in re.findall(r"^  (-.*)$", out, re.MULTILINE):
            assert re.search(r"\S {2,}\S", line), f"{command}: {line} has no help"


def test_help_loads_neither_numpy_nor_rich():
    code = (
        "import sys, io; sys.stdout = io.StringIO(); from kofn.cli import main; main(['--help']); main(['select', '--help']);"
        "print(sorted({'numpy', 'rich', 'pyarrow', 'numba', 'scipy', 'pygments'} & set(sys.modules)), file=sys.stderr)"
    )
    heavy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stderr
    assert heavy == "[]\n"


def test_plan_takes_the_options_of_select_but_those_that_only_write(capsys):
    def options(command):
        return set(re.findall(r"\n  (--?[\w-]+)", help_of(command, capsys)))

    writing = {"--out", "--order", "--force", "--report", "--show", "--layout"}
    texts = {"--text", "--model"}
    running = {"--address", "--checkpoint"}
    assert (
        options("select") - options("plan") == writing | texts | running
    )  # the vectors of texts must be made before they are planned on
    assert options("plan") <= options("select")


def help_of(command, capsys):
    return run(capsys, f"{command} --help")[1]


def test_no_arguments_print_the_help_and_no_error(capsys):
    code, out, err = run(capsys, "")
    assert code == 2
    assert out == ""
    assert err.startswith("Usage: kofn")
    assert "error" not in err


def test_the_version_is_the_package_s(capsys):
    assert run(capsys, "--version") == (0, f"kofn {kofn.__version__}\n", "")


# exit codes


def test_a_fault_of_ours_is_said_in_two_lines_and_shown_with_debug(capsys, data, monkeypatch):
    def broken(*args, **kw):
        raise RuntimeError("a bug")

    monkeypatch.setattr("kofn.front.choose", broken)
    arguments = "select x.parquet -k 5 --method uniform --out o.parquet"
    code, out, err = run(capsys, arguments)
    assert (code, out) == (1, "")
    assert "fault: RuntimeError: a bug" in err
    assert "--debug" in err
    assert len(err.splitlines()) == 2
    with pytest.raises(RuntimeError, match="a bug"):
        main([*arguments.split(), "--debug"])


def test_a_mistake_shows_its_traceback_with_debug(data):
    with pytest.raises(kofn.KofnError, match="k=0"):
        main(["select", "x.parquet", "-k", "0", "--method", "uniform", "--out", "o.parquet", "--debug"])


def test_ctrl_c_is_130_wherever_it_is_heard(capsys, data, monkeypatch):
    def interrupted(*args, **kw):
        raise KeyboardInterrupt

    monkeypatch.setattr("kofn.front.choose", interrupted)
    code, out, err = run(capsys, "select x.parquet -k 5 --method uniform --out o.parquet")
    assert (code, out, err) == (130, "", "stopped; nothing was written\n")


def test_the_console_script_exits_with_the_code_of_main(monkeypatch):
    monkeypatch.setattr(cli, "main", lambda: 2)
    with pytest.raises(SystemExit) as end:
        cli.entry()
    assert end.value.code == 2


# select


def test_select_prints_the_result_on_stdout_and_messages_on_stderr(capsys, data):
    code, out, err = run(capsys, "select x.parquet -k 5 --method uniform --out o.parquet")
    assert code == 0
    assert out.startswith("Selection: 5 of 300 rows by uniform, seed 0")
    assert "wrote o.parquet" in err


def test_select_writes_every_column_and_what_it_knows_of_the_picks(capsys, data):
    assert run(capsys, "select x.parquet -k 1% --method top --score score --out o.parquet")[0] == 0
    table = pq.read_table("o.parquet")
    assert table.column_names == ["text", "score", "emb", "kofn_index", "kofn_rank", "kofn_weight", "kofn_gain"]
    assert table.column("text").to_pylist() == ["row 299", "row 298", "row 297"]
    assert table.column("kofn_rank").to_pylist() == [0, 1, 2]
    assert json.loads(table.schema.metadata[b"kofn"])["method"] == "top"


def test_equal_runs_write_equal_bytes(capsys, data):
    for name in ("a", "b"):
        assert run(capsys, f"select x.parquet -k 20 --method uniform --seed 3 --out {name}.parquet")[0] == 0
    assert Path("a.parquet").read_bytes() == Path("b.parquet").read_bytes()


def test_order_input_sorts_the_output_by_row_and_keeps_the_ranks(capsys, data):
    assert run(capsys, "select x.parquet -k 20 --method uniform --out rank.parquet")[0] == 0
    assert run(capsys, "select x.parquet -k 20 --method uniform --order input --out input.parquet")[0] == 0
    rank, ordered = pq.read_table("rank.parquet"), pq.read_table("input.parquet")
    index = ordered.column("kofn_index").to_pylist()
    assert index == sorted(index)
    assert ordered.sort_by("kofn_rank").equals(rank)


@pytest.mark.parametrize("ending", [".arrow", ".csv", ".jsonl", ".npy"])
def test_every_format_holds_the_same_picks(capsys, data, ending):
    assert run(capsys, "select x.parquet -k 7 --method uniform --out o.parquet")[0] == 0
    assert run(capsys, f"select x.parquet -k 7 --method uniform --out o{ending}")[0] == 0
    picks = pq.read_table("o.parquet").column("kofn_index").to_pylist()
    if ending == ".arrow":
        found = pa.ipc.open_file("o.arrow").read_all().column("kofn_index").to_pylist()
    elif ending == ".csv":
        lines = Path("o.csv").read_text().splitlines()
        at = [name.strip('"') for name in lines[0].split(",")].index("kofn_index") - len(lines[0].split(","))
        found = [int(line.split(",")[at]) for line in lines[1:]]
    elif ending == ".jsonl":
        found = [json.loads(line)["kofn_index"] for line in Path("o.jsonl").read_text().splitlines()]
    else:
        found = np.load("o.npy").tolist()
    assert found == picks


def test_force_overwrites_and_an_earlier_output_can_be_had(capsys, data):
    arguments = "select x.parquet -k 9 --method uniform --out o.parquet"
    assert run(capsys, arguments)[0] == 0
    assert run(capsys, arguments + " --force")[0] == 0
    assert run(capsys, "select x.parquet -k 30 --method uniform --have o.parquet --out more.parquet")[0] == 0
    first, second = (
        set(pq.read_table(name).column("kofn_index").to_pylist()) for name in ("o.parquet", "more.parquet")
    )
    assert not first & second


def test_settings_reach_the_method_by_their_type(capsys, data):
    arguments = "select x.parquet -k 5 --method kmeans --set rounds=3 --set tolerance=0.5 --out o.parquet --json"
    code, out, _ = run(capsys, arguments)
    assert code == 0
    parameters = json.loads(out)["parameters"]
    assert (parameters["rounds"], parameters["tolerance"]) == (3, 0.5)


# methods


def test_methods_lists_every_method_and_shows_one_in_full(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    _, out, _ = run(capsys, "methods")
    for each in kofn.methods():
        assert each.name in out
    for name, other in (("coreset", "kcenter"), ("kcenter", "coreset")):  # two things of one name in the literature
        assert other in run(capsys, f"methods {name}")[1]
    _, out, _ = run(capsys, "methods kmeans")
    for words in ("rounds: int = 10", "Guarantee:", "@misc{kmeans", "one of euclidean, cosine"):
        assert words in out
    code, out, _ = run(capsys, "methods --bibtex")
    assert code == 0
    assert out.count("@misc{") == sum(bool(each.bibtex) for each in kofn.methods())


# JSON


def keys_of(value, path=""):
    """Every key in a JSON value, with the path that leads to it; the entries of lists all count as one."""
    if isinstance(value, list):
        return {key for entry in value for key in keys_of(entry, path)}
    if not isinstance(value, dict):
        return set()
    return {key for name, inner in value.items() for key in {f"{path}{name}", *keys_of(inner, f"{path}{name}.")}}


@pytest.mark.parametrize(
    ("section", "arguments"),
    [
        ("select", "select x.parquet -k 9 --method uniform --label text --id text --out o.parquet --json"),
        ("select", "select x.parquet -k 9 --method kmeans --out o.parquet --json"),
        ("select", "select x.parquet -k 9 --method kcenter --memory 70MiB --out o.parquet --json"),
        ("plan", "plan x.parquet -k 9 --method kmeans --json"),
        ("inspect", "inspect x.parquet --json"),
        ("methods", "methods --json"),
        ("verify", "verify s.parquet x.parquet --rerun --json"),
    ],
)
def test_every_key_of_json_is_documented(capsys, data, section, arguments):
    assert run(capsys, "select x.parquet -k 5 --method uniform --out s.parquet")[0] == 0
    code, out, err = run(capsys, arguments)
    assert code == 0, err
    page = (ROOT / "docs" / "cli.md").read_text()
    documented = set(re.findall(r"`([\w.]+)`", page.split(f"\n### `{section} --json`\n")[1].split("\n### ")[0]))
    free = {key for key in documented if key.endswith(".*")} | {"parameters.", "columns."}
    missing = {key for key in keys_of(json.loads(out)) if key not in documented and not key.startswith(tuple(free))}
    assert not missing


# tables and text


def test_a_csv_file_becomes_features_and_one_line_says_of_what(capsys, data):
    rng = np.random.default_rng(0)
    lines = [f"n{at},{rng.normal():.3f},{'ab'[at % 2]},{at % 3}" for at in range(90)]
    Path("x.csv").write_text("\n".join(["id,x,kind,label", *lines]) + "\n")
    code, out, err = run(capsys, "select x.csv -k 9 --label label --out picks.csv")
    assert code == 0
    assert "note: features: 1 number, 1 category (2 columns); left out: id (unique), label (the label)" in err
    assert "by facility" in out
    picked = Path("picks.csv").read_text().splitlines()
    assert len(picked) == 10
    assert picked[0].replace('"', "").startswith("id,x,kind,label,kofn_index,kofn_rank,kofn_weight")
    row = int(picked[1].split(",")[4])
    assert picked[1].replace('"', "").startswith(lines[row].rsplit(",", 3)[0])
    code, out, err = run(capsys, "select x.csv -k 81 --method uniform --have picks.csv --out rest.parquet")
    assert code == 0, err
    rest = pq.read_table("rest.parquet")["kofn_index"].to_pylist()
    assert not {int(line.split(",")[4]) for line in picked[1:]} & set(rest)


def test_plan_and_inspect_know_of_features(capsys, data):
    pq.write_table(data.select(["text", "score"]), "plain.parquet")
    code, out, _ = run(capsys, "plan plain.parquet -k 9 --features score")
    assert code == 0
    assert "features: 1 number" in out
    code, out, _ = run(capsys, "inspect plain.parquet --json")
    seen = json.loads(out)
    assert seen["features"] == ["score"]
    assert seen["suggestion"]["method"] == "facility"
    assert any(note.startswith("features: 1 number; left out: text (unique)") for note in seen["notes"])


def test_every_key_of_a_recipe_is_documented(capsys, data):
    pq.write_table(data.select(["score"]).append_column("kind", pa.array(["a", "b", None] * 100)), "plain.parquet")
    code, out, err = run(capsys, "select plain.parquet -k 9 --out o.parquet --json")
    assert code == 0, err
    page = (ROOT / "docs" / "cli.md").read_text()
    recipe = keys_of(json.loads(out)["data"]["features"], "data.features.")
    assert recipe
    assert not {key for key in recipe if f"`{key}`" not in page}


def test_an_output_in_the_folder_of_the_data_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.csv").write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(50)))
    code, _, err = run(capsys, "select parts -k 5 --out parts/picks.parquet")
    assert code == 2
    assert "lies in the folder of the data" in err
    code, _, err = run(capsys, "select parts/*.csv -k 5 --out parts/picks.csv")
    assert code == 2
    assert "one of the files that 'parts/*.csv' means" in err
    assert [each.name for each in (tmp_path / "parts").iterdir()] == ["a.csv"]

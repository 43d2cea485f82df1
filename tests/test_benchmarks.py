"""The measured comparison: pages show what was measured, results say where, and the arithmetic behind both is right."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
RESULTS = sorted((FOLDER / "results").glob("*.json"))


@pytest.fixture
def bench(monkeypatch):
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module


def run(seconds, **figures):
    return {"seconds": seconds, **figures}


def goal(of, **other):
    plain = {"text": "", "field": "seconds", "minus": "", "over": [], "low": None, "high": None, "unit": "x"}
    return {**plain, "of": of, **other}


def entry(key, *runs):
    return {"key": key, "who": "kofn", "what": key, "runs": list(runs)}


def test_every_table_in_the_pages_is_what_the_script_prints_from_the_committed_results(bench):
    tables = bench("tables")
    for page in tables.pages():
        text = page.read_text()
        assert tables.filled(text) == text, f"{page.name}: run python benchmarks/tables.py --write"


def test_the_pages_show_every_job_and_every_data_set(bench, tmp_path):
    jobs, workloads, figures = bench("jobs"), bench("workloads"), bench("figures")
    speed = (ROOT / "docs" / "benchmarks.md").read_text()
    quality = (ROOT / "docs" / "figures.md").read_text()
    for job in jobs.all_jobs(workloads.Workloads(tmp_path, workloads.QUICK)):
        assert f"<!-- table: main_job {job.name} -->" in speed
    represent = bench("jobs_represent")
    for job in represent.all_jobs(represent.Scale(), Path("glosses.parquet")):
        assert f"<!-- table: represent {job.name} -->" in speed
    for name in figures.DATA:
        assert f"<!-- table: figures {name} -->" in quality
    choosing = (ROOT / "docs" / "choosing.md").read_text()
    for name in ("digits", "islands", "glosses"):
        assert f"<!-- table: choosing {name} -->" in choosing


def test_every_result_names_its_seeds_versions_and_hardware():
    for path in RESULTS:
        about = json.loads(path.read_text())["meta"]
        for name in ("date", "cpu", "processors", "memory_gib", "system", "python", "load"):
            assert about[name] not in (None, ""), (path.name, name)
        for name in ("kofn", "numpy", "numba", "scikit-learn"):
            assert about["versions"][name], (path.name, name)
        assert "faiss-cpu" in about["peers"] or path.stem in ("choosing", "scale") or "decode" in path.stem, path.name
        assert about.get("seeds") or about["repeat"] >= 1, path.name


def test_every_random_run_names_its_seed_and_no_result_is_of_a_small_trial():
    for path in RESULTS:
        result = json.loads(path.read_text())
        assert not result["meta"].get("quick", False), path.name
        for job in result.get("jobs", []):
            for each in job["entries"]:
                assert all((found["seed"] is not None) == each["seeded"] for found in each["runs"]), each["key"]
        for data in result.get("datasets", {}).values():
            for cell in data.get("cells", []):
                assert cell["runs"] in (1, len(result["meta"]["seeds"])), cell
            for row in data.get("rows", []):
                if row["who"] != "all" and not row.get("left_out"):
                    assert [found["seed"] for found in row["runs"]] == result["meta"]["seeds"], row["method"]


def test_every_goal_names_entries_of_its_job_and_every_case_is_a_function(bench, tmp_path):
    jobs, workloads, represent = bench("jobs"), bench("workloads"), bench("jobs_represent")
    all_jobs = jobs.all_jobs(workloads.Workloads(tmp_path, workloads.QUICK))
    for job in [*all_jobs, *represent.all_jobs(represent.Scale(), Path("glosses.parquet"))]:
        keys = [each.key for each in job.entries]
        assert len(set(keys)) == len(keys)
        for each in job.goals:
            assert {each.of, *filter(None, [each.minus]), *(key for _, key in each.over)} <= set(keys)
        for each in job.entries:
            module, _, name = each.case.partition(":")
            assert each.command or callable(getattr(bench(module), name))


def test_a_goal_is_a_ratio_of_medians_with_its_range_over_the_rounds(bench):
    job = {"entries": [entry("a", run(6.0), run(9.0), run(30.0)), entry("b", run(1.0), run(2.0), run(3.0))]}
    assert bench("tables").reached(job, goal("a", over=[(2, "b"), (1, "b")])) == (9 / 6, 9 / 6, 30 / 9)


def test_a_goal_may_be_a_difference_of_other_figures(bench):
    job = {"entries": [entry("all", run(1.0, peak_mib=300.0)), entry("one", run(1.0, peak_mib=180.0))]}
    wanted = goal("all", field="peak_mib", minus="one", high=100, unit="MiB")
    tables = bench("tables")
    assert tables.reached(job, wanted)[0] == 120.0
    assert tables._verdict(wanted, 120.0) == "**no**"
    assert tables._verdict(wanted, 100.0) == "yes"
    assert tables._limits(wanted) == "at most 100 MiB"


def test_a_goal_without_a_measurement_is_neither_met_nor_missed(bench):
    tables, job = bench("tables"), {"entries": [entry("a", run(1.0)), entry("b")]}
    wanted = goal("a", over=[(1, "b")], low=8)
    assert tables.reached(job, wanted)[0] is None
    assert tables._verdict(wanted, None) == "?"


def test_only_what_stands_between_markers_is_replaced(bench, tmp_path, monkeypatch):
    tables = bench("tables")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    page = "before\n<!-- table: main_job goals -->\nold | text\n<!-- end of table -->\nafter\n"
    filled = tables.filled(page)
    assert filled.startswith("before\n<!-- table: main_job goals -->\n\nNot measured yet")
    assert filled.endswith("\n<!-- end of table -->\nafter\n")
    assert "old" not in filled
    assert tables.filled(filled) == filled


def test_a_marker_with_a_mistake_is_not_passed_over(bench):
    with pytest.raises(SystemExit, match="'mian_job' is unknown"):
        bench("tables").filled("<!-- table: mian_job goals -->\n<!-- end of table -->")


def test_a_cell_is_the_mean_with_its_standard_error(bench):
    tables = bench("tables")
    runs = [{"radius": value, "same_label": value / 10} for value in (1.0, 2.0, 3.0)]
    assert tables.cell(runs, "radius", 2.0) == "**2.000** ± 0.58"  # sd 1, over the root of 3
    assert tables.cell(runs, "same_label", 0.9) == "20.0 % ± 5.8"
    assert tables.cell(runs[:1] * 3, "radius", 9.0) == "1.000"


def test_methods_are_sorted_into_better_and_worse_by_the_figure_s_own_direction(bench, tmp_path, monkeypatch):
    tables = bench("tables")
    sure, unsure = {"change": 0.1, "p": 0.001}, {"change": 0.1, "p": 0.4}
    row = {"method": "m", "who": "kofn", "runs": [], "versus": dict.fromkeys(tables.COLUMNS, sure) | {"radius": unsure}}
    (tmp_path / "figures.json").write_text(json.dumps({"datasets": {"d": {"rows": [row]}}}))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    said = tables.says("d")
    assert "- **same label**: better: m.\n" in said
    assert "- **mean distance**: worse: m.\n" in said
    assert "- **radius**: not told apart: m.\n" in said


def test_a_measured_process_does_not_see_its_parent_s_memory(bench):
    harness = bench("harness")
    held = np.ones(60_000_000)  # 458 MiB, every page touched
    params = {"rows": 1024, "d": 4, "k": 8, "block": 512, "threads": 1}
    one = harness.Entry("floor", "floor", "", "cases_floors:product_argmin", params, seeded=False)
    found = harness.measured(one, 0, sys.executable, 60.0)
    assert found["peak_mib"] < held.nbytes / 2**20
    assert found["seconds"] > 0
    assert any("openblas" in kernel for kernel in found["kernels"])


def test_measured_processes_do_not_inherit_what_steers_kernels(bench, monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    env = bench("harness").clean_environment({"OPENBLAS_CORETYPE": "SkylakeX"})
    assert env["OPENBLAS_CORETYPE"] == "SkylakeX"
    assert not {"OPENBLAS_L2_SIZE", "OMP_NUM_THREADS"} & set(env)


def test_a_process_that_fails_is_reported_by_its_last_line_and_not_run_again(bench):
    harness = bench("harness")
    broken = harness.Entry("broken", "kofn", "", command=("{python}", "-c", "raise SystemExit('no such peer')"))
    done = harness.run_job(harness.Job("j", "", frozenset(), (broken,), ()), 3, sys.executable, 60.0, lambda text: None)
    assert done["entries"][0]["failed"] == "ended with 1: no such peer"
    assert done["entries"][0]["runs"] == []


def test_the_loop_kofn_is_compared_with_draws_by_squared_distance(bench):
    x = np.array([[0.0], [1.0], [3.0]], np.float32)
    loop = bench("cases_peers")._d2_loop
    second = [tuple(loop(x, 2, seed)) for seed in range(4000)]
    after_first = [pair[1] for pair in second if pair[0] == 0]
    assert np.mean(np.array(after_first) == 2) == pytest.approx(0.9, abs=0.045)  # 9 of 1 + 9; five standard errors


def test_the_loops_that_advance_together_follow_the_same_law(bench):
    x = np.array([[0.0], [1.0], [3.0]], np.float32)
    costs = bench("cases_peers")._d2_many(x, 2, 0, 4000)
    # first 0, 1, 2 alike; then by squares 1:9, 1:4, 9:4; the row left out costs its squared distance to the nearest pick
    mean = (0.1 * 4 + 0.9 * 1 + 0.2 * 4 + 0.8 * 1 + (9 / 13) * 1 + (4 / 13) * 1) / 3 / 3
    assert costs.mean() == pytest.approx(mean, abs=0.03)
    assert set(np.round(costs * 3, 4)) == {1.0, 4.0}


def split_of(quality, x, y, clusters=2):
    x, y = np.array(x, np.float32), np.array(y)
    return quality.Split(x, y, x, y, int(y.max()) + 1, clusters)


def test_figures_of_two_picks_on_a_line(bench):
    quality = bench("quality")
    split = split_of(quality, [[0.0], [1.0], [2.0], [10.0], [13.0]], [0, 0, 1, 1, 1])
    found = quality.figures(split, np.array([1, 3]), np.array([3.0, 2.0]))
    assert found["mean_distance"] == pytest.approx((1 + 0 + 1 + 0 + 3) / 5)
    assert found["mean_squared"] == pytest.approx((1 + 0 + 1 + 0 + 9) / 5)
    assert found["radius"] == 3.0
    assert found["same_label"] == 0.8  # the row at 2 stands by the pick at 1
    assert found["labels_present"] == 1.0
    assert found["label_error"] == pytest.approx(0.2)  # 2/5, 3/5 against 3/5, 2/5
    # the picks as centers cost 11 / 5; the best two centers of all rows, 1 and 11.5, cost (1 + 1 + 4.5) / 5
    assert found["kmeans_error"] == pytest.approx(11 / 6.5 - 1)
    assert found["nearest_accuracy"] == 0.8


def test_all_rows_have_no_error(bench):
    quality = bench("quality")
    split = split_of(quality, [[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1])
    everyone = quality.figures(split, np.arange(4), np.ones(4))
    assert everyone == pytest.approx(quality.all_rows(split), abs=1e-9)


def test_labels_are_even_when_each_has_as_many_picks(bench):
    even = bench("quality").evenness
    assert even(np.array([0, 1, 2, 3]), 4) == pytest.approx(1.0)
    assert even(np.array([0, 0, 1, 1]), 4) == pytest.approx(0.5)  # log 2 of log 4
    assert even(np.array([2, 2, 2, 2]), 4) == 0.0


def test_the_mean_error_is_the_distance_of_the_weighted_mean_in_units_of_the_spread(bench):
    x = np.array([[0.0], [2.0], [4.0], [6.0]])  # mean 3, spread sqrt(5)
    assert bench("quality").mean_error(x, x[[0, 3]], np.array([3.0, 1.0])) == pytest.approx(1.5 / 5**0.5)


def test_label_shares_are_weighted(bench):
    error = bench("quality").total_variation
    assert error(np.array([0, 0, 0, 1]), np.array([0, 1]), np.array([3.0, 1.0]), 2) == 0.0
    assert error(np.array([0, 0, 0, 1]), np.array([0, 1]), np.array([1.0, 1.0]), 2) == 0.25


def test_a_difference_to_uniform_that_is_always_the_same_is_sure_and_none_is_not(bench):
    versus = bench("figures").versus
    runs = [{"radius": 1.0}, {"radius": 2.0}]
    less = [{"radius": 0.5}, {"radius": 1.5}]
    assert versus(less, runs, "radius") == {"change": -0.5, "p": 0.0}
    assert versus(runs, runs, "radius") == {"change": 0.0, "p": None}


def test_small_sizes_are_not_written_among_the_results(bench, monkeypatch):
    main_job = bench("main_job")
    out = FOLDER / "results" / "main_job.json"
    monkeypatch.setattr(sys, "argv", ["main_job.py", "--quick", "--out", str(out)])
    with pytest.raises(SystemExit, match="say nothing about speed"):
        main_job.main()

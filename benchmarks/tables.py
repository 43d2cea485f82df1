"""Prints the tables of the docs from the committed results; nobody types a figure.

    python benchmarks/tables.py                    # every table there is
    python benchmarks/tables.py main_job kmeans    # one
    python benchmarks/tables.py --write            # into README.md and docs/, between the markers

A marker is `<!-- table: NAME ARGUMENT -->`, closed by `<!-- end of table -->`; what stands between them is replaced. Names and
arguments are those that this script prints without any.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MARKER = re.compile(r"(<!-- table: (?P<name>[^\n]*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
LEVEL = 0.01
"""A difference with a smaller chance under no difference at all is called one."""

Result = dict[str, Any]

COLUMNS: dict[str, tuple[str, str, bool]] = {
    "mean_distance": ("mean distance", "number", False),
    "mean_squared": ("mean squared", "number", False),
    "radius": ("radius", "number", False),
    "same_label": ("same label", "percent", True),
    "labels_present": ("labels present", "percent", True),
    "label_evenness": ("label evenness", "percent", True),
    "label_error": ("label share error", "percent", False),
    "mean_error": ("mean error", "percent", False),
    "mmd": ("MMD", "number", False),
    "kmeans_error": ("k-means error", "percent", False),
    "nearest_accuracy": ("1-NN", "percent", True),
    "probe_accuracy": ("probe", "percent", True),
}
"""Figure: (heading, how it is written, whether more is better)."""


SPEED = ("main_job", "represent")
"""Results of jobs: their entries are timed beside one another."""


def table(name: str, argument: str = "") -> str:
    """A table by its name and argument."""
    kinds: dict[str, Callable[[str], str]] = {
        **{name: partial(jobs_of, name) for name in SPEED}, "figures": figures, "objectives": objectives, "method": method,
        "measured": measured, "says": says, "choosing": choosing, "scale": scale_of, "decode": decode_of,
        "decode_quality": quality_of,
    }  # fmt: skip
    if name not in kinds:
        raise SystemExit(f"table {name!r} is unknown; there are: {', '.join(kinds)}")
    return kinds[name](argument)


def load(name: str) -> Result | None:
    """A result, None where it has not been measured yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def absent(name: str) -> str:
    """What stands in for a table without results."""
    return f"Not measured yet: `python benchmarks/{name}.py` writes `benchmarks/results/{name}.json`.\n"


def measured(name: str) -> str:
    """One sentence: when, on what, with which versions and seeds."""
    result = load(name)
    if result is None:
        return absent(name)
    about = result["meta"]
    versions = ", ".join(f"{each} {number}" for each, number in about["versions"].items() if number)
    peers = ", ".join(f"{each} {about['peers'][each]}" for each in PEER_NAMES if about["peers"].get(each))
    seeds = about.get("seeds") or list(range(about["repeat"]))
    kernels = sorted(_kernels(result))
    return (
        f"Measured {about['date']} on {about['processors']} processors of an {about['cpu']}, {about['memory_gib']} GiB, "
        f"Python {about['python']}; {versions}; peers: {peers or 'none'}. Seeds {seeds[0]} to {seeds[-1]}."
        + (f" BLAS kernels: {'; '.join(kernels)}." if kernels else "")
        + "\n"
    )


PEER_NAMES = ("torch", "transformers", "faiss-cpu", "apricot-select", "kmedoids", "goodpoints", "coresets")


def _kernels(result: Result) -> set[str]:
    runs = [run for job in result.get("jobs", []) for entry in job["entries"] for run in entry["runs"]]
    return {kernel for run in runs for kernel in run.get("kernels", [])}


def scale_of(argument: str) -> str:
    """A table of docs/scale.md; `tables_scale.py` has them."""
    from tables_scale import scale

    result = load("scale")
    return absent("scale") if result is None else scale(result, argument, grid)


def decode_of(argument: str) -> str:
    """A table of docs/decode; `tables_decode.py` has them."""
    from tables_decode import decode

    result = load("decode_speed")
    return absent("decode_speed") if result is None else decode(result, argument, grid)


def quality_of(argument: str) -> str:
    """A figure of docs/decode/quality.md."""
    from decode_quality import table

    result = load("decode_quality")
    return absent("decode_quality") if result is None else table(result, argument) + "\n"


def jobs_of(name: str, argument: str) -> str:
    """The goals of all jobs of a result, or the entries of one."""
    result = load(name)
    if result is None:
        return absent(name)
    if argument in ("", "goals"):
        return goals(result)
    job = next((job for job in result["jobs"] if job["name"] == argument), None)
    return absent(name) if job is None else entries(job)


def goals(result: Result) -> str:
    """Every goal with what was measured."""
    rows = []
    for job in result["jobs"]:
        for at, goal in enumerate(job["goals"]):
            value, low, high = reached(job, goal)
            verdict = _verdict(goal, value)
            digits = 4 if "cost" in goal["field"] or "distance" in goal["field"] else 3
            spread = f" ({_number(low, digits)} to {_number(high, digits)})" if low < high else ""
            shown = "not measured" if value is None else f"{_number(value, digits)}{_unit(goal)}{spread}"
            rows.append([job["title"] if at == 0 else "", goal["text"], _limits(goal), shown, verdict])
    return grid(["job", "measure", "goal", "measured", "met"], rows)


def reached(job: Result, goal: Result) -> tuple[float | None, float, float]:
    """(value from the medians, least and most over the rounds); None where an entry of it was not measured."""
    named = {entry["key"]: entry for entry in job["entries"]}
    needed = [goal["of"], *([goal["minus"]] if goal["minus"] else []), *(key for _, key in goal["over"])]
    if any(not named[key]["runs"] for key in needed):
        return None, math.nan, math.nan
    rounds = min(len(named[key]["runs"]) for key in needed)

    def value(pick: Callable[[list[float]], float]) -> float:
        def figure(key: str) -> float:
            return pick([run[_field(goal, key, named)] for run in named[key]["runs"]])

        above = figure(goal["of"]) - (figure(goal["minus"]) if goal["minus"] else 0.0)
        below = sum(factor * figure(key) for factor, key in goal["over"]) if goal["over"] else 1.0
        return above / below

    each = [value(lambda figures, at=at: figures[at]) for at in range(rounds)]  # type: ignore[misc]
    return value(median), min(each), max(each)


def _field(goal: Result, key: str, named: dict[str, Result]) -> str:
    """The goal's field; seconds for an entry that does not have it."""
    return goal["field"] if goal["field"] in named[key]["runs"][0] else "seconds"


def _limits(goal: Result) -> str:
    low, high = goal["low"], goal["high"]
    unit = _unit(goal)
    if low is not None and high is not None:
        return f"{low:g} to {high:g}{unit}"
    if low is not None:
        return f"at least {low:g}{unit}"
    return f"at most {high:,.4g}{unit}" if high is not None else "-"


def _unit(goal: Result) -> str:
    return "x" if goal["unit"] == "x" else f" {goal['unit']}"


def _verdict(goal: Result, value: float | None) -> str:
    if goal["low"] is None and goal["high"] is None:
        return "-"
    if value is None:
        return "?"
    above = goal["low"] is None or value >= goal["low"]
    below = goal["high"] is None or value <= goal["high"]
    return "yes" if above and below else "**no**"


def entries(job: Result) -> str:
    """What was measured in one job: medians and ranges."""
    rows = []
    for entry in job["entries"]:
        runs = entry["runs"]
        if not runs:
            rows.append([entry["who"], entry["what"], "not measured", "-", "-", entry.get("failed", "")])
            continue
        seconds = [run["seconds"] for run in runs]
        spread = f" ({_number(min(seconds))} to {_number(max(seconds))})" if len(runs) > 1 else ""
        peak = f"{median(run['peak_mib'] for run in runs):,.0f}" if "peak_mib" in runs[0] else "-"
        rows.append(
            [
                entry["who"],
                entry["what"],
                _number(median(seconds)) + spread,
                str(len(runs)),
                peak,
                ", ".join(_extras(runs)),
            ]
        )
    return grid(["who", "what", "seconds", "runs", "peak MiB", "also"], rows)


FINE = ("cost", "mean_distance", "loss", "mean_cosine", "inertia")
"""Figures that differ in their later digits."""


def _extras(runs: list[Result]) -> Iterable[str]:
    texts = {
        "cost": "mean squared distance {}",
        "cost_error": "± {}",
        "mean_distance": "mean distance {}",
        "write_seconds": "then {} s to write the picks",
        "loss": "mean distance to the nearest pick {}",
        "squared_mmd": "MMD squared {}",
        "mean_error": "mean error of the cost {}",
        "largest_error": "largest {}",
        "error": "relative error {}",
        "mean_cosine": "mean cosine {}",
        "inertia": "inertia {}",
        "rounds": "rounds: {}",
        "readers": "readers: {}",
        "fixed_seconds": "of it {} s compiling at every fit",
        "heavy": "loads {}",
    }
    for field, text in texts.items():
        if field not in runs[0]:
            continue
        values = [run[field] for run in runs]
        if field == "heavy":
            yield "loads numpy at most" if not any(values) else text.format(", ".join(values[0]))
        elif isinstance(values[0], int):
            yield text.format(f"{median(values):g}")
        else:
            yield text.format(_number(median(values), 5 if field in FINE else 3))


CHOOSING = (
    "mean_distance",
    "radius",
    "mmd",
    "kmeans_cost_error",
    "label_coverage",
    "label_shift",
    "nearest_accuracy",
    "seconds",
)
"""Metrics of the tables of choosing.md."""


def choosing(name: str) -> str:
    """Every method's means on one data set, by `kofn compare`; the best of each column in bold."""
    result = load("choosing")
    if result is None or name not in result["datasets"]:
        return absent("choosing")
    data = result["datasets"][name]
    columns = [each for each in CHOOSING if each in data["metrics"]]
    rows = []
    for k in data["k"]:
        mine = {(c["method"], c["metric"]): c["mean"] for c in data["cells"] if c["k"] == k}
        methods = [each for each in dict.fromkeys(method for method, _ in mine) if each != "all rows"]
        best = {column: _leader(column, data, mine, methods) for column in columns}
        for at, method in enumerate(methods):
            cells = [_shown(column, mine.get((method, column)), method == best[column]) for column in columns]
            rows.append([f"k={k}" if at == 0 else "", method, *cells])
    return grid(["", "method", *(column.replace("_", " ") for column in columns)], rows)


def _leader(column: str, data: Result, mine: dict[tuple[str, str], float], methods: list[str]) -> str | None:
    known = [method for method in methods if (method, column) in mine]
    if not known or column == "seconds":
        return None
    return (max if data["metrics"][column]["higher"] else min)(known, key=lambda method: mine[method, column])


def _shown(column: str, value: float | None, best: bool) -> str:
    if value is None:
        return "-"
    text = f"{value:.1%}" if column.startswith("label") or "accuracy" in column else _number(value)
    return f"**{text}**" if best else text


def figures(argument: str) -> str:
    """Quality on one data set: mean ± standard error over the seeds."""
    result = load("figures")
    if result is None or argument not in result["datasets"]:
        return absent("figures")
    dataset = result["datasets"][argument]
    columns = measured_columns(dataset)
    best = {column: _best(dataset["rows"], column) for column in columns}
    rows, notes = [], []
    for row in ordered(dataset["rows"]):
        if row.get("left_out"):
            rows.append([row["method"], *["-"] * (len(columns) + 1)])
            notes.append(f"{row['method']}: left out, {row['left_out']}.")
            continue
        if row.get("note"):
            notes.append(f"{row['method']}: {row['note']}.")
        mark = math.nan if row["who"] == "all" else 1.0
        cells = [cell(row["runs"], column, mark * best[column]) for column in columns]
        seconds = [run["seconds"] for run in row["runs"] if "seconds" in run]
        rows.append([row["method"], *cells, _number(median(seconds), 2) if seconds else "-"])
    headings = ["", *(COLUMNS[column][0] for column in columns), "seconds"]
    return grid(headings, rows) + ("\n" + " ".join(notes) + "\n" if notes else "")


def measured_columns(dataset: Result) -> list[str]:
    """The figures that the result holds: one made before a figure was added lacks it."""
    runs = [row["runs"][0] for row in dataset["rows"] if row["runs"]]
    return [column for column in COLUMNS if all(column in run for run in runs)]


def ordered(rows: list[Result]) -> list[Result]:
    """All rows first, uniform second, then the methods and the peers as they came."""
    first = {"all": 0, "kofn": 1, "peer": 2}
    return sorted(rows, key=lambda row: (first[row["who"]], row["method"] != "uniform"))


def cell(runs: list[Result], column: str, best: float) -> str:
    """A mean with its standard error; in bold where it is `best`."""
    values = [run[column] for run in runs]
    _, kind, _ = COLUMNS[column]
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    text = f"{100 * mean(values):.1f} %" if kind == "percent" else _number(mean(values), 4)
    shown = f"**{text}**" if mean(values) == best else text
    if error == 0.0:
        return shown
    return f"{shown} ± {100 * error:.1f}" if kind == "percent" else f"{shown} ± {_number(error, 2)}"


def _best(rows: list[Result], column: str) -> float:
    """The best mean of a column; NaN where more than two share it."""
    means = [mean(run[column] for run in row["runs"]) for row in rows if row["runs"] and row["who"] != "all"]
    best = max(means) if COLUMNS[column][2] else min(means)
    return best if means.count(best) <= 2 else math.nan


def objectives(argument: str) -> str:
    """Whether each method beats uniform on its own objective, on every data set."""
    result = load("figures")
    if result is None:
        return absent("figures")
    datasets = result["datasets"]
    names = list(
        dict.fromkeys(row["method"] for data in datasets.values() for row in data["rows"] if row["who"] == "kofn")
    )
    rows = []
    for name in names:
        if name == "uniform":
            continue
        found = {
            key: next((row for row in data["rows"] if row["method"] == name), {}) for key, data in datasets.items()
        }
        title = next((row["objective"]["title"] for row in found.values() if "objective" in row), "names none")
        rows.append([name, title, *(_against_uniform(row) for row in found.values())])
    return grid(["method", "its objective", *datasets], rows)


def _against_uniform(row: Result) -> str:
    if "objective" not in row:
        return "-"
    tested = row["objective"]
    change = mean(tested["ours"]) / mean(tested["uniform"]) - 1.0
    p = tested["p"]
    verdict = "yes" if p < LEVEL else "**no**"
    return f"{verdict}: {100 * change:+.1f} % (p {'< 0.0001' if p < 1e-4 else f'= {p:.2g}'})"


def says(argument: str) -> str:
    """For every figure: who is better than uniform, who cannot be told apart, who is worse."""
    result = load("figures")
    if result is None or argument not in result["datasets"]:
        return absent("figures")
    rows = [row for row in ordered(result["datasets"][argument]["rows"]) if row.get("versus")]
    lines = []
    columns = [column for column in COLUMNS if all(column in row["versus"] for row in rows)]
    for column in columns:
        heading, _, more = COLUMNS[column]
        found: dict[str, list[str]] = {"better": [], "not told apart": [], "worse": []}
        for row in rows:
            change, p = row["versus"][column]["change"], row["versus"][column]["p"]
            sure = p is not None and p < LEVEL
            found["not told apart" if not sure else "better" if (change > 0) == more else "worse"].append(row["method"])
        parts = [f"{verdict}: {', '.join(names)}" for verdict, names in found.items() if names]
        lines.append(f"- **{heading}**: {'; '.join(parts)}.\n")
    return f"Beside uniform rows (paired test over the seeds, two-sided, p < {LEVEL:g}):\n\n" + "".join(lines)


def method(argument: str) -> str:
    """One method beside uniform and all rows on every data set, for its own page."""
    result = load("figures")
    if result is None:
        return absent("figures")
    rows = []
    columns = [name for name in COLUMNS if all(name in measured_columns(data) for data in result["datasets"].values())]
    for data in result["datasets"].values():
        for row in ordered(data["rows"]):
            if row["method"] in ("all rows", "uniform", argument) and row["runs"]:
                cells = [cell(row["runs"], column, math.nan) for column in columns]
                rows.append([f"{data['title'].partition(' (')[0]}, k={data['k']}", row["method"], *cells])
    return grid(["data", "", *(COLUMNS[column][0] for column in columns)], rows)


def grid(headings: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |\n" for line in lines)


def _number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, thousands with commas, an exponent only below a hundred-thousandth."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}" if value == 0 else "-"
    if abs(value) < 1e-5:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def everything() -> list[str]:
    """Names and arguments of all tables that there are results for."""
    names = [
        f"{kind} {name}" if kind == "measured" else f"{name} {kind}" for name in SPEED for kind in ("measured", "goals")
    ]
    names += [f"{name} {job['name']}" for name in SPEED for job in (load(name) or {"jobs": []})["jobs"]]
    names += [f"choosing {name}" for name in (load("choosing") or {"datasets": {}})["datasets"]]
    datasets = (load("figures") or {"datasets": {}})["datasets"]
    methods = dict.fromkeys(row["method"] for data in datasets.values() for row in data["rows"] if row["who"] == "kofn")
    names += [
        "measured figures",
        "objectives",
        *(f"{kind} {name}" for name in datasets for kind in ("figures", "says")),
    ]
    return names + [f"method {name}" for name in methods]


def filled(text: str) -> str:
    """A page with what stands between its markers replaced."""

    def fill(found: re.Match[str]) -> str:
        name, _, argument = found["name"].partition(" ")
        return f"{found[1]}\n{table(name, argument.strip())}\n{found[3]}"

    return MARKER.sub(fill, text)


def pages() -> list[Path]:
    """The pages that may hold tables."""
    return [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]


def main() -> None:
    """Print tables, or write them into the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="of a table")
    parser.add_argument("argument", nargs="*", help="which job, data set or method")
    parser.add_argument("--write", action="store_true", help="write the tables into README.md and docs/")
    parser.add_argument("--results", type=Path, help="folder of the results, default benchmarks/results")
    args = parser.parse_args()
    if args.results:
        globals()["RESULTS"] = args.results
    if args.write:
        for page in pages():
            before = page.read_text()
            after = filled(before)
            if after != before:
                page.write_text(after)
                print(f"wrote {page.relative_to(ROOT)}")
        return
    asked = " ".join([args.name, *args.argument]) if args.name else None
    for each in [asked] if asked else everything():
        print(f"<!-- table: {each} -->\n")
        name, _, argument = each.partition(" ")
        print(table(name, argument.strip()))


if __name__ == "__main__":
    main()

"""The jobs of the measured comparison: kofn, its peers and the floors, with the goals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Entry, Goal, Job
from workloads import WARM, Workloads

FAISS = {"OPENBLAS_CORETYPE": "SkylakeX"}
"""faiss brings an older OpenBLAS that does not know newer processors and falls to an SSE kernel; this is its fast one."""

ROUNDS = 10
SAMPLE = 64  # rows a cluster that sensitivity trains on


def all_jobs(data: Workloads) -> list[Job]:
    """Every job, in the order of the table."""
    return [
        uniform(data), sensitivity(data), memory(data), seeding(data), seeding_cost(data), greedy(data), kmeans(data),
        facility(data), doors(),
    ]  # fmt: skip


def _read(data: Workloads, key: str, path: Path, readers: int) -> Entry:
    what = f"one pass over {path.name}, at most {readers} reader{'s' * (readers > 1)}"
    params = {"path": path, "warm": data.warm_file, "readers": readers}
    return Entry(key, "floor", what, "cases_floors:read_file", params, seeded=False)


def uniform(data: Workloads) -> Job:
    """From Parquet to Parquet at random."""
    params = {"path": data.small_groups, "warm": data.warm_file, "out": data.out, "k": data.sizes.k}
    return Job(
        "uniform",
        f"uniform, {_shape(data, wide=True)} Parquet to Parquet",
        frozenset({"files"}),
        (
            Entry("kofn", "kofn", "select and write the picked rows", "cases_kofn:uniform_file", params),
            _read(data, "read", data.small_groups, 2),
            _read(data, "read-1", data.small_groups, 1),
        ),
        (Goal("of one pass by two readers", "kofn", over=((1, "read"),), high=1.3),),
    )


def sensitivity(data: Workloads) -> Job:
    """Two passes, a product and a training."""
    s = data.sizes
    common = {"warm": data.warm_file, "out": data.out, "k": s.k, "clusters": s.clusters}
    case = "cases_kofn:sensitivity_file"
    rows = min(s.rows, SAMPLE * s.clusters)
    product = {"rows": s.rows, "d": s.wide, "k": s.clusters, "block": 512, "threads": 2}
    train = {"rows": rows, "d": s.wide, "k": s.clusters, "rounds": ROUNDS}
    over = ((2, "read"), (1, "product"), (1, "faiss"))
    return Job(
        "sensitivity",
        f"sensitivity, {s.clusters:,} clusters, {_shape(data, wide=True)} Parquet",
        frozenset({"files"}),
        (
            Entry("groups", "kofn", "row groups of 64k", case, {"path": data.small_groups, **common}),
            Entry("one", "kofn", "one row group of 1M", case, {"path": data.one_group, **common}),
            _read(data, "read", data.small_groups, 2),
            _read(data, "read-one", data.one_group, 2),
            Entry("product", "floor", "product with the centers and argmax, two threads",
                  "cases_floors:product_argmin", product, seeded=False),
            Entry("faiss", "faiss", f"training on as many rows ({rows:,}), {ROUNDS} rounds",
                  "cases_peers:faiss_train", train, peers=True, env=FAISS),
        ),
        (
            Goal("of the floors and faiss's training, row groups of 64k", "groups", over=over, high=1.5),
            Goal("of the same floors, one row group of 1M", "one", over=over, high=1.5),
            Goal("peak, row groups of 64k", "groups", "peak_mib", high=1024, unit="MiB"),
            Goal("peak, one row group of 1M", "one", "peak_mib", high=1024, unit="MiB"),
        ),
    )  # fmt: skip


def memory(data: Workloads) -> Job:
    """The same with four times the rows."""
    s = data.sizes
    common = {"warm": data.warm_file, "out": data.out, "k": s.k, "clusters": s.clusters}
    case = "cases_kofn:sensitivity_file"
    allowed = 16 * s.rows * (s.parts - 1) / 2**20 + 50
    title = f"sensitivity on {s.parts} x {_shape(data, wide=True)} (float16 Parquet, {s.parts} files)"
    return Job(
        "memory",
        title,
        frozenset({"files", "large"}),
        (
            Entry("one", "kofn", "one of the files", case, {"path": data.one_part, **common}, repeat=2),
            Entry("all", "kofn", f"all {s.parts} files", case, {"path": data.parts, **common}, repeat=2),
        ),
        (Goal("more peak than for one file: 16 bytes a row + 50 MiB allowed", "all", "peak_mib", "one",
              high=allowed, unit="MiB"),),
    )  # fmt: skip


def seeding(data: Workloads) -> Job:
    """The exact law."""
    entries: list[Entry] = []
    for name, what in (("overlapping", "overlapping mixture"), ("separated", "well-separated clusters")):
        params = {"path": data.array(name), "warm": data.array(f"warm_{name}"), "k": data.sizes.k}
        entries += [
            Entry(f"kofn-{name}", "kofn", f"seeding, {what}", "cases_kofn:seeds", params),
            Entry(f"loop-{name}", "NumPy", f"one-draw loop, {what}", "cases_peers:d2_loop", params, repeat=2),
            Entry(f"select-{name}", "kofn", f"seeding and the picks' weights, {what}", "cases_kofn:select",
                  {**params, "method": "kmeans++", "params": {}}),
        ]  # fmt: skip
    return Job(
        "kmeans++",
        f"kmeans++, {_shape(data)}, k={data.sizes.k:,}, in memory",
        frozenset({"arrays"}),
        tuple(entries),
        (
            Goal("as fast as the loop, overlapping", "loop-overlapping", over=((1, "kofn-overlapping"),), low=50),
            Goal("as fast as the loop, separated", "loop-separated", over=((1, "kofn-separated"),), low=25),
        ),
    )


def seeding_cost(data: Workloads) -> Job:
    """The law's cost over many seeds."""
    path, warm = data.array("separated"), data.array("warm_separated")
    params = {"path": path, "warm": warm, "k": data.sizes.k, "count": data.sizes.law_seeds}
    return Job(
        "kmeans++ cost",
        f"kmeans++ cost over {data.sizes.law_seeds} seeds, well-separated clusters, {_shape(data)}, k={data.sizes.k:,}",
        frozenset({"arrays"}),
        (
            Entry("kofn", "kofn", "all seeds", "cases_kofn:seeds_many", params, repeat=1),
            Entry("loop", "NumPy", "all seeds, advancing together", "cases_peers:d2_many", params, repeat=1),
        ),
        (Goal("of the loop's cost", "kofn", "cost", over=((1, "loop"),), low=0.98, high=1.02),),
    )


def greedy(data: Workloads) -> Job:
    """The greedy form, with as many draws a pick as scikit-learn makes."""
    import math

    s = data.sizes
    draws = 2 + int(math.log(s.k))
    large = {"path": data.array("overlapping"), "warm": data.array("warm_overlapping"), "k": s.k}
    small = {**large, "path": data.array("greedy")}
    ours, theirs = "cases_kofn:seeds", "cases_peers:sklearn_seeds"
    return Job(
        "kmeans++ greedy",
        f"kmeans++, greedy form, {draws} draws a pick, k={s.k:,}, overlapping mixture",
        frozenset({"arrays"}),
        (
            Entry("kofn", "kofn", f"{s.greedy_rows:,} rows", ours, {**small, "candidates": draws}),
            Entry("sklearn", "scikit-learn", f"{s.greedy_rows:,} rows", theirs, small, repeat=1),
            Entry("kofn-large", "kofn", f"{s.rows:,} rows", ours, {**large, "candidates": draws}, repeat=2),
            Entry("sklearn-large", "scikit-learn", f"{s.rows:,} rows", theirs, large, repeat=1),
        ),
        (
            Goal(f"as fast as scikit-learn, {s.rows:,} rows", "sklearn-large", over=((1, "kofn-large"),), low=8),
            Goal(f"of its cost, {s.rows:,} rows", "kofn-large", "cost", over=((1, "sklearn-large"),), high=1.01),
            Goal(f"as fast as scikit-learn, {s.greedy_rows:,} rows", "sklearn", over=((1, "kofn"),), low=8),
        ),
    )


def kmeans(data: Workloads) -> Job:
    """Lloyd on all rows."""
    s = data.sizes
    common = {"path": data.array("overlapping"), "warm": data.array("warm_overlapping"), "k": s.clusters}
    ours = {"method": "kmeans", "params": {"sample": 0, "rounds": ROUNDS, "tolerance": 0.0}}
    return Job(
        "kmeans",
        f"kmeans, {_shape(data)}, {s.clusters:,} clusters, {ROUNDS} rounds on all rows",
        frozenset({"arrays"}),
        (
            Entry("kofn", "kofn", "k-means++ seeds, rounds, nearest rows, weights", "cases_kofn:select",
                  {**common, **ours}),
            Entry("faiss", "faiss", "random seeds, rounds, one assignment pass", "cases_peers:faiss_kmeans",
                  {**common, "rounds": ROUNDS, "assign": True}, peers=True, env=FAISS),
            Entry("faiss-train", "faiss", "the same without the assignment pass", "cases_peers:faiss_kmeans",
                  {**common, "rounds": ROUNDS, "assign": False}, peers=True, env=FAISS, repeat=1),
            Entry("faiss-slow", "faiss", "as first, kernel as its OpenBLAS guesses it", "cases_peers:faiss_kmeans",
                  {**common, "rounds": ROUNDS, "assign": True}, peers=True, repeat=1),
            Entry("assign", "faiss", "one assignment pass", "cases_peers:faiss_assign", common, peers=True, env=FAISS),
        ),
        (
            Goal("of faiss with the assignment pass", "kofn", over=((1, "faiss"),), high=1.0),
            Goal("of its cost", "kofn", "cost", over=((1, "faiss"),), high=1.005),
        ),
    )  # fmt: skip


def facility(data: Workloads) -> Job:
    """Facility location."""
    s = data.sizes
    common = {"path": data.array("facility"), "warm": data.array("warm_facility"), "k": s.facility_k}
    return Job(
        "facility",
        f"facility, n={s.facility_rows:,}, d={s.narrow}, k={s.facility_k}",
        frozenset({"facility"}),
        (
            Entry("kofn", "kofn", "exact lazy greedy", "cases_kofn:select",
                  {**common, "method": "facility", "params": {}}),
            Entry("dense", "apricot", "lazy greedy on its own n x n matrix (squared distances)",
                  "cases_peers:apricot_dense", common, peers=True),
            Entry("sparse", "apricot", f"lazy greedy on a given {s.neighbors}-neighbour graph",
                  "cases_peers:apricot_sparse", {**common, "graph": data.graph}, peers=True),
            Entry("exact", "apricot", "exact greedy on kofn's objective (distances), dense",
                  "cases_peers:apricot_exact", common, peers=True, repeat=1),
        ),
        (
            Goal("as fast as apricot, dense", "dense", over=((1, "kofn"),), low=8),
            Goal("as fast as apricot on the graph", "sparse", over=((1, "kofn"),), low=2.5),
            Goal("the same less what apricot compiles at every fit, dense", "dense", "net_seconds",
                 over=((1, "kofn"),)),
            Goal("the same less what apricot compiles at every fit, graph", "sparse", "net_seconds",
                 over=((1, "kofn"),)),
            Goal("of exact greedy's mean distance to the nearest pick", "kofn", "mean_distance",
                 over=((1, "exact"),), high=1.001),
            Goal("peak", "kofn", "peak_mib", high=1024, unit="MiB"),
        ),
    )  # fmt: skip


IMPORTED = (
    "import sys, json; before = set(sys.modules); import kofn\n"
    "heavy = {'numba', 'scipy', 'sklearn', 'pyarrow', 'torch', 'pandas', 'altair', 'rich', 'typer'}\n"
    "print(json.dumps({'heavy': sorted(heavy & set(sys.modules))}))"
)


def doors() -> Job:
    """How soon kofn answers."""
    fresh = {"NUMBA_CACHE_DIR": "{folder}/numba"}
    entries = (
        Entry("help", "kofn", "`kofn --help`", command=("{kofn}", "--help")),
        Entry("import", "kofn", "`import kofn`", command=("{python}", "-c", IMPORTED)),
        Entry("python", "floor", "Python that does nothing", command=("{python}", "-c", "pass")),
        Entry("numpy", "floor", "`import numpy`", command=("{python}", "-c", "import numpy")),
        Entry("demo", "kofn", "`kofn demo`, nothing compiled before", command=("{kofn}", "demo"), env=fresh, repeat=2),
        Entry("demo-again", "kofn", "`kofn demo`, kernels in the cache", command=("{kofn}", "demo"), repeat=2),
    )
    return Job(
        "doors",
        "`kofn --help`, `import kofn`, `kofn demo`",
        frozenset(),
        tuple(replace(entry, seeded=False) for entry in entries),
        (
            Goal("`kofn --help`", "help", high=0.3, unit="s"),
            Goal("`import kofn`", "import", high=0.3, unit="s"),
            Goal("`kofn demo` the first time", "demo", high=10, unit="s"),
        ),
    )


def _shape(data: Workloads, *, wide: bool = False) -> str:
    s = data.sizes
    rows = f"{s.rows // 1_000_000}M" if s.rows % 1_000_000 == 0 else f"{s.rows:,}"
    return f"{rows} x {s.wide if wide else s.narrow}"


def settings(data: Workloads) -> dict[str, Any]:
    """What the results say of the sizes."""
    return {"warm_rows": WARM, **data.sizes.__dict__}

"""How time and memory grow with the rows, in one process and on Ray with one and two workers, on the same files.

    python benchmarks/scale.py --quick       # small sizes, for trying
    python benchmarks/scale.py               # 1M, 4M and 16M rows x 64: 25 minutes, 5 GB of disk
    python benchmarks/tables.py --write      # the tables in docs/scale.md

Every run is a process of its own; the cluster is started and warmed up before the clock runs. Digests of picks and weights are
compared between engines: a difference ends the run.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import RESULTS, Entry, Goal, Job, meta, run_job, save, warm_cache
from main_job import chosen, command_line, earlier, merged, say
from workloads import mixture

TIMEOUT = 1_800.0


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    rows: int = 1_000_000  # of a file
    files: tuple[int, ...] = (1, 4, 16)
    d: int = 64
    group: int = 65_536


QUICK = Scale(rows=140_000, files=(1, 2, 4), d=16)
ENGINES = (("local", 1), ("local", 2), ("ray", 1), ("ray", 2))
METHODS = (
    ("sensitivity", 1_000, "2GiB", {}),
    ("kmeans", 100, "2GiB", {"sample": 0, "rounds": 3}),
)
"""Few passes, and many. With k, memory and parameters."""

GOALS = (
    Goal("Ray with 2 workers beside 2 threads", "ray 2", over=((1.0, "local 2"),), high=1.25),
    Goal("Ray with 2 workers beside Ray with 1", "ray 2", over=((1.0, "ray 1"),), high=0.75),
)


def main() -> None:
    """Make the files, run the jobs, write the result."""
    args = arguments()
    scale = QUICK if args.quick else Scale()
    folder = args.folder.resolve()
    small = write_files(scale, folder)
    jobs = chosen(list(all_jobs(scale, folder, small)), args.job)
    out = args.out or (Path("scale-quick.json") if args.quick else RESULTS / "scale.json")
    if os.getloadavg()[0] > 0.5:
        say(f"the machine is busy (load {os.getloadavg()[0]:.1f}): figures will be noise")
    started = time.time()
    about = meta(quick=args.quick, repeat=args.repeat, data_seed=0, sizes=vars(scale), peers={}, ray=ray_version())
    kept, fresh = earlier(out, about) if args.job else [], []
    for job in jobs:
        say(job.title)
        warm_cache(sorted(folder.glob("*.parquet")))
        fresh.append(run_job(job, args.repeat, args.peers, TIMEOUT, say))
        check_same(fresh[-1])
        about["minutes"] = round((time.time() - started) / 60, 1)
        save(out, {"meta": about, "jobs": merged(kept, fresh)})
    say(f"{out} after {about['minutes']} minutes; python benchmarks/tables.py prints the tables")


def all_jobs(scale: Scale, folder: Path, small: Path) -> Iterator[Job]:
    """A job a method and size: the engines in turn."""
    for files in scale.files:
        given = {"data": folder / f"of-{files}" / "*.parquet", "small": small, "passes": 3}
        entries = tuple(
            Entry(
                f"{engine} {workers}", "kofn", f"{engine}, {workers} at a time", "cases_scale:read",
                {**given, "engine": engine, "workers": workers}, seeded=False,
            )
            for engine, workers in ENGINES
        )  # fmt: skip
        yield Job(
            f"read-{files}", f"3 passes that only read, {files * scale.rows:,} x {scale.d}", frozenset(), entries, GOALS
        )
    for method, k, memory, params in METHODS:
        for files in scale.files:
            given = {"data": folder / f"of-{files}" / "*.parquet", "small": small}
            given |= {"method": method, "k": k, "memory": memory, "params": params}
            entries = tuple(
                Entry(
                    f"{engine} {workers}", "kofn", f"{engine}, {workers} at a time", "cases_scale:select",
                    {**given, "engine": engine, "workers": workers},
                )
                for engine, workers in ENGINES
            )  # fmt: skip
            rows = files * scale.rows
            yield Job(f"{method}-{files}", f"{method}, k={k}, {rows:,} x {scale.d}", frozenset(), entries, GOALS)


def write_files(scale: Scale, folder: Path) -> Path:
    """Parquet files of Gaussian clusters, each once, and folders of links that hold some of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"rows-{scale.rows}-{at:02d}.parquet" for at in range(max(scale.files))]
    for at, path in enumerate(names):
        if not path.exists():
            say(f"making {path.name}")
            x = mixture(scale.rows, scale.d, 1_000, 2.0, seed=at)
            column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), scale.d)
            table = pa.table({"embedding": column})
            pq.write_table(table, f"{path}.part", row_group_size=scale.group, compression="none")
            Path(f"{path}.part").rename(path)
    for files in scale.files:
        (folder / f"of-{files}").mkdir(exist_ok=True)
        for path in names[:files]:
            link = folder / f"of-{files}" / path.name
            if not link.exists():
                link.hardlink_to(path)
    small = folder / "small.parquet"
    if not small.exists():
        x = mixture(140_000, scale.d, 1_000, 2.0, seed=99)
        pq.write_table(
            pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), scale.d)}), small
        )
    return small


def check_same(job: dict[str, Any]) -> None:
    """Raise where engines or numbers of workers chose differently with the same seed."""
    found: dict[Any, set[str]] = {}
    for entry in job["entries"]:
        for run in entry["runs"]:
            found.setdefault(run["seed"], set()).add(run["digest"])
    if any(len(digests) > 1 for digests in found.values()):
        raise SystemExit(f"{job['name']}: engines differ in their picks or weights")


def ray_version() -> str:
    """The version of Ray that is installed."""
    from importlib.metadata import version

    return version("ray")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, "scale")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/kofn-scale"), help="where the data are kept")
    parser.set_defaults(repeat=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()

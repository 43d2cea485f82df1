"""Speed and memory of the main job: kofn, its peers and the floors, in one run, on the same data.

    python benchmarks/main_job.py --quick                 # small sizes, for trying; a minute or two
    python benchmarks/main_job.py --folder /var/tmp/kofn  # the whole, about 12 minutes and 7 GB of disk
    python benchmarks/tables.py --write                   # the tables in the docs from the results

Every measurement runs in a process of its own, entries of a job in turn (A B A B), after a warm-up on small data in that
process and with the files in the page cache. Peers are looked for in the interpreter given by --peers: an environment with
`pip install ".[bench]"` serves for both. What cannot be run is named in the result with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from harness import RESULTS, Job, meta, peer_versions, run_job, save, warm_cache
from jobs import all_jobs, settings
from workloads import QUICK, SEED, Sizes, Workloads

TIMEOUT = 600.0


def main() -> None:
    """Run the jobs and write the result."""
    args = arguments()
    folder = args.folder / "quick" if args.quick else args.folder
    data = Workloads(folder, QUICK if args.quick else Sizes())
    jobs = chosen(all_jobs(data), args.job)
    out = args.out or (folder / "main_job.json" if args.quick else RESULTS / "main_job.json")
    if args.quick and out.resolve().parent == RESULTS.resolve():
        raise SystemExit("results of --quick say nothing about speed; write them elsewhere than benchmarks/results")
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}): figures will be noise")
    started = time.time()
    about = meta(
        quick=args.quick, repeat=args.repeat, data_seed=SEED, sizes=settings(data), peers=peer_versions(args.peers)
    )
    kept = earlier(out, about) if args.job else []
    data.make(set().union(*(job.data for job in jobs)), say)
    fresh = []
    for job in jobs:
        say(job.title)
        warm_cache(files_of(job, data))
        fresh.append(run_job(job, args.repeat, args.peers, TIMEOUT, say))
        about["minutes"] = round((time.time() - started) / 60, 1)
        save(out, {"meta": about, "jobs": merged(kept, fresh)})
    say(f"{out} after {about['minutes']} minutes; python benchmarks/tables.py prints the tables")


def command_line(text: str | None, result: str) -> argparse.ArgumentParser:
    """What every benchmark of jobs takes."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, for trying")
    parser.add_argument("--job", action="append", help="only this job; may be repeated; others keep their results")
    parser.add_argument("--repeat", type=int, default=3, help="rounds over the entries of a job")
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--out", type=Path, help=f"default: benchmarks/results/{result}.json")
    return parser


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, "main_job")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/kofn-bench"), help="where the data are kept")
    return parser.parse_args()


def chosen(jobs: list[Job], names: list[str] | None) -> list[Job]:
    """The jobs of these names."""
    known = [job.name for job in jobs]
    for name in names or []:
        if name not in known:
            raise SystemExit(f"job {name!r} is unknown; there are: {', '.join(known)}")
    return [job for job in jobs if not names or job.name in names]


def earlier(out: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs that `out` holds, if they were measured on this processor with these versions and sizes."""
    if not out.exists():
        return []
    old = json.loads(out.read_text())
    for name in ("cpu", "sizes", "versions", "peers"):
        if json.loads(json.dumps(about[name])) != old["meta"][name]:
            raise SystemExit(f"{out} was measured with another {name}; run all jobs, or give --out")
    return list(old["jobs"])


def merged(old: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The earlier jobs with the fresh ones in their places; each keeps the date that it was measured on."""
    named = {job["name"]: job for job in fresh}
    return [named.pop(job["name"], job) for job in old] + list(named.values())


def files_of(job: Job, data: Workloads) -> list[Path]:
    """Files that the job reads, as far as they are read over and over."""
    if "large" in job.data:
        return sorted(data.parts.glob("*.parquet"))
    return [data.small_groups, data.one_group] if "files" in job.data else []


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

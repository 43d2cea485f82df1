"""Speed, memory and quality of the methods that stand for the whole, beside their peers, in one run, on the same data.

    python benchmarks/represent.py --quick                              # small sizes, for trying
    python benchmarks/represent.py --peers PYTHON --texts glosses.parquet   # the whole: 20 minutes, 12 GB of memory
    python benchmarks/tables.py --write                                 # the tables in the docs from the results

Runs as `main_job.py` does. The peers kmedoids, goodpoints and coresets come with `pip install ".[bench]"`, NumPy's and
scikit-learn's figures from kofn's own environment. --texts is a Parquet file with a column `gloss` of texts; without it the
job on texts is left out.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from harness import PEERS, RESULTS, meta, peer_versions, run_job, save
from jobs_represent import QUICK, Scale, all_jobs
from main_job import chosen, command_line, earlier, merged, say

TIMEOUT = 900.0
NAMES = (*PEERS, "kmedoids", "goodpoints", "coresets")


def main() -> None:
    """Run the jobs and write the result."""
    args = arguments()
    scale = QUICK if args.quick else Scale()
    jobs = chosen(all_jobs(scale, args.texts and args.texts.resolve()), args.job)
    out = args.out or (Path("represent-quick.json") if args.quick else RESULTS / "represent.json")
    load, started = os.getloadavg()[0], time.time()
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}): figures will be noise")
    about = meta(
        quick=args.quick, repeat=args.repeat, data_seed=0, sizes=vars(scale), peers=peer_versions(args.peers, NAMES)
    )
    kept, fresh = earlier(out, about) if args.job else [], []
    for job in jobs:
        say(job.title)
        fresh.append(run_job(job, args.repeat, args.peers, TIMEOUT, say))
        about["minutes"] = round((time.time() - started) / 60, 1)
        save(out, {"meta": about, "jobs": merged(kept, fresh)})
    say(f"{out} after {about['minutes']} minutes; python benchmarks/tables.py prints the tables")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, "represent")
    parser.add_argument("--texts", type=Path, help="Parquet file with a column `gloss`")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Chains of runs of `kofn select`, each killed at its moment and gone on with by the next; forked from one warm process.

Forked, because Python, Ray and numba take seconds to import. The parent never connects to Ray and starts no thread.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import kofn.blocks.remote
import kofn.page.report  # noqa: F401
import ray  # noqa: F401
from blocks.laying import write_parquet
from kofn.cli import main
from ray_kills.moments import Watch


def warm_up(command: list[str]) -> None:
    """Load what a run imports and compiles, by a run on few rows that leaves no thread behind."""
    with TemporaryDirectory() as folder:
        x = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
        x[3] = np.nan
        few = write_parquet(Path(folder) / "few.parquet", x)
        places = ["--out", f"{folder}/out.parquet", "--checkpoint", f"{folder}/kept", "--threads", "1"]
        with (Path(folder) / "said").open("w") as said, redirect_stdout(said), redirect_stderr(said):
            assert main([command[0], few, *command[2:], *places]) == 0


def carry_out_chain(chain: dict) -> None:
    """Kill a run at each moment in turn, then let one come to its end; a line of JSON a run."""
    folder = Path(chain["folder"])
    (folder / "out").mkdir(parents=True)
    with (folder / "runs").open("w") as lines:
        for number, moment in enumerate([*chain["moments"], None]):
            began = time.monotonic()
            status = forked(
                folder, number, chain["command"] + (chain["last"] if moment is None else chain["more"]), moment
            )
            seen = {"moment": moment, "status": status, "seconds": round(time.monotonic() - began, 2), **look(folder)}
            if seen["out"] and moment:
                seen["again"] = forked(folder, None, chain["command"] + chain["more"], None)
                seen["left alone"] = look(folder)["out"] == seen["out"]
                (folder / "out" / "out.parquet").unlink()
            lines.write(json.dumps(seen) + "\n")
            lines.flush()


def forked(folder: Path, number: int | None, command: list[str], moment: list | None) -> int:
    """Run the command in a child; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 70
    try:
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(said, stream)
        if number is not None:
            Watch(folder / f"{number:03d}.moments", moment).install()
        places = ["--out", str(folder / "out" / "out.parquet"), "--checkpoint", str(folder / "kept")]
        code = main(command + places)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def look(folder: Path) -> dict:
    """What a killed run has left: the output's digest, what lies beside it, files of the checkpoint."""
    out = folder / "out" / "out.parquet"
    kept = [path for path in (folder / "kept").rglob("*") if path.is_file()]
    return {
        "out": blake2b(out.read_bytes()).hexdigest() if out.exists() else None,
        "beside": sorted(path.name for path in (folder / "out").iterdir() if path != out),
        "kept": len(kept),
        "parts": sum(path.suffix == ".part" for path in kept),
    }


if __name__ == "__main__":
    chains = json.loads(Path(sys.argv[1]).read_text())
    warm_up(chains[0]["command"])
    runners = []
    for each in chains:
        runners.append(os.fork())
        if not runners[-1]:
            failed = 1
            try:
                carry_out_chain(each)
                failed = 0
            finally:
                os._exit(failed)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1]) for runner in runners))

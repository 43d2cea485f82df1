"""A Ray cluster on this machine, from nothing: the picks of its workers are those of one process.

    pip install 'kofn[ray]'
    python examples/cluster.py                   # half a minute, 130 MB in a temporary folder
    python examples/cluster.py --address auto    # on a cluster that runs already

Writes four Parquet files, chooses from them in this process and by two workers, and compares. Then it stops a run in the
middle and goes on with it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kofn

ROWS, WIDTH, FILES, K = 250_000, 32, 4, 100


def main() -> None:
    """Write, choose, compare, stop, go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="local", help="local, auto or host:port")
    parser.add_argument("--folder", type=Path, help="where the files go; every worker must find it under this path")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        data = write_files(Path(folder))
        compare(data, args.address)
        stop_and_go_on(data, str(Path(folder) / "checkpoint"))


def write_files(folder: Path) -> str:
    """Four files of clustered vectors; the glob that means them."""
    rng = np.random.default_rng(0)
    centers = 3 * rng.standard_normal((200, WIDTH), np.float32)
    for at in range(FILES):
        x = centers[rng.integers(200, size=ROWS)] + rng.standard_normal((ROWS, WIDTH), np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), WIDTH)
        pq.write_table(pa.table({"embedding": column}), folder / f"part-{at}.parquet", row_group_size=65_536)
    return str(folder / "*.parquet")


def compare(data: str, address: str) -> None:
    """The same selection on both engines."""
    found = {}
    for engine, where in (("local", None), ("ray", address)):
        began = time.perf_counter()
        found[engine] = kofn.select(data, K, method="kmeans", engine=engine, address=where, threads=2, seed=0)
        print(f"{engine:>5}: {K} of {found[engine].provenance['n']:,} rows in {time.perf_counter() - began:.1f} s")
    same = all(
        getattr(found["ray"], name).tobytes() == getattr(found["local"], name).tobytes()
        for name in ("indices", "weights")
    )
    print(f"       the same picks and weights, bit for bit: {same}")
    assert same


def stop_and_go_on(data: str, checkpoint: str) -> None:
    """A run that is stopped after its first pass, and the same call again."""
    passes = Passes(stop_after=1)
    try:
        kofn.select(data, K, method="kmeans++", checkpoint=checkpoint, progress=passes)
    except KeyboardInterrupt:
        print("a run of two passes, stopped after the first")
    passes = Passes()
    kofn.select(data, K, method="kmeans++", checkpoint=checkpoint, progress=passes)
    known, slabs = (sum(getattr(each, name) for each in passes.ended) for name in ("known", "slabs"))
    print(f"went on: {known} of {slabs} slabs in {len(passes.ended)} passes were taken from the checkpoint")


class Passes:
    """Listens to a run; stops it after so many passes, as Ctrl-C would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.ended: list[object] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Progress within a pass; here nothing is shown."""

    def pass_ended(self, report: object) -> None:
        """A pass is over."""
        self.ended.append(report)
        if len(self.ended) == self.stop_after:
            raise KeyboardInterrupt


if __name__ == "__main__":
    main()

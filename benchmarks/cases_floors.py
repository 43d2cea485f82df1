"""What nobody can do without: reading the file, and the arithmetic of one pass. See `measure.py` for a case's shape."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

BATCH = 4096


def read_file(path: str, warm: str, readers: int) -> tuple[Any, Any]:
    """One pass over the vectors of a Parquet file by `readers` threads, each with row groups of its own."""
    import pyarrow.parquet as pq

    groups = pq.ParquetFile(path).metadata.num_row_groups
    readers = min(readers, groups)

    def read(path: str, mine: list[int]) -> int:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=8 << 20)
        rows = 0
        for batch in file.iter_batches(BATCH, row_groups=mine, columns=["emb"], use_threads=False):
            vectors = batch.column(0).values.to_numpy(zero_copy_only=False)
            rows += len(vectors) // batch.column(0).type.list_size
        return rows

    def run() -> int:
        with ThreadPoolExecutor(readers) as pool:
            shares = [list(map(int, part)) for part in np.array_split(np.arange(groups), readers)]
            return sum(pool.map(partial(read, path), shares))

    read(warm, [0])
    return run, lambda rows: {"rows": rows, "readers": readers, "row_groups": groups}


def product_argmin(rows: int, d: int, k: int, block: int, threads: int) -> tuple[Any, Any]:
    """Product with k centers and the largest of each row, block by block on threads, one BLAS thread in each."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    x = rng.standard_normal((1 << 16, d), dtype=np.float32)
    centers = np.ascontiguousarray(rng.standard_normal((k, d), dtype=np.float32).T)
    pieces = [min(block, rows - at) for at in range(0, rows, block)]

    def work(mine: list[int]) -> int:
        products, total = np.empty((block, k), np.float32), 0
        for turn, m in enumerate(mine):
            start = (turn * block) % (len(x) - block + 1)
            part = np.matmul(x[start : start + m], centers, out=products[:m])
            total += int(part.argmax(axis=1)[0] >= 0)
        return total

    def run() -> int:
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, [pieces[at::threads] for at in range(threads)]))

    work(pieces[:2])
    return run, lambda done: {"rows": rows, "pieces": done}

"""Rows, and the ways in which files lay them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def vectors(x):
    """A fixed_size_list column of the rows of x, whatever their type."""
    x = np.ascontiguousarray(x)
    return pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])


def table_of(x, **columns):
    return pa.table({"embedding": vectors(x), **columns})


def write_parquet(path, x, group=1 << 20, **columns):
    pq.write_table(table_of(x, **columns), path, row_group_size=group)
    return str(path)


def write_seven(folder, x, group=1 << 20):
    """Seven files of unequal lengths, one of them without rows."""
    folder.mkdir()
    n = len(x)
    cuts = sorted([0, min(1, n), n // 9, n // 9, n // 2, min(n // 2 + 3, n), n * 4 // 5, n])
    for at in range(7):
        write_parquet(folder / f"part-{at}.parquet", x[cuts[at] : cuts[at + 1]], group)
    return str(folder)


def write_ipc(path, x, batch=1 << 20):
    table = table_of(x)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return str(path)


def write_npy(path, x):
    np.save(path, x)
    return str(path)

"""The data that the benchmarks run on: made from seeds, kept in a folder, made again only where they are missing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    rows: int = 1_000_000
    wide: int = 384  # dimensions of the files
    narrow: int = 64  # dimensions of what is held in memory
    small_groups: int = 65_536
    parts: int = 4  # files of the large data set, `rows` each
    k: int = 1_000
    clusters: int = 1_000
    greedy_rows: int = 100_000
    facility_rows: int = 20_000
    facility_k: int = 500
    neighbors: int = 100
    law_seeds: int = 20


QUICK = Sizes(
    rows=70_000, wide=32, narrow=16, small_groups=8_000, k=100, clusters=50, greedy_rows=20_000, facility_rows=1_500,
    facility_k=60, neighbors=50, law_seeds=4,
)  # fmt: skip
WARM = 6_000  # rows of the small twin that every case warms up on


def mixture(n: int, d: int, clusters: int, spread: float, seed: int = SEED) -> Any:
    """Gaussian clusters of standard deviation 1 around centers of standard deviation `spread`; float32 (n, d)."""
    rng = np.random.default_rng(seed)
    centers = (spread * rng.standard_normal((clusters, d))).astype(np.float32)
    x = rng.standard_normal((n, d), dtype=np.float32)
    member = rng.integers(0, clusters, n)
    for start in range(0, n, 1 << 16):
        x[start : start + (1 << 16)] += centers[member[start : start + (1 << 16)]]
    return x


def mean_squared_distance(x: Any, points: Any) -> float:
    """Mean squared distance of the rows to their nearest point: |p|^2 - 2 x.p by one product with a column of ones."""
    squares = np.einsum("ij,ij->i", points, points, dtype=np.float64).astype(np.float32)
    turned = np.ascontiguousarray(np.concatenate([-2.0 * points, squares[:, None]], axis=1).T)
    rows, products = np.ones((PIECE, x.shape[1] + 1), np.float32), np.empty((PIECE, len(points)), np.float32)
    total = 0.0
    for start in range(0, len(x), PIECE):
        block = x[start : start + PIECE]
        m = len(block)
        rows[:m, :-1] = block
        least = np.matmul(rows[:m], turned, out=products[:m]).min(axis=1).astype(np.float64)
        least += np.einsum("ij,ij->i", block, block, dtype=np.float64)
        total += float(np.maximum(least, 0.0).sum())
    return total / len(x)


PIECE = 1 << 10  # rows whose products stay in the cache


def mean_distance(x: Any, points: Any) -> float:
    """Mean distance of the rows to their nearest point, in float64."""
    x, points = x.astype(np.float64), points.astype(np.float64)
    squares, total = (points * points).sum(axis=1), 0.0
    for start in range(0, len(x), 1 << 12):
        block = x[start : start + (1 << 12)]
        least = (squares - 2 * (block @ points.T)).min(axis=1) + (block * block).sum(axis=1)
        total += float(np.sqrt(np.maximum(least, 0.0)).sum())
    return total / len(x)


class Workloads:
    """Paths of the data in a folder; `make` writes what is missing."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self.small_groups = folder / "big64k.parquet"
        self.one_group = folder / "big1m.parquet"
        self.parts = folder / "big_parts"
        self.one_part = self.parts / "part-0.parquet"
        self.warm_file = folder / "warm.parquet"
        self.out = folder / "subset.parquet"

    def array(self, name: str) -> Path:
        """Path of an array by name: overlapping, separated, greedy, facility, and their small twins `warm_...`."""
        return self.folder / f"{name}.npy"

    @property
    def graph(self) -> Path:
        """The neighbour graph that apricot is given."""
        return self.folder / "facility_graph.npz"

    def needed_bytes(self, files: bool, large: bool) -> int:
        """Disk that `make` may need."""
        s = self.sizes
        return s.rows * (2 * 4 * s.wide * files + 2 * s.parts * s.wide * large + 2 * 4 * s.narrow)

    def make(self, names: set[str], say: Any) -> None:
        """Write those of {"files", "large", "arrays", "facility"} that are missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        need, room = self.needed_bytes("files" in names, "large" in names), shutil.disk_usage(self.folder).free
        if need > room:
            raise SystemExit(f"{self.folder} has {room / 2**30:.1f} GiB left, the data need up to {need / 2**30:.1f}")
        if "files" in names or "large" in names:
            self._files(say)
        if "large" in names:
            self._large(say)
        if "arrays" in names:
            self._arrays(say)
        if "facility" in names:
            self._facility(say)

    def _files(self, say: Any) -> None:
        s = self.sizes
        write_parquet(self.warm_file, WARM, s.wide, s.small_groups, say)
        write_parquet(self.small_groups, s.rows, s.wide, s.small_groups, say)
        write_parquet(self.one_group, s.rows, s.wide, s.rows, say)

    def _large(self, say: Any) -> None:
        s = self.sizes
        self.parts.mkdir(exist_ok=True)
        for part in range(s.parts):
            path = self.parts / f"part-{part}.parquet"
            write_parquet(path, s.rows, s.wide, s.small_groups, say, half=True, seed=SEED + part)

    def _arrays(self, say: Any) -> None:
        s = self.sizes
        for name, clusters, spread in (("overlapping", 100, 1.0), ("separated", s.k, 3.0)):
            self._array(name, s.rows, clusters, spread, say)
            self._array(f"warm_{name}", WARM, clusters, spread, say)
        self._array("greedy", s.greedy_rows, 100, 1.0, say)

    def _array(self, name: str, n: int, clusters: int, spread: float, say: Any) -> None:
        path = self.array(name)
        if path.exists() and np.load(path, mmap_mode="r").shape == (n, self.sizes.narrow):
            return
        say(f"writing {path}")
        np.save(path, mixture(n, self.sizes.narrow, clusters, spread))

    def _facility(self, say: Any) -> None:
        s = self.sizes
        self._array("facility", s.facility_rows, 100, 1.0, say)
        self._array("warm_facility", 600, 100, 1.0, say)
        if not self.graph.exists():
            say(f"writing {self.graph}")
            save_graph(self.graph, np.load(self.array("facility")), s.neighbors)


def write_parquet(path: Path, n: int, d: int, group: int, say: Any, *, half: bool = False, seed: int = SEED) -> None:
    """Standard normal rows as (id, emb): a non-null fixed_size_list, not compressed, no dictionary, `group` rows a group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.float16() if half else pa.float32()
    field = pa.field("emb", pa.list_(pa.field("element", kind, nullable=False), d), nullable=False)
    if path.exists() and _is_so(pq.ParquetFile(path), n, group, field.type):
        return
    say(f"writing {path}")
    rng = np.random.default_rng(seed)
    schema = pa.schema([pa.field("id", pa.int64()), field])
    temporary = path.with_suffix(".tmp")
    with pq.ParquetWriter(temporary, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, n, group):
            m = min(group, n - start)
            x = rng.standard_normal((m, d), dtype=np.float32).astype(np.float16 if half else np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), type=field.type)
            table = pa.Table.from_arrays([pa.array(np.arange(start, start + m)), vectors], schema=schema)
            writer.write_table(table, row_group_size=m)
    temporary.rename(path)


def _is_so(file: Any, n: int, group: int, kind: Any) -> bool:
    footer = file.metadata
    found = file.schema_arrow.field("emb").type
    return (
        footer.num_rows == n
        and footer.row_group(0).num_rows == min(n, group)
        and found.list_size == kind.list_size
        and found.value_type == kind.value_type
    )


def save_graph(path: Path, x: Any, neighbors: int) -> None:
    """Similarities (largest distance less distance) of every row to its nearest rows, itself among them, as CSR parts."""
    x = x.astype(np.float64)
    squares = (x * x).sum(axis=1)
    ids, distances = [], []
    for start in range(0, len(x), 1 << 10):
        block = x[start : start + (1 << 10)]
        squared = squares[start : start + (1 << 10), None] + squares - 2 * (block @ x.T)
        near = np.argpartition(squared, neighbors, axis=1)[:, :neighbors]
        ids.append(near.astype(np.int32))
        distances.append(np.sqrt(np.maximum(np.take_along_axis(squared, near, axis=1), 0.0)))
    near, distance = np.concatenate(ids), np.concatenate(distances)
    starts = np.arange(0, near.size + 1, neighbors)
    np.savez(path, data=(distance.max() - distance).ravel(), indices=near.ravel(), indptr=starts)

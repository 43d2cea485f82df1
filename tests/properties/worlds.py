"""The data that the laws are run on, and the columns that a method is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kofn
from kofn import Items, Method, Rng, Selection
from kofn.blocks import Run
from kofn.core.blas import one_blas_thread
from kofn.items import COLUMNS

ROLES = {"scores": "score", "groups": "group", "weights": "weight"}


@dataclass(frozen=True, eq=False)
class World:
    """n rows with every column that a method could read; `items` hands out those that it asks for."""

    x: Any
    scores: Any
    groups: Any
    weights: Any

    @property
    def n(self) -> int:
        return int(self.x.shape[0])

    def items(self, method: Method, columns: frozenset[str], *, have: Any = None, threads: int = 1) -> Items:
        given = {name: getattr(self, name) for name in columns}
        x = self.x if "embeddings" in method.needs | method.uses else None
        return Items(embeddings=x, rows=self.n, have=have, run=Run(threads), **given)

    def rows(self, order: Any) -> World:
        return World(*(column[order] for column in (self.x, self.scores, self.groups, self.weights)))

    def with_rows(self, x: Any) -> World:
        return replace(self, x=x)


def world(x: Any, seed: int = 0) -> World:
    """Rows with positive scores without ties, 4 groups of unequal sizes, and weights of 1, 2 or 3."""
    n, rng = x.shape[0], np.random.default_rng([seed, 99])
    scores = rng.permutation(np.linspace(0.5, 2.0, n))
    groups = np.array([12, 3, 101, 20])[np.minimum(rng.integers(0, 8, n), 3)]
    return World(x, scores, groups, rng.integers(1, 4, n).astype(np.float64))


def column_sets(method: Method) -> list[frozenset[str]]:
    """What a method is given beside vectors: what it needs, with each column that it can use, with all, with row weights."""
    needed = method.needs - {"embeddings"}
    useful = sorted(method.uses - {"embeddings", "weights"})
    sets = [needed, *(needed | {name} for name in useful), needed | set(useful), needed | {"weights"}]
    return list(dict.fromkeys(frozenset(each) for each in sets))


@cache
def gaussian(n: int = 300, d: int = 5, seed: int = 0) -> World:
    return world(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32), seed)


@cache
def blobs(count: int = 20, n: int = 600, d: int = 8, seed: int = 0) -> World:
    """Clusters of unequal sizes, 10 apart with a standard deviation of 0.2 to 0.4 along each axis, in shuffled order."""
    rng = np.random.default_rng([seed, 1])
    centers = rng.permutation(np.stack(np.meshgrid(*[[-5.0, 5.0]] * d), axis=-1).reshape(-1, d))[:count]
    share = rng.uniform(0.6, 1.4, count)
    labels = np.concatenate([np.arange(count), rng.choice(count, n - count, p=share / share.sum())])
    rng.shuffle(labels)
    x = centers[labels] + 0.4 * rng.normal(size=(n, d)) * rng.uniform(0.5, 1.0, (n, 1))
    return world(x.astype(np.float32), seed)


@cache
def three_islands() -> tuple[World, Any]:
    """Islands of 60, 45 and 30 rows, in directions at right angles, and the island of each row."""
    rng = np.random.default_rng(5)
    island = rng.permutation(np.repeat([0, 1, 2], [60, 45, 30]))
    x = 100.0 * np.eye(3)[island] + 0.2 * rng.normal(size=(135, 3))
    return world(x.astype(np.float32)), island


@cache
def near_ties(n: int = 140_000, d: int = 8) -> World:
    """Rows of which two thirds lie on a small lattice, exactly or up to rounding, hence on bisectors of any two picks.

    Eight dimensions, for with fewer no kernel of OpenBLAS was seen to round products of another shape differently.
    """
    rng = np.random.default_rng(7)
    lattice = rng.integers(0, 7, size=(n, d)).astype(np.float64)
    kind = rng.integers(0, 3, size=(n, 1))
    x = np.where(kind == 0, lattice, np.where(kind == 1, 0.1 * lattice + 3.0, rng.normal(2.0, 2.0, (n, d))))
    return world(x.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Watched(Items):
    """Items that note which of their columns is asked for."""

    asked: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in COLUMNS:
            Watched.asked.add(name)
        return super().__getattribute__(name)


def choose(method: Method, items: Items, k: int, seed: int = 0) -> Selection:
    """The method alone, as the front door calls it."""
    with one_blas_thread():
        return method.select(items, k, Rng(seed))


def through_the_door(method: Method, w: World, columns: frozenset[str], k: Any, **more: Any) -> Selection:
    """The front door, columns given as arrays."""
    return kofn.select(w.x, k, method=method, **{ROLES[name]: getattr(w, name) for name in columns}, **more)


def as_bytes(selection: Selection) -> dict[str, bytes]:
    """Everything that a selection says of its picks, as bytes."""
    names = ("indices", "weights", "inclusion", "gains", "strata")
    parts = {name: getattr(selection, name) for name in names}
    return {name: b"" if part is None else np.ascontiguousarray(part).tobytes() for name, part in parts.items()}


def write_layouts(w: World, folder: Path) -> dict[str, str]:
    """The same rows as Parquet with row groups of 1,000, of 70,000 and one, and as seven files of unequal lengths."""
    values = pa.array(np.ascontiguousarray(w.x, dtype=np.float32).reshape(-1))
    columns = {"embedding": pa.FixedSizeListArray.from_arrays(values, w.x.shape[1])}
    columns |= {ROLES[name]: pa.array(getattr(w, name)) for name in ROLES}
    table = pa.table(columns)
    paths = {}
    for name, size in (("groups of 1,000", 1_000), ("groups of 70,000", 70_000), ("one group", w.n)):
        paths[name] = str(folder / f"{size}.parquet")
        pq.write_table(table, paths[name], row_group_size=size, compression="none")
    seven = folder / "seven"
    seven.mkdir()
    cuts = [0, *(int(w.n * share) for share in (0.001, 0.11, 0.35, 0.36, 0.71, 0.93)), w.n]
    for part, (start, stop) in enumerate(pairwise(cuts)):
        pq.write_table(table.slice(start, stop - start), seven / f"part-{part}.parquet", row_group_size=9_999)
    return paths | {"seven files": str(seven)}

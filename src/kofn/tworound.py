"""Two rounds: choose in parts, then choose among what was chosen. A wrapper that is a method and knows none by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from shutil import disk_usage
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from kofn.blocks import FileBlocks
from kofn.core.assign import cell_weights
from kofn.core.block import SLAB, Block, Rows, by_slab
from kofn.errors import BudgetError
from kofn.items import Items
from kofn.method import Method, door_metric
from kofn.rng import Rng
from kofn.selection import Selection

SMALLEST = 1 << 10


@dataclass(frozen=True, kw_only=True)
class TwoRound(Method):
    """Runs a method on parts of the rows, then once more on the union of what it picked there, weighted.

    Rows are dealt to parts by their hash, so that every part is a random sample of the whole. What is left of the method's
    guarantee is its own `lifts` sentence.

    Needs: what the method needs. Streams: no. Weights: Voronoi counts over all rows, or equal. Cost: the method's on every
    part and on the union; four passes, and a temporary file as large as the rows where they lie in files.
    """

    method: Method = field()
    part: int = field()

    name: ClassVar[str] = "two rounds"
    summary: ClassVar[str] = "a method on parts, then on what it picked there"

    def __post_init__(self) -> None:
        """Nothing to check: the front door chose the part."""

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose k in each part, then k among those."""
        parts = -(-items.n // self.part)
        rows, weights = [], []
        with _parts(items, parts, rng) as dealt:
            for at, (mine, vectors) in enumerate(dealt):
                inner = items.subset(mine, vectors)
                if inner.free:
                    first = self.method.select(inner, min(k, inner.free), rng.child(f"part {at}"))
                    rows.append(mine[first.indices])
                    weights.append(first.weights)
                if items.run.tell:
                    items.run.tell("parts", at + 1, parts)
        candidates = np.concatenate([*rows, items.have_rows])
        mass = np.concatenate([*weights, np.ones(len(items.have_rows))])
        order = np.argsort(candidates, kind="stable")
        candidates, mass = candidates[order], mass[order]
        union = items.subset(candidates, items.blocks().take(candidates), mass)
        last = self.method.select(union, k, rng.child("union"))
        picks = candidates[last.indices]
        # The union's objective and gains are not those of all rows; only its notes still hold.
        notes = {"notes": last.provenance.get("notes", [])}
        return Selection(indices=picks, weights=self._weights(items, picks), provenance=notes)

    def bytes(self, n: int, d: int, k: int) -> int:
        """The larger of a part's and the union's."""
        union = -(-n // self.part) * k
        return max(self.method.bytes(self.part, d, k), self.method.bytes(union, d, k)) + 16 * n

    def passes(self, n: int, d: int, k: int) -> int:
        """One to deal the rows, one to take the union, two for the weights."""
        return 4

    def _weights(self, items: Items, picks: Rows) -> Any:
        if self.method.weights == "equal":
            held = items.row_weights[items.have_rows].sum()
            return np.full(len(picks), (items.row_weights.sum() - held) / len(picks))
        blocks = items.blocks(door_metric(self.method))
        rows = np.concatenate([picks, items.have_rows])
        return cell_weights(blocks, blocks.take(rows), items.weights, rows)[: len(picks)]


def parts_for(method: Method, n: int, d: int, k: int, memory: int) -> int:
    """The largest power-of-two number of rows whose part and union both fit in `memory`."""
    part = 1 << int(np.ceil(np.log2(n)))
    while part >= max(SMALLEST, 2 * k):
        union = -(-n // part) * k
        if method.bytes(part, d, k) <= memory and method.bytes(union, d, k) <= memory:
            return part
        part //= 2
    raise BudgetError(
        f"{method.name} does not fit in {memory / 2**20:,.0f} MiB even in parts of {max(SMALLEST, 2 * k):,} rows "
        f"(k={k}, {d} dimensions); give more with --memory, or use a method that streams"
    )


def _deal(n: int, parts: int, rng: Rng) -> Any:
    deal = np.empty(n, np.int32)
    for start in range(0, n, SLAB):
        stop = min(start + SLAB, n)
        deal[start:stop] = rng.rows(start, stop, "deal") * parts
    return deal


@contextmanager
def _parts(items: Items, parts: int, rng: Rng) -> Iterator[Iterator[tuple[Rows, Any]]]:
    """Row numbers and vectors of each part: from the array, or from a file that all rows are dealt into in one pass."""
    deal = _deal(items.n, parts, rng)
    order = np.argsort(deal, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(deal, minlength=parts))
    spans = list(zip(np.concatenate([[0], ends[:-1]]), ends, strict=True))
    if not isinstance(items.embeddings, FileBlocks):
        yield ((order[a:b], items.embeddings[order[a:b]]) for a, b in spans)
        return
    with TemporaryDirectory(prefix="kofn-") as folder:
        path = _spool(items, deal, spans, folder)
        shape = (items.n, items.d)
        yield ((order[a:b], np.memmap(path, np.float32, "r", shape=shape)[a:b]) for a, b in spans)


def _spool(items: Items, deal: Any, spans: list[tuple[Any, Any]], folder: str) -> str:
    """Deal the rows of files into one file, part after part. Plain writes, so that a full disk is an error."""
    width, room = 4 * items.d, disk_usage(folder).free
    if items.n * width > room:
        raise BudgetError(
            f"two rounds put all rows into a temporary file of {items.n * width / 2**30:.1f} GiB, {folder} has "
            f"{room / 2**30:.1f} GiB left; point TMPDIR to a larger disk, or give --memory more"
        )
    path = os.path.join(folder, "rows")
    cursor = [int(start) for start, _ in spans]
    with open(path, "wb", buffering=0) as file:
        for parts, rows in items.blocks().map(_sorted_by_part, each=by_slab(deal)):
            counts = np.bincount(parts, minlength=len(spans))
            stops = np.cumsum(counts)
            for part in np.flatnonzero(counts):
                chunk = rows[stops[part] - counts[part] : stops[part]]
                os.pwrite(file.fileno(), chunk.tobytes(), cursor[part] * width)
                cursor[part] += len(chunk)
    return path


def _sorted_by_part(block: Block, deal: Any) -> tuple[Any, Any]:
    order = np.argsort(deal, kind="stable")
    return deal, block.x[order]

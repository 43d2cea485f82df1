"""Two rounds: choose in parts, then choose among what was chosen. A wrapper that is a method and knows none by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from shutil import disk_usage
from tempfile import TemporaryFile, gettempdir
from typing import Any, ClassVar

import numpy as np

from kofn.blocks import FileBlocks, Run, file_blocks
from kofn.blocks.engine import PassReport
from kofn.blocks.passes import retries_of
from kofn.core.assign import cell_weights
from kofn.core.block import SLAB, Block, Rows, by_slab
from kofn.errors import BudgetError
from kofn.items import Items
from kofn.method import Method, door_metric
from kofn.rng import Rng
from kofn.selection import Selection

SMALLEST = 1 << 10

SPOOL = 1 << 36
"""Bytes of rows up to which they are dealt to parts by their hash, by way of a temporary file; more are cut in their order."""


@dataclass(frozen=True, kw_only=True)
class TwoRound(Method):
    """Runs a method on parts of the rows, then once more on the union of what it picked there, weighted.

    Rows are dealt to parts by their hash, so that every part is a random sample of the whole; more than 64 GiB of rows are cut
    in their order. Where the union is itself too large for `memory`, it is dealt to parts in turn. What is left of the
    method's guarantee is its own `lifts` sentence.

    Needs: what the method needs. Streams: no. Weights: Voronoi counts over all rows, or equal. Cost: the method's on every
    part and on the union; four passes, and a temporary file as large as the rows where they lie in files. On a cluster
    every worker reads all rows once and keeps those of its parts: rows do not travel.
    """

    method: Method = field()
    part: int = field()
    rounds: int = field(default=2)
    deal: str = field(default="hash")

    name: ClassVar[str] = "two rounds"
    summary: ClassVar[str] = "a method on parts, then on what it picked there"

    def __post_init__(self) -> None:
        """Nothing to check: the front door chose the part."""

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose k in each part, then k among those."""
        union, numbers = items, np.arange(0)
        for at in range(self.rounds - 1):
            drawn = rng if at == 0 else rng.child(f"round {at + 2}")
            candidates, mass = self._candidates(union, k, drawn)
            numbers = candidates if at == 0 else numbers[candidates]
            union = _among(items, numbers, mass, last=at == self.rounds - 2)
        last = self.method.select(union, k, rng.child("union"))
        picks = numbers[last.indices]
        # The union's objective and gains are not those of all rows; only its notes still hold.
        notes = {"notes": last.provenance.get("notes", [])}
        return Selection(indices=picks, weights=self._weights(items, picks), provenance=notes)

    def bytes(self, n: int, d: int, k: int) -> int:
        """The larger of a part's and the last union's."""
        return max(self.method.bytes(self.part, d, k), self.method.bytes(self.union(n, k), d, k)) + 16 * n

    def union(self, n: int, k: int) -> int:
        """Rows that the last round chooses from."""
        for _ in range(self.rounds - 1):
            n = -(-n // self.part) * k
        return n

    def passes(self, n: int, d: int, k: int) -> int:
        """One to deal the rows, one to take the union, one more for each further round, two for the weights."""
        return 2 + self.rounds

    def words(self) -> str:
        """The number of rounds in words."""
        return {2: "two rounds", 3: "three rounds"}.get(self.rounds, f"{self.rounds} rounds")

    def _candidates(self, items: Items, k: int, rng: Rng) -> tuple[Rows, Any]:
        """What was picked in the parts and what `have` holds, ascending, and how many rows each stands for."""
        parts = -(-items.n // self.part)
        rows, weights = [], []
        for at, (found, standing) in enumerate(_first_round(self, items, k, rng)):
            rows.append(found)
            weights.append(standing)
            if items.run.tell:
                items.run.tell("parts", at + 1, parts)
        candidates = np.concatenate([*rows, items.have_rows])
        mass = np.concatenate([*weights, np.ones(len(items.have_rows))])
        order = np.argsort(candidates, kind="stable")
        return candidates[order], mass[order]

    def _weights(self, items: Items, picks: Rows) -> Any:
        if self.method.weights == "equal":
            held = items.row_weights[items.have_rows].sum()
            return np.full(len(picks), (items.row_weights.sum() - held) / len(picks))
        blocks = items.blocks(door_metric(self.method))
        rows = np.concatenate([picks, items.have_rows])
        return cell_weights(blocks, blocks.take(rows), items.weights, rows)[: len(picks)]


def lifted(method: Method, n: int, d: int, k: int, memory: int, have: int = 0, sized: bool = True) -> TwoRound:
    """How the method is run on parts: the largest power-of-two number of rows whose part and union both fit in `memory`.

    Where there is none, the largest part that fits, and as many rounds as its unions need. `sized` says whether so many rows
    that they cannot be dealt by hash are cut in their order.
    """
    deal = "consecutive" if sized and 4 * n * d > SPOOL else "hash"
    part, most = 1 << int(np.ceil(np.log2(n))), 0
    while part >= max(SMALLEST, 2 * k):
        if method.bytes(part, d, k) <= memory:
            most = max(most, part)
            if method.bytes(-(-n // part) * k + have, d, k) <= memory:
                return TwoRound(method=method, part=part, deal=deal)
        part //= 2
    rounds, left = 1, n
    while most and rounds < 12:
        smaller = -(-left // most) * k + have
        rounds += 1
        if method.bytes(smaller, d, k) <= memory:
            return TwoRound(method=method, part=most, rounds=rounds, deal=deal)
        if smaller > 0.75 * left:
            break
        left = smaller
    raise BudgetError(
        f"{method.name} does not fit in {memory / 2**20:,.0f} MiB even in parts of {max(SMALLEST, 2 * k):,} rows "
        f"(k={k}, {d} dimensions); give more with --memory, or use a method that streams"
    )


def _among(items: Items, rows: Rows, mass: Any, *, last: bool) -> Items:
    """Items of these rows alone: held in memory for the last round, else left where they lie."""
    door = items.embeddings
    if last or not isinstance(door, FileBlocks):
        return items.subset(rows, items.blocks().take(rows), mass)
    left = file_blocks(door.dataset, door.embedding, kept=door.physical(rows), run=items.run)
    return replace(items.subset(rows, left, mass), run=items.run)


def _first_round(rounds: TwoRound, items: Items, k: int, rng: Rng) -> Iterator[tuple[Rows, Any]]:
    """(rows, weights) of the picks of each part, in order: known from the checkpoint, or made, here or on the cluster."""
    run, parts = items.run, -(-items.n // rounds.part)
    store = None
    if run.checkpoint is not None:
        what = ("parts", rounds.method.name, rounds.method.settings(), rounds.part, rounds.deal, items.n, k, rng)
        store = run.checkpoint.results_of_pass(what)
    began, before = time.monotonic(), retries_of(run)
    known: frozenset[int] = frozenset() if store is None else store.known()
    left = [part for part in range(parts) if part not in known]
    fresh = _made(rounds, items, k, rng, left)
    for part in range(parts):
        if store is None:
            yield next(fresh)
        elif part in known:
            yield store.load(part, lambda part=part: next(_made(rounds, items, k, rng, [part])))  # type: ignore[misc]
        else:
            yield store.keep(part, next(fresh))
    if run.ended is not None:
        seconds = time.monotonic() - began
        run.ended(PassReport(next(run.numbers), items.n, parts, len(known), retries_of(run) - before, seconds))


def _made(rounds: TwoRound, items: Items, k: int, rng: Rng, mine: Sequence[int]) -> Iterator[tuple[Rows, Any]]:
    """The picks of these parts, ascending."""
    cluster = items.run.cluster
    if cluster is None or not isinstance(items.embeddings, FileBlocks) or not mine:
        yield from _picks(rounds, items, k, rng, mine)
        return
    # In their order parts are read alone; by hash each call reads all rows, so there are no more calls than workers.
    calls = len(mine) if rounds.deal == "consecutive" else min(len(mine), cluster.workers)
    cut = [mine[at * len(mine) // calls : (at + 1) * len(mine) // calls] for at in range(calls)]
    alone = Run(threads=1, cache=items.run.cache)
    sent = replace(items, embeddings=items.embeddings.again(alone), run=alone)
    shared = (rounds, sent, k, rng)
    for found in cluster.map(
        _picks_of, shared, [(each,) for each in cut], lambda at: f"parts {cut[at][0]} to {cut[at][-1]}"
    ):
        yield from found


def _picks_of(rounds: TwoRound, items: Items, k: int, rng: Rng, mine: Sequence[int]) -> list[tuple[Rows, Any]]:
    return list(_picks(rounds, items, k, rng, mine))


def _picks(rounds: TwoRound, items: Items, k: int, rng: Rng, mine: Sequence[int]) -> Iterator[tuple[Rows, Any]]:
    with _parts(rounds, items, rng, mine) as dealt:
        for at, (rows, vectors) in zip(mine, dealt, strict=True):
            inner = items.subset(rows, vectors)
            if not inner.free:
                yield rows[:0], np.zeros(0)
                continue
            first = rounds.method.select(inner, min(k, inner.free), rng.child(f"part {at}"))
            yield rows[first.indices], first.weights


def _deal(n: int, parts: int, rng: Rng) -> Any:
    deal = np.empty(n, np.int32)
    for start in range(0, n, SLAB):
        stop = min(start + SLAB, n)
        deal[start:stop] = rng.rows(start, stop, "deal") * parts
    return deal


@contextmanager
def _parts(rounds: TwoRound, items: Items, rng: Rng, mine: Sequence[int]) -> Iterator[Iterator[tuple[Rows, Any]]]:
    """Row numbers and vectors of each of these parts: from the array, or from a file that they are dealt into in one pass."""
    parts, door = -(-items.n // rounds.part), items.embeddings
    if rounds.deal == "consecutive":
        spans = [(part * rounds.part, min((part + 1) * rounds.part, items.n)) for part in mine]
        yield ((np.arange(a, b), door.span(a, b) if isinstance(door, FileBlocks) else door[a:b]) for a, b in spans)
        return
    deal = _deal(items.n, parts, rng)
    if len(mine) < parts:  # those of other parts come first, and are left
        place = np.full(parts, -1, np.int32)
        place[list(mine)] = np.arange(len(mine))
        deal = place[deal]
    order = np.argsort(deal, kind="stable").astype(np.int64)[int((deal < 0).sum()) :]
    ends = np.cumsum(np.bincount(deal[deal >= 0], minlength=len(mine)))
    spans = list(zip(np.concatenate([[0], ends[:-1]]).tolist(), ends.tolist(), strict=True))
    if not isinstance(door, FileBlocks):
        yield ((order[a:b], door[order[a:b]]) for a, b in spans)
        return
    if not mine:
        yield iter(())
        return
    with TemporaryFile(prefix="kofn-", buffering=0) as file:  # it has no name, so a killed process leaves nothing
        _spool(items, deal, spans, file)
        shape = (len(order), items.d)
        yield ((order[a:b], np.memmap(file, np.float32, "r", shape=shape)[a:b]) for a, b in spans)


def _spool(items: Items, deal: Any, spans: list[tuple[Any, Any]], file: Any) -> None:
    """Deal the rows of files into one file, part after part. Plain writes, so that a full disk is an error."""
    width, folder, rows = 4 * items.d, gettempdir(), spans[-1][1]
    room = disk_usage(folder).free
    if rows * width > room:
        raise BudgetError(
            f"two rounds put all rows into a temporary file of {rows * width / 2**30:.1f} GiB, {folder} has "
            f"{room / 2**30:.1f} GiB left; point TMPDIR to a larger disk, or give --memory more"
        )
    cursor = [int(start) for start, _ in spans]
    for parts, chosen in items.blocks().here.map(_sorted_by_part, each=by_slab(deal)):
        counts = np.bincount(parts[parts >= 0], minlength=len(spans))
        stops = np.cumsum(counts)
        for part in np.flatnonzero(counts):
            chunk = chosen[stops[part] - counts[part] : stops[part]]
            os.pwrite(file.fileno(), chunk.tobytes(), cursor[part] * width)
            cursor[part] += len(chunk)


def _sorted_by_part(block: Block, deal: Any) -> tuple[Any, Any]:
    order = np.argsort(deal, kind="stable")
    return deal, block.x[order[int((deal < 0).sum()) :]]

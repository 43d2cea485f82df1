"""What is in the files: columns, the embedding and its health, and what to run on them. One pass over the embedding."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kofn.blocks import FileBlocks, Run
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import Embedding
from kofn.blocks.features import Features
from kofn.blocks.footers import Footers
from kofn.core.block import Block, Floats
from kofn.core.jit import kernel
from kofn.errors import KofnError, UsageError
from kofn.featuring import settle_features
from kofn.footprint import memory_held, process_peak
from kofn.front import MEMORY
from kofn.intake import read_source, settle_embedding
from kofn.request import check_options, prepare

Hashes = NDArray[np.uint64]

UNIT = 2e-3
"""Rows whose lengths are this near to 1 count as normalised: float16 rounds by half of it."""


@dataclass(frozen=True)
class Column:
    """A column: its name, its type, and its nulls (None where only reading it would tell, and it was not read)."""

    name: str
    type: str
    nulls: int | None


@dataclass(frozen=True)
class Health:
    """What one pass over the embedding found.

    Attributes
    ----------
    invalid : int
        Rows that hold null, NaN or infinity.
    first_invalid : int or None
        The first of them.
    where : str or None
        The file that holds it.
    nan : int
        Rows with null or NaN.
    infinite : int
        The other invalid rows: with infinity.
    zero : int
        Valid rows of nothing but 0: they have no direction, cosine cannot use them.
    distinct : int
        Different valid rows, by 64-bit hashes of their float32 values.
    duplicates : int
        Valid rows that repeat an earlier one.
    most_copies : int
        How often the most frequent row occurs.
    norms : (float, float, float) or None
        Smallest, median and largest length of the valid rows.
    unit : bool
        Whether all of them have length 1.
    """

    invalid: int
    first_invalid: int | None
    where: str | None
    nan: int
    infinite: int
    zero: int
    distinct: int
    duplicates: int
    most_copies: int
    norms: tuple[float, float, float] | None
    unit: bool


@dataclass(frozen=True)
class Inspection:
    """What is in the data, and what to run on them.

    Attributes
    ----------
    data : str
        What was asked for.
    rows, bytes : int
    files : list of str
    groups : (int, int, int)
        Row groups: their number, the rows of the smallest and of the largest.
    columns : list of Column
    embedding : str or None
        The column that holds the vectors, or the glob of those that do.
    d : int
        Length of a vector; 0 without one.
    dtype : str or None
        Type of its numbers.
    health : Health or None
        None without an embedding.
    suggestion : dict
        What "auto" would do for 1 % of the rows: `k`, `method`, `run`, `memory` (bytes at most), `command`; or `why` not.
    notes : list of str
    features : list of str
        Plain columns that become the vectors where there is no embedding.
    """

    data: str
    rows: int
    bytes: int
    files: list[str]
    groups: tuple[int, int, int]
    columns: list[Column]
    embedding: str | None
    d: int
    dtype: str | None
    health: Health | None
    suggestion: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    features: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the schema is in docs/cli.md."""
        return asdict(self)


def inspect_data(
    data: Any,
    *,
    embedding: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Inspection:
    """Look at a table: its columns, which of them is the embedding, and whether its rows can be used.

    Parameters
    ----------
    data : path or table
        See `kofn.select`.
    embedding : str, optional
        Column, or glob of numeric columns; found by itself where only one can be meant.
    dtype : str, optional
        Type of the numbers in a fixed-size binary column.
    threads : int, optional
        As many as the process may use, by default.
    progress : callable, optional
        Called as `progress(stage, done, total)`.

    Returns
    -------
    Inspection

    Notes
    -----
    One pass over the embedding, in 12 bytes a row beside the rows in flight. Columns whose footers do not count nulls are
    read as well, one at a time.
    """
    check_options("local", threads, "error")
    run = Run(threads, progress)
    source = read_source(data, embedding=embedding, dtype=dtype, run=run)
    dataset = source.dataset
    if dataset is None:
        raise UsageError("an array has no columns to look at; give a file, a folder, or a table")
    notes: list[str] = []
    try:
        settle_embedding(source, needed=True)
    except UsageError as error:  # several could be it: say so, and tell the rest
        settle_embedding(source, needed=False)
        notes.append(str(error))
    found = source.embedding
    if found is None and not notes:
        notes += _hints(dataset)
        settle_features(source, {})
        found, made = None, source.embedding or source.passed_over
        notes.append(made.sentence() + _label_hint(made))
    process = process_peak()  # before the pass, whose memory is its own
    health = None if found is None else _examine(FileBlocks(dataset, found, run=run, check=False))
    groups = [group.rows for group in dataset.groups]
    seen = Inspection(
        data=str(data) if isinstance(data, str) or hasattr(data, "__fspath__") else dataset.describe(),
        rows=dataset.n,
        bytes=dataset.nbytes,
        files=dataset.names,
        groups=(len(groups), min(groups), max(groups)),
        columns=_columns(dataset, () if found is None else found.columns),
        embedding=None if found is None else embedding or found.columns[0],
        d=0 if found is None else found.d,
        dtype=None if found is None else _numpy_name(found),
        health=health,
        suggestion={},
        notes=notes,
        features=list(source.embedding.columns) if source.has_features else [],
    )
    return replace(seen, suggestion=_suggestion(seen, data, dtype, run, process))


def _label_hint(made: Features) -> str:
    """What only the user knows: which of the columns is the label."""
    return "; a label, score or group among them stays out when it is named: --label COL" if made.parts else ""


def _hints(dataset: Dataset) -> list[str]:
    """Columns that could be the embedding if the user said so: binary ones, and families of numeric ones."""
    hints, families = [], dict[str, int]()
    for one in dataset.schema:
        if pa.types.is_fixed_size_binary(one.type) and one.type.byte_width >= 8:
            hints.append(
                f"{one.name!r} has {one.type.byte_width:,} bytes a row; if they are a vector, say of what: "
                f"--embedding {shlex.quote(one.name)} --dtype float32"
            )
        family = re.fullmatch(r"(.*?)\d+", one.name)
        if family and (pa.types.is_floating(one.type) or pa.types.is_integer(one.type)):
            families[family[1]] = families.get(family[1], 0) + 1
    for stem, members in families.items():
        if members >= 2:
            hints.append(f"{members} numeric columns could be a vector together: --embedding {shlex.quote(stem + '*')}")
    return hints


def _columns(dataset: Dataset, vectors: tuple[str, ...]) -> list[Column]:
    footers = Footers(dataset)
    return [Column(one.name, str(one.type), _nulls(footers, one, one.name in vectors)) for one in dataset.schema]


def _nulls(footers: Footers, one: Any, is_vector: bool) -> int | None:
    counted = footers.nulls(one.name)
    if counted == 0 or (counted is not None and not pa.types.is_nested(one.type)):
        return counted
    if is_vector:  # the pass over it has counted null and NaN together
        return None
    return sum(batch.column(0).null_count for batch in footers.dataset.read(0, footers.dataset.n, [one.name]))


def _numpy_name(embedding: Embedding) -> str:
    return {"float": "float32", "double": "float64"}.get(embedding.dtype, embedding.dtype)


def _examine(blocks: FileBlocks) -> Health:
    hashes, norms = np.empty(blocks.n, np.uint64), np.empty(blocks.n, np.float32)
    at = nan = infinite = 0
    first: int | None = None
    for hashed, lengths, bad in blocks.map(_look):
        hashes[at : at + len(hashed)] = hashed
        norms[at : at + len(hashed)] = lengths
        at += len(hashed)
        nan, infinite = nan + bad[0], infinite + bad[1]
        first = bad[2] if first is None else first
    hashes, norms = hashes[:at], norms[:at]
    distinct, most = _runs(_sorted(hashes))
    return Health(
        invalid=nan + infinite,
        first_invalid=first,
        where=None if first is None else blocks.dataset.place_of(first),
        nan=nan,
        infinite=infinite,
        zero=int((norms == 0).sum()),
        distinct=distinct,
        duplicates=at - distinct,
        most_copies=most,
        norms=_summary(norms),
        unit=at > 0 and bool(np.abs(norms - 1).max() <= UNIT),
    )


def _look(block: Block) -> tuple[Hashes, Floats, tuple[int, int, int | None]]:
    """Hashes and lengths of the valid rows of a slab; how many others hold NaN, how many infinity, and the first of them."""
    norms = np.sqrt(np.einsum("ij,ij->i", block.x, block.x, dtype=np.float64))
    valid = np.isfinite(norms)
    hashes = np.empty(len(norms), np.uint64)
    _hash_rows(block.x.view(np.uint32), hashes)
    lost = np.flatnonzero(~valid)
    nan = int(np.isnan(block.x[lost]).any(axis=1).sum())
    first = block.start + int(lost[0]) if len(lost) else None
    return hashes[valid], norms[valid].astype(np.float32), (nan, len(lost) - nan, first)


def _sorted(hashes: Hashes) -> Hashes:
    hashes.sort()
    return hashes


def _summary(norms: Floats) -> tuple[float, float, float] | None:
    if not len(norms):
        return None
    middle = (len(norms) - 1) // 2
    norms.partition(middle)  # in place: a copy would be 4 bytes a row more
    return float(norms.min()), float(norms[middle]), float(norms.max())


@kernel
def _hash_rows(bits: NDArray[np.uint32], hashes: Hashes) -> None:
    """A 64-bit hash of each row's float32 bits; -0 counts as 0. Every step is one-to-one in what was hashed before."""
    for i in range(bits.shape[0]):
        h = np.uint64(0x9E3779B97F4A7C15)
        for j in range(bits.shape[1]):
            word = np.uint64(bits[i, j])
            if word == np.uint64(0x80000000):
                word = np.uint64(0)
            h = (h ^ word) * np.uint64(0xD6E8FEB86659FD93)
            h ^= h >> np.uint64(32)
        h *= np.uint64(0xD6E8FEB86659FD93)
        hashes[i] = h ^ (h >> np.uint64(32))


@kernel
def _runs(ordered: Hashes) -> tuple[int, int]:
    """Different values in sorted ones, and how often the most frequent occurs."""
    distinct = most = run = 0
    for i in range(len(ordered)):
        if i == 0 or ordered[i] != ordered[i - 1]:
            distinct += 1
            run = 0
        run += 1
        most = max(most, run)
    return distinct, most


def _suggestion(seen: Inspection, data: Any, dtype: str | None, run: Run, process: int) -> dict[str, Any]:
    """What "auto" would do with 1 % of the rows."""
    columns = dict.fromkeys(("label", "score", "group", "weight"))
    try:
        request = prepare(
            data, "1%", method="auto", embedding=seen.embedding, columns=columns, id=None, have=None, metric=None,
            invalid="error", memory=MEMORY, dtype=dtype, run=run, params={},
        )  # fmt: skip
        parts = request.lifted
    except KofnError as error:
        return {"why": str(error)}
    method = request.method
    how = parts.words() if parts is not None else "streamed" if method.streams else "in memory"
    options = ["--method", method.name]
    if seen.embedding is not None and "embeddings" in method.needs:
        options += ["--embedding", seen.embedding] + ([] if dtype is None else ["--dtype", dtype])
    if seen.health is not None and "embeddings" in method.needs:
        options += ["--metric", "cosine"] if seen.health.unit and hasattr(method, "metric") else []
        options += ["--invalid", "drop"] if seen.health.invalid else []
    command = ["kofn", "select", seen.data, "-k", "1%", *options, "--out", "subset.parquet"]
    return {
        "k": request.k,
        "method": method.name,
        "run": how,
        "memory": memory_held(request, parts, process)["total"],
        "command": shlex.join(command),
    }

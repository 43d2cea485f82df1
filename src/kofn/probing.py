"""How long a checked selection may take: a slab read and the method tried on a few rows, on this machine, now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.blas import one_blas_thread
from kofn.core.block import SLAB, Floats, Rows
from kofn.core.jit import compilations
from kofn.errors import KofnError
from kofn.items import Items
from kofn.method import is_matrix
from kofn.request import Request
from kofn.rng import Rng

TRIED = 4096
"""Rows that the method is tried on."""

READ = 64 << 20
"""Bytes that the trial reading decodes at most."""


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes
    ----------
    first, again : float
        Seconds to read a row's vector: when the rows were read for the first time, and once more.
    byte : float
        Seconds to read a byte of a row with all its columns.
    rows : int
        Rows that the method was tried on; 0 where it could not be.
    picks : int
        Rows that it chose among them.
    half, whole : float
        Seconds that it took on half of these rows, and on all.
    compiled : bool
        Whether kernels were compiled for it, which the next process will find on disk.
    problem : str
        Why it could not be tried.
    """

    first: float = 0.0
    again: float = 0.0
    byte: float = 0.0
    rows: int = 0
    picks: int = 0
    half: float = 0.0
    whole: float = 0.0
    compiled: bool = False
    problem: str = ""

    def reading(self, n: int, passes: float, readers: int) -> tuple[float, float]:
        """Seconds to read n rows `passes` times: as fast as the second time by all readers, or as slow as the first by one."""
        fast, slow = sorted((self.first, self.again))
        return n * passes * fast / readers, n * passes * slow

    def working(self, n: int, k: int, parts: int, streams: bool) -> tuple[float, float] | None:
        """Seconds of work on n rows in so many parts; None where the method could not be tried.

        Work grows with the rows, and with the square of them at most where all are held at once: the growth from half of
        the rows to all of them says which. Fewer picks than asked for were tried where k is large: the more of them,
        the more work, in proportion at most.
        """
        if not self.rows:
            return None
        power = 1.0 if streams else float(np.clip(np.log2(max(self.whole, 1e-9) / max(self.half, 1e-9)), 1.0, 2.0))
        times = n / parts / self.rows
        low, high = parts * self.whole * times, parts * self.whole * times**power
        return 0.25 * low, 3.0 * high * max(1.0, k / self.picks)


def probe(request: Request, row_bytes: int, stored_row_bytes: float) -> Probe:
    """Read a slab twice, and try the method on some of its rows. A second or so; at first use, kernels are compiled.

    Parameters
    ----------
    row_bytes : int
        Bytes of a row with all its columns once decoded.
    stored_row_bytes : float
        Bytes of it as it lies.
    """
    measured: dict[str, Any] = {}
    if request.source.dataset is not None and request.source.dataset.files[0].path:
        measured["byte"] = _time_of_a_byte(request, row_bytes, stored_row_bytes)
    try:
        x, rows = _slab(request, measured)
        with compilations() as compiled:
            tried = _try(request, x, rows)
        return Probe(**measured, **tried, compiled=bool(compiled))
    except KofnError as error:
        return Probe(**measured, problem=str(error))


def _time_of_a_byte(request: Request, row_bytes: int, stored_row_bytes: float) -> float:
    rows = int(np.clip(READ // max(1, row_bytes), 1, min(SLAB, request.source.n)))
    began = time.perf_counter()
    for _ in request.source.dataset.read(0, rows):
        pass
    return (time.perf_counter() - began) / (rows * max(1.0, stored_row_bytes))


def _slab(request: Request, measured: dict[str, Any]) -> tuple[Any, Rows]:
    """Vectors of rows of the first slab, and the numbers that they have among the items; times the reading."""
    items, source = request.items, request.source
    n = min(items.n, SLAB)
    if not items.d or "embeddings" not in request.method.needs | request.method.uses:
        return None, np.arange(n)
    if source.array is not None:
        return items.embeddings[:n], np.arange(n)
    for name in ("first", "again"):
        began = time.perf_counter()
        x = _read(request, n if request.kept is None else int(request.kept[n - 1]) + 1)
        measured[name] = (time.perf_counter() - began) / len(x)
    return (x if request.kept is None else x[request.kept[:n]]), np.arange(n)


def _read(request: Request, rows: int) -> Floats:
    embedding = request.source.embedding
    x, at = np.empty((rows, embedding.d), np.float32), 0
    for batch in request.source.dataset.read(0, rows, embedding.columns):
        embedding.fill(batch, x[at : at + batch.num_rows], at)
        at += batch.num_rows
    return x


def _try(request: Request, x: Any, rows: Rows) -> dict[str, Any]:
    most = max(min(len(rows), 64), min(TRIED, len(rows) // 4))
    whole = _subset(request, x, rows, most)
    half = _subset(request, x, rows, max(1, most // 2))
    tiny = _subset(request, x, rows, min(64, most))
    _time(request, tiny, 1)  # compiles or loads the kernels
    picks = max(1, min(request.k, half.free // 2))
    first = _time(request, half, picks)  # may still compile or load kernels
    return {
        "rows": most,
        "picks": picks,
        "half": min(first, _time(request, half, picks)),
        "whole": _time(request, whole, picks),
    }


def _subset(request: Request, x: Any, rows: Rows, size: int) -> Items:
    chosen = np.linspace(0, len(rows) - 1, size).astype(np.int64)
    vectors = None if x is None else x[chosen]
    if vectors is not None and is_matrix(request.method):
        vectors = np.ascontiguousarray(vectors[:, rows[chosen]])
    return request.items.subset(rows[chosen], vectors)


def _time(request: Request, items: Items, k: int) -> float:
    began = time.perf_counter()
    with one_blas_thread():
        request.method.select(items, min(k, items.free), Rng(0))
    return time.perf_counter() - began

"""verify: is a written answer what it says it is? Rows, value, and on request the whole run again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kofn.answer import Answer, read_answer
from kofn.blocks import Run
from kofn.blocks.equal import first_difference
from kofn.blocks.tables import as_arrow
from kofn.core.blas import blas_kernel
from kofn.core.block import Rows
from kofn.encoding import Texts
from kofn.errors import UsageError
from kofn.featuring import fit_again
from kofn.front import MEMORY, carry_out, digest_of
from kofn.intake import Source, read_source, source_of
from kofn.items import Items
from kofn.method import Method, plain_settings
from kofn.registry import METHODS, build, method_class
from kofn.request import Request, check_options, prepare
from kofn.rng import Rng
from kofn.selection import COLUMNS, Selection
from kofn.valuation import value_checks
from kofn.verdict import Check, Level, Verification, failed, passed, until_failure
from kofn.version import __version__

PORTION = 256 << 20
"""Bytes of picked contents that are held beside the answer at once."""


def verify(
    subset: Any,
    data: Any,
    *,
    rerun: bool = False,
    method: Method | None = None,
    embedding: Any = None,
    score: Any = None,
    group: Any = None,
    weight: Any = None,
    id: Any = None,
    have: Any = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verification:
    """Check a written selection against the data that it was made from.

    Three levels. *rows*: the row numbers are distinct and in range, the ranks a permutation, and the contents of every
    stored column equal, value by value, what the data hold in those rows. *value*: the weights are counted again, the
    objective is computed again, gains and designs are held against what they must be, and the guarantee's bound is checked
    where the method has one. *rerun*: the method is run again and must give the same picks and weights, bit for bit.

    Parameters
    ----------
    subset : path, Arrow table or Selection
        What `kofn select` or `Selection.save` wrote (.parquet or .arrow), or `Selection.to_arrow` gave.
    data : array, table, path or Items
        What was chosen from; see `kofn.select`.
    rerun : bool
        Whether to choose again.
    method : Method, optional
        The method, where it is your own; those that kofn has are found by their name.
    embedding, score, group, weight, id, have : optional
        Only what was given to `select` as an array, or lies elsewhere by now.
    threads : int, optional
        As many as the process may use, by default.
    progress : callable, optional
        Called as `progress(stage, done, total)`.

    Returns
    -------
    Verification
        True where every level that was run passed. A level ends at the first thing that is wrong.

    Raises
    ------
    KofnError
        When there is nothing to check: no provenance, no such file, a column that must be given again.

    Notes
    -----
    Memory: the answer itself, `PORTION` bytes of contents, and the columns that the method reads (8 to 16 bytes a row).

    Examples
    --------
    >>> import kofn, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(1000, 8))
    >>> bool(kofn.verify(kofn.select(x, k=10, method="uniform"), x, rerun=True))
    True
    """
    check_options("local", threads, "error")
    answer = read_answer(subset)
    given = {"embedding": embedding, "score": score, "group": group, "weight": weight, "id": id, "have": have}
    columns = _columns(answer, given, data)
    run = Run(threads, progress)
    source = _source(answer, data, columns, run)
    named = answer.name, source.dataset.describe() if source.dataset is not None else "the array"
    rows = until_failure("rows", _row_checks(answer, source, columns["id"]))
    if not rows.passed:
        why = "it would rest on rows that are wrong"
        return Verification(*named, (rows, Level("value", why=why), Level("rerun", why=why)))
    request = _request(answer, data, columns, method, run)
    selection = answer.in_rank_order()
    value = until_failure("value", value_checks(request, selection))
    again = Level("rerun", why="--rerun (rerun=True) chooses again and compares bit for bit")
    if rerun:
        again = until_failure("rerun", _rerun_checks(request, selection))
    return Verification(*named, (rows, value, again))


def _columns(answer: Answer, given: dict[str, Any], data: Any) -> dict[str, Any]:
    """What each role is read from: what was given now, else what the provenance names."""
    stored, columns = answer.provenance["columns"], {}
    for role, value in given.items():
        name = stored.get(role)
        if value is not None and name is None and role != "embedding":
            raise UsageError(f"{role} was not used when {answer.name!r} was chosen; leave it out")
        if value is None and name == "array":
            if role != "id" and not isinstance(data, Items):
                raise UsageError(
                    f"{role} was an array when {answer.name!r} was chosen; give it again: verify(..., {role}=...)"
                )
            name = None
        columns[role] = name if value is None else value
    return columns


def _source(answer: Answer, data: Any, columns: dict[str, Any], run: Run) -> Source:
    if isinstance(data, Items):
        return source_of(data)
    dtype = answer.provenance.get("reading", {}).get("dtype")
    recipe, texts = _recipe(answer, data), _texts(answer, data)
    source = read_source(data, embedding=columns["embedding"], features=recipe, texts=texts, dtype=dtype, run=run)
    have = columns["have"]
    inside = source.dataset is not None and have in source.dataset.schema.names if isinstance(have, str) else True
    if not inside and not os.path.isfile(str(have)):
        raise UsageError(
            f"{answer.name!r} was chosen beside have={have!r}, which is neither a column nor a file here; "
            "say where it is now: --have FILE"
        )
    return source


def _row_checks(answer: Answer, source: Source, ids: Any) -> Iterator[Check]:
    """Counts, row numbers, ranks, contents and digests, each resting on those before it."""
    p, index, k = answer.provenance, answer.index, len(answer)
    if k != p["k"]:
        yield failed("count", "rows of the selection", expected=p["k"], found=k)
        return
    yield passed("count", f"{k:,} rows by {p['method']}, seed {p['seed']}, kofn {p['kofn']}")
    yield _data_check(p, source)
    yield _number_check(index, source.n)
    yield _rank_check(answer)
    yield _content_check(answer, source, ids)
    selection = answer.in_rank_order()
    for name, values in (("indices", selection.indices), ("weights", selection.weights)):
        if digest_of(values) != p["digests"].get(name):
            yield failed("digests", f"digest of the {name}", expected=p["digests"].get(name), found=digest_of(values))
            return
    yield passed("digests", "row numbers and weights have the digests that were stored")


def _data_check(p: dict[str, Any], source: Source) -> Check:
    if source.n != p["n"]:
        return failed("data", "rows of the data", expected=p["n"], found=source.n)
    here = source.describe()
    then = ", ".join(p["data"].get("files", [])[:3]) or "an array"
    if here["fingerprint"] == p["data"].get("fingerprint"):
        return passed("data", f"{source.n:,} rows, with the fingerprint that was stored")
    return passed("data", f"{source.n:,} rows; the fingerprint has changed (it was {then}), so the contents decide")


def _number_check(index: Rows, n: int) -> Check:
    outside = np.flatnonzero((index < 0) | (index >= n))
    if len(outside):
        found = int(index[outside[0]])
        return failed("numbers", "kofn_index", row=found, expected=f"0 to {n - 1}", found=found)
    order = np.argsort(index, kind="stable")
    again = np.flatnonzero(np.diff(index[order]) == 0)
    if len(again):
        row = int(index[order[again[0]]])
        times = int((index == row).sum())
        return failed("numbers", f"row {row} in kofn_index", row=row, expected="once", found=f"{times} times")
    return passed("numbers", f"row numbers are distinct and between 0 and {n - 1:,}")


def _rank_check(answer: Answer) -> Check:
    rank = answer.rank
    wrong = np.flatnonzero(np.sort(rank) != np.arange(len(rank)))
    if not len(wrong):
        return passed("ranks", f"every rank from 0 to {len(rank) - 1:,} once")
    outside = (rank < 0) | (rank >= len(rank))
    repeated = np.ones(len(rank), bool)
    repeated[np.unique(rank, return_index=True)[1]] = False
    at = int(np.flatnonzero(outside | repeated)[0])
    row = int(answer.index[at])
    return failed(
        "ranks", f"kofn_rank of row {row}", row=row, expected=f"each of 0 to {len(rank) - 1} once",
        found=f"{rank[at]}{'' if outside[at] else ' a second time'}",
    )  # fmt: skip


def _content_check(answer: Answer, source: Source, ids: Any) -> Check:
    """Whether the stored columns hold, value by value, what the data hold in the rows of `kofn_index`."""
    stored = answer.contents
    if not stored:
        return passed(
            "contents", "the selection was stored without columns of the data: only its numbers can be checked"
        )
    if stored == ["id"] and "id" in answer.provenance["columns"]:
        return _id_check(answer, source, ids)
    there = _names(source)
    lacking = [name for name in stored if name not in there]
    if lacking:
        return failed("contents", "columns of the data", expected=lacking[0], found=", ".join(there[:20]) or "none")
    for portion in _portions(answer, stored):
        table = _rows_of(source, answer.index, portion)
        for name in portion:
            at = first_difference(answer.table.column(name), table.column(name))
            if at is not None:
                return _differs(answer, name, at, table.column(name))
    absent = [name for name in there if name not in stored and name not in COLUMNS]
    beside = f"; not stored: {', '.join(absent[:5])}" if absent else ""
    return passed("contents", f"{len(stored)} columns of {len(answer):,} rows hold what the data hold{beside}")


def _id_check(answer: Answer, source: Source, ids: Any) -> Check:
    """A selection that was stored without columns of the data still names its picks, where they had ids."""
    if ids is None:
        return passed("contents", "only ids were stored, which were an array: give id= to compare them")
    if isinstance(ids, str):
        source.dataset.check_column(ids, "id")
        column = source.dataset.take(answer.index, [ids]).column(0)
    else:
        given = source.column(ids, "id")
        assert given is not None
        column = pa.chunked_array([pa.array(given[answer.index])])
    at = first_difference(answer.table.column("id"), column)
    if at is not None:
        return _differs(answer, "id", at, column)
    return passed("contents", f"the ids of {len(answer):,} rows are those of the data")


def _names(source: Source) -> list[str]:
    if source.dataset is not None:
        return list(source.dataset.schema.names)
    return ["embedding"] if isinstance(source.array, np.ndarray) else []


def _portions(answer: Answer, names: list[str]) -> Iterator[list[str]]:
    """The columns in runs that hold at most `PORTION` bytes, so that the data's side is never in memory at once."""
    portion: list[str] = []
    size = 0
    for name in names:
        bytes_of = answer.table.column(name).nbytes
        if portion and size + bytes_of > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(name)
        size += bytes_of
    if portion:
        yield portion


def _rows_of(source: Source, rows: Rows, names: list[str]) -> Any:
    if source.dataset is not None:
        return source.dataset.take(rows, names, source.run.workers)
    return as_arrow(source.array[rows]).select(names)


def _differs(answer: Answer, name: str, at: int, column: Any) -> Check:
    row, rank = int(answer.index[at]), int(answer.rank[at])
    expected, found = column[at].as_py(), answer.table.column(name)[at].as_py()
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        place = next(
            (i for i, pair in enumerate(zip(expected, found, strict=True)) if repr(pair[0]) != repr(pair[1])), 0
        )
        name, expected, found = f"{name}[{place}]", expected[place], found[place]
    return failed(
        "contents", f"{name} of row {row} at rank {rank}", row=row, expected=_short(expected), found=_short(found)
    )


def _short(value: Any) -> Any:
    if isinstance(value, int | float | None):
        return value
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _recipe(answer: Answer, data: Any) -> Any:
    """The features that the selection was made with; None where it was made with an embedding, or items carry theirs."""
    return None if isinstance(data, Items) else answer.provenance["data"].get("features")


def _texts(answer: Answer, data: Any) -> Texts | None:
    """The texts whose vectors were chosen among."""
    known = None if isinstance(data, Items) else answer.provenance["data"].get("texts")
    return None if known is None else Texts(known["column"], known["model"], known["folder"])


def _request(answer: Answer, data: Any, columns: dict[str, Any], method: Method | None, run: Run) -> Request:
    """The selection as it was asked for, from its provenance."""
    p = answer.provenance
    return prepare(
        data, p["k"], method=_method(answer, method), embedding=columns["embedding"],
        columns={"label": None, **{role: columns[role] for role in ("score", "group", "weight")}},
        id=columns["id"], have=columns["have"], metric=None, invalid=p.get("reading", {}).get("invalid", "error"),
        memory=p["run"].get("memory", MEMORY), dtype=p.get("reading", {}).get("dtype"), run=run, params={},
        features=_recipe(answer, data), texts=_texts(answer, data),
    )  # fmt: skip


def _method(answer: Answer, given: Method | None) -> Method:
    p = answer.provenance
    if given is None:
        if p["method"] not in METHODS:
            raise UsageError(f"{p['method']!r} is none of kofn's methods; give yours: verify(..., method=YourMethod())")
        metric = str(p["parameters"].get("metric"))
        if "." in metric:
            raise UsageError(
                f"{answer.name!r} was measured by a function of yours, {metric}; give it back: "
                f"verify(..., method={method_class(p['method']).__name__}(metric=...))"
            )
        return build(p["method"], p["parameters"])
    settings = json.loads(json.dumps(plain_settings(given)))
    if given.name != p["method"] or settings != p["parameters"]:
        raise UsageError(f"{answer.name!r} was chosen by {p['method']} with {p['parameters']}, not by {given!r}")
    return given


def _rerun_checks(request: Request, answer: Selection) -> Iterator[Check]:
    """The run again: picks, then weights, inclusion and gains, compared as bits."""
    p = answer.provenance
    if request.source.has_features:
        yield _features_check(request, p)
    again = carry_out(request, Rng(p["seed"]))
    wrong = np.flatnonzero(again.indices != answer.indices)
    if len(wrong):
        at = int(wrong[0])
        found = int(answer.indices[at])
        sentence = f"row at rank {at} ({len(wrong):,} of {len(answer):,} ranks differ{_versions(p)})"
        yield failed("picks", sentence, row=found, expected=int(again.indices[at]), found=found)
        return
    yield passed("picks", f"the same {len(answer):,} rows in the same order")
    for name in ("weights", "inclusion", "gains"):
        new, old = getattr(again, name), getattr(answer, name)
        if new is None and old is None:
            continue
        if new is None or old is None:
            words = ["none" if values is None else "one for each pick" for values in (new, old)]
            yield failed(name, f"{name}{_versions(p)}", expected=words[0], found=words[1])
            return
        wrong = np.flatnonzero(np.asarray(new, np.float64).view(np.int64) != np.asarray(old, np.float64).view(np.int64))
        if len(wrong):
            at, row = int(wrong[0]), int(answer.indices[wrong[0]])
            sentence = f"{name} of row {row} at rank {at}{_versions(p)}"
            yield failed(name, sentence, row=row, expected=float(new[at]), found=float(old[at]))
            return
        yield passed(name, "the same, bit for bit")


def _features_check(request: Request, p: dict[str, Any]) -> Check:
    """Whether the columns, fitted again, become what the provenance says of them."""
    then = request.source.embedding.recipe()["columns"]
    again = fit_again(request.source).recipe()["columns"]
    for old, new in zip(then, again, strict=True):
        if old != new:
            return failed(
                "features", f"recipe of column {old['name']!r}{_versions(p)}", expected=str(new), found=str(old)
            )
    return passed("features", f"{len(then)} columns, fitted again, become the same features")


def _versions(p: dict[str, Any]) -> str:
    """What differs between then and now that may change bits; empty where nothing does."""
    now = {"kofn": __version__, "numpy": np.__version__, "blas": blas_kernel()}
    changed = [f"{name} {p.get(name)} then, {value} now" for name, value in now.items() if p.get(name) != value]
    return f"; {', '.join(changed)}" if changed else ""

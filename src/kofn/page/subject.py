"""What a page is about: the selection, and of the data what the page needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks import Run
from kofn.core.block import Blocks, Doubles, Rows
from kofn.errors import UsageError
from kofn.intake import Source, bad_rows_of, read_have, read_source, settle_embedding, source_of
from kofn.items import Items
from kofn.page.faces import Faces, Show, cut, find_show, meet
from kofn.registry import METHODS, method_class
from kofn.selection import Selection

MOST = 10_000
"""Different labels that are told apart."""

ROLES = ("embedding", "label", "group", "weight", "id", "have")


@dataclass(frozen=True, eq=False)
class Kinds:
    """A column of labels or groups.

    Attributes
    ----------
    title : str
        What the column is called.
    codes : int32 (n,)
        Position in `names` of each row's value.
    names : list of str
        The values, in the order in which they first occur.
    """

    title: str
    codes: NDArray[np.int32]
    names: list[str]


@dataclass(frozen=True, eq=False)
class Subject:
    """A selection beside the data that it was made from.

    Attributes
    ----------
    selection : Selection
    n, d : int
    blocks : Blocks or None
        The rows as vectors, in the metric of the selection; None where there are none.
    weights : float64 (n,) or None
        How many rows each row stands for; None: one.
    have : bool (n,) or None
        Rows that were there before.
    bad : bool (n,) or None
        Rows that cannot be measured: NaN, infinity, null, or no direction under cosine.
    kinds : list of Kinds
        The label and the group, as far as there are any.
    ids : (str, callable) or None
        What the caller's names of the rows are called, and row numbers to names.
    data : str or None
        The data's path, where they came by one.
    source : Source
        Where columns can be read.
    show : Show or None
        What people know rows by.
    faces : Faces
        What the rows that the page names look like; empty until they are met.
    called : dict of int to str
        The caller's names of the rows that have been met.
    asides : list of str
        What the reader must know of how the data were read.
    """

    selection: Selection
    n: int
    d: int
    blocks: Blocks | None
    weights: Doubles | None
    have: NDArray[np.bool_] | None
    bad: NDArray[np.bool_] | None
    kinds: list[Kinds]
    ids: tuple[str, Callable[[Rows], list[str]]] | None
    data: str | None
    run: Run
    source: Source
    show: Show | None = None
    faces: Faces = field(default_factory=lambda: Faces(None))
    called: dict[int, str] = field(default_factory=dict)
    asides: list[str] = field(default_factory=list)

    @property
    def barred(self) -> NDArray[np.bool_] | None:
        """Rows that a random choice could not take: those in `have` and those that cannot be measured."""
        masks = [mask for mask in (self.have, self.bad) if mask is not None]
        return np.logical_or.reduce(masks) if masks else None

    @property
    def free(self) -> int:
        """Number of rows that could be picked."""
        return self.n if self.barred is None else self.n - int(self.barred.sum())

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.selection.provenance.get("method", "your method"))

    def of(self, rows: Rows) -> Doubles:
        """How many rows each of these stands for."""
        return np.ones(len(rows)) if self.weights is None else self.weights[rows]

    @property
    def prefix(self) -> bool:
        """Whether the picks for a smaller k are the first of these."""
        known = self.method in METHODS and method_class(self.method).prefix
        return known and self.selection.strata is None and "part" not in self.selection.provenance.get("run", {})

    def meeting(self, near: Rows, far: Rows) -> Subject:
        """The same, with names, texts and pictures of these rows: those that sections name, then those of the map."""
        rows = np.unique(np.concatenate([near, far])).astype(np.int64)
        called = {} if self.ids is None else dict(zip(rows.tolist(), self.ids[1](rows), strict=True))
        return replace(self, faces=meet(self.show, near, far), called=called)

    def describe(self, rows: Rows) -> list[dict[str, Any]]:
        """What is known of these rows by name, each as {row, id, text, label, ...}; texts are cut."""
        known: dict[str, list[Any]] = {"row": [int(row) for row in rows]}
        if self.ids is not None:
            known[self.ids[0]] = [self.called.get(int(row), "") for row in rows]
        if self.show is not None and self.faces.texts:
            known[self.show.title] = [self.faces.texts.get(int(row), "") for row in rows]
        for each in self.kinds:
            known[each.title] = [each.names[code] for code in each.codes[rows]]
        return [dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True)]


def read_subject(selection: Selection, data: Any, given: dict[str, Any], run: Run) -> Subject:
    """Bring the selection and its data together.

    Parameters
    ----------
    given : dict
        Columns by role (`ROLES`): a name, or an array of length n. What is missing is read from the provenance. "show" is
        what people know rows by.
    """
    if not isinstance(selection, Selection):
        raise UsageError(
            f"a report is about a Selection, not about {type(selection).__name__}; give what select returned"
        )
    roles = _roles(selection, data, given)
    if isinstance(data, Items):
        source = source_of(data)
    else:
        p = selection.provenance
        dtype = p.get("reading", {}).get("dtype")
        source = read_source(data, embedding=roles["embedding"], dtype=dtype, run=run, **_made(p, roles))
    if selection.provenance.get("n", source.n) != source.n or selection.indices.max(initial=0) >= source.n:
        raise UsageError(
            f"the picks were made among {selection.provenance.get('n', 'other')} rows, this data has {source.n}; "
            "give the data that was chosen from"
        )
    return _subject(selection, data, source, {**roles, "show": given.get("show")}, run)


def _made(p: dict[str, Any], roles: dict[str, Any]) -> dict[str, Any]:
    """Of what the vectors were made, where the data hold none: plain columns, or texts."""
    told = p.get("data", {})
    if roles["embedding"] is not None:
        return {}
    if told.get("texts"):
        from kofn.encoding import Texts

        known = told["texts"]
        return {"texts": Texts(known["column"], known["model"], known["folder"])}
    return {"features": told["features"]} if told.get("features") else {}


def _subject(selection: Selection, data: Any, source: Source, roles: dict[str, Any], run: Run) -> Subject:
    asides: list[str] = []
    items = data if isinstance(data, Items) else None
    ready = _embedding(source, selection, asides) if items is None else items.embeddings is not None
    have = roles["have"] if items is None else items.have
    weights = source.column(roles["weight"], "weight") if items is None else items.weights
    bad = _bad(source, selection) if ready else None
    whole = (
        items if items is not None else Items(embeddings=source.rows(None) if ready else None, rows=source.n, run=run)
    )
    return Subject(
        selection=selection, n=source.n, d=whole.d, run=run, asides=asides, bad=bad,
        blocks=whole.blocks(selection.metric) if ready else None,
        weights=None if weights is None else np.asarray(weights, np.float64),
        have=_mask(source, have, roles["id"]),
        kinds=_kinds(source, items, roles, asides),
        ids=_ids(source, items, roles["id"]),
        source=source,
        show=_show(source, roles),
        data=data if isinstance(data, str) else str(data) if hasattr(data, "__fspath__") else None,
    )  # fmt: skip


def _roles(selection: Selection, data: Any, given: dict[str, Any]) -> dict[str, Any]:
    stored = selection.provenance.get("columns", {})
    roles = {role: given.get(role) for role in ROLES}
    for role in ROLES:
        if isinstance(data, Items):
            if role in ("embedding", "weight", "have") and roles[role] is not None:
                raise UsageError(f"{role} was given beside ready Items; set it there")
            continue
        if roles[role] is not None:
            continue
        if stored.get(role) == "array":
            raise UsageError(
                f"{role} was an array when the rows were chosen; give it again: kofn.report(..., {role}=...), or give Items"
            )
        roles[role] = stored.get(role)
    return roles


def _embedding(source: Source, selection: Selection, asides: list[str]) -> bool:
    """Whether there is one embedding to measure by; that there are several is said, unless the method needed one."""
    needs = "embeddings" in _needs(selection)
    ambiguous = getattr(source.embedding, "message", None)
    settle_embedding(source, needs)
    if ambiguous:
        asides.append(f"No map and no distances: {ambiguous}.")
    return source.array is not None or source.embedding is not None


def _needs(selection: Selection) -> frozenset[str]:
    name = selection.provenance.get("method")
    return method_class(name).needs if name in METHODS else frozenset()


def _bad(source: Source, selection: Selection) -> NDArray[np.bool_] | None:
    """Rows that cannot be measured; None where every row is known to be sound, because the method has read them all."""
    dropped = selection.provenance.get("reading", {}).get("invalid") == "drop"
    if "embeddings" in _needs(selection) and not dropped:
        return None
    bad = bad_rows_of(source, selection.metric)
    return bad if bad.any() else None


def _mask(source: Source, given: Any, ids: Any) -> NDArray[np.bool_] | None:
    found = read_have(source, given, ids if isinstance(ids, str) else None)
    if found is None:
        return None
    if found.dtype == bool:
        return found
    mask = np.zeros(source.n, bool)
    mask[found.astype(np.int64)] = True
    return mask


def _kinds(source: Source, items: Items | None, roles: dict[str, Any], asides: list[str]) -> list[Kinds]:
    found: list[Kinds] = []
    for role in ("label", "group"):
        given = roles.get(role)
        if given is None and items is not None:
            given = getattr(items, f"{role}s")
        if given is None or (isinstance(given, str) and given in [each.title for each in found]):
            continue
        title = given if isinstance(given, str) else role
        if isinstance(given, str) and source.dataset is not None:
            source.dataset.check_column(given, role)
            values = source.dataset.column(given)
        else:
            values = source.column(given, role)
        codes, names = encode(values)
        if len(names) > MOST:
            asides.append(f"Column {title} holds {len(names):,} different values, too many to compare.")
        else:
            found.append(Kinds(title, codes, names))
    return found


def encode(values: Any) -> tuple[NDArray[np.int32], list[str]]:
    """Values as codes in order of first occurrence, and their names; null is a value of its own, "(none)"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(values, pa.ChunkedArray):
        try:
            values = pa.chunked_array([pa.array(np.asarray(values))])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            values = pa.chunked_array([pa.array([str(value) for value in values])])
    if pa.types.is_nested(values.type):
        raise UsageError(
            f"a label of type {values.type} names no kinds; give a column of text, numbers or truth values"
        )
    if not pa.types.is_dictionary(values.type):
        values = pc.dictionary_encode(values)
    values = values.unify_dictionaries()
    names = [cut(name) for name in values.chunk(0).dictionary.to_pylist()] if values.num_chunks else []
    codes = np.concatenate([chunk.indices.fill_null(len(names)).to_numpy() for chunk in values.chunks])
    if values.null_count:
        names.append("(none)")
    return codes.astype(np.int32), names


def _show(source: Source, roles: dict[str, Any]) -> Show | None:
    given = roles["show"] if roles["show"] is not None or source.texts is None else source.texts.column
    columns = [] if source.embedding is None else list(source.embedding.columns)
    taken, features = _taken(roles), columns if source.has_features else []
    return find_show(source.dataset, given, taken if features else [*taken, *columns], source.n, features)


def _taken(roles: dict[str, Any]) -> list[str]:
    """Columns that the page shows in a role of their own."""
    return [value for role, value in roles.items() if role in ("label", "group", "id") and isinstance(value, str)]


def _ids(source: Source, items: Items | None, given: Any) -> tuple[str, Callable[[Rows], list[str]]] | None:
    if given is None and items is not None:
        given = items.ids
    if given is None:
        return None
    if isinstance(given, str):
        if source.dataset is None:
            raise UsageError(
                f"id={given!r} is a column's name, but the data is an array; give an array of length {source.n}"
            )
        source.dataset.check_column(given, "id")
        return given, lambda rows: [cut(value) for value in source.dataset.take(rows, [given]).column(0).to_pylist()]
    array = np.asarray(given)
    return "id", lambda rows: [cut(value) for value in array[rows]]

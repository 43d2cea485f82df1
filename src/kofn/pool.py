"""What methods are compared on: the rows that they may choose, those set aside before, and those that are measured."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks import Run
from kofn.blocks.rows import check_metric
from kofn.check.context import Context
from kofn.check.metric import ASIDE, EMBEDDINGS, LABELS
from kofn.core.block import Block, Floats, Rows, dense
from kofn.core.designs import smallest_numbers
from kofn.core.labels import sortable
from kofn.encoding import Texts
from kofn.errors import DataError, UsageError
from kofn.featuring import settle_features
from kofn.intake import Source, bad_rows_of, read_source, settle_embedding, source_of
from kofn.items import Items
from kofn.request import place
from kofn.rng import Rng

MEASURED = 20_000
"""Rows that are measured at most, and rows set aside that probes are judged on at most; both chosen by row hash."""

ASIDE_SHARE = 0.2
"""Share of the rows that is set aside for probes, by row hash, before anything is chosen."""

HELD = 1 << 28
"""Bytes of measured vectors at most, unless these are fewer than `LEAST` rows."""

LEAST = 1_000
"""Rows that are measured at least, where there are so many."""

MOST_LABELS = 2_000
"""Different labels that are told apart."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows to choose from, and rows to judge by.

    Attributes
    ----------
    items : Items
        The rows that methods may choose, without scores.
    scores : float64 (n,) or None
        For methods that need them.
    context : Context
        What is measured.
    total, aside, dropped : int
        Rows of the data, those set aside, and those left out as invalid.
    recipe : tuple
        (data, embedding, features, texts, dtype, kept): how another process finds the same rows; see `hand_over`.
    features : str or None
        What plain columns became the vectors, in a sentence.
    """

    items: Items
    scores: NDArray[np.float64] | None
    context: Context
    total: int
    aside: int
    dropped: int
    recipe: tuple[Any, ...]
    features: str | None = None

    @property
    def ready(self) -> frozenset[str]:
        """What metrics can be given."""
        found = {EMBEDDINGS: self.context.x, LABELS: self.context.labels, ASIDE: self.context.aside}
        return frozenset(name for name, there in found.items() if there is not None)

    def items_for(self, needs: frozenset[str]) -> Items:
        """The items as a method with these needs is given them."""
        return replace(self.items, scores=self.scores) if "scores" in needs and self.scores is not None else self.items


def read_pool(
    data: Any, *, embedding: Any, features: Any, texts: Texts | None, label: Any, score: Any, metric: str,
    dtype: str | None, invalid: str, probes: bool, run: Run,
) -> Pool:  # fmt: skip
    """Read what is compared; with `probes`, set rows aside first.

    Raises
    ------
    DataError
        When rows hold NaN or infinity and `invalid` is "error", or there are too few to set some aside.
    """
    check_metric(metric)
    source, base = _source(data, embedding, features, texts, dtype, run)
    settle_features(source, {"label": label, "score": score})
    settle_embedding(source, True)
    measurable = source.array is not None or source.embedding is not None
    bad = _bad(source, base, metric, invalid) if measurable else None
    given = data.labels if isinstance(data, Items) and label is None else label
    labels = _labels(source, given)
    scores = data.scores if isinstance(data, Items) and score is None else source.column(score, "score")
    aside = np.zeros(source.n, bool)
    if probes and measurable and labels is not None:
        aside = Rng(0).rows(0, source.n, "set aside") < ASIDE_SHARE
    keep = ~aside if bad is None else ~aside & ~bad
    judged = aside if bad is None else aside & ~bad
    if aside.any() and not (keep.any() and judged.any()):
        raise DataError(f"{source.n} rows are too few to set 20 % aside for probes; leave label out, or give more rows")
    kept = None if keep.all() else np.flatnonzero(keep).astype(np.int64)
    items = Items(embeddings=_vectors(source, base, kept), rows=int(keep.sum()), run=run)
    recipe = source.embedding.recipe() if source.has_features else None
    in_files = isinstance(data, str | os.PathLike) and source.array is None
    context = _context(items, metric, None if labels is None else labels[keep])
    if aside.any():
        held = _set_aside(source, base, judged, metric, run)
        context = replace(context, aside=(held[0], labels[held[1]]))  # type: ignore[index]
    return Pool(
        items=items, scores=None if scores is None else np.asarray(scores, np.float64)[keep], context=context,
        total=source.n, aside=int(aside.sum()), dropped=0 if bad is None else int(bad.sum()),
        recipe=(data, embedding, recipe, texts, dtype, kept) if in_files else (),
        features=source.embedding.sentence() if source.has_features else None,
    )  # fmt: skip


def _source(
    data: Any, embedding: Any, features: Any, texts: Texts | None, dtype: str | None, run: Run
) -> tuple[Source, Rows | None]:
    """The data as a source, and which of its rows are meant (None: all)."""
    if not isinstance(data, Items):
        return read_source(data, embedding=embedding, features=features, texts=texts, dtype=dtype, run=run), None
    if texts is not None:
        raise UsageError("text names a column of a table, but Items are ready; leave it out")
    if features is not None:
        raise UsageError("features were given beside ready Items; set them there: kofn.open(data, features=...)")
    for name in ("have", "weights", "groups"):
        if getattr(data, name) is not None:
            raise UsageError(f"compare cannot use the {name} of these items; give them without")
    return source_of(data), getattr(data.embeddings, "kept", None)


def _bad(source: Source, base: Rows | None, metric: str, invalid: str) -> NDArray[np.bool_] | None:
    """Rows that cannot be measured; an error unless they are to be dropped. One pass."""
    bad = bad_rows_of(source, metric)
    bad = bad if base is None else bad[base]
    if not bad.any():
        return None
    if invalid == "drop":
        if bad.all():
            raise DataError(f"all {source.n} rows hold NaN, infinity or null; nothing is left to choose from")
        return bad
    first = int(np.flatnonzero(bad)[0])
    zero = " or are zero vectors, which have no direction under cosine" if metric == "cosine" else ""
    raise DataError(
        f"{int(bad.sum()):,} of {source.n:,} rows hold null, NaN or infinity{zero}, the first at row {first}"
        f"{place(source, first)}; mend them, or leave them out with --invalid drop"
    )


def _labels(source: Source, given: Any) -> NDArray[np.int32] | None:
    values = source.column(given, "group" if isinstance(given, str) else "label")  # text and nulls become codes
    if values is None:
        return None
    values = sortable(values)
    names, codes = np.unique(values, return_inverse=True)
    what = repr(given) if isinstance(given, str) else "label"
    if len(names) > max(2, len(values) // 2):
        raise DataError(
            f"{what} holds {len(names):,} different values in {len(values):,} rows, so it names no classes; name a column of "
            "labels, not of ids"
        )
    if len(names) > MOST_LABELS:
        raise DataError(
            f"{what} holds {len(names):,} different values, more than {MOST_LABELS:,}; name a column of labels, not of ids"
        )
    return codes.astype(np.int32)


def _vectors(source: Source, base: Rows | None, kept: Rows | None) -> Any:
    """The vectors of the kept rows of the meant rows."""
    if base is None:
        return source.rows(kept)
    return source.rows(base if kept is None else base[kept])


def _context(items: Items, metric: str, labels: Any) -> Context:
    measured = min(items.n, MEASURED if items.d == 0 else max(LEAST, min(MEASURED, HELD // (4 * items.d))))
    rows = smallest_numbers(items.n, measured, partial(Rng(0).rows, purpose="compare"))
    x = None if items.embeddings is None else np.ascontiguousarray(dense(items.blocks(metric).take(rows)))
    return Context(items, rows, x, metric, labels)


def _set_aside(source: Source, base: Rows | None, judged: Any, metric: str, run: Run) -> tuple[Floats, Rows]:
    """Vectors and numbers of the rows that probes are judged on: those with the smallest hashes of all set aside."""
    count = min(int(judged.sum()), MEASURED)
    rows = np.sort(smallest_numbers(source.n, count, partial(Rng(0).rows, purpose="set aside"), ~judged))
    everything = Items(embeddings=_vectors(source, base, None), rows=source.n, run=run)
    return np.ascontiguousarray(dense(everything.blocks(metric).take(rows))), rows


def hand_over(pool: Pool, folder: str) -> dict[str, Any]:
    """Where another process finds the pool's rows: the files themselves, or a copy in `folder`."""
    found: dict[str, Any] = {"rows": pool.items.n, "scores": None, "kind": "none"}
    if pool.scores is not None:
        found["scores"] = _saved(folder, "scores.npy", pool.scores)
    if pool.recipe:
        data, embedding, features, texts, dtype, kept = pool.recipe
        reading = {"embedding": embedding, "features": features, "texts": texts, "dtype": dtype}
        kept = None if kept is None else _saved(folder, "kept.npy", kept)
        return found | {"kind": "path", "data": os.fspath(data), "reading": reading, "kept": kept}
    x = pool.items.embeddings
    if x is None:
        return found
    if pool.items.sparse:
        from scipy.sparse import save_npz

        path = str(Path(folder) / "rows.npz")
        save_npz(path, x, compressed=False)
        return found | {"kind": "sparse", "data": path}
    if isinstance(x, np.ndarray):
        return found | {"kind": "array", "data": _saved(folder, "rows.npy", x)}
    path = str(Path(folder) / "rows.npy")
    into = np.lib.format.open_memmap(path, "w+", np.float32, (pool.items.n, pool.items.d))
    for _ in pool.items.blocks().here.map(_write_into, into):
        pass
    return found | {"kind": "array", "data": path}


def taken_over(found: dict[str, Any], run: Run) -> Items:
    """The items that `hand_over` speaks of, scores among them."""
    scores = None if found["scores"] is None else np.load(found["scores"])
    kind, n = found["kind"], found["rows"]
    if kind == "none":
        return Items(rows=n, scores=scores, run=run)
    if kind == "path":
        source = read_source(found["data"], **found["reading"], run=run)
        settle_embedding(source, True)
        kept = None if found["kept"] is None else np.load(found["kept"])
        return Items(embeddings=source.rows(kept), rows=n, scores=scores, run=run)
    if kind == "sparse":
        from scipy.sparse import load_npz

        return Items(embeddings=load_npz(found["data"]), scores=scores, run=run)
    return Items(embeddings=np.load(found["data"]), scores=scores, run=run)


def _saved(folder: str, name: str, values: Any) -> str:
    path = str(Path(folder) / name)
    np.save(path, values, allow_pickle=False)
    return path


def _write_into(block: Block, into: Any) -> None:
    into[block.start : block.stop] = block.x

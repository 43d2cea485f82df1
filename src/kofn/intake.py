"""Whatever a user has, as `Items`: arrays, tables, files, and columns by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks import FileBlocks, Run, file_blocks
from kofn.core.block import SLAB, Rows
from kofn.encoding import Texts
from kofn.errors import DataError, UsageError
from kofn.featuring import settle_features, wish
from kofn.items import Items

Array = NDArray[Any]

WHOLE = 64 << 20
"""Bytes up to which an array's fingerprint is taken of all of it."""


@dataclass
class Source:
    """What was given, before it is known which columns a method reads.

    Attributes
    ----------
    array : array or sparse matrix, or None
        Rows in memory.
    dataset : Dataset or None
        A table, in files or in memory.
    embedding : Embedding or Features or None
        The columns of `dataset` that hold the vectors, or become them.
    features : tuple of str, "auto" or None
        Columns that were asked for as features.
    roles : dict
        What columns are used as besides, by name.
    passed_over : Features or None
        What was found when features were looked for and none was of use.
    texts : Texts or None
        Where the vectors are those of a column of texts: which, by what model, and where they are kept.
    vectors : Dataset or None
        Where `embedding` lies, if not in `dataset`.
    """

    n: int
    array: Any = None
    dataset: Any = None
    embedding: Any = None
    run: Run = field(default_factory=Run)
    features: Any = None
    roles: dict[str, str] = field(default_factory=dict)
    passed_over: Any = None
    texts: Texts | None = None
    vectors: Any = None

    def column(self, given: Any, role: str) -> Array | None:
        """A column as an array of length n: by name, or as the array that was given."""
        if given is None:
            return None
        if isinstance(given, str):
            if self.dataset is None:
                raise UsageError(
                    f"{role}={given!r} is a column's name, but the data is an array; give {role} as an array of length {self.n}"
                )
            self.dataset.check_column(given, role)
            return _to_numpy(self.dataset.column(given), role, given)
        array = np.asarray(given)
        if array.shape[:1] != (self.n,):
            raise UsageError(f"{role} has shape {array.shape}; give one value for each of the {self.n} rows")
        return array

    @property
    def has_features(self) -> bool:
        """Whether the vectors are made of plain columns."""
        return getattr(self.embedding, "kind", None) == "features"

    def rows(self, kept: Rows | None) -> Any:
        """The embeddings of the kept rows, as `Items` takes them; None where there are none."""
        if self.array is not None:
            return self.array if kept is None else self.array[kept]
        if self.embedding is None:
            return None
        return file_blocks(self.vectors or self.dataset, self.embedding, kept=kept, run=self.run)

    def describe(self) -> dict[str, Any]:
        """What provenance says of the data."""
        if self.dataset is not None:
            names = self.dataset.names
            listed = names if len(names) <= 100 else [*names[:99], f"... {len(names)} files in all"]
            told = {"files": listed, "fingerprint": self.dataset.fingerprint, "embedding": None}
            if self.has_features:
                return {**told, "features": self.embedding.recipe()}
            if self.texts is not None:
                return {**told, "texts": self.texts.describe()}
            return told if self.embedding is None else {**told, "embedding": ", ".join(self.embedding.columns[:8])}
        fingerprint = None if self.array is None else array_fingerprint(self.array)
        return {"files": [], "fingerprint": fingerprint, "embedding": None if self.array is None else "array"}


def read_source(
    data: Any,
    *,
    embedding: Any = None,
    features: Any = None,
    texts: Texts | None = None,
    dtype: str | None = None,
    run: Run | None = None,
) -> Source:
    """Find out what `data` is. Reads footers and headers only, of text files all of it.

    `features` are wished for here and made by `settle_features`; a recipe (from the provenance) is followed. `texts` become
    vectors here, as far as they are not kept already.
    """
    source = _read(data, embedding, dtype, run or Run())
    if texts is not None:
        _embed(source, texts, embedding, features)
    if features is not None:
        wish(source, features, embedding)
    return source


def _read(data: Any, embedding: Any, dtype: str | None, run: Run) -> Source:
    if isinstance(data, str | os.PathLike):
        from kofn.blocks.dataset import Dataset

        return _of_dataset(Dataset.open(os.fspath(data)), embedding, dtype, run)
    if hasattr(data, "tocsr"):
        return _of_array(data.tocsr(), embedding, run)
    if isinstance(data, np.ndarray):
        return _of_array(data, embedding, run)
    if type(data).__module__.startswith("ray.data"):
        raise UsageError(
            "a ray.data.Dataset has no stable row numbers, so nobody could repeat or check the choice; write it down first, "
            "dataset.write_parquet(folder), and give the folder"
        )
    from kofn.blocks.tables import is_table, table_dataset

    if is_table(data):
        return _of_dataset(table_dataset(data), embedding, dtype, run)
    if hasattr(data, "__dlpack__"):
        return _of_array(_from_dlpack(data), embedding, run)
    if hasattr(data, "__array__") or isinstance(data, Sequence):
        try:
            return _of_array(np.asarray(data), embedding, run)
        except ValueError as error:
            raise DataError(f"the data is no matrix of numbers ({error}); every row needs the same length") from error
    kinds = "a path, a NumPy, SciPy or DLPack array, or a pandas, polars, Arrow or Hugging Face table"
    raise UsageError(f"data of type {type(data).__name__} cannot be read; give {kinds}")


def _embed(source: Source, texts: Texts, embedding: Any, features: Any) -> None:
    """Make the vectors of a column of texts the embedding."""
    from kofn.blocks.embedding import find_embedding
    from kofn.encoding import embed_texts

    if embedding is not None or features is not None:
        other = "features" if embedding is None else "embedding"
        raise UsageError(f"text and {other} were both given; the vectors are one or the other: leave one out")
    if source.dataset is None:
        raise UsageError("text names a column of a table, but the data is an array; leave it out")
    source.vectors = embed_texts(source.dataset, texts, source.run)
    source.embedding, source.texts = find_embedding(source.vectors, None, None), texts


def source_of(items: Items) -> Source:
    """Ready items as a source, so that the door need not ask which it has."""
    door = items.embeddings
    if isinstance(door, FileBlocks):
        return Source(items.n, dataset=door.dataset, embedding=door.embedding, run=items.run)
    return Source(items.n, array=door, run=items.run)


def open_items(
    data: Any,
    *,
    embedding: Any = None,
    features: Any = None,
    dtype: str | None = None,
    threads: int | None = None,
    **columns: Any,
) -> Items:
    """Data as `Items`, for calling methods directly.

    Parameters
    ----------
    data : path, array or table
        See `kofn.select`.
    embedding : str or array (n, d), optional
        Column, or glob of numeric columns; found by itself where only one can be meant.
    features : "auto" or list of str, optional
        Plain columns that become the vectors; see `kofn.select`. Here they must be asked for.
    dtype : str, optional
        Type of the numbers in a fixed-size binary column.
    threads : int, optional
        As many as the process may use, by default.
    **columns : str or array (n,)
        id, label, score, group, weight, have.

    Examples
    --------
    >>> import kofn, numpy as np
    >>> kofn.open(np.eye(3), score=[1, 2, 3]).n
    3
    """
    roles = {"id": "ids", "label": "labels", "score": "scores", "group": "groups", "weight": "weights"}
    unknown = set(columns) - set(roles) - {"have"}
    if unknown:
        raise UsageError(f"unknown column {sorted(unknown)[0]!r}; there are: {', '.join(roles)}, have")
    source = read_source(data, embedding=embedding, features=features, dtype=dtype, run=Run(threads))
    if features is not None:
        settle_features(source, columns)
    given = {roles[role]: source.column(value, role) for role, value in columns.items() if role in roles}
    return Items(
        embeddings=source.rows(None),
        rows=source.n,
        run=source.run,
        have=read_have(source, columns.get("have")),
        **given,
    )


def read_have(source: Source, given: Any, ids: str | None = None) -> Array | None:
    """`have` as a mask or row numbers: a column (true, or not null), a file, an earlier selection, or an array."""
    if given is None:
        return None
    if hasattr(given, "indices") and hasattr(given, "provenance"):
        return np.asarray(given.indices)
    if not isinstance(given, str | os.PathLike):
        return np.asarray(given)
    name = os.fspath(given)
    if source.dataset is not None and name in source.dataset.schema.names:
        import pyarrow as pa

        column = source.dataset.column(name)
        if pa.types.is_boolean(column.type):
            return np.asarray(column.fill_null(False).to_numpy())
        return np.asarray(column.is_valid().to_numpy())
    if not Path(name).is_file():
        raise DataError(
            f"have={name!r} is neither a column nor a file; give a file of row numbers or ids, or a column of the data"
        )
    return _have_from_file(source, name, ids)


def bad_rows_of(source: Source, metric: str) -> Array:
    """Which rows hold NaN or infinity, or are zero vectors under cosine; bool (n,). One pass."""
    from kofn.blocks.rows import as_floats, bad_rows

    if source.array is not None:
        parts = []
        for start in range(0, source.n, SLAB):
            x = source.array[start : start + SLAB]
            parts.append(bad_rows(as_floats(x), metric))
        return np.concatenate(parts)
    door = file_blocks(source.vectors or source.dataset, source.embedding, run=source.run, check=False)
    return np.concatenate(list(door.map(_bad_in_block, metric)))


def _bad_in_block(block: Any, metric: str) -> Array:
    from kofn.blocks.rows import bad_rows

    return bad_rows(block.x, metric)


def array_fingerprint(x: Any) -> str:
    """Digest of an array's shape, type and contents (where it is larger than 64 MiB, of evenly spaced rows, at most 4,096 and
    64 MiB of them)."""
    if not isinstance(x, np.ndarray):
        return array_fingerprint(np.concatenate([x.indptr.astype(np.float64), x.data.astype(np.float64)])[:, None])
    digest = blake2b(f"{x.shape}\x1f{x.dtype}".encode(), digest_size=16)
    rows = x
    if x.nbytes > WHOLE:
        count = int(np.clip(WHOLE // (x.nbytes // len(x)), 16, 4096))
        rows = x[np.linspace(0, len(x) - 1, count).astype(np.int64)]
    digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _of_dataset(dataset: Any, embedding: Any, dtype: str | None, run: Run) -> Source:
    from kofn.blocks.embedding import find_embedding

    if embedding is not None and not isinstance(embedding, str):
        array = np.asarray(embedding)
        if array.ndim != 2 or len(array) != dataset.n:
            raise UsageError(f"embedding has shape {array.shape}; give a column's name, or an array ({dataset.n}, d)")
        return Source(dataset.n, array=array, dataset=dataset, run=run)
    try:
        found = find_embedding(dataset, embedding, dtype)
    except UsageError as error:
        if embedding is not None:
            raise
        return Source(dataset.n, dataset=dataset, embedding=_Ambiguous(str(error)), run=run)
    return Source(dataset.n, dataset=dataset, embedding=found, run=run)


class _Ambiguous:
    """Several columns could be the embedding: an error only for a method that reads it."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.columns: tuple[str, ...] = ()


def settle_embedding(source: Source, needed: bool) -> None:
    """Raise where the embedding is ambiguous and needed; forget it where it is not needed."""
    if isinstance(source.embedding, _Ambiguous):
        if needed:
            raise UsageError(source.embedding.message)
        source.embedding = None


def _of_array(x: Any, embedding: Any, run: Run) -> Source:
    if embedding is not None:
        raise UsageError("embedding names a column, but the data is an array already; leave it out")
    items = Items(embeddings=x, run=run)
    return Source(items.n, array=items.embeddings, run=run)


def _from_dlpack(data: Any) -> Array:
    try:
        return np.from_dlpack(data.detach() if hasattr(data, "detach") else data)
    except (TypeError, RuntimeError, BufferError) as error:
        raise DataError(f"this array cannot be read in place ({error}); move it to the CPU first: x.cpu()") from error


def _to_numpy(column: Any, role: str, name: str) -> Array:
    import pyarrow as pa

    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if role in ("score", "weight"):
        if not numeric:
            raise DataError(f"{role}={name!r} holds {column.type}, not numbers; give a numeric column")
        return np.asarray(column.cast(pa.float64()).to_numpy())
    if role == "group":
        return _codes(column, name)
    return np.asarray(column.to_numpy())


def _codes(column: Any, name: str) -> Array:
    """Values as int32 codes in the order of the sorted values; null is a group of its own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(column.type):
        raise DataError(
            f"group={name!r} holds {column.type}, which names no groups; give a column of text, whole numbers or truth values"
        )
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column, null_encoding="encode")
    column = column.unify_dictionaries()
    parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in column.chunks]
    names = column.chunk(0).dictionary.to_pylist()
    order = sorted(range(len(names)), key=lambda at: (names[at] is not None, names[at]))
    ranks = np.empty(len(names) + 1, np.int32)
    ranks[order] = np.arange(len(names), dtype=np.int32)
    ranks[-1] = len(names)
    return ranks[np.concatenate(parts)]


def _have_from_file(source: Source, name: str, ids: str | None) -> Array:
    if name.endswith(".npy"):
        try:
            return np.load(name, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"have={name!r} cannot be read: {error}") from error
    if name.endswith((".parquet", ".pq", ".arrow", ".feather", ".ipc")) or _is_output(name):
        from kofn.blocks.dataset import Dataset

        earlier = Dataset.open(name)
        if "kofn_index" in earlier.schema.names:
            return np.asarray(earlier.column("kofn_index").to_numpy())
        if ids is None or ids not in earlier.schema.names:
            raise DataError(
                f"have={name!r} holds no kofn_index; name the column that identifies rows in both: --id COL"
            )
        return _rows_of_ids(source, ids, earlier.column(ids).to_pylist())
    try:
        lines = [line.strip() for line in Path(name).read_text().splitlines() if line.strip()]
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"have={name!r} cannot be read as text; give row numbers or ids one a line, a .npy, or an earlier output"
        ) from error
    if ids is not None:
        return _rows_of_ids(source, ids, lines)
    try:
        return np.array([int(line) for line in lines], np.int64)
    except ValueError:
        raise DataError(f"have={name!r} holds no row numbers; if they are ids, name their column: --id COL") from None


def _is_output(name: str) -> bool:
    """Whether a text file is what kofn wrote, not a plain list."""
    if not name.endswith((".csv", ".jsonl")):
        return False
    with open(name, "rb") as file:
        return b"kofn_index" in file.readline(1 << 20)


def _rows_of_ids(source: Source, ids: str, wanted: Sequence[Any]) -> Array:
    if source.dataset is None:
        raise UsageError("have by id needs data with an id column; give row numbers")
    source.dataset.check_column(ids, "id")
    import pyarrow as pa
    import pyarrow.compute as pc

    column = source.dataset.column(ids).cast(pa.large_string()).combine_chunks()
    rows = pc.index_in(pa.array([str(value) for value in wanted], pa.large_string()), value_set=column)
    missing = np.flatnonzero(~np.asarray(rows.is_valid()))
    if len(missing):
        raise DataError(f"{len(missing)} ids of have are not in column {ids!r}, the first {wanted[missing[0]]!r}")
    return np.asarray(rows.to_numpy(), np.int64)

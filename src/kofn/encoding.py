"""Texts as vectors: a sentence-transformers model, part by part, each part kept on disk as soon as it is there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from kofn.blocks import Run
from kofn.blocks.dataset import Dataset
from kofn.blocks.write import write_whole
from kofn.core.block import Floats
from kofn.errors import DataError, MissingExtra, OutputError

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER = "kofn-texts"

PART = 4_096
"""Texts in a file of the cache: what a crash loses at most."""

BATCH = 512
"""Texts that the model sees at once, fixed, so that a resumed run computes what an uninterrupted one does."""

_KEY = b"kofn_texts"
_NAME = "embedding"

Encode = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True)
class Texts:
    """Which texts become vectors, and how.

    Attributes
    ----------
    column : str
        A column of strings.
    model : str
        A sentence-transformers model: a folder, or a name on the Hugging Face hub.
    folder : str
        Where the vectors are kept; made where it is missing.
    """

    column: str
    model: str = MODEL
    folder: str = FOLDER

    def describe(self) -> dict[str, str]:
        """What provenance keeps: enough to find the vectors again, or to make them again."""
        return {"column": self.column, "model": self.model, "folder": self.folder, "weights": _identity(self.model)}


def embed_texts(dataset: Dataset, texts: Texts, run: Run, encode: Encode | None = None) -> Dataset:
    """The vectors of a column of texts, as a table of n rows with the one column `embedding`.

    Parameters
    ----------
    dataset : Dataset
        The table.
    texts : Texts
        Column, model, folder of the cache.
    run : Run
        Progress.
    encode : callable, optional
        From m texts to float32 (m, d); by default the model, loaded when the first text is not in the cache.

    Returns
    -------
    Dataset
        Rows of null texts are NaN.

    Raises
    ------
    DataError
        When the column holds no texts or the model cannot be loaded.
    MissingExtra
        When sentence-transformers is not installed and the cache is not complete.

    Notes
    -----
    The cache is keyed by column, model and the table's fingerprint, and every part by the digest of its own texts. Parts
    appear whole or not at all. Memory: one part of texts and vectors, and the model.
    """
    import pyarrow as pa

    path = Path(texts.model).expanduser()
    if (path.is_absolute() or texts.model.startswith(".")) and not path.is_dir():
        raise DataError(
            f"model={texts.model!r} is no folder; give one with a sentence-transformers model, or a hub name"
        )
    dataset.check_column(texts.column, "text")
    kind = dataset.schema.field(texts.column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(f"text={texts.column!r} holds {kind}, not texts; give a column of strings")
    folder = _folder(dataset, texts)
    encode = encode or _Model(texts.model)
    for at, found in enumerate(_parts(dataset, texts.column)):
        start, stop = at * PART, at * PART + len(found)
        path, digest = folder / f"part-{at:06d}.parquet", _digest(found)
        if _digest_in(path) != digest:
            vectors = _vectors(found, encode, start, dataset.n, run)
            folder.mkdir(parents=True, exist_ok=True)
            _write_part(path, vectors, digest)
        if run.tell:
            run.tell("texts", stop, dataset.n)
    return Dataset.open(str(folder))


class _Model:
    """Loaded at the first call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded: Any = None

    def __call__(self, texts: Sequence[str]) -> Floats:
        if self.loaded is None:
            self.loaded = self._load()
        vectors = self.loaded.encode(
            list(texts), batch_size=64, convert_to_numpy=True, normalize_embeddings=False, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    def _load(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtra("texts need sentence-transformers; install it: pip install 'kofn[text]'") from error
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            return SentenceTransformer(os.path.expanduser(self.name))
        except Exception as error:  # whatever the hub, the files or torch raise
            line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise DataError(
                f"model={self.name!r} cannot be loaded ({line}); give a folder with a sentence-transformers model, or its "
                "name on the Hugging Face hub"
            ) from error


def _folder(dataset: Dataset, texts: Texts) -> Path:
    """The folder of this column's vectors; made when the first of them are there."""
    key = json.dumps([texts.column, _identity(texts.model), dataset.fingerprint, dataset.n, PART])
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in texts.column)[:40]
    folder = Path(texts.folder).expanduser() / f"{safe}-{blake2b(key.encode(), digest_size=8).hexdigest()}"
    place = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        why = "cannot be written to" if place.is_dir() else "is a file"
        raise OutputError(
            f"the folder {str(folder)!r} for the vectors cannot be made: {str(place)!r} {why}; give another with --cache"
        )
    return folder


def _identity(model: str) -> str:
    """A model's name; of a folder, the digest of its files' names, sizes and ends."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    digest = blake2b(digest_size=16)
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\x1f{size}\x1f".encode())
        with open(path, "rb") as file:
            file.seek(max(0, size - (1 << 16)))
            digest.update(file.read())
    return digest.hexdigest()


def _parts(dataset: Dataset, name: str) -> Iterator[list[str | None]]:
    """The texts of each part, from one pass: a large row group, or a CSV file, can be entered at its beginning alone."""
    held: list[str | None] = []
    for batch in dataset.read(0, dataset.n, [name]):
        held += batch.column(0).to_pylist()
        whole = len(held) - len(held) % PART
        for at in range(0, whole, PART):
            yield held[at : at + PART]
        held = held[whole:]
    if held:
        yield held


def _digest(texts: Sequence[str | None]) -> str:
    digest = blake2b(digest_size=16)
    for text in texts:
        data = b"" if text is None else text.encode("utf-8", "surrogatepass")
        digest.update(b"-" if text is None else len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _digest_in(path: Path) -> str | None:
    """The digest of the texts that a part was made from; None where there is none, or it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return str(metadata.get(_KEY, b"").decode())


def _vectors(texts: Sequence[str | None], encode: Encode, start: int, n: int, run: Run) -> Floats:
    """Vectors of a part's texts, NaN for nulls."""
    out: Floats | None = None
    for at in range(0, len(texts), BATCH):
        batch = texts[at : at + BATCH]
        there = [position for position, text in enumerate(batch) if text is not None]
        vectors = encode([text for text in batch if text is not None] or [""])
        if out is None:
            out = np.full((len(texts), vectors.shape[1]), np.nan, np.float32)
        if there:
            out[at + np.array(there)] = vectors
        if run.tell:
            run.tell("texts", start + min(at + BATCH, len(texts)), n)
    assert out is not None
    return out


def _write_part(path: Path, vectors: Floats, digest: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = pa.table({_NAME: column}).replace_schema_metadata({_KEY: digest.encode()})
    write_whole(os.fspath(path), lambda file: pq.write_table(table, file), force=True)

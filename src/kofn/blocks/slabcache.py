"""Slabs of an embedding on a disk that is near: written by the first pass, read by the later ones and by later runs."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks.checkpoint import DIGEST, digest_of
from kofn.core.block import SLAB, TILE, Floats, Rows
from kofn.errors import OutputError, UsageError
from kofn.version import __version__

if TYPE_CHECKING:
    from kofn.blocks.dataset import Dataset

NARROW = {"float16": "float16", "float": "float32", "float32": "float32", "int8": "int8", "uint8": "uint8"}
"""Types of the numbers in a file that a slab keeps as they are."""

PART = ".part"

STALE = 3600
"""Seconds after which an unfinished file is one that a killed process left."""


@dataclass(frozen=True)
class SlabCache:
    """The slabs of one embedding in a folder: a file a slab, whole or not at all, and not used where it is damaged.

    A file holds the slab's rows as the door reads them before any metric is applied, row after row, as plain numbers in this
    machine's byte order, and 16 bytes that tell whether it is whole: the digest of the 64-bit sums of its tiles. Its name is
    the slab's number and the numbers' type.

    Parameters
    ----------
    root : str
        The folder that the user named, absolute. Every machine of a cluster has its own.
    key : str
        Digest of what the rows are made from: other files, columns or rows have another.
    n, d : int
        Rows, and their length.
    narrow : str or None
        Type of the numbers in the files where a slab keeps it; None: the type that is asked for.
    """

    root: str
    key: str
    n: int
    d: int
    narrow: str | None

    @classmethod
    def of(cls, folder: str, dataset: Dataset, embedding: Any, kept: Rows | None) -> SlabCache:
        """The cache of these rows.

        Parameters
        ----------
        folder : str
            Made when the first slab is written.
        dataset : Dataset
            Known by its fingerprint, and by when its files were written.
        embedding : Embedding or Features
            What becomes a row's vector, and how.
        kept : int64 (n,) or None
            Rows of the dataset that count.
        """
        made_of = getattr(embedding, "parts", None) or (embedding.columns, embedding.kind, embedding.d, embedding.dtype)
        files = [(file.size, file.changed) for file in dataset.files]
        key = digest_of((__version__, sys.byteorder, dataset.fingerprint, files, made_of, kept))
        narrow = NARROW.get(embedding.dtype) if embedding.kind in ("list", "binary") else None
        return cls(folder, key, dataset.n if kept is None else len(kept), embedding.d, narrow)

    @property
    def folder(self) -> Path:
        """Where these slabs lie."""
        return Path(self.root) / f"slabs-{self.key[:DIGEST]}"

    def has(self, slab: int, dtype: Any) -> bool:
        """Whether there is a file of this slab from which rows of type `dtype` can be read."""
        return self._found(slab, np.dtype(dtype)) is not None

    def load(self, slab: int, x: Floats) -> bool:
        """Read the slab into `x` (rows, d); False where its file is gone or damaged, `x` then holds nothing of use."""
        kind = self._found(slab, x.dtype)
        if kind is None:
            return False
        try:
            with open(self._path(slab, kind), "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != x.size * kind.itemsize + DIGEST:
                    return False
                check = _Check()
                if kind == x.dtype:
                    _read_into(file, _raw(x))
                    check.add(x)
                else:
                    _read_and_widen(file, x, kind, check)
                return file.read(DIGEST) == check.digest(self.key, slab, kind)
        except OSError:
            return False

    def keep(self, slab: int, x: Floats) -> None:
        """Write the slab's rows (rows, d).

        Raises
        ------
        OutputError
            Where they cannot be written: no room, or a folder that is not ours to write to.
        """
        try:
            try:
                self._put(slab, x)
            except FileNotFoundError:  # somebody has deleted the folder just now
                self._put(slab, x)
        except OSError as error:
            raise OutputError(
                f"the cache in {self.root!r} could not be written: {error.strerror or error}; free room, or leave out --cache"
            ) from error

    def bytes(self, slabs: Any, dtype: Any) -> int:
        """Bytes of the files of these slabs, be they there or not."""
        kind = self._kinds(np.dtype(dtype))[0]
        rows = sum(min(SLAB, self.n - slab * SLAB) for slab in slabs)
        return rows * self.d * kind.itemsize + DIGEST * len(slabs)

    def place(self, slab: int, dtype: Any) -> Path:
        """The file into which rows of type `dtype` are written, if it can hold them."""
        return self._path(slab, self._kinds(np.dtype(dtype))[0])

    def _kinds(self, dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
        """Types in which rows that are asked for as `dtype` may lie, the one to write first."""
        narrow = dtype if self.narrow is None else np.dtype(self.narrow)
        return [narrow, dtype] if narrow != dtype and np.can_cast(narrow, dtype) else [dtype]

    def _found(self, slab: int, dtype: np.dtype[Any]) -> np.dtype[Any] | None:
        return next((kind for kind in self._kinds(dtype) if os.path.exists(self._path(slab, kind))), None)

    def _path(self, slab: int, kind: np.dtype[Any]) -> Path:
        return self.folder / f"{slab:07d}.{kind.name}"

    def _put(self, slab: int, x: Floats) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep(slab)
        for kind in self._kinds(x.dtype):
            if self._write(slab, x, kind):
                return

    def _write(self, slab: int, x: Floats, kind: np.dtype[Any]) -> bool:
        """Write a file beside its place, then put it there; False where the type cannot hold the rows."""
        temporary = None
        try:
            with NamedTemporaryFile(dir=self.folder, prefix=".", suffix=PART, delete=False, buffering=0) as file:
                temporary, check = file.name, _Check()
                for at in range(0, len(x), TILE):
                    tile = _narrowed(x[at : at + TILE], kind)
                    if tile is None:
                        return False
                    check.add(tile)
                    _write_from(file, _raw(tile))
                _write_from(file, memoryview(check.digest(self.key, slab, kind)))
            os.replace(temporary, self._path(slab, kind))
            return True
        finally:
            if temporary is not None and os.path.exists(temporary):
                os.unlink(temporary)

    def _sweep(self, slab: int) -> None:
        """Delete what killed processes left unfinished; looked for now and then only."""
        if slab % 16 == 0:
            with os.scandir(self.folder) as entries:
                left = [entry for entry in entries if entry.name.endswith(PART)]
            for entry in left:
                try:
                    if time.time() - entry.stat().st_mtime > STALE:
                        os.unlink(entry.path)
                except FileNotFoundError:
                    continue


def cache_folder(folder: str | os.PathLike[str]) -> str:
    """The absolute path of a cache's folder, which workers in other folders find.

    Raises
    ------
    UsageError
        For a URI: a cache is worth its name on a disk that is near.
    """
    given = os.fspath(folder)
    if "://" in given:
        raise UsageError(f"cache={given!r} is a URI; give a folder on this machine's own disk")
    return os.path.abspath(os.path.expanduser(given))


class _Check:
    """A digest that costs a fraction of the reading: the sum of each tile's 64-bit words, and those sums' digest.

    A word that changed, and a page that was never written, change a sum. CRC-32 would take longer than the reading does.
    """

    def __init__(self) -> None:
        self.sums = blake2b(digest_size=DIGEST)

    def add(self, x: NDArray[Any]) -> None:
        """Rows (rows, d), C-contiguous: a slab, or its next tile."""
        for at in range(0, len(x), TILE):
            flat = x[at : at + TILE].reshape(-1).view(np.uint8)
            whole = flat.size - flat.size % 8
            self.sums.update(flat[:whole].view(np.uint64).sum(dtype=np.uint64).tobytes())
            self.sums.update(flat[whole:].tobytes())

    def digest(self, key: str, slab: int, kind: np.dtype[Any]) -> bytes:
        """16 bytes, which also say which slab it is."""
        self.sums.update(f"{key}\x1f{slab}\x1f{kind.name}".encode())
        return self.sums.digest()


def _narrowed(tile: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any] | None:
    """The tile in the type that its numbers had in the file; None where it holds what that cannot: nulls among integers."""
    if kind == tile.dtype:
        return tile
    if kind.kind in "iu" and not np.isfinite(tile).all():
        return None
    return tile.astype(kind)  # exact: from this type the numbers came


def _read_and_widen(file: Any, x: Floats, kind: np.dtype[Any], check: _Check) -> None:
    room = np.empty((min(TILE, len(x)), x.shape[1]), kind)
    for at in range(0, len(x), TILE):
        tile = room[: len(x) - at]
        _read_into(file, _raw(tile))
        check.add(tile)
        x[at : at + TILE] = tile


def _raw(x: NDArray[Any]) -> memoryview:
    return x.reshape(-1).view(np.uint8).data


def _read_into(file: Any, room: memoryview) -> None:
    """Fill the room: the system reads less than 2 GiB at a time."""
    at = 0
    while at < len(room):
        got = file.readinto(room[at:])
        if not got:
            raise OSError("the file ends early")
        at += got


def _write_from(file: Any, data: memoryview) -> None:
    """Write it all: where room runs out, the system first writes what fits."""
    at = 0
    while at < len(data):
        at += file.write(data[at:])

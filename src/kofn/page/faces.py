"""What rows look like to people: a text or a picture of each row that the page names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Rows
from kofn.errors import UsageError
from kofn.page.pictures import as_uri, is_path, kind_of, png, read_path, shade

TEXT = 200
"""Characters of a text that are shown."""

PICTURES = 2_000_000
"""Characters that all pictures take on the page at most."""

PORTION = 64
"""Pictures that are read at once."""

LOOKED = 1_000
"""Rows that are looked at to find the column that tells most."""

VALUES = 6
"""Columns that a row of a plain table is shown by."""

LONG = 64 << 10
"""Bytes of a text, on average, up to which texts are also read for the points of the map."""

READ = 4 << 30
"""Bytes of data up to which pictures are also read for the points of the map."""


@dataclass(frozen=True)
class Show:
    """How rows are shown.

    Attributes
    ----------
    title : str
        The column's name.
    kind : {"text", "picture", "pixels"}
        Text; bytes or paths of pictures; numbers that are the pixels of one.
    read : callable
        Row numbers to values: a list, or for pixels an array (rows, height, width).
    beside : str or None
        The folder in which paths begin.
    light : bool
        Whether the points of the map are shown so too.
    """

    title: str
    kind: str
    read: Callable[[Rows], Any]
    beside: str | None = None
    light: bool = True


@dataclass
class Faces:
    """Texts and pictures by row number.

    Attributes
    ----------
    show : Show or None
    texts : dict of int to str
    pictures : dict of int to str
        As data: URIs.
    left_out : int
        Pictures that were looked at and are not shown.
    full : bool
        Whether points of the map are not shown so.
    """

    show: Show | None
    texts: dict[int, str] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)
    left_out: int = 0
    full: bool = False

    @property
    def have_pictures(self) -> bool:
        """Whether rows are shown as pictures."""
        return self.show is not None and self.show.kind != "text"

    def notes(self) -> list[str]:
        """What the reader must know of what is not shown."""
        said = []
        if self.left_out:
            verb = "is" if self.left_out == 1 else "are"
            said.append(
                f"{self.left_out:,} of the pictures {verb} too large or cannot be read, and left out (Pillow, where it is "
                "installed, makes large ones smaller)."
            )
        if self.full:
            what = "a picture" if self.have_pictures else "its text"
            said.append(f"Not every point of the map has {what}: the page is kept small.")
        return said


def cut(value: Any, most: int = TEXT) -> str:
    """A value as text of at most `most` characters, without line breaks."""
    text = "(none)" if value is None else " ".join(str(value[: 8 * most] if isinstance(value, str) else value).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def find_show(dataset: Any, given: Any, taken: list[str], n: int, features: Sequence[str] = ()) -> Show | None:
    """The column that people know rows by.

    Parameters
    ----------
    dataset : Dataset or None
    given : str, array (n,), (n, pixels) or (n, height, width), or None
        None: pictures as Hugging Face keeps them, else the column of strings that are longest on average, else the values
        of the first columns.
    taken : list of str
        Columns that are shown anyway.
    n : int
        Number of rows.
    features : sequence of str
        The columns that became the vectors: rows are known by their values where no other column tells more.
    """
    if given is not None and not isinstance(given, str):
        return _of_array(_as_array(given), n)
    if dataset is None:
        if given is not None:
            raise UsageError(
                f"show={given!r} is a column's name, but the data is an array; give an array of length {n}"
            )
        return None
    name = given if given is not None else _tells_most(dataset, taken)
    if name is None or (given is None and name in features):
        names = [each for each in features or _plain_columns(dataset) if each not in taken]
        return _of_values(dataset, names[:VALUES]) if names else None
    dataset.check_column(name, "show")
    return _of_column(dataset, name)


def meet(show: Show | None, near: Rows, far: Rows) -> Faces:
    """Read what the rows look like: those that sections name (`near`), then those of the map (`far`), as room allows."""
    faces = Faces(show)
    if show is None:
        return faces
    near = _once(near)
    far = _once(far[~np.isin(far, near)])
    if show.kind == "text":
        rows = np.concatenate([near, far if show.light else far[:0]])
        faces.full = len(rows) < len(near) + len(far)
        faces.texts = {int(row): cut(value) for row, value in zip(rows, show.read(rows), strict=True)}
        return faces
    scale = _scale(show, near)
    room = _hang(faces, near, PICTURES, scale)
    each = np.mean([len(picture) for picture in faces.pictures.values()]) if faces.pictures else PICTURES
    fits = int(room / (1.1 * each)) if show.light else 0
    faces.full = fits < len(far)
    _hang(faces, far[:fits], room, scale)
    return faces


def _once(rows: Rows) -> Rows:
    """Every row once, in the order of first occurrence."""
    _, first = np.unique(rows, return_index=True)
    return np.asarray(rows[np.sort(first)], np.int64)


def _scale(show: Show, rows: Rows) -> tuple[float, float]:
    """Darkest and lightest number, the same for all pictures."""
    if show.kind != "pixels":
        return 0.0, 1.0
    values = show.read(rows)
    sound = values[np.isfinite(values)]
    return (float(sound.min()), float(sound.max())) if len(sound) else (0.0, 1.0)


def _hang(faces: Faces, rows: Rows, room: int, scale: tuple[float, float]) -> int:
    """Add the pictures of these rows while there is room; the room that is left."""
    show = faces.show
    assert show is not None
    for at in range(0, len(rows), PORTION if show.kind == "picture" else 2_000):
        part = rows[at : at + (PORTION if show.kind == "picture" else 2_000)]
        for row, value in zip(part.tolist(), show.read(part), strict=True):
            raw = png(shade(value, *scale)) if show.kind == "pixels" else _bytes_of(faces, row, value)
            uri = None if raw is None else as_uri(raw)
            if uri is None:
                faces.left_out += raw is not None
            elif len(uri) > room:
                faces.full = True
            else:
                faces.pictures[row] = uri
                room -= len(uri)
    return room


def _bytes_of(faces: Faces, row: int, value: Any) -> bytes | None:
    """A picture's bytes, from bytes, a path, or both as Hugging Face keeps them; what is none of them becomes the text."""
    path = value
    if isinstance(value, dict):
        value, path = value.get("bytes"), value.get("path")
    if isinstance(value, bytes) and kind_of(value) is not None:
        return value
    if is_path(path):
        raw = read_path(path, faces.show.beside if faces.show else None)
        if raw is not None and kind_of(raw) is not None:
            return raw
    faces.texts[row] = f"{len(value):,} bytes" if isinstance(value, bytes) else cut(path)
    return None


def _as_array(given: Any) -> NDArray[Any]:
    array = np.asarray(given)
    return (
        array if array.dtype.kind != "S" else np.array(list(given), object)
    )  # NumPy drops the zeros at the end of bytes


def _of_array(values: NDArray[Any], n: int) -> Show:
    if values.shape[:1] != (n,):
        raise UsageError(f"show has shape {values.shape}; give one value for each of the {n} rows")
    if values.ndim > 1:
        sides = values.shape[1:] if values.ndim == 3 else _square(values.shape[1], "show")
        return Show("show", "pixels", lambda rows: values[rows].reshape(len(rows), *sides))
    kind = "picture" if (n and isinstance(values[0], bytes | dict)) or is_path(str(values[0])) else "text"
    return Show("show", kind, lambda rows: [_plain(value) for value in values[rows]], os.getcwd())


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _square(size: int, name: str) -> tuple[int, int]:
    side = round(size**0.5)
    if side * side != size:
        raise UsageError(
            f"show={name!r} holds lists of {size} numbers, which fill no square picture; name a column of text, of pictures "
            "(bytes or paths), or of grey pixels, height times height"
        )
    return side, side


def _of_column(dataset: Any, name: str) -> Show:
    import pyarrow as pa

    kind = dataset.schema.field(name).type
    beside, light = os.path.dirname(dataset.names[0]), dataset.nbytes <= READ

    def read(rows: Rows) -> list[Any]:
        return list(dataset.take(rows, [name]).column(0).to_pylist())

    if pa.types.is_struct(kind) and {"bytes", "path"} & {part.name for part in kind}:
        return Show(name, "picture", read, beside, light)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Show(name, "picture", read, beside, light)
    if _is_text(kind):
        values = _first(dataset, [name]).column(0).drop_null()
        if len(values) and is_path(values[0].as_py()):
            return Show(name, "picture", read, beside, light)
        return Show(name, "text", read, light=values.nbytes / max(1, len(values)) <= LONG)
    if _is_numbers(kind):
        return Show(name, "pixels", _pixels(dataset, name))
    return Show(name, "text", read)


def _plain_columns(dataset: Any) -> list[str]:
    """Columns of single values."""
    import pyarrow as pa

    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_temporal, pa.types.is_decimal)
    plain = [column.name for column in dataset.schema if any(test(column.type) for test in tests)]
    return [name for name in plain if not name.startswith("kofn_")]


def _of_values(dataset: Any, names: list[str]) -> Show:
    """Rows of a plain table by the values of their first columns."""

    def read(rows: Rows) -> list[Any]:
        table = dataset.take(rows, names)
        columns = [[f"{name} {_value(value)}" for value in table.column(name).to_pylist()] for name in names]
        return [", ".join(values) for values in zip(*columns, strict=True)]

    return Show("values", "text", read)


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cut(value, 40)


def _pixels(dataset: Any, name: str) -> Callable[[Rows], NDArray[Any]]:
    length = len(_first(dataset, [name]).column(0)[0].as_py() or ())
    sides = _square(length, name)

    def read(rows: Rows) -> NDArray[Any]:
        column = dataset.take(rows, [name]).column(0)
        out = np.full((len(rows), length), np.nan)
        for at, value in enumerate(column):
            values = None if not value.is_valid else value.values.to_numpy(zero_copy_only=False)
            if values is not None and len(values) == length:
                out[at] = values
        return out.reshape(len(rows), *sides)

    return read


def _tells_most(dataset: Any, taken: list[str]) -> str | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    free = [column for column in dataset.schema if column.name not in taken and not column.name.startswith("kofn_")]
    for column in free:
        if pa.types.is_struct(column.type) and {part.name for part in column.type} == {"bytes", "path"}:
            return str(column.name)
    names = [column.name for column in free if _is_text(column.type)]
    if not names:
        return None
    table = _first(dataset, names)
    lengths = [pc.mean(pc.utf8_length(_decoded(table.column(name)))).as_py() or 0.0 for name in names]
    return str(names[int(np.argmax(lengths))])


def _decoded(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _first(dataset: Any, names: list[str]) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches(list(dataset.read(0, min(dataset.n, LOOKED), names)))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_numbers(kind: Any) -> bool:
    import pyarrow as pa

    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)))

"""From what a user types (file, folder, glob, URI) to a filesystem and the files in order of their path."""

from __future__ import annotations

import glob
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pyarrow import fs

from kofn.blocks import texts
from kofn.errors import DataError, MissingExtra, UsageError

ENDINGS = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".npy", *texts.ENDINGS)
_ARROW_SCHEMES = ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")

Found = list[tuple[str, str]]
"""(path on the filesystem, name relative to what the user typed)."""


def find_files(path: str) -> tuple[Any, Found]:
    """The filesystem and the data files that `path` names, sorted by path. Hidden files are left out."""
    if not path.strip():
        raise UsageError("the data's path is empty; give a file, a folder, a glob in quotes, or a URI")
    filesystem, root = _filesystem(path)
    try:
        if any(mark in root for mark in "*?[") and not _exists(filesystem, root):
            found, base = _glob(filesystem, root), _before_marks(root)
        else:
            found, base = _file_or_folder(filesystem, root, path)
    except OSError as error:
        raise DataError(f"{path!r} cannot be listed: {' '.join(str(error).split())[:200]}") from error
    if not found:
        raise DataError(f"no data file in {path!r}; kofn reads {', '.join(ENDINGS)}")
    return filesystem, [(name, _relative(name, base)) for name in sorted(set(_of_one_kind(found)))]


def _of_one_kind(found: list[str]) -> list[str]:
    """Text files count only where there are no others: beside data, they are notes on them, or what was picked before."""
    return [name for name in found if not name.endswith(texts.ENDINGS)] or found


def _exists(filesystem: Any, path: str) -> bool:
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def _before_marks(pattern: str) -> str:
    """The folder that everything that a glob can match lies in."""
    return os.path.dirname(pattern.split("*")[0].split("?")[0].split("[")[0])


def _relative(name: str, folder: str) -> str:
    # Filesystems differ in whether their paths begin with a slash.
    if name.startswith("/") != folder.startswith("/"):
        name, folder = "/" + name.lstrip("/"), "/" + folder.lstrip("/")
    return os.path.relpath(name, folder or ".")


def _file_or_folder(filesystem: Any, root: str, path: str) -> tuple[list[str], str]:
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.NotFound:
        raise DataError(f"{path!r} does not exist; give a file, a folder, a glob in quotes, or a URI")
    if info.type == fs.FileType.File:
        if not root.endswith(ENDINGS):
            raise UsageError(f"{path!r} is not of a kind that kofn reads: {', '.join(ENDINGS)}")
        return [root], os.path.dirname(root)
    return _inside(filesystem, root), root


def _inside(filesystem: Any, folder: str) -> list[str]:
    """The data files in a folder and the folders in it, but for hidden ones."""
    entries = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    files = [entry.path for entry in entries if entry.type == fs.FileType.File and entry.path.endswith(ENDINGS)]
    return [name for name in files if not _hidden(_relative(name, folder))]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _filesystem(path: str) -> tuple[Any, str]:
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).expanduser())
    scheme, _, rest = path.partition("://")
    if scheme in _ARROW_SCHEMES:
        try:
            folder = _before_marks(rest) if any(mark in rest for mark in "*?[") else rest
            filesystem, inner = fs.FileSystem.from_uri(f"{scheme}://{folder}")
        except (OSError, ValueError) as error:
            raise DataError(f"{path!r} cannot be opened: {error}") from error
        return filesystem, inner + rest[len(folder) :]
    try:
        import fsspec.core
    except ImportError:
        raise MissingExtra(f"{scheme}:// needs fsspec: pip install 'kofn[uri]'") from None
    try:
        found, root = fsspec.core.url_to_fs(path)
        return fs.PyFileSystem(fs.FSSpecHandler(found)), root
    except (ValueError, ImportError) as error:
        raise DataError(f"{path!r} cannot be opened: {error}") from error


def _glob(filesystem: Any, pattern: str) -> list[str]:
    """The data files that a glob matches, and those in the folders that it matches ("out/*.parquet" of Spark)."""
    if isinstance(filesystem, fs.LocalFileSystem):
        matched = filesystem.get_file_info(glob.glob(pattern, recursive=True))
    else:
        below = filesystem.get_file_info(fs.FileSelector(_before_marks(pattern), recursive=True))
        wanted = pattern.strip("/").split("/")
        matched = [entry for entry in below if _matches(entry.path.strip("/").split("/"), wanted)]
    found: list[str] = []
    for entry in matched:
        if entry.path.endswith(ENDINGS):
            found += [entry.path] if entry.type == fs.FileType.File else _inside(filesystem, entry.path)
    return found


def _matches(parts: list[str], wanted: list[str]) -> bool:
    """Whether a path matches a glob as in a shell: no star crosses folders but "**", and none matches a leading dot."""
    if not wanted or (not parts and wanted != ["**"]):
        return not wanted and not parts
    if wanted[0] == "**":
        deeper = bool(parts) and not parts[0].startswith(".") and _matches(parts[1:], wanted)
        return deeper or _matches(parts, wanted[1:])
    shown = wanted[0].startswith(".") or not parts[0].startswith(".")
    return shown and fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])

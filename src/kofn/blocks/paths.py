"""From what a user types (file, folder, glob, URI) to a filesystem and the files in order of their path."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

from pyarrow import fs

from kofn.errors import DataError, MissingExtra, UsageError

ENDINGS = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".npy")
_ARROW_SCHEMES = ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")

Found = list[tuple[str, str]]
"""(path on the filesystem, name relative to what the user typed)."""


def find_files(path: str) -> tuple[Any, Found]:
    """The filesystem and the data files that `path` names, sorted by path. Hidden files are left out."""
    if not path.strip():
        raise UsageError("the data's path is empty; give a file, a folder, a glob in quotes, or a URI")
    filesystem, root = _filesystem(path)
    try:
        if any(mark in root for mark in "*?["):
            found = _glob(filesystem, root)
            base = os.path.dirname(root.split("*")[0].split("?")[0].split("[")[0])
        else:
            found, base = _file_or_folder(filesystem, root, path)
    except OSError as error:
        raise DataError(f"{path!r} cannot be listed: {' '.join(str(error).split())[:200]}") from error
    if not found:
        raise DataError(f"no data file in {path!r}; kofn reads {', '.join(ENDINGS)}")
    return filesystem, [(name, os.path.relpath(name, base or ".")) for name in sorted(found)]


def _file_or_folder(filesystem: Any, root: str, path: str) -> tuple[list[str], str]:
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.NotFound:
        raise DataError(f"{path!r} does not exist; give a file, a folder, a glob in quotes, or a URI")
    if info.type == fs.FileType.File:
        if not root.endswith(ENDINGS):
            raise UsageError(f"{path!r} is not of a kind that kofn reads: {', '.join(ENDINGS)}")
        return [root], os.path.dirname(root)
    inside = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    files = [entry.path for entry in inside if entry.type == fs.FileType.File and entry.path.endswith(ENDINGS)]
    return [name for name in files if not _hidden(os.path.relpath(name, root))], root


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _filesystem(path: str) -> tuple[Any, str]:
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).expanduser())
    scheme, _, rest = path.partition("://")
    if scheme in _ARROW_SCHEMES:
        try:
            base = rest.split("*")[0].split("?")[0].split("[")[0]
            filesystem, inner = fs.FileSystem.from_uri(f"{scheme}://{base}")
        except (OSError, ValueError) as error:
            raise DataError(f"{path!r} cannot be opened: {error}") from error
        return filesystem, inner + rest[len(base) :]
    try:
        import fsspec
    except ImportError:
        raise MissingExtra(f"{scheme}:// needs fsspec: pip install 'kofn[uri]'") from None
    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme))), rest
    except (ValueError, ImportError) as error:
        raise DataError(f"{path!r} cannot be opened: {error}") from error


def _glob(filesystem: Any, pattern: str) -> list[str]:
    if isinstance(filesystem, fs.LocalFileSystem):
        found = glob.glob(pattern, recursive=True)
    else:
        from fnmatch import fnmatch

        base = os.path.dirname(pattern.split("*")[0].split("?")[0].split("[")[0])
        inside = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
        # `fnmatch` lets a star cross folders; count them so that it does not, as in a shell.
        deep = "**" in pattern
        names = [entry.path for entry in inside if entry.type == fs.FileType.File]
        slashes = pattern.strip("/").count("/")
        found = [
            name
            for name in names
            if fnmatch(name.strip("/"), pattern.strip("/")) and (deep or name.strip("/").count("/") == slashes)
        ]
    return [name for name in found if name.endswith(ENDINGS)]

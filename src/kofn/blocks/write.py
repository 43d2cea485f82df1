"""Output files: whole or not at all, equal bytes for equal runs."""

from __future__ import annotations

import glob
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa

from kofn.errors import OutputError

ENDINGS = (".parquet", ".arrow", ".csv", ".jsonl", ".npy")


def check_output(path: str, *, force: bool, endings: tuple[str, ...] = ENDINGS) -> Path:
    """The path, if something can be written there: a known ending, a folder that exists and is writable, no file lost."""
    target = Path(path).expanduser()
    if target.is_dir():
        raise OutputError(f"{path!r} is a folder; give a file name, such as {target / ('subset' + endings[0])}")
    if target.suffix not in endings:
        ending = f"ends in {target.suffix!r}" if target.suffix else "has no ending"
        raise OutputError(f"{path!r} {ending}; kofn writes {', '.join(endings)}")
    over = next((above for above in target.parents if above.is_file()), None)
    if over is not None:
        raise OutputError(f"{str(over)!r} is a file, not a folder; choose another place than {path!r}")
    if not target.parent.is_dir():
        raise OutputError(f"the folder {str(target.parent)!r} does not exist; make it first: mkdir -p {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"the folder {str(target.parent)!r} cannot be written to; choose another")
    if target.exists() and not force:
        raise OutputError(f"{path!r} exists; choose another name, or overwrite it with --force")
    return target


def write_whole(
    path: str, fill: Callable[[IO[bytes]], Any], *, force: bool, endings: tuple[str, ...] = ENDINGS
) -> None:
    """Let `fill` write to a temporary file in the same folder, flush it to disk, then give it its name."""
    target = check_output(path, force=force, endings=endings)
    temporary = None
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=".part", delete=False) as file:
            temporary = file.name
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        _sweep(target)
    except OSError as error:
        raise OutputError(
            f"{path!r} could not be written: {error.strerror or error}; free room or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _sweep(target: Path) -> None:
    """Delete what runs left that were killed while they wrote this file, a day ago or more."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 86_400:
                left.unlink()


def write_table(table: pa.Table, path: str, *, force: bool = False) -> None:
    """Write a table in the format of the path's ending; .npy keeps `kofn_index` alone."""
    writers = {".parquet": _parquet, ".arrow": _arrow, ".csv": _csv, ".jsonl": _jsonl, ".npy": _npy}
    target = check_output(path, force=force)
    write_whole(path, lambda file: writers[target.suffix](table, file), force=force)


def _parquet(table: pa.Table, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, file, compression="zstd", row_group_size=65_536)


def _arrow(table: pa.Table, file: IO[bytes]) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _csv(table: pa.Table, file: IO[bytes]) -> None:
    from pyarrow import csv

    flat = [_as_text(column) if pa.types.is_nested(column.type) else column for column in table.columns]
    csv.write_csv(pa.table(flat, names=table.schema.names), file)


def _as_text(column: Any) -> Any:
    return pa.array([None if value is None else json.dumps(value, default=str) for value in column.to_pylist()])


def _jsonl(table: pa.Table, file: IO[bytes]) -> None:
    for batch in table.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            file.write((json.dumps(row, default=str) + "\n").encode())


def _npy(table: pa.Table, file: IO[bytes]) -> None:
    np.save(file, table.column("kofn_index").to_numpy(), allow_pickle=False)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

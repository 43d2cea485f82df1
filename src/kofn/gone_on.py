"""What a run must have in common with the one whose checkpoint it goes on with, and which data can be run like that."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kofn.blocks.checkpoint import Checkpoint, digest_of
from kofn.core.blas import blas_kernel
from kofn.errors import UsageError
from kofn.intake import Source
from kofn.method import Method, plain_settings
from kofn.version import __version__


def check_in_files(source: Source, what: str) -> None:
    """Raise UsageError for rows in memory, which no worker can read and no checkpoint can know again."""
    dataset = source.vectors or source.dataset
    if source.array is None and dataset is not None and dataset.files[0].path:
        return
    raise UsageError(
        f"{what} for data in files; write the table as Parquet or the array with np.save, where every worker finds it, and give "
        "the path"
    )


def begin(checkpoint: Checkpoint, source: Source, asked: dict[str, Any]) -> None:
    """Open the checkpoint for this request.

    Raises
    ------
    CheckpointError
        Where files, versions or the BLAS kernel are not those that the run began with.
    """
    dataset = source.dataset
    state: dict[str, Any] = {"kofn": __version__, "NumPy": np.__version__, "BLAS kernel": blas_kernel()}
    for file in dataset.files:
        state[file.name] = f"{file.size:,} bytes, {file.rows:,} rows, written {file.changed}"
    state["the contents of the files"] = dataset.fingerprint
    if source.vectors is not None:
        state["the vectors of the texts"] = source.vectors.fingerprint
    have = asked.get("columns", {}).get("have")
    if isinstance(have, str | os.PathLike) and os.fspath(have) not in dataset.schema.names:
        with suppress(OSError):  # what is wrong with it is said where it is read
            state[f"have={os.fspath(have)!r}"] = digest_of(Path(have).read_bytes())
    names = [file.path for file in dataset.files]
    checkpoint.begin({"files": digest_of(names), **{name: _named(value) for name, value in asked.items()}}, state)


def _named(value: Any) -> Any:
    """A value as plain JSON that tells it from others: large ones by their digest."""
    if isinstance(value, Method):
        return {"method": value.name, **plain_settings(value)}
    if isinstance(value, dict):
        return {str(name): _named(each) for name, each in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return digest_of(value)

"""What a killed run had finished: the results of slabs and parts on disk, by what they were made from."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from kofn.errors import CheckpointError, OutputError

DIGEST = 16

GONE = ".forgotten-"
"""What the folders of runs that are being deleted are called."""


class Checkpoint:
    """A folder that keeps what a run has finished, so that the same run goes on where it was stopped.

    Every pass is a pure function of the rows and of what came before, so a run that begins again asks for the same passes in
    the same order, and takes the results of those slabs that are there. No method knows of it.

    Parameters
    ----------
    folder : str
        Made where it is missing. Holds one folder a run, named by the digest of what was asked.

    Attributes
    ----------
    new : bool
        Whether nothing was there to go on with.
    """

    def __init__(self, folder: str) -> None:
        self.root = Path(folder).expanduser()
        self.folder: Path | None = None
        self.state = b""
        self.passes = 0
        self.new = False

    def begin(self, asked: dict[str, Any], state: dict[str, Any]) -> None:
        """Go on with the run of what was `asked`, or begin it.

        Parameters
        ----------
        asked : dict
            Everything that decides which run it is: method, parameters, k, seed, columns, files by name. Plain JSON.
        state : dict
            What must not have changed since it began: files by size and time, versions. Plain JSON, one level.

        Raises
        ------
        CheckpointError
            When it has.
        """
        self.folder, self.passes = self.root / digest_of(asked)[:DIGEST], 0
        self.state = digest_of(_plain(state)).encode()
        record = self.folder / "run.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.root.glob(f"{GONE}*"):  # of a run that was killed while it was being forgotten
                shutil.rmtree(left, ignore_errors=True)
            self.new = not record.is_file()
            if not self.new:
                self._same(json.loads(record.read_text())["state"], state)
            else:
                text = json.dumps({"asked": asked, "state": state}, indent=1, default=str)
                write_atomically(record, text.encode())
        except OSError as error:
            raise _no_room(self.root, error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{record} is damaged; delete {self.folder} and run again") from error

    def results_of_pass(self, identity: tuple[Any, ...]) -> Results:
        """The results of the next pass of the run; of its parts where it is run in parts."""
        assert self.folder is not None, "begin comes first"
        self.passes += 1
        return Results(self.folder / f"pass-{self.passes:04d}-{digest_of(identity)[:DIGEST]}", self.root, self.state)

    def forget(self) -> None:
        """Delete what was kept of this run: its results are written."""
        if self.folder is None:
            return
        gone = self.root / f"{GONE}{token_hex(8)}"
        with suppress(OSError):
            os.rename(self.folder, gone)  # at one stroke: a folder without its record would be taken for a new one
            shutil.rmtree(gone, ignore_errors=True)

    def _same(self, then: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [name for name in {**then, **now} if then.get(name) != _plain(now.get(name))]
        if changed:
            name = changed[0]
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise CheckpointError(
                f"{name} has changed since the run in {self.root} began{more}: it was {then.get(name)}, it is {now.get(name)}; "
                f"give another --checkpoint, or delete {self.folder} to begin anew"
            )


class Results:
    """Results of one pass on disk, a file a slab: whole or not at all, and made anew where they are damaged.

    Every file vouches for the state that it was made from (`Checkpoint.begin`), so what another run has left in the folder,
    or one that was killed while it deleted it, is never taken for what it is not.
    """

    def __init__(self, folder: Path, root: Path, state: bytes = b"") -> None:
        self.folder, self.root, self.state = folder, root, state

    def known(self) -> frozenset[int]:
        """Numbers of the slabs whose results are there."""
        try:
            return frozenset(int(name) for name in os.listdir(self.folder) if name.isdigit())
        except FileNotFoundError:
            return frozenset()

    def load(self, slab: int, compute: Callable[[], Any]) -> Any:
        """The result that was kept; made and kept anew where the file is damaged, or gone: another run may be done with it."""
        try:
            data = self._path(slab).read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise CheckpointError(f"{self._path(slab)} cannot be read ({error}); delete it and run again") from error
        if data[:DIGEST] != self._check(data[DIGEST:]):
            return self.keep(slab, compute())
        return pickle.loads(data[DIGEST:])

    def keep(self, slab: int, result: Any) -> Any:
        """Write the result, and hand it back."""
        body = pickle.dumps(result, protocol=5)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(slab), self._check(body) + body)
        except OSError as error:
            raise _no_room(self.root, error) from error
        return result

    def _path(self, slab: int) -> Path:
        return self.folder / f"{slab:07d}"

    def _check(self, body: bytes) -> bytes:
        return blake2b(body, key=self.state, digest_size=DIGEST).digest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whenever the process is killed."""
    temporary = None
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise


def digest_of(value: Any) -> str:
    """Digest of a value's contents: arrays by their bytes, dataclasses by their fields, functions by their names."""
    digest = blake2b(digest_size=DIGEST)
    _add(digest.update, value)
    return digest.hexdigest()


def _add(update: Callable[[Any], None], value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype != object:
        update(f"array {value.dtype} {value.shape}\x1f".encode())
        update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, partial):
        _add(update, ("partial", value.func, value.args, value.keywords))
    elif isinstance(value, tuple | list):
        update(f"{type(value).__name__} {len(value)}\x1f".encode())
        for each in value:
            _add(update, each)
    elif isinstance(value, dict):
        _add(update, ("dict", *value.items()))
    elif is_dataclass(value) and not isinstance(value, type):
        _add(update, (type(value).__qualname__, *(getattr(value, each.name) for each in fields(value))))
    elif callable(value):
        update(
            f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}\x1f".encode()
        )
    elif value is None or isinstance(value, str | int | float | bool | np.generic):
        update(f"{type(value).__name__} {value!r}\x1f".encode())
    else:
        update(pickle.dumps(value, protocol=5))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _no_room(folder: Path, error: OSError) -> OutputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    mend = "free room and run again: what was finished is kept" if full else "give a folder that can be written to"
    return OutputError(f"the checkpoint in {str(folder)!r} could not be written: {error.strerror or error}; {mend}")

"""What happens in a run of `kofn select`, told as it happens; at one moment that was named before, the run kills itself."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import kofn.blocks.checkpoint as checkpoint
import kofn.blocks.cluster as cluster
import kofn.blocks.files as files
import kofn.blocks.remote as remote
import kofn.blocks.write as write


class Watch:
    """Tells what happens, a line of JSON each, as [where, which, what].

    `where` is "begin" before the first pass, then the number of the pass, "write" once the picks are read, "rows" where rows
    that were brought by number are kept. `which` is the slab, or how often it has happened before. `what` of a slab: "asked"
    (given out), "made" (its result is here), "opened" (its temporary file is there), "half" (half of it is written), "unnamed"
    (all of it is), "named", "kept"; "loaded" where the slab is known already.

    Parameters
    ----------
    path : Path
        Of the lines.
    last : list or None
        The moment at which the process kills itself.
    """

    def __init__(self, path: Path, last: list | None) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.last = last
        self.where: str | int = "begin"
        self.slab: int | None = None  # whose file is being written
        self.passes: set[Path] = set()  # folders of their results
        self.counts: dict[tuple, int] = {}

    def happen(self, what: str, which: int | None = None) -> None:
        if which is None:
            which = self.counts.get((self.where, what), 0)
            self.counts[self.where, what] = which + 1
        moment = [self.where, which, what]
        self.tell(moment=moment)
        if moment == self.last:
            self.tell(killed=moment)
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # so that this thread does nothing more until the process is gone

    def tell(self, **said) -> None:
        os.write(self.file, (json.dumps(said) + "\n").encode())

    def install(self) -> None:
        """Put itself around what the run calls; only ever in a process that is about to be killed."""
        self._watch_passes()
        self._watch_slabs()
        self._watch_files()
        self._watch_the_end()

    def _watch_passes(self) -> None:
        run_pass, results_of_pass = files.run_pass, checkpoint.Checkpoint.results_of_pass
        began = False

        @wraps(run_pass)
        def watched(run, n, identity, compute):
            nonlocal began
            self.where = self.where + 1 if isinstance(self.where, int) else 1
            began = True
            yield from run_pass(run, n, identity, compute)

        def opened(this, identity):
            nonlocal began
            store = results_of_pass(this, identity)
            if began:  # else what is kept is no pass
                self.tell(known=sorted(store.known()), where=self.where)
                self.passes.add(store.folder)
            began = False
            return store

        files.run_pass, checkpoint.Checkpoint.results_of_pass = watched, opened

    def _watch_slabs(self) -> None:
        submit, prepare = cluster._Calls._submit, files.FileBlocks._prepare
        keep, load = checkpoint.Results.keep, checkpoint.Results.load

        def submitted(this, at):
            call = this.calls[at]
            if len(call) == 2:  # slabs, and what goes with each
                for slab in call[0]:
                    self.happen("asked", slab)
            else:
                self.happen("rows asked")
            submit(this, at)

        def prepared(this, slab, x):
            self.happen("asked", slab)
            return prepare(this, slab, x)

        def kept(this, slab, result):
            before = self.where
            if this.folder not in self.passes:
                self.where = "rows"
            self.happen("made", slab)
            keep(this, slab, result)
            self.happen("kept", slab)
            self.where = before
            return result

        def loaded(this, slab, compute):
            if this.folder in self.passes:
                self.happen("loaded", slab)
            return load(this, slab, compute)

        cluster._Calls._submit, files.FileBlocks._prepare = submitted, prepared
        checkpoint.Results.keep, checkpoint.Results.load = kept, loaded

    def _watch_files(self) -> None:
        temporary, replace, fsync, whole = (
            checkpoint.NamedTemporaryFile, os.replace, os.fsync, checkpoint.write_atomically,
        )  # fmt: skip

        def written(path, data):
            self.slab = int(path.name) if path.name.isdigit() else None
            whole(path, data)
            self.slab = None

        @contextmanager
        def opened(**given):
            with temporary(**given) as file:
                self.happen("opened", self.slab)
                yield Halved(file, lambda: self.happen("half", self.slab))

        def replaced(source, target):
            self.happen("unnamed", self.slab)
            replace(source, target)
            self.happen("named", self.slab)

        def flushed(number):
            self.happen("unflushed")
            fsync(number)

        checkpoint.write_atomically = written
        checkpoint.NamedTemporaryFile = write.NamedTemporaryFile = opened
        os.replace, os.fsync = replaced, flushed

    def _watch_the_end(self) -> None:
        take_table, rmtree, forget = remote.take_table, checkpoint.shutil.rmtree, checkpoint.Checkpoint.forget

        def taken(*given):
            self.where = "write"
            self.happen("begun")
            table = take_table(*given)
            self.happen("read")
            return table

        def forgotten(this):
            self.happen("written")
            forget(this)
            self.happen("forgotten")

        def removed(folder, **given):
            if (Path(folder) / "run.json").exists():
                os.unlink(Path(folder) / "run.json")
                self.happen("half forgotten")
            rmtree(folder, **given)

        remote.take_table, checkpoint.Checkpoint.forget, checkpoint.shutil.rmtree = taken, forgotten, removed


class Halved:
    """A file whose writes come in two halves."""

    def __init__(self, file, between) -> None:
        self.file, self.between = file, between

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.between()
        self.file.write(data[len(data) // 2 :])
        return len(data)

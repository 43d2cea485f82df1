"""Progress on stderr for anything that takes longer than two seconds: stage, share, rate and time left."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any

from kofn.blocks.engine import PassReport

PATIENCE = 2.0


class Progress:
    """Call it as `progress(stage, done, total)`; it draws nothing before two seconds, nor where stderr is no terminal.

    With `lines`, every pass over the rows ends with a line of JSON on stderr instead.
    """

    def __init__(self, *, lines: bool = False) -> None:
        self.lines = lines
        self.began = time.monotonic()
        self.bar: Any = None
        self.task: Any = None
        self.stage = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note that `done` of `total` are done in this stage."""
        if self.lines or time.monotonic() - self.began < PATIENCE or not sys.stderr.isatty():
            return
        if self.bar is None:
            self._open()
        if stage != self.stage:
            self.stage = stage
            self.bar.reset(self.task, total=total, description=stage)
        self.bar.update(self.task, completed=done, rate=f"{_rate(self.bar.tasks[0].speed)}/s")

    def pass_ended(self, report: PassReport) -> None:
        """Say what a pass took, where lines are wanted."""
        if self.lines:
            rate = round(report.rows / report.seconds) if report.seconds else None
            told = {**asdict(report), "seconds": round(report.seconds, 3), "rows_per_second": rate}
            print(json.dumps({"pass": told.pop("number"), **told}), file=sys.stderr, flush=True)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        self.bar = Bars(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=None, rate="")
        self.bar.start()


def _rate(speed: float | None) -> str:
    if not speed:
        return "-"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if speed >= size:
            return f"{speed / size:.1f} {letter}"
    return f"{speed:.0f}"

"""What `kofn report` does once its arguments are parsed."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def run_report(
    subset: str, data: str, *, out: str, show: str | None, layout: str, as_json: bool, force: bool, **given: Any
) -> None:
    """`kofn report`: write the page of a selection that lies in a file."""
    from kofn.page.report import report
    from kofn.progress import Progress

    began = time.perf_counter()
    with Progress() as progress:
        report(subset, data, out, show=show, layout=layout, force=force, progress=progress, **given)
    seconds = time.perf_counter() - began
    if as_json:
        print(json.dumps({"out": out, "subset": subset, "data": data, "seconds": round(seconds, 3)}, indent=2))
    else:
        print(f"wrote {out} in {seconds:.1f} s", file=sys.stderr)

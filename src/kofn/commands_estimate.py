"""What `kofn estimate` does once its arguments are parsed."""

from __future__ import annotations

import json
import sys
from typing import Any


def run_estimate(subset: str, value: str, *, as_json: bool, **given: Any) -> None:
    """`kofn estimate`: print the sentence, and a line for each group."""
    from kofn.conclusion import conclude

    found = conclude(subset, value, **given)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, default=str))
        return
    print(f"{value}: {found.overall} ({found.overall.how})")
    if found.groups:
        print()
        _print_groups(found.groups, given["by"])


def _print_groups(groups: dict[Any, Any], by: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from kofn.core.estimators import digits_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(by, overflow="fold")
    first = next(iter(groups.values()))
    for heading in (first.of, f"{100 * first.level:g} % interval", "picks", "rows (estimated)"):
        table.add_column(heading, justify="right")
    widths = sorted(found.interval[1] - found.interval[0] for found in groups.values())
    digits = digits_of(widths[len(widths) // 2], max(abs(found.value) for found in groups.values()))
    for group, found in groups.items():
        low, high = found.interval
        table.add_row(
            str(group), f"{found.value:,.{digits}f}", f"{low:,.{digits}f} to {high:,.{digits}f}", f"{found.k:,}",
            f"{found.n:,.0f}",
        )  # fmt: skip
    Console().print(table)

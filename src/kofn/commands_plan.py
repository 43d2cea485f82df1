"""What `kofn plan` and `kofn inspect` print: one screen each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kofn.commands import parse_settings

if TYPE_CHECKING:
    from kofn.inspection import Health, Inspection

SHOWN = 24
"""Columns that `kofn inspect` lists; --json has them all."""


def run_plan(data: str, k: str, *, method: str, settings: list[str], as_json: bool, **given: Any) -> None:
    """`kofn plan`: what a selection would read, hold and take."""
    from kofn.planning import plan
    from kofn.progress import Progress

    with Progress() as progress:
        planned = plan(data, k, method=method, progress=progress, **given, **parse_settings(settings, method))
    if as_json:
        print(json.dumps(planned.to_dict(), indent=2, default=str))
    else:
        _print_facts(planned.lines())


def run_inspect(data: str, *, as_json: bool, **given: Any) -> None:
    """`kofn inspect`: what is in the files, and what to run on them."""
    from kofn.inspection import inspect_data
    from kofn.progress import Progress

    with Progress() as progress:
        seen = inspect_data(data, progress=progress, **given)
    if as_json:
        print(json.dumps(seen.to_dict(), indent=2, default=str))
    else:
        _print_inspection(seen)


def _print_facts(facts: list[tuple[str, str]]) -> None:
    """Topics on the left, sentences on the right, folded to the terminal's width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for topic, text in facts:
        table.add_row(topic, Text(text))
    Console().print(table)


def _print_inspection(seen: Inspection) -> None:
    from kofn.planning import size

    groups, smallest, largest = seen.groups
    of = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    files = seen.files[0] if len(seen.files) == 1 else f"{len(seen.files):,} files, {seen.files[0]} to {seen.files[-1]}"
    facts = [
        ("data", f"{seen.rows:,} rows, {size(seen.bytes)} in {files}"),
        ("row groups", f"{groups:,} of {of} rows"),
        ("columns", _listed(seen)),
        ("embedding", f"{seen.embedding}: {seen.d} x {seen.dtype}" if seen.embedding else "none"),
    ]
    if seen.health is not None:
        facts += _health(seen.health)
    facts += [("note", note) for note in seen.notes]
    _print_facts([*facts, ("suggested", _suggested(seen.suggestion))])
    if "command" in seen.suggestion:
        print(seen.suggestion["command"])  # whole, so that it can be copied


def _listed(seen: Inspection) -> str:
    lines = []
    for column in seen.columns[:SHOWN]:
        nulls = "" if not column.nulls else f", {column.nulls:,} nulls"
        lines.append(f"{column.name}: {column.type}{nulls}")
    if len(seen.columns) > SHOWN:
        lines.append(f"... {len(seen.columns):,} columns in all (--json lists them)")
    return "\n".join(lines)


def _health(health: Health) -> list[tuple[str, str]]:
    if health.invalid:
        kinds = f"{health.nan:,} with null or NaN, {health.infinite:,} with infinity"
        invalid = f"{health.invalid:,} ({kinds}), the first at row {health.first_invalid} ({health.where})"
    else:
        invalid = "none: no null, NaN or infinity"
    copies = f"{health.duplicates:,} repeat an earlier row; the most frequent occurs {health.most_copies:,} times"
    facts = [("invalid", invalid), ("duplicates", copies if health.duplicates else "none: every vector is different")]
    if health.norms is not None:
        low, middle, high = health.norms
        unit = "yes, so cosine is meant" if health.unit else "no"
        facts.append(("norms", f"{low:.4g} to {high:.4g}, median {middle:.4g}; unit length: {unit}"))
    if health.zero:
        facts.append(("zero", f"{health.zero:,} rows of nothing but 0: --metric cosine cannot use them"))
    return facts


def _suggested(suggestion: dict[str, Any]) -> str:
    from kofn.planning import size

    if "why" in suggestion:
        return f"nothing: {suggestion['why']}"
    memory = size(suggestion["memory"])
    return (
        f"for 1 % ({suggestion['k']:,} rows): {suggestion['method']}, {suggestion['run']}, at most {memory} of memory"
    )

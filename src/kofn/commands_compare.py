"""What `kofn compare` does once its arguments are parsed."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

from kofn.errors import UsageError


def run_compare(
    data: str, k: str, *, methods: str | None, seeds: int, out: str | None, page: str | None, as_json: bool, force: bool,
    **given: Any,
) -> None:  # fmt: skip
    """`kofn compare`: run, print the tables and how many rows are enough; with `out` and `page`, also write them."""
    from dataclasses import replace

    from kofn.blocks.write import check_output
    from kofn.comparison import compare
    from kofn.progress import Progress
    from kofn.tally import check_runs

    if out is not None:
        check_runs(out, force=force)
    if page is not None:
        check_output(page, force=force, endings=(".html",))
    with Progress() as progress:
        comparison = compare(data, _listed("-k", k), methods=_methods(methods), seeds=seeds, progress=progress, **given)
    typed = {"-k": k, "--methods": methods, "--seeds": str(seeds), **_options(given)}
    comparison = replace(comparison, facts={**comparison.facts, "command": _command(data, typed)})
    if out is not None:
        comparison.save(out, force=force)
    if page is not None:
        comparison.report(page, force=force)
    wrote = [path for path in (out, page) if path is not None]
    if as_json:
        print(json.dumps({"out": out, "report": page, **comparison.as_dict()}, indent=2, default=str))
        return
    _print(comparison)
    if wrote:
        print(f"wrote {' and '.join(wrote)}", file=sys.stderr)


def _print(comparison: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from kofn.tallywords import direction, failures, finding, footer, how_many, table_of

    console = Console(highlight=False)
    console.print(Text(f"{finding(comparison)}.\n"))
    for figure in comparison.figures:
        better = direction(figure)
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("", min_width=12)
        for size in comparison.ks:
            table.add_column(f"k={size:,}", justify="left", no_wrap=True, min_width=12)
        for name, cells in table_of(comparison, figure):
            shown = [Text(f"{text} *" if best else text, style="bold" if best else "") for text, best in cells]
            table.add_row(Text(name), *shown)
        console.print(Text(figure.title, style="bold"), Text(f"({better})" if better else "", style="dim"))
        console.print(table)
        console.print()
    needed = how_many(comparison)
    if needed:
        console.print(Text("How many do I need?", style="bold"))
        for line in [*needed, ""]:
            console.print(Text(line))
    for name, ks, reason in failures(comparison):
        console.print(Text(f"not run: {name}, k = {ks}: {reason}"))
    for line in footer(comparison):
        console.print(Text(line, style="dim"))


def _listed(option: str, text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError(f"{option} {text!r} is empty; give for example {option} 100,300,1000")
    return found


def _methods(text: str | None) -> Any:
    if text is None or text.strip() == "all":
        return None if text is None else "all"
    return _listed("--methods", text)


def _options(given: dict[str, Any]) -> dict[str, str | None]:
    usual = {"memory": "2GiB", "invalid": "error"}
    return {f"--{name}": None if value in (None, usual.get(name)) else str(value) for name, value in given.items()}


def _command(data: str, typed: dict[str, str | None]) -> str:
    words = [
        "kofn",
        "compare",
        data,
        *(word for name, value in typed.items() if value is not None for word in (name, value)),
    ]
    return shlex.join(words)

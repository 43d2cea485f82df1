"""What each command does once its arguments are parsed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from fnmatch import fnmatch
from typing import Any

import numpy as np

from kofn.errors import OutputError, ParameterError, Stopped, UsageError


def run_select(
    data: str,
    k: str,
    *,
    out: str,
    method: str,
    settings: list[str],
    order: str,
    as_json: bool,
    force: bool,
    page: str | None = None,
    show: str | None = None,
    layout: str = "tsne",
    threads: int | None = None,
    engine: str = "local",
    address: str | None = None,
    checkpoint: str | None = None,
    **given: Any,
) -> None:
    """`kofn select`: choose, write, say what was done; with `page`, also show it."""
    from kofn.blocks.dataset import Dataset
    from kofn.blocks.remote import take_table
    from kofn.blocks.write import check_output, write_table
    from kofn.encoding import FOLDER
    from kofn.front import choose, running
    from kofn.progress import Progress
    from kofn.request import check_options

    if order not in ("rank", "input"):
        raise UsageError(f"--order {order!r} is unknown; use rank or input")
    check_output(out, force=force)
    _keep_data(out, data)
    if page is not None:
        check_output(page, force=force, endings=(".html",))
        _check_look(data, show, layout)
    elif show is not None or layout != "tsne":
        option = "--show" if show is not None else "--layout"
        raise UsageError(f"{option} is about the page; add --report page.html, or leave it out")
    if given.get("text") is not None and given.get("cache") is None:
        given["cache"] = os.path.join(os.path.dirname(os.path.expanduser(out)), FOLDER)
    cache = None if given.get("text") is not None else given.get("cache")
    check_options(engine, threads, given["invalid"], address, checkpoint, given.get("cache"))
    began = time.perf_counter()
    with (
        redirect_stdout(sys.stderr),  # Ray says on stdout that a worker died
        _going_on(checkpoint),
        Progress(lines=as_json) as progress,
        running(threads, progress, engine, address, checkpoint, cache) as run,
    ):
        columns = {role: given.pop(role) for role in ("label", "score", "group")}
        selection = choose(
            run, data, k, method=method, columns=columns, params=parse_settings(settings, method), **given
        )
        progress("reading the picks", 0, len(selection))
        table = selection.to_arrow(picked=take_table(Dataset.open(data), selection.indices, None, run))
        if order == "input":
            table = table.take(np.argsort(selection.indices))
        write_table(table, out, force=force)
    seconds = time.perf_counter() - began
    if page is not None:
        _show(selection, data, page, out, force=force, show=show, layout=layout, threads=threads)
    if run.checkpoint is not None:
        run.checkpoint.forget()
    for note in selection.provenance["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        heavy = int(np.argmax(selection.weights))
        answer = {
            "out": out,
            **({} if page is None else {"report": page}),
            "seconds": round(seconds, 3),
            "heaviest": int(selection.indices[heavy]),
            **selection.provenance,
        }
        print(json.dumps(answer, indent=2, default=str))
        return
    print(selection)
    labels = selection.provenance.get("labels")
    if labels:
        print(f"  labels   {labels['present']} of {labels['of']} have a pick")
    print(f"wrote {out} in {seconds:.1f} s" + (f", then {page}" if page else ""), file=sys.stderr)


@contextmanager
def _going_on(checkpoint: str | None) -> Iterator[None]:
    """Ctrl-C with a checkpoint: say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint is None:
            raise
        raise Stopped(f"what was finished is kept in {checkpoint}: the same command goes on there") from None


def _show(selection: Any, data: str, page: str, out: str, **given: Any) -> None:
    from kofn.page.report import report
    from kofn.progress import Progress

    try:
        with Progress() as progress:
            report(selection, data, page, subset=out, progress=progress, **given)
    except KeyboardInterrupt:
        raise Stopped(f"{out} is written, {page} is not") from None


def _check_look(data: str, show: str | None, layout: str) -> None:
    """Raise before the run where the page could not be drawn after it."""
    from kofn.page.report import check_look

    if show is not None or layout != "tsne":
        check_look(data, show, layout)


def _keep_data(out: str, data: str) -> None:
    """Raise where the output would replace a file that the picks are read from, --force or not, or be read by the next run."""
    from kofn.blocks.paths import find_files

    place = os.path.realpath(os.path.expanduser(out))
    if os.path.exists(place):
        _, found = find_files(data)
        if any(os.path.exists(path) and os.path.samefile(path, place) for path, _ in found):
            raise OutputError(
                f"{out!r} is a file that is read here; choose another name, --force does not overwrite data"
            )
    if os.path.isdir(data) and place.startswith(os.path.join(os.path.realpath(data), "")):
        raise OutputError(
            f"{out!r} lies in the folder of the data, so the next run would choose from it; choose another place"
        )
    if any(mark in data for mark in "*?[") and fnmatch(place, os.path.abspath(os.path.expanduser(data))):
        raise OutputError(
            f"{out!r} is one of the files that {data!r} means, so the next run would choose from it; choose another place"
        )


def parse_settings(settings: list[str], method: str) -> dict[str, Any]:
    """`--set name=value` pairs as values of the parameters' own types."""
    from typing import get_type_hints

    from kofn.registry import METHODS, method_class

    if not settings:
        return {}
    if method == "auto":
        raise UsageError("--set needs to know the method; add --method NAME")
    hints = get_type_hints(method_class(method)) if method in METHODS else {}
    pairs = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} is not NAME=VALUE; write for example --set clusters=200")
        key = name.strip().replace("-", "_")
        if key in pairs:
            raise UsageError(f"--set {key} is given twice; give it once")
        if key in _options():
            raise UsageError(
                f"--set {key}={value.strip()}: {key} is an option of its own; write --{key} {value.strip()}"
            )
        pairs[key] = (name.strip(), value.strip())
    return {
        name: _parse(given, value, hints[name]) if name in hints else value for name, (given, value) in pairs.items()
    }


def _options() -> set[str]:
    from inspect import Parameter, signature

    from kofn.front import select

    named = signature(select).parameters.values()
    return {each.name for each in named if each.kind is not Parameter.VAR_KEYWORD}


def _parse(name: str, value: str, hint: Any) -> Any:
    from typing import get_args

    kinds = list(get_args(hint)) or [hint]
    if value.lower() in ("none", "null", "") and type(None) in kinds:
        return None
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if bool in kinds and value.lower() in truth:
        return truth[value.lower()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(value)
            except ValueError:
                continue
    if str in kinds:
        return value
    wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    example = "200" if int in kinds else "0.5" if float in kinds else "true"
    raise ParameterError(f"--set {name}={value!r} cannot be read as {wanted}; write for example --set {name}={example}")


def run_methods(name: str | None, *, bibtex: bool, as_json: bool) -> None:
    """`kofn methods`: the table, or one method in full."""
    from dataclasses import asdict

    from kofn.catalog import methods

    chosen = methods() if name is None else [methods(name)]
    if as_json:
        print(json.dumps([asdict(each) for each in chosen], indent=2, default=str))
    elif bibtex:
        print("\n\n".join(each.bibtex for each in chosen if each.bibtex))
    elif name is None:
        _print_table(chosen)
    else:
        _print_method(chosen[0])


def _print_table(chosen: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("method", "what it keeps", "needs", "streams", "weights"):
        table.add_column(heading, overflow="fold")
    for each in chosen:
        needs = ", ".join(each.needs) or "nothing"
        table.add_row(each.name, each.summary, needs, "yes" if each.streams else "no", each.weights)
    Console().print(table)
    print("\nOne in full: kofn methods NAME. Set a parameter: kofn select ... --method NAME --set PARAMETER=VALUE")


def _print_method(each: Any) -> None:
    print(f"{each.name}: {each.summary}\n")
    print(each.idea + "\n")
    if each.parameters:
        print("Parameters (--set NAME=VALUE):")
        for name, about in each.parameters.items():
            choices = f"; one of {', '.join(about['choices'])}" if about.get("choices") else ""
            print(f"  {name}: {about['type']} = {about['default']}\n      {about['doc']}{choices}")
    print(f"\nGuarantee: {each.claims}")
    print(f"On parts:  {each.lifts or ('not needed, it streams' if each.streams else 'refused')}")
    if each.bibtex:
        print("\n" + each.bibtex)

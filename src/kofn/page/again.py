"""How to get the selection and the page again, and how to check it: commands for a shell, or calls."""

from __future__ import annotations

import shlex
from typing import Any

from kofn.method import Method, default_of, parameters
from kofn.page.subject import Subject
from kofn.registry import METHODS, method_class


def command(subject: Subject, out: str | None, page: str, look: dict[str, Any]) -> str:
    """What was run: for data on disk the command, else the call; `look` are the options of the page."""
    p, columns = subject.selection.provenance, subject.selection.provenance.get("columns", {})
    in_shell = subject.data is not None and subject.method in METHODS and "weight" not in columns
    if not in_shell or "array" in columns.values():
        return _call(subject)
    words = [
        "kofn",
        "select",
        str(subject.data),
        "-k",
        str(p.get("k", len(subject.selection))),
        "--method",
        subject.method,
    ]
    for name, value in _settings(subject).items():
        words += [f"--{name}", str(value)] if name == "metric" else ["--set", f"{name}={value}"]
    words += ["--features", ",".join(names)] if (names := _features(p)) else []
    for name, value in _texts(p).items():
        words += [f"--{name}", value]
    for role, name in sorted(columns.items()):
        words += [f"--{role}", name]
    words += ["--seed", str(p.get("seed", 0)), *_reading(p), "--out", out or "subset.parquet", "--report", page]
    words += [word for name, value in look.items() if isinstance(value, str) for word in (f"--{name}", value)]
    return shlex.join(words)


def _call(subject: Subject) -> str:
    p = subject.selection.provenance
    if "seed" not in p:
        return f"{subject.method}(...).select(items, k={len(subject.selection)}, rng=rng)"
    data = "data" if subject.data is None else repr(subject.data)
    given = [f"k={p['k']}", f"method={subject.method!r}", f"seed={p['seed']}"]
    given += [f"{name}={value!r}" for name, value in _settings(subject).items()]
    given += [f"features={names!r}"] if (names := _features(p)) else []
    given += [f"{name}={value!r}" for name, value in _texts(p).items()]
    for role, name in sorted(p.get("columns", {}).items()):
        given.append(f"{role}={role if name == 'array' else repr(name)}")
    return f"kofn.select({', '.join([data, *given])})"


def check(subject: Subject, out: str | None) -> str:
    """How anyone can check the answer."""
    if subject.data is None:
        return "kofn.verify(selection, data, rerun=True)"
    written = out if out is not None and out.endswith((".parquet", ".arrow")) else "subset.parquet"
    return shlex.join(["kofn", "verify", written, subject.data, "--rerun"])


def _settings(subject: Subject) -> dict[str, Any]:
    """Parameters that are not at their defaults, by name: a selection that was read back has lost their order."""
    given = dict(sorted(subject.selection.provenance.get("parameters", {}).items()))
    if subject.method not in METHODS:
        return given
    usual = {each.name: default_of(each) for each in parameters(method_class(subject.method))}
    usual = {name: value.settings() if isinstance(value, Method) else value for name, value in usual.items()}
    return {name: value for name, value in given.items() if name not in usual or value != usual[name]}


def _features(p: dict[str, Any]) -> list[str]:
    """The columns that became the vectors; none where there is an embedding."""
    recipe = p.get("data", {}).get("features") or {}
    return [str(column["name"]) for column in recipe.get("columns", [])]


def _texts(p: dict[str, Any]) -> dict[str, str]:
    """What became the vectors where it was texts, as options."""
    known = p.get("data", {}).get("texts") or {}
    names = {"text": "column", "model": "model", "cache": "folder"}
    return {option: str(known[name]) for option, name in names.items() if name in known}


def _reading(p: dict[str, Any]) -> list[str]:
    reading, words = p.get("reading", {}), []
    if reading.get("invalid") == "drop":
        words += ["--invalid", "drop"]
    if reading.get("dtype"):
        words += ["--dtype", str(reading["dtype"])]
    memory = p.get("run", {}).get("memory")
    if memory not in (None, 2 << 30):
        words += ["--memory", str(memory)]
    return words

"""Every method of the table, as the laws see it."""

from __future__ import annotations

from kofn import Method
from kofn.registry import METHODS, method_class


def build_examples() -> tuple[list[Method], dict[str, Exception]]:
    """The examples of every class in the table, and why the others could not be built: a test fails for each of those."""
    built: list[Method] = []
    failed: dict[str, Exception] = {}
    for name in METHODS:
        try:
            built.extend(method_class(name).examples())
        except Exception as error:
            failed[name] = error
    return built, failed


INSTANCES, FAILED = build_examples()

"""Rows that stand for the whole. `from kofn.represent import KMeans`: each class loads when it is asked for."""

from typing import Any

from kofn.registry import load_class, names_in


def __getattr__(name: str) -> Any:
    return load_class("represent", name)


def __dir__() -> list[str]:
    return names_in("represent")

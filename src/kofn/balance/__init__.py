"""Who must be in, and how often: groups, classes and concepts. Each class loads when it is asked for."""

from typing import Any

from kofn.registry import load_class, names_in


def __getattr__(name: str) -> Any:
    return load_class("balance", name)


def __dir__() -> list[str]:
    return names_in("balance")

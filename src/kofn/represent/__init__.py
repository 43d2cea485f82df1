"""Rows that stand for the whole. `from kofn.represent import KMeans`: each class and function loads when it is asked for."""

from typing import Any

from kofn.registry import load_class, names_in

FUNCTIONS = {
    "bucketed_coreset": "bucketed",
    "coreset_size": "coreset_sizes",
    "query_counts": "coreset_sizes",
    "merge_coresets": "coreset_merge",
    "stream_coreset": "coreset_merge",
    "stein_thinning": "stein",
}
"""What is no method of the table, and the module that holds it."""


def __getattr__(name: str) -> Any:
    if name in FUNCTIONS:
        from importlib import import_module

        return getattr(import_module(f"kofn.represent.{FUNCTIONS[name]}"), name)
    return load_class("represent", name)


def __dir__() -> list[str]:
    return [*names_in("represent"), *FUNCTIONS]

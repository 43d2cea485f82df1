"""Rows that stand for the whole. `from kofn.represent import KMeans`: each class and function loads when it is asked for."""

from typing import Any

from kofn.registry import load_class, names_in

FUNCTIONS = {
    "assign_with_support": "represent.transductive",
    "bucketed_coreset": "represent.bucketed",
    "CoresetStream": "represent.coreset_merge",
    "corrected_weights": "represent.coreset",
    "coreset_queries": "represent.coreset_sizes",
    "coreset_size": "represent.coreset_sizes",
    "evaluate_coreset": "represent.coreset_check",
    "query_centers": "represent.coreset_check",
    "leverage_scores": "core.leverage",
    "lewis_weights": "core.lewis",
    "lp_sensitivities": "core.lewis",
    "merge_coresets": "represent.coreset_merge",
    "online_row_sampling": "core.leveragestream",
    "root_leverage_scores": "core.lewis",
    "stein_thinning": "represent.stein",
    "stream_coreset": "represent.coreset_merge",
    "streaming_leverage_scores": "core.leveragestream",
}
"""What is no method of the table, and the module that holds it."""


def __getattr__(name: str) -> Any:
    if name in FUNCTIONS:
        from importlib import import_module

        return getattr(import_module(f"kofn.{FUNCTIONS[name]}"), name)
    if name == "__all__":
        return __dir__()
    return load_class("represent", name)


def __dir__() -> list[str]:
    return [*names_in("represent"), *FUNCTIONS]

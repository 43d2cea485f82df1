"""Is k faithful to n? Metrics of a selection, measured on rows that every method is judged on alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kofn.check.context import Context
    from kofn.check.metric import Metric

__all__ = ["Context", "Metric"]


def __getattr__(name: str) -> Any:
    if name == "Metric":
        from kofn.check.metric import Metric

        return Metric
    if name == "Context":
        from kofn.check.context import Context

        return Context
    raise AttributeError(f"kofn.check has no {name!r}; it has {', '.join(__all__)}")

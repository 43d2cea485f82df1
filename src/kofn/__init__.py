"""kofn: keep k of n. The front door's names; everything else loads when it is used."""

from typing import TYPE_CHECKING, Any

from kofn.version import __version__

if TYPE_CHECKING:
    from kofn.catalog import methods
    from kofn.comparison import Comparison, compare
    from kofn.conclusion import load
    from kofn.errors import KofnError
    from kofn.front import select
    from kofn.intake import open_items as open
    from kofn.items import Items
    from kofn.method import Method, param
    from kofn.page.report import report
    from kofn.planning import Plan, plan
    from kofn.rng import Rng
    from kofn.selection import Selection
    from kofn.verdict import Verification
    from kofn.verification import verify

__all__ = [
    "Comparison",
    "Items",
    "KofnError",
    "Method",
    "Plan",
    "Rng",
    "Selection",
    "Verification",
    "__version__",
    "compare",
    "load",
    "methods",
    "open",
    "param",
    "plan",
    "report",
    "select",
    "verify",
]

_HOMES = {
    "Comparison": "kofn.comparison:Comparison",
    "compare": "kofn.comparison:compare",
    "Items": "kofn.items:Items",
    "KofnError": "kofn.errors:KofnError",
    "Method": "kofn.method:Method",
    "Rng": "kofn.rng:Rng",
    "Selection": "kofn.selection:Selection",
    "load": "kofn.conclusion:load",
    "methods": "kofn.catalog:methods",
    "open": "kofn.intake:open_items",
    "param": "kofn.method:param",
    "Plan": "kofn.planning:Plan",
    "plan": "kofn.planning:plan",
    "report": "kofn.page.report:report",
    "select": "kofn.front:select",
    "Verification": "kofn.verdict:Verification",
    "verify": "kofn.verification:verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kofn' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return list(__all__)

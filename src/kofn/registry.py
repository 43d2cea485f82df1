"""The table of methods: a name, and where its class is. Everything else about a method is on the class."""

from __future__ import annotations

from importlib import import_module

from kofn.errors import ParameterError, UsageError
from kofn.method import Method

METHODS = {
    "uniform": "kofn.represent.uniform:Uniform",
    "top": "kofn.represent.top:Top",
    "facility": "kofn.represent.facility:Facility",
    "kmeans++": "kofn.represent.kmeanspp:KMeansPlusPlus",
    "kmeans": "kofn.represent.kmeans:KMeans",
    "sensitivity": "kofn.represent.sensitivity:Sensitivity",
    "thinning": "kofn.represent.thinning:Thinning",
    "herding": "kofn.represent.herding:Herding",
    "coreset": "kofn.represent.coreset:Coreset",
    "leverage": "kofn.represent.leverage:Leverage",
    "hierarchical": "kofn.balance.hierarchical:Hierarchical",
    "kcenter": "kofn.represent.kcenter:KCenter",
    "kmedoids": "kofn.represent.kmedoids:KMedoids",
}


def method_class(name: str) -> type[Method]:
    """The class of this name; an unknown one is an error that names its neighbours."""
    if name not in METHODS:
        from difflib import get_close_matches

        near = get_close_matches(name, METHODS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(METHODS)}"
        raise UsageError(f"method {name!r} is unknown; {hint} (kofn methods lists them)")
    module, _, cls = METHODS[name].partition(":")
    return getattr(import_module(module), cls)


def registered() -> list[type[Method]]:
    """Every class of the table, imported."""
    return [method_class(name) for name in METHODS]


def build(name: str, params: dict[str, object]) -> Method:
    """The method of this name with these parameters; an unknown one is an error that lists the valid ones."""
    from kofn.method import default_of, parameters

    cls = method_class(name)
    known = {each.name: each for each in parameters(cls)}
    for given in params:
        if given not in known:
            listed = ", ".join(f"{each.name}: {each.type} = {default_of(each)}" for each in known.values())
            raise ParameterError(f"{name} has no parameter {given!r}; it takes {listed or 'none'}")
    return cls(**params)


def load_class(room: str, name: str) -> type[Method]:
    """The class `name` of a room; AttributeError when there is none, as for any module."""
    for target in METHODS.values():
        module, _, cls = target.partition(":")
        if cls == name and module.startswith(f"kofn.{room}."):
            return getattr(import_module(module), cls)
    raise AttributeError(f"kofn.{room} has no {name!r}; it has {', '.join(names_in(room))}")


def names_in(room: str) -> list[str]:
    """Names of a room's classes."""
    return [target.partition(":")[2] for target in METHODS.values() if target.startswith(f"kofn.{room}.")]

"""What methods there are, from their classes: for people, for `kofn methods`, and for BibTeX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kofn.method import Method, default_of, parameters
from kofn.registry import METHODS, method_class


@dataclass(frozen=True)
class MethodInfo:
    """What a class says of itself.

    Attributes
    ----------
    name, room, summary : str
    needs, uses : tuple of str
        Columns that it cannot do without, and those it reads when given.
    streams, random, prefix : bool
    weights : str
        "count", "design", "equal" or "none".
    claims : str
        The guarantee.
    lifts : str or None
        What is left of it in two rounds.
    parameters : dict
        Name to {type, default, doc}.
    bibtex : str
    """

    name: str
    room: str
    summary: str
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    streams: bool
    random: bool
    prefix: bool
    weights: str
    objective: str | None
    claims: str
    lifts: str | None
    parameters: dict[str, dict[str, Any]]
    idea: str
    bibtex: str


def describe(name: str) -> MethodInfo:
    """What the method of this name says of itself."""
    cls = method_class(name)
    settings = {
        each.name: {"type": str(each.type), "default": default_of(each), **each.metadata} for each in parameters(cls)
    }
    return MethodInfo(
        name=name,
        room=cls.__module__.split(".")[1],
        summary=cls.summary,
        needs=tuple(sorted(cls.needs)),
        uses=tuple(sorted(cls.uses)),
        streams=cls.streams,
        random=cls.random,
        prefix=cls.prefix,
        weights=cls.weights,
        objective=cls.objective,
        claims=cls.claims,
        lifts=cls.lifts,
        parameters=settings,
        idea=_idea(cls),
        bibtex="" if cls.paper is None else cls.paper.bibtex(name.replace("+", "p")),
    )


def methods(name: str | None = None) -> Any:
    """All methods as a list of MethodInfo, or the one of this name.

    Examples
    --------
    >>> import kofn
    >>> kofn.methods("top").needs
    ('scores',)
    """
    return [describe(each) for each in METHODS] if name is None else describe(name)


def _idea(cls: type[Method]) -> str:
    from inspect import getdoc

    return (getdoc(cls) or "").strip()

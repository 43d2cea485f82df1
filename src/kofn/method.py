"""A method: hyper-parameters as a value, and one verb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, get_type_hints

import numpy as np

from kofn.errors import ParameterError
from kofn.items import Items
from kofn.rng import Rng
from kofn.selection import Selection

WORDS = {type(None): "nothing", Callable: "function"}
"""Kinds of values that have a plainer name than their class."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    authors: str
    venue: str
    year: int
    url: str = ""

    def bibtex(self, key: str) -> str:
        """A BibTeX entry."""
        url = f"\n  url = {{{self.url}}}," if self.url else ""
        return (
            f"@misc{{{key},\n  title = {{{self.title}}},\n  author = {{{self.authors}}},\n"
            f"  howpublished = {{{self.venue}}},\n  year = {{{self.year}}},{url}\n}}"
        )


def param(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A hyper-parameter: its default, what it does, and which values it takes (`low` and `high` included)."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Method:
    """Chooses k of n. Frozen, keyword-only, equal to its twin; `select` leaves no trace on it or on its input.

    Class attributes say what a method is: `needs` (columns it cannot do without), `uses` (columns it reads when given),
    `accepts` ("dense", "sparse", "matrix": of dissimilarities, under metric "precomputed"), `dtype` (what rows are read as),
    `streams` (memory O(k + clusters) plus 16 bytes a row), `random`, `prefix` (the picks for a smaller k begin those for a
    larger one), `weights` ("count", "design", "equal" shares, or "none"), `cells` (whether count weights are the Voronoi
    cells of the picks and `have`, which `verify` recounts, or sizes of clusters), `diminishing` (whether gains never grow
    from pick to pick), `objective` (a name in `kofn.core.objectives`), `claims` (the guarantee), `lifts` (what is left of it
    when run on parts; None: never).

    A class whose guarantee can be checked on an answer defines `bound(items, selection) -> (sentence, value, limit)`, or None
    where it says nothing: `verify` prints the sentence and refuses an answer whose value is above the limit.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[Paper | None] = None
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    uses: ClassVar[frozenset[str]] = frozenset()
    accepts: ClassVar[frozenset[str]] = frozenset({"dense"})
    dtype: ClassVar[Any] = np.float32
    streams: ClassVar[bool] = False
    random: ClassVar[bool] = True
    prefix: ClassVar[bool] = False
    weights: ClassVar[str] = "count"
    cells: ClassVar[bool] = True
    diminishing: ClassVar[bool] = False
    objective: ClassVar[str | None] = None
    claims: ClassVar[str] = ""
    lifts: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for each in parameters(type(self)):
            _check(self.name, each, getattr(self, each.name), hints[each.name])

    def select(self, items: Items, k: int, rng: Rng) -> Selection:
        """Choose exactly k of the items that `have` does not hold."""
        raise NotImplementedError(f"{type(self).__name__} defines no select")

    def bytes(self, n: int, d: int, k: int) -> int:
        """Upper bound on the peak memory beyond the input, in bytes."""
        raise NotImplementedError(f"{type(self).__name__} does not say what memory it needs")

    def passes(self, n: int, d: int, k: int) -> int:
        """How often the rows are read."""
        raise NotImplementedError(f"{type(self).__name__} does not say how often it reads the rows")

    @classmethod
    def examples(cls) -> list[Method]:
        """Instances that the laws are run on."""
        return [cls()]

    def settings(self) -> dict[str, Any]:
        """Parameters by name, as provenance keeps them."""
        return {each.name: getattr(self, each.name) for each in parameters(type(self))}


def parameters(cls: type[Method]) -> list[Field[Any]]:
    """The hyper-parameters of a method, in order."""
    return list(fields(cls))


def default_of(each: Field[Any]) -> Any:
    """The default of a parameter; every one has one."""
    return None if each.default is MISSING else each.default


def _check(method: str, each: Field[Any], value: Any, hint: Any) -> None:
    name, rules = each.name, each.metadata
    kinds = _kinds(hint)
    if value is None and type(None) in kinds:
        return
    if isinstance(value, bool | np.bool_) != (bool in kinds) or not isinstance(value, _widened(kinds)):
        wanted = " or ".join(sorted(WORDS.get(kind, kind.__name__) for kind in kinds))
        raise ParameterError(f"{method}: {name}={value!r} is of the wrong type; it takes {wanted}")
    if rules.get("choices") and isinstance(value, str) and value not in rules["choices"]:
        raise ParameterError(f"{method}: {name}={value!r} is unknown; use one of: {', '.join(rules['choices'])}")
    if isinstance(value, str | bool) or callable(value):
        return
    low, high = rules.get("low"), rules.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high) or value != value:
        raise ParameterError(f"{method}: {name}={value} is out of range; it takes {_bounds(low, high)}")


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"from {low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else "a number"


def _kinds(hint: Any) -> tuple[type, ...]:
    from types import UnionType
    from typing import Union, get_args, get_origin

    if get_origin(hint) in (UnionType, Union):
        return tuple(get_origin(kind) or kind for kind in get_args(hint))
    return (hint,)


def _widened(kinds: tuple[type, ...]) -> tuple[type, ...]:
    wider: tuple[type, ...] = kinds
    if int in kinds or float in kinds:
        wider += (int, np.integer)
    if float in kinds:
        wider += (float, np.floating)
    return wider


def plain_settings(method: Method) -> dict[str, Any]:
    """Parameters by name as JSON can hold them: a function by its module and name."""
    return {name: _plain(value) for name, value in method.settings().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Method):
        return {"method": value.name, **plain_settings(value)}
    if callable(value):
        return f"{getattr(value, '__module__', 'yours')}.{getattr(value, '__qualname__', type(value).__name__)}"
    return value.item() if isinstance(value, np.generic) else value


def door_metric(method: Method) -> str:
    """The metric under which rows pass the door for this method: "cosine", else "euclidean", where they stay as they are."""
    return "cosine" if getattr(method, "metric", None) == "cosine" else "euclidean"


def is_matrix(method: Method) -> bool:
    """Whether the rows that this method is given are a square matrix of dissimilarities."""
    return getattr(method, "metric", None) == "precomputed"


def measures_plainly(method: Method) -> bool:
    """Whether the method measures by a metric that anyone can recompute from the rows: none, Euclidean or cosine."""
    return getattr(method, "metric", "euclidean") in ("euclidean", "cosine")


def shared_out(items: Items, picks: np.ndarray[Any, Any], inclusion: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Design weights: row weight over inclusion, rescaled to the total weight of the rows that `have` does not hold."""
    if items.weights is None:
        raw, left = 1.0 / inclusion, float(items.free)
    else:
        raw = items.weights[picks] / inclusion
        left = items.weights.sum() - items.weights[items.have_rows].sum()
    return np.asarray(raw * (left / raw.sum()))

"""Running the methods that are compared: every seed, every k, prefix methods once; then once more in a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kofn.errors import KofnError, UsageError
from kofn.front import select
from kofn.items import Items
from kofn.method import Method, default_of, is_matrix, parameters
from kofn.pool import Pool, hand_over
from kofn.registry import METHODS, build, method_class
from kofn.selection import Selection

UNIFORM = "uniform"


@dataclass(frozen=True)
class Entrant:
    """A method that takes part.

    Attributes
    ----------
    label : str
        Its name, and the parameters that are not as usual.
    method : Method
    """

    label: str
    method: Method

    @property
    def cut(self) -> bool:
        """Whether a smaller selection is the beginning of the largest one, its weights counted again."""
        return self.method.prefix and self.method.cells and self.method.weights != "design"

    def seeds(self, seeds: Sequence[int]) -> Sequence[int]:
        """The seeds that it is run with: one where nothing is drawn."""
        return seeds if self.method.random else seeds[:1]

    def items(self, pool: Pool) -> Items:
        """What it chooses from."""
        return pool.items_for(self.method.needs)


@dataclass(frozen=True)
class Trial:
    """What a method chose, or why it could not."""

    k: int
    seed: int
    selection: Selection | None
    reason: str = ""


@dataclass(frozen=True)
class Cost:
    """What a run in a process of its own took: seconds, and bytes at the peak of the whole process."""

    k: int
    seconds: float
    peak: int


def entrants(methods: Any, n: int, metric: str | None) -> list[Entrant]:
    """The methods that take part, uniform first.

    Raises
    ------
    UsageError
        For a name that is unknown, a value that is no method, or two alike.
    """
    if methods is None:
        methods = ["kmeans", "kmeans++", "facility" if n <= 50_000 else "sensitivity", "kcenter"]
    elif methods == "all":
        methods = list(METHODS)
    elif isinstance(methods, str | Method):
        methods = [methods]
    built = [_built(each, metric) for each in methods]
    if UNIFORM not in [each.label for each in built]:
        built.insert(0, _built(UNIFORM, metric))
    built.sort(key=lambda each: each.label != UNIFORM)  # stable: the others stay in their order
    for at, each in enumerate(built):
        if each.label in [other.label for other in built[:at]]:
            raise UsageError(f"method {each.label} is given twice; give it once")
    return built


def _built(given: Any, metric: str | None) -> Entrant:
    if isinstance(given, str):
        known = {each.name for each in parameters(method_class(given))}
        method = build(given, {"metric": metric} if metric is not None and "metric" in known else {})
    elif isinstance(given, Method):
        method = given
        if is_matrix(method):
            raise UsageError(
                f"{method.name} with metric='precomputed' cannot be compared: every figure here is of distances between rows, "
                "and a matrix has none; give the vectors, or read provenance['objective'] of each selection"
            )
    else:
        raise UsageError(f"methods holds {given!r}; give names (kofn.methods()) and instances of Method")
    usual = {each.name: default_of(each) for each in parameters(type(method))}
    if metric is not None and "metric" in usual:
        usual["metric"] = metric
    odd = [each for each in parameters(type(method)) if getattr(method, each.name) != usual[each.name]]
    settings = ", ".join(f"{each.name}={getattr(method, each.name)}" for each in odd)
    return Entrant(f"{method.name}({settings})" if settings else method.name, method)


def run_trials(entrant: Entrant, pool: Pool, ks: Sequence[int], seeds: Sequence[int], memory: Any) -> Iterator[Trial]:
    """What the method chooses for every seed and k; its largest k first, where smaller ones are cut from that."""
    items = entrant.items(pool)
    for seed in entrant.seeds(seeds):
        largest = None
        if entrant.cut and len(ks) > 1:
            largest = _chosen(entrant, pool, items, ks[-1], seed, memory)
            yield largest
        whole = largest.selection if largest is not None else None
        if whole is not None and "part" not in whole.provenance["run"]:  # in parts, a smaller k takes other rows
            yield from (Trial(k, seed, _cut(whole, items, k, pool.context.metric)) for k in ks[-2::-1])
            continue
        for k in ks if largest is None else ks[:-1]:
            yield _chosen(entrant, pool, items, k, seed, memory)


def _chosen(entrant: Entrant, pool: Pool, items: Items, k: int, seed: int, memory: Any) -> Trial:
    try:
        selection = select(items, k, method=entrant.method, seed=seed, memory=memory)
        if entrant.method.weights == "none" and items.embeddings is not None:
            selection = replace(selection, weights=selection.weights_from(items, metric=pool.context.metric))
    except Exception as error:
        return Trial(k, seed, None, _reason(error))
    return Trial(k, seed, selection)


def _cut(whole: Selection, items: Items, k: int, metric: str) -> Selection:
    """The first k picks, with their own Voronoi counts: what the method would have chosen for this k."""
    gains = None if whole.gains is None else whole.gains[:k]
    first = Selection(whole.indices[:k], whole.weights[:k], gains=gains, provenance={**whole.provenance, "k": k})
    measured = whole.provenance.get("parameters", {}).get("metric") or metric
    if items.embeddings is None:
        return replace(first, weights=first.weights * (items.n / first.weights.sum()))
    return replace(first, weights=first.weights_from(items, metric=measured))


def _reason(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if isinstance(error, KofnError) else f"{type(error).__name__}: {line}"


class Apart:
    """Runs methods in processes of their own, one a method, over rows handed over once.

    Parameters
    ----------
    pool : Pool
    folder : str
        For what is handed over.
    memory : int or str
        What `select` is told.
    """

    def __init__(self, pool: Pool, folder: str, memory: Any) -> None:
        self.pool, self.folder, self.memory = pool, folder, memory
        self.found = hand_over(pool, folder)

    def run(self, entrant: Entrant, ks: Sequence[int], seed: int) -> list[Cost] | str:
        """Seconds and peak of each k (of the largest alone, where the others are cut from it), or why there are none."""
        job = {
            "found": self.found if "scores" in entrant.method.needs else {**self.found, "scores": None},
            "method": _portable(entrant.method), "ks": list(ks[-1:] if entrant.cut else ks), "seed": seed,
            "memory": self.memory, "threads": self.pool.items.run.threads,
        }  # fmt: skip
        path, out = Path(self.folder) / "job.pickle", Path(self.folder) / "job.json"
        out.unlink(missing_ok=True)
        try:
            path.write_bytes(pickle.dumps(job))
        except Exception as error:  # whatever a caller's own class makes of being pickled
            return f"it cannot be handed to another process ({_reason(error)})"
        call = [sys.executable, "-P", "-m", "kofn.comparison_worker", str(path), str(out)]
        places = os.pathsep.join(
            each or os.getcwd() for each in sys.path
        )  # a caller's method may lie beside the script
        env = {**os.environ, "PYTHONPATH": places}
        done = subprocess.run(call, capture_output=True, text=True, check=False, env=env)
        if done.returncode or not out.exists():
            return (done.stderr.strip().splitlines() or [f"its process ended with code {done.returncode}"])[-1]
        return [Cost(**each) for each in json.loads(out.read_text())]


def _portable(method: Method) -> Any:
    """The method so that a process that has never seen the caller's script can read it."""
    from joblib import wrap_non_picklable_objects  # type: ignore[import-untyped]

    return wrap_non_picklable_objects(method, keep_wrapper=False)

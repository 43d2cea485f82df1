"""What kofn is timed on. Each function warms up on small data and returns (run, report), as `measure.py` says."""

from __future__ import annotations

from typing import Any

import numpy as np
from workloads import mean_distance, mean_squared_distance

import kofn


def uniform_file(path: str, warm: str, out: str, k: int, seed: int) -> tuple[Any, Any]:
    """k rows at random, from Parquet to Parquet."""

    def choose(source: str, count: int) -> Any:
        selection = kofn.select(source, count, method="uniform", seed=seed)
        selection.save(out, source, force=True)
        return selection

    choose(warm, 10)
    return lambda: choose(path, k), lambda selection: {"picked": len(selection)}


def sensitivity_file(path: str, warm: str, out: str, k: int, clusters: int, seed: int) -> tuple[Any, Any]:
    """k rows by sensitivity sampling; then, timed apart, the picked rows written to Parquet."""
    import time

    rounds = _watch_training()

    def choose(source: str, count: int, centers: int) -> Any:
        return kofn.select(source, count, method="sensitivity", clusters=centers, seed=seed)

    choose(warm, 10, 10)

    def report(selection: Any) -> dict[str, Any]:
        start = time.perf_counter()
        selection.save(out, path, force=True)
        return {"write_seconds": time.perf_counter() - start, "rounds": rounds[-1], "k": len(selection)}

    return lambda: choose(path, k, clusters), report


def _watch_training() -> list[int]:
    """Lloyd rounds of each training from now on: what faiss must be given to do the same."""
    from kofn.represent import sensitivity

    train, rounds = sensitivity.train, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        trained = train(*args, **kwargs)
        rounds.append(int(trained.clustering.rounds))
        return trained

    sensitivity.train = watched
    return rounds


def seeds(path: str, warm: str, k: int, seed: int, candidates: int = 1) -> tuple[Any, Any]:
    """k-means++ seeding alone, as the loop and scikit-learn do it."""
    from kofn import Rng
    from kofn.blocks import MemoryBlocks
    from kofn.core.blas import one_blas_thread
    from kofn.core.seeding import seed_rows

    def draw(x: Any, count: int) -> Any:
        with one_blas_thread():
            return seed_rows(MemoryBlocks(x), count, Rng(seed), candidates=candidates)

    draw(np.load(warm), min(k, 300))
    x = np.load(path)
    return lambda: draw(x, k), lambda rows: {"cost": mean_squared_distance(x, x[rows])}


def seeds_many(path: str, warm: str, k: int, seed: int, count: int) -> tuple[Any, Any]:
    """Costs of k-means++ seeds over `count` seeds."""
    from kofn import Rng
    from kofn.blocks import MemoryBlocks
    from kofn.core.blas import one_blas_thread
    from kofn.core.seeding import seed_rows

    x = np.load(path)

    def draw(each: int) -> Any:
        with one_blas_thread():
            return seed_rows(MemoryBlocks(x), k, Rng(each))

    def report(drawn: list[Any]) -> dict[str, Any]:
        costs = [mean_squared_distance(x, x[rows]) for rows in drawn]
        return {"costs": costs, "cost": float(np.mean(costs)), "cost_error": _error(costs)}

    return lambda: [draw(seed + each) for each in range(count)], report


def _error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def select(path: str, warm: str, k: int, seed: int, method: str, params: dict[str, Any]) -> tuple[Any, Any]:
    """The front door on an array: picks and their weights."""

    def choose(x: Any, count: int) -> Any:
        return kofn.select(x, count, method=method, seed=seed, **params)

    small = np.load(warm)
    choose(small, min(k, len(small) // 10))
    x = np.load(path)

    def report(selection: Any) -> dict[str, Any]:
        clustering = selection.provenance.get("clustering", {})
        figures = {"picks_cost": mean_squared_distance(x, x[selection.indices])}
        if len(x) <= 100_000:
            figures["mean_distance"] = mean_distance(x, x[selection.indices])
        if clustering:
            figures["cost"] = clustering["mean_squared_distance_to_center"]
        return figures

    return lambda: choose(x, k), report

"""What kofn is compared with. Needs numpy, and the peer that is asked for; see `measure.py` for the shape of a case."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from workloads import mean_distance, mean_squared_distance


def d2_loop(path: str, warm: str, k: int, seed: int) -> tuple[Any, Any]:
    """k-means++ as one writes it in NumPy: one draw a pick, all distances at every pick, no avoidable temporary."""
    _d2_loop(np.load(warm), 10, seed)
    x = np.load(path)
    return lambda: _d2_loop(x, k, seed), lambda rows: {"cost": mean_squared_distance(x, x[rows])}


def _d2_loop(x: Any, k: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    lengths = np.einsum("ij,ij->i", x, x)
    picks = [int(rng.integers(len(x)))]
    nearest, distance = np.full(len(x), np.inf, np.float32), np.empty(len(x), np.float32)
    mass = np.empty(len(x))
    while len(picks) < k:
        point = x[picks[-1]]
        np.dot(x, point, out=distance)
        distance *= -2.0
        distance += lengths
        distance += float(point @ point)
        np.minimum(nearest, distance, out=nearest)
        np.maximum(nearest, 0.0, out=nearest)
        np.cumsum(nearest, dtype=np.float64, out=mass)
        picks.append(int(np.searchsorted(mass, rng.random() * mass[-1], side="right")))
    return np.array(picks)


def d2_many(path: str, warm: str, k: int, seed: int, count: int) -> tuple[Any, Any]:
    """Costs of the loop's law over `count` seeds: all of them advance together, so that the rows are read once a pick."""
    x = np.load(path)

    def report(costs: Any) -> dict[str, Any]:
        error = float(np.std(costs, ddof=1) / np.sqrt(count))
        return {"costs": list(map(float, costs)), "cost": float(np.mean(costs)), "cost_error": error}

    return lambda: _d2_many(x, k, seed, count), report


def _d2_many(x: Any, k: int, seed: int, count: int) -> Any:
    """Mean squared distance to k picks of each of `count` runs.

    What is kept of a row and a run is min over picks c of |c|^2 - 2 x.c, one product with a column of ones; a row's squared
    length, the same for all picks, is added where a mass is needed.
    """
    from threadpoolctl import threadpool_limits

    rngs = [np.random.default_rng([seed, each]) for each in range(count)]
    n = len(x)
    ones = np.concatenate([x, np.ones((n, 1), np.float32)], axis=1)
    lengths = np.einsum("ij,ij->i", x, x)
    least, starts = np.full((count, n), np.inf, np.float32), range(0, n, PIECE)
    base = np.array([lengths[start : start + PIECE].sum(dtype=np.float64) for start in starts])
    sums = np.empty((len(starts), count))
    picks = np.array([rng.integers(n) for rng in rngs])
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(2) as pool:
        for turn in range(k):
            points = x[picks]
            turned = np.concatenate([-2.0 * points, np.einsum("ij,ij->i", points, points)[:, None]], axis=1)
            for at, found in enumerate(pool.map(partial(_lower, ones, least, turned), starts)):
                sums[at] = found
            if turn + 1 < k:
                mass = sums + base[:, None]
                picks = np.array([_draw(least[at], lengths, mass[:, at], rngs[at]) for at in range(count)])
    return (sums.sum(axis=0) + base.sum()) / n


PIECE = 1 << 13  # rows: a piece stays in the cache from the product to the sum


def _lower(ones: Any, least: Any, turned: Any, start: int) -> Any:
    piece = least[:, start : start + PIECE]
    np.minimum(piece, turned @ ones[start : start + PIECE].T, out=piece)
    return piece.sum(axis=1)


def _draw(least: Any, lengths: Any, mass: Any, rng: Any) -> int:
    """A row in proportion to its mass: first its piece, then the row in it."""
    total = np.cumsum(mass)
    piece = min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(mass) - 1)
    rows = slice(piece * PIECE, (piece + 1) * PIECE)
    inner = np.cumsum(np.maximum(least[rows] + lengths[rows], 0.0), dtype=np.float64)
    return rows.start + min(int(np.searchsorted(inner, rng.random() * inner[-1], side="right")), len(inner) - 1)


def sklearn_seeds(path: str, warm: str, k: int, seed: int) -> tuple[Any, Any]:
    """scikit-learn's greedy k-means++: 2 + log k draws a pick."""
    from sklearn.cluster import kmeans_plusplus

    kmeans_plusplus(np.load(warm), 10, random_state=seed)
    x = np.load(path)
    return lambda: kmeans_plusplus(x, k, random_state=seed)[1], lambda rows: {"cost": mean_squared_distance(x, x[rows])}


def faiss_kmeans(path: str, warm: str, k: int, seed: int, rounds: int, assign: bool) -> tuple[Any, Any]:
    """faiss k-means on all rows; with `assign`, and then each row's nearest center, as picks and weights need it."""
    _faiss_train(np.load(warm), 20, seed, rounds)
    x = np.load(path)

    def run() -> Any:
        trained = _faiss_train(x, k, seed, rounds)
        return trained, trained.index.search(x, 1) if assign else None

    def report(answer: Any) -> dict[str, Any]:
        trained, found = answer
        squared, _ = found or trained.index.search(x, 1)
        return {
            "cost": float(squared.mean(dtype=np.float64)),
            "cost_check": mean_squared_distance(x, trained.centroids),
        }

    return run, report


def faiss_train(rows: int, d: int, k: int, seed: int, rounds: int) -> tuple[Any, Any]:
    """faiss k-means on a sample of standard normal rows, as the files hold them."""
    x = np.random.default_rng(seed).standard_normal((rows, d), dtype=np.float32)
    _faiss_train(x[:2000], 20, seed, rounds)
    return lambda: _faiss_train(x, k, seed, rounds), lambda trained: {"rounds": rounds, "rows": rows}


def _faiss_train(x: Any, k: int, seed: int, rounds: int) -> Any:
    import faiss

    trained = faiss.Kmeans(
        x.shape[1], k, niter=rounds, seed=seed, max_points_per_centroid=len(x), min_points_per_centroid=1
    )
    trained.train(x)
    return trained


def faiss_assign(path: str, warm: str, k: int, seed: int) -> tuple[Any, Any]:
    """One assignment pass of faiss: the nearest of k points for every row."""
    import faiss

    x = np.load(path)
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x[np.random.default_rng(seed).choice(len(x), k, replace=False)])
    index.search(np.load(warm), 1)
    return lambda: index.search(x, 1), lambda found: {"cost": float(found[0].mean(dtype=np.float64))}


def apricot_dense(path: str, warm: str, k: int, seed: int) -> tuple[Any, Any]:
    """apricot's facility location as documented: it builds the n x n matrix itself, of squared distances."""
    fixed = _fixed(np.load(warm).astype(np.float64), "euclidean")
    x = np.load(path)
    rows = x.astype(np.float64)
    return lambda: _apricot(rows, k, "euclidean"), lambda picks: {**_coverage(x, picks), "fixed_seconds": fixed}


def apricot_exact(path: str, warm: str, k: int, seed: int) -> tuple[Any, Any]:
    """Exact greedy on the objective that kofn has: largest distance less distance, the n x n matrix made in the timed run."""
    fixed = _fixed(_similarities(np.load(warm)), "precomputed")
    x = np.load(path)

    def report(picks: Any) -> dict[str, Any]:
        return {**_coverage(x, picks), "fixed_seconds": fixed}

    return lambda: _apricot(_similarities(x), k, "precomputed"), report


def apricot_picks(path: str, k: int, seed: int) -> tuple[Any, Any]:
    """Exact greedy on distances; the picks themselves are the report. Deterministic: the seed says nothing."""
    x = np.load(path)
    return lambda: _apricot(_similarities(x), k, "precomputed"), lambda picks: {"picks": [int(pick) for pick in picks]}


def apricot_sparse(path: str, warm: str, graph: str, k: int, seed: int) -> tuple[Any, Any]:
    """apricot on a neighbour graph that it is given; making the graph is not timed."""
    from scipy.sparse import csr_matrix

    small = _similarities(np.load(warm))
    fixed = _fixed(csr_matrix(np.where(small >= np.median(small), small, 0.0)), "precomputed")
    x, parts = np.load(path), np.load(graph)
    near = csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=(len(x), len(x)))
    return lambda: _apricot(near, k, "precomputed"), lambda picks: {**_coverage(x, picks), "fixed_seconds": fixed}


def _fixed(small: Any, metric: str) -> float:
    """Seconds of a second fit on small data: apricot compiles its loops anew at every fit."""
    import time

    _apricot(small, 10, metric)
    start = time.perf_counter()
    _apricot(small, 10, metric)
    return time.perf_counter() - start


def _apricot(matrix: Any, k: int, metric: str) -> Any:
    from apricot import FacilityLocationSelection

    chosen = FacilityLocationSelection(k, metric=metric, optimizer="lazy")
    chosen.fit(matrix)
    return chosen.ranking


def _similarities(x: Any) -> Any:
    x = x.astype(np.float64)
    squares = (x * x).sum(axis=1)
    matrix = x @ x.T.copy()
    matrix *= -2.0
    matrix += squares
    matrix += squares[:, None]
    np.maximum(matrix, 0.0, out=matrix)
    np.sqrt(matrix, out=matrix)
    np.subtract(matrix.max(), matrix, out=matrix)
    return matrix


def _coverage(x: Any, picks: Any) -> dict[str, Any]:
    return {"mean_distance": mean_distance(x, x[np.asarray(picks, dtype=np.int64)])}

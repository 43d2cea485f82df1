"""The methods that stand for the whole, as they are timed. Each function returns (run, report), as `measure.py` says."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from represent_data import (
    coreset_errors,
    distances,
    gaussian_points,
    matrix_of,
    mixture_rows,
    regression_rows,
    spherical_figures,
    squared_mmd,
    texts_of,
)

import kofn


def medoids_of_matrix(n: int, k: int, seed: int) -> tuple[Any, Any]:
    """FasterPAM on a given matrix, from the same random start as the peer."""
    from kofn.core.blas import one_blas_thread

    small = matrix_of(600)
    run_swaps(small, 10, seed)
    matrix = matrix_of(n)

    def run() -> Any:
        with one_blas_thread():
            return run_swaps(matrix, k, seed)

    return run, lambda picks: {"loss": float(matrix[picks].min(axis=0).mean(dtype=np.float64))}


def run_swaps(matrix: Any, k: int, seed: int) -> Any:
    """The picks of `kofn.select`, begun at random."""
    return kofn.select(matrix, k, method="kmedoids", metric="precomputed", seed=seed, memory="8GiB").indices


def medoids_of_rows(n: int, k: int, seed: int, algorithm: str = "auto") -> tuple[Any, Any]:
    """k-medoids from vectors."""
    choose = partial(kofn.select, method="kmedoids", algorithm=algorithm, seed=seed, memory="16GiB")
    choose(mixture_rows(3_000), 10)
    x = mixture_rows(n)
    return lambda: choose(x, k).indices, lambda picks: {"loss": float(distances(x, x[picks]).min(axis=1).mean())}


def thinned(n: int, d: int, k: int, seed: int, **params: Any) -> tuple[Any, Any]:
    """Kernel thinning with the Gaussian kernel at the median bandwidth."""
    choose = partial(kofn.select, method="thinning", seed=seed, **params)
    choose(gaussian_points(4_096, d, seed), 64)
    x = gaussian_points(n, d, seed)
    return lambda: choose(x, k).indices, lambda picks: {"squared_mmd": squared_mmd(x, picks)}


def herded(n: int, d: int, k: int, seed: int) -> tuple[Any, Any]:
    """Kernel herding with the same kernel."""
    choose = partial(kofn.select, method="herding", seed=seed)
    choose(gaussian_points(2_048, d, seed), 16)
    x = gaussian_points(n, d, seed)
    return lambda: choose(x, k).indices, lambda picks: {"squared_mmd": squared_mmd(x, picks)}


def random_points(n: int, d: int, k: int, seed: int) -> tuple[Any, Any]:
    """Uniform rows, for the scale of the errors."""
    x = gaussian_points(n, d, seed)
    return (
        lambda: kofn.select(x, k, method="uniform", seed=seed).indices,
        lambda picks: {"squared_mmd": squared_mmd(x, picks)},
    )


def coreset_of(n: int, k: int, clusters: int, method: str, seed: int) -> tuple[Any, Any]:
    """Weighted rows for clusterings with so many centers."""
    params = {} if method == "uniform" else {"clusters": clusters}
    choose = partial(kofn.select, method=method, seed=seed, **params)
    choose(mixture_rows(6_000, skewed=True), 200)
    x = mixture_rows(n, skewed=True)
    return lambda: choose(x, k), lambda s: coreset_errors(x, x[s.indices], s.weights, clusters)


def one_pass(n: int, clusters: int, seed: int) -> tuple[Any, Any]:
    """What a pass over the rows takes: each to its nearest center."""
    from kofn.core.assign import assign
    from kofn.core.blas import one_blas_thread

    x = mixture_rows(n, skewed=True)
    centers = x[np.random.default_rng(seed).choice(n, clusters, replace=False)]

    def run() -> None:
        with one_blas_thread():
            for _ in assign(kofn.Items(embeddings=x).blocks(), centers):
                pass

    run()
    return run, lambda _: {}


def leverage(n: int, d: int, condition: float, seed: int) -> tuple[Any, Any]:
    """Exact leverage scores of float64 rows."""
    from kofn.represent import leverage_scores

    leverage_scores(regression_rows(5_000, d, condition))
    x = regression_rows(n, d, condition)
    return lambda: leverage_scores(x), lambda scores: {"error": relative_error(x, scores)}


def relative_error(x: Any, scores: Any) -> float:
    """Largest relative error of the first rows' scores against those by a QR decomposition of all rows."""
    inverse = np.linalg.inv(np.linalg.qr(x, mode="r"))
    head = x[:20_000]
    q = head @ inverse
    q = q @ np.linalg.inv(np.linalg.cholesky(_gram(x, inverse)).T)  # once more: the inverse alone loses the condition
    exact = np.einsum("ij,ij->i", q, q)
    return float(np.max(np.abs(scores[: len(head)] / exact - 1)))


def _gram(x: Any, inverse: Any) -> Any:
    total = np.zeros((x.shape[1], x.shape[1]))
    for at in range(0, len(x), 65_536):
        q = x[at : at + 65_536] @ inverse
        total += q.T @ q
    return total


def lloyd_rounds(n: int, d: int, k: int, rounds: int, bounds: bool, seed: int) -> tuple[Any, Any]:
    """Rounds of k-means on all rows from random ones, with bounds or without."""
    from kofn import Items
    from kofn.core import lloyd
    from kofn.core.blas import one_blas_thread

    if not bounds:
        lloyd.FEWEST = 1 << 30

    def run(x: Any) -> Any:
        start = x[np.random.default_rng(seed).choice(len(x), k, replace=False)].copy()
        with one_blas_thread():
            return lloyd.lloyd(Items(embeddings=x).blocks(), start, rounds=rounds, tol=0.0)

    x = mixture_rows(n, columns=d)
    run(x[: 2 * k])
    return lambda: run(x), lambda found: {"cost": found.cost / n}


def spherical(path: str, k: int, rounds: int, candidates: int, seed: int) -> tuple[Any, Any]:
    """Spherical k-means on sparse TF-IDF rows; the rows nearest to the centers and their weights as well."""
    choose = partial(
        kofn.select, method="kmeans", metric="cosine", seed=seed, rounds=rounds, sample=0, candidates=candidates
    )
    x = texts_of(path)
    choose(x[:3_000], 10)
    answers: list[Any] = []

    def run() -> Any:
        from kofn import Items, Rng
        from kofn.core.blas import one_blas_thread
        from kofn.core.lloyd import train

        items = Items(embeddings=x)
        with one_blas_thread():
            trained = train(
                items.blocks("cosine"),
                k,
                Rng(seed),
                items.hold,
                sample=0,
                rounds=rounds,
                unit=True,
                candidates=candidates,
            )
        answers.append(trained)
        return trained.clustering.centers

    return run, lambda centers: spherical_figures(x, centers)

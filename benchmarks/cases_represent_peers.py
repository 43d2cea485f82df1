"""What the methods that stand for the whole are compared with; see `measure.py` for the shape of a case."""

from __future__ import annotations

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


def fasterpam_of_matrix(n: int, k: int, seed: int, processors: int = 1) -> tuple[Any, Any]:
    """The Rust package on a given matrix, from a random start; on all processors with -1."""
    import kmedoids

    kmedoids.fasterpam(matrix_of(600), 10, random_state=seed)
    matrix = matrix_of(n)
    return (
        lambda: kmedoids.fasterpam(matrix, k, init="random", random_state=seed, n_cpu=processors).medoids,
        lambda picks: {"loss": float(matrix[picks].min(axis=0).mean(dtype=np.float64))},
    )


def fasterpam_of_rows(n: int, k: int, seed: int, processors: int = 1) -> tuple[Any, Any]:
    """The same from vectors: the matrix is made first, by products on all processors."""
    import kmedoids

    kmedoids.fasterpam(matrix_of(600), 10, random_state=seed)
    x = mixture_rows(n)
    return (
        lambda: kmedoids.fasterpam(distances(x, x), k, init="random", random_state=seed, n_cpu=processors).medoids,
        lambda picks: {"loss": float(distances(x, x[picks]).min(axis=1).mean())},
    )


def compresspp(n: int, d: int, g: int, seed: int) -> tuple[Any, Any]:
    """goodpoints' Compress++ to sqrt(n) points."""
    from goodpoints.compress import compresspp_kt
    from represent_data import median_bandwidth

    def thin(x: Any) -> Any:
        return compresspp_kt(x, b"gaussian", np.array([2 * median_bandwidth(x) ** 2]), g=g, seed=seed)

    thin(gaussian_points(4_096, d, seed).astype(np.float64))
    x = gaussian_points(n, d, seed).astype(np.float64)
    return lambda: thin(x), lambda picks: {"squared_mmd": squared_mmd(x, picks)}


def kmeans_coreset(n: int, k: int, clusters: int, seed: int) -> tuple[Any, Any]:
    """The package `coresets`: sensitivity sampling with replacement."""
    from coresets import KMeansCoreset

    def build(x: Any, size: int) -> Any:
        np.random.seed(seed)  # noqa: NPY002  it draws from the global state
        return KMeansCoreset(x, n_clusters=clusters, random_state=seed).generate_coreset(size)

    build(mixture_rows(6_000, skewed=True), 200)
    x = mixture_rows(n, skewed=True)
    return lambda: build(x, k), lambda found: coreset_errors(x, found[0], found[1], clusters)


def leverage_by(how: str, n: int, d: int, condition: float, seed: int) -> tuple[Any, Any]:
    """Leverage scores as one writes them in NumPy: by SVD, by QR, or by Gram matrix and Cholesky factor."""
    from cases_represent import relative_error
    from scipy.linalg import solve_triangular

    def scores(x: Any) -> Any:
        if how == "svd":
            u = np.linalg.svd(x, full_matrices=False)[0]
        elif how == "qr":
            u = np.linalg.qr(x)[0]
        else:
            factor = np.linalg.cholesky(x.T @ x)
            u = solve_triangular(factor, x.T, lower=True).T
        return np.einsum("ij,ij->i", u, u)

    scores(regression_rows(5_000, d, 1.0))
    x = regression_rows(n, d, condition)
    return lambda: scores(x), lambda found: {"error": relative_error(x, found)}


def gram_and_cholesky(n: int, d: int, condition: float, seed: int) -> tuple[Any, Any]:
    """The Gram matrix and its Cholesky factor alone: the floor."""

    def run(x: Any) -> Any:
        return np.linalg.cholesky(x.T @ x + 1e-300)

    run(regression_rows(5_000, d, 1.0))
    x = regression_rows(n, d, condition)
    return lambda: run(x), lambda _: {}


def sklearn_kmeans(path: str, k: int, seed: int) -> tuple[Any, Any]:
    """scikit-learn's KMeans with its defaults, one start, on rows of length one."""
    from sklearn.cluster import KMeans

    x = texts_of(path)
    KMeans(10, n_init=1, random_state=seed).fit(x[:3_000])
    return (
        lambda: KMeans(k, n_init=1, random_state=seed).fit(x),
        lambda found: {**spherical_figures(x, found.cluster_centers_, found.labels_), "rounds": int(found.n_iter_)},
    )

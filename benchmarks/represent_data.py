"""Data and figures of merit that kofn and its peers share in `represent.py`. Needs numpy, for texts scipy and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

DIMENSIONS = 64
CLUSTERS = 100
PIECE = 4_096
CACHED = 512  # rows and columns of a kernel that stay in the cache


def mixture_rows(n: int, skewed: bool = False, columns: int = DIMENSIONS) -> Any:
    """Gaussian clusters of standard deviation 1 around 100 centers of standard deviation 1; float32 (n, columns).

    Skewed: clusters of sizes 1, 1/2, 1/3 ..., centers 3 times as far apart, and one row of a thousand ten times as far out.
    """
    rng = np.random.default_rng(17)
    centers = rng.standard_normal((CLUSTERS, columns)).astype(np.float32) * (3 if skewed else 1)
    share = 1 / np.arange(1, CLUSTERS + 1) if skewed else np.ones(CLUSTERS)
    member = rng.choice(CLUSTERS, n, p=share / share.sum())
    x = rng.standard_normal((n, columns), dtype=np.float32)
    for at in range(0, n, 65_536):
        x[at : at + 65_536] += centers[member[at : at + 65_536]]
    if skewed:
        x[rng.random(n) < 1e-3] *= 10
    return x


def distances(a: Any, b: Any) -> Any:
    """Euclidean distances float32 (len(a), len(b)), by products in pieces."""
    a_squares, b_squares = (np.einsum("ij,ij->i", each, each) for each in (a, b))
    out = np.empty((len(a), len(b)), np.float32)
    for at in range(0, len(a), PIECE):
        part = out[at : at + PIECE]
        np.matmul(a[at : at + PIECE], b.T, out=part)
        part *= -2
        part += a_squares[at : at + PIECE, None]
        part += b_squares
        np.maximum(part, 0, out=part)
        np.sqrt(part, out=part)
    return out


def matrix_of(n: int) -> Any:
    """All distances of the mixture's first rows, zero on the diagonal."""
    x = mixture_rows(n)
    matrix = distances(x, x)
    np.fill_diagonal(matrix, 0)
    return matrix


def gaussian_points(n: int, d: int, seed: int) -> Any:
    """Independent standard normal points, float32 (n, d)."""
    return np.random.default_rng([23, seed, d]).standard_normal((n, d)).astype(np.float32)


def median_bandwidth(x: Any) -> float:
    """Median distance of 1,000 evenly spaced rows."""
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(x[:: max(1, len(x) // 1_000)][:1_000].astype(np.float64))))


def squared_mmd(x: Any, picks: Any) -> float:
    """MMD^2 of the picks, counted alike, and all rows; Gaussian kernel exp(-r^2 / (2 s^2)), s the median distance."""
    x = x.astype(np.float32)
    scaled = (x - x.mean(axis=0, dtype=np.float64)).astype(np.float32) / np.float32(median_bandwidth(x))
    points = scaled[picks]
    whole = _kernel_sum(scaled, scaled) / len(x) ** 2
    across = _kernel_sum(scaled, points) / len(x) / len(points)
    return whole - 2 * across + _kernel_sum(points, points) / len(points) ** 2


def _kernel_sum(a: Any, b: Any) -> float:
    """Sum of exp(-r^2 / 2) over all pairs: values in float32, whose rounding averages out, sums in float64; of pairs of
    pieces within one set each once."""
    total, halves = 0.0, [0.5 * np.einsum("ij,ij->i", each, each) for each in (a, b)]
    for i in range(0, len(a), CACHED):
        for j in range(i if a is b else 0, len(b), CACHED):
            values = a[i : i + CACHED] @ b[j : j + CACHED].T
            values -= halves[0][i : i + CACHED, None]
            values -= halves[1][j : j + CACHED]
            np.minimum(values, 0, out=values)
            np.exp(values, out=values)
            total += float(values.sum(axis=1, dtype=np.float64).sum()) * (2 if a is b and i != j else 1)
    return total


def coreset_errors(x: Any, points: Any, weights: Any, clusters: int) -> dict[str, float]:
    """Relative errors of the weighted cost over 24 sets of centers: random rows, moved means, far points, sets that lack a
    part of the data."""
    rng = np.random.default_rng(29)
    sample = x[rng.choice(len(x), 20_000, replace=False)]
    errors = []
    for turn in range(24):
        centers = sample[rng.choice(len(sample), clusters, replace=False)]
        for _ in range(turn % 3):  # rounds of Lloyd's algorithm: from random rows to a good clustering
            labels = _squares(sample, centers).argmin(axis=1)
            sums = np.stack([np.bincount(labels, sample[:, j], clusters) for j in range(sample.shape[1])], axis=1)
            full = np.bincount(labels, minlength=clusters)
            centers = np.where(full[:, None] > 0, sums / np.maximum(full, 1)[:, None], centers).astype(np.float32)
        if turn % 4 == 3:
            centers = centers[: max(1, clusters // 2)]
        true = sum(float(_squares(x[at : at + 65_536], centers).min(axis=1).sum()) for at in range(0, len(x), 65_536))
        found = float(weights @ _squares(points.astype(np.float32), centers).min(axis=1))
        errors.append(abs(found / true - 1))
    return {"mean_error": float(np.mean(errors)), "largest_error": float(np.max(errors))}


def _squares(a: Any, b: Any) -> Any:
    apart = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b) - 2 * a @ b.T
    return np.maximum(apart, 0).astype(np.float64)


def regression_rows(n: int, d: int, condition: float) -> Any:
    """Rows with a few heavy ones, whose matrix has about this condition number; float64 (n, d)."""
    rng = np.random.default_rng(31)
    x = rng.standard_normal((n, d))
    x[:: max(1, n // 100)] *= 30
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    x *= np.geomspace(1, 1 / condition, d)
    return x @ turn


def texts_of(path: str) -> Any:
    """TF-IDF of the column `gloss` of a Parquet file, rows of length one; csr float32."""
    import pyarrow.parquet as pq
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = pq.read_table(path, columns=["gloss"]).column(0).to_pylist()
    return TfidfVectorizer(dtype=np.float32).fit_transform(texts).tocsr()


def spherical_figures(x: Any, centers: Any, labels: Any = None) -> dict[str, float]:
    """Mean cosine of a row and the direction of its cluster's mean, labels by largest cosine unless given."""
    if labels is None:
        labels = np.concatenate(
            [np.asarray(x[at : at + 2_000] @ centers.T).argmax(axis=1) for at in range(0, x.shape[0], 2_000)]
        )
    from scipy.sparse import csr_matrix

    member = csr_matrix((np.ones(x.shape[0]), (labels, np.arange(x.shape[0]))), shape=(len(centers), x.shape[0]))
    sums = np.asarray((member @ x).todense())
    lengths = np.linalg.norm(sums, axis=1)
    sizes = np.asarray(member.sum(axis=1)).ravel()
    inertia = x.shape[0] - float((lengths**2 / np.maximum(sizes, 1)).sum())
    return {"mean_cosine": float(lengths.sum() / x.shape[0]), "inertia": inertia}

"""What k picks with weights are worth, by numbers that do not use kofn's own code."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

BLOCK = 1 << 12
SHARE_ASIDE = 0.2


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to choose from, and rows set aside before anything is chosen.

    Attributes
    ----------
    x : float32 (n, d)
        Rows to choose from, where distances are measured: scaled to length one under cosine.
    y : int64 (n,)
        Their labels, 0 to classes - 1.
    aside_x, aside_y
        The rows set aside.
    classes : int
    clusters : int
        Centers of the k-means problem that the weighted picks are to stand in for.
    """

    x: Any
    y: Any
    aside_x: Any
    aside_y: Any
    classes: int
    clusters: int

    @cached_property
    def best_cost(self) -> float:
        """Mean squared distance to the best centers that k-means finds on all rows."""
        return mean_cost(self.x, best_centers(self.x, np.ones(len(self.x)), self.clusters))

    @cached_property
    def gamma(self) -> float:
        """Of the Gaussian kernel exp(-gamma r^2): from the median distance of 1,000 rows at equal steps."""
        from scipy.spatial.distance import pdist

        sample = self.x[np.arange(1_000) * len(self.x) // 1_000].astype(np.float64)
        return float(1 / (2 * np.median(pdist(sample)) ** 2))

    @cached_property
    def own_kernel(self) -> float:
        """Mean kernel of two rows."""
        return mean_kernel(self.x, self.x, np.full(len(self.x), 1 / len(self.x)), self.gamma)

    @cached_property
    def scale(self) -> float:
        """Standard deviation of all numbers: what the probe divides by."""
        return float(self.x.std(dtype=np.float64)) or 1.0


def nearest(x: Any, points: Any) -> tuple[Any, Any]:
    """(number of the nearest point int64 (n,), distance float64 (n,)); ties to the lowest number."""
    points = points.astype(np.float64)
    squares = (points * points).sum(axis=1)
    labels, distances = np.empty(len(x), np.int64), np.empty(len(x))
    for start in range(0, len(x), BLOCK):
        rows = x[start : start + BLOCK].astype(np.float64)
        squared = squares - 2.0 * (rows @ points.T)
        found = squared.argmin(axis=1)
        labels[start : start + BLOCK] = found
        gaps = rows - points[found]  # by differences: exact zeros for the picks themselves
        distances[start : start + BLOCK] = np.sqrt((gaps * gaps).sum(axis=1))
    return labels, distances


def figures(split: Split, picks: Any, weights: Any) -> dict[str, float]:
    """All figures of a set of picks.

    Parameters
    ----------
    picks : int64 (k,)
        Row numbers in `split.x`.
    weights : float64 (k,)
        How many rows each stands for.
    """
    points, labels = split.x[picks], split.y[picks]
    stands, distances = nearest(split.x, points)
    return {
        "mean_distance": float(distances.mean()),
        "radius": float(distances.max()),
        "mean_squared": float((distances**2).mean()),
        "same_label": float((labels[stands] == split.y).mean()),
        "labels_present": len(np.unique(labels)) / split.classes,
        "label_evenness": evenness(labels, split.classes),
        "label_error": total_variation(split.y, labels, weights, split.classes),
        "mean_error": mean_error(split.x, points, weights),
        "mmd": mmd(split, points, weights),
        "kmeans_error": kmeans_error(split, points, weights),
        "nearest_accuracy": float((labels[nearest(split.aside_x, points)[0]] == split.aside_y).mean()),
        "probe_accuracy": probe_accuracy(split, points, labels, weights),
    }


def total_variation(everyone: Any, labels: Any, weights: Any, classes: int) -> float:
    """Half the summed difference between the label shares of all rows and the weighted shares of the picks."""
    true = np.bincount(everyone, minlength=classes) / len(everyone)
    stated = np.bincount(labels, weights=weights, minlength=classes) / weights.sum()
    return float(0.5 * np.abs(true - stated).sum())


def evenness(labels: Any, classes: int) -> float:
    """Entropy of the picks' labels as a share of the most it can be: 1 where every label has as many picks."""
    shares = np.bincount(labels, minlength=classes) / len(labels)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(classes))


def mean_error(x: Any, points: Any, weights: Any) -> float:
    """How far the weighted mean of the picks is from the mean of all rows, in units of the rows' spread around it.

    k rows drawn uniformly are off by 1 / sqrt(k), root mean squared.
    """
    center = x.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(((x - center) ** 2).sum(axis=1).mean())
    return float(np.linalg.norm(weights @ points.astype(np.float64) / weights.sum() - center) / spread)


def mmd(split: Split, points: Any, weights: Any) -> float:
    """Maximum mean discrepancy of the weighted picks and the rows under a Gaussian kernel."""
    shares = weights / weights.sum()
    across = mean_kernel(split.x, points, shares, split.gamma)
    return float(
        np.sqrt(max(0.0, split.own_kernel - 2 * across + _sum_kernel(points, points, shares, split.gamma) @ shares))
    )


def mean_kernel(x: Any, points: Any, shares: Any, gamma: float) -> float:
    """Mean over the rows of the points' kernels by share."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        total += float(_sum_kernel(x[start : start + BLOCK], points, shares, gamma).sum())
    return total / len(x)


def _sum_kernel(x: Any, points: Any, shares: Any, gamma: float) -> Any:
    rows, found = x.astype(np.float64), np.zeros(len(x))
    squares = (rows * rows).sum(axis=1)[:, None]
    for start in range(0, len(points), BLOCK):
        part = points[start : start + BLOCK].astype(np.float64)
        apart = squares + (part * part).sum(axis=1) - 2.0 * rows @ part.T
        found += np.exp(-gamma * np.maximum(apart, 0.0)) @ shares[start : start + BLOCK]
    return found


def kmeans_error(split: Split, points: Any, weights: Any) -> float:
    """By how much the best centers of the weighted picks cost more than those of all rows, as a share."""
    return mean_cost(split.x, best_centers(points, weights, split.clusters)) / split.best_cost - 1.0


def best_centers(x: Any, weights: Any, clusters: int) -> Any:
    """The centers of weighted k-means, the best of two starts."""
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct points than clusters
        fitted = KMeans(min(clusters, len(x)), n_init=2, random_state=0, max_iter=30).fit(x, sample_weight=weights)
    return fitted.cluster_centers_


def mean_cost(x: Any, centers: Any) -> float:
    """Mean squared distance to the nearest center."""
    return float((nearest(x, centers)[1] ** 2).mean())


def probe_accuracy(split: Split, points: Any, labels: Any, weights: Any) -> float:
    """Accuracy on the rows set aside of a logistic regression trained on the weighted picks."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return float((split.aside_y == labels[0]).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rounds run out: the same limit for everyone
        probe = LogisticRegression(max_iter=60, tol=1e-3).fit(
            points / split.scale, labels, sample_weight=weights * (len(weights) / weights.sum())
        )
    return float((probe.predict(split.aside_x / split.scale) == split.aside_y).mean())


def all_rows(split: Split) -> dict[str, float]:
    """The same when all rows are kept: what the picks stand in for."""
    known = {"mean_distance": 0.0, "radius": 0.0, "mean_squared": 0.0, "same_label": 1.0}
    known |= {"labels_present": len(np.unique(split.y)) / split.classes, "label_error": 0.0, "kmeans_error": 0.0}
    known |= {"label_evenness": evenness(split.y, split.classes), "mean_error": 0.0, "mmd": 0.0}
    found = split.y[nearest(split.aside_x, split.x)[0]]
    return {
        **known,
        "nearest_accuracy": float((found == split.aside_y).mean()),
        "probe_accuracy": probe_accuracy(split, split.x, split.y, np.ones(len(split.x))),
    }

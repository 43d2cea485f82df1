"""The map: rows laid out in the plane, so that near in the picture is near in the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.blocks import MemoryBlocks
from kofn.core.block import Doubles, Floats, Rows
from kofn.core.lloyd import train
from kofn.page.coverage import Coverage
from kofn.page.subject import Subject
from kofn.rng import Rng

LANDMARKS, TRAINED = 200, 50
"""Centers that carry the map, and rows for each center to be trained on."""

ROWS, PICKS, OLD = 3_500, 2_000, 500
"""Points drawn at most: rows in grey, picks, and rows of `have`."""


@dataclass(frozen=True, eq=False)
class Points:
    """Rows on the map.

    Attributes
    ----------
    rows : int64 (p,)
    place : float64 (p, 2)
        Without unit.
    """

    rows: Rows
    place: Doubles


@dataclass(frozen=True, eq=False)
class Atlas:
    """The whole in grey, the picks (`at` are their positions in the selection), and rows of `have`."""

    whole: Points
    picks: Points
    at: Rows
    held: Points


def draw_map(subject: Subject, coverage: Coverage) -> Atlas:
    """Lay out k-means centers of the measured rows by exact t-SNE, and every drawn row between its nearest three."""
    centers = _landmarks(subject, coverage.x)
    places = lay_out(centers)
    picks, x = coverage.picks
    shown = np.sort(np.argsort(-_weights_of(subject, picks), kind="stable")[:PICKS])
    special = np.isin(coverage.rows, picks) | np.isin(coverage.rows, coverage.held[0])
    grey = np.flatnonzero(~special)[:ROWS]
    old = np.linspace(0, len(coverage.held[0]) - 1, min(OLD, len(coverage.held[0]))).astype(np.int64)
    order = np.argsort(subject.selection.indices)
    at = order[np.searchsorted(subject.selection.indices[order], picks[shown])]
    return Atlas(
        whole=Points(coverage.rows[grey], between(coverage.x[grey], centers, places)),
        picks=Points(picks[shown], between(x[shown], centers, places)),
        at=at.astype(np.int64),
        held=Points(coverage.held[0][old], between(coverage.held[1][old], centers, places)),
    )


def _weights_of(subject: Subject, picks: Rows) -> Doubles:
    weights = subject.selection.weights
    return weights if len(picks) == len(weights) else weights[np.isin(subject.selection.indices, picks)]


def _landmarks(subject: Subject, x: Floats) -> Floats:
    if len(x) <= LANDMARKS:
        return np.unique(x, axis=0)

    def hold(sample: Any) -> MemoryBlocks:
        return MemoryBlocks(sample, run=subject.run)

    sample = x[: TRAINED * LANDMARKS]  # measured rows come in the order of their hashes: the first are a fair sample
    trained = train(hold(sample), LANDMARKS, Rng(0).child("report map"), hold, sample=0, rounds=10)
    return np.unique(trained.clustering.centers, axis=0)


def lay_out(centers: Floats) -> Doubles:
    """Centers in the plane, float64 (l, 2): exact t-SNE from their first two principal components; these alone below 8."""
    x = centers.astype(np.float64) - centers.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    plane = np.zeros((len(x), 2))
    plane[:, : min(2, len(s))] = (u * s)[:, :2]
    spread = plane[:, 0].std()
    if len(x) < 8 or spread == 0:
        return plane
    from sklearn.manifold import TSNE

    start = (plane / spread * 1e-4).astype(np.float32)
    shape = TSNE(2, method="exact", init=start, perplexity=min(30.0, (len(x) - 1) / 3), max_iter=500, random_state=0)
    return np.asarray(shape.fit_transform(x), np.float64)


def between(x: Floats, centers: Floats, places: Doubles) -> Doubles:
    """Rows in the plane: the mean of the places of their three nearest centers, by inverse distance."""
    if not len(x):
        return np.zeros((0, 2))
    shifted, middle = x - centers.mean(axis=0), centers - centers.mean(axis=0)
    squared = (shifted**2).sum(axis=1)[:, None] - 2.0 * shifted @ middle.T + (middle**2).sum(axis=1)
    three = np.argsort(squared, axis=1, kind="stable")[:, :3]
    apart = np.sqrt(np.maximum(np.take_along_axis(squared, three, axis=1), 0.0)).astype(np.float64)
    pull = 1.0 / (apart + 1e-6 * (apart.max() or 1.0))
    return np.asarray((places[three] * pull[:, :, None]).sum(axis=1) / pull.sum(axis=1, keepdims=True))

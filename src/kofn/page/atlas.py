"""The map: rows laid out in the plane, so that near in the picture is near in the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kofn.core.block import Doubles, Floats, Rows
from kofn.core.designs import smallest_numbers
from kofn.errors import UsageError
from kofn.page.coverage import Coverage
from kofn.page.subject import Subject
from kofn.rng import Rng

LANDMARKS, TRAINED, ROUNDS = 200, 20, 8
"""Centers that carry the map, rows for each center to be trained on, and rounds of Lloyd's algorithm."""

LAYOUTS = ("tsne", "pca")

COMPONENTS = 10_000
"""Measured rows that the principal components are found on."""

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
    """The whole in grey, the picks (`at` are their positions in the selection), and rows of `have`.

    Attributes
    ----------
    axes : tuple of str or None
        What the axes measure; None where they measure nothing.
    how : str
        How the rows were laid out, as a sentence.
    """

    whole: Points
    picks: Points
    at: Rows
    held: Points
    axes: tuple[str, str] | None
    how: str


@dataclass(frozen=True, eq=False)
class Plane:
    """A layout: row numbers and, where they are known, vectors, to places."""

    place: Callable[[Rows, Floats], Doubles]
    axes: tuple[str, str] | None
    how: str


def draw_map(subject: Subject, coverage: Coverage | None, layout: Any = "tsne") -> Atlas:
    """Lay out the measured rows, the picks and rows of `have`.

    Parameters
    ----------
    layout : {"tsne", "pca"}, "COL,COL", or array (n, 2)
        k-means centers of the measured rows by exact t-SNE, and every row between its nearest three; the first two principal
        components; or two columns of numbers, which need no vectors.
    """
    if coverage is None:
        rows, picks, held = _without_vectors(subject)
        x = of_picks = of_held = np.zeros((0, 1), np.float32)
    else:
        rows, x, (picks, of_picks), (held, of_held) = coverage.rows, coverage.x, coverage.picks, coverage.held
    plane = _plane(subject, x, layout)
    shown = np.sort(np.argsort(-_weights_of(subject, picks), kind="stable")[:PICKS])
    special = np.isin(rows, picks) | np.isin(rows, held)
    grey = np.flatnonzero(~special)[:ROWS]
    old = np.linspace(0, len(held) - 1, min(OLD, len(held))).astype(np.int64)

    def lay(numbers: Rows, vectors: Floats, at: Rows) -> Points:
        place = plane.place(numbers[at], vectors[at] if len(vectors) else vectors)
        sound = np.isfinite(place).all(axis=1)
        return Points(numbers[at][sound], place[sound])

    drawn = lay(picks, of_picks, shown)
    order = np.argsort(subject.selection.indices)
    at = order[np.searchsorted(subject.selection.indices[order], drawn.rows)]
    return Atlas(lay(rows, x, grey), drawn, at.astype(np.int64), lay(held, of_held, old), plane.axes, plane.how)


def _without_vectors(subject: Subject) -> tuple[Rows, Rows, Rows]:
    """Rows by hash, the picks, and rows of `have`."""
    rows = smallest_numbers(subject.n, min(subject.n, 2 * ROWS), partial(Rng(0).rows, purpose="report"))
    held = np.zeros(0, np.int64) if subject.have is None else np.flatnonzero(subject.have)
    return rows, subject.selection.indices, held


def _plane(subject: Subject, x: Floats, layout: Any) -> Plane:
    if isinstance(layout, str) and layout in LAYOUTS:
        if not len(x):
            raise UsageError(f"layout {layout!r} needs embeddings; name two columns of numbers instead: --layout x,y")
        return _by_tsne(x) if layout == "tsne" else _by_components(x)
    return _by_columns(subject, layout)


def _by_tsne(x: Floats) -> Plane:
    centers = _landmarks(x)
    places = lay_out(centers)
    how = (
        "Rows that are near one another in the data are near in the picture; how far apart two clouds lie says little, and the "
        "axes have no unit."
    )
    return Plane(lambda rows, vectors: between(vectors, centers, places), None, how)


def _by_components(x: Floats) -> Plane:
    """The first two principal components of the measured rows."""
    from sklearn.decomposition import PCA

    sample = x[:COMPONENTS]
    wide = min(2, *sample.shape)
    solver = "covariance_eigh" if sample.shape[1] <= 1_000 else "randomized"
    with np.errstate(invalid="ignore"):  # rows that are all alike have no variance to share out
        found = PCA(wide, svd_solver=solver, random_state=0).fit(sample.astype(np.float64))
    shares = np.append(np.nan_to_num(found.explained_variance_ratio_), 0.0)
    names = [
        f"{name} principal component ({100 * share:.0f} % of the variance)"
        for name, share in zip(("first", "second"), shares)
    ]

    def place(rows: Rows, vectors: Floats) -> Doubles:
        out = np.zeros((len(rows), 2))
        if len(rows):
            out[:, :wide] = found.transform(vectors.astype(np.float64))
        return out

    how = "The rows are seen from the side on which they differ most; what differs in other directions lies on top of each other."
    return Plane(place, (names[0], names[1]), how)


def _by_columns(subject: Subject, layout: Any) -> Plane:
    """Two columns of the data, or the places that were given."""
    if not isinstance(layout, str):
        given = np.asarray(layout, np.float64)
        if given.shape != (subject.n, 2):
            raise UsageError(f"layout has shape {given.shape}; give ({subject.n}, 2), tsne, pca or two columns: 'x,y'")
        return Plane(lambda rows, vectors: given[rows], ("x", "y"), "The places were given.")
    names, dataset = columns_of(layout), subject.source.dataset
    if dataset is None:
        raise UsageError(
            f"layout {layout!r} names columns, but the data is an array; give places as an array ({subject.n}, 2)"
        )

    def place(rows: Rows, vectors: Floats) -> Doubles:
        table = dataset.take(rows, names)
        return np.column_stack([_numbers(table.column(name), name) for name in names])

    how = f"The axes are the columns {names[0]} and {names[1]}; rows without a number in either are not drawn."
    return Plane(place, (names[0], names[1]), how)


def columns_of(layout: str) -> list[str]:
    """The two columns that a layout names."""
    names = [name.strip() for name in layout.split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError(f"layout {layout!r} is unknown; use tsne, pca, or two columns of numbers such as x,y")
    return names


def _numbers(column: Any, name: str) -> Doubles:
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise UsageError(f"layout: column {name!r} holds {kind}, not numbers; name two columns of numbers")
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _weights_of(subject: Subject, picks: Rows) -> Doubles:
    weights = subject.selection.weights
    return weights if len(picks) == len(weights) else weights[np.isin(subject.selection.indices, picks)]


def _landmarks(x: Floats) -> Floats:
    """k-means centers of the first measured rows, which come in the order of their hashes: a fair sample.

    In plain NumPy: they decide nothing but where points are drawn, and cost less than to compile the kernels that scale.
    """
    if len(x) <= LANDMARKS:
        return np.unique(x, axis=0)
    sample = x[: TRAINED * LANDMARKS].astype(np.float64)
    middle = sample.mean(axis=0)
    sample -= middle
    centers = sample[_spread(sample, Rng(0).generator("report map").random(LANDMARKS - 1))]
    norms = np.ones((len(sample), 1))
    for _ in range(ROUNDS):
        labels = ((centers**2).sum(axis=1) - 2.0 * (sample @ centers.T)).argmin(axis=1)
        order = np.argsort(labels, kind="stable")
        found, first = np.unique(labels[order], return_index=True)
        sums = np.add.reduceat(np.hstack([sample, norms])[order], first, axis=0)
        centers[found] = sums[:, :-1] / sums[:, -1:]
    return np.unique((centers + middle).astype(np.float32), axis=0)


def _spread(x: Doubles, draws: Doubles) -> list[int]:
    """Rows drawn one after another in proportion to their squared distance to those before (k-means++)."""
    norms = (x**2).sum(axis=1)
    rows, nearest = [0], np.full(len(x), np.inf)
    for draw in draws:
        nearest = np.minimum(nearest, np.maximum(norms + norms[rows[-1]] - 2.0 * (x @ x[rows[-1]]), 0.0))
        nearest[rows[-1]] = 0.0
        reached = np.cumsum(nearest)
        rows.append(min(int(np.searchsorted(reached, draw * reached[-1], side="right")), len(x) - 1))
    return rows


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

"""What metrics are measured on: the same rows, vectors and labels for every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.assign import assign
from kofn.core.block import Doubles, Floats, Rows, dense
from kofn.items import Items
from kofn.selection import Selection


@dataclass(frozen=True, eq=False)
class Context:
    """The rows that a selection is judged on.

    Parameters
    ----------
    items : Items
        The n rows that were chosen from.
    rows : int64 (m,)
        Numbers of the rows that are measured, in the order of their hashes: every beginning is a random sample.
    x : float32 (m, d), optional
        Their vectors; under cosine of length one.
    metric : {"euclidean", "cosine"}
        How far apart rows are.
    labels : int32 (n,), optional
        Code of every row's label, 0 to the number of labels less one.
    aside : tuple of (float32 (t, d), int32 (t,)), optional
        Vectors and labels of rows that nothing was chosen from.
    """

    items: Items
    rows: Rows
    x: Floats | None = None
    metric: str = "euclidean"
    labels: NDArray[np.int32] | None = None
    aside: tuple[Floats, NDArray[np.int32]] | None = None
    _known: dict[str, tuple[Any, Any]] = field(default_factory=dict, repr=False)

    @property
    def vectors(self) -> Floats:
        """The vectors of the measured rows; only for metrics that need embeddings."""
        assert self.x is not None
        return self.x

    @property
    def labelled(self) -> NDArray[np.int32]:
        """The labels; only for metrics that need them."""
        assert self.labels is not None
        return self.labels

    @property
    def set_aside(self) -> tuple[Floats, NDArray[np.int32]]:
        """Vectors and labels of the rows that nothing was chosen from; only for probes."""
        assert self.aside is not None
        return self.aside

    @property
    def everything(self) -> Selection:
        """The measured rows as if they had been picked, alike in weight: the reference "all rows"."""
        rows = np.sort(self.rows)
        return Selection(indices=rows, weights=np.full(len(rows), self.items.n / len(rows)))

    def once(self, name: str, make: Callable[[], Any], of: Any = None) -> Any:
        """What `make` gives, made once for this name (and this selection, where `of` is one: the last is kept)."""
        if name not in self._known or self._known[name][0] is not of:
            self._known[name] = (of, make())
        return self._known[name][1]

    def picks(self, selection: Selection) -> Floats:
        """The vectors of the picks, float32 (k, d)."""
        blocks = self.items.blocks
        return self.once("picks", lambda: dense(blocks(self.metric).take(selection.indices)), selection)

    def squared(self, selection: Selection) -> Floats:
        """Squared distance of every measured row to its nearest pick, float32 (m,)."""
        return self.once("squared", lambda: self.squared_to(self.picks(selection)), selection)

    def squared_to(self, points: Floats, rows: Floats | None = None) -> Floats:
        """Squared distance of the measured rows (or other `rows`) to the nearest of the points, float32."""
        return np.concatenate([squared for _, squared in self._assign(points, rows)])

    def nearest(self, points: Floats, rows: Floats | None = None) -> NDArray[np.int32]:
        """The nearest point of each measured row (or of other `rows`); ties to the lowest, int32."""
        return np.concatenate([labels for labels, _ in self._assign(points, rows)])

    def _assign(self, points: Floats, rows: Floats | None) -> Any:
        return assign(self.items.hold(self.vectors if rows is None else rows), points)


def shares(selection: Selection) -> Doubles:
    """The weights of the picks, scaled to sum to one."""
    return np.asarray(selection.weights / selection.weights.sum(), np.float64)

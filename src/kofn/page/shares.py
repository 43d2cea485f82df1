"""What the weights say: how uneven they are, and whether the picks show every label as often as the rows do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles
from kofn.page.subject import Kinds, Subject

HEAVY = 0.4
"""Share of the rows that few picks must stand for to be worth a warning."""


@dataclass(frozen=True, eq=False)
class Weighing:
    """The weights of the picks.

    Attributes
    ----------
    ordered : float64 (k,)
        Heaviest first.
    effective : float
        Effective sample size (Kish): (sum of w) squared over the sum of w squared.
    few : int
        The smallest number of picks that stand for at least `HEAVY` of the rows.
    share : float
        The share that they stand for.
    """

    ordered: Doubles
    effective: float
    few: int
    share: float

    @property
    def equal(self) -> bool:
        """Whether all picks count the same."""
        return bool(self.ordered[0] <= self.ordered[-1] * (1 + 1e-9))


@dataclass(frozen=True, eq=False)
class Shares:
    """How often each label occurs, in the rows and in the picks.

    Attributes
    ----------
    title : str
    names : list of str
        Largest gap first, ties by name.
    whole : float64 (labels,)
        Share of the rows (by weight, without those in `have`).
    picks : float64 (labels,)
        Share of the picks' weights.
    counts : int64 (labels,)
        Number of picks.
    missing : list of str
        Labels without a pick or `have` row, most frequent first.
    """

    title: str
    names: list[str]
    whole: Doubles
    picks: Doubles
    counts: NDArray[np.int64]
    missing: list[str]

    @property
    def plain(self) -> Doubles:
        """Share of the picks, each counted once, float64 (labels,)."""
        return np.asarray(self.counts / self.counts.sum())

    @property
    def apart_plain(self) -> float:
        """Total variation distance of the rows' shares and the picks', each pick counted once."""
        return float(np.abs(self.whole - self.plain).sum() / 2)

    @property
    def apart(self) -> float:
        """Total variation distance of the two: half the sum of the gaps."""
        return float(np.abs(self.whole - self.picks).sum() / 2)

    @property
    def covered(self) -> int:
        """Labels with a pick or a row of `have`."""
        return len(self.names) - len(self.missing)


def weigh(weights: Doubles) -> Weighing:
    """Order the weights and say how uneven they are."""
    ordered = np.sort(weights)[::-1]
    reached = np.cumsum(ordered) / ordered.sum()
    few = int(np.searchsorted(reached, HEAVY)) + 1
    effective = float(ordered.sum() ** 2 / np.square(ordered).sum())
    return Weighing(ordered, effective, min(few, len(ordered)), float(reached[min(few, len(ordered)) - 1]))


def compare(subject: Subject, kinds: Kinds) -> Shares:
    """Shares of a column's values in all rows and in the picks. Exact: every row is counted."""
    n, size = subject.n, len(kinds.names)
    mass: Any = np.ones(n) if subject.weights is None else subject.weights
    if subject.have is not None:
        mass = np.where(subject.have, 0.0, mass)
    whole = np.bincount(kinds.codes, weights=mass, minlength=size)
    picked = kinds.codes[subject.selection.indices]
    picks = np.bincount(picked, weights=subject.selection.weights, minlength=size)
    counts = np.bincount(picked, minlength=size)
    present = counts > 0
    if subject.have is not None:
        present |= np.bincount(kinds.codes[subject.have], minlength=size) > 0
    whole, picks = whole / whole.sum(), picks / picks.sum()
    order = sorted(range(size), key=lambda at: (-round(abs(whole[at] - picks[at]), 12), kinds.names[at]))
    missing = sorted((at for at in range(size) if not present[at]), key=lambda at: (-whole[at], kinds.names[at]))
    return Shares(
        kinds.title, [kinds.names[at] for at in order], whole[order], picks[order], counts[order],
        [kinds.names[at] for at in missing],
    )  # fmt: skip

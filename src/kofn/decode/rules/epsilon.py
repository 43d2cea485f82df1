"""Epsilon sampling."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class Epsilon(Rule):
    """Keep tokens with a probability of at least epsilon (Hewitt, Manning, Liang, Truncation sampling as language model
    desmoothing, 2022).

    Parameters
    ----------
    epsilon : float
        In (0, 1); the paper uses 3e-4 to 9e-4.
    min_keep : int
        Never fewer than this: where no token is as probable as epsilon, the best stay.

    Cost: three passes over the row. O(V) time.
    """

    epsilon: float
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        Interval(0, 1, True, True).checked("Epsilon", "epsilon", self.epsilon, "Epsilon(3e-4)")
        whole("Epsilon", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        cut = support.log_total() + math.log(self.epsilon)
        return support.above(min(cut, support.top), self.min_keep)

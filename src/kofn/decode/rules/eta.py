"""Eta sampling."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

from kofn.core.logits import total_and_moment
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class Eta(Rule):
    """Keep tokens above a probability that falls with the entropy H (Hewitt, Manning, Liang, Truncation sampling as
    language model desmoothing, 2022).

    The threshold is min(epsilon, sqrt(epsilon) exp(-H)): never above epsilon, and lower where the law is flat, so a
    uniform law keeps everything.

    Parameters
    ----------
    epsilon : float
        In (0, 1); the paper uses 3e-4 to 4e-3.
    min_keep : int
        Never fewer than this: where no token reaches the threshold, the best stay.

    Cost: three passes over the row. O(V) time.
    """

    epsilon: float
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        Interval(0, 1, True, True).checked("Eta", "epsilon", self.epsilon, "Eta(3e-4)")
        whole("Eta", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        top = support.top
        z, moment = total_and_moment(support.values, top)
        log_threshold = min(math.log(self.epsilon), math.log(self.epsilon) / 2 - (math.log(z) - moment / z))
        return support.above(min(top + math.log(z) + log_threshold, top), self.min_keep)

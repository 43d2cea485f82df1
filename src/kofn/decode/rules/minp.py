"""Min-p sampling."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class MinP(Rule):
    """Keep tokens with at least p times the probability of the best (Nguyen et al., Turning up the heat: min-p sampling
    for creative and coherent LLM outputs, 2025).

    In logits: x >= max x + log p. The best token always stays; p = 1 is greedy, up to ties.

    Parameters
    ----------
    p : float
        In (0, 1].
    min_keep : int
        Never fewer than this.

    Cost: two passes over the row, no exponential. O(V) time.
    """

    p: float
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        Interval(0, 1, open_low=True).checked("MinP", "p", self.p, "MinP(0.1)")
        whole("MinP", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        return support.above(support.top + math.log(self.p), self.min_keep)

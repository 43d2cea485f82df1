"""Top-n-sigma sampling."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from kofn.core.logits import spread
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class TopNSigma(Rule):
    """Keep logits within n standard deviations of the largest (Tang et al., Top-n-sigma: not all logits are you need,
    2024).

    x >= max x - n sigma, sigma the standard deviation of all logits that are not -inf. Temperature scales both sides,
    so it does not change what is kept, wherever in a chain it stands.

    Parameters
    ----------
    n : float
        >= 0; the paper uses 1. 0 is greedy, up to ties.
    min_keep : int
        Never fewer than this.

    Cost: three passes over the row, no exponential. O(V) time. After another truncation sigma is that of what is left,
    so it belongs first in a chain.
    """

    n: float
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        Interval(0, float("inf"), open_high=True).checked("TopNSigma", "n", self.n, "TopNSigma(1.0)")
        whole("TopNSigma", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        top = support.top
        return support.above(top - self.n * spread(support.values, top), self.min_keep)

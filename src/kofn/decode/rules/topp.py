"""Top-p (nucleus) sampling."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from kofn.core.logits import total
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class TopP(Rule):
    """Keep the fewest tokens that hold a share p of the mass (Holtzman et al., The curious case of neural text
    degeneration, 2020).

    Tokens are taken by falling probability, ties by number, up to and with the one that reaches p.

    Parameters
    ----------
    p : float
        In (0, 1]; 1 keeps everything.
    min_keep : int
        Never fewer than this.

    Cost: three passes over the row and a sort of the best 64 or 1,024; where these hold less than p, two passes more and a
    sort of the tokens within 1/64 nat of the last that is kept. O(V) time.
    """

    p: float
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        Interval(0, 1, open_low=True).checked("TopP", "p", self.p, "TopP(0.9)")
        whole("TopP", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        if self.p == 1:
            return support
        top = support.top
        return support.holding(self.p * total(support.values, top), top, self.min_keep)

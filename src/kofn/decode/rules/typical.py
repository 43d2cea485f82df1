"""Locally typical sampling."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from kofn.core.logits import total_and_moment
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class Typical(Rule):
    """Keep the tokens whose surprise is nearest to the entropy, as many as hold a share of the mass (Meister et al.,
    Locally typical sampling, 2023).

    Tokens are taken by rising |-log p - H|, ties by number, up to and with the one that reaches `mass`. The best token
    may be left out, where it is less surprising than the law is on average.

    Parameters
    ----------
    mass : float
        In (0, 1]; 1 keeps everything.
    min_keep : int
        Never fewer than this.

    Cost: three passes over the row and a sort of the tokens near the entropy; where these are many, two passes more and a
    sort of those within 1/64 nat of the last that is kept. O(V) time.
    """

    mass: float
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        Interval(0, 1, open_low=True).checked("Typical", "mass", self.mass, "Typical(0.9)")
        whole("Typical", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        if self.mass == 1:
            return support
        top = support.top
        z, moment = total_and_moment(support.values, top)
        # -log p - H = (log z + top - x) - (log z - moment / z): no distance between equal logits but what is exact
        return support.holding(self.mass * z, top + moment / z, self.min_keep)

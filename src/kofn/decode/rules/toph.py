"""Top-H sampling: bounded entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import numpy as np

from kofn.core.block import Floats
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class TopH(Rule):
    """Keep the best tokens as long as the entropy of what is kept is at most alpha times the model's (Potraghloo et al.,
    Top-H decoding: adapting the creativity and coherence with bounded entropy in text generation, 2025).

    The greedy answer to entropy-constrained mass maximization, which is NP-hard: tokens are added by falling
    probability until the entropy of the renormalised law would exceed alpha H(p). It grows with each token, so the
    tokens kept are the longest such prefix. transformers looks at the best 100 tokens only; here there is no such limit.

    Parameters
    ----------
    alpha : float
        In (0, 1]; the paper uses 0.4. 1 keeps everything.
    min_keep : int
        Never fewer than this, whatever the entropy.

    Cost: four passes over the row and a sort of the best 64, or 1,024, or more. O(V) time; O(V log V) where nearly all
    of a flat row is kept.
    """

    alpha: float
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        Interval(0, 1, open_low=True).checked("TopH", "alpha", self.alpha, "TopH(0.4)")
        whole("TopH", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        if self.alpha == 1:
            return support
        top = support.top
        return support.leading(_within(self.alpha * support.entropy(), top, self.min_keep))


def _within(bound: float, top: float, min_keep: int) -> Callable[[Floats], int | None]:
    def enough(ranked: Floats) -> int | None:
        below = ranked.astype(np.float64) - top
        e = np.exp(below)
        rest = np.concatenate([[0.0], np.cumsum(e[1:])])  # the best token is 1: beside it small ones would be lost
        entropy = np.log1p(rest) - np.cumsum(e * below) / (1 + rest)
        over = np.flatnonzero(entropy > bound)
        if not len(over) or len(ranked) < min_keep:
            return None
        return max(int(over[0]), min_keep)

    return enough

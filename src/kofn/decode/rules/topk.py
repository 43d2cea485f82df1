"""Top-k sampling."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from kofn.decode.rules.rule import Rule, whole
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class TopK(Rule):
    """Keep the k tokens with the largest logits (Fan, Lewis, Dauphin, Hierarchical neural story generation, 2018).

    Ties at the k-th go to the lowest token, so exactly k are kept wherever k are possible. It is the Bregman decoder of
    the KL divergence: no other law on k tokens is nearer to the model's.

    Parameters
    ----------
    k : int
        How many, >= 1. More than the vocabulary keeps all.
    min_keep : int
        Never fewer than this.

    Cost: one pass over the row and a selection among V / 256 numbers. O(V) time.
    """

    k: int
    _: KW_ONLY
    min_keep: int = 1

    def __post_init__(self) -> None:
        whole("TopK", "k", self.k, "TopK(50)")
        whole("TopK", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        return support.best(max(self.k, self.min_keep))

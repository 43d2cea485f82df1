"""Bregman decoding: sparse laws that are nearest to the model's."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from kofn.core.block import Doubles
from kofn.decode.rules.nearest_law import best_length, renormalized
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support, Tokens
from kofn.errors import ParameterError

_HEADS = (64, 1_024, 16_384)  # best tokens among which k is looked for, before the whole row


@dataclass(frozen=True)
class Bregman(Rule):
    """The law q that minimises D(q, p) + penalty |support of q| (Noarov et al., Foundations of top-k decoding for
    language models, 2025).

    D is the separable Bregman divergence of phi(x) = x ** alpha / (alpha (alpha - 1)); alpha = 1 is KL, alpha = 2 half
    the squared distance. The best support is a prefix of the tokens by probability, and the loss is discretely convex
    in its length k, so k is found by binary search. On the prefix q solves, with one nu for all tokens,

    - primal: q ** (alpha - 1) = p ** (alpha - 1) + (alpha - 1) nu;
    - dual, D(p, q): (q - p) q ** (alpha - 2) = nu.

    alpha = 1 gives exactly renormalised top-k. Larger alphas add about the same to every token that is kept (alpha = 2:
    just the same), smaller ones raise the probable tokens more than in proportion.

    Parameters
    ----------
    penalty : float or None
        Price of a token, > 0: k is found. Give this or `k`.
    k : int or None
        A fixed number of tokens: only the chances are changed.
    alpha : float
        > 0; > 1 where `dual`, because D(p, q) is infinite for q = 0 otherwise.
    dual : bool
        Minimise D(p, q) instead of D(q, p).
    min_keep : int
        Never fewer than this.

    Cost: two passes over the row, O(k log k log k) on the tokens kept; where the tail is heavy, sorts of more tokens.
    """

    penalty: float | None = None
    _: KW_ONLY
    k: int | None = None
    alpha: float = 1.5
    dual: bool = False
    min_keep: int = 1

    def __post_init__(self) -> None:
        if (self.penalty is None) == (self.k is None):
            raise ParameterError(
                "Bregman: give either the price of a token, Bregman(1e-3), or their number, Bregman(k=50)"
            )
        if self.penalty is not None:
            Interval(0, math.inf, True, True).checked("Bregman", "penalty", self.penalty, "Bregman(1e-3)")
        if self.k is not None:
            whole("Bregman", "k", self.k, "Bregman(k=50)")
        Interval(1 if self.dual else 0, math.inf, True, True).checked("Bregman", "alpha", self.alpha, "alpha=1.5")
        whole("Bregman", "min_keep", self.min_keep, "min_keep=1")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        log_total = support.log_total()
        head, p, k = self._searched(support, log_total)
        q = renormalized(p[:k], self.alpha, self.dual)
        ranked = _ranked(head)[:k]
        kept = head.at(np.sort(ranked))
        values = np.log(q)[np.argsort(ranked)] + log_total
        return kept.revalued(values.astype(np.float32))

    def _searched(self, support: Support, log_total: float) -> tuple[Support, Doubles, int]:
        """Best tokens, their probabilities by rank, and how many to keep."""
        if self.k is not None:
            head = support.best(max(self.k, self.min_keep))
            return head, _chances(head, log_total), len(head)
        for size in (*_HEADS, len(support)):
            head = support.best(max(size, self.min_keep))
            p = _chances(head, log_total)
            k = max(best_length(p, self.penalty or 0.0, self.alpha, self.dual), min(self.min_keep, len(p)))
            if k < len(p) or size >= len(support):
                break  # convexity: the loss rises from k to k + 1, so it rises beyond the head too
        return head, p, k


def _ranked(head: Support) -> Tokens:
    return np.argsort(-head.values, kind="stable")


def _chances(head: Support, log_total: float) -> Doubles:
    return np.exp(head.values[_ranked(head)].astype(np.float64) - log_total)

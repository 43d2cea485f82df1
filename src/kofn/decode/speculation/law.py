"""The law of a next token, exact enough to be divided by another one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.logits import drawn_place, place_of, tokens_above, top_of, total, total_and_moment
from kofn.decode.model import Tokens
from kofn.errors import DataError

_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, eq=False, slots=True)
class Law:
    """softmax of float32 logits, over the whole vocabulary or over some tokens of it.

    Attributes
    ----------
    logits : float32 (m,)
        -inf is a token that cannot be.
    tokens : int64 (m,), ascending, or None
        Whose logits these are; None for 0..m-1.
    top : float
        The largest logit.
    normalizer : float
        log sum exp(logits), in float64.
    before : Law or None
        What a rule made this law from, where that is wanted: a greedy drafter's law is certain, the one before it is not.
    """

    logits: Floats
    tokens: Tokens | None
    top: float
    normalizer: float
    before: Law | None = None

    @classmethod
    def of(cls, logits: Floats, tokens: Tokens | None = None) -> Law:
        """The law of a row of logits. O(m), nothing copied.

        Raises
        ------
        DataError
            A logit is NaN or +inf, or none is finite.
        """
        top = top_of(logits)
        if not math.isfinite(top):
            raise DataError(
                f"the largest logit is {top}; a next token needs logits without NaN and +inf, one of them finite"
            )
        return cls(logits, tokens, top, top + math.log(total(logits, top)))

    @classmethod
    def kept(cls, logits: Floats, tokens: Tokens | None = None) -> Law:
        """As `of`, on the tokens with finite logits alone: what a truncation rule has left."""
        left = tokens_above(logits, _LOWEST)
        if len(left) == len(logits) or not len(left):
            return cls.of(logits, tokens)
        return cls.of(logits[left], left if tokens is None else tokens[left])

    @classmethod
    def certain(cls, token: int) -> Law:
        """All mass on one token."""
        return cls(np.zeros(1, np.float32), np.array([token], np.int64), 0.0, 0.0)

    def probabilities(self) -> Doubles:
        """Of every token of the support, float64 (m,)."""
        mass = self.logits.astype(np.float64)
        mass -= self.normalizer
        return np.exp(mass, out=mass)

    def at(self, tokens: Tokens) -> Doubles:
        """Probabilities of these tokens, float64; zero outside the support."""
        logits = np.full(len(tokens), -np.inf)
        if self.tokens is None:
            inside = np.asarray(tokens) < len(self.logits)
            logits[inside] = self.logits[tokens[inside]]
        else:
            places = np.minimum(np.searchsorted(self.tokens, tokens), len(self.tokens) - 1)
            inside = self.tokens[places] == tokens
            logits[inside] = self.logits[places[inside]]
        return np.exp(logits - self.normalizer)

    def logprob(self, token: int) -> float:
        """log-probability of one token; -inf outside the support."""
        place = self._place(token)
        return -math.inf if place is None else float(self.logits[place]) - self.normalizer

    def probability(self, token: int) -> float:
        """Probability of one token."""
        return math.exp(self.logprob(token))

    def entropy(self) -> float:
        """In nats."""
        z, moment = total_and_moment(self.logits, self.top)
        return max(math.log(z) - moment / z, 0.0)

    def draw(self, u: float) -> int:
        """The token whose interval of the cumulated law holds u in (0, 1). O(m) time."""
        place = drawn_place(self.logits, self.top, u)
        return place if self.tokens is None else int(self.tokens[place])

    def excess(self, tokens: Tokens | None, mass: Doubles, u: float) -> int:
        """A token drawn with u in (0, 1) in proportion to (this law - mass)+, where `mass` is of `tokens` (None: all).

        Where no such mass is left, which rounding alone can bring about, a token of this law.
        """
        rest = self.probabilities()
        if tokens is None:
            rest -= mass if self.tokens is None else mass[self.tokens]
        elif self.tokens is None:
            rest[tokens] -= mass
        else:
            places = np.minimum(np.searchsorted(tokens, self.tokens), len(tokens) - 1)
            rest -= np.where(tokens[places] == self.tokens, mass[places], 0.0)
        np.maximum(rest, 0.0, out=rest)
        reach = np.cumsum(rest)
        if reach[-1] <= 0:
            return self.draw(u)
        place = place_of(reach, u)
        return place if self.tokens is None else int(self.tokens[place])

    def _place(self, token: int) -> int | None:
        if self.tokens is None:
            return token if token < len(self.logits) else None
        place = int(np.searchsorted(self.tokens, token))
        return place if place < len(self.tokens) and self.tokens[place] == token else None


def overlap(p: Doubles | NDArray[np.float64], q: Doubles | NDArray[np.float64]) -> float:
    """sum min(p, q) = 1 - TV(p, q): the chance that speculative sampling accepts a draft of law q for the target law p."""
    return float(np.minimum(p, q).sum())

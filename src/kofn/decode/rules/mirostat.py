"""Mirostat: text of a given surprise."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np

from kofn.core.block import Floats
from kofn.decode.rules.rule import Interval, whole
from kofn.decode.rules.stateful import Stateful
from kofn.decode.rules.support import Support, Tokens
from kofn.errors import ParameterError

_RANKS = 100  # probabilities from which the Zipf exponent is estimated


@dataclass(frozen=True, eq=False)
class Surprise:
    """Memory of one sequence.

    Attributes
    ----------
    limit : float
        mu, in bits.
    tokens, surprises
        What was kept at the last step, and the bits of each: known until a token is drawn.
    """

    limit: float
    tokens: Tokens | None = None
    surprises: Floats | None = None


@dataclass(frozen=True)
class Mirostat(Stateful):
    """Truncation by feedback, so that the mean surprise of the text tends to tau bits (Basu et al., Mirostat: a neural
    text decoding algorithm that directly controls perplexity, 2021).

    Version 2 keeps tokens whose surprise -log2 p is at most mu. Version 1 keeps the best k = (e 2 ** mu / (1 - V ** -e))
    ** (1 / s), e = s - 1, with Zipf's exponent s estimated from the best 100 tokens. mu begins at 2 tau; after a token
    of surprise S (under the law that came in, before truncation) mu becomes mu - rate (S - tau).

    Parameters
    ----------
    tau : float
        Bits, > 0. 3 is coherent, 5 varied.
    rate : float
        Learning rate, > 0. The mean surprise of n tokens is off tau by the limit's way over (rate n), exactly: 0.1, which
        llama.cpp has, takes hundreds of tokens to settle; the paper has 1.
    version : int
        1 or 2.
    min_keep : int
        Never fewer tokens than this.

    Cost: three passes over the row. O(V) time.
    """

    tau: float
    _: KW_ONLY
    rate: float = 0.1
    version: int = 2
    min_keep: int = 1

    def __post_init__(self) -> None:
        for name in ("tau", "rate"):
            Interval(0, math.inf, True, True).checked("Mirostat", name, getattr(self, name), "Mirostat(3.0, rate=0.1)")
        if self.version not in (1, 2):
            raise ParameterError(f"Mirostat: version={self.version!r} is unknown; there are 1 and 2")
        whole("Mirostat", "min_keep", self.min_keep, "min_keep=1")

    def memory(self) -> Surprise:
        """See `Stateful`."""
        return Surprise(2 * self.tau)

    def narrow(self, support: Support, memory: Surprise) -> tuple[Support, Surprise]:
        """See `Stateful`."""
        log_total = support.log_total()
        if self.version == 1:
            kept = support.best(max(self._zipf_k(support, memory.limit), self.min_keep))
        else:
            kept = support.above(min(log_total - memory.limit * math.log(2), support.top), self.min_keep)
        bits = (np.float32(log_total) - kept.values) / np.float32(math.log(2))
        return kept, replace(memory, tokens=kept.ids(), surprises=bits)

    def learned(self, token: int, memory: Surprise) -> Surprise:
        """See `Stateful`. A token that was not kept (somebody else chose it) leaves the limit as it is."""
        if memory.tokens is None or memory.surprises is None:
            return memory
        place = int(np.searchsorted(memory.tokens, token))
        if place == len(memory.tokens) or memory.tokens[place] != token:
            return Surprise(memory.limit)
        return Surprise(memory.limit - self.rate * (float(memory.surprises[place]) - self.tau))

    def _zipf_k(self, support: Support, limit: float) -> int:
        s = zipf_exponent(support)
        excess = s - 1
        size = len(support)
        if abs(excess) < 1e-9:  # the limit of (1 - V ** -e) / e is log V
            share = 1 / math.log(size) if size > 1 else 1.0
        else:
            share = excess / (1 - float(size) ** -excess) if size > 1 else 1.0
        log2k = (limit + math.log2(share)) / s if share > 0 and s > 0 else math.log2(size)
        return max(1, min(size, round(2.0 ** min(log2k, 62.0))))


def zipf_exponent(support: Support) -> float:
    """The least-squares exponent s of p(rank) ~ rank ** -s, from ratios of neighbors among the best 100 tokens."""
    head = np.sort(support.best(_RANKS).values.astype(np.float64))[::-1]
    if len(head) < 2:
        return 1.0
    ranks = np.arange(1, len(head))
    t = np.log((ranks + 1) / ranks)
    return float((t * (head[:-1] - head[1:])).sum() / (t * t).sum())

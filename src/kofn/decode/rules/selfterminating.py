"""Self-terminating generation: the end becomes sure."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from kofn.core.numbers import is_whole
from kofn.decode.rules.rule import Interval
from kofn.decode.rules.stateful import Stateful
from kofn.decode.rules.support import Support
from kofn.errors import ParameterError, UsageError


@dataclass(frozen=True)
class SelfTerminating(Stateful):
    """A floor under the chance of the end token that tends to 1 (Choi, Lee, Hwang, Cho, A non-monotonic self-terminating
    language model, 2023).

    At step t = 1, 2, ... the chance of the end is (1 - s) (1 - (1 - epsilon) ** t) + s, s being the model's own; the
    others share the rest in their proportions. It may fall from one step to the next, as s does, but the floor does
    not, so greedy, top-k, nucleus and beam search all end: at the latest when the floor passes 1/2 (`bound`).

    Parameters
    ----------
    epsilon : float
        In (0, 1).
    end : int
        The end token.

    Cost: two passes over the row. Put it before truncations.
    """

    epsilon: float
    _: KW_ONLY
    end: int

    def __post_init__(self) -> None:
        Interval(0, 1, True, True).checked("SelfTerminating", "epsilon", self.epsilon, "epsilon=0.001")
        if not is_whole(self.end, 0):
            raise ParameterError(f"SelfTerminating: end={self.end!r} is no token; give the tokenizer's eos_token_id")

    @property
    def bound(self) -> int:
        """The first step at which the end has a chance of more than 1/2, whatever the model says."""
        return math.floor(math.log(0.5) / math.log1p(-self.epsilon)) + 1

    def memory(self) -> int:
        """Tokens emitted so far."""
        return 0

    def narrow(self, support: Support, memory: int) -> tuple[Support, int]:
        """See `Stateful`."""
        place = int(np.searchsorted(support.tokens, self.end)) if support.tokens is not None else self.end
        if place >= len(support) or (support.tokens is not None and support.tokens[place] != self.end):
            raise UsageError(f"SelfTerminating: token {self.end} is not among the {len(support)}; put the rule first")
        rest = support.values.copy()
        rest[place] = -np.inf
        if rest.max() == -np.inf:
            return support, memory
        others = Support(rest).log_total()
        own = math.exp(float(support.values[place]) - np.logaddexp(others, float(support.values[place])))
        kept = (1 - self.epsilon) ** (memory + 1)  # 1 - chance = (1 - s) kept
        rest[place] = others + math.log((1 - kept) + own * kept) - math.log((1 - own) * kept) if own < 1 else _LARGE
        return support.revalued(rest), memory

    def learned(self, token: int, memory: int) -> int:
        """See `Stateful`."""
        return memory + 1


_LARGE = 1e30  # a logit beside which no other counts

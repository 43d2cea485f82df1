"""A drafter without a model: what followed the last tokens where they stood before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from kofn.core.numbers import is_whole
from kofn.decode.model import Tokens
from kofn.decode.speculation.law import Law
from kofn.errors import ParameterError


@dataclass(frozen=True)
class NGramDrafter:
    """Prompt lookup: find the last tokens earlier in the context and propose what came next there.

    The longest suffix of at most `order` tokens that occurs before counts; where that is shorter than `shortest`, nothing
    is proposed.

    Parameters
    ----------
    order : int
        Longest suffix that is looked for, >= 1.
    shortest : int
        Suffixes below this length are too weak to propose anything, 1 to `order`. A refused draft is not free.
    counts : bool
        False: the continuation of its latest occurrence, with certainty (a one-hot law). True: continuations of all its
        occurrences in proportion to how often each came (n-gram counts with back-off to shorter suffixes).

    Notes
    -----
    Saxena, "Prompt lookup decoding", 2023; as a drafter with back-off, Fu et al., "Break the sequential dependency of LLM
    inference using lookahead decoding", 2024, and others. Cost: O(context order) comparisons a token; no model.

    Examples
    --------
    >>> law, state = NGramDrafter(3).start([5, 6, 7, 8, 5, 6])
    >>> law.probability(7)
    1.0
    """

    order: int = 3
    _: KW_ONLY
    shortest: int = 1
    counts: bool = False

    def __post_init__(self) -> None:
        if not is_whole(self.order, 1):
            raise ParameterError(f"order={self.order!r} is not a whole number >= 1; give one, for example order=3")
        if isinstance(self.shortest, bool) or self.shortest not in range(1, self.order + 1):
            raise ParameterError(f"shortest={self.shortest!r} is not one of 1 to order={self.order}")

    def start(self, prompt: Sequence[int]) -> tuple[Law | None, list[Tokens]]:
        """See `Drafter`; the state is the tokens read so far, a row each."""
        tokens = np.array(prompt, np.int64)
        return self._law(tokens), [tokens]

    def read(self, tokens: Tokens, state: list[Tokens]) -> tuple[list[Law | None], list[Tokens]]:
        """See `Drafter`."""
        state = [np.concatenate([old, new]) for old, new in zip(state, tokens, strict=True)]
        return [self._law(each) for each in state], state

    def select(self, state: list[Tokens], rows: Sequence[int] | Tokens) -> list[Tokens]:
        """See `Drafter`."""
        return [state[row] for row in rows]

    def rewind(self, state: list[Tokens], count: int) -> list[Tokens]:
        """See `Drafter`."""
        return [each[: len(each) - count] for each in state]

    def _law(self, tokens: Tokens) -> Law | None:
        ends = np.flatnonzero(tokens[:-1] == tokens[-1])  # where the suffix of one token ends, before the last place
        if not len(ends):
            return None
        matched = 1
        for back in range(1, min(self.order, len(tokens))):
            longer = ends[(ends >= back) & (tokens[ends - back] == tokens[-1 - back])]
            if not len(longer):
                break
            ends, matched = longer, back + 1
        if matched < self.shortest:
            return None
        if not self.counts:
            return Law.certain(int(tokens[ends[-1] + 1]))
        found, often = np.unique(tokens[ends + 1], return_counts=True)
        return Law.of(np.log(often.astype(np.float32)), found)

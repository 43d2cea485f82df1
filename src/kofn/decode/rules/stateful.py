"""Rules that remember: what was emitted changes what may come next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from kofn.core.uniforms import uniforms
from kofn.decode.rules.rows import rows_of
from kofn.decode.rules.rule import checked_step, entries, row_seeds
from kofn.decode.rules.support import Support
from kofn.decode.rules.together import each_row
from kofn.errors import UsageError


class Stateful(ABC):
    """A rule with a memory of each sequence. State is handed in and handed back: a list, one memory a sequence.

    >>> from kofn.decode import Mirostat
    >>> rule = Mirostat(3.0)
    >>> state = rule.start(1)
    >>> logits, state = rule.step(np.zeros((1, 16)), state)
    >>> state = rule.saw([5], state)
    """

    @abstractmethod
    def memory(self) -> Any:
        """What a sequence begins with."""

    @abstractmethod
    def narrow(self, support: Support, memory: Any) -> tuple[Support, Any]:
        """The support after this rule, and the memory while a token is drawn from it."""

    @abstractmethod
    def learned(self, token: int, memory: Any) -> Any:
        """The memory after `token` was emitted."""

    def start(self, batch: int) -> list[Any]:
        """The state of `batch` sequences that begin."""
        return [self.memory() for _ in range(batch)]

    def step(self, logits: Any, state: list[Any], *, beside: Any = None) -> tuple[Any, list[Any]]:
        """Logits (B, V) with the tokens that are left out at -inf, and the state; see `Rule.__call__`."""
        rows = rows_of(logits)
        supports, state = self._narrowed(entries(rows, beside), state)
        return rows.answer(supports), state

    def saw(self, tokens: Any, state: list[Any]) -> list[Any]:
        """The state after these tokens (B,) were emitted."""
        return [self.learned(int(token), memory) for token, memory in zip(tokens, state, strict=True)]

    def draw(
        self, logits: Any, seeds: Any, step: int, state: list[Any], *, beside: Any = None
    ) -> tuple[Any, list[Any]]:
        """A token a row, as `Rule.draw`, and the state after it was emitted."""
        rows = rows_of(logits)
        u = uniforms(row_seeds(seeds, len(rows.values)), checked_step(step))
        supports, state = self._narrowed(entries(rows, beside), state)
        tokens = np.array([support.drawn(number) for support, number in zip(supports, u, strict=True)], np.int64)
        return rows.numbers(tokens), self.saw(tokens, state)

    def __or__(self, other: Any) -> Any:
        """This rule and then the other."""
        from kofn.decode.rules.chain import chained

        return chained(self, other)

    def generate_kwargs(self, *, beside: Any = None) -> dict[str, Any]:
        """See `Rule.generate_kwargs`; each call makes a fresh memory."""
        from kofn.decode.rules.processors import generate_kwargs

        return generate_kwargs(self, beside)

    def _narrowed(self, supports: list[Support], state: list[Any]) -> tuple[list[Support], list[Any]]:
        if len(supports) != len(state):
            raise UsageError(
                f"{len(supports)} rows of logits for the state of {len(state)} sequences; rule.start(batch)"
            )
        given = list(zip(supports, state, strict=True))
        pairs = each_row(lambda each: self.narrow(*each), given, max(map(len, supports), default=0))
        return [support for support, _ in pairs], [memory for _, memory in pairs]

"""What the target and the drafter have read, and how it is taken back after each round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kofn.core.block import Floats
from kofn.decode.model import LanguageModel, Tokens
from kofn.decode.speculation.drafter import Drafter, laws_of
from kofn.decode.speculation.law import Law


class TargetTape:
    """The target along one sequence. Between rounds it has read everything but the last token that was emitted."""

    def __init__(self, model: LanguageModel, prompt: Sequence[int], rule: Callable[[Floats], Floats] | None) -> None:
        logits, self._state = model.start([prompt])
        self._model, self._rule = model, rule
        self._first: Floats = logits[:, None]  # (1, 1, V): what follows the prompt
        self._head: Floats | None = self._first
        self._unread: list[int] = []
        self._beyond = 0
        self._rows = 1
        self._logits = self._first
        self.passes = 1
        self.rows = 1

    def judge(self, drafts: Tokens) -> None:
        """Read drafts (B, m) in one pass; `law` then knows what follows each token of them."""
        before = np.tile(np.array(self._unread, np.int64), (len(drafts), 1))
        block = np.concatenate([before, drafts], axis=1)
        self._rows = 1
        if block.shape[1]:
            if len(drafts) > 1:
                self._state = self._model.select(self._state, [0] * len(drafts))
            self._rows = len(drafts)
            self._logits, self._state = self._model.all_logits(block, self._state)
            self.passes += 1
            self.rows += len(drafts)
        else:
            self._logits = self._first[:, :0]

    def law(self, row: int, depth: int) -> Law:
        """The target's law after `depth` drafted tokens of a row."""
        if self._head is None:
            logits = self._logits[row, depth]
        else:
            logits = self._head[0, 0] if depth == 0 else self._logits[row, depth - 1]
        return laws_of(logits[None], self._rule)[0]

    def keep(self, row: int, drafted: int, accepted: int, token: int | None) -> None:
        """Go on with a row: so many of its drafted tokens, and then the token that was emitted after them."""
        if self._rows > 1:
            self._state = self._model.select(self._state, [row])
        if drafted > accepted:
            self._state = self._model.rewind(self._state, drafted - accepted)
        self._beyond += len(self._unread) + accepted
        self._unread = [] if token is None else [token]
        self._head = None

    def restart(self) -> None:
        """Back to the prompt, which is not read again."""
        if self._beyond:
            self._state = self._model.rewind(self._state, self._beyond)
        self._beyond, self._unread, self._head = 0, [], self._first


class DraftTape:
    """The drafter along one sequence."""

    def __init__(self, drafter: Drafter, prompt: Sequence[int]) -> None:
        self._drafter = drafter
        first, state = drafter.start(prompt)
        self._first, self._state = first, state
        self._law = self._first
        self._unread: list[int] = []
        self._beyond = 0
        self._ahead = 0
        self._rows = 1

    def open(self, rows: int) -> list[Law | None]:
        """Read what was emitted since, and stand at the first token of a new block, with so many rows."""
        self._ahead = 0
        self._rows = rows
        if self._unread:
            laws, self._state = self._drafter.read(np.array([self._unread], np.int64), self._state)
            self._law = laws[0]
            self._beyond += len(self._unread)
            self._unread = []
        if rows > 1:
            self._state = self._drafter.select(self._state, [0] * rows)
        return [self._law] * rows

    def read(self, tokens: Tokens) -> list[Law | None]:
        """One more drafted token in each row (B,)."""
        laws, self._state = self._drafter.read(tokens[:, None], self._state)
        self._ahead += 1
        return laws

    def keep(self, row: int, accepted: Sequence[int], token: int | None) -> None:
        """Go on with a row: these of its drafted tokens, and then the token that was emitted after them."""
        if self._rows > 1:
            self._state = self._drafter.select(self._state, [row])
        known = min(len(accepted), self._ahead)
        if self._ahead > known:
            self._state = self._drafter.rewind(self._state, self._ahead - known)
        self._beyond += known
        self._unread += [*accepted[known:], *([] if token is None else [token])]
        self._ahead, self._rows = 0, 1

    def restart(self) -> None:
        """Back to the prompt."""
        if self._beyond:
            self._state = self._drafter.rewind(self._state, self._beyond)
        self._beyond, self._unread, self._law = 0, [], self._first

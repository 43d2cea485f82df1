"""What proposes tokens: the protocol, and any language model as a drafter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kofn.core.block import Floats
from kofn.decode.model import LanguageModel, Tokens, checked_model, checked_rule
from kofn.decode.speculation.law import Law
from kofn.errors import ParameterError, UsageError


@runtime_checkable
class Drafter(Protocol):
    """Laws of next tokens, known exactly, one step after another, for several drafts at once.

    The law may be any, as long as drafts are drawn from it and from nothing else. A state is used once, as that of a
    `LanguageModel`. None in the place of a law says that there is nothing to propose: the draft ends there. Laws are over
    the target's vocabulary; a drafter that has a vocabulary of its own shows its size as `vocabulary`, which is checked.
    """

    def start(self, prompt: Sequence[int]) -> tuple[Law | None, Any]:
        """Read a prompt: the law of its next token, and the state of one row."""

    def read(self, tokens: Tokens, state: Any) -> tuple[list[Law | None], Any]:
        """Append tokens (B, m), m >= 1: the B laws of what follows the last of them, and the state."""

    def select(self, state: Any, rows: Sequence[int] | Tokens) -> Any:
        """As `LanguageModel.select`."""

    def rewind(self, state: Any, count: int) -> Any:
        """As `LanguageModel.rewind`."""


class ModelDrafter:
    """Any language model with the target's vocabulary, with its own state.

    Parameters
    ----------
    model : LanguageModel
        Not the object whose state the target uses up: its states are its own, its weights may be shared.
    rule : callable, optional
        Logits (B, V) in, logits (B, V) out, the rest at -inf. Drafts are drawn from softmax(rule(logits)). A rule near
        the target's is accepted more often; the output's law does not depend on it.

    Attributes
    ----------
    vocabulary : int
        The model's.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> drafter = ModelDrafter(MarkovModel([[0.5, 0.5], [0.25, 0.75]]))
    >>> law, state = drafter.start([1])
    >>> round(law.probability(1), 6)
    0.75
    """

    def __init__(self, model: LanguageModel, *, rule: Callable[[Floats], Floats] | None = None) -> None:
        checked_model(model)
        checked_rule("a drafter", rule)
        self.model = model
        self.vocabulary = model.vocabulary
        self.rule = rule

    def start(self, prompt: Sequence[int]) -> tuple[Law | None, Any]:
        """See `Drafter`. One pass."""
        logits, state = self.model.start([prompt])
        return self._laws(logits)[0], state

    def read(self, tokens: Tokens, state: Any) -> tuple[list[Law | None], Any]:
        """See `Drafter`. One pass."""
        if tokens.shape[1] == 1:
            logits, state = self.model.next_logits(tokens[:, 0], state)
        else:
            every, state = self.model.all_logits(tokens, state)
            logits = every[:, -1]
        return self._laws(logits), state

    def select(self, state: Any, rows: Sequence[int] | Tokens) -> Any:
        """See `Drafter`."""
        return self.model.select(state, rows)

    def rewind(self, state: Any, count: int) -> Any:
        """See `Drafter`."""
        return self.model.rewind(state, count)

    def _laws(self, logits: Floats) -> list[Law | None]:
        return self._laws_of(logits, None)

    def _laws_of(self, logits: Floats, tokens: Tokens | None) -> list[Law | None]:
        """The laws of rows of logits, whose columns are `tokens`; None for all."""
        laws = laws_of(logits, self.rule, tokens)
        if self.rule is None:
            return list(laws)
        return [replace(law, before=raw) for law, raw in zip(laws, laws_of(logits, None, tokens), strict=True)]


def checked_drafter(owner: str, drafter: Any) -> None:
    """An error for what is no drafter, above all a language model as it comes."""
    if isinstance(drafter, Drafter) and not isinstance(drafter, type):
        return
    kind = type(drafter).__name__
    if hasattr(drafter, "next_logits"):
        raise ParameterError(f"{owner}: {kind} is a language model, no drafter; give {owner}(ModelDrafter(model))")
    if hasattr(drafter, "config") and hasattr(drafter, "forward"):
        raise ParameterError(
            f"{owner}: {kind} is a transformers model as it comes; give {owner}(ModelDrafter(TransformersModel(model)))"
        )
    raise ParameterError(f"{owner}: drafter={drafter!r} is no drafter; give for example {owner}(NGramDrafter(3))")


def checked_vocabulary(drafter: Drafter, vocabulary: int) -> None:
    """An error for a drafter whose tokens are not the target's: its numbers would mean other words."""
    own = getattr(drafter, "vocabulary", vocabulary)
    if own != vocabulary:
        raise UsageError(
            f"the drafter's vocabulary has {own} tokens and the target's {vocabulary}; "
            "give a drafter with the target's tokenizer, or NGramDrafter, which needs no model"
        )


def laws_of(logits: Floats, rule: Callable[[Floats], Floats] | None, tokens: Tokens | None = None) -> list[Law]:
    """The laws of rows of logits (B, m) after a rule, over `tokens` where the columns are not all tokens."""
    if rule is None:
        return [Law.of(np.ascontiguousarray(row), tokens) for row in logits]
    return [Law.kept(np.ascontiguousarray(row), tokens) for row in rule(logits)]

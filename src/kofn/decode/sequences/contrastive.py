"""Contrastive search: a probable token whose hidden state is unlike those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.core.numbers import is_whole
from kofn.decode.model import Generations, LanguageModel, Tokens, prompt_for
from kofn.decode.sequences.sampling import checked_single, likeliest
from kofn.errors import ParameterError, UsageError


@runtime_checkable
class HiddenStates(Protocol):
    """What a language model shows besides logits, for decoders that compare hidden states."""

    def start_with_hidden(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, tuple[Floats, ...], Any]:
        """As `start`, with the last layer's hidden states of each prompt's tokens, float32 (its length, H)."""

    def next_with_hidden(self, tokens: Tokens, state: Any) -> tuple[Floats, Floats, Any]:
        """As `next_logits`, with the last layer's hidden states of the tokens, float32 (B, H)."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveSearch:
    """Choose among the k most probable tokens the one with the best (1 - alpha) p(token) - alpha * penalty.

    The penalty is the largest cosine between the token's hidden state in the last layer and that of any token before it,
    prompt included: text that repeats itself is unlikely to be chosen although it is probable. Deterministic. alpha = 0
    or k = 1 is greedy search. Ties go to the lowest token.

    Parameters
    ----------
    alpha : float
        Weight of the penalty, in [0, 1].
    k : int
        Candidates a step, at least 1.

    Notes
    -----
    Su, Lan, Wang, Yogatama, Kong and Collier, "A Contrastive Framework for Neural Text Generation", 2022. It presumes
    hidden states that differ in direction; where all of a model's are alike, the penalty hardly depends on the token.

    Cost: a pass of k sequences a token, also for the last one; O(V + k t H) besides at step t.
    """

    alpha: float = 0.6
    k: int = 4

    def __post_init__(self) -> None:
        if (
            isinstance(self.alpha, bool)
            or not isinstance(self.alpha, int | float | np.number)
            or not 0 <= self.alpha <= 1
        ):
            raise ParameterError(f"alpha={self.alpha!r} is not a number in [0, 1]; the paper uses alpha=0.6")
        if not is_whole(self.k, 1):
            raise ParameterError(f"k={self.k!r} is not a whole number >= 1; the paper uses k=4 to 10")

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64
    ) -> Generations:
        """The one sequence that contrastive search finds, of at most `length` tokens.

        Parameters
        ----------
        model : LanguageModel
            With hidden states (`start_with_hidden`, `next_with_hidden`), as `TransformersModel` has them.
        prompt : sequence of int
            At least one token.
        n : int
            1: there is one sequence.
        length : int
            Most tokens.

        Returns
        -------
        Generations
            `logprobs` are the model's. `details["penalties"]`: the chosen tokens' largest cosines, float64.

        Raises
        ------
        ParameterError, UsageError
            For n other than 1, a length below 1, an empty prompt, a token outside the vocabulary, a model without
            hidden states, logits with NaN or +inf.
        """
        checked_single("contrastive search", n, length)
        listed, shown = prompt_for(model, prompt), _with_hidden_states(model)
        logits, hidden, state = shown.start_with_hidden([listed])
        context = _Context(hidden[0], length)
        chosen: list[int] = []
        penalties: list[float] = []
        logprob, rows = 0.0, 1
        while len(chosen) < length and not (chosen and chosen[-1] in model.end):
            tokens, logprobs = likeliest(logits, self.k)
            state = model.select(state, np.zeros(len(tokens), np.int64))
            after, last, state = shown.next_with_hidden(tokens, state)
            penalty = context.largest_cosines(last)
            best = int(np.argmax((1 - self.alpha) * np.exp(logprobs) - self.alpha * penalty))
            state = model.select(state, [best])
            context.append(last[best : best + 1])
            logits, rows = after[best : best + 1], rows + len(tokens)
            chosen.append(int(tokens[best]))
            penalties.append(float(penalty[best]))
            logprob += float(logprobs[best])
        return Generations(
            tokens=(np.array(chosen, np.int64),),
            logprobs=np.array([logprob]),
            finished=np.array([chosen[-1] in model.end]),
            passes=1 + len(chosen),
            rows=rows,
            details={"penalties": np.array(penalties)},
        )


def _with_hidden_states(model: LanguageModel) -> HiddenStates:
    """The model, or an error where it has none to show."""
    if not isinstance(model, HiddenStates):
        raise UsageError(
            f"{type(model).__name__} shows no hidden states, which contrastive search compares; "
            "give a TransformersModel"
        )
    return model


class _Context:
    """Directions of the hidden states so far, with room for `length` more."""

    def __init__(self, hidden: Floats, length: int) -> None:
        self._directions = np.empty((len(hidden) + length, hidden.shape[1]))
        self._seen = 0
        self.append(hidden)

    def append(self, hidden: Floats) -> None:
        """States (m, H) that come next."""
        self._directions[self._seen : self._seen + len(hidden)] = _directions(hidden)
        self._seen += len(hidden)

    def largest_cosines(self, hidden: Floats) -> Doubles:
        """Of each of the states (k, H) with any one so far."""
        cosines: Doubles = _directions(hidden) @ self._directions[: self._seen].T
        return cosines.max(axis=1)


def _directions(hidden: Floats) -> Doubles:
    """Each row divided by its length; a row of zeros stays zero."""
    rows = hidden.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)

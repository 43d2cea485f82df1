"""What a decoder needs of a language model, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.numbers import is_whole
from kofn.errors import ParameterError, UsageError

Tokens = NDArray[np.int64]

_PROMPT = "a prompt is a list of token numbers; tokenizer(text).input_ids makes one"


class LanguageModel(Protocol):
    """Next-token logits, one step after another, for several sequences at once.

    A state belongs to the last call that returned it: a call may reuse what it was given, so an old state must not be
    used again. Whoever needs two continuations asks `select` for them: `model.select(state, [0, 0])`.

    Attributes
    ----------
    vocabulary : int
        V. Tokens are 0..V-1.
    end : frozenset of int
        Tokens that end a sequence; may be empty.
    """

    vocabulary: int
    end: frozenset[int]

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, Any]:
        """Read B prompts, of any lengths >= 1. Logits of their next tokens, float32 (B, V), and the state."""

    def next_logits(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Append tokens (B,), one to each sequence. Logits float32 (B, V) of what follows, and the state."""

    def all_logits(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Append tokens (B, m) in one pass. Logits float32 (B, m, V) of what follows each of them, and the state."""

    def select(self, state: Any, rows: Sequence[int] | Tokens) -> Any:
        """A state whose sequence j is sequence rows[j] of the given one; rows may repeat, be left out, change order."""

    def rewind(self, state: Any, count: int) -> Any:
        """Forget the last `count` tokens of every sequence."""


@dataclass(frozen=True, eq=False)
class Generations:
    """n sequences that a decoder chose.

    Attributes
    ----------
    tokens : tuple of int64 arrays
        What was emitted, without the prompt; a token of `model.end`, where one was emitted, is the last.
    logprobs : float64 (n,)
        Log-probability of each sequence: sum of its tokens' log-probabilities under the law that was decoded from (the
        model's own, or that of the rules that were given).
    finished : bool (n,)
        Whether the sequence ended by a token of `model.end`; the others reached the length asked for.
    passes : int
        Forward passes of the model, prompt included, however many sequences each of them had.
    rows : int
        Sequences summed over these passes: what was computed.
    inclusion : float64 (n,) or None
        For decoders that are sampling designs: the number whose inverse is unbiased (`expectation`). The chance that the
        sequence is among the n, given what the decoder's page says.
    details : dict
        What else the decoder has to say; its docstring names the keys.
    """

    tokens: tuple[Tokens, ...]
    logprobs: Doubles
    finished: NDArray[np.bool_]
    passes: int
    rows: int
    inclusion: Doubles | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def texts(self, decode: Callable[[list[int]], str]) -> list[str]:
        """Each sequence as text; `decode` turns a list of tokens into it (a tokenizer's method)."""
        return [decode(each.tolist()) for each in self.tokens]


def checked_lengths(n: int, length: int) -> None:
    """Errors for a number of sequences or of tokens that is not a whole number >= 1."""
    for name, value in (("n", n), ("length", length)):
        if not is_whole(value):
            raise ParameterError(f"{name}={value!r} is not a whole number; give one, for example {name}=8")
        if value < 1:
            raise ParameterError(f"{name}={value} is less than 1; ask for at least 1")


def checked_seed(seed: int) -> int:
    """The seed as an int; what is no whole number from 0 to 2**64 - 1 is an error: two seeds would give the same draws."""
    if not is_whole(seed, 0, 2**64 - 1):
        raise ParameterError(f"seed={seed!r} is not a whole number from 0 to 2**64 - 1; give one, for example seed=0")
    return int(seed)


def checked_prompt(prompt: Sequence[int] | Tokens, vocabulary: int) -> list[int]:
    """The prompt as a list; text, tables, numbers that are not whole, none at all or outside the vocabulary are errors."""
    given: Any = prompt.tolist() if hasattr(prompt, "tolist") else prompt
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UsageError(f"the prompt is of type {type(prompt).__name__}; {_PROMPT}")
    listed = [_checked_token(token, place) for place, token in enumerate(given)]
    if not listed:
        raise UsageError("the prompt has no token; begin with the tokenizer's first token (<bos>) at least")
    for place, token in enumerate(listed):
        if not 0 <= token < vocabulary:
            raise UsageError(
                f"token {token} at place {place} of the prompt is outside the vocabulary 0..{vocabulary - 1}"
            )
    return listed


def prompt_for(model: Any, prompt: Sequence[int] | Tokens) -> list[int]:
    """The prompt as a list that this model can read: `checked_model`, then `checked_prompt`."""
    checked_model(model)
    return checked_prompt(prompt, model.vocabulary)


def checked_model(model: Any) -> None:
    """An error for what is no language model, above all a transformers model as it comes."""
    if all(hasattr(model, name) for name in ("vocabulary", "end", "start")):
        return
    if hasattr(model, "config") and hasattr(model, "forward"):
        raise UsageError(
            f"{type(model).__name__} is a transformers model as it comes; wrap it: TransformersModel(model)"
        )
    raise UsageError(
        f"the model is of type {type(model).__name__}, no language model; give a TransformersModel "
        "(the first of what load(FOLDER) returns), a MarkovModel, or your own with the methods of LanguageModel"
    )


def checked_rule(owner: str, rule: Any, *, remembers: bool = False) -> None:
    """An error for what `owner` cannot apply to rows of logits; None is no rule, and right.

    Parameters
    ----------
    owner : str
        Who takes the rule, for the sentence.
    rule : object
    remembers : bool
        Whether the owner hands a `Stateful` rule its memory.
    """
    if isinstance(rule, str):
        raise ParameterError(f"{owner}: rule={rule!r} is no rule but text; give parse_rule({rule!r})")
    if isinstance(rule, type):
        raise ParameterError(f"{owner}: rule={rule.__name__} is a class; give one of its values, as MinP(0.1)")
    if not remembers and hasattr(rule, "learned"):
        raise ParameterError(
            f"{owner} cannot run {rule!r}, which remembers what was emitted; "
            "give a rule without memory (of the decoders only Sampling runs the others)"
        )
    if not (rule is None or callable(rule) or hasattr(rule, "narrow")):
        raise ParameterError(f"{owner}: rule={rule!r} is no rule; give for example MinP(0.1)")


def _checked_token(token: Any, place: int) -> int:
    """A whole number, of Python, NumPy or torch."""
    try:
        if isinstance(token, bool):
            raise TypeError
        return index(token)
    except TypeError:
        raise UsageError(f"the prompt has {token!r:.40} at place {place}, no whole number; {_PROMPT}") from None

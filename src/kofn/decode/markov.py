"""A table-based Markov model: a language model whose law is known exactly, to test decoders with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.core.numbers import is_whole
from kofn.decode.model import Tokens, checked_prompt
from kofn.errors import UsageError


class MarkovModel:
    """p(next | last token) from a table; satisfies `LanguageModel`.

    Parameters
    ----------
    table : array (V, V)
        Row a holds p(. | a): non-negative, rows sum to 1 within 1e-9. Zeros are allowed.
    end : iterable of int
        Tokens that end a sequence, of 0..V-1.

    Raises
    ------
    UsageError
        A table that is not square, an entry that is no probability, a row that does not sum to 1, an end token outside
        the vocabulary.

    Examples
    --------
    >>> model = MarkovModel([[0.5, 0.5], [0.25, 0.75]])
    >>> logits, state = model.start([[0]])
    >>> np.exp(logits).round(3).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, table: object, end: Iterable[int] = ()) -> None:
        p = _checked_table(table)
        self.table: Doubles = p
        self.vocabulary = len(p)
        self.end = _checked_end(end, len(p))
        with np.errstate(divide="ignore"):
            self._logits: Floats = np.log(p).astype(np.float32)

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, tuple[Tokens, ...]]:
        """See `LanguageModel`; the state is the tokens read so far, a row each."""
        state = tuple(np.array(checked_prompt(each, self.vocabulary), np.int64) for each in prompts)
        return self._after(np.array([each[-1] for each in state])), state

    def next_logits(self, tokens: Tokens, state: tuple[Tokens, ...]) -> tuple[Floats, tuple[Tokens, ...]]:
        """See `LanguageModel`."""
        logits, state = self.all_logits(np.asarray(tokens)[:, None], state)
        return logits[:, 0], state

    def all_logits(self, tokens: Tokens, state: tuple[Tokens, ...]) -> tuple[Floats, tuple[Tokens, ...]]:
        """See `LanguageModel`."""
        tokens = np.asarray(tokens, np.int64)
        if len(tokens) != len(state):
            raise UsageError(f"{len(tokens)} rows of tokens for a state of {len(state)} sequences")
        return self._after(tokens), tuple(np.concatenate([old, new]) for old, new in zip(state, tokens, strict=True))

    def select(self, state: tuple[Tokens, ...], rows: Sequence[int] | Tokens) -> tuple[Tokens, ...]:
        """See `LanguageModel`."""
        return tuple(state[row] for row in rows)

    def rewind(self, state: tuple[Tokens, ...], count: int) -> tuple[Tokens, ...]:
        """See `LanguageModel`."""
        return tuple(each[: len(each) - count] for each in state)

    def logprob(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """Exact log-probability of emitting `tokens` after the prompt."""
        path = [prompt[-1], *tokens]
        with np.errstate(divide="ignore"):
            return float(sum(np.log(self.table[a, b]) for a, b in pairwise(path)))

    def sequences(self, prompt: Sequence[int], length: int) -> Iterator[tuple[tuple[int, ...], float]]:
        """Every sequence of positive probability with at most `length` tokens, ended or of full length, and its probability.

        V ** length of them: for small tables.
        """

        def extend(path: tuple[int, ...], last: int, p: float) -> Iterator[tuple[tuple[int, ...], float]]:
            if len(path) == length or (path and last in self.end):
                yield path, p
                return
            for token in np.flatnonzero(self.table[last]):
                yield from extend((*path, int(token)), int(token), p * float(self.table[last, token]))

        yield from extend((), int(prompt[-1]), 1.0)

    def _after(self, tokens: Tokens) -> Floats:
        outside = (tokens < 0) | (tokens >= self.vocabulary)
        if outside.any():
            raise UsageError(f"token {tokens[outside][0]} is outside the vocabulary 0..{self.vocabulary - 1}")
        return self._logits[tokens]


def _checked_table(table: object) -> Doubles:
    """V x V probabilities, each row a law."""
    try:
        p = np.asarray(table, np.float64)
    except (TypeError, ValueError):
        raise UsageError("the table is no array of numbers; give V rows of V probabilities") from None
    if p.ndim != 2 or p.shape[0] != p.shape[1] or not len(p):
        raise UsageError(f"the table has shape {p.shape}; give V x V probabilities")
    outside = np.argwhere(~((p >= 0) & (p < np.inf)))  # NaN too
    if len(outside):
        row, column = outside[0]
        raise UsageError(f"the table has {p[row, column]:g} in row {row}, column {column}; give numbers from 0 to 1")
    sums = p.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > 1e-9)
    if len(wrong):
        raise UsageError(f"row {wrong[0]} of the table sums to {sums[wrong[0]]:.12g}; each row must be a law, sum 1")
    return p


def _checked_end(end: Iterable[int], vocabulary: int) -> frozenset[int]:
    """Tokens of the vocabulary."""
    listed = list(end) if isinstance(end, Iterable) else None
    if listed is None or isinstance(end, str):
        raise UsageError(f"end={end!r} is no list of tokens; give for example end=[{vocabulary - 1}]")
    for token in listed:
        if not is_whole(token, 0, vocabulary - 1):
            raise UsageError(
                f"end token {token!r} is not one of the vocabulary 0..{vocabulary - 1}; give some of these"
            )
    return frozenset(int(token) for token in listed)

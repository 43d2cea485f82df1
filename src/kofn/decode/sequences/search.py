"""What the beam searches share: the best continuations of several beams, and one step of the model for all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.logits import log_normalizers, tokens_above, top_of
from kofn.core.numbers import is_whole
from kofn.decode.model import Generations, LanguageModel, Tokens, prompt_for
from kofn.errors import DataError, ParameterError

Rule = Callable[[Floats], Floats]

_PARTS = 4_096  # maxima kept of a row: enough to find a close cut, few enough to sort
_SMALL = 16_384  # candidates that are not worth a cut
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Continuations of beams by one token, best first.

    Attributes
    ----------
    beams, tokens : int64 (m,)
        Which beam, and the token that is appended to it.
    scores : float64 (m,)
        What they were ranked by.
    """

    beams: Tokens
    tokens: Tokens
    scores: Doubles

    def __len__(self) -> int:
        return len(self.beams)

    def take(self, rows: NDArray[Any]) -> Candidates:
        """Those of the given places, in that order; or those where a mask is true."""
        return Candidates(self.beams[rows], self.tokens[rows], self.scores[rows])


class Run:
    """A model at work on one prompt: its state, its last logits, and what it cost.

    `logits` (B, V) float32 are those of the law that is decoded from, `normalizers` (B,) float64 their log sum exp.
    """

    def __init__(self, model: LanguageModel, prompt: Sequence[int] | Tokens, rule: Rule | None) -> None:
        listed = prompt_for(model, prompt)
        self._model, self._rule = model, rule
        self.passes, self.rows = 0, 0
        self._read(*model.start([listed]))

    def advance(self, beams: Tokens, tokens: Tokens) -> None:
        """Append tokens[j] to beam beams[j] and make it beam j; one pass of the model."""
        self._read(*self._model.next_logits(tokens, self._model.select(self._state, beams)))

    def _read(self, logits: Floats, state: Any) -> None:
        self._state = state
        self.passes += 1
        self.rows += len(logits)
        if self._rule is not None:
            logits = self._rule(logits)
        self.logits: Floats = np.ascontiguousarray(logits, np.float32)
        wrong = np.flatnonzero([not np.isfinite(top_of(x)) for x in self.logits])
        if len(wrong):
            kind = "no token of finite logit, or NaN, or +inf"
            raise DataError(
                f"row {wrong[0]} of the logits at pass {self.passes} has {kind}; look at the model or the rule"
            )
        self.normalizers = log_normalizers(self.logits)

    def log_probability(self, beams: Tokens, tokens: Tokens) -> Doubles:
        """log p(token | beam), float64, for pairs."""
        return self.logits[beams, tokens].astype(np.float64) - self.normalizers[beams]


def best_candidates(logits: Floats, offsets: Doubles, count: int) -> Candidates:
    """The `count` best of all B V continuations, ranked by logits[b, v] + offsets[b].

    Ties go to the lowest beam, then to the lowest token. Tokens of logit -inf are no candidates, so fewer may come back.

    Parameters
    ----------
    logits : float32 (B, V), C-contiguous
        No NaN, no +inf.
    offsets : float64 (B,)
        A beam's score so far less its log-normaliser.
    count : int
        How many are wanted.

    Notes
    -----
    The count-th largest of the maxima of disjoint sets of tokens is no more than the count-th largest candidate, hence a
    cut that loses nothing; what is above it is ranked exactly, in float64. O(B V) time in float32 scans, no copy of the
    logits and no sort of them.
    """
    found = above(logits, offsets, cut_for(logits, offsets, count))
    if len(found) > count:
        least = np.partition(found.scores, len(found) - count)[len(found) - count]
        more = np.flatnonzero(found.scores > least)
        # candidates stand by beam and token, so the first of those that tie are the lowest
        equal = np.flatnonzero(found.scores == least)[: count - len(more)]
        found = found.take(np.sort(np.concatenate([more, equal])))
    return found.take(np.argsort(-found.scores, kind="stable"))


def cut_for(logits: Floats, offsets: Doubles, count: int) -> float:
    """A score that at least `count` candidates reach; -inf where everything is to be looked at."""
    beams, vocabulary = logits.shape
    parts = min(_PARTS, vocabulary)
    if beams * vocabulary <= _SMALL or beams * parts <= count:
        return -np.inf
    whole = vocabulary // parts * parts
    # a strided set of tokens for each maximum: adding rows of `parts` numbers is what vectorises
    maxima = logits[:, :whole].reshape(beams, -1, parts).max(axis=1) + offsets[:, None]
    return float(np.partition(maxima, maxima.size - count, axis=None)[maxima.size - count])


def above(logits: Floats, offsets: Doubles, cut: float) -> Candidates:
    """All candidates whose scores are at least `cut` (and perhaps some within rounding below it), by beam, then token."""
    tokens = []
    for row, offset in zip(logits, offsets, strict=True):
        least = np.nextafter(np.float32(max(cut - offset, _LOWEST)), np.float32(_LOWEST))
        tokens.append(tokens_above(row, float(least)))
    beams = np.repeat(np.arange(len(logits)), [len(each) for each in tokens])
    joined = np.concatenate(tokens)
    return Candidates(beams, joined, logits[beams, joined] + offsets[beams])


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A sequence that search has put aside: it has ended, or has its full length."""

    tokens: tuple[int, ...]
    logprob: float
    score: float
    finished: bool


@dataclass(frozen=True, eq=False)
class Beams:
    """Live beams, best first: their tokens, log-probabilities, and the scores by which they are ranked."""

    paths: tuple[tuple[int, ...], ...]
    logprobs: Doubles
    scores: Doubles

    @staticmethod
    def root() -> Beams:
        """The prompt alone."""
        return Beams(((),), np.zeros(1), np.zeros(1))

    def __len__(self) -> int:
        return len(self.paths)

    def extended(self, chosen: Candidates, logprobs: Doubles) -> Beams:
        """The beams that the chosen candidates are; `logprobs` (m,) are theirs."""
        pairs = zip(chosen.beams.tolist(), chosen.tokens.tolist(), strict=True)
        return Beams(tuple((*self.paths[b], t) for b, t in pairs), logprobs, chosen.scores)

    def take(self, rows: NDArray[Any]) -> Beams:
        """Those of the given places."""
        return Beams(tuple(self.paths[row] for row in rows), self.logprobs[rows], self.scores[rows])


def split_ended(extended: Beams, end: Collection[int], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the beams that end, and of the `width` best that live on.

    A beam ends when its last token is in `end` and it is among the `width` best of all: one that is worse would not have
    been kept, so a beam of width 1 is greedy search.
    """
    last = np.array([path[-1] for path in extended.paths], np.int64)
    ends = np.isin(last, np.fromiter(end, np.int64, len(end)))
    return np.flatnonzero(ends[:width]), np.flatnonzero(~ends)[:width]


def generations(chosen: Sequence[Hypothesis], run: Run, **details: Any) -> Generations:
    """The hypotheses as what a decoder answers with."""
    return Generations(
        tokens=tuple(np.array(each.tokens, np.int64) for each in chosen),
        logprobs=np.array([each.logprob for each in chosen], np.float64),
        finished=np.array([each.finished for each in chosen], np.bool_),
        passes=run.passes,
        rows=run.rows,
        details=details,
    )


def checked_width(width: int | None, n: int) -> int:
    """The beam width for n sequences: n where none is given; one that is below n, or no whole number, is an error."""
    if width is None:
        return n
    if width < n:
        raise ParameterError(
            f"width={width} is less than the n={n} sequences asked for; give width={n} or more, or leave it out"
        )
    return width


def checked_count(name: str, value: int | None) -> None:
    """An error for a parameter that is given and is no whole number >= 1."""
    if value is None:
        return
    if not is_whole(value, 1):
        raise ParameterError(f"{name}={value!r} is not a whole number >= 1; give one, for example {name}=8")


def checked_number(name: str, value: float, least: float, most: float) -> None:
    """An error for a parameter that is no number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not least <= value <= most:
        raise ParameterError(
            f"{name}={value!r} is not a number from {least:g} to {most:g}; give one, for example {name}=0.5"
        )

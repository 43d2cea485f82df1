"""Priority sampling: unique sequences, each a greedy path from the most probable token that was passed over so far."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kofn.core.block import Floats
from kofn.core.numbers import is_whole
from kofn.decode.model import Generations, LanguageModel, Tokens, checked_lengths, checked_rule, prompt_for
from kofn.errors import ParameterError

_CHUNK = 64  # tokens of a branch that are read in one pass: their logits exist at once
_LOOK = 256  # tokens that are put in order first, where a pattern may refuse the best


@dataclass(frozen=True, kw_only=True)
class PrioritySampling:
    """Deterministic, unique sequences in the order of the model's confidence.

    The sequences form a tree. The first is greedy. On its way each path leaves tokens behind; of all tokens left behind
    anywhere, the most probable is taken up next and continued greedily. A branch is taken once, so no two sequences are
    equal, and no temperature has to be tuned. When every branch has been taken there are fewer than n, and they are
    all there is.

    Parameters
    ----------
    pattern : str, optional
        A regular expression (of the `regex` module) that each sequence's text must match from its first to its last
        character. A token is followed only where text and token can still grow into a match, an end token only after a
        whole match.
    decode : callable, optional
        Turns a list of tokens into text (a tokenizer's method); needed with a pattern. A token's text is taken to be
        the same wherever it stands.
    confidence : {"token", "prefix"}
        What ranks the tokens left behind: the token's own probability after its prefix, as published, or the probability
        of prefix and token together, by which no later branch is more probable than an earlier one.
    most_dropped : int
        With a pattern: the search stops after this many sequences that reached `length`, or found no token, before they
        matched.
    rule : callable, optional
        Logits (B, V) in, logits (B, V) out; tokens at -inf are no branches, and probabilities are those of
        softmax(rule(logits)).

    Notes
    -----
    Grubisic, Cummins, Seeker and Leather, "Priority Sampling of Large Language Models for Compilers", 2024.

    Cost: one sequence at a time, since each depends on the tokens that the one before left behind. The cache is kept:
    a new branch goes back to where it parts from the sequence before it (`rewind`) and reads its own tokens in one
    pass, so the prompt is read once, and a branch at depth d with `length` tokens takes length - d passes. Only the
    most probable n branches are stored, which loses nothing: none behind them could come up.

    With a pattern, tokens are tested in the order of their probability until as many are found as could come up.
    Texts of tokens are cached, and of tokens that begin with the same character only the first is tested if that
    character is impossible.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> found = PrioritySampling().generate(MarkovModel([[0.7, 0.3], [0.4, 0.6]]), [0], 3, length=2)
    >>> [tokens.tolist() for tokens in found.tokens]
    [[0, 0], [1, 1], [1, 0]]
    """

    pattern: str | None = None
    decode: Callable[[list[int]], str] | None = None
    confidence: Literal["token", "prefix"] = "token"
    most_dropped: int = 100
    rule: Callable[[Floats], Floats] | None = None

    def __post_init__(self) -> None:
        checked_rule("PrioritySampling", self.rule)
        if (self.pattern is None) != (self.decode is None):
            raise ParameterError("a pattern and the callable that decodes tokens go together; give both or neither")
        if self.confidence not in ("token", "prefix"):
            raise ParameterError(f"confidence={self.confidence!r} is unknown; choose 'token' or 'prefix'")
        if not is_whole(self.most_dropped, 0):
            raise ParameterError(f"most_dropped={self.most_dropped!r} is not a whole number >= 0")
        if self.pattern is not None:
            _compiled(self.pattern)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64
    ) -> Generations:
        """At most n sequences, the most confident branch first.

        Parameters
        ----------
        model : LanguageModel
            What is searched.
        prompt : sequence of int
            Tokens before the first.
        n : int
            Sequences wanted, at least 1. Fewer are returned, and never a copy, where there are no more.
        length : int
            Most tokens of a sequence.

        Returns
        -------
        Generations
            `logprobs` are those of the model (or of the rule); a pattern does not renormalise them.
            `details["confidences"]`: probability by which each branch was ranked, 1 for the first;
            `details["branches"]`: how many tokens of each were given by its branch; `details["exhausted"]`: True where
            the whole tree was searched; `details["dropped"]`: sequences that did not match.

        Raises
        ------
        ParameterError, UsageError
            For n or length below 1, an empty prompt, a token outside the vocabulary, logits with NaN or +inf.
        """
        checked_lengths(n, length)
        reader = _Reader.begun(model, prompt_for(model, prompt))
        grammar = None
        if self.pattern is not None and self.decode is not None:
            grammar = _Grammar(_compiled(self.pattern), self.decode, model.end)
        spare = self.most_dropped if grammar is not None else 0
        queue = _Queue()
        kept: list[_Path] = []
        dropped = 0
        branch: _Branch | None = _Branch(-0.0, 0, (), 0.0, "", False)
        while branch is not None:
            room = n - len(kept) - 1 + spare - dropped
            path = self._followed(branch, reader, grammar, queue, room, length)
            if path.matched:
                kept.append(path)
            else:
                dropped += 1
            if len(kept) == n or dropped > spare:
                break
            branch = queue.popped()
        return _answer(kept, reader.passes, exhausted=branch is None, dropped=dropped)

    def _followed(
        self,
        branch: _Branch,
        reader: _Reader,
        grammar: _Grammar | None,
        queue: _Queue,
        room: int,
        length: int,
    ) -> _Path:
        """The greedy path on from the branch; what it leaves behind goes into the queue, of which `room` are kept."""
        tokens, logprob, text, ended = list(branch.tokens), branch.logprob, branch.text, branch.ended
        while not ended and len(tokens) < length:
            logits = reader.after(tokens)
            if self.rule is not None:
                logits = self.rule(logits)
            base = logprob if self.confidence == "prefix" else 0.0
            best: tuple[int, float, str] | None = None
            for token, p in _by_probability(logits, room + 1, every=grammar is not None):
                if best is not None and not queue.takes(-(base + p), room):
                    break
                longer = text if grammar is None else grammar.grown(text, token)
                if longer is None:
                    continue
                if best is None:
                    best = token, p, longer
                    continue
                ends = token in reader.model.end
                queue.put(-(base + p), (*tokens, token), logprob + p, longer, ends, room)
            if best is None:
                break
            tokens.append(best[0])
            logprob, text, ended = logprob + best[1], best[2], best[0] in reader.model.end
        matched = grammar is None or grammar.matches(text)
        return _Path(branch, tokens, logprob, ended, matched)


@dataclass(frozen=True, order=True, slots=True)
class _Branch:
    """A token left behind, with its prefix. Ordered by rank (minus the log-probability), then by age."""

    rank: float
    number: int
    tokens: tuple[int, ...] = field(compare=False)
    logprob: float = field(compare=False)
    text: str = field(compare=False)
    ended: bool = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Path:
    """A branch, continued as far as it goes."""

    branch: _Branch
    tokens: list[int]
    logprob: float
    finished: bool
    matched: bool


def _answer(kept: list[_Path], passes: int, **details: Any) -> Generations:
    """The paths as what a decoder answers with."""
    details["confidences"] = np.exp([-each.branch.rank for each in kept])
    details["branches"] = np.array([len(each.branch.tokens) for each in kept], np.int64)
    return Generations(
        tokens=tuple(np.array(each.tokens, np.int64) for each in kept),
        logprobs=np.array([each.logprob for each in kept]),
        finished=np.array([each.finished for each in kept], np.bool_),
        passes=passes,
        rows=passes,
        details=details,
    )


class _Queue:
    """The branches that can still come up, most probable first; ties to the one that was left behind first."""

    def __init__(self) -> None:
        self._branches: list[_Branch] = []
        self._made = 0

    def takes(self, rank: float, room: int) -> bool:
        """Whether a new branch of this rank is among the first `room`."""
        return room > 0 and (len(self._branches) < room or rank < self._branches[room - 1].rank)

    def put(self, rank: float, tokens: tuple[int, ...], logprob: float, text: str, ended: bool, room: int) -> None:
        """Add a branch and forget those behind the first `room`."""
        self._made += 1
        insort(self._branches, _Branch(rank, self._made, tokens, logprob, text, ended))
        del self._branches[room:]

    def popped(self) -> _Branch | None:
        """The first, or None."""
        return self._branches.pop(0) if self._branches else None


@dataclass(slots=True)
class _Reader:
    """One state of the model that walks from branch to branch."""

    model: LanguageModel
    state: Any
    root: Floats
    read: list[int]
    passes: int = 1

    @classmethod
    def begun(cls, model: LanguageModel, prompt: list[int]) -> _Reader:
        logits, state = model.start([prompt])
        return cls(model, state, logits, [])

    def after(self, tokens: list[int]) -> Floats:
        """Logits (1, V) of what follows prompt and tokens; only what differs from the last call is read."""
        if not tokens:
            return self.root
        if tokens[:-1] == self.read:
            return self._next(tokens)
        shared = 0
        while shared < min(len(self.read), len(tokens) - 1) and self.read[shared] == tokens[shared]:
            shared += 1
        if shared < len(self.read):
            self.state = self.model.rewind(self.state, len(self.read) - shared)
        if len(tokens) - shared == 1:
            return self._next(tokens)
        logits = self.root
        for start in range(shared, len(tokens), _CHUNK):
            part = np.array([tokens[start : start + _CHUNK]], np.int64)
            every, self.state = self.model.all_logits(part, self.state)
            logits = every[:, -1]
            self.passes += 1
        self.read = list(tokens)
        return logits

    def _next(self, tokens: list[int]) -> Floats:
        logits, self.state = self.model.next_logits(np.array(tokens[-1:], np.int64), self.state)
        self.passes += 1
        self.read = list(tokens)
        return logits


class _Grammar:
    """Which tokens can follow a text, under a pattern."""

    def __init__(self, pattern: Any, decode: Callable[[list[int]], str], end: frozenset[int]) -> None:
        self._pattern = pattern
        self._decode = decode
        self._end = end
        self._texts: dict[int, str] = {}
        self._first: tuple[str, dict[str, bool]] = ("", {})

    def matches(self, text: str) -> bool:
        """Whether the whole text is a match."""
        return self._pattern.fullmatch(text) is not None

    def grown(self, text: str, token: int) -> str | None:
        """Text with the token, or None where it cannot become a match; the text itself for an end token."""
        if token in self._end:
            return text if self.matches(text) else None
        if token not in self._texts:
            self._texts[token] = self._decode([token])
        added = self._texts[token]
        if not added or "\N{REPLACEMENT CHARACTER}" in added or not self._begins(text, added[0]):
            return None
        return text + added if len(added) == 1 or self._possible(text + added) else None

    def _begins(self, text: str, character: str) -> bool:
        """Whether text and character can become a match; one test a character while the text stays."""
        if self._first[0] != text:
            self._first = (text, {})
        known = self._first[1]
        if character not in known:
            known[character] = self._possible(text + character)
        return known[character]

    def _possible(self, text: str) -> bool:
        return self._pattern.fullmatch(text, partial=True) is not None


def _compiled(pattern: str) -> Any:
    """The pattern, by the module that can match partially."""
    import regex

    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ParameterError(f"pattern={pattern!r} is no regular expression: {error}") from error


def _by_probability(logits: Floats, count: int, *, every: bool) -> Iterator[tuple[int, float]]:
    """Tokens of logits (1, V) and log-probabilities, best first, ties to the lowest token: `count`, or all that can be."""
    from kofn.core.logits import tokens_above, total
    from kofn.decode.rules.rows import rows_of

    law = rows_of(logits)
    x = law.values[0]
    normalizer = law.tops[0] + math.log(total(x, law.tops[0]))
    done = 0
    wanted = min(max(count, _LOOK) if every else count, len(x))
    while done < len(x):
        cut = np.float32(np.partition(x, len(x) - wanted)[len(x) - wanted])
        tokens = tokens_above(x, float(cut)) if cut > -np.inf else np.flatnonzero(x > -np.inf)
        logprobs = x[tokens].astype(np.float64) - normalizer
        order = np.argsort(-logprobs, kind="stable")
        for place in order[done : None if every else count]:
            yield int(tokens[place]), float(logprobs[place])
        done = len(order)
        if not every or cut == -np.inf or wanted == len(x):
            return
        wanted = min(max(16 * wanted, done + 1), len(x))

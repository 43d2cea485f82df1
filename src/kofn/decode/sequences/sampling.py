"""Ancestral sampling, of many sequences at once, and greedy search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.numbers import is_whole
from kofn.decode.model import (
    Generations,
    LanguageModel,
    Tokens,
    checked_lengths,
    checked_rule,
    checked_seed,
    prompt_for,
)
from kofn.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class Sampling:
    """Draw each token from the model's law, or from that law after a rule.

    All sequences are drawn in one batch; one that has ended leaves it. Token t of sequence i is the one at which the
    law's cumulative sum first exceeds the uniform number of (seed, i, t): it depends on nothing else, not on n and not
    on what else is in the batch, up to rounding of the model's logits. With weights of 16 bits that rounding shows: the
    batch size changes the last bits of the logits, so sequence 3 of 8 can differ from sequence 3 of 800.

    Parameters
    ----------
    rule : Rule, Stateful or callable, optional
        A rule of `kofn.decode`, or any function from logits (B, V) to logits (B, V), those left out at -inf.

    Notes
    -----
    Cost: one pass for the prompt and one a token over the sequences that go on; then O(V) a sequence. The first token's
    law is computed once for all sequences of a prompt. Memory: 4 n V bytes of logits, and the model's own.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> model = MarkovModel([[0.5, 0.5], [0.0, 1.0]], end=[1])
    >>> [tokens.tolist() for tokens in Sampling().generate(model, [0], 3, length=4, seed=1).tokens]
    [[0, 0, 1], [0, 0, 1], [0, 0, 0, 1]]
    """

    rule: Any = None

    def __post_init__(self) -> None:
        checked_rule("Sampling", self.rule, remembers=True)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64, seed: int = 0
    ) -> Generations:
        """Draw n sequences that go on from one prompt, which is read once.

        Parameters
        ----------
        model : LanguageModel
        prompt : sequence of int
            At least one token.
        n : int
            Sequences; sequence i is the same whatever n.
        length : int
            Most tokens of a sequence.
        seed : int

        Returns
        -------
        Generations
            `logprobs` are those of the law drawn from. `details["token_logprobs"]` has them token by token, and
            `details["model_token_logprobs"]` those of the model without the rule; tuples of float64 arrays.

        Raises
        ------
        ParameterError, UsageError
            For n or length below 1, a seed outside 0..2**64 - 1, an empty prompt, a token outside the vocabulary,
            logits with NaN or +inf.
        """
        checked_lengths(n, length)
        seed = checked_seed(seed)
        listed = prompt_for(model, prompt)
        logits, state = model.start([listed])
        return self._drawn(model, logits, state, np.zeros(n, np.int64), length, seed)

    def generate_each(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int] | Tokens],
        *,
        length: int = 64,
        seed: int = 0,
        first: int = 0,
    ) -> Generations:
        """Draw one sequence for each prompt, all in one batch. See `generate`.

        Parameters
        ----------
        prompts : sequence of sequences of int
            Prompts number first, first + 1, ...; sequence i goes on from prompt i. So a long list can be gone through in
            parts, and its tokens do not depend on where it was cut.
        first : int
            At least 0.
        """
        if not len(prompts):
            raise UsageError("there is no prompt; give at least one")
        checked_lengths(len(prompts), length)
        if not is_whole(first, 0):
            raise ParameterError(f"first={first!r} is not a whole number >= 0; it is the number of the first prompt")
        seed = checked_seed(seed)
        listed = [prompt_for(model, prompt) for prompt in prompts]
        logits, state = model.start(listed)
        return self._drawn(model, logits, state, np.arange(len(prompts)), length, seed, int(first))

    def _drawn(
        self, model: LanguageModel, logits: Floats, state: Any, source: Tokens, length: int, seed: int, first: int = 0
    ) -> Generations:
        """Sequences of which number first + i begins with row source[i] of the logits."""
        from kofn.core.uniforms import child_seeds, uniforms

        record = Record(len(source), length, "token_logprobs", "model_token_logprobs")
        seeds = child_seeds(seed, first, first + len(source))
        memories = self._memories(len(logits))
        going, passes, rows = np.arange(len(source)), 1, len(logits)
        for step in range(length):
            supports, memories = self._supports(logits, memories)
            drawn = zip(source.tolist(), uniforms(seeds[going], step), strict=True)
            tokens = np.array([supports[row].drawn(u) for row, u in drawn], np.int64)
            own = own_logprobs(logits, source, tokens)
            law = own if self.rule is None else _logprobs(supports, source, tokens)
            record.append(going, tokens, law, own)
            alive = ~np.isin(tokens, np.fromiter(model.end, np.int64, len(model.end)))
            record.finished[going] = ~alive
            going, tokens, source = going[alive], tokens[alive], source[alive]
            if step + 1 == length or not len(going):
                break
            if memories is not None:
                memories = [self.rule.learned(int(t), memories[row]) for row, t in zip(source, tokens, strict=True)]
            logits, state = model.next_logits(tokens, model.select(state, source))
            source = np.arange(len(going))
            passes, rows = passes + 1, rows + len(going)
        return record.generations(passes, rows)

    def _memories(self, count: int) -> list[Any] | None:
        """One memory a row, for rules that remember."""
        return self.rule.start(count) if hasattr(self.rule, "learned") else None

    def _supports(self, logits: Floats, memories: list[Any] | None) -> tuple[list[Support], list[Any] | None]:
        """Each row's law after the rule."""
        from kofn.decode.rules.rows import rows_of
        from kofn.decode.rules.rule import entries

        if memories is not None:
            pairs = [self.rule.narrow(*pair) for pair in zip(entries(rows_of(logits), None), memories, strict=True)]
            return [support for support, _ in pairs], [memory for _, memory in pairs]
        if hasattr(self.rule, "supports"):
            return self.rule.supports(logits), None
        return entries(rows_of(logits if self.rule is None else self.rule(logits)), None), None


@dataclass(frozen=True)
class Greedy:
    """The most probable token, again and again; ties go to the lowest token.

    No promise beyond a single step: the sequence need not be the most probable one.

    Notes
    -----
    Cost: a pass and O(V) a token.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> Greedy().generate(MarkovModel([[0.4, 0.6], [0.7, 0.3]]), [0], length=3).tokens[0].tolist()
    [1, 0, 1]
    """

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64
    ) -> Generations:
        """The one greedy sequence, of at most `length` tokens.

        Returns
        -------
        Generations
            `details["token_logprobs"]`: a tuple of one float64 array, the model's log-probability of each token.

        Raises
        ------
        ParameterError, UsageError
            For n other than 1, length below 1, an empty prompt, a token outside the vocabulary, logits with NaN or +inf.
        """
        from kofn.decode.rules.rows import rows_of

        checked_single("greedy search", n, length)
        listed = prompt_for(model, prompt)
        logits, state = model.start([listed])
        record, one = Record(1, length, "token_logprobs"), np.zeros(1, np.int64)
        for step in range(length):
            token = rows_of(logits).values.argmax(axis=1)
            record.append(one, token, own_logprobs(logits, one, token))
            if int(token[0]) in model.end:
                record.finished[0] = True
            if record.finished[0] or step + 1 == length:
                break
            logits, state = model.next_logits(token, state)
        return record.generations(step + 1, step + 1)


def checked_single(what: str, n: int, length: int) -> None:
    """Errors of decoders that know one sequence alone."""
    checked_lengths(n, length)
    if n != 1:
        raise ParameterError(f"n={n}, but {what} has one sequence; ask for n=1, or use a beam or sampling")


def own_logprobs(logits: Floats, source: Tokens, tokens: Tokens) -> Doubles:
    """log softmax(logits)[source[i], tokens[i]], float64."""
    from kofn.core.logits import log_normalizers

    x = np.asarray(logits, np.float32)
    return x[source, tokens].astype(np.float64) - log_normalizers(x)[source]


def likeliest(logits: Floats, count: int) -> tuple[Tokens, Doubles]:
    """The `count` most probable tokens of logits (1, V), ascending, and their log-probabilities; ties to the lowest."""
    from kofn.decode.rules.rows import rows_of
    from kofn.decode.rules.rule import entries

    tokens = entries(rows_of(logits), None)[0].best(count).ids()
    return tokens, own_logprobs(logits, np.zeros(len(tokens), np.int64), tokens)


def _logprobs(supports: list[Support], source: Tokens, tokens: Tokens) -> Doubles:
    """Log-probability of each token under the law of its row, float64."""
    totals = {row: supports[row].log_total() for row in set(source.tolist())}
    out = np.empty(len(tokens))
    for i, (row, token) in enumerate(zip(source.tolist(), tokens.tolist(), strict=True)):
        kept = supports[row].tokens
        place = token if kept is None else int(np.searchsorted(kept, token))
        out[i] = float(supports[row].values[place]) - totals[row]
    return out


class Record:
    """What n sequences have emitted so far: tokens, and columns of numbers that belong to each token."""

    def __init__(self, n: int, length: int, *columns: str) -> None:
        self._tokens = np.empty((n, length), np.int64)
        self._columns = {name: np.empty((n, length)) for name in columns}
        self._lengths = np.zeros(n, np.int64)
        self.finished: NDArray[np.bool_] = np.zeros(n, np.bool_)

    def append(self, sequences: Tokens, tokens: Tokens, *values: Doubles) -> None:
        """One token more for each of these sequences, with its number for each column."""
        places = sequences, self._lengths[sequences]
        self._tokens[places] = tokens
        for column, value in zip(self._columns.values(), values, strict=True):
            column[places] = value
        self._lengths[sequences] += 1

    def generations(self, passes: int, rows: int, **details: Any) -> Generations:
        """All of it as a decoder's answer; the first column has the log-probabilities, and all of them are details."""

        def emitted(table: NDArray[Any]) -> tuple[NDArray[Any], ...]:
            return tuple(row[:length].copy() for row, length in zip(table, self._lengths, strict=True))

        columns = {name: emitted(table) for name, table in self._columns.items()}
        return Generations(
            tokens=emitted(self._tokens),
            logprobs=np.array([math.fsum(each) for each in next(iter(columns.values()))]),
            finished=self.finished,
            passes=passes,
            rows=rows,
            details={**details, **columns},
        )

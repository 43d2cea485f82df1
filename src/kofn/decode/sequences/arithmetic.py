"""Arithmetic sampling: n sequences from evenly spaced points of one arithmetic code, each decoded by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.decode.model import (
    Generations,
    LanguageModel,
    Tokens,
    checked_lengths,
    checked_rule,
    checked_seed,
    prompt_for,
)
from kofn.decode.sequences.sampling import Record

if TYPE_CHECKING:
    from kofn.core.uniforms import Seeds

_OFFSET, _DIGITS = 1, 2  # purposes of the uniforms
_SMALLEST = 2.0**-53
_COARSEST = 2.0**-30  # a code point known no better than this gets fresh digits
_NOTHING = 1e-30  # block sums below this, with the largest exponential at 1, hold no token that can be


@dataclass(frozen=True)
class ArithmeticSampling:
    """n sequences, each with the model's law, that together cover the law more evenly than independent draws.

    The model's law on sequences cuts [0, 1) into one interval a sequence: each step divides the interval of the prefix
    among the tokens, in vocabulary order, in proportion to their probabilities. Sequence i is the one whose interval
    holds the code point i / (n + 1) + b mod 1, i = 1..n, with one offset b for all. Each code point is uniform, so each
    sequence is a draw from the law and means over the n are unbiased; the points are 1 / (n + 1) apart, so a prefix of
    probability p is met n p times give or take one, and means vary less. Each sequence depends on its own
    code point alone.

    Parameters
    ----------
    rule : Rule or callable, optional
        A rule of `kofn.decode`, or any function: logits (B, V) in, logits (B, V) out, the rest at -inf. The law decoded
        from is softmax(rule(logits)).

    Notes
    -----
    Vilnis, Zemlyanskiy, Murray, Passos and Sanghai, "Arithmetic Sampling: Parallel Diverse Decoding for Large Language
    Models", 2023.

    Digits. After each token the code point is renormalised, u <- (u - low) / width. A float64 holds 53 bits, and a token
    of probability p takes log2(1 / p) of them: without more, decoding goes on with rounding errors after 53 bits, some
    ten to thirty tokens. Here the spacing of the values that u could have is tracked; once it passes 2**-30, digits of
    (seed, sequence, step) are put below it. The first 23 bits are those of the code points, which 8 million sequences
    cannot exhaust. What is left of an error is 2**-30 a step, less than that of float32 logits.

    Cost: `length` passes at most over the sequences that go on, then O(V) a row: exponentials are summed by blocks of
    1,024 tokens and only the block of the code point is cumulated. O(V / 1,024) memory a row.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> drawn = ArithmeticSampling().generate(MarkovModel([[0.5, 0.5], [0.5, 0.5]]), [0], 3, length=1, seed=1)
    >>> drawn.details["codes"].round(2).tolist(), [tokens.tolist() for tokens in drawn.tokens]
    ([0.87, 0.12, 0.37], [[1], [0], [0]])
    """

    rule: Callable[[Floats], Floats] | None = None

    def __post_init__(self) -> None:
        checked_rule("ArithmeticSampling", self.rule)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64, seed: int = 0
    ) -> Generations:
        """Sequences of code points 1..n, in that order.

        Parameters
        ----------
        model : LanguageModel
            What is sampled from.
        prompt : sequence of int
            Tokens before the first that is drawn.
        n : int
            Sequences; at least 1.
        length : int
            Most tokens of a sequence.
        seed : int
            Gives the offset b and the digits beyond the code points'.

        Returns
        -------
        Generations
            `logprobs` are those of the law drawn from. `details["codes"]`: the code points, float64 (n,);
            `details["token_logprobs"]`: log-probabilities token by token, a tuple of float64 arrays.

        Raises
        ------
        ParameterError, UsageError
            For n or length below 1, a seed outside 0..2**64 - 1, an empty prompt, a token outside the vocabulary,
            logits with NaN or +inf.
        """
        from kofn.core.uniforms import child_seeds, uniforms

        checked_lengths(n, length)
        seed = checked_seed(seed)
        listed = prompt_for(model, prompt)
        logits, state = model.start([listed])
        codes = code_points(n, float(uniforms(child_seeds(seed, 0, 1), 0, _OFFSET)[0]))
        points = _Points(codes, child_seeds(seed, 0, n))
        record = Record(n, length, "token_logprobs")
        ended = np.fromiter(model.end, np.int64, len(model.end))
        going, source, passes, rows = np.arange(n), np.zeros(n, np.int64), 1, 1
        for step in range(length):
            tokens, gains = points.narrowed(logits if self.rule is None else self.rule(logits), source, going, step)
            record.append(going, tokens, gains)
            alive = ~np.isin(tokens, ended)
            record.finished[going] = ~alive
            going, tokens = going[alive], tokens[alive]
            if step + 1 == length or not len(going):
                break
            if step == 0 or not alive.all():
                state = model.select(state, source[alive])
            logits, state = model.next_logits(tokens, state)
            source = np.arange(len(going))
            passes, rows = passes + 1, rows + len(going)
        return record.generations(passes, rows, codes=codes)


def code_points(n: int, offset: float) -> Doubles:
    """i / (n + 1) + offset mod 1 for i = 1..n, float64 (n,)."""
    return (np.arange(1, n + 1) / (n + 1) + offset) % 1.0


class _Points:
    """Where each code point lies in the interval of the tokens so far, that interval stretched to [0, 1)."""

    def __init__(self, codes: Doubles, seeds: Seeds) -> None:
        self._points, self._seeds = codes.copy(), seeds
        self._spacing = np.full(len(codes), _SMALLEST)  # of the values that a point could have

    def narrowed(self, logits: Floats, source: Tokens, going: Tokens, step: int) -> tuple[Tokens, Doubles]:
        """Next tokens of the sequences `going`, and log-probabilities; the law of going[i] is that of logits[source[i]]."""
        self._add_digits(going, step)
        tokens, logprobs, self._points[going], widths = _refined(logits, source, self._points[going])
        self._spacing[going] /= widths
        return tokens, logprobs

    def _add_digits(self, going: Tokens, step: int) -> None:
        """Fresh digits of (seed, sequence, step) below those that are left, where these are few."""
        from kofn.core.uniforms import uniforms

        coarse = going[self._spacing[going] > _COARSEST]
        if len(coarse):
            fresh = uniforms(self._seeds[coarse], step, _DIGITS)
            self._points[coarse] = np.minimum(self._points[coarse] + self._spacing[coarse] * fresh, 1 - _SMALLEST)
            self._spacing[coarse] = _SMALLEST


def _refined(logits: Floats, source: Tokens, points: Doubles) -> tuple[Tokens, Doubles, Doubles, Doubles]:
    """For each code point its token in the law of logits[source], log-probability, new code point, and the width."""
    from kofn.decode.rules.rows import rows_of

    law = rows_of(logits)
    tokens = np.empty(len(points), np.int64)
    logprobs, after, widths = np.empty(len(points)), np.empty(len(points)), np.empty(len(points))
    known: dict[int, Doubles] = {}
    for i, (row, point) in enumerate(zip(source.tolist(), points.tolist(), strict=True)):
        if row not in known:
            known = {row: _cumulated(law.values[row], law.tops[row])}
        tokens[i], logprobs[i], after[i], widths[i] = _located(law.values[row], law.tops[row], known[row], point)
    return tokens, logprobs, after, widths


def _cumulated(x: Floats, top: float) -> Doubles:
    """Sums of exp(x - top) up to the end of each block."""
    from kofn.core.logits import block_sums

    sums = block_sums(x, top)
    sums[sums < _NOTHING] = 0.0
    return np.cumsum(sums)


def _located(x: Floats, top: float, ends: Doubles, point: float) -> tuple[int, float, float, float]:
    """Token whose interval holds the point: block first, then within it; both cut [0, 1) without gap or overlap."""
    from kofn.core.logits import BLOCK, place_of

    whole = float(ends[-1])
    block = place_of(ends, point)
    start = float(ends[block - 1]) if block else 0.0
    mass = float(ends[block]) - start
    begin = block * BLOCK
    within = np.cumsum(np.exp(x[begin : begin + BLOCK].astype(np.float64) - top))
    share = (point * whole - start) / mass
    place, inside = place_of(within, share), share * float(within[-1])
    low = float(within[place - 1]) if place else 0.0
    width = float(within[place]) - low
    refined = min(max((inside - low) / width, 0.0), 1 - _SMALLEST)
    token = begin + place
    return token, float(x[token]) - top - math.log(whole), refined, width / float(within[-1]) * mass / whole

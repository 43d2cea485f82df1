"""Stochastic beam search: n different sequences, drawn without replacement by perturbing their log-probabilities."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.core.logits import BLOCK, block_sums, place_of, top_of
from kofn.core.uniforms import child_seeds, uniform_rows
from kofn.decode.model import Generations, LanguageModel, Tokens, checked_lengths, checked_rule, checked_seed
from kofn.decode.sequences.search import Rule, Run

_NOTHING = 1e-20  # what is left of a row's mass, the largest at 1, when its scale is to be chosen anew


@dataclass(frozen=True, kw_only=True)
class StochasticBeam:
    """n sequences drawn from the law without replacement, in one beam search.

    If every sequence y got an independent Gumbel variable of location log p(y), the n largest would be a draw of n
    without replacement: the first with chance p(y), the next with chance p(y) among those that are left, and so on. The
    largest under a prefix is a Gumbel of location log p(prefix), so the tree is walked from its root and only the n + 1
    largest prefixes are kept: nothing that is dropped could have been among the n.

    The n + 1st largest, kappa, is a threshold. Given it, y is among the n with probability
    q(y) = 1 - exp(-exp(log p(y) - kappa)), so that E sum f(y) p(y) / q(y) = E_p f: `expectation` takes that sum, plain
    (unbiased) or divided by sum p / q (normalised; biased, consistent, of less variance as a rule).

    A prefix's chance comes from the seed and its own tokens. Hence the answer for n = 8 begins with that for n = 4.

    Kool, van Hoof, Welling, Stochastic beams and where to find them: the Gumbel-top-k trick for sampling sequences
    without replacement (2019). A beam's children are perturbed from the largest down, each a Gumbel of what probability
    is left truncated at the one before (Maddison, Tarlow, Minka, A* sampling, 2014): the same joint law as one Gumbel a
    token truncated at their maximum, for two uniforms a child that is taken instead of one a token of the vocabulary.

    Needs: a language model. Random: yes. Cost: a pass of at most n + 1 sequences for each token, one float32 scan of
    their logits, and O(V / 1024 + 1024) for each sequence kept.

    Parameters
    ----------
    rule : callable, optional
        logits (B, V) -> logits (B, V), those of cut tokens at -inf; the law is the softmax of what it answers.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> answer = StochasticBeam().generate(MarkovModel([[0.5, 0.5], [0.25, 0.75]]), [0], 4, length=2)
    >>> sorted(each.tolist() for each in answer.tokens)
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """

    rule: Rule | None = None

    def __post_init__(self) -> None:
        checked_rule("StochasticBeam", self.rule)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64, seed: int = 0
    ) -> Generations:
        """n different sequences in the order of their draw; fewer where the law has fewer.

        Parameters
        ----------
        model : LanguageModel
        prompt : sequence of int
            At least one token.
        n : int
            Sequences wanted.
        length : int
            The most tokens that a sequence gets.
        seed : int

        Returns
        -------
        Generations
            `inclusion`: q, the probability of being among the n given kappa; 1 where all sequences were found.
            `details`: "log_inclusion" (n,); "gumbels" float64 (n,), the perturbed log-probabilities; "kappa", the
            threshold below them (-inf where all sequences were found).

        Raises
        ------
        ParameterError, UsageError
            For n, length or seed out of range, and for a prompt that is empty or outside the vocabulary.
        """
        checked_lengths(n, length)
        seed = checked_seed(seed)
        run = Run(model, prompt, self.rule)
        beams = [_root(seed)]
        for step in range(1, length + 1):
            beams = _largest(run, beams, n + 1, model.end)
            live = [beam for beam in beams if not beam.ended]
            if step == length or not live:
                break
            tokens = np.array([beam.tokens[-1] for beam in live], np.int64)
            run.advance(np.array([beam.row for beam in live], np.int64), tokens)
            rows = iter(range(len(live)))
            beams = [beam if beam.ended else replace(beam, row=next(rows)) for beam in beams]
        return _answer(beams, n, run)


@dataclass(frozen=True, eq=False)
class _Prefix:
    """A beam: its tokens, log-probability, perturbed log-probability, own seed and row of the model's batch."""

    tokens: tuple[int, ...]
    logprob: float
    gumbel: float
    seed: int
    row: int
    ended: bool = False


def _root(seed: int) -> _Prefix:
    """The empty prefix; its Gumbel has location log 1."""
    own = child_seeds(seed, 0, 1)
    return _Prefix((), 0.0, -math.log(-math.log(uniform_rows(own, 0, 1)[0, 0])), int(own[0]), 0)


def _largest(run: Run, beams: list[_Prefix], count: int, end: frozenset[int]) -> list[_Prefix]:
    """The `count` children of largest Gumbel, largest first; a beam that has ended is its own only child."""
    children = dict[int, _Children]()
    # a beam's Gumbel is that of its largest child
    heap = [(-beam.gumbel, place) for place, beam in enumerate(beams)]
    heapq.heapify(heap)
    chosen = list[_Prefix]()
    while heap and len(chosen) < count:
        negative, place = heapq.heappop(heap)
        beam = beams[place]
        if beam.ended:
            chosen.append(beam)
            continue
        if place not in children:
            children[place] = _Children(run, beam)
        token, logprob = children[place].draw()
        own = int(child_seeds(beam.seed, token, token + 1)[0])
        path = (*beam.tokens, token)
        chosen.append(_Prefix(path, beam.logprob + logprob, -negative, own, beam.row, token in end))
        gumbel = children[place].next_gumbel(-negative)
        if gumbel is not None:
            heapq.heappush(heap, (-gumbel, place))
    return chosen


class _Children:
    """A beam's children from the one of largest Gumbel down: draws without replacement from a row of logits."""

    def __init__(self, run: Run, beam: _Prefix) -> None:
        self._x: Floats = run.logits[beam.row]
        self._normalizer = float(run.normalizers[beam.row])
        self._logprob = beam.logprob
        self._seed = np.array([beam.seed], np.uint64)
        self._taken = list[int]()
        self._scale(self._x)

    def _scale(self, x: Floats) -> None:
        """Exponentials relative to the largest of x, added by blocks."""
        self._top = top_of(x)
        self._sums = block_sums(x, self._top) if self._top > -math.inf else np.zeros(1)
        self._left = float(self._sums.sum())

    def draw(self) -> tuple[int, float]:
        """A token, with its probability among those not taken yet, and its log-probability under the full law."""
        u = uniform_rows(self._seed, len(self._taken) + 1, 3)[0]
        block = place_of(np.cumsum(self._sums), u[0])
        weights = self._weights(block)
        token = block * BLOCK + place_of(np.cumsum(weights), u[1])
        self._take(token, block, weights)
        return token, float(self._x[token]) - self._normalizer

    def next_gumbel(self, bound: float) -> float | None:
        """Gumbel of the best child that is left: of location log(what is left), below `bound`; None where none is left."""
        if not self._left > 0:
            return None
        u = uniform_rows(self._seed, len(self._taken), 3)[0, 2]
        location = self._logprob + self._top + math.log(self._left) - self._normalizer
        # -log(exp(-bound) + E exp(-location)), E exponential: F(g) / F(bound) is uniform for F the Gumbel's law
        return -float(np.logaddexp(-bound, math.log(-math.log(u)) - location))

    def _weights(self, block: int) -> Doubles:
        """Exponentials of a block's tokens, those taken at 0."""
        start = block * BLOCK
        with np.errstate(over="ignore"):  # of tokens taken, which may be far above what is left
            weights = np.exp(self._x[start : start + BLOCK].astype(np.float64) - self._top)
        weights[[token - start for token in self._taken if start <= token < start + BLOCK]] = 0.0
        return weights

    def _take(self, token: int, block: int, weights: Doubles) -> None:
        self._taken.append(token)
        weights[token - block * BLOCK] = 0.0
        self._sums[block] = weights.sum()  # added anew: a difference would lose what is small
        self._left = float(self._sums.sum())
        if self._left < _NOTHING:
            rest = self._x.copy()
            rest[self._taken] = -np.inf
            self._scale(rest)


def _answer(beams: list[_Prefix], n: int, run: Run) -> Generations:
    kappa = beams[n].gumbel if len(beams) > n else -math.inf
    chosen = beams[:n]
    logprobs = np.array([beam.logprob for beam in chosen])
    log_inclusion = _log_inclusion(logprobs - kappa)
    return Generations(
        tokens=tuple(np.array(beam.tokens, np.int64) for beam in chosen),
        logprobs=logprobs,
        finished=np.array([beam.ended for beam in chosen], np.bool_),
        passes=run.passes,
        rows=run.rows,
        inclusion=np.exp(log_inclusion),
        details={"log_inclusion": log_inclusion, "gumbels": np.array([beam.gumbel for beam in chosen]), "kappa": kappa},
    )


def _log_inclusion(excess: Doubles) -> Doubles:
    """log(1 - exp(-exp(excess))); below -36 it is `excess` to the last digit."""
    with np.errstate(over="ignore"):
        return np.where(excess < -36.0, excess, np.log(-np.expm1(-np.exp(np.maximum(excess, -36.0)))))

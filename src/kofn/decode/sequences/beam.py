"""Beam search: the width best prefixes of every length, and the n best sequences among those they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kofn.decode.model import Generations, LanguageModel, Tokens, checked_lengths, checked_rule
from kofn.decode.sequences.search import (
    Beams,
    Hypothesis,
    Rule,
    Run,
    best_candidates,
    checked_count,
    checked_number,
    checked_width,
    generations,
    split_ended,
)


@dataclass(frozen=True, kw_only=True)
class Beam:
    """Beam search: at each length keep the `width` most probable prefixes; answer with the n best sequences they led to.

    A sequence is scored by log p / length ** length_penalty, where the length counts its emitted tokens, the end token
    among them: the plain power that transformers and fairseq use (not the (5 + length) / 6 of Wu et al., 2016). At 0,
    the default, sequences are compared by probability, which favours short ones; at 1 by their mean log-probability.

    A beam that ends is put aside if it is among the `width` best candidates of its step; the `width` best of the others
    live on. The search stops before `length` only when no live beam can come to beat the n-th sequence put aside: a log
    probability never rises, so log p / (the longest length) ** penalty bounds what a beam can reach. Sequences of full
    length compete with those that ended.

    With width >= V ** length it is exhaustive; with width 1 it is greedy search. Otherwise nothing is promised: the best
    sequence may begin with a prefix that was not kept. Ties go to the lower beam, then to the lower token.

    Lowerre, The Harpy speech recognition system (1976); Freitag, Al-Onaizan, Beam search strategies for neural machine
    translation (2017).

    Needs: a language model. Random: no. Cost: a pass of at most `width` sequences for each token, and two float32 scans
    of their logits.

    Parameters
    ----------
    width : int, optional
        Prefixes kept at each length; n where it is left out.
    length_penalty : float
        Power of the length that log-probabilities are divided by, from -10 to 10; above 0 favours long sequences.
    rule : callable, optional
        logits (B, V) -> logits (B, V), those of cut tokens at -inf; the law is the softmax of what it answers.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> model = MarkovModel([[0.0, 0.6, 0.4], [0.3, 0.4, 0.3], [0.0, 1.0, 0.0]])
    >>> [Beam(width=width).generate(model, [0], length=2).tokens[0].tolist() for width in (1, 2)]
    [[1, 1], [2, 1]]
    """

    width: int | None = None
    length_penalty: float = 0.0
    rule: Rule | None = None

    def __post_init__(self) -> None:
        checked_rule("Beam", self.rule)
        checked_count("width", self.width)
        checked_number("length_penalty", self.length_penalty, -10.0, 10.0)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64
    ) -> Generations:
        """The n best sequences found, best first; fewer where the law has fewer.

        Parameters
        ----------
        model : LanguageModel
        prompt : sequence of int
            At least one token.
        n : int
            Sequences wanted, at most `width`.
        length : int
            The most tokens that a sequence gets.

        Returns
        -------
        Generations
            `details["scores"]`: float64 (n,), what they were ranked by.

        Raises
        ------
        ParameterError, UsageError
            For n, length or width out of range, and for a prompt that is empty or outside the vocabulary.
        """
        checked_lengths(n, length)
        width = checked_width(self.width, n)
        run = Run(model, prompt, self.rule)
        beams, aside = Beams.root(), list[Hypothesis]()
        for step in range(1, length + 1):
            count = width * (1 + len(model.end))
            chosen = best_candidates(run.logits, beams.scores - run.normalizers, count)
            beams = beams.extended(chosen, chosen.scores)
            ended, living = split_ended(beams, model.end, width)
            aside = self._best(n, aside, beams.take(ended), finished=True)
            beams, chosen = beams.take(living), chosen.take(living)
            if step == length or not self._may_improve(n, aside, beams, step, length):
                break
            run.advance(chosen.beams, chosen.tokens)
        if step == length:
            aside = self._best(n, aside, beams, finished=False)
        return generations(aside, run, scores=np.array([each.score for each in aside]))

    def _best(self, n: int, aside: list[Hypothesis], beams: Beams, finished: bool) -> list[Hypothesis]:
        """The n best of those put aside and of new ones; those found first go first among equals."""
        power = self.length_penalty
        new = [
            Hypothesis(path, float(logprob), float(logprob) / len(path) ** power, finished)
            for path, logprob in zip(beams.paths, beams.logprobs, strict=True)
        ]
        return sorted(aside + new, key=lambda each: -each.score)[:n]

    def _may_improve(self, n: int, aside: list[Hypothesis], beams: Beams, step: int, length: int) -> bool:
        """Whether a live beam may yet come among the n best: its log-probability can only fall."""
        if not len(beams) or len(aside) < n:
            return len(beams) > 0
        # dividing a negative number by the largest power brings it nearest to 0
        divisor = max(float(step + 1) ** self.length_penalty, float(length) ** self.length_penalty)
        return bool(beams.logprobs.max() / divisor > aside[-1].score)

"""Diverse beam search: groups of beams, each kept from the tokens that the groups before it have just chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles
from kofn.decode.model import Generations, LanguageModel, Tokens, checked_lengths, checked_rule
from kofn.decode.sequences.search import (
    Beams,
    Candidates,
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
from kofn.errors import ParameterError


@dataclass(frozen=True, eq=False)
class _Group:
    """A beam search of its own: the rows of the model's batch that are its beams, and what it has put aside."""

    beams: Beams
    rows: NDArray[np.int64]
    aside: tuple[Hypothesis, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DiverseBeam:
    """Diverse beam search with the Hamming penalty: the beams are cut into groups that search one after another.

    At each step the groups choose in turn, each the best width / groups of its candidates by

        sum over steps of  log p(token) - diversity * (beams of earlier groups whose choice at this step is this token)

    so later groups are pushed away from earlier ones; the first group is plain beam search of width / groups. The
    penalties count in the ranking only: `logprobs` are the model's. With diversity 0 every group finds the same, and
    with one group it is `Beam`, token for token.

    Vijayakumar, Cogswell, Selvaraju, Sun, Lee, Crandall, Batra, Diverse beam search: decoding diverse solutions from
    neural sequence models (2016). As in the authors' code, penalties add up over the steps of a path.

    Needs: a language model. Random: no. Cost: a pass of at most `width` sequences for each token, all groups in one
    batch, and two float32 scans of their logits.

    Parameters
    ----------
    groups : int, optional
        How many groups; divides the width. As many as there are beams where it is left out, which the paper found to
        explore most.
    diversity : float
        lambda >= 0, in nats a collision. The paper's experiments use 0.2 to 0.8.
    width : int, optional
        Beams in all; n where it is left out.
    rule : callable, optional
        logits (B, V) -> logits (B, V), those of cut tokens at -inf; the law is the softmax of what it answers.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> model = MarkovModel([[0.0, 0.8, 0.2], [0.0, 0.9, 0.1], [0.5, 0.3, 0.2]])
    >>> answer = DiverseBeam(diversity=2.0).generate(model, [0], 2, length=3)
    >>> [each.tolist() for each in answer.tokens]
    [[1, 1, 1], [2, 0, 2]]
    """

    groups: int | None = None
    diversity: float = 0.5
    width: int | None = None
    rule: Rule | None = None

    def __post_init__(self) -> None:
        checked_rule("DiverseBeam", self.rule)
        checked_count("groups", self.groups)
        checked_count("width", self.width)
        checked_number("diversity", self.diversity, 0.0, 1e6)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64
    ) -> Generations:
        """n sequences by falling log-probability: of each group in turn its best, then of each its second, until n.

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
            `details["groups"]`: int64 (n,), the group that found each; `details["scores"]`: float64 (n,), log-probability
            less penalties. Two groups may find the same sequence.

        Raises
        ------
        ParameterError, UsageError
            For n, length, width or groups out of range, and for a prompt that is empty or outside the vocabulary.
        """
        checked_lengths(n, length)
        width = checked_width(self.width, n)
        count = self._checked_groups(width)
        run = Run(model, prompt, self.rule)
        groups = [_Group(Beams.root(), np.zeros(1, np.int64))] * count
        for step in range(1, length + 1):
            groups, parents = self._step(run, groups, width // count, model.end, last=step == length)
            if not len(parents):
                break
            run.advance(parents, np.array([path[-1] for group in groups for path in group.beams.paths], np.int64))
        return _answer(groups, n, run)

    def _checked_groups(self, width: int) -> int:
        groups = width if self.groups is None else self.groups
        if width % groups:
            raise ParameterError(
                f"width={width} is not a multiple of groups={groups}; give a width that each group has an equal part of"
            )
        return groups

    def _step(
        self, run: Run, groups: list[_Group], each: int, end: frozenset[int], last: bool
    ) -> tuple[list[_Group], NDArray[np.int64]]:
        """Every group's choice in turn; and the batch rows that the live beams of all of them continue."""
        after, parents, taken = list[_Group](), list[NDArray[np.int64]](), np.zeros(0, np.int64)
        for group in groups:
            if not len(group.beams):
                after.append(group)
                continue
            chosen, logprobs = self._ranked(run, group, taken, each * (1 + len(end)))
            beams = group.beams.extended(chosen, logprobs)
            ended, living = split_ended(beams, end, each)
            taken = np.concatenate([taken, chosen.tokens[:each]])
            aside = _merged(group.aside, beams.take(ended), each, finished=True)
            beams, rows = beams.take(living), group.rows[chosen.beams[living]]
            if last:
                aside = _merged(aside, beams, each, finished=False)
            # penalties are not negative, so scores can only fall
            if last or (len(aside) == each and len(beams) and beams.scores[0] <= aside[-1].score):
                beams, rows = beams.take(rows[:0]), rows[:0]
            after.append(_Group(beams, _places(parents, len(rows)), aside))
            parents.append(rows)
        return after, np.concatenate(parents) if parents else np.zeros(0, np.int64)

    def _ranked(self, run: Run, group: _Group, taken: NDArray[np.int64], count: int) -> tuple[Candidates, Doubles]:
        """The `count` best candidates of a group by penalised score, and their log-probabilities."""
        logits = run.logits[group.rows[0] : group.rows[-1] + 1]  # a group's rows follow one another: no copy
        tokens, times = np.unique(taken, return_counts=True)
        # a penalty only lowers: the best after it are among as many more before it as there are penalised candidates
        found = best_candidates(
            logits, group.beams.scores - run.normalizers[group.rows], count + len(tokens) * len(logits)
        )
        penalty = np.zeros(len(found))
        if len(tokens):
            place = np.minimum(np.searchsorted(tokens, found.tokens), len(tokens) - 1)
            penalty = np.where(tokens[place] == found.tokens, self.diversity * times[place], 0.0)
        scores = found.scores - penalty
        order = np.lexsort((found.tokens, found.beams, -scores))[:count]
        chosen = Candidates(found.beams[order], found.tokens[order], scores[order])
        return chosen, group.beams.logprobs[chosen.beams] + run.log_probability(group.rows[chosen.beams], chosen.tokens)


def _places(before: list[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """Batch rows of the next `count` beams."""
    start = sum(len(rows) for rows in before)
    return np.arange(start, start + count)


def _merged(aside: tuple[Hypothesis, ...], beams: Beams, most: int, finished: bool) -> tuple[Hypothesis, ...]:
    """The best of those put aside and of new ones; those found first go first among equals."""
    new = [
        Hypothesis(path, float(logprob), float(score), finished)
        for path, logprob, score in zip(beams.paths, beams.logprobs, beams.scores, strict=True)
    ]
    return tuple(sorted([*aside, *new], key=lambda each: -each.score)[:most])


def _answer(groups: list[_Group], n: int, run: Run) -> Generations:
    """Of each group its best, then of each its second, until there are n; by falling log-probability."""
    most = max(len(group.aside) for group in groups)
    turns = [(place, group) for rank in range(most) for place, group in _of_rank(groups, rank)][:n]
    turns.sort(key=lambda turn: -turn[1].logprob)
    chosen = [hypothesis for _, hypothesis in turns]
    scores = np.array([each.score for each in chosen])
    return generations(chosen, run, groups=np.array([place for place, _ in turns], np.int64), scores=scores)


def _of_rank(groups: list[_Group], rank: int) -> list[tuple[int, Hypothesis]]:
    """Each group's number and its hypothesis of that rank, where it has one."""
    return [(place, group.aside[rank]) for place, group in enumerate(groups) if rank < len(group.aside)]

"""Choosing among answers without a score: votes, verified votes, and scrutiny by repeated verification."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kofn.decode.answers.laws import Doubles, Integers, finite, positive, whole
from kofn.errors import DataError, ParameterError

Normalize = Callable[[Any], Hashable]


@dataclass(frozen=True, eq=False)
class Vote:
    """The outcome of a vote.

    Attributes
    ----------
    answer : object
        The winner, normalised.
    index : int
        The first answer that voted for it.
    share : float
        Its part of all weight that voted.
    tally : dict
        Weight by normalised answer, in the order in which answers were first seen.
    """

    answer: Any
    index: int
    share: float
    tally: dict[Any, float]


@dataclass(frozen=True, eq=False)
class VerifiedVote:
    """A vote among the answers that passed.

    Attributes
    ----------
    vote : Vote
        Its `index` counts among all answers.
    passed : int64 (m,)
        Indices of the answers that the verifier let pass.
    fell_back : bool
        True when none passed, so that all of them voted.
    """

    vote: Vote
    passed: Integers
    fell_back: bool


@dataclass(frozen=True, eq=False)
class Scrutinized:
    """What scrutiny chose, and on what grounds.

    Attributes
    ----------
    answer : object
        The answer chosen.
    index : int
        Its place.
    scores : float64 (n,)
        Share of verifications that each answer passed.
    finalists : int64 (m,)
        Answers within the margin of the best score, in order of index.
    wins : int64 (m,)
        Comparisons of pairs that each finalist won; zeros for a single finalist.
    """

    answer: Any
    index: int
    scores: Doubles
    finalists: Integers
    wins: Integers


def majority_vote(answers: Sequence[Any], *, normalize: Normalize | None = None) -> Vote:
    """The most frequent answer (self-consistency); ties go to the answer that was seen first.

    Parameters
    ----------
    answers : sequence of n objects
        Hashable once normalised: numbers, texts, tuples; give normalize=tuple for lists of them.
    normalize : callable, optional
        Turns an answer into what is compared, such as the number at the end of a text. What becomes None abstains.

    Raises
    ------
    DataError
        When there are no answers, all abstain, or one is not hashable.

    Notes
    -----
    Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models", 2022.

    Examples
    --------
    >>> majority_vote(["4", " 4", "5", "7"], normalize=str.strip).tally
    {'4': 2.0, '5': 1.0, '7': 1.0}
    """
    return weighted_vote(answers, np.ones(max(len(answers), 1)), normalize=normalize)


def weighted_vote(answers: Sequence[Any], weights: ArrayLike, *, normalize: Normalize | None = None) -> Vote:
    """The answer of most weight; ties go to the answer that was seen first.

    Parameters
    ----------
    answers : sequence of n objects
    weights : (n,)
        At least 0, not all 0: probabilities, rewards, a verifier's scores.
    normalize : callable, optional
        See `majority_vote`.
    """
    if len(answers) == 0:
        raise DataError("there are no answers to vote; give at least one")
    values = finite(weights, "weights")
    if len(values) != len(answers):
        raise DataError(f"{len(answers)} answers and {len(values)} weights; give one weight an answer")
    if (values < 0).any():
        at = int(np.flatnonzero(values < 0)[0])
        raise DataError(f"weights[{at}]={values[at]:g} is negative; weights are at least 0")
    ballots: dict[Any, list[float]] = {}
    first: dict[Any, int] = {}
    for index, (answer, value) in enumerate(zip(answers, values.tolist())):
        ballot = answer if normalize is None else normalize(answer)
        if ballot is not None:
            _check_ballot(ballot, normalize)
            first.setdefault(ballot, index)
            ballots.setdefault(ballot, []).append(value)
    # A sum that does not depend on the order of voting: 0.1 + 0.2 + 0.3 ties with 0.3 + 0.2 + 0.1.
    tally = {ballot: fsum(each) for ballot, each in ballots.items()}
    total = fsum(list(tally.values()))
    if total == 0:
        what = "all answers abstain" if not tally else "all weights are 0"
        raise DataError(f"{what}, so nothing can be chosen; give an answer with a weight above 0")
    winner = max(tally, key=lambda ballot: tally[ballot])  # max keeps the first of equals, dict the order seen
    return Vote(answer=winner, index=first[winner], share=tally[winner] / total, tally=tally)


def _check_ballot(ballot: Any, normalize: Normalize | None) -> None:
    """Equal answers are found by their hash, which lists, dictionaries, sets and arrays do not have."""
    try:
        hash(ballot)
    except TypeError as error:
        kind, shown = type(ballot).__name__, repr(ballot)[:40]
        whose = "an answer is" if normalize is None else "normalize made of an answer"
        raise DataError(
            f"{whose} the {kind} {shown}, which cannot be counted; give normalize=tuple for rows of numbers or texts, "
            "normalize=repr for anything nested"
        ) from error


def sample_and_verify(
    answers: Sequence[Any],
    verifier: Callable[[Any], bool],
    *,
    weights: ArrayLike | None = None,
    normalize: Normalize | None = None,
) -> VerifiedVote:
    """Vote among the answers that a verifier lets pass; when none passes, among all, and say so.

    Parameters
    ----------
    answers : sequence of n objects
    verifier : callable
        Is shown each answer once, in order; true keeps it.
    weights : (n,), optional
        See `weighted_vote`.
    normalize : callable, optional
        See `majority_vote`.
    """
    values = np.ones(max(len(answers), 1)) if weights is None else finite(weights, "weights")
    if weights is not None and len(values) != len(answers):
        raise DataError(f"{len(answers)} answers and {len(values)} weights; give one weight an answer")
    passed = np.array([index for index, answer in enumerate(answers) if verifier(answer)], np.int64)
    voters = passed if len(passed) else np.arange(len(answers))
    vote = weighted_vote([answers[at] for at in voters], values[voters] if len(voters) else values, normalize=normalize)
    placed = Vote(answer=vote.answer, index=int(voters[vote.index]), share=vote.share, tally=vote.tally)
    return VerifiedVote(vote=placed, passed=passed, fell_back=len(passed) == 0)


@dataclass(frozen=True, kw_only=True)
class SampleScrutinize:
    """Verify each answer many times; let those near the best score meet in pairs; return the winner of most pairs.

    Parameters
    ----------
    verifications : int
        How often each answer is verified; the paper asks 50 times.
    margin : float
        Answers whose score is within this of the best are finalists; the paper's 0.05.
    comparisons : int
        How often each pair of finalists is compared; the paper asks 100 times.

    Notes
    -----
    Zhao, Awasthi and Gollapudi, "Sample, Scrutinize and Scale: Effective Inference-Time Search by Scaling
    Verification", 2025. What the paper leaves open is decided so: a pair that ends even is a win for neither, and
    finalists with equally many wins go by their score, then by the lowest index.
    """

    verifications: int = 50
    margin: float = 0.05
    comparisons: int = 100

    def __post_init__(self) -> None:
        whole(self.verifications, "verifications")
        whole(self.comparisons, "comparisons")
        if positive(self.margin, "margin", zero=True) > 1:
            raise ParameterError(
                f"margin={self.margin!r} is above 1; scores lie between 0 and 1, give for example 0.05"
            )

    def choose(
        self, answers: Sequence[Any], verifier: Callable[[Any, int], float], compare: Callable[[Any, Any, int], bool]
    ) -> Scrutinized:
        """Choose one answer. n * verifications calls of `verifier`, comparisons for each pair of finalists.

        Parameters
        ----------
        answers : sequence of n objects
        verifier : callable
            `verifier(answer, repetition)`: a judgement from 0 (or False) to 1 (or True).
        compare : callable
            `compare(first, second, repetition)`: true when the first is the better one. Called for first before
            second in the order of `answers`.
        """
        if len(answers) == 0:
            raise DataError("there are no answers to scrutinise; give at least one")
        rounds = range(self.verifications)
        judged = np.array([[float(verifier(answer, again)) for again in rounds] for answer in answers])
        if not ((judged >= 0) & (judged <= 1)).all():
            at = int(np.argwhere(~((judged >= 0) & (judged <= 1)))[0, 0])
            raise DataError(f"the verifier judged answer {at} outside 0 to 1; return False, True or a share")
        scores = judged.mean(axis=1)
        # 0.8 - 0.1 is above 0.7 in floating point: 1e-9 keeps 7 of 10 within 0.1 of 8 of 10.
        finalists = np.flatnonzero(scores >= scores.max() - self.margin - 1e-9)
        wins = np.zeros(len(finalists), np.int64)
        for one, other in combinations(range(len(finalists)), 2):
            pair = answers[finalists[one]], answers[finalists[other]]
            lead = sum(1 if compare(*pair, again) else -1 for again in range(self.comparisons))
            wins[one] += lead > 0
            wins[other] += lead < 0
        winner = int(finalists[np.lexsort((finalists, -scores[finalists], -wins))[0]])
        return Scrutinized(answer=answers[winner], index=winner, scores=scores, finalists=finalists, wins=wins)

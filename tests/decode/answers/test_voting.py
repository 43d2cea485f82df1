import numpy as np
import pytest
from scipy.stats import binom

from kofn.decode.answers import SampleScrutinize, majority_vote, sample_and_verify, weighted_vote
from kofn.errors import DataError, ParameterError


def test_the_most_frequent_answer_wins_and_ties_go_to_the_first_seen():
    vote = majority_vote(["b", "a", "a", "b", "c"])
    assert (vote.answer, vote.index, vote.share) == ("b", 0, 0.4)
    assert list(vote.tally) == ["b", "a", "c"]


def test_answers_are_compared_as_normalised_and_none_abstains():
    def number(text):
        digits = "".join(each for each in text if each.isdigit())
        return int(digits) if digits else None

    vote = majority_vote(["no idea", "7", "it is 8.", " 8 ", "none"], normalize=number)
    assert (vote.answer, vote.index) == (8, 2)
    assert vote.share == pytest.approx(2 / 3)


def test_weights_decide_against_the_count():
    vote = weighted_vote(["a", "a", "b"], [0.2, 0.2, 0.5])
    assert (vote.answer, vote.index) == ("b", 2)
    assert vote.share == pytest.approx(5 / 9)


def test_a_tie_of_weights_does_not_depend_on_the_order_of_summing():
    assert weighted_vote(["a", "b", "a", "b", "a", "b"], [0.1, 0.3, 0.2, 0.2, 0.3, 0.1]).answer == "a"
    assert weighted_vote(["b", "a", "b", "a", "b", "a"], [0.3, 0.1, 0.2, 0.2, 0.1, 0.3]).answer == "b"


def test_majority_is_the_weighted_vote_with_equal_weights():
    answers = np.random.default_rng(0).integers(5, size=40).tolist()
    counted, weighed = majority_vote(answers), weighted_vote(answers, np.full(40, 0.25))
    assert (counted.answer, counted.index, counted.share) == (weighed.answer, weighed.index, weighed.share)


def test_only_answers_that_pass_vote():
    found = sample_and_verify([9, 9, 9, 4, 6, 4], lambda x: x % 2 == 0)
    assert (found.vote.answer, found.vote.index, found.fell_back) == (4, 3, False)
    assert found.passed.tolist() == [3, 4, 5]
    weighed = sample_and_verify([9, 4, 6, 4], lambda x: x % 2 == 0, weights=[1, 1, 5, 1])
    assert weighed.vote.answer == 6


def test_when_none_passes_all_vote_and_it_is_said():
    found = sample_and_verify([9, 7, 7], lambda x: False)
    assert (found.vote.answer, found.vote.index, found.fell_back, len(found.passed)) == (7, 1, True, 0)


@pytest.mark.parametrize("call", [majority_vote, lambda none: sample_and_verify(none, bool)])
def test_no_answers_is_an_error(call):
    with pytest.raises(DataError, match="no answers"):
        call([])


def test_votes_that_cannot_be_counted_are_named():
    with pytest.raises(DataError, match="all answers abstain"):
        majority_vote(["x"], normalize=lambda text: None)
    with pytest.raises(DataError, match="all weights are 0"):
        weighted_vote(["x", "y"], [0, 0])
    with pytest.raises(DataError, match=r"weights\[1\]=-1"):
        weighted_vote(["x", "y"], [1, -1])
    with pytest.raises(DataError, match="2 answers and 3 weights"):
        sample_and_verify(["x", "y"], bool, weights=[1, 1, 1])


def test_answers_that_cannot_be_counted_say_how_they_can():
    with pytest.raises(DataError, match=r"the list \[1\], .* give normalize=tuple"):
        majority_vote([[1], [1]])
    assert majority_vote([[1], [2], [2]], normalize=tuple).answer == (2,)
    with pytest.raises(DataError, match=r"normalize made of an answer the tuple \(\[1\],\), .* normalize=repr"):
        weighted_vote([[[1]]], [1.0], normalize=tuple)
    assert weighted_vote([[[1]]], [1.0], normalize=repr).answer == "[[1]]"
    with pytest.raises(DataError, match="the ndarray"):
        sample_and_verify(np.eye(2), lambda answer: True)


class Judge:
    """A verifier of known true- and false-positive rate, and a comparer of known skill, over answers (right, number)."""

    def __init__(self, tpr, fpr, skill, seed):
        self.rates, self.skill, self.rng = {True: tpr, False: fpr}, skill, np.random.default_rng(seed)

    def verify(self, answer, repetition):
        return self.rng.random() < self.rates[answer[0]]

    def compare(self, first, second, repetition):
        if first[0] == second[0]:
            return self.rng.random() < 0.5
        return (self.rng.random() < self.skill) == first[0]


def accuracy(n, method, right, tpr, fpr, skill, questions, seed=0):
    """Share of questions whose chosen answer is right, and of those whose majority is; wrong answers are all alike."""
    rng, judge = np.random.default_rng(seed), Judge(tpr, fpr, skill, seed + 1)
    chosen, majority = 0, 0
    for _ in range(questions):
        answers = [(bool(rng.random() < right), number) for number in range(n)]
        chosen += method.choose(answers, judge.verify, judge.compare).answer[0]
        majority += majority_vote(answers, normalize=lambda answer: answer[0]).answer
    return chosen / questions, majority / questions


def closed_form_of_two(method, right, tpr, fpr, skill):
    """Accuracy with two answers: both right, or one right that leads by more than the margin or wins the comparison."""
    v, m = method.verifications, method.comparisons
    lead = np.arange(v + 1)[:, None] - np.arange(v + 1)[None, :]  # right answer's passes less the wrong one's
    joint = np.outer(binom.pmf(np.arange(v + 1), v, tpr), binom.pmf(np.arange(v + 1), v, fpr))
    near = np.abs(lead) <= method.margin * v + 1e-9
    outright = joint[(lead > 0) & ~near].sum()
    wins, evens = binom.sf(m // 2, m, skill), binom.pmf(m / 2, m, skill) if m % 2 == 0 else 0.0
    even_by_score = joint[near & (lead > 0)].sum() + 0.5 * joint[lead == 0].sum()  # index: right is first half the time
    return right**2 + 2 * right * (1 - right) * (outright + joint[near].sum() * wins + evens * even_by_score)


@pytest.mark.parametrize(
    "method",
    [
        SampleScrutinize(verifications=10, margin=0.1, comparisons=5),
        SampleScrutinize(verifications=3, margin=0.34, comparisons=4),
        SampleScrutinize(verifications=1, margin=0.0, comparisons=1),
    ],
)
def test_two_answers_match_the_closed_form(method):
    rates = {"right": 0.4, "tpr": 0.7, "fpr": 0.5, "skill": 0.65}
    questions = 6000
    found, _ = accuracy(2, method, questions=questions, **rates)
    expected = closed_form_of_two(method, **rates)
    assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / questions)


def test_accuracy_rises_with_answers_and_with_verifications_and_beats_a_majority_that_is_wrong():
    rates = {"right": 0.25, "tpr": 0.8, "fpr": 0.4, "skill": 0.8, "questions": 400}
    method = SampleScrutinize(verifications=30, margin=0.05, comparisons=9)
    by_answers = [accuracy(n, method, **rates) for n in (1, 3, 9, 20)]
    assert all(np.diff([found for found, _ in by_answers]) > 0.05)
    assert by_answers[-1][0] > 0.9
    assert by_answers[-1][1] < 0.1
    rates["skill"] = 0.55
    few = [SampleScrutinize(verifications=v, margin=0.05, comparisons=1) for v in (1, 6, 40)]
    by_rounds = [accuracy(9, method, **rates)[0] for method in few]
    assert all(np.diff(by_rounds) > 0.05)


def test_a_finalist_is_within_the_margin_and_pairs_decide_against_the_score():
    passes = {"a": 20, "b": 19, "c": 18}
    order = []

    def compare(first, second, repetition):
        order.append((first, second))
        return first == "b"

    found = SampleScrutinize(verifications=20, margin=0.05, comparisons=3).choose(
        ["a", "b", "c"], lambda answer, repetition: repetition < passes[answer], compare
    )
    assert found.finalists.tolist() == [0, 1]
    assert (found.answer, found.index, found.wins.tolist()) == ("b", 1, [0, 1])
    assert order == [("a", "b")] * 3
    np.testing.assert_allclose(found.scores, [1.0, 0.95, 0.9])


def test_seven_of_ten_is_within_a_tenth_of_eight_of_ten():
    passes = {"a": 8, "b": 7, "c": 6}
    method = SampleScrutinize(verifications=10, margin=0.1, comparisons=1)
    found = method.choose(["a", "b", "c"], lambda answer, again: again < passes[answer], lambda *pair: False)
    assert (found.finalists.tolist(), found.answer) == ([0, 1], "b")


def test_even_pairs_go_by_score_and_then_by_the_lowest_index():
    method = SampleScrutinize(verifications=20, margin=0.1, comparisons=2)
    passes = {"a": 18, "b": 19, "c": 19}

    def even(first, second, repetition):
        return repetition == 0

    found = method.choose(["a", "b", "c"], lambda answer, repetition: repetition < passes[answer], even)
    assert (found.answer, found.wins.tolist()) == ("b", [0, 0, 0])


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ParameterError, match="margin=2"):
        SampleScrutinize(margin=2)
    with pytest.raises(ParameterError, match="verifications=0"):
        SampleScrutinize(verifications=0)
    with pytest.raises(DataError, match="answer 1 outside 0 to 1"):
        SampleScrutinize(verifications=1).choose([0, 3], lambda answer, again: answer, lambda *pair: True)

"""Priority sampling against plain best-first search over enumerated trees, with and without patterns."""

from itertools import pairwise

import numpy as np
import pytest
import regex

from decode.remembering import Remembering
from kofn.decode.markov import MarkovModel
from kofn.decode.sequences.priority import PrioritySampling
from kofn.errors import ParameterError, UsageError

TABLE = [[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.6, 0.1], [0.22, 0.26, 0.28, 0.24], [0.0, 0.7, 0.1, 0.2]]
LETTERS = "ab1 "


def decode(tokens):
    return "".join(LETTERS[token] for token in tokens)


def plain_search(table, first, n, length, end=(), confidence="token"):
    """The paper's procedure with a list of everything left behind, looked through anew each time."""
    waiting = [(1.0, 0, ())]
    found, made = [], 0
    while waiting and len(found) < n:
        best = max(waiting, key=lambda entry: (entry[0], -entry[1]))
        waiting.remove(best)
        tokens = list(best[2])
        while len(tokens) < length and not (tokens and tokens[-1] in end):
            path = [first, *tokens]
            p = np.prod([table[a][b] for a, b in pairwise(path)])
            law = table[path[-1]]
            order = [t for t in np.argsort(-np.array(law), kind="stable").tolist() if law[t] > 0]
            for token in order[1:]:
                made += 1
                waiting.append((law[token] * (p if confidence == "prefix" else 1.0), made, (*tokens, token)))
            tokens.append(order[0])
        found.append(tuple(tokens))
    return found


def found_by(method, model, n, length):
    return [tuple(tokens.tolist()) for tokens in method.generate(model, [0], n, length=length).tokens]


@pytest.mark.parametrize("confidence", ["token", "prefix"])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_sequences_are_those_of_a_plain_search_in_its_order(confidence, n):
    rng = np.random.default_rng(7)
    table = rng.dirichlet(np.full(5, 0.6), 5)
    model = MarkovModel(table, end=[4])
    got = found_by(PrioritySampling(confidence=confidence), model, n, 6)
    assert got == plain_search(table, 0, n, 6, end=(4,), confidence=confidence)


def test_the_first_sequence_is_greedy():
    assert found_by(PrioritySampling(), MarkovModel(TABLE), 1, 5) == [(0, 0, 0, 0, 0)]


def test_the_second_takes_up_the_most_probable_token_that_was_left_behind():
    # greedy leaves 0.3 behind at each of three steps; ties go to the one that was left first
    assert found_by(PrioritySampling(), MarkovModel(TABLE), 2, 3)[1] == (1, 2, 2)


def test_a_tree_is_enumerated_completely_and_then_the_search_stops():
    model = MarkovModel(TABLE, end=[3])
    found = PrioritySampling().generate(model, [0], 1_000, length=4)
    law = dict(model.sequences([0], 4))
    sequences = [tuple(tokens.tolist()) for tokens in found.tokens]
    assert len(set(sequences)) == len(sequences) == len(law)
    assert set(sequences) == set(law)
    assert found.details["exhausted"]
    np.testing.assert_allclose(found.logprobs, np.log([law[s] for s in sequences]), atol=1e-5)
    assert found.finished.tolist() == [s[-1] == 3 for s in sequences]
    assert not PrioritySampling().generate(model, [0], 5, length=4).details["exhausted"]


def test_runs_are_equal_and_fewer_sequences_are_the_first_of_more():
    model = MarkovModel(TABLE, end=[3])
    forty = found_by(PrioritySampling(), model, 40, 6)
    assert forty == found_by(PrioritySampling(), model, 40, 6)
    assert forty[:15] == found_by(PrioritySampling(), model, 15, 6)


def test_confidences_by_prefix_fall_and_are_probabilities_of_the_branches():
    model = MarkovModel(TABLE)
    found = PrioritySampling(confidence="prefix").generate(model, [0], 30, length=4)
    confidences = found.details["confidences"]
    assert (np.diff(confidences) <= 1e-12).all()
    for each, size, p in zip(found.tokens, found.details["branches"], confidences, strict=True):
        assert np.isclose(p, np.exp(model.logprob([0], each[:size])), atol=1e-6)


def test_confidences_by_token_are_the_branching_tokens_own_probabilities():
    found = PrioritySampling().generate(MarkovModel(TABLE), [0], 20, length=4)
    for each, size, p in list(zip(found.tokens, found.details["branches"], found.details["confidences"], strict=True))[
        1:
    ]:
        path = [0, *each.tolist()]
        assert np.isclose(p, TABLE[path[size - 1]][path[size]])


class Recording(MarkovModel):
    """Counts tokens read, and notices a state that is used twice."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.read = self.calls = 0
        self.newest = None

    def start(self, prompts):
        logits, state = super().start(prompts)
        return logits, self._new(state)

    def all_logits(self, tokens, state):
        assert state is self.newest
        self.calls += 1
        self.read += tokens.size
        logits, state = super().all_logits(tokens, state)
        return logits, self._new(state)

    def rewind(self, state, count):
        assert state is self.newest
        return self._new(super().rewind(state, count))

    def _new(self, state):
        self.newest = tuple(each.copy() for each in state)
        return self.newest


def test_a_branch_reads_nothing_again_that_it_shares_with_the_sequence_before():
    model = Recording(TABLE)
    found = PrioritySampling().generate(model, [0], 12, length=6)
    fed = [tokens[:-1].tolist() for tokens in found.tokens]
    expected = len(fed[0])
    for before, now in pairwise(fed):
        shared = next((i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b), len(now))
        expected += len(now) - shared
    assert model.read <= expected + 12  # a branch at the last place leaves the state where it was
    assert found.passes == 1 + model.calls


@pytest.mark.parametrize("length", [5, 70])
def test_going_back_to_a_branch_leaves_its_own_tokens_in_memory_and_no_others(length):
    model = Remembering(end=[3])
    found = PrioritySampling().generate(model, [1, 2], 60, length=length)
    expected = [model.logprob([1, 2], tokens.tolist()) for tokens in found.tokens]
    np.testing.assert_allclose(found.logprobs, expected, atol=1e-4)


def test_long_branches_are_read_in_pieces_with_the_same_outcome():
    rng = np.random.default_rng(1)
    table = rng.dirichlet(np.full(3, 2.0), 3)
    assert found_by(PrioritySampling(), MarkovModel(table), 25, 150) == plain_search(table, 0, 25, 150)


@pytest.mark.parametrize("pattern", [r"a+b", r"(ab|a1)*", r"[ab]{2,3}1?", r".*1 ", r"b"])
def test_with_a_pattern_the_sequences_are_exactly_those_that_match(pattern):
    model = MarkovModel(TABLE)
    method = PrioritySampling(pattern=pattern, decode=decode, most_dropped=10_000)
    found = method.generate(model, [0], 1_000, length=4)
    texts = found.texts(decode)
    assert all(regex.fullmatch(pattern, text) for text in texts)
    assert len(set(texts)) == len(texts)
    longest = {decode(s) for s, _ in model.sequences([0], 4) if regex.fullmatch(pattern, decode(s))}
    assert longest <= set(texts)


def test_an_end_token_is_taken_only_after_a_whole_match():
    model = MarkovModel([[0.3, 0.2, 0.2, 0.3]] * 4, end=[3])
    method = PrioritySampling(pattern="[ab]{2}1?", decode=lambda tokens: "".join("ab1"[t] for t in tokens if t < 3))
    found = method.generate(model, [0], 100, length=5)
    assert found.details["exhausted"]
    assert {tuple(tokens.tolist()) for tokens in found.tokens} == {
        (a, b, *tail) for a in (0, 1) for b in (0, 1) for tail in ((3,), (2, 3))
    }
    assert found.finished.all()
    assert found.details["dropped"] == 0


@pytest.mark.parametrize("n", [1, 2, 5])
def test_misfits_do_not_cost_branches_that_are_needed_later(n):
    every = PrioritySampling(pattern="[ab1]*b1", decode=decode, most_dropped=1_000)
    some = found_by(every, MarkovModel(TABLE), n, 4)
    assert every.generate(MarkovModel(TABLE), [0], n, length=4).details["dropped"] > n
    assert some == found_by(every, MarkovModel(TABLE), 1_000, 4)[:n]


def test_the_search_gives_up_after_as_many_misfits_as_allowed():
    model = MarkovModel(TABLE)  # twelve letters do not fit into five tokens
    for most in (0, 3):
        found = PrioritySampling(pattern="[ab]{12}", decode=decode, most_dropped=most).generate(model, [0], 2, length=5)
        assert (len(found), found.details["dropped"]) == (0, most + 1)
        assert not found.details["exhausted"]


def test_sequences_under_a_pattern_are_those_of_a_search_that_keeps_every_branch():
    rng = np.random.default_rng(2)
    table = rng.dirichlet(np.full(4, 0.7), 4)
    few = PrioritySampling(pattern="[ab1]*", decode=decode, most_dropped=0)
    many = PrioritySampling(pattern="[ab1]*", decode=decode, most_dropped=5_000)
    assert found_by(few, MarkovModel(table), 9, 6) == found_by(many, MarkovModel(table), 9, 6)


def test_a_token_without_text_or_without_whole_characters_is_no_token_of_a_pattern():
    texts = ["a", "", "\N{REPLACEMENT CHARACTER}", "b"]
    method = PrioritySampling(pattern=".*", decode=lambda tokens: "".join(texts[t] for t in tokens))
    found = method.generate(MarkovModel([[0.25] * 4] * 4), [0], 50, length=2)
    assert {token for tokens in found.tokens for token in tokens.tolist()} == {0, 3}


def test_few_texts_are_asked_for_where_the_best_tokens_fit():
    asked = []

    def spoken(tokens):
        asked.append(tokens)
        return "".join("x" if token % 2 else "y" for token in tokens)

    logits = -np.arange(50_000, dtype=np.float32) / 10
    PrioritySampling(pattern="x+", decode=spoken, most_dropped=0).generate(Fixed(logits), [0], 5, length=4)
    assert len(asked) <= 50


class Fixed:
    """The same logits after every token."""

    end = frozenset()

    def __init__(self, logits):
        self.logits = logits
        self.vocabulary = len(logits)

    def start(self, prompts):
        return self.logits[None], 0

    def next_logits(self, tokens, state):
        return self.logits[None], 0

    def all_logits(self, tokens, state):
        return np.tile(self.logits, (1, tokens.shape[1], 1)), 0

    def rewind(self, state, count):
        return 0


def test_a_token_far_down_the_list_is_found_when_hardly_any_fits():
    logits = -np.arange(40_000, dtype=np.float32) / 1_000
    method = PrioritySampling(pattern="x", decode=lambda tokens: "x" if tokens[0] in (5, 39_998) else "yy")
    found = method.generate(Fixed(logits), [0], 3, length=1)
    assert [tokens.tolist() for tokens in found.tokens] == [[5], [39_998]]


def test_equal_logits_are_taken_from_the_lowest_token_up():
    found = PrioritySampling().generate(Fixed(np.zeros(5_000, np.float32)), [0], 4, length=1)
    assert [tokens.tolist() for tokens in found.tokens] == [[0], [1], [2], [3]]


def test_with_a_rule_only_its_tokens_are_branches_and_it_renormalises():
    def top_two(logits):
        cut = np.sort(logits, axis=-1)[:, -2:-1]
        return np.where(logits >= cut, logits, -np.inf).astype(np.float32)

    found = PrioritySampling(rule=top_two).generate(MarkovModel(TABLE), [0], 100, length=1)
    assert [tokens.tolist() for tokens in found.tokens] == [[0], [1]]
    np.testing.assert_allclose(np.exp(found.logprobs), [0.625, 0.375], atol=1e-6)


def test_what_cannot_be_is_refused_and_twins_are_equal():
    assert PrioritySampling(pattern="a", decode=decode) == PrioritySampling(pattern="a", decode=decode)
    with pytest.raises(ParameterError, match="go together"):
        PrioritySampling(pattern="a")
    with pytest.raises(ParameterError, match="no regular expression"):
        PrioritySampling(pattern="(", decode=decode)
    with pytest.raises(ParameterError, match="confidence='size'"):
        PrioritySampling(confidence="size")
    with pytest.raises(ParameterError, match="most_dropped=-1"):
        PrioritySampling(most_dropped=-1)
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(UsageError, match="row 0"):
            PrioritySampling().generate(Fixed(np.array([wrong, wrong], np.float32)), [0], 2)

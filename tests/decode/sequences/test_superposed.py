"""Superposed decoding on a small recurrent model that reads vectors: against a plain twin, by hand, and its counts."""

import numpy as np
import pytest

from kofn.decode.sequences.ngrams import NGramModel
from kofn.decode.sequences.superposed import SuperposedDecoding
from kofn.errors import ParameterError, UsageError

V, D = 30, 8


class Recurrent:
    """h <- tanh(A h + 2 e), logits = 4 E h; reads tokens by their embeddings, hence vectors too."""

    def __init__(self, seed=0, end=()):
        rng = np.random.default_rng(seed)
        self.vocabulary, self.end = V, frozenset(end)
        self.table = rng.standard_normal((V, D)).astype(np.float32)
        self.turn = rng.standard_normal((D, D)) / np.sqrt(D)
        self.inputs = []

    def embed(self, tokens):
        return self.table[np.asarray(tokens)]

    def start(self, prompts):
        state = np.zeros((len(prompts), D))
        for token in prompts[0]:
            logits, state = self._step(self.table[[token]], state)
        return logits, state

    def next_logits_of_embeddings(self, embeddings, state):
        assert embeddings.dtype == np.float32
        self.inputs.append(embeddings.copy())
        return self._step(embeddings, state)

    def _step(self, embeddings, state):
        state = np.tanh(state @ self.turn + 2 * embeddings)
        return (4 * state @ self.table.T).astype(np.float32), state


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def plain_drafts(model, prompt, n, length, temperature, ngrams=None, alpha=0.54, penalty=200.0, per_draft=3):
    """The procedure as it is published, on the whole vocabulary, without ends."""
    logits, state = model.start([prompt])
    drafts = [((), 0.0)]
    for step in range(length):
        x = logits[0].astype(np.float64)
        top = set(np.argsort(-x, kind="stable")[: n * per_draft].tolist())
        p = np.array([np.exp((x[t] - x.max()) / temperature) if t in top else 0.0 for t in range(V)])
        p /= p.sum()
        every = []
        for tokens, score in drafts:
            q = np.zeros(V)
            if ngrams is not None:
                context = [*prompt, *tokens][-(ngrams.order - 1) :]
                q = ngrams.interpolated([context], [list(range(V))])[0] * (p > 0)
            for t in top:
                if ngrams is None:
                    gain = np.log(p[t])
                elif not q.any():
                    gain = (1 - alpha) * np.log(p[t]) - penalty
                elif q[t] > 0:
                    gain = (1 - alpha) * np.log(p[t]) + alpha * np.log(q[t])
                else:
                    continue
                every.append(((*tokens, t), score + gain))
        drafts = sorted(every, key=lambda each: -each[1])[:n]
        if step + 1 < length:
            weights = np.exp([score - drafts[0][1] for _, score in drafts])
            weights = weights / weights.sum()
            mixed = sum(w * model.table[tokens[-1]].astype(np.float64) for w, (tokens, _) in zip(weights, drafts))
            logits, state = model._step(mixed.astype(np.float32)[None], state)
    return drafts


CORPUS = [np.random.default_rng(5).integers(0, V, 3_000) % 12, np.arange(200) % V]


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("known", [None, V, 7, 2])
def test_drafts_are_those_of_a_plain_twin(n, known):
    ngrams = None if known is None else NGramModel([each[each < known] for each in CORPUS], V, order=4)
    for seed in range(4):
        model = Recurrent(seed)
        expected = plain_drafts(model, [1, 2, 3], n, 9, 0.5, ngrams)
        got = SuperposedDecoding(ngrams=ngrams, temperature=0.5).generate(model, [1, 2, 3], n, length=9)
        assert [tuple(tokens.tolist()) for tokens in got.tokens] == [tokens for tokens, _ in expected]
        np.testing.assert_allclose(got.details["scores"], [score for _, score in expected], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 0.9])
def test_the_weight_of_the_ngrams_and_the_candidates_are_those_given(alpha):
    ngrams = NGramModel(CORPUS, V, order=3)
    method = SuperposedDecoding(ngrams=ngrams, alpha=alpha, temperature=1.0, candidates_per_draft=5, penalty=7.0)
    expected = plain_drafts(Recurrent(2), [4, 4], 3, 8, 1.0, ngrams, alpha=alpha, penalty=7.0, per_draft=5)
    got = method.generate(Recurrent(2), [4, 4], 3, length=8)
    assert [tuple(tokens.tolist()) for tokens in got.tokens] == [tokens for tokens, _ in expected]


def test_one_draft_is_greedy_token_for_token_with_its_log_probability():
    model = Recurrent(3)
    logits, state = model.start([[7]])
    greedy, total = [], 0.0
    for _ in range(20):
        greedy.append(int(np.argmax(logits[0])))
        total += log_softmax(logits[0])[greedy[-1]]
        logits, state = model._step(model.table[greedy[-1:]], state)
    got = SuperposedDecoding().generate(model, [7], length=20)
    assert got.tokens[0].tolist() == greedy
    assert np.isclose(got.logprobs[0], total, atol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_passes_are_as_many_as_tokens_whatever_the_number_of_drafts(n):
    model = Recurrent()
    got = SuperposedDecoding().generate(model, [1], n, length=11)
    assert (got.passes, got.rows, len(model.inputs)) == (11, 11, 10)
    assert all(vector.shape == (1, D) for vector in model.inputs)
    assert len({tuple(tokens.tolist()) for tokens in got.tokens}) == n


def test_the_input_is_the_mean_of_embeddings_weighted_by_the_softmax_of_scores():
    model = Recurrent(1)
    SuperposedDecoding(temperature=2.0).generate(model, [1], 2, length=2)
    x = model.start([[1]])[0][0].astype(np.float64)
    best, second = np.argsort(-x)[:2]
    share = 1 / (1 + np.exp((x[second] - x[best]) / 2.0))
    expected = share * model.table[best] + (1 - share) * model.table[second]
    np.testing.assert_allclose(model.inputs[0][0], expected, rtol=1e-5)


def test_ngrams_tell_which_token_belongs_to_which_draft():
    class Pairs(Recurrent):  # first 0 or 1, then 2 or 3, whatever was read
        def _step(self, embeddings, state):
            logits = np.full((1, V), -20, np.float32)
            step = int(state[0, 0])
            logits[0, [0, 1] if step == 0 else [2, 3]] = [0.2, 0.0]
            return logits, state + 1

    ngrams = NGramModel([[0, 2], [1, 3]] * 10 + [[9, 0], [9, 1]], V, order=2, weights=[1.0])
    mixed = SuperposedDecoding(temperature=1.0).generate(Pairs(), [9], 2, length=2)
    assert [tokens.tolist() for tokens in mixed.tokens] == [[0, 2], [0, 3]]
    told = SuperposedDecoding(ngrams=ngrams, temperature=1.0).generate(Pairs(), [9], 2, length=2)
    assert [tokens.tolist() for tokens in told.tokens] == [[0, 2], [1, 3]]


def test_a_draft_that_ends_is_kept_beside_those_that_go_on():
    model = Recurrent(0)
    free = SuperposedDecoding(temperature=1.0).generate(model, [1], 3, length=6)
    end = int(free.tokens[0][2])
    got = SuperposedDecoding(temperature=1.0).generate(Recurrent(0, end=[end]), [1], 3, length=6)
    assert got.finished.any()
    for tokens, finished in zip(got.tokens, got.finished, strict=True):
        assert finished == (tokens[-1] == end)
        assert end not in tokens[:-1]
        assert len(tokens) == 6 or finished
    assert (np.diff(got.details["scores"]) <= 0).all()


def test_drafts_that_end_take_no_place_of_those_that_go_on():
    class EndFirst(Recurrent):
        def _step(self, embeddings, state):
            logits = np.full((1, V), -20, np.float32)
            logits[0, [0, 1, 2]] = [2, 1, 0]
            return logits, state

    model = EndFirst(end=[0])
    SuperposedDecoding(temperature=1.0).generate(model, [9], 2, length=2)
    share = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(model.inputs[0][0], share * model.table[1] + (1 - share) * model.table[2], rtol=1e-5)


def test_it_stops_when_every_draft_has_ended():
    model = Recurrent(0, end=range(V))
    got = SuperposedDecoding().generate(model, [1], 4, length=6)
    assert (got.passes, got.finished.tolist(), [len(t) for t in got.tokens]) == (1, [True] * 4, [1] * 4)


def test_fewer_drafts_come_where_fewer_tokens_can_be():
    class Two(Recurrent):
        def _step(self, embeddings, state):
            return np.array([[1.0, 0.0] + [-np.inf] * (V - 2)], np.float32), state

    got = SuperposedDecoding().generate(Two(), [1], 9, length=1)
    assert [tokens.tolist() for tokens in got.tokens] == [[0], [1]]


def test_what_cannot_be_is_refused_and_twins_are_equal():
    ngrams = NGramModel([[0, 1]], 4, order=2)
    assert SuperposedDecoding(ngrams=ngrams, alpha=0.3) == SuperposedDecoding(ngrams=ngrams, alpha=0.3)
    for wrong in ({"alpha": 1.0}, {"temperature": 0.0}, {"candidates_per_draft": 0}, {"penalty": -1.0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            SuperposedDecoding(**wrong)
    with pytest.raises(UsageError, match="the n-grams have 4 tokens and the model 30"):
        SuperposedDecoding(ngrams=ngrams).generate(Recurrent(), [1], 2)

    class Broken(Recurrent):
        def _step(self, embeddings, state):
            return np.full((1, V), np.nan, np.float32), state

    with pytest.raises(UsageError, match="row 0"):
        SuperposedDecoding().generate(Broken(), [1], 2)

"""Drafts from the frequent tokens only."""

import numpy as np
import pytest
from scipy import stats

from decode.tiny import tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.frequency import FrequencyRanked, coverage, most_frequent
from kofn.decode.speculation.law import overlap
from kofn.decode.speculation.speculative import Speculative
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError, UsageError

V = 20


def test_the_most_frequent_are_kept_and_ties_go_to_the_lowest_token():
    corpus = [7, 7, 7, 3, 3, 5, 9]
    assert most_frequent(corpus, 12, 0.25).tolist() == [3, 5, 7]
    assert most_frequent(corpus, 12, 0.5).tolist() == [0, 1, 3, 5, 7, 9]
    assert most_frequent(corpus, 12, 0.01).tolist() == [7]
    assert most_frequent(corpus, 12, 1).tolist() == list(range(12))


def test_coverage_is_the_part_of_the_text():
    assert coverage(np.array([3, 7]), [7, 7, 7, 3, 3, 5, 9], 12) == pytest.approx(5 / 7)


def test_the_output_has_the_law_of_the_target_and_acceptance_falls_by_what_is_left_out():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(V, 0.5))
    q = 0.8 * p + 0.2 * rng.dirichlet(np.ones(V))
    target, draft = MarkovModel([p] * V), MarkovModel([q] * V)
    tokens = most_frequent(rng.choice(V, size=2_000, p=p), V, 0.25)
    assert len(tokens) == 5
    answer = Speculative(FrequencyRanked(draft, tokens), length=3).generate(target, [0], 100, length=200, seed=2)
    counts = np.bincount(np.concatenate(answer.tokens), minlength=V)
    assert stats.chisquare(counts, 20_000 * p).pvalue > 1e-6
    assert 0.5 * np.abs(counts / 20_000 - p).sum() < 0.01
    cut = np.zeros(V)
    cut[tokens] = q[tokens] / q[tokens].sum()
    expected = overlap(p, cut)
    assert answer.details["acceptance"] == pytest.approx(expected, abs=5 * np.sqrt(0.25 / answer.details["tested"]))
    assert expected < overlap(p, q)


def test_the_cut_layer_gives_the_law_of_the_cut_columns():
    model = TransformersModel(tiny_llama())
    tokens = np.array([2, 30, 31, 77])

    class Plain:
        """The same model, but not one whose layer can be cut."""

        vocabulary, end = model.vocabulary, model.end
        start, next_logits, all_logits = model.start, model.next_logits, model.all_logits
        select, rewind = model.select, model.rewind

    cut, columns = FrequencyRanked(model, tokens), FrequencyRanked(Plain(), tokens)
    first, state = cut.start([1, 5, 9])
    same, other = columns.start([1, 5, 9])
    assert first.tokens.tolist() == same.tokens.tolist() == tokens.tolist()
    assert first.probabilities() == pytest.approx(same.probabilities(), rel=1e-4)
    laws, _ = cut.read(np.array([[30, 2]]), state)
    more, _ = columns.read(np.array([[30, 2]]), other)
    assert laws[0].probabilities() == pytest.approx(more[0].probabilities(), rel=1e-4)
    assert laws[0].probabilities().sum() == pytest.approx(1)


def test_the_layer_shrinks_with_the_tokens():
    model = TransformersModel(tiny_llama())
    drafter = FrequencyRanked(model, range(25))
    assert drafter.share == pytest.approx(25 / 101)
    assert drafter.model.model.lm_head.weight.numel() == 25 * 32
    assert drafter.model.model.lm_head(drafter.model.model.model.embed_tokens.weight).shape == (101, 25)


def test_a_rule_sees_the_logits_of_the_tokens_that_are_left():
    law, _ = FrequencyRanked(MarkovModel([[0.6, 0.1, 0.3]] * 3), [1, 2], rule=TopK(1)).start([0])
    assert law.tokens.tolist() == [2]


def test_wrong_parameters_are_told():
    model = MarkovModel([[0.5, 0.5]] * 2)
    for wrong in ([], [-1], [2]):
        with pytest.raises(UsageError, match="tokens must be"):
            FrequencyRanked(model, wrong)
    with pytest.raises(ParameterError, match="layers=1"):
        FrequencyRanked(model, [0], layers=1)
    for share in (0, 1.5, True):
        with pytest.raises(ParameterError, match="share="):
            most_frequent([1], 2, share)
    for corpus in ([], [2], [-1]):
        with pytest.raises(UsageError, match="corpus"):
            coverage(np.array([0]), corpus, 2)


def test_the_vocabulary_is_the_whole_models_also_where_the_layer_is_cut():
    assert FrequencyRanked(TransformersModel(tiny_llama()), range(25)).vocabulary == 101
    assert FrequencyRanked(MarkovModel([[0.5, 0.5]] * 2), [1]).vocabulary == 2
    with pytest.raises(UsageError, match=r"wrap it: TransformersModel\(model\)"):
        FrequencyRanked(tiny_llama(), range(25))

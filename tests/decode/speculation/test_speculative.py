"""Speculative sampling with one draft a round."""

import numpy as np
import pytest
from scipy import stats

from decode.tiny import tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.drafter import ModelDrafter
from kofn.decode.speculation.frequency import FrequencyRanked
from kofn.decode.speculation.ngram import NGramDrafter
from kofn.decode.speculation.policy import Threshold
from kofn.decode.speculation.speculative import Speculative
from kofn.errors import DataError, KofnError, ParameterError, UsageError

V, DRAFTS = 20, 3


def shifted(law):
    """A table whose row a is the law shifted by a: every row differs, every pair of rows is as far apart."""
    return np.array([np.roll(law, a) for a in range(len(law))])


def transitions(answer, prompt, size):
    counts = np.zeros((size, size))
    for tokens in answer.tokens:
        path = np.concatenate([[prompt[-1]], tokens])
        np.add.at(counts, (path[:-1], path[1:]), 1)
    return counts


def fits(counts, table):
    """p-value of the transitions under the table, cells with few expected left out."""
    expected = counts.sum(axis=1, keepdims=True) * table
    cells = expected >= 5
    statistic = ((counts - expected)[cells] ** 2 / expected[cells]).sum()
    return stats.chi2.sf(statistic, cells.sum() - len(table))


@pytest.fixture(scope="module")
def laws():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(V))
    return p, 0.7 * p + 0.3 * rng.dirichlet(np.ones(V))


@pytest.fixture(scope="module")
def long_run(laws):
    """100,000 tokens of a Markov target with another table as drafter."""
    p, q = laws
    drafter = ModelDrafter(MarkovModel(shifted(q)))
    return Speculative(drafter, length=DRAFTS).generate(MarkovModel(shifted(p)), [0], 500, length=200, seed=1)


def test_the_output_has_the_law_of_the_target(long_run, laws):
    counts = transitions(long_run, [0], V)
    assert counts.sum() == 100_000
    assert fits(counts, shifted(laws[0])) > 1e-6
    steps = np.array([np.roll(row, -a) for a, row in enumerate(counts)]).sum(axis=0) / 100_000
    assert 0.5 * np.abs(steps - laws[0]).sum() < 0.01
    assert fits(counts, shifted(laws[1])) < 1e-100


def test_acceptance_is_one_less_total_variation_at_every_place_of_a_block(long_run, laws):
    expected = 1 - 0.5 * np.abs(laws[0] - laws[1]).sum()
    assert long_run.details["acceptance"] == pytest.approx(expected, rel=0.01)
    assert long_run.details["acceptance_by_position"] == pytest.approx(np.full(DRAFTS, expected), rel=0.02)
    assert long_run.details["chances"].mean() == pytest.approx(expected, rel=0.01)


def test_tokens_per_pass_are_the_geometric_sum(long_run, laws):
    a = np.minimum(*laws).sum()
    expected = (1 - a ** (DRAFTS + 1)) / (1 - a)
    assert long_run.details["tokens_per_pass"] == pytest.approx(expected, rel=0.01)
    assert long_run.details["tokens_per_pass"] == 100_000 / (long_run.passes - 1)
    assert long_run.rows == long_run.passes


def test_logprobs_are_those_of_the_target(long_run, laws):
    model = MarkovModel(shifted(laws[0]))
    expected = [model.logprob([0], tokens) for tokens in long_run.tokens]
    assert long_run.logprobs == pytest.approx(expected, rel=1e-5)


def test_whole_sequences_have_the_law_of_the_rule_and_end_where_the_model_ends():
    rng = np.random.default_rng(3)
    table = rng.dirichlet(np.ones(4), 4)
    rule = TopK(3)
    cut = np.where(table >= np.sort(table, axis=1)[:, [1]], table, 0)
    cut /= cut.sum(axis=1, keepdims=True)
    target = MarkovModel(table, end=[3])
    drafter = ModelDrafter(MarkovModel(rng.dirichlet(np.ones(4), 4)))
    answer = Speculative(drafter, length=2, rule=rule).generate(target, [0], 2_000, length=3, seed=5)
    exact = dict(MarkovModel(cut, end=[3]).sequences([0], 3))
    found = dict.fromkeys(exact, 0)
    for tokens, finished in zip(answer.tokens, answer.finished, strict=True):
        found[tuple(tokens.tolist())] += 1
        assert finished == (tokens[-1] == 3)
    often = [path for path in exact if exact[path] > 1e-3]
    counts = np.array([found[path] for path in often] + [2_000 - sum(found[path] for path in often)], float)
    chances = np.array([exact[path] for path in often])
    keep = [*chances, 1 - chances.sum()]
    cells = np.array(keep) > 1e-9
    assert counts[~cells].sum() == 0
    assert stats.chisquare(counts[cells], 2_000 * np.array(keep)[cells] / np.array(keep)[cells].sum()).pvalue > 1e-6


@pytest.mark.parametrize("length", [1, 3, 7, Threshold(0.4, limit=5)])
@pytest.mark.parametrize("counts", [False, True])
def test_greedy_output_is_that_of_plain_greedy_search_with_fewer_passes(length, counts):
    table = 0.8 * np.roll(np.eye(6), 1, axis=1) + 0.2 / 6
    model = MarkovModel(table)
    answer = Speculative(NGramDrafter(2, counts=counts), length=length, rule=TopK(1)).generate(
        model, [0, 1, 2], 2, length=50
    )
    for tokens in answer.tokens:
        assert tokens.tolist() == [(3 + i) % 6 for i in range(50)]
    assert answer.passes < 100
    assert answer.logprobs == pytest.approx(0)


def test_a_drafter_that_is_the_target_is_always_accepted():
    model = MarkovModel(np.random.default_rng(0).dirichlet(np.ones(5), 5))
    answer = Speculative(ModelDrafter(model), length=4).generate(model, [2], 3, length=25, seed=8)
    assert answer.details["acceptance"] == 1
    assert answer.details["tokens_per_pass"] == 5
    assert answer.passes == 1 + 3 * 5
    assert answer.details["drafted"] == answer.details["tested"] == 60


def test_a_drafter_that_is_never_right_costs_one_pass_a_token():
    target, other = MarkovModel([[0.5, 0.5, 0]] * 3), MarkovModel([[0, 0, 1.0]] * 3)
    answer = Speculative(ModelDrafter(other), length=4).generate(target, [0], length=10)
    assert answer.details["accepted"] == 0
    assert answer.passes == 11  # the prompt's pass; the last token needs no draft but a pass
    assert set(answer.tokens[0].tolist()) <= {0, 1}


def test_where_nothing_is_proposed_the_target_goes_on_alone():
    table = np.roll(np.eye(9), 1, axis=1)
    answer = Speculative(NGramDrafter(2)).generate(MarkovModel(table), [0], length=5)
    assert answer.tokens[0].tolist() == [1, 2, 3, 4, 5]
    assert answer.passes == 5  # as many as plain decoding
    assert answer.details["drafted"] == 0
    assert np.isnan(answer.details["acceptance"])


def test_a_sequence_does_not_depend_on_how_many_are_drawn():
    rng = np.random.default_rng(1)
    target = MarkovModel(rng.dirichlet(np.ones(6), 6), end=[5])
    method = Speculative(ModelDrafter(MarkovModel(rng.dirichlet(np.ones(6), 6))), length=3)
    many = method.generate(target, [1, 2], 9, length=12, seed=4)
    few = method.generate(target, [1, 2], 4, length=12, seed=4)
    for a, b in zip(few.tokens, many.tokens, strict=False):
        assert a.tolist() == b.tolist()
    other = method.generate(target, [1, 2], 9, length=12, seed=5)
    assert [t.tolist() for t in other.tokens] != [t.tolist() for t in many.tokens]
    again = method.generate(target, [1, 2], 9, length=12, seed=4)
    assert [t.tolist() for t in again.tokens] == [t.tolist() for t in many.tokens]


def test_a_drafted_end_is_the_last_draft_of_its_block():
    table = np.roll(np.eye(4), 1, axis=1)
    model = MarkovModel(table, end=[3])
    answer = Speculative(ModelDrafter(MarkovModel(table)), length=8).generate(model, [0], 2, length=20)
    assert [tokens.tolist() for tokens in answer.tokens] == [[1, 2, 3]] * 2
    assert answer.finished.all()
    assert answer.details["drafted"] == 6
    assert answer.passes == 3


def test_more_is_drafted_where_the_length_says_so():
    model = MarkovModel(np.random.default_rng(0).dirichlet(np.ones(5), 5))
    passes = [Speculative(ModelDrafter(model), length=k).generate(model, [2], length=30).passes for k in (1, 4, 9)]
    assert passes == [16, 7, 4]


def test_a_rule_of_the_drafter_near_the_targets_is_accepted_more_often():
    rng = np.random.default_rng(2)
    target = MarkovModel(rng.dirichlet(np.ones(10), 10))
    near, far = (
        Speculative(ModelDrafter(target, rule=rule), rule=TopK(2))
        .generate(target, [0], length=300)
        .details["acceptance"]
        for rule in (TopK(2), None)
    )
    assert near == 1
    assert far < 0.8


def test_a_decoder_is_a_value_and_wrong_parameters_are_told():
    assert Speculative(NGramDrafter(2), length=3) == Speculative(NGramDrafter(2), length=3)
    assert Speculative(NGramDrafter(2), length=3) != Speculative(NGramDrafter(2), length=4)
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(ParameterError, match="length="):
            Speculative(NGramDrafter(2), length=wrong)
    model = MarkovModel(np.full((3, 3), 1 / 3))
    with pytest.raises(KofnError, match="n=0"):
        Speculative(NGramDrafter(2)).generate(model, [0], 0)
    with pytest.raises(UsageError, match="no token"):
        Speculative(NGramDrafter(2)).generate(model, [])


def test_logits_with_nan_are_an_error():
    model = MarkovModel(np.full((3, 3), 1 / 3))
    model._logits[1, 0] = np.nan
    with pytest.raises(DataError, match="nan"):
        Speculative(NGramDrafter(2)).generate(model, [1], length=3)


def test_what_it_cannot_draft_with_is_told_when_it_is_made():
    with pytest.raises(ParameterError, match=r"give Speculative\(ModelDrafter\(model\)\)"):
        Speculative(MarkovModel([[0.5, 0.5]] * 2))
    with pytest.raises(ParameterError, match=r"Speculative cannot run Mirostat\(tau=3.0.*without memory"):
        Speculative(NGramDrafter(2), rule=Mirostat(3.0))
    with pytest.raises(ParameterError, match=r"give parse_rule\('topk=2'\)"):
        Speculative(NGramDrafter(2), rule="topk=2")


def test_a_call_that_cannot_be_is_told_before_anything_is_drafted():
    nine, ten = (MarkovModel(np.full((size, size), 1 / size)) for size in (9, 10))
    for drafter in (ModelDrafter(nine), FrequencyRanked(nine, [1, 2])):
        with pytest.raises(
            UsageError, match="drafter's vocabulary has 9 tokens and the target's 10; give a drafter with"
        ):
            Speculative(drafter).generate(ten, [0], length=5)
    with pytest.raises(UsageError, match=r"LlamaForCausalLM .*wrap it: TransformersModel\(model\)"):
        Speculative(NGramDrafter(2)).generate(tiny_llama(), [0], length=5)
    with pytest.raises(UsageError, match="a prompt is a list of token numbers"):
        Speculative(NGramDrafter(2)).generate(ten, "text", length=5)
    for seed in (-1, 2**64, 1.7):
        with pytest.raises(ParameterError, match="seed="):
            Speculative(NGramDrafter(2)).generate(ten, [0], length=5, seed=seed)

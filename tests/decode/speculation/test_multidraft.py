"""Speculative sampling with several drafts a round."""

import numpy as np
import pytest
from scipy import stats

from decode.tiny import tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.drafter import ModelDrafter
from kofn.decode.speculation.frequency import FrequencyRanked
from kofn.decode.speculation.multidraft import MultiDraft
from kofn.decode.speculation.ngram import NGramDrafter
from kofn.decode.speculation.selection import best_acceptance
from kofn.decode.speculation.speculative import Speculative
from kofn.errors import ParameterError, UsageError

V = 8


def shifted(law):
    return np.array([np.roll(law, a) for a in range(len(law))])


def steps(answer, prompt, size):
    """How often each step from a token to the next was taken, as a shift."""
    paths = [np.concatenate([[prompt[-1]], tokens]) for tokens in answer.tokens]
    return sum(np.bincount((path[1:] - path[:-1]) % size, minlength=size) for path in paths)


@pytest.fixture(scope="module")
def laws():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(V)), rng.dirichlet(np.ones(V))


@pytest.fixture(scope="module")
def long_run(laws):
    p, q = laws
    method = MultiDraft(ModelDrafter(MarkovModel(shifted(q))), drafts=2, length=2)
    return method.generate(MarkovModel(shifted(p)), [0], 50, length=200, seed=1)


def test_the_output_has_the_law_of_the_target(long_run, laws):
    counts = steps(long_run, [0], V)
    assert counts.sum() == 10_000
    assert stats.chisquare(counts, 10_000 * laws[0]).pvalue > 1e-6


def test_the_first_place_of_a_block_is_accepted_as_often_as_two_drafts_can_be(long_run, laws):
    tested = long_run.details["rounds"]
    best = best_acceptance(*laws, 2)
    assert abs(long_run.details["acceptance_by_position"][0] - best) < 5 * np.sqrt(best * (1 - best) / tested)
    assert best > np.minimum(*laws).sum() + 0.05


def test_logprobs_and_rows_are_counted(long_run, laws):
    model = MarkovModel(shifted(laws[0]))
    assert long_run.logprobs == pytest.approx([model.logprob([0], tokens) for tokens in long_run.tokens], rel=1e-5)
    assert long_run.passes < long_run.rows <= 1 + 2 * (long_run.passes - 1)


def test_two_and_three_tokens_in_a_row_have_the_law_of_the_target():
    rng = np.random.default_rng(3)
    target = MarkovModel(rng.dirichlet(np.ones(3), 3), end=[2])
    drafter = ModelDrafter(MarkovModel(rng.dirichlet(np.ones(3), 3)))
    answer = MultiDraft(drafter, drafts=3, length=3).generate(target, [0], 2_000, length=3, seed=5)
    exact = dict(target.sequences([0], 3))
    found = [tuple(tokens.tolist()) for tokens in answer.tokens]
    counts = np.array([found.count(path) for path in exact])
    assert counts.sum() == 2_000
    assert stats.chisquare(counts, 2_000 * np.array(list(exact.values()))).pvalue > 1e-6


def test_more_drafts_take_fewer_passes(laws):
    p, q = laws
    target, drafter = MarkovModel(shifted(p)), ModelDrafter(MarkovModel(shifted(q)))
    passes = [MultiDraft(drafter, drafts=k).generate(target, [0], 2, length=300).passes for k in (1, 2, 4)]
    assert passes[0] > passes[1] > passes[2]


def test_one_draft_is_speculative_sampling(laws):
    p, q = laws
    target, drafter = MarkovModel(shifted(p), end=[3]), ModelDrafter(MarkovModel(shifted(q)))
    one = MultiDraft(drafter, drafts=1, length=3).generate(target, [0], 5, length=30, seed=2)
    plain = Speculative(drafter, length=3).generate(target, [0], 5, length=30, seed=2)
    assert [t.tolist() for t in one.tokens] == [t.tolist() for t in plain.tokens]
    assert one.passes == plain.passes
    assert one.details["chances"] == pytest.approx(plain.details["chances"])


@pytest.mark.parametrize("drafts", [1, 3])
def test_greedy_output_is_that_of_plain_greedy_search(drafts):
    table = 0.6 * np.roll(np.eye(6), 1, axis=1) + 0.4 / 6
    model = MarkovModel(table)
    for drafter in (ModelDrafter(model), NGramDrafter(2, counts=True)):
        answer = MultiDraft(drafter, drafts=drafts, length=3, rule=TopK(1)).generate(model, [0, 1, 2], 2, length=40)
        for tokens in answer.tokens:
            assert tokens.tolist() == [(3 + i) % 6 for i in range(40)]


def test_a_sequence_does_not_depend_on_how_many_are_drawn(laws):
    p, q = laws
    target, method = MarkovModel(shifted(p), end=[5]), MultiDraft(ModelDrafter(MarkovModel(shifted(q))))
    many, few = (method.generate(target, [1], n, length=20, seed=4) for n in (7, 3))
    for a, b in zip(few.tokens, many.tokens, strict=False):
        assert a.tolist() == b.tolist()


def test_drafts_end_where_all_have_ended_and_where_one_has_no_more():
    table = np.roll(np.eye(4), 1, axis=1)
    model = MarkovModel(table, end=[3])
    answer = MultiDraft(ModelDrafter(MarkovModel(table)), drafts=2, length=8).generate(model, [0], length=20)
    assert answer.tokens[0].tolist() == [1, 2, 3]
    assert answer.details["drafted"] == 6
    # after 1 came 2 and 3; what followed 3 is not known, so a draft of 3 has no second token
    both = MarkovModel([[0.25, 0.25, 0.25, 0.25]] * 4)
    lookup = MultiDraft(NGramDrafter(1, counts=True), drafts=2, length=5).generate(both, [1, 2, 1, 3, 1], length=200)
    assert len(lookup.tokens[0]) == 200


def test_where_nothing_is_proposed_one_row_goes_on():
    table = np.roll(np.eye(9), 1, axis=1)
    answer = MultiDraft(NGramDrafter(2), drafts=3).generate(MarkovModel(table), [0], length=5)
    assert answer.tokens[0].tolist() == [1, 2, 3, 4, 5]
    assert answer.rows == answer.passes == 5


def test_a_decoder_is_a_value_and_wrong_parameters_are_told():
    assert MultiDraft(NGramDrafter(2)) == MultiDraft(NGramDrafter(2))
    for name in ("drafts", "length"):
        with pytest.raises(ParameterError, match=f"{name}=0"):
            MultiDraft(NGramDrafter(2), **{name: 0})


def test_what_it_cannot_draft_with_is_told_when_it_is_made():
    with pytest.raises(ParameterError, match=r"give MultiDraft\(ModelDrafter\(model\)\)"):
        MultiDraft(MarkovModel([[0.5, 0.5]] * 2))
    with pytest.raises(ParameterError, match=r"MultiDraft cannot run Mirostat\(tau=3.0.*without memory"):
        MultiDraft(NGramDrafter(2), rule=Mirostat(3.0))
    with pytest.raises(ParameterError, match=r"give parse_rule\('topk=2'\)"):
        MultiDraft(NGramDrafter(2), rule="topk=2")


def test_a_call_that_cannot_be_is_told_before_anything_is_drafted():
    nine, ten = (MarkovModel(np.full((size, size), 1 / size)) for size in (9, 10))
    for drafter in (ModelDrafter(nine), FrequencyRanked(nine, [1, 2])):
        with pytest.raises(
            UsageError, match="drafter's vocabulary has 9 tokens and the target's 10; give a drafter with"
        ):
            MultiDraft(drafter).generate(ten, [0], length=5)
    with pytest.raises(UsageError, match=r"LlamaForCausalLM .*wrap it: TransformersModel\(model\)"):
        MultiDraft(NGramDrafter(2)).generate(tiny_llama(), [0], length=5)
    with pytest.raises(UsageError, match="a prompt is a list of token numbers"):
        MultiDraft(NGramDrafter(2)).generate(ten, "text", length=5)
    for seed in (-1, 2**64, 1.7):
        with pytest.raises(ParameterError, match="seed="):
            MultiDraft(NGramDrafter(2)).generate(ten, [0], length=5, seed=seed)

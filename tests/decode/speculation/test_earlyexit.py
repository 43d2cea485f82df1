"""First layers of a model as its drafter."""

import numpy as np
import pytest
import torch

from decode.tiny import tiny_gemma, tiny_gpt2, tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.earlyexit import EarlyExit, first_layers, with_head
from kofn.decode.speculation.frequency import FrequencyRanked
from kofn.decode.speculation.multidraft import MultiDraft
from kofn.decode.speculation.ngram import NGramDrafter
from kofn.decode.speculation.speculative import Speculative
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError, UsageError

MODELS = (tiny_llama, tiny_gemma, tiny_gpt2)
PROMPT = [1, 5, 9, 5]


def greedy(model, length):
    """Plain greedy search, a token a pass."""
    logits, state = model.start([PROMPT])
    tokens = [int(logits[0].argmax())]
    while len(tokens) < length:
        logits, state = model.next_logits(np.array(tokens[-1:]), state)
        tokens.append(int(logits[0].argmax()))
    return tokens


@pytest.mark.parametrize("make", MODELS)
def test_greedy_output_is_that_of_plain_greedy_search_whatever_drafts(make):
    model = TransformersModel(make(), end=[])
    expected = greedy(model, 14)
    rule = TopK(1)
    drafters = [
        EarlyExit(model, 1, rule=rule),
        FrequencyRanked(model, range(0, 101, 2), layers=1, rule=rule),
        FrequencyRanked(model, range(0, 101, 2)),
        NGramDrafter(2, counts=True),
    ]
    for drafter in drafters:
        for method in (Speculative(drafter, length=3, rule=rule), MultiDraft(drafter, drafts=2, length=3, rule=rule)):
            answer = method.generate(model, PROMPT, 2, length=14)
            assert [tokens.tolist() for tokens in answer.tokens] == [expected] * 2


@pytest.mark.parametrize("make", MODELS)
def test_all_layers_are_the_model_itself(make):
    model = TransformersModel(make(), end=[])
    layers = model.model.config.num_hidden_layers
    answer = Speculative(EarlyExit(model, layers), length=5).generate(model, PROMPT, length=24, seed=3)
    assert answer.details["acceptance"] == pytest.approx(1)
    assert answer.passes == 1 + 4
    assert answer.details["chances"].min() > 1 - 1e-4


def test_the_first_layers_are_what_a_model_with_only_these_would_answer():
    model = tiny_gemma()
    shallow = first_layers(model, 2)
    hidden = []
    hook = model.model.layers[1].register_forward_hook(
        lambda module, given, out: hidden.append(out[0] if isinstance(out, tuple) else out)
    )
    tokens = torch.tensor([[1, 5, 9, 5, 3, 3, 8, 1, 4, 6]])
    with torch.no_grad():
        model(tokens)
        hook.remove()
        expected = model.lm_head(model.model.norm(hidden[0]))
        torch.testing.assert_close(shallow(tokens).logits, expected)


def test_the_callers_model_stays_as_it_was():
    model = tiny_llama()
    model.train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    text = (repr(model), model.config.to_json_string(), sorted(vars(model.model)))
    target = TransformersModel(model, end=[])
    drafter = FrequencyRanked(target, range(40), layers=1)
    Speculative(drafter).generate(target, PROMPT, length=8)
    assert text == (repr(model), model.config.to_json_string(), sorted(vars(model.model)))
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert len(first_layers(model, 1).model.layers) == 1
    assert len(model.model.layers) == 2


def test_weights_are_shared_and_only_the_cut_rows_are_copied():
    model = tiny_llama()
    shallow = with_head(first_layers(model, 1), np.array([3, 50, 99]))
    assert shallow.model.embed_tokens.weight is model.model.embed_tokens.weight
    assert shallow.model.layers[0] is model.model.layers[0]
    assert shallow.lm_head.weight.shape == (3, 32)
    torch.testing.assert_close(shallow.lm_head.weight.data, model.lm_head.weight.data[[3, 50, 99]])


def test_layers_that_the_model_has_not_are_an_error():
    model = TransformersModel(tiny_llama())
    for wrong in (0, 3, True, 1.0):
        with pytest.raises(ParameterError, match="give 1 to 2"):
            EarlyExit(model, wrong)

    class Flat:
        base_model_prefix = "model"

    with pytest.raises(UsageError, match="no single stack"):
        first_layers(Flat(), 1)


def test_a_model_without_layers_to_leave_is_told_what_drafts_with_it():
    for model in (MarkovModel([[0.5, 0.5]] * 2), tiny_llama()):
        with pytest.raises(UsageError, match=r"give a TransformersModel, or draft with ModelDrafter\(model\)"):
            EarlyExit(model, 1)

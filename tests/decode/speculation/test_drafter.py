"""Any language model as a drafter."""

import numpy as np
import pytest

from decode.tiny import tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.drafter import ModelDrafter, checked_drafter
from kofn.decode.speculation.ngram import NGramDrafter
from kofn.errors import ParameterError, UsageError

TABLE = np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3], [0.25, 0.25, 0.5]])


def test_its_law_is_the_models_after_the_last_token_of_each_row():
    drafter = ModelDrafter(MarkovModel(TABLE))
    law, state = drafter.start([0, 1])
    assert law.probabilities() == pytest.approx(TABLE[1])
    laws, state = drafter.read(np.array([[2]]), state)
    assert laws[0].probabilities() == pytest.approx(TABLE[2])
    laws, state = drafter.read(np.array([[0, 1], [2, 0]]), drafter.select(state, [0, 0]))
    assert [each.probabilities() for each in laws] == [pytest.approx(TABLE[1]), pytest.approx(TABLE[0])]
    assert [each.tolist() for each in drafter.rewind(state, 2)] == [[0, 1, 2]] * 2


def test_a_rule_narrows_the_law_and_the_one_before_it_is_kept():
    law, _ = ModelDrafter(MarkovModel(TABLE), rule=TopK(2)).start([0])
    assert law.tokens.tolist() == [1, 2]
    assert law.probabilities() == pytest.approx([0.375, 0.625])
    assert law.before.probabilities() == pytest.approx(TABLE[0])


def test_a_drafter_is_of_a_language_model_and_of_a_rule_without_memory():
    assert ModelDrafter(MarkovModel(TABLE)).vocabulary == 3
    with pytest.raises(UsageError, match=r"wrap it: TransformersModel\(model\)"):
        ModelDrafter(tiny_llama())
    with pytest.raises(ParameterError, match=r"a drafter cannot run Mirostat\(tau=3.0.*without memory"):
        ModelDrafter(MarkovModel(TABLE), rule=Mirostat(3.0))
    with pytest.raises(ParameterError, match=r"give parse_rule\('topk=2'\)"):
        ModelDrafter(MarkovModel(TABLE), rule="topk=2")


def test_what_is_no_drafter_is_told_with_what_makes_one():
    checked_drafter("Speculative", NGramDrafter(2))
    checked_drafter("Speculative", ModelDrafter(MarkovModel(TABLE)))
    for wrong, words in (
        (MarkovModel(TABLE), r"MarkovModel is a language model, no drafter; give MultiDraft\(ModelDrafter\(model\)\)"),
        (tiny_llama(), r"give MultiDraft\(ModelDrafter\(TransformersModel\(model\)\)\)"),
        (None, r"drafter=None is no drafter; give for example MultiDraft\(NGramDrafter\(3\)\)"),
        (NGramDrafter, "is no drafter"),
    ):
        with pytest.raises(ParameterError, match=words):
            checked_drafter("MultiDraft", wrong)

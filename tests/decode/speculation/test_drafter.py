"""Any language model as a drafter."""

import numpy as np
import pytest

from kofn.decode.markov import MarkovModel
from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.drafter import ModelDrafter

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

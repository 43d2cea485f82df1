from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from decode.tiny import tiny_gemma, tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.sequences.contrastive import ContrastiveSearch
from kofn.decode.sequences.sampling import Greedy
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError, UsageError


class Pointing(MarkovModel):
    """A Markov model whose tokens have the hidden states that are given."""

    def __init__(self, table: Any, directions: Any, end: Any = ()) -> None:
        super().__init__(table, end)
        self.directions = np.array(directions, np.float32)

    def start_with_hidden(self, prompts: Any) -> Any:
        logits, state = self.start(prompts)
        return logits, tuple(self.directions[list(prompt)] for prompt in prompts), state

    def next_with_hidden(self, tokens: Any, state: Any) -> Any:
        logits, state = self.next_logits(tokens, state)
        return logits, self.directions[tokens], state


# tokens 0 and 1 point the same way; 2 is at a right angle to them; 3 is at 60 degrees (cosine 1/2)
DIRECTIONS = [[1, 0], [5, 0], [0, 2], [0.5, 0.75**0.5]]
TABLE = [[0.1, 0.5, 0.3, 0.1], [0.1, 0.5, 0.3, 0.1], [0.6, 0.2, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]


def by_definition(network: Any, prompt: list[int], length: int, alpha: float, k: int, end: set[int]) -> list[int]:
    """Contrastive search with a fresh forward for every candidate."""
    path = list(prompt)
    while len(path) < len(prompt) + length and not (len(path) > len(prompt) and path[-1] in end):
        with torch.no_grad():
            law = torch.softmax(network(input_ids=torch.tensor([path])).logits[0, -1].double(), dim=0)
        scores = {}
        for token in law.topk(k).indices.tolist():
            with torch.no_grad():
                out = network(input_ids=torch.tensor([[*path, token]]), output_hidden_states=True)
            hidden = torch.nn.functional.normalize(out.hidden_states[-1][0].double(), dim=1)
            scores[token] = (1 - alpha) * float(law[token]) - alpha * float((hidden[:-1] @ hidden[-1]).max())
        path.append(max(scores, key=lambda token: scores[token]))
    return path[len(prompt) :]


def test_a_hand_worked_step_prefers_the_token_that_points_elsewhere() -> None:
    model = Pointing(TABLE, DIRECTIONS)
    # after 0: token 1 has 0.4 * 0.5 - 0.6 * 1, token 2 has 0.4 * 0.3 - 0.6 * 0
    found = ContrastiveSearch(alpha=0.6, k=2).generate(model, [0], length=1)
    assert found.tokens[0].tolist() == [2]
    assert found.details["penalties"].tolist() == [0.0]
    assert found.logprobs[0] == pytest.approx(np.log(0.3), rel=1e-6)
    # at alpha = 0.1: 0.9 * 0.5 - 0.1 > 0.9 * 0.3
    assert ContrastiveSearch(alpha=0.1, k=2).generate(model, [0], length=1).tokens[0].tolist() == [1]


def test_candidates_are_compared_with_everything_that_was_emitted_before() -> None:
    # after 0 and 2 both directions are taken; 3 is at 30 degrees from 2 and the least alike
    found = ContrastiveSearch(alpha=1.0, k=4).generate(Pointing(TABLE, DIRECTIONS), [0], length=3)
    assert found.tokens[0].tolist() == [2, 3, 0]
    np.testing.assert_allclose(found.details["penalties"], [0, 0.75**0.5, 1], atol=1e-6)


def test_the_whole_prompt_counts() -> None:
    found = ContrastiveSearch(alpha=1.0, k=4).generate(Pointing(TABLE, DIRECTIONS), [2, 1], length=1)
    assert found.tokens[0].tolist() == [3]


def test_k_limits_the_candidates_and_ties_go_to_the_lowest_token() -> None:
    model = Pointing(TABLE, [[1, 0]] * 4)
    assert ContrastiveSearch(alpha=1.0, k=2).generate(model, [0], length=1).tokens[0].tolist() == [1]
    assert ContrastiveSearch(alpha=1.0, k=3).generate(model, [0], length=1).tokens[0].tolist() == [0]
    assert ContrastiveSearch(alpha=0.5, k=1).generate(model, [0], length=2).tokens[0].tolist() == [1, 1]


@pytest.mark.parametrize("network", [tiny_llama(3), tiny_gemma(3)], ids=["llama", "gemma"])
@pytest.mark.parametrize(("alpha", "k"), [(0.6, 4), (0.3, 7)])
def test_it_equals_the_definition_with_fresh_forwards(network: Any, alpha: float, k: int) -> None:
    model = TransformersModel(network)
    prompt = [9, 10, 11, 12]
    found = ContrastiveSearch(alpha=alpha, k=k).generate(model, prompt, length=14)
    assert found.tokens[0].tolist() == by_definition(network, prompt, 14, alpha, k, {7})
    assert found.tokens[0].tolist() != Greedy().generate(model, prompt, length=14).tokens[0].tolist()
    steps = len(found.tokens[0])
    assert (found.passes, found.rows) == (1 + steps, 1 + k * steps)


@pytest.mark.parametrize("network", [tiny_llama(1), tiny_gemma(1)], ids=["llama", "gemma"])
def test_without_a_penalty_it_is_greedy_token_for_token(network: Any) -> None:
    model = TransformersModel(network, end=())
    greedy = Greedy().generate(model, [9, 10], length=30)
    found = ContrastiveSearch(alpha=0.0).generate(model, [9, 10], length=30)
    np.testing.assert_array_equal(found.tokens[0], greedy.tokens[0])
    assert found.logprobs[0] == pytest.approx(greedy.logprobs[0], abs=1e-3)


def test_it_stops_at_an_end_token() -> None:
    found = ContrastiveSearch(k=2).generate(Pointing(TABLE, DIRECTIONS, end=[2]), [0], length=9)
    assert found.tokens[0].tolist() == [2]
    assert found.finished.tolist() == [True]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ContrastiveSearch(alpha=1.5), "alpha=1.5"),
        (lambda: ContrastiveSearch(alpha=float("nan")), "alpha=nan"),
        (lambda: ContrastiveSearch(k=0), "k=0"),
        (lambda: ContrastiveSearch().generate(Pointing(TABLE, DIRECTIONS), [0], 2), "n=2"),
        (lambda: ContrastiveSearch().generate(MarkovModel(TABLE), [0]), "no hidden states"),
        (lambda: ContrastiveSearch().generate(Pointing(TABLE, DIRECTIONS), [4]), "outside the vocabulary"),
    ],
)
def test_mistakes_are_told(call: Any, words: str) -> None:
    with pytest.raises((ParameterError, UsageError), match=words):
        call()

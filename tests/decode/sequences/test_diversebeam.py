from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from decode.tiny import VOCABULARY, tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.sequences.beam import Beam
from kofn.decode.sequences.diversebeam import DiverseBeam
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError


def markov(seed: int, size: int = 5, end: tuple[int, ...] = ()) -> MarkovModel:
    return MarkovModel(np.random.default_rng(seed).dirichlet(np.full(size, 0.7), size), end)


def lists(answer: Any) -> list[list[int]]:
    return [each.tolist() for each in answer.tokens]


@pytest.mark.parametrize("end", [(), (2,)])
@pytest.mark.parametrize("diversity", [0.0, 0.7])
def test_one_group_is_beam_search_token_for_token(end: tuple[int, ...], diversity: float) -> None:
    for seed in range(6):
        model = markov(seed, end=end)
        one = DiverseBeam(groups=1, diversity=diversity, width=5).generate(model, [0], 4, length=6)
        plain = Beam(width=5).generate(model, [0], 4, length=6)
        assert lists(one) == lists(plain)
        np.testing.assert_allclose(one.logprobs, plain.logprobs, atol=1e-12)


def test_without_diversity_every_group_is_the_beam_search_of_its_width_also_on_a_network() -> None:
    model = TransformersModel(tiny_llama(3))
    prompt = np.random.default_rng(3).integers(8, VOCABULARY, 4).tolist()
    plain = Beam().generate(model, prompt, 2, length=8)
    groups = DiverseBeam(groups=3, diversity=0.0).generate(model, prompt, 6, length=8)
    for group in range(3):
        mine = [tokens for tokens, place in zip(lists(groups), groups.details["groups"], strict=True) if place == group]
        assert mine == lists(plain)


def test_the_penalty_turns_the_second_group_to_another_token() -> None:
    # after 0: 1 has 0.8, 2 has 0.2, a gap of log 4 = 1.386
    model = MarkovModel([[0.0, 0.8, 0.2], [0.0, 0.9, 0.1], [0.5, 0.3, 0.2]])
    assert lists(DiverseBeam(diversity=1.38).generate(model, [0], 2, length=1)) == [[1], [1]]
    turned = DiverseBeam(diversity=1.39).generate(model, [0], 2, length=1)
    assert lists(turned) == [[1], [2]]
    np.testing.assert_allclose(turned.logprobs, np.log([0.8, 0.2]), atol=1e-6)
    assert turned.details["groups"].tolist() == [0, 1]


def told(
    model: MarkovModel, groups: int, each: int, diversity: float, length: int
) -> list[list[tuple[tuple[int, ...], float]]]:
    """The paper's algorithm as it is told, for a model without an end: groups of (path, penalised score)."""
    live: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(groups)]
    for _ in range(length):
        used: list[int] = []
        for group in range(groups):
            every = [
                ((*path, token), s + float(np.log(model.table[(0, *path)[-1], token])) - diversity * used.count(token))
                for path, s in live[group]
                for token in range(model.vocabulary)
            ]
            live[group] = sorted(every, key=lambda one: -one[1])[:each]
            used += [path[-1] for path, _ in live[group]]
    return live


@pytest.mark.parametrize(("groups", "each"), [(2, 1), (3, 2), (2, 4)])
def test_groups_find_what_the_algorithm_as_told_finds(groups: int, each: int) -> None:
    for seed in range(6):
        model = markov(seed, size=7)
        wanted = told(model, groups, each, 0.6, 5)
        answer = DiverseBeam(groups=groups, diversity=0.6).generate(model, [0], groups * each, length=5)
        found = sorted(zip(answer.details["groups"].tolist(), map(tuple, lists(answer)), strict=True))
        assert found == sorted((group, path) for group, one in enumerate(wanted) for path, _ in one)
        scores = {(group, path): s for group, one in enumerate(wanted) for path, s in one}
        keys = zip(answer.details["groups"].tolist(), map(tuple, lists(answer)), strict=True)
        np.testing.assert_allclose(answer.details["scores"], [scores[key] for key in keys], atol=1e-5)
        np.testing.assert_allclose(answer.logprobs, [model.logprob([0], one) for one in lists(answer)], atol=1e-5)
        assert (np.diff(answer.logprobs) <= 0).all()


def test_groups_that_end_early_leave_the_others_to_go_on() -> None:
    # the first group ends at once; the second, kept from the end, walks on to the full length
    model = MarkovModel([[0.1, 0.9], [0.5, 0.5]], end=[1])
    answer = DiverseBeam(diversity=5.0).generate(model, [0], 2, length=3)
    assert lists(answer) == [[1], [0, 1]]
    assert answer.finished.tolist() == [True, True]


def test_the_best_of_each_group_come_before_the_second_of_any() -> None:
    model = markov(1, size=6)
    answer = DiverseBeam(groups=3, diversity=9.0, width=6).generate(model, [0], 3, length=4)
    assert sorted(answer.details["groups"].tolist()) == [0, 1, 2]


def test_groups_that_do_not_divide_the_width_are_an_error() -> None:
    with pytest.raises(ParameterError, match="width=5 is not a multiple of groups=2"):
        DiverseBeam(groups=2).generate(markov(0), [0], 5)
    with pytest.raises(ParameterError, match="diversity=-1"):
        DiverseBeam(diversity=-1.0)
    with pytest.raises(ParameterError, match="groups=0"):
        DiverseBeam(groups=0)


def test_the_rule_cuts_tokens_in_every_group() -> None:
    def not_token_1(logits: np.ndarray) -> np.ndarray:
        return np.where(np.arange(logits.shape[1]) == 1, -np.inf, logits).astype(np.float32)

    answer = DiverseBeam(rule=not_token_1).generate(markov(2), [0], 4, length=4)
    assert all(1 not in one for one in lists(answer))


def test_rules_that_remember_and_rules_as_text_are_refused_when_it_is_made() -> None:
    with pytest.raises(ParameterError, match=r"DiverseBeam cannot run Mirostat\(tau=3.0.*without memory"):
        DiverseBeam(rule=Mirostat(3.0))
    with pytest.raises(ParameterError, match=r"DiverseBeam: .*give parse_rule\('minp=0.1'\)"):
        DiverseBeam(rule="minp=0.1")

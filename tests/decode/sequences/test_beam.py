from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from decode.tiny import END, VOCABULARY, tiny_gemma, tiny_llama
from kofn.decode.markov import MarkovModel
from kofn.decode.rules.mirostat import Mirostat
from kofn.decode.sequences.beam import Beam
from kofn.decode.sequences.search import best_candidates
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import DataError, ParameterError, UsageError


def markov(seed: int, size: int = 5, end: tuple[int, ...] = ()) -> MarkovModel:
    return MarkovModel(np.random.default_rng(seed).dirichlet(np.full(size, 0.7), size), end)


def lists(answer: Any) -> list[list[int]]:
    return [each.tolist() for each in answer.tokens]


def score(path: tuple[int, ...], p: float, penalty: float) -> float:
    return float(np.log(p)) / len(path) ** penalty


def found(model: MarkovModel, answer: Any, wanted: list[tuple[tuple[int, ...], float]], penalty: float) -> None:
    """The sequences wanted, or others that tie with them: a Markov model's paths tie when they make the same moves."""
    every = list(map(tuple, lists(answer)))
    assert len(set(every)) == len(wanted)
    own = [score(path, float(np.exp(model.logprob([0], path))), penalty) for path in every]
    np.testing.assert_allclose(own, [score(*each, penalty) for each in wanted], atol=1e-9)
    np.testing.assert_allclose(answer.details["scores"], own, atol=1e-5)
    np.testing.assert_allclose(answer.logprobs, [model.logprob([0], path) for path in every], atol=1e-5)
    assert answer.finished.tolist() == [path[-1] in model.end for path in every]


@pytest.mark.parametrize("end", [(), (2,), (1, 4)])
@pytest.mark.parametrize("penalty", [0.0, 1.0, -0.5])
def test_a_beam_as_wide_as_all_sequences_finds_the_best_of_all(end: tuple[int, ...], penalty: float) -> None:
    for seed in range(5):
        model = markov(seed, end=end)
        every = sorted(model.sequences([0], 4), key=lambda each: -score(*each, penalty))[:6]
        answer = Beam(width=5**4, length_penalty=penalty).generate(model, [0], 6, length=4)
        found(model, answer, every, penalty)


def test_width_1_is_greedy_and_width_2_finds_what_greedy_cannot() -> None:
    # greedy: 1 (0.6), 1 (0.4) = 0.24; but 2 (0.4), 1 (1.0) = 0.4
    model = MarkovModel([[0.0, 0.6, 0.4], [0.3, 0.4, 0.3], [0.0, 1.0, 0.0]])
    assert lists(Beam().generate(model, [0], length=2)) == [[1, 1]]
    wide = Beam(width=2).generate(model, [0], length=2)
    assert lists(wide) == [[2, 1]]
    assert wide.logprobs[0] == pytest.approx(np.log(0.4), abs=1e-6)


def test_an_improbable_end_does_not_finish_a_beam_that_would_not_be_kept() -> None:
    # the end after 0 has probability 0.1, more than all that 8 more tokens leave; greedy search never looks at it
    model = MarkovModel([[0.9, 0.1], [0.5, 0.5]], end=[1])
    assert lists(Beam().generate(model, [0], length=40)) == [[0] * 40]
    assert lists(Beam(width=2).generate(model, [0], length=40)) == [[1]]


def test_ties_go_to_the_lowest_beam_then_to_the_lowest_token() -> None:
    model = MarkovModel(np.full((4, 4), 0.25))
    assert lists(Beam().generate(model, [0], 6, length=2)) == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]]


def never_stopping(model: MarkovModel, n: int, width: int, length: int, penalty: float) -> Any:
    """Beam search as it is told: every candidate in a list, no early stop."""
    live: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    done: list[tuple[tuple[int, ...], float]] = []
    for step in range(1, length + 1):
        every = [
            ((*path, token), p * float(model.table[(0, *path)[-1], token]))
            for path, p in live
            for token in range(model.vocabulary)
        ]
        every = sorted([each for each in every if each[1] > 0], key=lambda each: -each[1])
        done += [each for each in every[:width] if each[0][-1] in model.end]
        live = [each for each in every if each[0][-1] not in model.end][:width]
        if step == length:
            done += live
    return sorted(done, key=lambda each: -score(*each, penalty))[:n]


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_stopping_early_never_changes_the_answer(penalty: float) -> None:
    stopped = 0
    for seed, (n, width) in itertools.product(range(12), [(1, 1), (1, 3), (3, 3), (2, 6)]):
        model = markov(seed, end=(3,))
        answer = Beam(width=width, length_penalty=penalty).generate(model, [0], n, length=12)
        found(model, answer, never_stopping(model, n, width, 12, penalty), penalty)
        stopped += answer.passes < 12
    assert stopped > 0 or penalty > 1


def test_the_rule_is_the_law_that_is_decoded_from() -> None:
    model = MarkovModel([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.1, 0.6, 0.3]])

    def two_best(logits: np.ndarray) -> np.ndarray:
        least = np.sort(logits, axis=1)[:, -2:-1]
        return np.where(logits >= least, logits, -np.inf).astype(np.float32)

    answer = Beam(width=9, rule=two_best).generate(model, [0], 9, length=2)
    kept = {(0, 0): 25 / 64, (0, 1): 15 / 64, (1, 2): 15 / 64, (1, 1): 9 / 64}  # 5/8, 3/8 after 0 and after 1
    assert lists(answer) == [[0, 0], [0, 1], [1, 2], [1, 1]]
    np.testing.assert_allclose(np.exp(answer.logprobs), list(kept.values()), atol=1e-6)


def test_all_beams_of_a_step_are_one_batch() -> None:
    answer = Beam(width=3).generate(markov(0), [0], 2, length=5)
    assert answer.passes == 5
    assert answer.rows == 1 + 3 * 4
    assert len(answer) == 2


def test_fewer_sequences_come_back_where_the_law_has_fewer() -> None:
    model = MarkovModel([[0.0, 1.0], [0.4, 0.6]])
    assert lists(Beam().generate(model, [0], 8, length=2)) == [[1, 1], [1, 0]]


@pytest.mark.parametrize("network", [tiny_llama, tiny_gemma])
@pytest.mark.parametrize("width", [1, 4])
def test_it_is_the_beam_search_of_transformers_at_fixed_length(network: Any, width: int) -> None:
    for seed in range(3):
        torch_model = network(seed)
        prompt = np.random.default_rng(seed).integers(8, VOCABULARY, 5).tolist()
        answer = Beam().generate(TransformersModel(torch_model, end=()), prompt, width, length=12)
        theirs = torch_model.generate(
            torch.tensor([prompt]), num_beams=width, num_return_sequences=width, max_new_tokens=12,
            do_sample=False, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        assert lists(answer) == theirs[:, 5:].tolist()


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_it_is_the_beam_search_of_transformers_with_an_end_and_a_length_penalty(penalty: float) -> None:
    ended = 0
    for seed in range(8):
        torch_model = tiny_llama(seed)
        prompt = np.random.default_rng(seed).integers(8, VOCABULARY, 5).tolist()
        answer = Beam(length_penalty=penalty).generate(TransformersModel(torch_model), prompt, 6, length=10)
        theirs = torch_model.generate(
            torch.tensor([prompt]), num_beams=6, num_return_sequences=6, max_new_tokens=10, do_sample=False,
            length_penalty=penalty, early_stopping="never",
        )  # fmt: skip
        cut = [row[: row.index(END) + 1] if END in row else row for row in theirs[:, 5:].tolist()]
        assert lists(answer) == cut
        ended += int(answer.finished.sum())
    assert ended > 0


@pytest.mark.parametrize(
    ("beams", "vocabulary", "count"), [(1, 7, 3), (3, 20_000, 16), (5, 9_001, 64), (2, 4_096, 5_000)]
)
def test_the_best_candidates_are_the_first_of_a_full_sort(beams: int, vocabulary: int, count: int) -> None:
    rng = np.random.default_rng(beams)
    offsets = -3 * rng.random(beams)
    for x in (
        rng.standard_normal((beams, vocabulary)) * 2.5,
        rng.integers(0, 4, (beams, vocabulary)).astype(float),  # nearly all tie
        np.where(rng.random((beams, vocabulary)) < 0.9, -np.inf, rng.standard_normal((beams, vocabulary))),
        np.zeros((beams, vocabulary)),
    ):
        logits = x.astype(np.float32)
        found = best_candidates(logits, offsets, count)
        scores = (logits + offsets[:, None]).ravel()
        wanted = np.argsort(-scores, kind="stable")[: min(count, int(np.isfinite(scores).sum()))]
        np.testing.assert_array_equal(found.beams * vocabulary + found.tokens, wanted)
        np.testing.assert_array_equal(found.scores, scores[wanted])


def test_logits_that_are_no_law_are_an_error_that_names_the_row() -> None:
    def broken(logits: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(logits))[:, None] == 1, np.nan, logits).astype(np.float32)

    with pytest.raises(DataError, match="row 1"):
        Beam(rule=broken).generate(markov(0), [0], 3, length=3)


def test_a_width_below_n_and_other_numbers_out_of_range_are_errors() -> None:
    with pytest.raises(ParameterError, match="width=2 is less than the n=3"):
        Beam(width=2).generate(markov(0), [0], 3)
    with pytest.raises(ParameterError, match="width=0"):
        Beam(width=0)
    with pytest.raises(ParameterError, match="length_penalty=nan"):
        Beam(length_penalty=float("nan"))
    with pytest.raises(ParameterError, match="n=0"):
        Beam().generate(markov(0), [0], 0)
    with pytest.raises(UsageError, match="token 5"):
        Beam().generate(markov(0), [5])


def test_a_beam_equals_its_twin() -> None:
    assert Beam(width=3) == Beam(width=3) != Beam(width=4)


def test_rules_that_remember_and_rules_as_text_are_refused_when_it_is_made() -> None:
    with pytest.raises(ParameterError, match=r"Beam cannot run Mirostat\(tau=3.0.*without memory"):
        Beam(rule=Mirostat(3.0))
    with pytest.raises(ParameterError, match=r"Beam: .*give parse_rule\('minp=0.1'\)"):
        Beam(rule="minp=0.1")

"""What every decoder keeps to, over the whole table, on two architectures with caches and on a model of known law."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from decode.tiny import END, VOCABULARY, tiny_gemma, tiny_llama
from kofn.decode import MarkovModel, MinP, Mirostat, TransformersModel
from kofn.decode.model import Generations
from kofn.decode.table import DECODERS, decoder_class
from kofn.errors import KofnError, ParameterError, UsageError

ARCHITECTURES = {"llama": tiny_llama, "gemma with a window": tiny_gemma}
PROMPT = [1, 20, 31, 9, 45]
ONE = ("greedy", "contrastive")
"""Decoders of one sequence."""

EMBEDDED = ("superposed", "contrastive")
"""Decoders that look inside a network, so a table of chances is not enough."""

LENGTH = 12  # past the window of 8


def made(name: str, model: Any, n: int, *, seed: int = 3, length: int = LENGTH) -> Generations:
    decoder = decoder_class(name)()
    chance = {"seed": seed} if "seed" in inspect.signature(decoder.generate).parameters else {}
    return decoder.generate(model, PROMPT, 1 if name in ONE else n, length=length, **chance)


def network_of(kind: str) -> Any:
    return ARCHITECTURES[kind](scale=0.5)


def fresh_logprob(network: Any, tokens: np.ndarray) -> float:
    """Log-probability of the tokens by one forward pass without a cache."""
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([[*PROMPT, *tokens.tolist()]]), use_cache=False).logits[0].double()
    laws = torch.log_softmax(logits, -1)[len(PROMPT) - 1 : -1]
    return float(laws[range(len(tokens)), tokens.tolist()].sum())


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("name", DECODERS)
def test_sequences_are_whole_and_their_log_probabilities_are_those_of_a_fresh_pass(name: str, kind: str) -> None:
    network = network_of(kind)
    found = made(name, TransformersModel(network), 3)
    assert len(found) == (1 if name in ONE else 3)
    for tokens, logprob, finished in zip(found.tokens, found.logprobs, found.finished, strict=True):
        assert tokens.dtype == np.int64
        assert 1 <= len(tokens) <= LENGTH
        assert ((tokens >= 0) & (tokens < VOCABULARY)).all()
        assert END not in tokens[:-1]
        assert bool(finished) == (int(tokens[-1]) == END)
        assert finished or len(tokens) == LENGTH
        if name != "superposed":  # its drafts are scored by the superposed law
            assert logprob == pytest.approx(fresh_logprob(network, tokens), abs=1e-4)
    assert found.passes >= max(map(len, found.tokens))
    assert found.inclusion is None or ((found.inclusion > 0) & (found.inclusion <= 1)).all()


@pytest.mark.parametrize("name", DECODERS)
def test_asking_twice_is_asking_once_and_the_network_is_left_as_it_was(name: str) -> None:
    network = network_of("llama").train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first, second = (made(name, TransformersModel(network), 3) for _ in range(2))
    assert [each.tolist() for each in first.tokens] == [each.tolist() for each in second.tokens]
    assert first.logprobs.tolist() == second.logprobs.tolist()
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in ONE])
def test_decoders_of_different_sequences_never_repeat_one(name: str) -> None:
    found = made(name, TransformersModel(network_of("llama")), 4)
    different = {tuple(each.tolist()) for each in found.tokens}
    assert len(different) == 4 or name in ("sample", "arithmetic", "diverse-beam")  # these may


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in EMBEDDED])
def test_a_certain_model_leaves_nothing_to_choose(name: str) -> None:
    cycle = MarkovModel(np.roll(np.eye(50), 1, axis=1))
    found = made(name, cycle, 1, length=5)
    assert found.tokens[0].tolist() == [46, 47, 48, 49, 0]
    assert found.logprobs[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in EMBEDDED])
def test_an_end_token_ends_a_sequence_and_nothing_comes_after_it(name: str) -> None:
    table = np.full((50, 50), 0.5 / 49)
    table[:, 7] = 0.5
    found = made(name, MarkovModel(table, end=[7]), 4, length=30)
    for tokens, finished in zip(found.tokens, found.finished, strict=True):
        assert (tokens == 7).sum() == finished
        assert not finished or tokens[-1] == 7
    assert found.finished.any()


@pytest.mark.parametrize("name", DECODERS)
def test_wrong_calls_are_errors_that_say_the_mend(name: str) -> None:
    model = TransformersModel(network_of("llama"))
    decoder = decoder_class(name)()
    for n, length in ((0, 5), (1, 0), (True, 5), (1.5, 5)):
        with pytest.raises(ParameterError, match=r"give|ask"):
            decoder.generate(model, PROMPT, n, length=length)
    for prompt in ([], [VOCABULARY], [-1]):
        with pytest.raises(UsageError):
            decoder.generate(model, prompt, 1, length=3)
    if name in EMBEDDED:
        with pytest.raises(KofnError):
            decoder.generate(MarkovModel(np.eye(50)), PROMPT, 1, length=3)


@pytest.mark.parametrize("name", DECODERS)
def test_networks_as_they_come_and_prompts_that_are_no_row_of_tokens_are_told_with_the_mend(name: str) -> None:
    decoder, network = decoder_class(name)(), network_of("llama")
    with pytest.raises(UsageError, match=r"LlamaForCausalLM .*wrap it: TransformersModel\(model\)"):
        decoder.generate(network, PROMPT, 1, length=3)
    for prompt in ("hello", [PROMPT], torch.tensor([PROMPT]), [1, 2.5]):
        with pytest.raises(UsageError, match="a prompt is a list of token numbers"):
            decoder.generate(TransformersModel(network), prompt, 1, length=3)


RANDOM = [name for name in DECODERS if "seed" in inspect.signature(decoder_class(name).generate).parameters]


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("seed", [-1, 2**64, 1.7, True])
def test_a_seed_outside_of_64_bits_is_told_before_the_model_is_asked(name: str, seed: Any) -> None:
    class Unasked(MarkovModel):
        def start(self, prompts: Any) -> Any:
            raise AssertionError("asked")

    with pytest.raises(ParameterError, match=r"seed=.* is not a whole number from 0 to 2\*\*64 - 1"):
        decoder_class(name)().generate(Unasked(np.eye(50)), PROMPT, 1, length=3, seed=seed)


RULED = [name for name in DECODERS if "rule" in inspect.signature(decoder_class(name)).parameters]


@pytest.mark.parametrize("name", RULED)
def test_rules_that_a_decoder_cannot_run_are_told_when_it_is_made(name: str) -> None:
    cls = decoder_class(name)
    with pytest.raises(ParameterError, match=r"give parse_rule\('minp=0.1'\)"):
        cls(rule="minp=0.1")
    with pytest.raises(ParameterError, match="is a class"):
        cls(rule=MinP)
    for remembering in (Mirostat(3.0), MinP(0.1) | Mirostat(3.0)):
        if name == "sample":
            assert len(cls(rule=remembering).generate(MarkovModel(np.eye(50)), PROMPT, 1, length=3)) == 1
            continue
        with pytest.raises(ParameterError, match=f"{cls.__name__} cannot run .*without memory"):
            cls(rule=remembering)

"""Rules inside transformers' generate and llama-cpp-python's calling convention."""

import numpy as np
import pytest
import torch

from decode.tiny import tiny_llama
from kofn.decode import KLGuidedTemperature, MinP, Mirostat, Processor, SelfTerminating, Temperature, TopK, TopP
from kofn.decode.rules.rule import Rule

LOUD = {
    "temperature": 0.3, "top_k": 3, "top_p": 0.2, "min_p": 0.5, "typical_p": 0.3, "epsilon_cutoff": 0.3,
    "eta_cutoff": 0.3, "top_h": 0.1, "do_sample": False, "repetition_penalty": 1.5, "no_repeat_ngram_size": 1,
    "num_beams": 3, "min_length": 50, "min_new_tokens": 5, "bad_words_ids": [[7]], "suppress_tokens": [8, 11],
    "begin_suppress_tokens": [12], "sequence_bias": [[[13], 4.0]], "forced_eos_token_id": 14, "guidance_scale": 2.0,
    "exponential_decay_length_penalty": (1, 1.5), "renormalize_logits": True, "remove_invalid_values": True,
}  # fmt: skip


def generated(model: object, rule: object, **more: object) -> object:
    torch.manual_seed(0)
    prompt = torch.tensor([[1, 5, 9], [1, 8, 2]])
    return model.generate(  # type: ignore[attr-defined]
        prompt, max_new_tokens=6, output_scores=True, output_logits=True, return_dict_in_generate=True,
        attention_mask=torch.ones_like(prompt), **rule.generate_kwargs(), **more,  # type: ignore[attr-defined]
    )  # fmt: skip


@pytest.mark.parametrize("rule", [MinP(0.2), TopP(0.7), TopK(20) | Temperature(1.3), Temperature(2.0)], ids=repr)
def test_neither_warper_nor_processor_of_transformers_runs_beside_the_rule(rule: Rule) -> None:
    model = tiny_llama()
    for name, value in LOUD.items():
        setattr(model.generation_config, name, value)
    out = generated(model, rule)
    assert len(out.scores) > 0  # type: ignore[attr-defined]
    for scores, logits in zip(out.scores, out.logits, strict=True):  # type: ignore[attr-defined]
        assert torch.equal(scores, rule(logits.float()))


def test_a_model_that_samples_greedily_by_default_samples_with_the_rule() -> None:
    model = tiny_llama()
    model.generation_config.do_sample = False
    prompt = torch.ones((64, 1), dtype=torch.long)
    torch.manual_seed(0)
    out = model.generate(prompt, max_new_tokens=1, attention_mask=torch.ones_like(prompt), **TopK(5).generate_kwargs())
    assert 1 < len(out[:, -1].unique()) <= 5


def test_a_rule_that_remembers_sees_every_token_of_its_sequence_and_starts_anew_with_each_prompt() -> None:
    rule = Mirostat(2.0, rate=0.3)
    kwargs = rule.generate_kwargs()
    (processor,) = kwargs["logits_processor"]
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 50)).astype(np.float32))
    tokens, state = torch.tensor([[3, 4]]), rule.start(1)
    for step in range(5):
        expected, state = rule.step(x + step, state)
        assert torch.equal(processor(tokens, x + step), expected)
        token = int(expected.argmax())
        state = rule.saw([token], state)
        tokens = torch.cat([tokens, torch.tensor([[token]])], dim=1)
    assert state[0].limit != 4.0
    anew = rule.step(x, rule.start(1))[0]
    assert torch.equal(processor(torch.tensor([[9, 9]]), x), anew)
    assert torch.equal(processor(torch.tensor([[9, 8, 3]]), x), anew)  # one token longer, and another text


def test_generate_ends_by_the_bound_of_a_self_terminating_rule() -> None:
    rule = SelfTerminating(0.2, end=7) | TopK(1)  # 0.8 ** 4 < 1/2
    out = generated(tiny_llama(), rule, eos_token_id=7)
    assert (out.sequences[:, 3:] == 7).any(dim=1).all()  # type: ignore[attr-defined]


def test_a_second_row_comes_from_a_callable_of_the_tokens() -> None:
    x = torch.zeros(2, 30)
    x[:, 3] = 2.0
    (processor,) = KLGuidedTemperature(1.0).generate_kwargs(beside=lambda ids: x * ids[:, -1:])["logits_processor"]
    same, other = processor(torch.tensor([[1], [0]]), x)
    assert torch.equal(same, x[0])
    assert other.max() > 2.0


def test_llama_cpp_calls_with_one_row_of_numpy() -> None:
    scores = np.random.default_rng(0).normal(size=300).astype(np.single)
    out = Processor(MinP(0.3) | Mirostat(3.0))(np.array([1, 2, 3], np.intc), scores)
    assert out.shape == (300,)
    assert out.dtype == np.single
    assert 0 < np.isfinite(out).sum() < 300

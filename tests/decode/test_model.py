"""What every decoder checks of its call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from decode.tiny import tiny_llama
from kofn.decode import MarkovModel, MinP, Mirostat, Temperature, TopK
from kofn.decode.model import checked_model, checked_prompt, checked_rule, checked_seed, prompt_for
from kofn.errors import ParameterError, UsageError

MEND = r"a prompt is a list of token numbers; tokenizer\(text\)\.input_ids makes one"


@pytest.mark.parametrize(
    "prompt",
    [[3, 1, 2], (3, 1, 2), np.array([3, 1, 2], np.int32), torch.tensor([3, 1, 2]), list(torch.tensor([3, 1, 2]))],
    ids=["list", "tuple", "array", "tensor", "list of tensors"],
)
def test_a_prompt_is_any_row_of_whole_numbers(prompt: Any) -> None:
    listed = checked_prompt(prompt, 5)
    assert listed == [3, 1, 2]
    assert all(type(token) is int for token in listed)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("hello", "is of type str"),
        (b"hello", "is of type bytes"),
        ({"input_ids": [1, 2], "attention_mask": [1, 1]}, "is of type dict"),
        (7, "is of type int"),
        (None, "is of type NoneType"),
        ([[1, 2]], r"has \[1, 2\] at place 0"),
        (np.array([[1, 2]]), r"has \[1, 2\] at place 0"),
        (torch.tensor([[1, 2], [3, 4]]), r"has \[1, 2\] at place 0"),
        (["a", "b"], "has 'a' at place 0"),
        ([1, 2.5], r"has 2\.5 at place 1"),
        (np.array([0.5, 1.0]), r"has 0\.5 at place 0"),
        ([1, True], "has True at place 1"),
    ],
)
def test_text_tables_and_fractions_are_no_prompt_and_the_mend_is_told(prompt: Any, words: str) -> None:
    with pytest.raises(UsageError, match=f"the prompt {words}.*{MEND}"):
        checked_prompt(prompt, 5)


def test_a_long_table_as_prompt_is_told_in_two_lines_at_most() -> None:
    with pytest.raises(UsageError) as told:
        checked_prompt(np.ones((2, 5_000), np.int64), 5)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.int64(5), np.uint64(2**64 - 1)])
def test_a_seed_has_64_bits(seed: Any) -> None:
    assert checked_seed(seed) == int(seed)
    assert type(checked_seed(seed)) is int


@pytest.mark.parametrize("seed", [-1, 2**64, 1.7, 1.0, True, "3", None, np.float64(2)])
def test_what_would_give_the_draws_of_another_seed_is_none(seed: Any) -> None:
    with pytest.raises(ParameterError, match=r"seed=.* is not a whole number from 0 to 2\*\*64 - 1; give one"):
        checked_seed(seed)


@pytest.mark.parametrize("rule", [None, MinP(0.1), TopK(3) | Temperature(0.5), lambda logits: logits])
def test_rules_and_functions_of_logits_may_be_given(rule: Any) -> None:
    checked_rule("Beam", rule)
    checked_rule("Sampling", rule, remembers=True)


@pytest.mark.parametrize("rule", [Mirostat(3.0), TopK(3) | Mirostat(3.0)])
def test_a_rule_that_remembers_is_for_who_keeps_its_memory(rule: Any) -> None:
    checked_rule("Sampling", rule, remembers=True)
    with pytest.raises(ParameterError, match=r"Beam cannot run .*Mirostat\(tau=3.0.*give a rule without memory"):
        checked_rule("Beam", rule)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("minp=0.1", r"rule='minp=0.1' is no rule but text; give parse_rule\('minp=0.1'\)"),
        (MinP, r"rule=MinP is a class; give one of its values"),
        (0.9, r"rule=0.9 is no rule; give for example MinP\(0.1\)"),
    ],
)
@pytest.mark.parametrize("remembers", [False, True])
def test_what_is_no_rule_is_told_with_the_mend(rule: Any, words: str, remembers: bool) -> None:
    with pytest.raises(ParameterError, match=f"Beam: {words}"):
        checked_rule("Beam", rule, remembers=remembers)


def test_a_network_as_it_comes_is_to_be_wrapped_before_the_prompt_is_looked_at() -> None:
    with pytest.raises(UsageError, match=r"LlamaForCausalLM .*wrap it: TransformersModel\(model\)"):
        prompt_for(tiny_llama(), "text")
    assert prompt_for(MarkovModel(np.eye(3)), [2]) == [2]


@pytest.mark.parametrize("model", [(MarkovModel(np.eye(2)), None), "model", None, MarkovModel])
def test_what_is_no_language_model_is_told_by_its_type(model: Any) -> None:
    with pytest.raises(
        UsageError, match=rf"of type {type(model).__name__}, no language model; give a TransformersModel"
    ):
        checked_model(model)

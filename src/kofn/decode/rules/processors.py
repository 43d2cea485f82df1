"""Rules inside other people's generators: transformers and llama-cpp-python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kofn.decode.rules.rule import Rule
from kofn.decode.rules.stateful import Stateful

NEUTRAL: dict[str, Any] = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_h": None,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    **dict.fromkeys(
        (
            "min_new_tokens", "bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens",
            "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "guidance_scale",
            "watermarking_config",
        )
    ),
}  # fmt: skip
"""Arguments of `generate` with which no processor and no warper of transformers runs, whatever the model's
generation_config says. What is wanted beside the rule is given after it: `generate(**{**kwargs, "min_new_tokens": 5})`."""


def generate_kwargs(rule: Rule | Stateful, beside: Callable[[Any], Any] | None) -> dict[str, Any]:
    """See `Rule.generate_kwargs`."""
    from transformers import LogitsProcessorList

    return {**NEUTRAL, "logits_processor": LogitsProcessorList([Processor(rule, beside)])}


class Processor:
    """A rule as logits processor: called with the tokens so far and the scores, returns the scores.

    transformers calls it with tensors (B, n) and (B, V); llama-cpp-python with arrays (n,) and (V,):

    >>> from kofn.decode import MinP, Processor
    >>> processor = Processor(MinP(0.1))
    >>> # llm.create_completion(prompt, logits_processor=LogitsProcessorList([processor]),
    >>> #                       temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)

    A rule that remembers starts anew whenever the tokens are not those of the last call and one more.
    """

    def __init__(self, rule: Rule | Stateful, beside: Callable[[Any], Any] | None = None) -> None:
        self.rule = rule
        self._beside = beside
        self._state: list[Any] = []
        self._seen: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores with the tokens that are left out at -inf."""
        beside = None if self._beside is None else self._beside(input_ids)
        if isinstance(self.rule, Rule):
            return self.rule(scores, beside=beside)
        rows = np.asarray(input_ids.tolist()).reshape(-1, input_ids.shape[-1])
        if self._seen is not None and np.array_equal(rows[:, :-1], self._seen):
            self._state = self.rule.saw(rows[:, -1].tolist(), self._state)
        else:
            self._state = self.rule.start(len(rows))
        self._seen = rows
        scores, self._state = self.rule.step(scores, self._state, beside=beside)
        return scores

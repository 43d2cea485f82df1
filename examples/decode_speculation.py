"""The same text in fewer passes of the model: speculative decoding on a real language model.

    python examples/decode_speculation.py --model FOLDER

FOLDER is what `save_pretrained` of transformers wrote, model and tokenizer. A passage is to be copied, which prompt lookup
drafts well, and prose is to be gone on with, which it does not. Everything but the times is the same in each run.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import time
from typing import Any

from kofn.decode.rules.topk import TopK
from kofn.decode.sequences.sampling import Greedy
from kofn.decode.speculation.earlyexit import EarlyExit
from kofn.decode.speculation.frequency import FrequencyRanked, most_frequent
from kofn.decode.speculation.multidraft import MultiDraft
from kofn.decode.speculation.ngram import NGramDrafter
from kofn.decode.speculation.policy import Threshold
from kofn.decode.speculation.speculative import Speculative
from kofn.decode.transformers_model import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a transformers model with its tokenizer")
    parser.add_argument("--length", type=int, default=40, help="tokens of each answer (default 40)")
    options = parser.parse_args()
    model, tokenizer = load(options.model)
    passage = " ".join(pydoc_data.topics.topics["import"].split())[:420]
    prompts = {"copy": f"{passage}\n\nThe same text once more:\n\n{passage[:60]}", "prose": passage}
    for name, text in prompts.items():
        greedy(name, model, tokenizer, tokenizer(text).input_ids, options.length)
    sampled(model, tokenizer, tokenizer(prompts["prose"]).input_ids, options.length)


def greedy(name: str, model: Any, tokenizer: Any, prompt: list[int], length: int) -> None:
    """Greedy search, plainly and with drafters: the same tokens."""
    rule = TopK(1)
    began = time.perf_counter()
    plain = Greedy().generate(model, prompt, length=length)
    seconds = time.perf_counter() - began
    print(f"== {name}, greedy: {plain.passes} passes, {seconds:.1f} s")
    print("   " + tokenizer.decode(plain.tokens[0]).replace("\n", " "))
    layers = model.model.config.num_hidden_layers - 1
    drafters = {
        "prompt lookup": (NGramDrafter(3, shortest=2), 3),
        f"first {layers} layers": (EarlyExit(model, layers, rule=rule), 2),
    }
    for title, (drafter, drafted) in drafters.items():
        began = time.perf_counter()
        answer = Speculative(drafter, length=drafted, rule=rule).generate(model, prompt, length=length)
        shown(title, answer, seconds / (time.perf_counter() - began))
        print(f"     the same tokens: {answer.tokens[0].tolist() == plain.tokens[0].tolist()}")


def sampled(model: Any, tokenizer: Any, prompt: list[int], length: int) -> None:
    """Sampling: the same law, other tokens."""
    print("== prose, sampling")
    corpus = tokenizer(" ".join(pydoc_data.topics.topics.values())).input_ids
    kept = most_frequent(corpus, model.vocabulary, 0.05)
    layers = model.model.config.num_hidden_layers - 1
    ranked = FrequencyRanked(model, kept, layers=layers)
    methods = {
        f"first {layers} layers, 5 % of the output layer": Speculative(ranked, length=3),
        "the same, until a rejection is likely": Speculative(ranked, length=Threshold(0.5, limit=6)),
        "the same, two drafts": MultiDraft(ranked, drafts=2, length=3),
    }
    for title, method in methods.items():
        shown(title, method.generate(model, prompt, length=length, seed=1), None)


def shown(title: str, answer: Any, ratio: float | None) -> None:
    """A line of figures."""
    details = answer.details
    times = "" if ratio is None else f", {ratio:.2f} x the speed"
    print(
        f"   {title}: {answer.passes} passes, {details['tokens_per_pass']:.2f} tokens a pass, "
        f"{details['accepted']} of {details['tested']} drafts accepted{times}"
    )


if __name__ == "__main__":
    main()

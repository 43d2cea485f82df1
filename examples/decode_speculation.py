"""The same text in fewer passes of the model: speculative decoding on a real language model.

    python examples/decode_speculation.py --model FOLDER

FOLDER is what `save_pretrained` of transformers wrote, model and tokenizer. A passage of Python's reference is to be copied,
and to be gone on with. Passes are counted here; what they cost in time is measured by benchmarks/decode_speculation.py. The
output is the same in each run.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import textwrap
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
    plain = Greedy().generate(model, prompt, length=length)
    layers = model.model.config.num_hidden_layers - 1
    methods = {
        "prompt lookup, 3 drafted": Speculative(NGramDrafter(3, shortest=2), length=3, rule=rule),
        f"first {layers} layers, 2 drafted": Speculative(EarlyExit(model, layers, rule=rule), length=2, rule=rule),
    }
    titled(f"{name}, greedy search: {len(plain.tokens[0])} tokens", tokenizer.decode(plain.tokens[0]))
    print(f"{'no drafter':46} {plain.passes - 1:7} {len(plain.tokens[0]) / (plain.passes - 1):14.2f}")
    for title, method in methods.items():
        answer = method.generate(model, prompt, length=length)
        same = answer.tokens[0].tolist() == plain.tokens[0].tolist()
        print(figures(title, answer) + ("   the same tokens" if same else "   other tokens"), flush=True)


def sampled(model: Any, tokenizer: Any, prompt: list[int], length: int) -> None:
    """Sampling: the same law, other tokens."""
    corpus = tokenizer(" ".join(pydoc_data.topics.topics.values())).input_ids
    kept = most_frequent(corpus, model.vocabulary, 0.05)
    layers = model.model.config.num_hidden_layers - 1
    ranked = FrequencyRanked(model, kept, layers=layers)
    methods = {
        f"first {layers} layers, 5 % of the output layer": Speculative(ranked, length=3),
        "the same, until a rejection is likely": Speculative(ranked, length=Threshold(0.5, limit=6)),
        "the same, two drafts": MultiDraft(ranked, drafts=2, length=3),
    }
    for place, (title, method) in enumerate(methods.items()):
        answer = method.generate(model, prompt, length=length, seed=1)
        if not place:
            titled(f"prose, sampling: {len(answer.tokens[0])} tokens of the first", tokenizer.decode(answer.tokens[0]))
        print(figures(title, answer), flush=True)


def titled(title: str, text: str) -> None:
    """What is decoded, the text in lines of at most 96 columns, and the head of the table below it."""
    print(f"\n== {title}; passes after the prompt's")
    print(textwrap.fill(repr(text), 96, initial_indent="   ", subsequent_indent="   "))
    print(f"{'':46}  passes  tokens a pass    accepted")


def figures(title: str, answer: Any) -> str:
    """A line of the table."""
    details = answer.details
    accepted = f"{details['accepted']} of {details['tested']}"
    return f"{title:46} {answer.passes - 1:7} {details['tokens_per_pass']:14.2f} {accepted:>11}"


if __name__ == "__main__":
    main()

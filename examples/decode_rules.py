"""Rules, measures and draws on a real language model.

    python examples/decode_rules.py --model FOLDER

FOLDER is a transformers model with its tokenizer. Prints what each rule keeps of three next-token laws, what order does,
how a draw is repeated, and a text that transformers' own `generate` writes with a rule.
"""

from __future__ import annotations

import argparse
import textwrap

import numpy as np
import torch

from kofn.decode import Entropy, KeptMass, KeptSize, Sampling, SelfTerminating, TopK, child_seeds, load, parse_rule

PROMPTS = (
    "The first president of the United States was George",
    "The capital of France is",
    "My favourite thing about the city is the",
)
RULES = (
    *("topk=50", "topp=0.9", "minp=0.1", "typical=0.2", "epsilon=9e-4", "eta=9e-4", "topnsigma=1", "toph=0.4"),
    *("bregman=1e-3,alpha=1.5", "temp=2|topp=0.9", "topp=0.9|temp=2", "temp=2|minp=0.1"),
)


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a transformers model with its tokenizer")
    model, tokenizer = load(parser.parse_args().model)
    rows = np.concatenate([model.start([tokenizer(text).input_ids])[0] for text in PROMPTS])

    print("what each rule keeps of three laws: tokens, and the share of the model's mass that they hold\n")
    for number, (text, entropy) in enumerate(zip(PROMPTS, Entropy()(rows) / np.log(2)), 1):
        print(f"({number}) {text!r}: {entropy:.2f} bits")
    print("\nrule                  " + "".join(f"{f'({number})':>24}" for number in (1, 2, 3)))
    for text in RULES:
        rule = parse_rule(text)
        kept = zip(KeptSize(rule)(rows), KeptMass(rule)(rows))
        print(f"{text:22}" + "".join(f"{int(size):8,} tokens {100 * mass:6.1f} %" for size, mass in kept))

    rule, seeds = parse_rule("minp=0.1|temp=1.5"), child_seeds(7, 0, 3)  # a seed for each sequence
    drawn = rule.draw(rows, seeds, step=0)
    backwards = rule.draw(rows[::-1], seeds[::-1], step=0)[::-1]
    print(f"\none token of each by minp=0.1|temp=1.5: {[tokenizer.decode([token]) for token in drawn]}")
    print(f"the same with the rows in another order: {bool((drawn == backwards).all())}")

    print(f"\n24 tokens after {PROMPTS[2]!r}, seed 1, and the model's own surprise at them\n")
    prompt = tokenizer(PROMPTS[2]).input_ids
    for text in ("topp=0.9", "temp=1.5|minp=0.1", "mirostat=3"):
        found = Sampling(parse_rule(text)).generate(model, prompt, 1, length=24, seed=1)
        surprise = -found.details["model_token_logprobs"][0].mean() / np.log(2)
        print(f"{text}: {surprise:.2f} bits a token")
        print(indented(found.texts(tokenizer.decode)[0]))

    (end, *_) = sorted(model.end)
    ending = SelfTerminating(0.04, end=end)
    found = Sampling(ending | TopK(1)).generate(model, prompt, 1, length=40)
    print(f"the best token always, selfterminating=0.04: ends after {len(found.tokens[0])} of 40, bound {ending.bound}")
    print(indented(found.texts(tokenizer.decode)[0]))

    torch.manual_seed(1)  # generate draws with torch's own generator
    kwargs = parse_rule("temp=1.5|minp=0.1").generate_kwargs()
    out = model.model.generate(**tokenizer(PROMPTS[2], return_tensors="pt"), max_new_tokens=16, **kwargs)
    print("generate of transformers, with temp=1.5|minp=0.1:")
    print(indented(tokenizer.decode(out[0], skip_special_tokens=True)))


def indented(text: str) -> str:
    """The text as one paragraph of at most 96 columns."""
    return textwrap.fill(repr(text), 96, initial_indent="    ", subsequent_indent="    ")


if __name__ == "__main__":
    main()

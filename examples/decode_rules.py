"""Rules, measures and draws on a real language model.

    python examples/decode_rules.py --model FOLDER

FOLDER is a transformers model with its tokenizer. Prints what each rule keeps of three next-token laws, what order does,
how a draw is repeated, and a text that transformers' own `generate` writes with a rule.
"""

from __future__ import annotations

import argparse

import numpy as np

from kofn.decode import Entropy, KeptMass, KeptSize, MinP, Mirostat, Sampling, Temperature, TopP, load, parse_rule

PROMPTS = (
    "The first president of the United States was George",
    "The capital of France is",
    "My favourite thing about the city is the",
)
RULES = ("topk=50", "topp=0.9", "minp=0.1", "typical=0.2", "epsilon=9e-4", "eta=9e-4", "topnsigma=1", "toph=0.4")


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    model, tokenizer = load(parser.parse_args().model)
    rows = np.concatenate([model.start([tokenizer(text).input_ids])[0] for text in PROMPTS])

    print("entropy in bits:", (Entropy()(rows) / np.log(2)).round(2).tolist())
    for text in (*RULES, "bregman=1e-3,alpha=1.5", "temp=2|topp=0.9", "topp=0.9|temp=2", "temp=2|minp=0.1"):
        rule = parse_rule(text)
        sizes, masses = KeptSize(rule)(rows), KeptMass(rule)(rows)
        print(
            f"{text:24}", "  ".join(f"{int(size):7,} tokens {100 * mass:5.1f} %" for size, mass in zip(sizes, masses))
        )

    rule = MinP(0.1) | Temperature(1.5)
    together = rule.draw(rows, seeds=7, step=0)
    backwards = rule.draw(rows[::-1], seeds=sequence_seeds(3)[::-1], step=0)[::-1]
    print("drawn:", [tokenizer.decode([token]) for token in together])
    print("the same in another order:", bool((together == backwards).all()))

    prompt = tokenizer(PROMPTS[2]).input_ids
    for rule in (TopP(0.9), Temperature(1.5) | MinP(0.1), Mirostat(3.0)):
        found = Sampling(rule).generate(model, prompt, 1, length=24, seed=1)
        own = found.details["model_token_logprobs"][0]
        print(f"{rule}: {-own.mean() / np.log(2):.2f} bits a token:", repr(found.texts(tokenizer.decode)[0]))

    kwargs = (Temperature(1.5) | MinP(0.1)).generate_kwargs()
    out = model.model.generate(**tokenizer(PROMPTS[2], return_tensors="pt"), max_new_tokens=16, **kwargs)
    print("generate of transformers:", repr(tokenizer.decode(out[0], skip_special_tokens=True)))


def sequence_seeds(n: int) -> np.ndarray:
    """Seeds of sequences 0..n-1 of seed 7."""
    from kofn.decode import child_seeds

    return child_seeds(7, 0, n)


if __name__ == "__main__":
    main()

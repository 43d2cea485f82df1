"""Sequences from a real language model: arithmetic and priority sampling, superposed drafts.

    python examples/decode_sequences.py --model FOLDER

FOLDER is what `save_pretrained` of transformers wrote, model and tokenizer. The figures in docs/decode/sequences.md come
from this script with Gemma 3 270M. Everything but the times is the same in each run.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import textwrap
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import regex

from kofn.core.logits import log_normalizers
from kofn.decode import Temperature, TopP
from kofn.decode.model import Generations
from kofn.decode.sequences.arithmetic import ArithmeticSampling
from kofn.decode.sequences.ngrams import NGramModel
from kofn.decode.sequences.priority import PrioritySampling
from kofn.decode.sequences.sampling import Sampling
from kofn.decode.sequences.superposed import SuperposedDecoding
from kofn.decode.transformers_model import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a transformers model with its tokenizer")
    parser.add_argument("--repeats", type=int, default=16, help="repeats of sixteen sequences (default 16)")
    parser.add_argument("--prompts", type=int, default=50, help="prompts for superposed drafts (default 50)")
    parser.add_argument(
        "--only", choices=["first", "arithmetic", "priority", "pattern", "superposed"], help="one part alone"
    )
    options = parser.parse_args()
    model, tokenizer = load(options.model)
    parts = {
        "first": lambda: first_token(model, tokenizer),
        "arithmetic": lambda: arithmetic(model, tokenizer, options.repeats),
        "priority": lambda: priority(model, tokenizer),
        "pattern": lambda: pattern(model, tokenizer),
        "superposed": lambda: superposed(model, tokenizer, options.prompts),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            began = time.perf_counter()
            print(f"== {name}", flush=True)
            part()
            print(f"({name}: {time.perf_counter() - began:.0f} s)\n", flush=True)


def first_token(model: Any, tokenizer: Any) -> None:
    """How much a mean over 16 sequences varies, against independent draws: of the first token, whose law is known."""
    print("log-probability of the first token: mean, and std of a mean of 16 against independent draws\n")
    print("prompt                     temperature   bits    mean   of 600 x 16   ratio of std")
    for text in ("The weather in London is", "The capital of France is"):
        logits, _ = model.start([tokenizer.encode(text)])
        again = Known(logits)
        for temperature in (1.0, 0.7, 0.5, 0.3):
            rule = Temperature(temperature)
            x = rule(logits)[0].astype(np.float64)
            law = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
            gains = np.log(law[law > 0])
            mean = law[law > 0] @ gains
            independent = np.sqrt(law[law > 0] @ (gains - mean) ** 2 / 16)
            means = [
                np.mean(ArithmeticSampling(rule).generate(again, [0], 16, length=1, seed=seed).logprobs)
                for seed in range(600)
            ]
            print(
                f"{text:26} {temperature:11} {-mean / np.log(2):6.1f} {mean:7.3f} {np.mean(means):13.3f} "
                f"{np.std(means) / independent:14.2f}",
                flush=True,
            )


def arithmetic(model: Any, tokenizer: Any, repeats: int) -> None:
    """The same for rewards of whole sequences; independent draws are as many as a quarter of the repeats' sequences."""
    for text, temperature in (("The capital of France is", 0.3), ("The weather in London is", 1.0)):
        prompt, rule = tokenizer.encode(text), Temperature(temperature)
        together = [
            ArithmeticSampling(rule).generate(model, prompt, 16, length=20, seed=seed) for seed in range(repeats)
        ]
        apart = Sampling(rule).generate(model, prompt, 4 * repeats, length=20, seed=1_000)
        print(f"{text!r}, temperature {temperature}: mean over 16 sequences of 20 tokens, {repeats} repeats")
        print(f"{'reward':32}   mean  independent  std of mean  independent   ratio")
        for name, reward in REWARDS.items():
            means, draws = np.array([np.mean(reward(each)) for each in together]), np.array(reward(apart))
            spread, independent = means.std(ddof=1), draws.std(ddof=1) / 4  # of a mean of 16
            ratio = spread / independent
            print(
                f"{name:32} {means.mean():6.3f} {draws.mean():12.3f} {spread:12.4f} {independent:12.4f} "
                f"{ratio:7.2f} +- {ratio * np.sqrt(0.5 / (repeats - 1) + 0.5 / (4 * repeats - 1)):.2f}",
                flush=True,
            )
        print()


class Known:
    """A model of one token, whose logits are known."""

    def __init__(self, logits: Any) -> None:
        self.logits, self.vocabulary, self.end = logits, logits.shape[1], frozenset[int]()

    def start(self, prompts: Any) -> tuple[Any, None]:
        return self.logits, None


def fluency(length: int) -> Callable[[Generations], list[float]]:
    """Log-probability a token of each sequence's first `length` tokens."""
    return lambda drawn: [float(gains[:length].mean()) for gains in drawn.details["token_logprobs"]]


def distinct(drawn: Generations) -> list[float]:
    """Share of different ones among a sequence's pairs of neighbouring tokens."""
    pairs = [list(pairwise(tokens.tolist())) for tokens in drawn.tokens]
    return [len(set(each)) / len(each) if each else 1.0 for each in pairs]


REWARDS = {
    "log-probability a token, first 2": fluency(2),
    "log-probability a token, first 5": fluency(5),
    "log-probability a token, all 20": fluency(20),
    "distinct-2 of all 20": distinct,
}


def priority(model: Any, tokenizer: Any) -> None:
    """Thirty sequences without a duplicate, and how many nucleus sampling repeats."""
    prompt = tokenizer.encode("The capital of France is")
    print(f"{'30 sequences of 10 tokens':30} duplicates   of texts   passes   of sequences")
    found = PrioritySampling().generate(model, prompt, 30, length=10)
    print(counted("priority sampling", found, tokenizer), flush=True)
    for temperature in (0.3, 0.7, 1.0):
        drawn = Sampling(Temperature(temperature) | TopP(0.9)).generate(model, prompt, 30, length=10, seed=0)
        print(counted(f"nucleus 0.9, temperature {temperature}", drawn, tokenizer), flush=True)
    print("\nplace   probability of the branch   priority sampling's text")
    for place in (0, 1, 2, 3, 29):
        confidence = found.details["confidences"][place]
        print(f"{place + 1:5} {confidence:27.3f}   {tokenizer.decode(found.tokens[place].tolist())!r}")


def counted(name: str, drawn: Generations, tokenizer: Any) -> str:
    """Duplicates by tokens and by text, and what the sequences cost."""
    tokens = len(drawn) - len({tuple(each.tolist()) for each in drawn.tokens})
    texts = len(drawn) - len(set(drawn.texts(tokenizer.decode)))
    return f"{name:30} {tokens:10} {texts:10} {drawn.passes:8} {drawn.rows / drawn.passes:14.1f}"


def pattern(model: Any, tokenizer: Any) -> None:
    """Sequences that match a regular expression."""
    wanted = r" (\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten) (hours|days|weeks|months|years)"
    prompt = tokenizer.encode("To learn to play the piano well takes about")
    method = PrioritySampling(pattern=wanted, decode=tokenizer.decode)
    found = method.generate(model, prompt, 12, length=6)
    texts = found.texts(lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True))
    matching = sum(regex.fullmatch(wanted, text) is not None for text in texts)
    print(f"{matching} of {len(texts)} match, {found.details['dropped']} dropped, {found.passes} passes:")
    print(textwrap.fill(",".join(texts).strip(), 96))


def superposed(model: Any, tokenizer: Any, count: int) -> None:
    """Three drafts a pass: with and without n-grams, judged by the full model."""
    ngrams, prompts = corpus(model, tokenizer, count)
    methods = {
        "without n-grams": SuperposedDecoding(),
        "with n-grams as published": SuperposedDecoding(ngrams=ngrams),
        "with n-grams, alpha 0.1": SuperposedDecoding(ngrams=ngrams, alpha=0.1),
    }
    print(f"log-probability a token under the full model, {count} prompts of 15 tokens, 3 drafts of 10 tokens\n")
    print(f"{'':28} drafts   first draft   drafts less without   passes a prompt")
    examples: dict[str, list[str]] = {}
    plain = np.zeros(0)
    for name, method in methods.items():
        drafts = [method.generate(model, prompt, 3, length=10) for prompt in prompts]
        judged = [judgement(model, prompt, each) for prompt, each in zip(prompts, drafts, strict=True)]
        every = np.array([np.mean(each) for each in judged])
        plain = every if not len(plain) else plain
        line = f"{name:28} {every.mean():6.3f} {np.mean([each[0] for each in judged]):13.3f}"
        gap, error = (every - plain).mean(), (every - plain).std(ddof=1) / np.sqrt(len(plain))
        less = "" if every is plain else f"{gap:+.3f} +- {error:.3f}"
        print(f"{line} {less:>21} {np.mean([each.passes for each in drafts]):17.1f}", flush=True)
        examples[name] = drafts[0].texts(tokenizer.decode)
    nucleus = Sampling(TopP(0.9)).generate_each(model, [prompt for prompt in prompts for _ in range(3)], length=10)
    shares = [float(np.mean(each)) for each in nucleus.details["model_token_logprobs"]]
    print(f"{'nucleus 0.9, three sequences':28} {np.mean(shares):6.3f}")
    print(f"\nthe first prompt, {tokenizer.decode(prompts[0], skip_special_tokens=True)!r}, goes on")
    for name, texts in examples.items():
        print(f"  {name}:")
        for text in texts:
            print(f"    {text!r}")


def corpus(model: Any, tokenizer: Any, count: int) -> tuple[NGramModel, list[list[int]]]:
    """N-grams of three quarters of Python's help topics, and prompts of 15 tokens from the rest."""
    names = sorted(pydoc_data.topics.topics)
    encoded = {name: tokenizer.encode(pydoc_data.topics.topics[name], add_special_tokens=False) for name in names}
    held = names[::4]
    read = [encoded[name] for name in names if name not in held]
    ngrams = NGramModel(read, model.vocabulary)
    print(f"n-grams of {sum(map(len, read)):,} tokens: {ngrams.nbytes / 1e6:.1f} MB")
    begin = tokenizer.encode("")  # what the tokenizer puts first
    text = np.concatenate([encoded[name] for name in held])
    places = np.linspace(0, len(text) - 15, count).astype(int)
    return ngrams, [[*begin, *text[place : place + 15].tolist()] for place in places]


def judgement(model: Any, prompt: list[int], drafts: Generations) -> list[float]:
    """Log-probability a token of each draft, by the model on the draft itself."""
    longest = max(map(len, drafts.tokens))
    tokens = np.zeros((len(drafts), longest), np.int64)
    for row, draft in zip(tokens, drafts.tokens, strict=True):
        row[: len(draft)] = draft
    first, state = model.start([prompt])
    every, _ = model.all_logits(tokens, model.select(state, [0] * len(drafts)))
    logits = np.concatenate([np.repeat(first[:, None], len(drafts), axis=0), every[:, :-1]], axis=1)
    normalizers = log_normalizers(logits.reshape(-1, logits.shape[-1])).reshape(tokens.shape)
    gains = np.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0] - normalizers
    return [float(row[: len(draft)].mean()) for row, draft in zip(gains, drafts.tokens, strict=True)]


if __name__ == "__main__":
    main()

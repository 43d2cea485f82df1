"""Sequences from a real language model: arithmetic and priority sampling, superposed drafts.

    python examples/decode_sequences.py --model FOLDER

FOLDER is what `save_pretrained` of transformers wrote, model and tokenizer. The figures in docs/decode/sequences.md come
from this script with Gemma 3 270M. Everything but the times is the same in each run.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
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
    parser.add_argument("--repeats", type=int, default=24, help="repeats of sixteen sequences (default 24)")
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
            print(f"   {time.perf_counter() - began:.0f} s\n", flush=True)


def arithmetic(model: Any, tokenizer: Any, repeats: int) -> None:
    """How much a mean over 16 sequences varies: arithmetic sampling against independent draws."""
    for text, temperature in (("The capital of France is", 0.3), ("The weather in London is", 1.0)):
        prompt, rule = tokenizer.encode(text), Temperature(temperature)
        together = [
            ArithmeticSampling(rule).generate(model, prompt, 16, length=20, seed=seed) for seed in range(repeats)
        ]
        apart = Sampling(rule).generate(model, prompt, 4 * repeats, length=20, seed=1_000)
        for name, reward in REWARDS.items():
            means = np.array([np.mean(reward(each)) for each in together])
            draws = np.array(reward(apart))
            independent = draws.std(ddof=1) / 4  # of a mean of 16
            print(
                f"   {text!r}, temperature {temperature}, {name}: mean {means.mean():.3f}, independently {draws.mean():.3f}; "
                f"std of a mean of 16: {means.std(ddof=1):.4f} over {repeats} repeats, independently {independent:.4f}: "
                f"ratio {means.std(ddof=1) / independent:.2f}",
                flush=True,
            )


def first_token(model: Any, tokenizer: Any) -> None:
    """The same for the first token alone, whose law is known: no noise but that of 600 offsets."""
    for text in ("The weather in London is", "The capital of France is"):
        logits, _ = model.start([tokenizer.encode(text)])
        for temperature in (1.0, 0.7, 0.5, 0.3):
            rule = Temperature(temperature)
            x = rule(logits)[0].astype(np.float64)
            law = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
            gains = np.log(law[law > 0])
            mean = law[law > 0] @ gains
            independent = np.sqrt(law[law > 0] @ (gains - mean) ** 2 / 16)
            again = Known(logits)
            means = [
                np.mean(ArithmeticSampling(rule).generate(again, [0], 16, length=1, seed=seed).logprobs)
                for seed in range(600)
            ]
            print(
                f"   {text!r}, temperature {temperature}, {-mean / np.log(2):.1f} bits: mean log-probability {mean:.3f}, "
                f"of 600 x 16 {np.mean(means):.3f}; std of a mean of 16: ratio {np.std(means) / independent:.2f}",
                flush=True,
            )


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
    "log-probability a token of the first 2": fluency(2),
    "log-probability a token of the first 5": fluency(5),
    "log-probability a token of all 20": fluency(20),
    "distinct-2 of all 20": distinct,
}


def priority(model: Any, tokenizer: Any) -> None:
    """Thirty sequences without a duplicate, and how many nucleus sampling repeats."""
    prompt = tokenizer.encode("The capital of France is")
    found = PrioritySampling().generate(model, prompt, 30, length=10)
    print(f"   priority sampling: {counted(found, tokenizer)}, {found.passes} passes of one sequence")
    for place in (0, 1, 2, 3, 29):
        confidence = found.details["confidences"][place]
        print(f"   {place + 1:2d}  {confidence:.3f}  {tokenizer.decode(found.tokens[place].tolist())!r}")
    for temperature in (0.3, 0.7, 1.0):
        drawn = Sampling(Temperature(temperature) | TopP(0.9)).generate(model, prompt, 30, length=10, seed=0)
        print(
            f"   nucleus 0.9, temperature {temperature}: {counted(drawn, tokenizer)}, {drawn.passes} passes of up to 30"
        )


def counted(drawn: Generations, tokenizer: Any) -> str:
    """Duplicates by tokens and by text."""
    sequences = {tuple(tokens.tolist()) for tokens in drawn.tokens}
    texts = set(drawn.texts(tokenizer.decode))
    return f"{len(drawn)} sequences, {len(drawn) - len(sequences)} duplicates ({len(drawn) - len(texts)} of texts)"


def pattern(model: Any, tokenizer: Any) -> None:
    """Sequences that match a regular expression."""
    wanted = r" (\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten) (hours|days|weeks|months|years)"
    prompt = tokenizer.encode("To learn to play the piano well takes about")
    method = PrioritySampling(pattern=wanted, decode=tokenizer.decode)
    found = method.generate(model, prompt, 12, length=6)
    texts = found.texts(lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True))
    matching = sum(regex.fullmatch(wanted, text) is not None for text in texts)
    print(f"   {matching} of {len(texts)} match, {found.details['dropped']} dropped, {found.passes} passes")
    print(f"   {texts}")


def superposed(model: Any, tokenizer: Any, count: int) -> None:
    """Three drafts a pass: with and without n-grams, judged by the full model."""
    names = sorted(pydoc_data.topics.topics)
    encoded = {name: tokenizer.encode(pydoc_data.topics.topics[name], add_special_tokens=False) for name in names}
    held = names[::4]
    ngrams = NGramModel([encoded[name] for name in names if name not in held], model.vocabulary)
    size = sum(len(encoded[name]) for name in names if name not in held)
    print(f"   n-grams of {size} tokens: {ngrams.sizes} of orders 2 to 6, {ngrams.nbytes / 1e6:.1f} MB")
    begin = tokenizer.encode("")  # what the tokenizer puts first
    text = np.concatenate([encoded[name] for name in held])
    places = np.linspace(0, len(text) - 15, count).astype(int)
    prompts = [[*begin, *text[place : place + 15].tolist()] for place in places]
    methods = {
        "without n-grams": SuperposedDecoding(),
        "with n-grams as published": SuperposedDecoding(ngrams=ngrams),
        "with n-grams, alpha 0.1": SuperposedDecoding(ngrams=ngrams, alpha=0.1),
    }
    judged = {}
    for name, method in methods.items():
        drafts = [method.generate(model, prompt, 3, length=10) for prompt in prompts]
        judged[name] = [judgement(model, prompt, each) for prompt, each in zip(prompts, drafts, strict=True)]
        best = np.mean([each[0] for each in judged[name]])
        every = np.mean([np.mean(each) for each in judged[name]])
        print(
            f"   {name}: log-probability a token under the full model {every:.3f} (the first draft {best:.3f}); "
            f"{np.mean([each.passes for each in drafts]):.1f} passes a prompt for {len(drafts[0])} drafts of 10 tokens",
            flush=True,
        )
        print(f"      {drafts[0].texts(tokenizer.decode)}", flush=True)
        if name != "without n-grams":
            plain = judged["without n-grams"]
            gaps = np.array([np.mean(a) - np.mean(b) for a, b in zip(judged[name], plain, strict=True)])
            print(f"      less without: {gaps.mean():+.3f} +- {gaps.std(ddof=1) / np.sqrt(len(gaps)):.3f}", flush=True)
    nucleus = Sampling(TopP(0.9)).generate_each(model, [prompt for prompt in prompts for _ in range(3)], length=10)
    shares = [float(np.mean(each)) for each in nucleus.details["model_token_logprobs"]]
    print(f"   nucleus 0.9, three sequences a prompt: {np.mean(shares):.3f}")


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

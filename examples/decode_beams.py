"""Several good sequences from a real language model: beam search, diverse, stochastic and conditional Poisson beams.

    python examples/decode_beams.py --model FOLDER

FOLDER is what `save_pretrained` of transformers wrote, model and tokenizer. The figures in docs/decode/beams.md come from
this script with Gemma 3 270M. Everything but the times is the same in each run.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from kofn.decode.markov import MarkovModel
from kofn.decode.model import Generations
from kofn.decode.sequences.beam import Beam
from kofn.decode.sequences.conditionalpoissonbeam import ConditionalPoissonBeam
from kofn.decode.sequences.designs import expectation
from kofn.decode.sequences.diversebeam import DiverseBeam
from kofn.decode.sequences.stochasticbeam import StochasticBeam
from kofn.decode.transformers_model import load

PROMPTS = Path(__file__).parent.parent / "benchmarks" / "data" / "decode_prompts.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", help="folder of a transformers model with its tokenizer; not needed for `estimates` and `steps`"
    )
    parser.add_argument("--prompts", type=int, default=50, help="prompts for diversity (default 50)")
    parser.add_argument("--length", type=int, default=12, help="tokens of each sequence for diversity (default 12)")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5], help="penalties to try (default 0.5)")
    parser.add_argument("--only", choices=["four", "diversity", "estimates", "steps"], help="one part alone")
    options = parser.parse_args()
    if options.model is None and options.only not in ("estimates", "steps"):
        parser.error("--model is needed for everything but --only estimates and --only steps")
    loaded = load(options.model) if options.model else (None, None)
    parts = {
        "four": lambda: four(*loaded),
        "diversity": lambda: diversity(*loaded, options.prompts, options.length, options.strengths),
        "estimates": estimates,
        "steps": steps,
    }
    for name, part in parts.items():
        if options.only in (None, name):
            print(f"== {name}")
            part()


def four(model: Any, tokenizer: Any) -> None:
    """Each decoder on one prompt."""
    prompt = tokenizer.encode("The capital of France is")
    for decoder in (Beam(), DiverseBeam(), StochasticBeam(), ConditionalPoissonBeam()):
        answer = decoder.generate(model, prompt, 6, length=12)
        print(f"{type(decoder).__name__}: {answer.passes} passes of {answer.rows / answer.passes:.1f} sequences")
        if answer.inclusion is not None:
            print(f"   sum of p / inclusion, 1 on average: {expectation(answer, np.ones(len(answer))):.2g}")
        for place, (text, logprob) in enumerate(zip(answer.texts(tokenizer.decode), answer.logprobs, strict=True)):
            chance = "" if answer.inclusion is None else f"  inclusion {answer.inclusion[place]:.2e}"
            print(f"   {logprob:8.3f}{chance}  {text!r}")
        print(flush=True)


def diversity(model: Any, tokenizer: Any, count: int, length: int, strengths: list[float]) -> None:
    """Distinct pairs in lists of six, and the best log-probability, of groups against plain beam search."""
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()[:count]
    prompts = [tokenizer.encode(json.loads(line)["text"]) for line in lines]
    decoders: dict[str, Any] = {"beam": Beam()}
    for strength in strengths:
        decoders[f"groups=3, diversity={strength:g}"] = DiverseBeam(groups=3, diversity=strength)
    began = time.perf_counter()
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    for done, prompt in enumerate(prompts, 1):
        for name, decoder in decoders.items():
            answer = decoder.generate(model, prompt, 6, length=length)
            rows[name].append((distinct_pairs(answer), float(answer.logprobs.max())))
        if done % 10 == 0 or done == len(prompts):
            print(f"{done} prompts, 6 sequences of at most {length} tokens, {time.perf_counter() - began:.0f} s")
            table(rows)


def table(rows: dict[str, list[tuple[float, float]]]) -> None:
    """Means, and what changed against beam search."""
    plain = np.array(rows["beam"])
    print(f"{'decoder':23} distinct-2  best log p   against beam search: distinct-2 up, best log p")
    for name, figures in rows.items():
        mine = np.array(figures)
        up = int((mine[:, 0] > plain[:, 0]).sum())
        change = mine[:, 1].mean() / plain[:, 1].mean() - 1
        print(
            f"{name:23} {mine[:, 0].mean():10.3f} {mine[:, 1].mean():11.3f}   up on {up} of {len(mine)}, "
            f"{100 * change:.1f} % lower; within 2 % on {int((mine[:, 1] >= 1.02 * plain[:, 1]).sum())}",
            flush=True,
        )


def distinct_pairs(answer: Generations) -> float:
    """Share of different ones among the pairs of neighbouring tokens of the whole list."""
    pairs = [pair for tokens in answer.tokens for pair in pairwise(tokens.tolist())]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def estimates() -> None:
    """Root mean squared error of estimated means, by sampling design and entropy of the law, on a law known exactly."""
    print("RMSE of the mean number of token 0 in 3 tokens, 600 seeds; vocabulary 12; by entropy in nats")
    print("  nats   n   independent   stochastic: plain, normalised   conditional Poisson: plain, normalised")
    for concentration in (0.1, 0.5, 50.0):
        model = MarkovModel(np.random.default_rng(0).dirichlet(np.full(12, concentration), 12))
        law = list(model.sequences([0], 3))
        truth = sum(p * path.count(0) for path, p in law)
        spread = np.sqrt(sum(p * (path.count(0) - truth) ** 2 for path, p in law))
        entropy = -sum(p * np.log(p) for _, p in law)
        for n in (4, 16):
            errors = [spread / np.sqrt(n)]
            for decoder in (StochasticBeam(), ConditionalPoissonBeam()):
                drawn = [decoder.generate(model, [0], n, length=3, seed=seed) for seed in range(600)]
                for normalized in (False, True):
                    found = np.array([expectation(each, zeros(each), normalized=normalized) for each in drawn])
                    errors.append(np.sqrt(((found - truth) ** 2).mean()))
            independent, *designs = (f"{error:.3f}" for error in errors)
            print(
                f"{entropy:6.2f} {n:3} {independent:>13} {designs[0]:>24}, {designs[1]} {designs[2]:>31}, {designs[3]}",
                flush=True,
            )


def zeros(answer: Generations) -> list[int]:
    return [int((tokens == 0).sum()) for tokens in answer.tokens]


class Fixed:
    """A model that costs nothing: the same normal logits whatever was read."""

    def __init__(self, vocabulary: int, most: int) -> None:
        self.vocabulary, self.end = vocabulary, frozenset[int]()
        self._logits = (2.5 * np.random.default_rng(0).standard_normal((most, vocabulary))).astype(np.float32)

    def start(self, prompts: Any) -> Any:
        return self._logits[: len(prompts)], None

    def next_logits(self, tokens: Any, state: Any) -> Any:
        return self._logits[: len(tokens)], None

    def select(self, state: Any, rows: Any) -> Any:
        return None


def steps() -> None:
    """What a step costs beyond the model's pass: least processor time of several runs, which other work disturbs least."""
    model, n, length = Fixed(262_144, 9), 8, 9
    print(f"milliseconds of a step beyond the model, vocabulary {model.vocabulary}, n = {n}: least of 20 runs")
    for decoder in (Beam(), DiverseBeam(), StochasticBeam(), ConditionalPoissonBeam()):
        least = np.inf
        for _ in range(20):
            began = time.process_time()
            decoder.generate(model, [0], n, length=length)  # type: ignore[arg-type]
            least = min(least, (time.process_time() - began) / length)
        print(f"   {type(decoder).__name__:24s} {1e3 * least:.1f}", flush=True)


if __name__ == "__main__":
    main()

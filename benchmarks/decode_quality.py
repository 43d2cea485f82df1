"""What truncation rules and temperatures do to text: kofn's rules on 100 beginnings of real text.

    python benchmarks/decode_quality.py --model FOLDER              # writes results/decode_quality.json
    python benchmarks/decode_quality.py --model FOLDER --prompts 10 --out /dev/shm/small.json
    python benchmarks/decode_quality.py --table                     # Markdown, from the file

Every beginning of data/decode_prompts.jsonl gets one continuation of at most 40 tokens for each rule and temperature. The
temperature comes first and then the rule, as transformers orders them: "temp=1.5|minp=0.1". All settings draw with the
same uniform numbers. The figures are over tokens of the model, ends of text left out but for the perplexity:

perplexity    of the continuations under the model itself, at temperature 1 and without a rule, given the beginning;
              with an interval of 95 % (bootstrap over the beginnings)
distinct_n    distinct n-grams over all n-grams, of all continuations together
repetition    share of the 4-grams of a continuation that it had before, mean over the continuations
self_bleu     BLEU-4 of a continuation with all others as references, mean over the continuations (Zhu et al., Texygen,
              2018); an order without a match counts as a tenth of a match

Rows to compare with: greedy search, also on a fifth of the beginnings, contrastive search on these (it cannot be batched
over prompts; figures over fewer texts compare with one another alone), and how the texts really go on.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, meta, save

PROMPTS = Path(__file__).parent / "data" / "decode_prompts.jsonl"
OUT = RESULTS / "decode_quality.json"
TEMPERATURES = (0.7, 1.0, 1.5, 2.0)
RULES = (
    "",
    "topk=50",
    "topp=0.9",
    "minp=0.1",
    "typical=0.2",
    "typical=0.9",
    "epsilon=9e-4",
    "eta=9e-4",
    "topnsigma=1",
    "toph=0.4",
    "mirostat=3",
    "mirostat=4",
    "mirostat=5",
)
FIGURES = {
    "perplexity": "Perplexity under the model",
    "distinct_1": "Distinct 1-grams",
    "distinct_2": "Distinct 2-grams",
    "distinct_3": "Distinct 3-grams",
    "repetition": "Repeated 4-grams",
    "self_bleu": "Self-BLEU",
}
CONTRASTIVE = 20
"""Beginnings that contrastive search goes on from."""

Texts = Sequence[Sequence[int]]


def ngrams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All n-grams, in their order."""
    return list(zip(*(tokens[shift:] for shift in range(n)), strict=False))


def distinct(texts: Texts, n: int) -> float:
    """Distinct n-grams over all n-grams."""
    found = [gram for tokens in texts for gram in ngrams(tokens, n)]
    return len(set(found)) / max(len(found), 1)


def repetition(texts: Texts, n: int = 4) -> float:
    """Mean share of n-grams that their text had before."""
    shares = [1 - len(set(found)) / len(found) for found in (ngrams(tokens, n) for tokens in texts) if found]
    return float(np.mean(shares)) if shares else 0.0


def self_bleu(texts: Texts, highest: int = 4) -> float:
    """Mean BLEU of each text with all others as references."""
    counted = [[Counter(ngrams(tokens, n)) for tokens in texts] for n in range(1, highest + 1)]
    largest = [_two_largest(counts) for counts in counted]
    lengths = [len(tokens) for tokens in texts]
    scores = []
    for i, length in enumerate(lengths):
        if not length or len(texts) < 2:
            continue
        logs = 0.0
        for counts, tops in zip(counted, largest, strict=True):
            matches = sum(min(count, _other(tops[gram], count)) for gram, count in counts[i].items())
            logs += math.log((matches or 0.1) / max(counts[i].total(), 1))
        nearest = min((abs(other - length), other) for j, other in enumerate(lengths) if j != i)[1]
        scores.append(math.exp(logs / highest + min(0.0, 1 - nearest / length)))
    return float(np.mean(scores)) if scores else 0.0


def _two_largest(counts: Sequence[Counter[tuple[int, ...]]]) -> dict[tuple[int, ...], tuple[int, int]]:
    """For each n-gram the largest count in any text, and the second."""
    out: dict[tuple[int, ...], tuple[int, int]] = {}
    for each in counts:
        for gram, count in each.items():
            first, second = out.get(gram, (0, 0))
            out[gram] = (max(first, count), max(second, min(first, count)))
    return out


def _other(tops: tuple[int, int], own: int) -> int:
    """The largest count among the others, for a text whose own count is given."""
    return tops[1] if own == tops[0] else tops[0]


def figures(texts: Texts, logprobs: Sequence[Any]) -> dict[str, Any]:
    """All figures of continuations; `logprobs` has each one's token by token, under the model."""
    sums = np.array([-float(np.sum(each)) for each in logprobs])
    lengths = np.array([len(each) for each in logprobs])
    drawn = np.random.default_rng(0).integers(0, len(sums), (2_000, len(sums)))
    again = np.exp(sums[drawn].sum(axis=1) / lengths[drawn].sum(axis=1))
    return {
        "perplexity": math.exp(sums.sum() / lengths.sum()),
        "perplexity_interval": [float(bound) for bound in np.quantile(again, [0.025, 0.975])],
        **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
        "repetition": repetition(texts),
        "self_bleu": self_bleu(texts),
        "texts": len(texts),
        "tokens": int(sum(map(len, texts))),
    }


class Study:
    """A model, and the beginnings as its tokens. Each verb gives a cell of the result."""

    def __init__(self, given: argparse.Namespace) -> None:
        import torch

        from kofn.decode.transformers_model import load

        torch.set_num_threads(1)
        lines = [json.loads(line) for line in PROMPTS.read_text().splitlines()]
        self.lines = [lines[i * len(lines) // given.prompts] for i in range(given.prompts)] if given.prompts else lines
        self.model, self.tokenizer = load(given.model)
        self.prompts = [self.tokenizer(line["text"]).input_ids for line in self.lines]
        self.length, self.batch, self.seed = given.length, given.batch, given.seed

    def real(self) -> dict[str, Any]:
        """How the texts go on, cut to the same length."""
        texts = [self.tokenizer(line["continuation"], add_special_tokens=False).input_ids for line in self.lines]
        return self._cell("the text itself", None, self.prompts, [tokens[: self.length] for tokens in texts])

    def sampled(self, name: str, rule: str, temperature: float | None) -> dict[str, Any]:
        """One setting on all beginnings, a batch at a time."""
        from kofn.decode import parse_rule
        from kofn.decode.sequences.sampling import Sampling

        first_rule = "" if temperature is None else f"temp={temperature:g}"
        sampling = Sampling(parse_rule("|".join(filter(None, [first_rule, rule]))))
        texts: list[Any] = []
        logprobs: list[Any] = []
        for first in range(0, len(self.prompts), self.batch):
            part = self.prompts[first : first + self.batch]
            drawn = sampling.generate_each(self.model, part, length=self.length, seed=self.seed, first=first)
            texts += drawn.tokens
            logprobs += drawn.details["model_token_logprobs"]
        return self._cell(name, temperature, self.prompts, texts, logprobs)

    def searched(self, decoder: str) -> dict[str, Any]:
        """A decoder without chance, one beginning after another, on some of them."""
        from kofn.decode.sequences.contrastive import ContrastiveSearch
        from kofn.decode.sequences.sampling import Greedy

        some = self.prompts[:: max(len(self.prompts) // CONTRASTIVE, 1)]
        decode = {"greedy": Greedy(), "contrastive": ContrastiveSearch()}[decoder]
        texts = [decode.generate(self.model, prompt, length=self.length).tokens[0] for prompt in some]
        return self._cell(f"{decoder}, {len(some)} beginnings", None, some, texts)

    def _cell(
        self, rule: str, temperature: float | None, prompts: Texts, texts: Texts, logprobs: Sequence[Any] | None = None
    ) -> dict[str, Any]:
        """Figures of one setting, and how its first and last text read."""
        if logprobs is None:
            logprobs = [self._logprobs(prompt, tokens) for prompt, tokens in zip(prompts, texts, strict=True)]
        stripped = [[int(token) for token in tokens if token not in self.model.end] for tokens in texts]
        examples = [self.tokenizer.decode(stripped[place]) for place in (0, -1)]
        return {"rule": rule, "temperature": temperature, **figures(stripped, logprobs), "examples": examples}

    def _logprobs(self, prompt: Sequence[int], tokens: Sequence[int]) -> Any:
        """The model's log-probability of each token, float64."""
        from kofn.core.logits import log_normalizers

        logits, state = self.model.start([prompt])
        if len(tokens) > 1:
            more, _ = self.model.all_logits(np.array([tokens[:-1]], np.int64), state)
            logits = np.concatenate([logits, more[0]])
        return logits[np.arange(len(tokens)), np.asarray(tokens)].astype(np.float64) - log_normalizers(logits)


_STUDY: list[Study] = []
"""The study of this process: a model takes seconds to read."""


def open_study(given: argparse.Namespace) -> None:
    """What every worker begins with."""
    _STUDY.append(Study(given))


def cell(task: tuple[Any, ...]) -> dict[str, Any]:
    """A cell by the study's verb and its arguments, and how long it took on one core."""
    start = time.process_time()
    verb, *arguments = task
    made = getattr(_STUDY[0], verb)(*arguments)
    return {**made, "core_seconds": round(time.process_time() - start, 1)}


def run(given: argparse.Namespace) -> None:
    """All settings, each in one process with one thread; the file is written after each."""
    sampled = [("sampled", rule, rule, temperature) for rule in given.rules for temperature in given.temperatures]
    searched = [("searched", "greedy"), ("searched", "contrastive")]
    tasks = [("real",), *sampled, ("sampled", "greedy", "topk=1", None), *searched]
    packages = {name: version(name) for name in ("torch", "transformers")}
    settings = {name: getattr(given, name) for name in ("seed", "length", "batch", "prompts", "jobs")}
    about = meta(
        model=given.model.resolve().name, peers=packages, seeds=[given.seed], order="temperature, then rule", **settings
    )
    result: dict[str, Any] = {"meta": about, "cells": []}
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=context, initializer=open_study, initargs=(given,)) as pool:
        for made in pool.map(cell, tasks):
            result["cells"].append(made)
            result["meta"]["minutes"] = round((time.perf_counter() - start) / 60, 1)
            save(given.out, result)
            shown = "  ".join(f"{name} {made[name]:.3g}" for name in FIGURES)
            print(f"{made['rule'] or 'no rule':14s} {made['temperature'] or '':4}  {shown}", flush=True)


def table(result: dict[str, Any], figure: str) -> str:
    """One figure as Markdown: a row a rule, a column a temperature; what has no temperature stands in all columns."""
    cells = {(cell["rule"], cell["temperature"]): cell[figure] for cell in result["cells"]}
    rules = list(dict.fromkeys(rule for rule, _ in cells))
    temperatures = sorted({t for _, t in cells if t is not None})
    heads = [FIGURES[figure], *(f"temperature {t:g}" for t in temperatures)]
    lines = [heads, ["---", *["---:"] * len(temperatures)]]
    for rule in rules:
        values = [cells.get((rule, t), cells.get((rule, None))) for t in temperatures]
        lines.append([rule or "no rule", *("" if value is None else _written(figure, value) for value in values)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _written(figure: str, value: float) -> str:
    if figure == "perplexity":
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.1%}" if figure == "repetition" else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a transformers model")
    parser.add_argument("--prompts", type=int, default=0, help="so many beginnings, evenly; all by default")
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes, of one thread each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rules", nargs="+", default=RULES, help="which of the rules; all by default")
    parser.add_argument("--temperatures", nargs="+", type=float, default=TEMPERATURES)
    parser.add_argument("--table", action="store_true", help="print the tables of --out and do nothing else")
    given = parser.parse_args()
    if given.table:
        result = json.loads(given.out.read_text())
        print("\n\n".join(table(result, figure) for figure in FIGURES))
        return
    if given.model is None:
        parser.error("--model FOLDER is needed")
    run(given)


if __name__ == "__main__":
    main()

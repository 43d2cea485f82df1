"""Retrieval on a real language model: kNN-LM on a datastore of glosses, and a temperature that a source guides.

    python examples/decode_retrieval.py --model FOLDER --glosses wordnet-nouns-minilm.parquet

FOLDER is what `save_pretrained` of transformers wrote, model and tokenizer; the parquet file has the columns word and
gloss. docs/decode/retrieval.md says what is measured. The same is printed in each run.
`--keep FOLDER` keeps the datastore and the drawn texts, and a later run begins from them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from kofn.core.logits import log_normalizers
from kofn.core.uniforms import child_seeds
from kofn.decode import KNNLM, Datastore, Entropy, KLGuidedTemperature, Temperature, TopP
from kofn.decode.transformers_model import load

SEED = 20_230_601
PROMPT = 32
"""Tokens of a page that are read before the first one is predicted."""
WEIGHTS = (0.1, 0.25, 0.5)
NEIGHBORS = (64, 1_024)
TEMPERATURES = (30.0, 125.0, 500.0, 2_000.0, 8_000.0)
"""Of squared distances, tried on the development pages."""
DRAWN = {"drawn, nucleus 0.8": KNNLM(0.25) | TopP(0.8), "drawn, unrestricted": KNNLM(0.25)}
WINDOW = 32
RESAMPLES = 2_000
FIXED = (0.3, 0.5, 0.7, 1.0, 1.3)
GUIDED = ((1.0, 4.0), (1.0, 1.0), (1.3, 2.0), (1.6, 1.0))
"""Temperature and half-life."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a transformers model with its tokenizer")
    parser.add_argument("--glosses", type=Path, required=True, help="wordnet-nouns-minilm.parquet: columns word, gloss")
    parser.add_argument("--only", choices=["knnlm", "length", "guided"], help="one part alone")
    parser.add_argument("--keep", type=Path, help="folder for what is slow to compute")
    parser.add_argument("--pages", type=int, default=128, help="pages in the datastore (default 128)")
    parser.add_argument("--held-out", type=int, default=40, help="pages to predict (default 40)")
    parser.add_argument("--development", type=int, default=4, help="pages to choose parameters with (default 4)")
    parser.add_argument("--length", type=int, default=128, help="tokens predicted of each page (default 128)")
    parser.add_argument("--prompts", type=int, default=60, help="prompts for the guided temperature (default 60)")
    parser.add_argument("--samples", type=int, default=2, help="texts for each prompt (default 2)")
    parser.add_argument("--tokens", type=int, default=16, help="tokens of each text (default 16)")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load(options.model)
    table = pq.read_table(options.glosses, columns=["word", "gloss"]).to_pylist()
    glosses = [table[row] for row in np.random.default_rng(SEED).permutation(len(table))]
    if options.only != "guided":
        shelf = Shelf.of(model, tokenizer, glosses, options)
        shelf.tune()
        if options.only in (None, "knnlm"):
            knnlm(shelf)
        if options.only in (None, "length"):
            length(shelf)
    if options.only in (None, "guided"):
        guided(model, tokenizer, glosses, options)


@dataclass
class Shelf:
    """A datastore, and pages of glosses that are not in it."""

    model: Any
    store: Datastore
    development: list[list[int]]
    held_out: list[list[int]]
    length: int
    keep: Path | None
    how: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, tokenizer: Any, glosses: list[dict[str, str]], options: argparse.Namespace) -> Shelf:
        """Pages of a glossary: the first ones for the datastore, then for development, then held out."""
        size = PROMPT + options.length
        first, second = options.pages, options.pages + options.development
        made = pages(tokenizer, glosses, second + options.held_out, size)
        file = options.keep and options.keep / f"store-{first}-{size}.npz"
        if file and file.exists():
            store = Datastore.load(file)
        else:
            store = Datastore.from_texts(model, made[:first], batch=4)
            if file:
                store.save(file)
        print(f"== datastore: {len(store)} tokens of {first} pages, {store.keys.nbytes / 1e6:.0f} MB", flush=True)
        return cls(model, store, made[first:second], made[second:], options.length, options.keep)

    def tune(self) -> None:
        """Choose the number of neighbors and the temperature with the least perplexity at weight 0.25."""
        grid = [(neighbors, temperature) for neighbors in NEIGHBORS for temperature in TEMPERATURES]
        found = self._perplexities(grid)
        print(
            f"   perplexity of {len(self.development)} development pages at weight 0.25, by neighbors and temperature"
        )
        print(f"   {'':9}{''.join(f'{each:9g}' for each in TEMPERATURES)}")
        for neighbors in NEIGHBORS:
            print(f"   {neighbors:9}{''.join(f'{found[grid.index((neighbors, each))]:9.2f}' for each in TEMPERATURES)}")
        neighbors, temperature = grid[int(np.argmin(found))]
        print(f"   chosen: {neighbors} neighbors, temperature {temperature:g}\n", flush=True)
        self.how = {"neighbors": neighbors, "temperature": temperature}

    def _perplexities(self, grid: list[tuple[int, float]]) -> list[float]:
        """Of the development pages, for each number of neighbors and temperature."""
        file = self.keep and self.keep / f"development-{len(self.store)}-{len(grid)}.json"
        if file and file.exists():
            kept: list[float] = json.loads(file.read_text())
            return kept
        gains: list[list[Any]] = [[] for _ in grid]
        for logits, hidden, tokens in walk(self.model, self.development, self.length):
            for (neighbors, temperature), each in zip(grid, gains, strict=True):
                beside = self.store.logits(hidden, neighbors=neighbors, temperature=temperature)
                each.append(logprobs(KNNLM(0.25)(logits, beside=beside), tokens))
        found = [float(np.exp(-np.mean(each))) for each in gains]
        if file:
            file.write_text(json.dumps(found))
        return found

    def read(self, name: str, rule: Any = None) -> dict[str, Any]:
        """Arrays (pages, length) of the held-out pages, or of what a rule draws from their beginnings."""
        how = f"{self.how['neighbors']}-{self.how['temperature']:g}"
        file = self.keep and self.keep / f"{name}-{len(self.store)}-{self.length}-{how}.npz"
        if file and file.exists():
            return dict(np.load(file))
        columns: dict[str, list[Any]] = {}
        for logits, hidden, tokens in walk(self.model, self.held_out, self.length, rule and self._drawing(rule)):
            beside = self.store.logits(hidden, **self.how)
            row = {"tokens": tokens, "base": Entropy()(logits), "retrieval": Entropy()(beside)}
            row["known"] = np.isfinite(beside[np.arange(len(tokens)), tokens])
            if rule is None:
                for weight in (0.0, *WEIGHTS):
                    row[str(weight)] = logprobs(KNNLM(weight)(logits, beside=beside), tokens)
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
        arrays = {key: np.stack(each, axis=1) for key, each in columns.items()}
        if file:
            np.savez(file, **arrays)
        return arrays

    def _drawing(self, rule: Any) -> Callable[[int, Any, Any], Any]:
        """Tokens that the rule draws, with the neighbors of the hidden states beside the logits."""
        seeds = child_seeds(SEED, 0, len(self.held_out))
        return lambda step, logits, hidden: rule.draw(logits, seeds, step, beside=self.store.logits(hidden, **self.how))


def pages(tokenizer: Any, glosses: list[dict[str, str]], count: int, size: int) -> list[list[int]]:
    """Pages of a glossary, "word: gloss" a line: the tokenizer's first tokens and `size` more. No gloss comes twice."""
    begin = tokenizer.encode("")
    made: list[list[int]] = []
    page, seen = list(begin), set()
    for row in glosses:
        if row["gloss"] in seen:
            continue
        seen.add(row["gloss"])
        page += tokenizer.encode(f"{row['word']}: {row['gloss']}\n", add_special_tokens=False)
        if len(page) >= len(begin) + size:
            made.append(page[: len(begin) + size])
            page = list(begin)
        if len(made) == count:
            return made
    raise SystemExit(f"these glosses make {len(made)} pages, and {count} are needed")


def walk(
    model: Any, texts: list[list[int]], length: int, choose: Callable[[int, Any, Any], Any] | None = None
) -> Iterator[tuple[Any, Any, Any]]:
    """The last `length` tokens of each text, one after another, or those that `choose` puts in their place.

    Yields logits (B, V), the hidden states (B, H) that they come from, and the tokens (B,) that follow.
    """
    following = np.array([text[-length:] for text in texts])
    logits, hidden, state = model.start_with_hidden([text[:-length] for text in texts])
    states = np.stack([rows[-1] for rows in hidden])
    for step in range(length):
        tokens = following[:, step] if choose is None else choose(step, logits, states)
        yield logits, states, tokens
        if step + 1 < length:
            logits, states, state = model.next_with_hidden(tokens, state)


def logprobs(logits: Any, tokens: Any) -> Any:
    """Log-probability of a token a row."""
    return logits[np.arange(len(tokens)), tokens].astype(np.float64) - log_normalizers(logits)


def knnlm(shelf: Shelf) -> None:
    """Perplexity of the held-out pages at several weights, and how many of their tokens get worse."""
    seen = shelf.read("held-out")
    base = seen["0.0"]
    print(
        f"== knnlm: {base.size} tokens of {len(base)} held-out pages; the token is among the neighbors' for "
        f"{seen['known'].mean():.0%}"
    )
    print("   gains in nats a token; worse: the share of tokens that get worse, and by how much on average")
    print("   weight   perplexity   gain (95 %)                 median   worse      by   others gain")
    print(f"   {0:6}   {np.exp(-base.mean()):10.2f}")
    for weight in WEIGHTS:
        gain = seen[str(weight)] - base
        low, high = interval(gain.mean(axis=1))
        worse = gain < 0
        print(
            f"   {weight:6}   {np.exp(-seen[str(weight)].mean()):10.2f}   {gain.mean():+.3f} ({low:+.3f} to {high:+.3f})"
            f"   {np.median(gain):+.3f}   {worse.mean():5.1%}   {-gain[worse].mean():.3f}   {gain[~worse].mean():11.3f}"
        )
    print(flush=True)


def length(shelf: Shelf) -> None:
    """Entropy of the retrieval law and of the model's along real pages and along drawn ones."""
    print(f"== length: entropy in nats, mean over {len(shelf.held_out)} pages of each {WINDOW} tokens in turn")
    heads = [f"{first + 1}-{first + WINDOW}" for first in range(0, shelf.length, WINDOW)]
    print(f"   {'text':20} {'law':10}{''.join(f'{head:>7}' for head in heads)}   rise from first to last (95 %)")
    for name, rule in {"held-out": None, **DRAWN}.items():
        seen = shelf.read(name, rule)
        rises = {}
        for which in ("base", "retrieval"):
            windows = seen[which].reshape(len(seen[which]), -1, WINDOW).mean(axis=2)
            rises[which] = windows[:, -1] - windows[:, 0]
            low, high = interval(rises[which])
            print(
                f"   {name:20} {which:10}{''.join(f'{each:7.2f}' for each in windows.mean(axis=0))}"
                f"   {rises[which].mean():+.2f} ({low:+.2f} to {high:+.2f})"
            )
        gap = rises["retrieval"] - rises["base"]
        low, high = interval(gap)
        print(f"   {'':20} {'retrieval rises more by':41} {gap.mean():+.2f} ({low:+.2f} to {high:+.2f})", flush=True)
    print(flush=True)


def interval(values: Any) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    picks = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def guided(model: Any, tokenizer: Any, glosses: list[dict[str, str]], options: argparse.Namespace) -> None:
    """Overlap with the source and variety: fixed temperatures, and temperatures that the source guides."""
    rows = [row for row in glosses[::-1] if len(set(content(row["gloss"], row["word"]))) >= 4][: options.prompts]
    requests = [f"What does {row['word']} mean? The word {row['word']} means" for row in rows]
    sources = [f"{row['word']}: {row['gloss']}.\n\n" for row in rows]
    print(f"== guided: {len(rows)} prompts, {options.samples} texts of {options.tokens} tokens each")
    fixed = {f"temperature {each}": Temperature(each) for each in FIXED}
    guiding = {f"guided {t}, half-life {h}": KLGuidedTemperature(t, half_life=h) for t, h in GUIDED}
    scores, examples = {}, {}
    for name, rule in {**fixed, **guiding}.items():
        texts = drawn(model, tokenizer, sources, requests, rule, name, options)
        scores[name] = np.array([score(each, row, tokenizer) for each, row in zip(texts, rows, strict=True)])
        examples[name] = tokenizer.decode(texts[0][0])
    reference = [scores[name] for name in fixed]
    print("                             overlap  distinct-2   overlap less a fixed temperature's at equal distinct-2")
    for name, each in scores.items():
        (overlap,), (variety,) = summary(each, np.ones((1, len(rows))))
        gap = compared(each, reference) if name in guiding else ""
        print(f"   {name:26}{overlap:7.3f}{variety:12.3f}   {gap}".rstrip())
    print(f"\n   {sources[0] + requests[0]!r}")
    for name, text in examples.items():
        print(f"   {name}: {text!r}")


def compared(scores: Any, reference: list[Any]) -> str:
    """`above` with its bootstrap interval over prompts."""
    (gap,) = above(scores, reference, np.ones((1, len(scores))))
    if np.isnan(gap):
        return "none is as varied"
    resamples = np.random.default_rng(SEED).multinomial(len(scores), np.full(len(scores), 1 / len(scores)), RESAMPLES)
    gaps = above(scores, reference, resamples)
    low, high = np.percentile(gaps[np.isfinite(gaps)], [2.5, 97.5])
    return f"{gap:+.3f} ({low:+.3f} to {high:+.3f})"


def drawn(
    model: Any,
    tokenizer: Any,
    sources: list[str],
    requests: list[str],
    rule: Any,
    name: str,
    options: argparse.Namespace,
) -> list[list[list[int]]]:
    """For each prompt the tokens of its texts. Where two laws are compared, two states read the same tokens."""
    file = options.keep and options.keep / f"{name}-{len(requests)}-{options.samples}-{options.tokens}.json"
    if file and file.exists():
        kept: list[list[list[int]]] = json.loads(file.read_text())
        return kept
    prompts = [[tokenizer.encode(source + request) for source, request in zip(sources, requests, strict=True)]]
    if isinstance(rule, KLGuidedTemperature):
        prompts.append([tokenizer.encode(request) for request in requests])
    rows = np.repeat(np.arange(len(requests)), options.samples)
    seeds = child_seeds(SEED, 0, len(rows))
    logits, states = [], []
    for each in prompts:
        first, state = model.start(each)
        logits.append(first[rows])
        states.append(model.select(state, rows))
    columns = []
    for step in range(options.tokens):
        tokens = rule.draw(logits[0], seeds, step, beside=logits[1] if len(logits) == 2 else None)
        columns.append(tokens)
        if step + 1 < options.tokens:
            answers = [model.next_logits(tokens, state) for state in states]
            logits, states = [each for each, _ in answers], [state for _, state in answers]
    texts = [until(row, model.end) for row in np.stack(columns, axis=1).tolist()]
    grouped = [texts[start : start + options.samples] for start in range(0, len(texts), options.samples)]
    if file:
        file.write_text(json.dumps(grouped))
    return grouped


def until(tokens: list[int], end: frozenset[int]) -> list[int]:
    """The tokens before the first that ends a text."""
    return next((tokens[:place] for place, token in enumerate(tokens) if token in end), tokens)


def content(text: str, headword: str) -> list[str]:
    """Runs of three letters or more, lower case, that are neither English stop words nor in the headword."""
    left_out = ENGLISH_STOP_WORDS | set(re.findall("[a-z]+", headword.lower()))
    return [word for word in re.findall("[a-z]{3,}", text.lower()) if word not in left_out]


def score(texts: list[list[int]], row: dict[str, str], tokenizer: Any) -> list[float]:
    """Of one prompt: content words that are in the source, content words, distinct-2 of its texts together."""
    source = set(content(row["gloss"], row["word"]))
    words = [word for text in texts for word in content(tokenizer.decode(text), row["word"])]
    pairs = [pair for text in texts for pair in pairwise(text)]
    return [sum(word in source for word in words), len(words), len(set(pairs)) / len(pairs) if pairs else 1.0]


def summary(scores: Any, weights: Any) -> tuple[Any, Any]:
    """Overlap (share of all content words that are in their source) and mean distinct-2, for each row of weights."""
    found, words, variety = (weights @ scores).T
    return found / words, variety / weights.sum(axis=1)


def above(scores: Any, reference: list[Any], weights: Any) -> Any:
    """Overlap less that of the fixed temperatures, interpolated at equal distinct-2; NaN outside their range."""
    overlap, variety = summary(scores, weights)
    others = [summary(each, weights) for each in reference]
    overlaps, varieties = (np.stack(each, axis=1) for each in zip(*others, strict=True))
    order = np.argsort(varieties, axis=1)
    overlaps, varieties = (np.take_along_axis(each, order, axis=1) for each in (overlaps, varieties))
    interpolated = [
        np.interp(x, xs, ys, left=np.nan, right=np.nan) for x, xs, ys in zip(variety, varieties, overlaps, strict=True)
    ]
    return overlap - np.array(interpolated)


if __name__ == "__main__":
    main()

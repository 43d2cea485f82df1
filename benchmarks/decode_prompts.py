"""Writes data/decode_prompts.jsonl: 100 beginnings of real text, with what the text goes on with.

    python benchmarks/decode_prompts.py --glosses wordnet-nouns-minilm.parquet --model FOLDER

Half are noun glosses of WordNet 3.0 as "word: gloss", half are paragraphs of Python's own language reference
(`pydoc_data.topics`). Which ones, and where each is cut, follows from a fixed seed; cuts are between words. The model's
tokenizer only counts tokens: 20 to 40 in a beginning.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "data" / "decode_prompts.jsonl"
SEED = 20_240_601
EACH = 50
GOES_ON = 48
"""Tokens of a continuation that are kept, about."""

WORDNET = "WordNet 3.0, Copyright 2006 by Princeton University, WordNet licence"
PYTHON = "Python {} language reference, Copyright 2001 Python Software Foundation, PSF licence version 2"

Count = Callable[[str], int]


def glosses(path: Path, count: Count) -> list[dict[str, Any]]:
    """ "word: gloss" of long glosses, cut after 20 to 24 tokens."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["word", "gloss"]).to_pylist()
    texts = [f"{row['word']}: {row['gloss']}" for row in rows if len(row["gloss"]) > 120]
    source = {"source": "WordNet noun gloss", "licence": WORDNET}
    return _chosen([text for text in texts if count(text) >= 36], (20, 24), count, source)


def paragraphs(count: Count) -> list[dict[str, Any]]:
    """Prose of Python's reference, cut after 20 to 36 tokens."""
    texts = sorted({text for topic in pydoc_data.topics.topics.values() for text in _prose(topic)})
    version = ".".join(map(str, sys.version_info[:3]))
    source = {"source": f"pydoc_data.topics of Python {version}", "licence": PYTHON.format(version)}
    return _chosen([text for text in texts if count(text) >= 80], (20, 36), count, source)


def _prose(topic: str) -> Iterator[str]:
    for block in topic.split("\n\n"):
        text = " ".join(block.split())
        letters = sum(letter.isalpha() or letter == " " for letter in text)
        if block[:1].isalpha() and block[:1].isupper() and text.endswith(".") and letters > 0.9 * len(text):
            yield text


def _chosen(texts: list[str], lengths: tuple[int, int], count: Count, source: dict[str, str]) -> list[dict[str, Any]]:
    """`EACH` of the texts, in their order, each cut at the first word that reaches its number of tokens."""
    rng = np.random.default_rng(SEED)
    places = np.sort(rng.choice(len(texts), EACH, replace=False))
    wanted = rng.integers(lengths[0], lengths[1] + 1, EACH)
    made = []
    for place, tokens in zip(places, wanted, strict=True):
        words = texts[place].split(" ")
        cut = _words(words, int(tokens), count)
        after = words[cut:]
        text, continuation = " ".join(words[:cut]), " " + " ".join(after[: _words(after, GOES_ON, count)])
        made.append({"text": text, "continuation": continuation, "tokens": count(text), **source})
    return made


def _words(words: list[str], tokens: int, count: Count) -> int:
    """The fewest words with so many tokens; all of them where there are fewer tokens."""
    for used in range(1, len(words)):
        if count(" ".join(words[:used])) >= tokens:
            return used
    return len(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glosses", type=Path, required=True, help="wordnet-nouns-minilm.parquet: columns word, gloss")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model, for its tokenizer")
    given = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(given.model)

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    prompts = glosses(given.glosses, count) + paragraphs(count)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("".join(json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in prompts))
    lengths = [prompt["tokens"] for prompt in prompts]
    print(f"{FILE.name}: {len(prompts)} beginnings of {min(lengths)} to {max(lengths)} tokens")


if __name__ == "__main__":
    main()

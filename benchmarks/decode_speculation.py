"""Speculative decoding on a real model: tokens a target pass, and seconds beside plain decoding in the same run.

    python benchmarks/decode_speculation.py --model FOLDER --glosses wordnet-nouns-minilm.parquet   # seven minutes
    python benchmarks/decode_speculation.py --table runs      # or passes, depths, ranking, about: Markdown from the results
    python benchmarks/decode_speculation.py --write           # these tables into docs/decode/speculation.md

Prose goes on with paragraphs of Python's language reference; "copy" shows a paragraph, asks for it again and gives its first
words. Each decoder is run after plain decoding on the same prompts, greedy and by sampling. The drafters are prompt lookup,
the model's own first layers, and these with an output layer of a quarter of the vocabulary, ranked on half of the glosses.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, meta, save

from kofn.decode.rules.topk import TopK
from kofn.decode.sequences.sampling import Greedy, Sampling
from kofn.decode.speculation.earlyexit import EarlyExit, first_layers
from kofn.decode.speculation.frequency import FrequencyRanked, coverage, most_frequent
from kofn.decode.speculation.multidraft import MultiDraft
from kofn.decode.speculation.ngram import NGramDrafter
from kofn.decode.speculation.policy import AcceptanceHead, Threshold
from kofn.decode.speculation.speculative import Speculative
from kofn.decode.transformers_model import TransformersModel, load

OUT = RESULTS / "decode_speculation.json"
PAGE = RESULTS.parent.parent / "docs" / "decode" / "speculation.md"
TOPICS = ("class", "assignment", "import", "exceptions")
SHARE = 0.25
SEED = 0
POSITIONS = 160
"""Places of prose at which the layers' laws are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder of a transformers model with its tokenizer")
    parser.add_argument("--glosses", type=Path, help="Parquet file with a column `gloss`")
    parser.add_argument("--prompts", type=int, default=2, help="of each kind (default 2)")
    parser.add_argument("--length", type=int, default=48, help="tokens of each answer (default 48)")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", choices=sorted(TABLES), help="print a table of the results instead")
    parser.add_argument("--write", action="store_true", help="put the tables of the results into the docs instead")
    options = parser.parse_args()
    if options.table:
        print(TABLES[options.table](json.loads(options.out.read_text())))
        return
    if options.write:
        write(json.loads(options.out.read_text()))
        return
    if not options.model or not options.glosses:
        parser.error("a run needs --model and --glosses")
    loaded, tokenizer = load(options.model)
    model = TransformersModel(loaded.model, end=[])  # fixed lengths: an end token does not stop
    settings = {
        "model": Path(options.model).name,
        "prompts": options.prompts,
        "length": options.length,
        "seeds": [SEED],
    }
    result: dict[str, Any] = {"meta": meta(**settings)}
    result["meta"]["peers"] = {name: version(name) for name in ("torch", "transformers")}
    began = time.perf_counter()
    texts = glosses_of(options.glosses, tokenizer)
    result["ranking"], kept = ranking(model, texts)
    result["passes"] = passes(model)
    result["depths"] = depths(model, prose(tokenizer, 1)[0][1], kept)
    save(options.out, result)
    result["runs"] = []
    for kind, prompts in workloads(tokenizer, options.prompts).items():
        for way in ("greedy", "sampling"):
            for row in runs(model, kind, way, prompts, kept, options.length):
                result["runs"].append(row)
                save(options.out, result)
    result["meta"]["seconds"] = round(time.perf_counter() - began, 1)
    save(options.out, result)
    print(f"{result['meta']['seconds']} s; {options.out}")


def prose(tokenizer: Any, count: int) -> list[tuple[list[int], list[int]]]:
    """Beginnings of 64 tokens, and 400 tokens of the same text, one for each topic."""
    found = []
    for topic in TOPICS[:count]:
        text = " ".join(pydoc_data.topics.topics[topic].split())
        tokens = tokenizer(text).input_ids[:400]
        found.append((tokens[:64], tokens))
    return found


def workloads(tokenizer: Any, count: int) -> dict[str, list[list[int]]]:
    """Prompts by kind."""
    plain = [beginning for beginning, _ in prose(tokenizer, count)]
    copies = []
    for _, tokens in prose(tokenizer, count):
        passage = tokenizer.decode(tokens[1:120])
        first = tokenizer.decode(tokens[1:12])
        copies.append(tokenizer(f"{passage}\n\nThe same text once more:\n\n{first}").input_ids)
    return {"prose": plain, "copy": copies}


def glosses_of(path: Path, tokenizer: Any) -> list[list[int]]:
    """Tokens of every gloss, in the order of the file."""
    import pyarrow.parquet as pq

    texts = pq.read_table(path, columns=["gloss"]).column("gloss").to_pylist()
    return list(tokenizer(texts, add_special_tokens=False).input_ids)


def ranking(model: TransformersModel, texts: list[list[int]]) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """The ranking from the even glosses, and what it covers of the odd ones."""
    train, held = (np.concatenate([np.array(each) for each in texts[part::2]]) for part in (0, 1))
    size = model.vocabulary
    shares = (0.01, 0.05, 0.1, SHARE, 0.5)
    covered = {str(share): coverage(most_frequent(train, size, share), held, size) for share in shares}
    kept = most_frequent(train, size, SHARE)
    found = {
        "corpus": len(train),
        "distinct": len(np.unique(train)),
        "held_out": len(held),
        "coverage": covered,
        "tokens": len(kept),
        "head_megaflops": 2 * model.width * size / 1e6,
        "cut_head_megaflops": 2 * model.width * len(kept) / 1e6,
    }
    return found, kept


def passes(model: TransformersModel) -> list[dict[str, float]]:
    """Milliseconds of a pass over 1 to 12 tokens after 64: the smallest of five, and of its output layer alone."""
    import torch

    _, state = model.start([list(range(2, 66))])
    head = model.model.get_output_embeddings()
    rows = []
    for count in (1, 2, 3, 4, 5, 6, 8, 12):
        tokens, hidden = np.arange(5, 5 + count)[None], torch.ones(count, model.width)
        whole, part = [], []
        for _ in range(5):
            began = time.perf_counter()
            _, state = model.all_logits(tokens, state)
            whole.append(time.perf_counter() - began)
            state = model.rewind(state, count)
            began = time.perf_counter()
            with torch.inference_mode():
                head(hidden)
            part.append(time.perf_counter() - began)
        rows.append({"tokens": count, "ms": 1e3 * min(whole), "head_ms": 1e3 * min(part)})
    return rows


def depths(model: TransformersModel, tokens: list[int], kept: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    """Mean of sum min(p, q) over places of prose, q from the first layers: whole output layer and cut one."""
    import torch

    stack = model.model.config.num_hidden_layers
    given = torch.tensor([tokens[:POSITIONS]])
    columns = torch.from_numpy(kept)

    def laws(layers: int) -> Any:
        with torch.inference_mode():
            return first_layers(model.model, layers)(given).logits[0]

    target = torch.softmax(laws(stack), -1)
    rows = []
    for layers in [*range(3, stack, 3), *range(stack - 2, stack + 1)]:
        logits = laws(layers)
        whole = torch.minimum(target, torch.softmax(logits, -1)).sum(-1).mean()
        cut = torch.minimum(target[:, columns], torch.softmax(logits[:, columns], -1)).sum(-1).mean()
        same = (logits.argmax(-1) == target.argmax(-1)).float().mean()
        rows.append(
            {"layers": layers, "acceptance": float(whole), "cut_acceptance": float(cut), "same_top": float(same)}
        )
    return rows


def runs(
    model: TransformersModel, kind: str, way: str, prompts: list[list[int]], kept: Any, length: int
) -> Iterator[dict[str, Any]]:
    """Every decoder on every prompt, plain decoding first."""
    rule = TopK(1) if way == "greedy" else None
    plain = Greedy() if way == "greedy" else Sampling()
    # sampling: sequence 0 of the seed; greedy takes none
    chance = {} if way == "greedy" else {"seed": SEED}
    compared = decoders(model, rule, kept)
    for method in (plain, *(method for _, method in compared)):  # what is compiled or loaded at a first call
        method.generate(model, prompts[0][:8], length=3)
    base = timed(lambda prompt: plain.generate(model, prompt, length=length, **chance), prompts)
    yield {"text": kind, "way": way, "decoder": "plain", **figures(base)}
    head: AcceptanceHead | None = None
    for name, method in compared:
        if isinstance(method.length, Threshold) and head is not None:
            method = replace(method, length=replace(method.length, predictor=head))
        found = timed(lambda prompt, method=method: method.generate(model, prompt, length=length, seed=SEED), prompts)
        row = {"text": kind, "way": way, "decoder": name, **figures(found)}
        row["ratio"] = base["seconds"] / found["seconds"]
        row["processor_ratio"] = base["processor_seconds"] / found["processor_seconds"]
        if way == "greedy":
            row["same"] = [a.tolist() == b.tolist() for a, b in zip(base["tokens"], found["tokens"], strict=True)]
        yield row
        print(
            kind,
            way,
            name,
            {key: row[key] for key in ("acceptance", "tokens_per_pass", "ratio", "processor_ratio")},
            flush=True,
        )
        if "layers" in name and 0 < found["chances"].mean() < 1:
            head = AcceptanceHead.fit(found["features"], found["chances"])


def decoders(model: TransformersModel, rule: Any, kept: Any) -> list[tuple[str, Any]]:
    """What is compared; the threshold's acceptance head is fitted on the run of early layers before it."""
    layers = model.model.config.num_hidden_layers
    late, middle, early = layers - 1, layers * 5 // 6, layers // 3
    counts = NGramDrafter(3, shortest=2, counts=True)
    return [
        ("prompt lookup, 3 tokens", Speculative(NGramDrafter(3, shortest=2), length=3, rule=rule)),
        ("prompt lookup, 7 tokens", Speculative(NGramDrafter(3, shortest=2), length=7, rule=rule)),
        ("prompt lookup, 2 drafts of 3", MultiDraft(counts, drafts=2, length=3, rule=rule)),
        (f"{early} layers", Speculative(EarlyExit(model, early, rule=rule), length=2, rule=rule)),
        (f"{middle} layers", Speculative(EarlyExit(model, middle, rule=rule), length=2, rule=rule)),
        (f"{late} layers", Speculative(EarlyExit(model, late, rule=rule), length=2, rule=rule)),
        (
            f"{late} layers, ranked quarter",
            Speculative(FrequencyRanked(model, kept, layers=late, rule=rule), length=2, rule=rule),
        ),
        (
            f"{late} layers, ranked quarter, threshold",
            Speculative(
                FrequencyRanked(model, kept, layers=late, rule=rule), length=Threshold(0.5, limit=3), rule=rule
            ),
        ),
    ]


def timed(generate: Callable[[list[int]], Any], prompts: list[list[int]]) -> dict[str, Any]:
    """Answers to all prompts, and the seconds of all together."""
    began, spent = time.perf_counter(), time.process_time()
    answers = [generate(prompt) for prompt in prompts]
    seconds, processor = time.perf_counter() - began, time.process_time() - spent
    made = [answer.details for answer in answers]
    out: dict[str, Any] = {
        "seconds": seconds,
        "processor_seconds": processor,
        "tokens": [answer.tokens[0] for answer in answers],
        "passes": sum(answer.passes for answer in answers),
        "emitted": sum(len(answer.tokens[0]) for answer in answers),
        "prompts": len(answers),
    }
    if "drafted" in made[0]:
        out |= {name: sum(each[name] for each in made) for name in ("drafted", "tested", "accepted")}
        out |= {name: np.concatenate([each[name] for each in made]) for name in ("features", "chances")}
    return out


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run."""
    kept = {name: found[name] for name in ("seconds", "processor_seconds", "passes", "emitted", "prompts")}
    kept["tokens_per_pass"] = found["emitted"] / max(found["passes"] - found["prompts"], 1)
    if "drafted" in found:
        kept |= {name: found[name] for name in ("drafted", "tested", "accepted")}
        kept["acceptance"] = found["accepted"] / found["tested"] if found["tested"] else None
    return kept


def runs_table(result: dict[str, Any]) -> str:
    """Tokens a pass and time ratio of every decoder."""
    lines = [
        "| text | way | drafter | accepted | tokens a pass | times the speed | by processor seconds | same as greedy |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in result["runs"]:
        if row["decoder"] == "plain":
            continue
        accepted = "" if row["acceptance"] is None else f"{row['acceptance']:.2f}"
        same = f"{sum(row['same'])} of {len(row['same'])}" if "same" in row else ""
        cells = [
            row["text"],
            row["way"],
            row["decoder"],
            accepted,
            f"{row['tokens_per_pass']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['processor_ratio']:.2f}",
            same,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def depths_table(result: dict[str, Any]) -> str:
    """What the laws of early layers have in common with the model's."""
    lines = ["| layers | sum min(p, q) | the same, ranked quarter | same best token |", "|---|---|---|---|"]
    for row in result["depths"]:
        cells = (row["acceptance"], row["cut_acceptance"], row["same_top"])
        lines.append(f"| {row['layers']} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    return "\n".join(lines)


def passes_table(result: dict[str, Any]) -> str:
    """What judging more tokens costs."""
    lines = ["| tokens in a pass | ms | of it the output layer | beside one token |", "|---|---|---|---|"]
    one = result["passes"][0]["ms"]
    lines += [
        f"| {row['tokens']} | {row['ms']:.0f} | {row['head_ms']:.0f} | {row['ms'] / one:.2f} |"
        for row in result["passes"]
    ]
    return "\n".join(lines)


def ranking_table(result: dict[str, Any]) -> str:
    """What the most frequent tokens cover of glosses that did not rank them."""
    lines = ["| share of the vocabulary | share of the held-out text |", "|---|---|"]
    lines += [f"| {float(share):.0%} | {part:.4f} |" for share, part in result["ranking"]["coverage"].items()]
    return "\n".join(lines)


def about(result: dict[str, Any]) -> str:
    """Machine, versions and settings."""
    facts = result["meta"]
    known = facts["versions"] | facts["peers"]
    versions = ", ".join(f"{name} {known[name]}" for name in ("numpy", "torch", "transformers"))
    return (
        f"{facts['date']}; {facts['cpu']}, {facts['processors']} processors, load {facts['load']} when it began; {versions}; "
        f"{facts['prompts']} prompts of each kind, {facts['length']} tokens each, seed {facts['seeds'][0]}."
    )


TABLES = {"runs": runs_table, "passes": passes_table, "depths": depths_table, "ranking": ranking_table, "about": about}


def write(result: dict[str, Any]) -> None:
    """Replace what stands between the marks of each table."""
    text = PAGE.read_text()
    for name, table in TABLES.items():
        head, rest = text.split(f"<!-- speculation: {name} -->\n", 1)
        text = (
            f"{head}<!-- speculation: {name} -->\n\n{table(result)}\n\n<!-- end -->" + rest.split("<!-- end -->", 1)[1]
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    main()

"""Times rules and draws of kofn.decode beside those of transformers, in one process, on the same rows.

    python benchmarks/decode_speed.py --model FOLDER --rows-in FOLDER     # writes results/decode_speed.json; about 5 minutes
    python benchmarks/decode_speed.py --model FOLDER --rows-in FOLDER --quick

Rows: next-token logits of a real model (two places of each beginning in data/decode_prompts.jsonl), the same at
temperature 100 as nearly flat rows, and one-hot rows (one logit 40 above the others). They are made once and kept in
the folder. Every row is given to each competitor in turn, so that all see the same state of the machine and its caches.

`rule` is the call that returns logits; `draw` ends with a token: kofn's rule.draw, and for transformers its processor,
softmax and multinomial. Both take and return torch tensors.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import RESULTS, meta, save

PROMPTS = Path(__file__).parent / "data" / "decode_prompts.jsonl"
OUT = RESULTS / "decode_speed.json"
RULES = (
    "topk=50",
    "topp=0.9",
    "minp=0.1",
    "typical=0.9",
    "epsilon=9e-4",
    "eta=9e-4",
    "toph=0.4",
    "topnsigma=1",
    "bregman=1e-3,alpha=1.5",
    "temp=0.8",
    "topk=50|minp=0.05|temp=0.8",
)
SETS = ("real", "flat", "one-hot")
BATCHES = (1, 16)


def warper(rule: str) -> Any:
    """The processor of transformers for this rule; None where it has none."""
    from transformers.generation import logits_process as of

    made = {
        "topk=50": lambda: of.TopKLogitsWarper(50),
        "topp=0.9": lambda: of.TopPLogitsWarper(0.9),
        "minp=0.1": lambda: of.MinPLogitsWarper(0.1),
        "typical=0.9": lambda: of.TypicalLogitsWarper(0.9),
        "epsilon=9e-4": lambda: of.EpsilonLogitsWarper(9e-4),
        "eta=9e-4": lambda: of.EtaLogitsWarper(9e-4),
        "toph=0.4": lambda: of.TopHLogitsWarper(0.4),
        "temp=0.8": lambda: of.TemperatureLogitsWarper(0.8),
        "topk=50|minp=0.05|temp=0.8": lambda: _chained(
            of.TopKLogitsWarper(50), of.MinPLogitsWarper(0.05), of.TemperatureLogitsWarper(0.8)
        ),
    }
    return made[rule]() if rule in made else None


def competitors() -> dict[str, Callable[[Any], Any]]:
    """Name to what is called with logits (B, V)."""
    import torch

    from kofn.decode import child_seeds, parse_rule

    seeds = child_seeds(0, 0, max(BATCHES))

    def drawn(scores: Any) -> Any:
        return torch.multinomial(torch.softmax(scores, -1), 1)

    made: dict[str, Callable[[Any], Any]] = {
        "softmax": lambda x: torch.softmax(x, -1),
        "softmax, multinomial": drawn,
    }
    for text in RULES:
        rule, peer = parse_rule(text), warper(text)
        made[f"kofn rule {text}"] = rule
        made[f"kofn draw {text}"] = lambda x, rule=rule: rule.draw(x, seeds[: len(x)], 7)
        if peer is not None:
            made[f"transformers rule {text}"] = lambda x, peer=peer: peer(None, x)
            made[f"transformers draw {text}"] = lambda x, peer=peer: drawn(peer(None, x))
    return made


def timed(x: Any, calls: int, warm: Any) -> dict[str, dict[str, Any]]:
    """Milliseconds of each competitor on batches of the rows x (calls, B, V), after one call on each row of `warm`."""
    made = competitors()
    for call in made.values():
        for row in warm:  # of each kind: kernels are compiled by what first needs them
            call(row[None])
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(calls):
        for name, call in made.items():
            start = time.perf_counter()
            call(x[turn % len(x)])
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median_ms": round(1e3 * median(each), 4), "worst_ms": round(1e3 * max(each), 4), "calls": calls}
        for name, each in seconds.items()
    }


def rows_in(folder: Path, model: str, count: int) -> np.ndarray[Any, Any]:
    """Real next-token logits, float32 (count, V), made once."""
    path = folder / f"decode-rows-{count}.npy"
    if not path.exists():
        from kofn.decode.transformers_model import load

        reader, tokenizer = load(model)
        texts = [json.loads(line)["text"] for line in PROMPTS.read_text().splitlines()]
        made = []
        for text in texts:
            tokens = tokenizer(text).input_ids
            for stop in (len(tokens), 2 + len(tokens) // 2):
                if len(made) < count:
                    made.append(reader.start([tokens[:stop]])[0][0].copy())
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, np.array(made, np.float32))
    return np.load(path)


def main() -> None:
    """Measure and write."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows-in", required=True, type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    count = 16 if given.quick else 200
    real = rows_in(given.rows_in, given.model, count)
    one_hot = np.zeros((16, real.shape[1]), np.float32)
    one_hot[np.arange(16), np.arange(16) * 1_000] = 40.0
    rows = {"real": real, "flat": real[:32] / 100, "one-hot": one_hot}
    results = []
    for kind in SETS:
        for batch in BATCHES:
            x = torch.from_numpy(rows[kind][: len(rows[kind]) // batch * batch]).reshape(-1, batch, real.shape[1])
            calls = len(x) if kind == "real" and batch == 1 else 4 if given.quick else 20
            found = timed(x, calls, torch.from_numpy(np.concatenate([each[:1] for each in rows.values()])))
            results.append({"rows": kind, "batch": batch, "figures": found})
            print(kind, batch, {name: each["median_ms"] for name, each in found.items()}, flush=True)
    about = meta(
        seeds=[0],
        threads=torch.get_num_threads(),
        vocabulary=int(real.shape[1]),
        peers={name: version(name) for name in ("torch", "transformers")},
        quick=given.quick,
    )
    save(given.out, {"meta": about, "results": results})


def _chained(*parts: Any) -> Any:
    def run(ids: Any, scores: Any) -> Any:
        for part in parts:
            scores = part(ids, scores)
        return scores

    return run


if __name__ == "__main__":
    main()

"""Whether rules keep what transformers' own processors keep, over 500 steps of real text; and what papers say of the kept sets.

    python benchmarks/decode_agreement.py --model FOLDER --keep FOLDER    # writes results/decode_agreement.json; about 6 minutes

Rows: next-token logits of a real model at five places of each of the 100 texts of data/decode_prompts.jsonl (beginning and
continuation), read as they are. They are made once and kept in the folder.

Each rule is compared with the processor of transformers on the same row, and both with a reference: NumPy in double
precision, tokens sorted by a stable sort, ties to the lowest token. A step at which kofn and transformers keep different
tokens is explained by

threshold       every token in question is within 1e-6 of the threshold (a probability, or a share of mass)
float32 sums    transformers adds up 262,144 chances in float32: at every token in question its sum differs from the
                double-precision sum by at least what separates the token from the threshold, and kofn keeps the reference's set

definition      transformers' top-H looks at the best 100 tokens and adds up -p log p without renormalising what is kept; it
                keeps what that gives in double precision

or is counted as unexplained.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, meta, save

PROMPTS = Path(__file__).parent / "data" / "decode_prompts.jsonl"
OUT = RESULTS / "decode_agreement.json"
STEPS = 500
NEAR = 1e-6
"""From a threshold: neither side is wrong."""

ALPHA = 0.4
PEERS = (
    "topk=50",
    "topp=0.9",
    "topp=0.95",
    "minp=0.1",
    "typical=0.2",
    "typical=0.9",
    "epsilon=9e-4",
    "eta=9e-4",
    f"toph={ALPHA}",
)
TEMPERATURES = (0.5, 1.0, 2.0, 5.0)
WHY = ("same", "threshold", "float32 sums", "definition", "unexplained")
ETAS = (3e-4, 9e-4, 4e-3)
"""From the paper's range."""

Array = np.ndarray[Any, Any]


def real_rows(model: str | Path, folder: Path, count: int = STEPS) -> Array:
    """Next-token logits at evenly spaced places of real texts, float32 (count, V), made once."""
    path = folder / f"decode-steps-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = np.concatenate(list(_rows_of_texts(model, count)))
        np.save(path, made)
    return np.load(path, mmap_mode="r")


def _rows_of_texts(model: str | Path, count: int) -> Iterator[Array]:
    from kofn.decode.transformers_model import load

    reader, tokenizer = load(model)
    lines = [json.loads(line) for line in PROMPTS.read_text().splitlines()]
    each = math.ceil(count / len(lines))
    for number, line in enumerate(lines):
        tokens = tokenizer(line["text"] + line["continuation"]).input_ids
        _, state = reader.start([tokens[:1]])
        logits, _ = reader.all_logits(np.array([tokens[1:-1]], np.int64), state)
        places = np.linspace(4, logits.shape[1] - 1, each).round().astype(int)
        yield logits[0][places[: count - number * each]]


def warper(rule: str) -> Any:
    """The processor of transformers for this rule."""
    from transformers.generation import logits_process as of

    name, _, value = rule.partition("=")
    made = {
        "topk": lambda: of.TopKLogitsWarper(int(value)),
        "topp": lambda: of.TopPLogitsWarper(float(value)),
        "minp": lambda: of.MinPLogitsWarper(float(value)),
        "typical": lambda: of.TypicalLogitsWarper(float(value)),
        "epsilon": lambda: of.EpsilonLogitsWarper(float(value)),
        "eta": lambda: of.EtaLogitsWarper(float(value)),
        "toph": lambda: of.TopHLogitsWarper(float(value)),
    }
    return made[name]()


class Law:
    """One row in double precision; tokens are sorted when that is first asked for.

    Attributes
    ----------
    row : float32 (V,)
    p, log_p : float64 (V,)
    entropy : float
        In nats.
    """

    def __init__(self, row: Array) -> None:
        x = row.astype(np.float64)
        x -= x.max()
        e = np.exp(x)
        self.row, self.p, self.log_p = row, e / e.sum(), x - math.log(e.sum())
        self.entropy = float(-(self.p * self.log_p).sum())

    @cached_property
    def order(self) -> Array:
        """Tokens by falling probability, ties to the lowest token."""
        return np.argsort(-self.log_p, kind="stable")

    @cached_property
    def typical_order(self) -> Array:
        """Tokens by nearness of their surprise to the entropy."""
        return np.argsort(np.abs(self.log_p + self.entropy), kind="stable")


@dataclass(frozen=True)
class Reference:
    """What a rule keeps of a row, and how far each token is from where it would be decided otherwise.

    Attributes
    ----------
    kept : bool (V,)
    distance : float64 (V,)
        Of a token's probability from the least that is kept, or of the mass before it from the mass that is to be held.
    sum_error : function to float64 (V,), or None
        How much the sum that transformers has at each token differs from the double-precision one; where it adds up.
    """

    kept: Array
    distance: Array
    sum_error: Callable[[], Array] | None = None


def reference(rule: str, law: Law) -> Reference:
    """The rule by its definition, in double precision."""
    name, _, text = rule.partition("=")
    value = float(text)
    if name in ("topp", "typical"):
        return _holding(name, value, law)
    if name == "toph":
        return _bounded(value, law)
    if name == "topk":
        kept = np.zeros(len(law.p), bool)
        kept[law.order[: int(value)]] = True
        least = law.p[law.order[int(value) - 1]]
    else:
        least = {
            "minp": value * law.p[law.order[0]],
            "epsilon": value,
            "eta": min(value, math.sqrt(value) * math.exp(-law.entropy)),
        }[name]
        kept = law.p >= least
        kept[law.order[0]] = True
    return Reference(kept, np.abs(law.p - least))


def _holding(name: str, share: float, law: Law) -> Reference:
    """The first tokens that hold a share: by probability, or by nearness of their surprise to the entropy."""
    order = law.order if name == "topp" else law.typical_order
    reach = np.cumsum(law.p[order])
    kept = np.zeros(len(law.p), bool)
    kept[order[: int(np.searchsorted(reach, share)) + 1]] = True
    before = np.empty_like(reach)
    before[order] = reach - law.p[order]  # a token is kept while the mass before it is less than the share
    return Reference(kept, np.abs(before - share), partial(_peer_sum_error, name, law, before))


def _peer_sum_error(name: str, law: Law, before: Array) -> Array:
    """How far transformers' float32 sums are from `before`, at every token.

    Its top-p adds from the least probable token on and looks at the sum with the token, 1 - before; its typical adds
    from the nearest on and looks at the sum without it.
    """
    import torch

    x = torch.from_numpy(law.row)
    if name == "topp":
        sums, ranked = x.sort()
        reach = sums.softmax(-1).cumsum(-1)
        error = np.empty(len(before))
        error[ranked.numpy()] = np.abs(1 - reach.numpy().astype(np.float64) - before[ranked.numpy()])
        return error
    log_p = torch.log_softmax(x, -1)
    shifted = (-log_p + (log_p * log_p.exp()).nansum(-1, keepdim=True)).abs()
    ranked = shifted.sort()[1]
    reach = np.concatenate([[0.0], x[ranked].softmax(-1).cumsum(-1)[:-1].numpy().astype(np.float64)])
    error = np.empty(len(before))
    error[ranked.numpy()] = np.abs(reach - before[ranked.numpy()])
    return error


def _bounded(alpha: float, law: Law) -> Reference:
    """The longest prefix whose entropy is at most alpha times the law's."""
    p, log_p = law.p[law.order], law.log_p[law.order]
    held = np.cumsum(p)
    entropies = np.log(held) - np.cumsum(p * log_p) / held
    entropies[0] = 0.0
    over = np.flatnonzero(entropies > alpha * law.entropy)
    kept = np.zeros(len(p), bool)
    kept[law.order[: over[0] if len(over) else len(p)]] = True
    distance = np.empty(len(p))
    distance[law.order] = np.abs(entropies - alpha * law.entropy)
    return Reference(kept, distance)


def peers_top_h(alpha: float, law: Law) -> Array:
    """What transformers' top-H keeps by its own definition, in double precision."""
    best = law.order[:100]
    p = law.p[best] / law.p[best].sum()
    reach = np.cumsum(-p * np.log(np.maximum(p, 1e-300)))
    kept = np.zeros(len(law.p), bool)
    kept[best[: max(int(np.searchsorted(reach, alpha * reach[-1], side="right")), 1)]] = True
    return kept


def compared(rows: Array) -> list[dict[str, Any]]:
    """Every rule that transformers has too, on every row."""
    import torch

    from kofn.decode import parse_rule

    rules = {text: (parse_rule(text), warper(text)) for text in PEERS}
    steps: dict[str, list[dict[str, Any]]] = {text: [] for text in PEERS}
    for number, row in enumerate(rows):
        row = np.array(row)
        law = Law(row)
        for text, (rule, peer) in rules.items():
            ours = rule(row) > -np.inf
            theirs = torch.isfinite(peer(None, torch.from_numpy(row)[None])[0]).numpy()
            step = _step(ours, theirs, reference(text, law))
            if step["why"] == "unexplained" and text.startswith("toph"):
                step["why"] = "definition" if np.array_equal(theirs, peers_top_h(ALPHA, law)) else "unexplained"
            steps[text].append(step)
        if number % 50 == 49:
            print(number + 1, "steps", flush=True)
    return [_summary(text, found) for text, found in steps.items()]


def _step(ours: Array, theirs: Array, truth: Reference) -> dict[str, Any]:
    """One rule at one step."""
    apart = ours != theirs
    found: dict[str, Any] = {
        "kofn": int(ours.sum()),
        "transformers": int(theirs.sum()),
        "kofn_apart": _apart(ours, truth),
        "transformers_apart": _apart(theirs, truth),
        "tokens": int(apart.sum()),
        "furthest": float(truth.distance[apart].max(initial=0.0)),
        "why": "same",
    }
    if apart.any():
        right = not found["kofn_apart"]["tokens"] or found["kofn_apart"]["furthest"] <= NEAR
        if found["furthest"] <= NEAR:
            found["why"] = "threshold"
        elif right and _by_sums(truth, theirs):
            found["why"] = "float32 sums"
        else:
            found["why"] = "unexplained"
    return found


def _apart(kept: Array, truth: Reference) -> dict[str, Any]:
    """Tokens on which a kept set and the reference differ."""
    apart = kept != truth.kept
    return {"tokens": int(apart.sum()), "furthest": float(truth.distance[apart].max(initial=0.0))}


def _by_sums(truth: Reference, theirs: Array) -> bool:
    """Whether the peer's own sums are off by at least what they would have to be, at all tokens that it has wrong."""
    wrong = theirs != truth.kept
    return truth.sum_error is not None and bool((truth.sum_error()[wrong] >= truth.distance[wrong] - NEAR).all())


def _summary(rule: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over the steps, and the steps that differ."""
    why = [step["why"] for step in steps]
    differ = [step for step in steps if step["tokens"]]
    return {
        "rule": rule,
        "steps": len(steps),
        **{name.replace(" ", "_"): why.count(name) for name in WHY},
        "most_tokens": max((step["tokens"] for step in differ), default=0),
        "furthest": max((step["furthest"] for step in differ), default=0.0),
        **{
            f"{who}_as_reference": sum(not step[f"{who}_apart"]["tokens"] for step in steps)
            for who in ("kofn", "transformers")
        },
        **{
            f"{who}_furthest": max(step[f"{who}_apart"]["furthest"] for step in steps)
            for who in ("kofn", "transformers")
        },
        "kept": {who: float(np.mean([step[who] for step in steps])) for who in ("kofn", "transformers")},
        "differ": [{"step": number, **step} for number, step in enumerate(steps) if step["tokens"]][:20],
    }


def sigma(rows: Array) -> dict[str, Any]:
    """Top-n-sigma by temperature, beside NumPy's own and beside top-p."""
    from kofn.decode import KeptSize, Temperature, TopNSigma, TopP

    rule = TopNSigma(1.0)
    same, as_numpy, grows = 0, 0, 0
    sizes: list[list[float]] = []
    for row in rows:
        row = np.array(row)
        x = row.astype(np.float64)
        kept = x >= x.max() - 1.0 * x.std()
        ours = [(Temperature(t) | rule)(row) > -np.inf for t in TEMPERATURES]
        same += all(np.array_equal(each, ours[1]) for each in ours)
        as_numpy += np.array_equal(rule(row) > -np.inf, kept)
        sizes.append([float(KeptSize(Temperature(t) | TopP(0.9))(row)) for t in TEMPERATURES])
        grows += sizes[-1] == sorted(sizes[-1]) and sizes[-1][0] < sizes[-1][-1]
    return {
        "temperatures": list(TEMPERATURES),
        "same_at_all_temperatures": same,
        "as_numpy": as_numpy,
        "top_p_grows": grows,
        "top_p_kept": [float(np.median(each)) for each in zip(*sizes, strict=True)],
        "steps": len(rows),
    }


def bounded_entropy(rows: Array) -> dict[str, Any]:
    """Whether the entropy of what top-H keeps is within its bound; the same of transformers' top-H."""
    import torch

    from kofn.decode import TopH

    rule, whole, peer = TopH(ALPHA), TopH(1.0), warper(f"toph={ALPHA}")
    ours, theirs, everything = [], [], 0
    for row in rows:
        row = np.array(row)
        bound = ALPHA * Law(row).entropy
        ours.append(_entropy(rule(row)) - bound)
        theirs.append(_entropy(peer(None, torch.from_numpy(row)[None])[0].numpy()) - bound)
        everything += bool(np.isfinite(whole(row)).all())
    return {
        "alpha": ALPHA,
        "kofn_within": sum(each <= NEAR for each in ours),
        "kofn_largest_excess": max(ours),
        "transformers_within": sum(each <= NEAR for each in theirs),
        "transformers_largest_excess": max(theirs),
        "alpha_1_keeps_everything": everything,
        "steps": len(rows),
    }


def _entropy(logits: Array) -> float:
    """Of the law of the finite logits, in nats, double precision."""
    return Law(logits[np.isfinite(logits)]).entropy


def near_one_hot(rows: Array) -> dict[str, Any]:
    """Where top-p 0.95 keeps one token: how often eta keeps more, and why not where it does not."""
    from kofn.decode import Eta, TopP

    sure = [np.array(row) for row in rows if (TopP(0.95)(row) > -np.inf).sum() == 1]
    seconds = np.array([np.partition(Law(row).p, -2)[-2] for row in sure])
    found = []
    for epsilon in ETAS:
        more = np.array([(Eta(epsilon)(row) > -np.inf).sum() > 1 for row in sure], bool)
        found.append(
            {
                "epsilon": epsilon,
                "keeps_more": int(more.sum()),
                "second_below_epsilon": int((seconds[~more] < epsilon).sum()),
            }
        )
    uniform = np.zeros(rows.shape[1], np.float32)
    return {
        "top_p_keeps_one": len(sure),
        "eta": found,
        "uniform_row_kept_whole": all(bool(np.isfinite(Eta(epsilon)(uniform)).all()) for epsilon in ETAS),
        "steps": len(rows),
    }


def main() -> None:
    """Measure and write."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a transformers model")
    parser.add_argument("--keep", required=True, type=Path, help="folder in which rows are kept, 0.5 GB")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    rows = real_rows(given.model, given.keep)
    start = time.perf_counter()
    result = {
        "meta": meta(
            model=Path(given.model).resolve().name,
            seeds=[0],
            threads=torch.get_num_threads(),
            vocabulary=int(rows.shape[1]),
            peers={name: version(name) for name in ("torch", "transformers")},
        ),
        "agreement": compared(rows),
        "topnsigma": sigma(rows),
        "toph": bounded_entropy(rows),
        "eta": near_one_hot(rows),
    }
    result["meta"]["minutes"] = round((time.perf_counter() - start) / 60, 1)
    save(given.out, result)
    for each in result["agreement"]:
        print({name: value for name, value in each.items() if name != "differ"})
    print(*(f"{name}: {result[name]}" for name in ("topnsigma", "toph", "eta")), sep="\n")


if __name__ == "__main__":
    main()

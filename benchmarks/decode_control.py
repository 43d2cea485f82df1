"""What rules do to long text: is its surprise held, does it drift; and how uneven is the mass that rules cut off.

    python benchmarks/decode_control.py --model FOLDER --keep FOLDER      # writes results/decode_control.json

Texts: 20 beginnings of data/decode_prompts.jsonl go on for 256 tokens each, in one batch for each rule, all drawn with the
same uniform numbers at temperature 1. The model's end token is a token like any other: no text stops early. Of every
token the surprise is recorded, in bits, under the model's own law (no rule); and the entropy of that law.

Mirostat's limit moves by rate (tau - surprise), so the mean surprise of n tokens is tau + (first limit - last limit) / (rate n):
exactly. A generation is within 5 % of tau where its limit has moved by no more than that allows.

Distortion: at 500 places of the same real texts (`decode_agreement.real_rows`) each rule's parameter is sought by bisection
at which the mean entropy of what it leaves is that of top-k. A rule divides by the mass that it keeps; where this mass differs
from step to step, whole texts get other chances than the model's law on the same texts would give them (Kempton, Burrell,
Local normalization distortion and the thermodynamic formalism of decoding strategies for large language models, 2024). Its
size is the variance of the log kept mass.

Arrays of the generations and rows are kept in the folder, and a second run only counts again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from decode_agreement import real_rows
from decode_quality import repetition
from harness import RESULTS, meta, save

PROMPTS = Path(__file__).parent / "data" / "decode_prompts.jsonl"
OUT = RESULTS / "decode_control.json"
TAUS = (3, 4, 5)
MIROSTATS = ("mirostat={}", "mirostat={},rate=1", "mirostat={},version=1,rate=1")
"""As llama.cpp has it (version 2 at rate 0.1, kofn's default), and at the rate of the authors' own code; the last is theirs."""

RULES = {
    **{each.format(tau): each.format(tau) for each in MIROSTATS for tau in TAUS},
    "topk=5": "topk=5",
    "topp=0.4": "topp=0.4",
    "no rule": "",
}
TEXTS, LENGTH, SEED = 20, 256, 0
WINDOW = 32
"""Tokens over which surprises are averaged."""

FINE = 16
"""The same for the picture."""

WITHIN = 0.05
"""Of tau."""

UNCUT = 0.999
"""Mass kept, above which a step counts as uncut."""

KS = (5, 20, 50)
"""Top-k's to whose entropy the other rules are brought."""

MATCHED = {
    "topp": (0.01, 0.999),
    "minp": (0.9, 1e-5),
    "typical": (0.01, 0.999),
    "epsilon": (0.5, 1e-6),
    "eta": (0.9, 1e-9),
    "topnsigma": (0.01, 4.0),
    "toph": (0.01, 0.999),
}
"""Rules, and between which values the parameter is sought: from strict to loose."""

Array = np.ndarray[Any, Any]


class Watched:
    """A language model that writes down the entropy of each law that it gives, in bits."""

    def __init__(self, model: Any) -> None:
        self.model, self.vocabulary, self.end = model, model.vocabulary, frozenset[int]()
        self.entropies: list[Array] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """See `LanguageModel`."""
        return self._seen(*self.model.start(prompts))

    def next_logits(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """See `LanguageModel`."""
        return self._seen(*self.model.next_logits(tokens, state))

    def select(self, state: Any, rows: Any) -> Any:
        """See `LanguageModel`."""
        return self.model.select(state, rows)

    def _seen(self, logits: Any, state: Any) -> tuple[Any, Any]:
        from kofn.decode import Entropy

        self.entropies.append(Entropy()(logits) / math.log(2))
        return logits, state


def generations(given: argparse.Namespace) -> dict[str, dict[str, Array]]:
    """Of each rule: tokens, surprises, log kept masses (natural) and entropies, all (texts, length)."""
    made: dict[str, dict[str, Array]] = {}
    opened: list[Any] = []
    for name, rule in RULES.items():
        path = given.keep / f"control-{name.replace('=', '-').replace(',', '-').replace(' ', '-')}.npz"
        if not path.exists():
            if not opened:
                from kofn.decode.transformers_model import load

                opened += load(given.model)
            start = time.perf_counter()
            np.savez(path, **generated(*opened, rule))
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        made[name] = dict(np.load(path))
    return made


def generated(model: Any, tokenizer: Any, rule: str) -> dict[str, Array]:
    """All texts of one rule."""
    from kofn.decode import Sampling, parse_rule

    lines = PROMPTS.read_text().splitlines()
    texts = [json.loads(lines[i * len(lines) // TEXTS])["text"] for i in range(TEXTS)]
    watched = Watched(model)
    sampling = Sampling(parse_rule(rule) if rule else None)
    drawn = sampling.generate_each(watched, [tokenizer(text).input_ids for text in texts], length=LENGTH, seed=SEED)
    own, law = (np.array(drawn.details[name]) for name in ("model_token_logprobs", "token_logprobs"))
    tokens = np.array(drawn.tokens)
    return {
        "tokens": tokens,
        "surprises": -own / math.log(2),
        "log_masses": np.minimum(own - law, 0.0),
        "entropies": np.array(watched.entropies).T,
        "ends": np.isin(tokens, list(model.end)).sum(axis=1),
    }


def control(name: str, made: dict[str, Array]) -> dict[str, Any]:
    """Figures of one rule's texts."""
    surprises, tokens = made["surprises"], made["tokens"]
    half = (surprises[:, -64:].mean(axis=1), surprises[:, :64].mean(axis=1))
    found = {
        "rule": name,
        "surprise": float(surprises.mean()),
        "surprise_after_first_window": float(surprises[:, WINDOW:].mean()),
        "by_window": _windows(surprises, WINDOW),
        "by_fine_window": _windows(surprises, FINE),
        "entropy_by_window": _windows(made["entropies"], WINDOW),
        "entropy": float(made["entropies"].mean()),
        "repetition_by_window": [float(share) for share in _repeated(tokens)],
        "repetition": repetition([row.tolist() for row in tokens]),
        "kept_mass": float(np.exp(made["log_masses"]).mean()),
        "last_64_less_first_64": float((half[0] - half[1]).mean()),
        "its_standard_error": float((half[0] - half[1]).std(ddof=1) / math.sqrt(TEXTS)),
        "of_each_text": [round(float(each), 4) for each in surprises.mean(axis=1)],
        "texts_with_an_end_token": int((made["ends"] > 0).sum()),
        "log_mass_variance": float(made["log_masses"].var()),
        "effective_texts": {str(n): _effective(made["log_masses"][:, :n]) for n in (8, 16, 32, 64, 128, 256)},
    }
    return found | (_held(name, surprises, made["log_masses"]) if name.startswith("mirostat") else {})


def _windows(values: Array, width: int) -> list[float]:
    return [float(each) for each in values.reshape(len(values), -1, width).mean(axis=(0, 2))]


def _repeated(tokens: Array) -> Array:
    """Share of the 4-grams ending in each window that their text had before, anywhere."""
    seen = np.zeros(tokens.shape)
    for row, marks in zip(tokens.tolist(), seen, strict=True):
        before = set()
        for last in range(3, len(row)):
            gram = tuple(row[last - 3 : last + 1])
            marks[last] = gram in before
            before.add(gram)
    return np.array([seen[:, max(start, 3) : start + WINDOW].mean() for start in range(0, tokens.shape[1], WINDOW)])


def _effective(log_masses: Array) -> float:
    """How many of the texts count, after their weights: 1 / sum w ** 2."""
    from kofn.decode import correction_weights

    return float(1 / (correction_weights(log_masses) ** 2).sum())


def _held(name: str, surprises: Array, log_masses: Array) -> dict[str, Any]:
    """How near Mirostat's texts come to tau, as a whole and one by one; and how often it had nothing to cut."""
    from kofn.decode import parse_rule

    rule: Any = parse_rule(name)
    tau = rule.tau
    limits = 2 * tau - rule.rate * np.cumsum(surprises - tau, axis=1)
    late = surprises[:, WINDOW:]
    within = np.abs(surprises.mean(axis=1) / tau - 1) <= WITHIN
    uncut = (log_masses > math.log(UNCUT)).mean(axis=1)
    return {
        "tau": tau,
        "off": float(surprises.mean() / tau - 1),
        "off_after_first_window": float(late.mean() / tau - 1),
        "median_text_off": float(np.median(surprises.mean(axis=1)) / tau - 1),
        "texts_within": int(within.sum()),
        "texts_within_after_first_window": int((np.abs(late.mean(axis=1) / tau - 1) <= WITHIN).sum()),
        "limit_by_window": _windows(limits, WINDOW),
        "last_limits": [round(float(each), 2) for each in limits[:, -1]],
        "uncut_steps_of_texts_within": float(uncut[within].mean()) if within.any() else None,
        "uncut_steps_of_texts_off": float(uncut[~within].mean()) if not within.all() else None,
        "limit_may_move_by": WITHIN * tau * rule.rate * surprises.shape[1],
    }


def distortion(rows: Array) -> list[dict[str, Any]]:
    """Each rule at the entropy of top-k: its parameter, and how its kept mass varies over the rows."""
    return [each for k in KS for each in _matched(rows, k)]


def _matched(rows: Array, k: int) -> list[dict[str, Any]]:
    found = [_masses(rows, "topk", k, k)]
    target = found[0]["entropy"]
    for name in MATCHED:
        found.append(_masses(rows, name, _sought(rows, name, target), k))
        found[-1]["reached"] = abs(found[-1]["entropy"] - target) < 0.01
        print(found[-1], flush=True)
    return found


def _sought(rows: Array, name: str, target: float) -> float:
    """The parameter at which the mean entropy of what the rule leaves is the target, by bisection of its logarithm."""
    strict, loose = (math.log(bound) for bound in MATCHED[name])
    for _ in range(30):
        middle = (strict + loose) / 2
        entropy = _mean_entropy(rows, name, math.exp(middle))
        if abs(entropy - target) < 1e-3:
            break
        strict, loose = (middle, loose) if entropy < target else (strict, middle)
    return math.exp(middle)


def _rule(name: str, value: float) -> Any:
    from kofn.decode import parse_rule

    return parse_rule(f"{name}={value!r}")


def _mean_entropy(rows: Array, name: str, value: float) -> float:
    return float(np.mean([support.entropy() for support in _rule(name, value).supports(rows)]))


def _masses(rows: Array, name: str, value: float, k: int) -> dict[str, Any]:
    from kofn.decode import KeptSize, LogKeptMass

    rule = _rule(name, value)
    logs = LogKeptMass(rule)(rows)
    return {
        "at_the_entropy_of": f"topk={k}",
        "rule": name,
        "value": value,
        "entropy": _mean_entropy(rows, name, value),
        "kept": float(np.mean(KeptSize(rule)(rows))),
        "mean_log_mass": float(logs.mean()),
        "log_mass_variance": float(logs.var(ddof=1)),
        "log_mass_interval": [float(bound) for bound in _variance_interval(logs)],
        "least_mass": float(np.exp(logs.min())),
    }


def _variance_interval(values: Array) -> Array:
    """Of 95 %, by bootstrap over the rows' texts (five rows each)."""
    texts = values.reshape(-1, 5)
    drawn = np.random.default_rng(0).integers(0, len(texts), (2_000, len(texts)))
    return np.quantile(texts[drawn].reshape(len(drawn), -1).var(axis=1, ddof=1), [0.025, 0.975])


def main() -> None:
    """Generate what is missing, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a transformers model")
    parser.add_argument("--keep", required=True, type=Path, help="folder in which rows and texts are kept, 0.6 GB")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    rows = real_rows(given.model, given.keep)
    texts = generations(given)
    about = meta(
        model=Path(given.model).resolve().name,
        seeds=[SEED],
        texts=TEXTS,
        length=LENGTH,
        rows=len(rows),
        peers={name: version(name) for name in ("torch", "transformers")},
    )
    figures = [control(name, made) for name, made in texts.items()]
    for each in figures:
        print(f"{each['rule']}: {each['surprise']:.2f} bits, {each['repetition']:.1%} repeated 4-grams", flush=True)
    save(given.out, {"meta": about, "control": figures, "distortion": distortion(rows)})


if __name__ == "__main__":
    main()

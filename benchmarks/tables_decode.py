"""The tables of docs/decode: speed of rules and draws, and what the goals were; long text; agreement with transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

Result = dict[str, Any]


def decode(result: Result, argument: str, grid: Any) -> str:
    """The table of this name: `goals`, one of `OTHERS`, or rows and batch as in `real 1`."""
    if argument in OTHERS:
        source, made = OTHERS[argument]
        path = RESULTS / f"{source}.json"
        if not path.exists():
            return f"Not measured yet: `python benchmarks/{source}.py` writes `benchmarks/results/{source}.json`.\n"
        return made(json.loads(path.read_text()), grid)
    return goals(result, grid) if argument == "goals" else speed(result, argument, grid)


def figures(result: Result, kind: str, batch: int) -> dict[str, dict[str, float]]:
    """What was measured on these rows."""
    return next(each["figures"] for each in result["results"] if (each["rows"], each["batch"]) == (kind, batch))


def rules_of(found: Result) -> list[str]:
    """Rules in the order in which they ran."""
    return [name.removeprefix("kofn rule ") for name in found if name.startswith("kofn rule ")]


def speed(result: Result, argument: str, grid: Any) -> str:
    """Milliseconds of every rule and draw on one kind of rows."""
    kind, batch = argument.rsplit(" ", 1)
    found = figures(result, kind, int(batch))
    softmax = found["softmax"]["median_ms"]
    plain = found["softmax, multinomial"]
    rows = [
        ["softmax", _ms(found["softmax"]), "", "", "", "", ""],
        ["softmax, multinomial", "", "", "", "", _ms(plain), ""],
    ]
    for rule in rules_of(found):
        ours, peer = found[f"kofn rule {rule}"], found.get(f"transformers rule {rule}")
        draw, theirs = found[f"kofn draw {rule}"], found.get(f"transformers draw {rule}")
        rows.append(
            [
                f"`{rule}`", _ms(ours), f"{ours['median_ms'] / softmax:.2f}", _ms(peer), _ms(draw),
                _ms(theirs), _times(draw, theirs or plain),
            ]
        )  # fmt: skip
    heads = [
        "rule",
        "kofn: ms",
        "in softmaxes",
        "transformers: ms",
        "kofn rule and draw: ms",
        "transformers: ms",
        "as fast",
    ]
    return grid(heads, rows)


def goals(result: Result, grid: Any) -> str:
    """What was asked, what was measured."""
    real, flat = figures(result, "real", 1), figures(result, "flat", 1)
    softmax = real["softmax"]["median_ms"]
    rules = rules_of(real)
    cost = {rule: real[f"kofn rule {rule}"]["median_ms"] / softmax for rule in rules}
    dearest = max(cost, key=lambda rule: cost[rule])
    rows = [_row(f"a rule, in softmaxes (the dearest: {dearest})", "at most 5", cost[dearest], cost[dearest] <= 5)]
    for rule, least in (("topp=0.9", 20), ("typical=0.9", 20), ("eta=9e-4", 2), ("minp=0.1", 2), ("epsilon=9e-4", 2)):
        times = _ratio(real, "rule", rule)
        rows.append(_row(f"{rule}, as fast as transformers' rule", f"at least {least}x", times, times >= least))
    draws = {rule: _ratio(real, "draw", rule) for rule in rules}
    slowest = min(draws, key=lambda rule: draws[rule])
    rows.append(
        _row(f"rule and draw, as fast as processor, softmax, multinomial (the least: {slowest})", "at least 8x",
             draws[slowest], draws[slowest] >= 8)
    )  # fmt: skip
    rows.append(_row("topp=0.9, rule and draw", "at least 40x", draws["topp=0.9"], draws["topp=0.9"] >= 40))
    for kind, found in (("flat", flat), ("one-hot", figures(result, "one-hot", 1))):
        slow = {rule: _ratio(found, "rule", rule) for rule in rules if f"transformers rule {rule}" in found}
        rows.extend(
            _row(f"{kind} rows: {rule}, as fast as transformers' rule", "at least 1x", slow[rule], slow[rule] >= 1)
            for rule in sorted(slow, key=lambda rule: slow[rule])[:3]
        )
    return grid(["measure", "goal", "measured", "met"], rows)


def _ratio(found: Result, what: str, rule: str) -> float:
    peer = found.get(f"transformers {what} {rule}") or found["softmax, multinomial"]
    return peer["median_ms"] / found[f"kofn {what} {rule}"]["median_ms"]


def _row(text: str, goal: str, value: float, met: bool) -> list[str]:
    return [
        text,
        goal,
        f"{value:.3g}x" if goal.endswith("x") else f"{value:.3g}",
        "yes" if met else "**no**",
    ]


def _ms(each: Any) -> str:
    return "" if each is None else f"{each['median_ms']:.3g} ({each['worst_ms']:.3g})"


def _times(ours: Any, theirs: Any) -> str:
    return f"{theirs['median_ms'] / ours['median_ms']:.3g}x"


STRETCHES = ((0, 1), (1, 2), (2, 4), (4, 6), (6, 8))
"""Windows of 32 tokens that are shown as one."""


def surprises(result: Result, grid: Any) -> str:
    """Mean surprise by position, every rule."""
    rows = [
        [
            f"`{each['rule']}`" if "=" in each["rule"] else each["rule"],
            *(f"{_mean(each['by_window'], stretch):.2f}" for stretch in STRETCHES),
            f"{each['surprise']:.2f}",
            f"{each['last_64_less_first_64']:+.2f} ± {each['its_standard_error']:.2f}",
        ]
        for each in result["control"]
    ]
    return grid(["bits a token", *_stretch_heads(), "all 256", "last 64 less first 64"], rows)


def repetitions(result: Result, grid: Any) -> str:
    """Repeated 4-grams by position, every rule."""
    rows = [
        [
            f"`{each['rule']}`" if "=" in each["rule"] else each["rule"],
            *(f"{_mean(each['repetition_by_window'], stretch):.1%}" for stretch in STRETCHES),
        ]
        for each in result["control"]
    ]
    return grid(["repeated 4-grams", *_stretch_heads()], rows)


def held(result: Result, grid: Any) -> str:
    """What Mirostat promises, and what came of it."""
    rows = [
        [
            f"`{each['rule']}`",
            f"{each['surprise']:.2f}",
            *(f"{100 * each[off]:+.1f} %" for off in ("off", "off_after_first_window", "median_text_off")),
            str(each["texts_within"]),
            _share(each["uncut_steps_of_texts_within"]),
            _share(each["uncut_steps_of_texts_off"]),
            f"{each['entropy']:.2f}",
            "yes" if abs(each["off"]) <= 0.05 else "**no**",
        ]
        for each in result["control"]
        if "tau" in each
    ]
    heads = [
        "rule", "mean surprise, bits", "off tau by", "without the first 32 tokens", "median text", "texts of 20 within 5 %",
        "steps uncut in these", "in the others", "entropy of the law", "mean within 5 %",
    ]  # fmt: skip
    return grid(heads, rows)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _mean(windows: list[float], stretch: tuple[int, int]) -> float:
    return sum(windows[slice(*stretch)]) / (stretch[1] - stretch[0])


def _stretch_heads() -> list[str]:
    return [f"{32 * first + 1} to {32 * last}" for first, last in STRETCHES]


def distortion(result: Result, grid: Any) -> str:
    """Variance of the log kept mass of rules at equal entropy."""
    rows = []
    for each in result["distortion"]:
        if not each.get("reached", True):  # no parameter cuts as deep
            continue
        of_topk = next(
            other["log_mass_variance"]
            for other in result["distortion"]
            if other["rule"] == "topk" and other["at_the_entropy_of"] == each["at_the_entropy_of"]
        )
        low, high = each["log_mass_interval"]
        value = f"{each['value']:.3g}"
        rows.append(
            [
                f"{each['entropy']:.2f}" if each["rule"] == "topk" else "",
                f"`{each['rule']}={value}`",
                f"{each['kept']:,.0f}",
                f"{each['mean_log_mass']:.2f}",
                f"{each['log_mass_variance']:.3g} ({low:.2g} to {high:.2g})",
                f"{each['log_mass_variance'] / of_topk:.2f}x",
            ]
        )
    return grid(["mean entropy, nats", "rule", "tokens kept", "mean log mass", "its variance", "of top-k's"], rows)


def weights(result: Result, grid: Any) -> str:
    """How many of 20 texts count after the weights that undo the distortion."""
    rows = [
        [
            f"`{each['rule']}`",
            f"{each['log_mass_variance']:.2f}",
            *(f"{n:.1f}" for n in each["effective_texts"].values()),
        ]
        for each in result["control"]
        if each["rule"].startswith("top")
    ]
    lengths = [f"{n} tokens" for n in result["control"][0]["effective_texts"]]
    return grid(["effective number of 20 texts", "variance of log mass", *lengths], rows)


def agreement(result: Result, grid: Any) -> str:
    """Kept sets beside transformers' own."""
    rows = [
        [
            f"`{each['rule']}`",
            str(each["same"]),
            *(str(each[why]) for why in ("threshold", "float32_sums", "definition", "unexplained")),
            f"{each['most_tokens']}" if each["most_tokens"] else "",
            f"{each['furthest']:.1g}" if each["most_tokens"] else "",
            str(each["kofn_as_reference"]),
            str(each["transformers_as_reference"]),
        ]
        for each in result["agreement"]
    ]
    heads = [
        "rule", "same set", "else: threshold", "float32 sums", "definition", "unexplained", "most tokens", "furthest",
        "kofn's is the reference's", "transformers' is",
    ]  # fmt: skip
    return grid(heads, rows)


def kept_sets(result: Result, grid: Any) -> str:
    """What papers say of kept sets, on as many steps."""
    sigma, top_h, eta = result["topnsigma"], result["toph"], result["eta"]
    steps, grows = sigma["steps"], [f"{size:,.0f}" for size in sigma["top_p_kept"]]
    temperatures = ", ".join(f"{t:g}" for t in sigma["temperatures"])
    rows = [
        [f"`topnsigma=1` keeps the same at temperatures {temperatures}", sigma["same_at_all_temperatures"], steps],
        ["and what three lines of NumPy keep", sigma["as_numpy"], steps],
        [f"`topp=0.9` keeps more with each (medians: {', '.join(grows)})", sigma["top_p_grows"], steps],
        ["`toph=0.4`: the entropy of what is kept is within 0.4 of the law's", top_h["kofn_within"], steps],
        [
            f"the same of transformers' (worst: {top_h['transformers_largest_excess']:.2f} nats above)",
            top_h["transformers_within"],
            steps,
        ],
        ["`toph=1` keeps everything", top_h["alpha_1_keeps_everything"], steps],
        *(
            [
                f"`eta={each['epsilon']:.0e}` keeps more than one token where `topp=0.95` keeps one".replace(
                    "e-0", "e-"
                ),
                each["keeps_more"],
                eta["top_p_keeps_one"],
            ]
            for each in eta["eta"]
        ),
    ]
    return grid(["", "steps", "of"], [[text, str(count), str(of)] for text, count, of in rows])


OTHERS: dict[str, tuple[str, Callable[[Result, Any], str]]] = {
    "surprises": ("decode_control", surprises),
    "repetitions": ("decode_control", repetitions),
    "mirostat": ("decode_control", held),
    "distortion": ("decode_control", distortion),
    "weights": ("decode_control", weights),
    "agreement": ("decode_agreement", agreement),
    "kept sets": ("decode_agreement", kept_sets),
}
"""Tables with the result that they are from."""

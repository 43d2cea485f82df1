"""The tables of docs/decode: speed of rules and draws, and what the goals were."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]


def decode(result: Result, argument: str, grid: Any) -> str:
    """The table of this name: `goals`, or rows and batch as in `real 1`."""
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

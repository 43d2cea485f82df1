"""Draws docs/images/decode-cuts.svg, decode-order.svg, decode-quality.svg and decode-control.svg.

    python benchmarks/decode_plots.py --model FOLDER

How rules cut three real next-token laws; what order does; and what rules do to text, from results/decode_quality.json and,
over 256 tokens, from results/decode_control.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"
IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
PROMPTS = {
    "sure": "The first president of the United States was George",
    "in between": "The capital of France is",
    "open": "My favourite thing about the city is the",
}
RULES = (
    "topk=50", "topp=0.9", "minp=0.1", "typical=0.2", "epsilon=9e-4", "eta=9e-4", "topnsigma=1", "toph=0.4",
    "bregman=1e-3,alpha=1.5",
)  # fmt: skip
ORDERS = ("temp=T|topp=0.9", "topp=0.9|temp=T", "temp=T|minp=0.1", "minp=0.1|temp=T", "temp=T|topnsigma=1")
QUALITY = ("", "topk=50", "topp=0.9", "minp=0.1", "typical=0.2", "eta=9e-4", "topnsigma=1", "toph=0.4")
CONTROL = {
    "no rule": "#72777f", "mirostat=5": "#17496f", "mirostat=4": "#4c88bf", "mirostat=3": "#8fc0e8", "topk=5": "#e45756",
    "topp=0.4": "#f2a03d",
}  # fmt: skip
"""Decoders of the long texts, with their colours."""

RATES = {"rate 0.1, as llama.cpp has it": "", "rate 1, as the authors' code has it": ",rate=1"}
"""Pictures of the long texts, with what Mirostat's name ends in."""

MOST = 500  # texts that are more surprising are off the picture
LEAST = 1e-9  # probabilities below it are not drawn
INK, BAR, LINE = "#30343b", "#4c78a8", "#e45756"


def laws_of(model: str) -> dict[str, Any]:
    """Logits of what follows each prompt."""
    from kofn.decode.transformers_model import load

    reader, tokenizer = load(model)
    return {name: reader.start([tokenizer(text).input_ids])[0][0].copy() for name, text in PROMPTS.items()}


def curve(x: Any) -> list[dict[str, float]]:
    """Probability by rank, thinned to what a logarithmic axis shows."""
    p = np.exp(np.sort(x.astype(np.float64))[::-1] - x.max())
    p /= p.sum()
    ranks = np.unique(np.round(np.geomspace(1, len(p), 240)).astype(int))
    return [{"rank": int(rank), "probability": float(p[rank - 1])} for rank in ranks if p[rank - 1] >= LEAST]


def cuts(x: Any) -> list[dict[str, Any]]:
    """From which rank to which each rule keeps tokens, how many and how much."""
    from kofn.decode import KeptMass, KeptSize, parse_rule

    rank_of = np.empty(len(x), np.int64)
    rank_of[np.argsort(-x, kind="stable")] = np.arange(1, len(x) + 1)
    found = []
    for text in RULES:
        rule = parse_rule(text)
        ranks = rank_of[np.flatnonzero(np.isfinite(rule(x)))]
        size, mass = int(KeptSize(rule)(x)), float(KeptMass(rule)(x))
        note = f"{size:,} token{'s' * (size > 1)}, {100 * mass:.3g} %"
        found.append({"rule": text, "first": int(ranks.min()) - 0.25, "last": int(ranks.max()) + 0.25, "note": note})
    return found


def draw_cuts(laws: dict[str, Any], path: Path) -> None:
    """Three columns: the law above, the rules' cuts below."""
    import altair as alt

    columns = []
    for name, x in laws.items():
        axis = alt.Scale(type="log", domain=[0.7, 300_000], nice=False)
        shown = alt.X("rank:Q", scale=axis, axis=alt.Axis(title=None, labels=False, ticks=False, grid=False))
        top = (
            alt.Chart(alt.Data(values=curve(x)))
            .mark_line(color=LINE, strokeWidth=2)
            .encode(
                x=shown,
                y=alt.Y("probability:Q", scale=alt.Scale(type="log", domain=[LEAST, 1]),
                        axis=alt.Axis(title="probability" if name == "sure" else None, format=".0e", tickCount=5)),
            )
            .properties(width=300, height=130, title=alt.Title(name, subtitle=f"“{PROMPTS[name]} …”"))
        )  # fmt: skip
        rows = alt.Chart(alt.Data(values=cuts(x)))
        y = alt.Y(
            "rule:N", sort=list(RULES), axis=alt.Axis(title=None, labels=name == "sure", ticks=False, domain=False)
        )
        ends = alt.Axis(title="rank of the token", values=[1, 10, 100, 1_000, 10_000, 100_000], format="~s", grid=True)
        bars = rows.mark_bar(color=BAR, height=7, yOffset=5).encode(
            x=alt.X("first:Q", scale=axis, axis=ends), x2="last:Q", y=y
        )
        notes = rows.mark_text(align="left", dx=1, dy=-6, fontSize=9.5, color=INK).encode(
            x=alt.datum(1, scale=axis), y=y, text="note:N"
        )
        columns.append(alt.vconcat(top, (bars + notes).properties(width=300, height=26 * len(RULES)), spacing=4))
    save(alt.hconcat(*columns, spacing=16), path)


def draw_order(laws: dict[str, Any], path: Path) -> None:
    """Tokens kept by temperature, with the temperature before and after the cut."""
    import altair as alt

    from kofn.decode import KeptSize, parse_rule

    values = []
    for name, x in laws.items():
        for text in ORDERS:
            for t in np.linspace(0.5, 2.5, 17):
                kept = float(KeptSize(parse_rule(text.replace("T", f"{t:.3f}")))(x))
                values.append({"temperature": round(float(t), 3), "kept": kept, "chain": text, "law": name})
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("temperature:Q", title="temperature T"),
            y=alt.Y(
                "kept:Q",
                scale=alt.Scale(type="log"),
                title="tokens kept",
                axis=alt.Axis(format="~s", values=[1, 10, 100, 1_000, 10_000, 100_000]),
            ),
            color=alt.Color("chain:N", sort=list(ORDERS), title=None),
            strokeDash=alt.StrokeDash("chain:N", sort=list(ORDERS), legend=None),
            column=alt.Column("law:N", sort=list(PROMPTS), title=None),
        )
        .properties(width=250, height=190)
    )
    save(chart, path)


def draw_quality(path: Path) -> None:
    """Surprise against variety of the texts of decode_quality.json: a line a rule, a point a temperature."""
    import altair as alt

    cells = json.loads((RESULTS / "decode_quality.json").read_text())["cells"]
    drawn = [
        each
        for each in cells
        if each["temperature"] is not None and each["rule"] in QUALITY and each["perplexity"] < MOST
    ]
    values = [
        {
            "rule": each["rule"] or "no rule",
            "T": f"{each['temperature']:g}",
            "x": each["distinct_2"],
            "y": each["perplexity"],
        }
        for each in drawn
    ]
    real = next(each for each in cells if "text itself" in each["rule"])
    x = alt.X("x:Q", scale=alt.Scale(zero=False), title="distinct 2-grams", axis=alt.Axis(tickCount=8, format=".2f"))
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(type="log"),
        title="perplexity under the model",
        axis=alt.Axis(values=[3, 10, 30, 100, 300]),
    )
    color = alt.Color("rule:N", sort=[rule or "no rule" for rule in QUALITY], title=None)
    base = alt.Chart(alt.Data(values=values)).encode(x=x, y=y, color=color)
    lines = base.mark_line(strokeWidth=1.5).encode(order="T:N")
    points = base.mark_point(filled=True, size=45, opacity=1)
    labels = base.mark_text(dx=7, dy=7, fontSize=9).encode(text="T:N")
    text = alt.Chart(alt.Data(values=[{"x": real["distinct_2"], "y": real["perplexity"], "label": "real text"}]))
    star = text.mark_point(shape="diamond", filled=True, size=130, color=INK).encode(x=x, y=y)
    name = text.mark_text(dx=-8, align="right", fontWeight="bold", color=INK).encode(x=x, y=y, text="label:N")
    save((lines + points + labels + star + name).properties(width=560, height=330), path)


def draw_control(path: Path) -> None:
    """Mean surprise by position of the texts of decode_control.json, and what Mirostat aims at; a picture for each rate."""
    import altair as alt

    cells = json.loads((RESULTS / "decode_control.json").read_text())["control"]
    found = {each["rule"]: each["by_fine_window"] for each in cells}
    axis = alt.Axis(values=[*range(0, 257, 64)])
    x = alt.X("token:Q", title="token of the text", scale=alt.Scale(domain=[0, 256]), axis=axis)
    color = alt.Color("rule:N", sort=list(CONTROL), title=None, scale=alt.Scale(range=list(CONTROL.values())))
    aims = [{"bits": int(rule[-1]), "rule": rule} for rule in CONTROL if rule.startswith("mirostat")]
    charts = []
    for title, ending in RATES.items():
        drawn = {rule: found[rule + ending if rule.startswith("mirostat") else rule] for rule in CONTROL}
        values = [
            {"rule": rule, "token": 256 * (place + 0.5) / len(windows), "bits": bits}
            for rule, windows in drawn.items()
            for place, bits in enumerate(windows)
        ]
        y = alt.Y(
            "bits:Q",
            title="" if charts else "mean surprise, bits",
            scale=alt.Scale(domain=[0, 6]),
            axis=alt.Axis(tickCount=6),
        )
        lines = alt.Chart(alt.Data(values=values)).mark_line(strokeWidth=2).encode(x=x, y=y, color=color)
        wanted = alt.Chart(alt.Data(values=aims)).mark_rule(strokeDash=[5, 4]).encode(y="bits:Q", color=color)
        charts.append((wanted + lines).properties(width=340, height=300, title=title))
    save(alt.hconcat(*charts, spacing=18), path)


def save(chart: Any, path: Path) -> None:
    """As SVG, with plain fonts."""
    font = "DejaVu Sans, Verdana, sans-serif"
    chart = chart.configure(font=font, background="white").configure_view(stroke=None)
    chart.configure_axis(labelColor=INK, titleColor=INK, gridColor="#e8e8e8").save(str(path))
    print(path)


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    draw_quality(IMAGES / "decode-quality.svg")
    draw_control(IMAGES / "decode-control.svg")
    laws = laws_of(parser.parse_args().model)
    draw_cuts(laws, IMAGES / "decode-cuts.svg")
    draw_order(laws, IMAGES / "decode-order.svg")


if __name__ == "__main__":
    main()

"""A selection in a notebook: what was chosen, how the weights lie, the first picks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kofn.selection import Selection

BARS = 120  # weights drawn at most: quantiles of them where there are more
FIRST = 8


def selection_card(selection: Selection) -> str:
    """HTML without scripts, in the notebook's own colours. O(k log k) time."""
    first, *rest = str(selection).splitlines()
    lines = "".join(
        f"<tr><th style='text-align:left;font-weight:600;padding:1px 12px 1px 0'>{escape(name)}</th>"
        f"<td style='text-align:left;padding:1px 0'>{escape(text)}</td></tr>"
        for name, _, text in (line.strip().partition("  ") for line in rest)
    )
    return (
        "<div style='max-width:46em;line-height:1.45'>"
        f"<div style='font-weight:600;font-size:1.1em;margin-bottom:4px'>{escape(first.removeprefix('Selection: '))}</div>"
        f"<table style='border-collapse:collapse;margin:0'>{lines}</table>{_bars(selection)}{_picks(selection)}</div>"
    )


def _bars(selection: Selection) -> str:
    weights = np.sort(selection.weights)[::-1]
    if len(weights) > BARS:
        weights = weights[np.linspace(0, len(weights) - 1, BARS).astype(np.int64)]
    tallest, width = float(weights[0]), 480 / len(weights)
    bars = "".join(
        f"<rect x='{at * width:.2f}' y='{48 * (1 - weight / tallest):.2f}' width='{max(width - 0.6, 0.6):.2f}' "
        f"height='{48 * weight / tallest:.2f}'/>"
        for at, weight in enumerate(weights.tolist())
    )
    heavy, light = f"{selection.weights.max():,.6g}", f"{selection.weights.min():,.6g}"
    label = f"weights of the picks in order, from {heavy} rows down to {light}"
    return (
        f"<svg viewBox='0 0 480 50' style='width:100%;max-width:480px;height:auto;display:block;margin:6px 0 0' "
        f"role='img' aria-label='{label}'><g fill='#2f6fde'>{bars}</g></svg>"
        f"<div style='opacity:.75;font-size:.9em'>{label}</div>"
    )


def _picks(selection: Selection) -> str:
    named = selection.ids is not None
    cells = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:right;padding:1px 12px 1px 0'>{escape(text)}</td>" for text in row)
        + "</tr>"
        for row in (
            [str(rank), f"{selection.indices[rank]:,}", f"{selection.weights[rank]:,.6g}"]
            + ([str(selection.ids[rank])] if selection.ids is not None else [])
            for rank in range(min(FIRST, len(selection)))
        )
    )
    heads = ["rank", "row", "stands for rows", *(["id"] if named else [])]
    titles = "".join(f"<th style='text-align:right;padding:1px 12px 1px 0'>{head}</th>" for head in heads)
    more = (
        f"<div style='opacity:.75;font-size:.9em'>and {len(selection) - FIRST:,} more</div>"
        if len(selection) > FIRST
        else ""
    )
    return f"<table style='border-collapse:collapse;margin:8px 0 0'><tr>{titles}</tr>{cells}</table>{more}"

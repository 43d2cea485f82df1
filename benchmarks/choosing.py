"""Every method beside every other by `kofn compare --methods all`, on data of three kinds: what docs/choosing.md is read from.

    python benchmarks/choosing.py --glosses wordnet-nouns-minilm.parquet   # digits, islands, glosses
    python benchmarks/tables.py --write                                    # the tables in the docs

It writes `benchmarks/results/choosing.json`, a page for each data set into `docs/gallery`, and `docs/images/choosing.png`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, meta, save

import kofn

DOCS = RESULTS.parent.parent / "docs"
SEEDS = 5
SHOWN = {
    "mean_distance": "mean distance",
    "radius": "radius",
    "mmd": "MMD",
    "kmeans_cost_error": "k-means cost error",
    "label_shift": "label shift",
}
"""Metrics of the picture: all of them better when small."""


def digits() -> tuple[Any, dict[str, Any]]:
    """scikit-learn's digits."""
    from kofn.demo import digits as rows

    _, x, labels = rows()
    return x, {"k": [30, 100], "label": labels}


def islands() -> tuple[Any, dict[str, Any]]:
    """Thirty clusters in 10 dimensions, far apart, their sizes falling as a power law; the label is the cluster."""
    rng = np.random.default_rng(1)
    counts = (4000 / np.arange(1, 31) ** 1.5).astype(int) + 5
    parts = [rng.normal(size=(count, 10)) + rng.normal(size=10) * 50 * rng.random() for count in counts]
    order = rng.permutation(counts.sum())
    return np.concatenate(parts).astype(np.float32)[order], {
        "k": [60, 300],
        "label": np.repeat(np.arange(30), counts)[order],
    }


def glosses(path: Path) -> tuple[Any, dict[str, Any]]:
    """Sentence embeddings of 20,000 WordNet noun glosses."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    vectors = table.column("emb").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    labels = table.column("lexname").to_numpy(zero_copy_only=False).astype(str)
    x = vectors.reshape(len(table), -1).astype(np.float32)
    return x, {"k": [100, 400], "label": labels, "metric": "cosine"}


def main() -> None:
    """Compare on each data set, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glosses", type=Path, help="wordnet-nouns-minilm.parquet: columns lexname, emb")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=RESULTS / "choosing.json")
    parser.add_argument("--draw", action="store_true", help="only the picture, from the results that are there")
    parser.add_argument("--docs", type=Path, default=DOCS)
    args = parser.parse_args()
    if args.draw:
        draw(json.loads(args.out.read_text())["datasets"], args.docs / "images" / "choosing.png")
        return
    data = {"digits": digits(), "islands": islands()}
    data |= {"glosses": glosses(args.glosses)} if args.glosses else {}
    started, found = time.time(), {}
    for name, (x, given) in data.items():
        compared = kofn.compare(x, methods="all", seeds=args.seeds, **given)
        compared.report(args.docs / "gallery" / f"compare-{name}.html", force=True)
        found[name] = {
            "n": len(x),
            "d": x.shape[1],
            "k": given["k"],
            "cells": cells(compared),
            "metrics": metrics(compared),
        }
        print(f"{name} after {time.time() - started:.0f} s", file=sys.stderr, flush=True)
    about = meta(seeds=list(range(args.seeds)), peers={}, minutes=round((time.time() - started) / 60, 1))
    save(args.out, {"meta": about, "datasets": found})
    draw(found, args.docs / "images" / "choosing.png")


def metrics(compared: Any) -> dict[str, dict[str, Any]]:
    """Titles of what was measured, and which way is better."""
    return {each.name: {"title": each.title, "higher": each.higher_is_better} for each in compared.figures}


def cells(compared: Any) -> list[dict[str, Any]]:
    """Mean of each metric for each method and k."""
    sums: dict[tuple[str, int, str], list[float]] = {}
    for run in compared.runs:
        sums.setdefault((run.method, run.k, run.metric), []).append(run.value)
    return [
        {"method": method, "k": k, "metric": metric, "mean": float(np.mean(values)), "runs": len(values)}
        for (method, k, metric), values in sums.items()
    ]


def draw(found: dict[str, Any], path: Path) -> None:
    """Each metric over that of uniform rows, larger k, one dot a data set: left of the line is better."""
    import altair as alt

    rows = []
    for name, dataset in found.items():
        largest = max(dataset["k"])
        values = {(c["method"], c["metric"]): c["mean"] for c in dataset["cells"] if c["k"] == largest}
        for (method, metric), value in values.items():
            base = values.get(("uniform", metric))
            if metric in SHOWN and method not in ("uniform", "all rows") and base and value > 0:
                rows.append({"data": name, "method": method, "metric": SHOWN[metric], "ratio": value / base})
    order = [each.name for each in kofn.methods()]
    ticks = [0.01, 0.03, 0.1, 0.3, 1, 3]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "ratio:Q",
            scale=alt.Scale(type="log", nice=False, padding=8),
            title=None,
            axis=alt.Axis(values=ticks, format="~g", gridColor="#eee"),
        ),
        y=alt.Y("method:N", sort=order, title=None, axis=alt.Axis(grid=True, gridColor="#eee", labelFontSize=12)),
        color=alt.Color("data:N", scale=alt.Scale(range=["#4269d0", "#c2571a", "#3a8a50"]), title=None),
        shape=alt.Shape("data:N", title=None),
    )
    rule = alt.Chart(alt.Data(values=[{"x": 1}])).mark_rule(color="#666", strokeDash=[4, 3]).encode(x="x:Q")
    panels = [
        alt.layer(
            rule, base.transform_filter(f"datum.metric == '{title}'").mark_point(filled=True, size=60)
        ).properties(width=165, height=270, title=title)
        for title in SHOWN.values()
    ]
    for panel in panels[1:]:  # names of methods stand at the left once
        panel.layer[1].encoding.y.axis = alt.Axis(grid=True, gridColor="#eee", labels=False, ticks=False)
    chart = alt.hconcat(
        *panels, spacing=14, title=alt.Title("value over that of uniform rows", fontWeight="normal", anchor="middle")
    )
    chart = chart.configure_legend(orient="bottom").configure_view(stroke="#ddd").configure(background="white")
    chart.save(str(path), scale_factor=1.25)


if __name__ == "__main__":
    main()

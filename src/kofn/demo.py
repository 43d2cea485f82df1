"""`kofn demo`: the main job on scikit-learn's digits, beside uniform choice, in a few seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kofn.errors import OutputError

FOLDER = "kofn-demo"
K = 50
SEEDS = 5
LADDER = (50, 75, 100, 125, 150, 175, 200, 250, 300, 400, 500)


def run_demo(*, force: bool, as_json: bool) -> None:
    """Write the digits, choose 50, show them on a page, compare with uniform choice, say what was found."""
    import kofn
    from kofn.blocks.write import write_table
    from kofn.page.html import prepare

    folder = Path(FOLDER)
    data, subset, page = (str(folder / name) for name in ("digits.parquet", "subset.parquet", "report.html"))
    if not force and Path(subset).exists():
        raise OutputError(f"{subset} exists; run kofn demo --force to write it again")
    folder.mkdir(exist_ok=True)
    prepare()  # while the kernels compile
    table, x, labels = digits()
    write_table(table, data, force=True)
    print("choosing 50 of 1,797 handwritten digits (the first run compiles for a few seconds) ...", file=sys.stderr)
    selection = kofn.select(data, k=K, method="facility", label="digit", id="id")
    selection.save(subset, data, force=True)
    kofn.report(selection, data, page, show="image", subset=subset, force=True)
    items = kofn.Items(embeddings=x)
    ours = same_label(selection, items, labels)
    ladder: list[tuple[float, float]] = []
    while len(ladder) < len(LADDER) and (not ladder or ladder[-1][0] < ours):
        ladder.append(_uniform(items, labels, LADDER[len(ladder)]))
    enough = LADDER[len(ladder) - 1] if ladder[-1][0] >= ours else None
    if as_json:
        answer = {"k": K, "n": items.n, "same_digit": ours, "uniform": dict(zip(LADDER, ladder)), "enough": enough}
        print(json.dumps(answer | {"data": data, "subset": subset, "report": page}, indent=2))
        return
    _say(ours, ladder, enough, data, subset, page)


def digits() -> tuple[Any, Any, Any]:
    """scikit-learn's digits as an Arrow table (id, digit, image), as a matrix (1797, 64), and their labels."""
    import pyarrow as pa
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    images = x.astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), images.shape[1])
    return pa.table({"id": np.arange(len(labels)), "digit": labels, "image": column}), images, labels


def same_label(selection: Any, items: Any, labels: Any) -> float:
    """Share of rows whose nearest pick has their own label."""
    return float(np.mean(labels[selection.represented_by(items)] == labels))


def _uniform(items: Any, labels: Any, k: int) -> tuple[float, float]:
    import kofn

    shares = [same_label(kofn.select(items, k=k, method="uniform", seed=seed), items, labels) for seed in range(SEEDS)]
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(SEEDS))


def _say(ours: float, ladder: list[tuple[float, float]], enough: int | None, data: str, subset: str, page: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("rows chosen", "nearest pick shows the same digit", ""):
        table.add_column(heading)
    rows = [(f"{K} by kofn", f"{ours:.1%}", ours, "bold green")]
    for k, (share, error) in zip(LADDER, ladder):
        rows.append((f"{k} at random", f"{share:.1%} ± {error:.1%}", share, "" if k != enough else "bold"))
    for name, text, share, style in rows:
        table.add_row(name, text, "█" * round(40 * max(0.0, share - 0.75) / 0.25), style=style)
    Console().print(table)
    reach = f"about {enough} chosen" if enough else f"more than {LADDER[-1]}"
    print(
        f"\n{K} of 1,797 digits stand for the rest as well as {reach} at random (mean of {SEEDS} seeds; bars start at 75 %)."
    )
    print(f"\nSee them: open {page}")
    print(f"The rows: {data}    The picks with their weights: {subset}")
    print(f"Next: kofn verify {subset} {data} --rerun")

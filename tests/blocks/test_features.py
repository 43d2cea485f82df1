"""Plain columns become vectors: what becomes of each, what stays out, and that nothing but the rows decides."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from blocks.laying import vectors
from kofn import KofnError
from kofn.blocks.dataset import Dataset
from kofn.blocks.features import SAMPLE, fit_features, from_recipe
from kofn.blocks.tables import as_arrow, table_dataset


def fit(table, asked=None, **roles):
    dataset = table_dataset(table)
    return fit_features(dataset, asked, roles, np.arange(dataset.n))


def matrix(features, table):
    """The vectors that the features make of a table, batch by batch of 3 rows."""
    table = table.combine_chunks()
    out, at = np.full((len(table), features.d), np.nan, np.float32), 0
    for batch in table.to_batches(max_chunksize=3):
        features.fill(batch, out[at : at + len(batch)], at)
        at += len(batch)
    return out


def made(table, asked=None):
    return matrix(fit(table, asked), table)


def test_numbers_are_standardised():
    # mean 3, standard deviation sqrt((4 + 1 + 0 + 9 + 4) / 5)
    x = pa.table({"x": [1.0, 2.0, 3.0, 0.0, 9.0]})
    expected = (np.array([1, 2, 3, 0, 9]) - 3) / np.sqrt((4 + 1 + 0 + 9 + 36) / 5)
    np.testing.assert_allclose(made(x)[:, 0], expected, rtol=1e-6)


def test_numbers_and_categories_become_what_scikit_learn_makes_of_them():
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    x, city = rng.normal(5, 3, 500), rng.choice(["Bern", "Rome", "Oslo"], 500)
    found = made(pa.table({"x": x, "city": city}))
    np.testing.assert_allclose(found[:, :1], StandardScaler().fit_transform(x[:, None]), rtol=1e-5, atol=1e-6)
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(city[:, None])
    np.testing.assert_allclose(found[:, 1:], one_hot / np.sqrt(3), rtol=1e-6)


def test_nulls_and_nan_count_as_the_mean_and_have_a_column():
    found = made(pa.table({"x": pa.array([1.0, None, float("nan"), 3.0])}))
    np.testing.assert_array_equal(found, np.array([[-1, 0], [0, 1], [0, 1], [1, 0]], np.float32))


def test_a_null_category_has_a_column_that_is_counted():
    found = made(pa.table({"x": ["a", None, "b", "a", "b"]}))
    one = np.float32(1 / np.sqrt(3))
    np.testing.assert_array_equal(found, one * np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 0]]))


def test_rare_levels_share_a_column():
    # of 1,000 rows 1 % is 10: nine rows of "c" and one of "d" are fewer
    table = pa.table({"x": ["a"] * 600 + ["b"] * 390 + ["c"] * 9 + ["d"]})
    features = fit(table)
    assert features.parts[0].levels == ("a", "b")
    assert features.d == 3
    found = matrix(features, table)
    one = np.float32(1 / np.sqrt(3))
    np.testing.assert_array_equal(found[[0, 700, 995, 999]], one * np.eye(3)[[0, 1, 2, 2]])


def test_a_level_that_the_sample_did_not_hold_is_counted_with_the_rare_ones():
    dataset = table_dataset(pa.table({"x": ["a", "b"] * 10 + ["new"]}))
    features = fit_features(dataset, None, {}, np.arange(20))
    found = matrix(features, pa.table({"x": ["a", "new", "b"]}))
    np.testing.assert_array_equal(found, np.float32(1 / np.sqrt(3)) * np.eye(3)[[0, 2, 1]])


def test_a_category_never_takes_more_than_fifty_columns_and_one_for_nulls():
    values = [f"v{at % 80:02d}" for at in range(8_000)]
    features = fit(pa.table({"x": [None, *values]}))
    assert features.d == 51
    assert len(features.parts[0].levels) == 49


@pytest.mark.parametrize(
    "values",
    [
        pa.array([date(2020, 1, day) for day in (1, 2, 4)]),
        pa.array([date(2020, 1, day) for day in (1, 2, 4)], pa.date64()),
        pa.array([datetime(2020, 1, day) for day in (1, 2, 4)]),
        pa.array([datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2, 4)], pa.timestamp("ns", "UTC")),
        pa.array([time(hour) for hour in (1, 2, 4)]),
        pa.array([time(0, 0, second) for second in (1, 2, 4)], pa.time32("s")),
        pa.array([timedelta(seconds) for seconds in (1, 2, 4)]),
        pa.array([1, 2, 4], pa.float16()),
        pa.array([1, 2, 4], pa.float32()),
        pa.array([Decimal(1), Decimal(2), Decimal(4)]),
        pa.array([1 << 60, 2 << 60, 4 << 60], pa.uint64()),
    ],
    ids=lambda values: str(values.type),
)
def test_whatever_lies_on_a_line_is_a_number(values):
    expected = (np.array([1, 2, 4]) - 7 / 3) / np.std([1, 2, 4])
    np.testing.assert_allclose(made(pa.table({"x": values}), ["x"])[:, 0], expected, rtol=1e-5)


def test_truth_values_are_numbers():
    found = made(pa.table({"x": [True, False, False, False]}))
    np.testing.assert_allclose(found[:, 0], [np.sqrt(3), *[-1 / np.sqrt(3)] * 3], rtol=1e-6)


def test_dictionaries_are_categories_whatever_they_hold():
    text = pa.table({"x": pa.array(["a", "b", "a", None]).dictionary_encode()})
    number = pa.table({"x": pa.array([7, 9, 7, None]).dictionary_encode()})
    polars = pl.DataFrame({"x": ["a", "b", "a", None]}, schema={"x": pl.Categorical})
    np.testing.assert_array_equal(made(text), made(number))
    np.testing.assert_array_equal(made(text), made(as_arrow(polars)))
    assert fit(number).parts[0].levels == ("7", "9")


def table_of_everything(n=400):
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "row": np.arange(n),
            "shuffled": rng.permutation(n),
            "gaps": np.cumsum(rng.integers(1, 5, n)),
            "customer_id": rng.choice(1 << 40, n, replace=False),
            "uuid": [f"{value:016x}" for value in rng.choice(1 << 60, n, replace=False)],
            "nearly": [f"{value:016x}" for value in rng.choice(1 << 60, n - 20, replace=False)] + ["same"] * 20,
            "comment": [" ".join(rng.choice(["some", "of", "these", "words"], 9)) for _ in range(n)],
            "zip": [f"{at % 200:05d}" for at in range(n)],
            "constant": [3.5] * n,
            "word": ["same"] * n,
            "nothing": pa.nulls(n),
            "empty": pa.array([None] * n, pa.float64()),
            "vector": vectors(rng.normal(size=(n, 2))),
            "struct": [{"a": 1}] * n,
            "blob": [b"ab"] * n,
            "kofn_weight": np.ones(n),
            "price": rng.choice(1 << 40, n, replace=False),
            "age": rng.integers(0, 90, n),
            "city": rng.choice(["Bern", "Rome"], n),
        }
    )


def test_what_is_left_out_is_said_with_its_reason():
    features = fit(table_of_everything(), age="label")
    assert features.columns == ("price", "city")
    assert features.left_out == {
        "row": "unique, like row numbers",
        "shuffled": "unique, like row numbers",
        "gaps": "unique, like row numbers",
        "customer_id": "unique, like row numbers",
        "uuid": "unique",
        "nearly": "nearly unique",
        "comment": "free text",
        "zip": "too many values: 200",
        "constant": "constant",
        "word": "constant",
        "nothing": "nothing but nulls",
        "empty": "nothing but nulls",
        "vector": "a list",
        "struct": "nested",
        "blob": "binary",
        "kofn_weight": "written by kofn",
        "age": "the label",
    }


def test_one_line_says_what_was_used():
    table = pa.table(
        {
            "id": [f"n{at}" for at in range(60)],
            "x": np.linspace(0, 1, 60),
            "y": pa.array([None, *np.linspace(0, 1, 59)]),
            "city": ["Bern", "Rome", "Oslo"] * 20,
            "yes": [True, False] * 30,
            "day": pa.array(range(60), pa.date32()),
        }
    )
    assert fit(table).sentence() == (
        "features: 2 numbers, 1 truth value, 1 date, 1 category (3 columns), 1 of nulls; left out: id (unique)"
    )


@pytest.mark.parametrize("name", ["uuid", "comment", "constant", "nothing", "vector", "blob", "kofn_weight"])
def test_a_column_that_was_asked_for_and_is_of_no_use_is_an_error(name):
    table = table_of_everything()
    why = fit(table).left_out[name]
    with pytest.raises(KofnError, match=rf"{name}.*cannot be used \({why}\); leave it out"):
        fit(table, ["price", name])


def test_whole_numbers_that_look_like_row_numbers_are_used_when_asked_for():
    assert fit(table_of_everything(), ["gaps", "row"]).columns == ("gaps", "row")


def test_a_column_that_is_either_one_value_or_null_becomes_the_column_of_its_nulls():
    np.testing.assert_array_equal(made(pa.table({"x": [5.0, None, 5.0]})), [[0], [1], [0]])


def test_the_recipe_as_json_makes_the_same_vectors():
    table = table_of_everything().append_column("holes", pa.array([None, 0.1, 0.7, 1e-30] * 100))
    table = table.append_column("half", pa.array(["a", None, "b", "a"] * 100))
    features = fit(table)
    again = from_recipe(json.loads(json.dumps(features.recipe())))
    np.testing.assert_array_equal(matrix(again, table), matrix(features, table))
    assert again.recipe() == features.recipe()


# in the hands of the front door


def big(n=SAMPLE + 9_000):
    rng = np.random.default_rng(1)
    return pa.table(
        {
            "x": np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(size=n)),
            "city": rng.choice(["Bern", "Rome", "Oslo", None], n),
            "label": rng.integers(0, 3, n),
        }
    )


def test_picks_and_recipe_depend_on_the_rows_alone(tmp_path):
    table = big()
    expected = kofn.select(table, 9, method="kmeans", label="label")
    for part, start in enumerate([0, 7_000, 7_001, 20_000]):
        stop = [7_000, 7_001, 20_000, len(table)][part]
        pq.write_table(table.slice(start, stop - start), tmp_path / f"part-{part}.parquet", row_group_size=977 + part)
    for data, threads in ((str(tmp_path), 1), (str(tmp_path), 3), (table.to_pandas(), 2)):
        found = kofn.select(data, 9, method="kmeans", label="label", threads=threads)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.weights, expected.weights)
        assert found.provenance["data"]["features"] == expected.provenance["data"]["features"]
    assert expected.provenance["data"]["features"]["sample"] == SAMPLE


def test_the_recipe_rests_on_rows_drawn_by_their_numbers():
    from kofn.rng import Rng

    table = big()
    numbers = Rng(0).rows(0, len(table), "features")
    sample = np.sort(np.argsort(numbers)[:SAMPLE])
    x = table["x"].to_numpy()[sample]
    column = kofn.select(table, 3, method="kmeans").provenance["data"]["features"]["columns"][0]
    assert column["mean"] == pytest.approx(np.nanmean(x), rel=1e-12)
    assert column["scale"] == pytest.approx(np.nanstd(x), rel=1e-12)


def test_the_label_does_not_leak_in():
    table = big(600)
    other = table.set_column(2, "label", pa.array(np.zeros(600)))
    one = kofn.select(table, 9, method="kcenter", label="label")
    assert "left out: label (the label)" in one.provenance["notes"][0]
    np.testing.assert_array_equal(one.indices, kofn.select(other, 9, method="kcenter", label="label").indices)


def test_every_role_keeps_its_column_out():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(1, 50, (80, 6)), columns=["x", "label", "score", "weight", "id", "have"])
    table["have"] = table["have"] > 40
    roles = {name: name for name in ("label", "weight", "id", "have")}
    selection = kofn.select(table, 5, method="kmeans", **roles)
    assert [column["name"] for column in selection.provenance["data"]["features"]["columns"]] == ["x", "score"]


def test_auto_means_features_where_a_table_has_them_and_nothing_else_says_uniform():
    table = big(300)
    assert kofn.select(table, 9).provenance["method"] == "facility"
    assert kofn.select(table, 9, group="city").provenance["method"] == "uniform"
    assert kofn.select(table, 9, score="label").provenance["method"] == "uniform"
    assert kofn.select(pa.table({"word": [f"w{at}" for at in range(50)]}), 9).provenance["method"] == "uniform"
    assert "features" not in kofn.select(table, 9, method="uniform").provenance["data"]


def test_features_are_what_an_array_of_them_would_be():
    table = big(5_000)
    items = kofn.open(table, features="auto", label="label")
    x = items.everything()
    assert x.shape == (5_000, 5 + 1)
    by_table = kofn.select(table, 20, method="sensitivity", label="label", seed=4)
    by_array = kofn.select(x, 20, method="sensitivity", seed=4)
    np.testing.assert_array_equal(by_table.indices, by_array.indices)
    np.testing.assert_array_equal(by_table.weights, by_array.weights)


def test_an_embedding_is_left_alone_where_features_are_asked_for():
    rng = np.random.default_rng(0)
    table = pa.table({"emb": vectors(rng.normal(size=(50, 4))), "x": rng.normal(size=50), "y": rng.normal(size=50)})
    assert kofn.select(table, 5, method="kmeans").provenance["d"] == 4
    selection = kofn.select(table, 5, method="kmeans", features=["y"])
    assert selection.provenance["d"] == 1
    np.testing.assert_array_equal(selection.indices, kofn.select(table.select(["y"]), 5, method="kmeans").indices)


def test_infinity_is_an_error_that_counts_and_can_be_dropped():
    x = np.random.default_rng(0).normal(size=100)
    x[[7, 9]] = np.inf
    table = pa.table({"x": x})
    with pytest.raises(KofnError, match="2 of 100 rows hold null, NaN or infinity, the first at row 7"):
        kofn.select(table, 5, method="kmeans")
    assert not {7, 9} & set(kofn.select(table, 5, method="kmeans", invalid="drop").indices)


def test_too_little_memory_runs_features_in_two_rounds():
    table = big()
    x = kofn.open(table, features="auto", label="label").everything()
    given = {"method": "kcenter", "memory": "70MiB"}
    found, expected = kofn.select(table, 9, label="label", **given), kofn.select(x, 9, **given)
    assert kofn.plan(table, 9, label="label", **given).run == "two rounds"
    assert found.provenance["run"]["mode"].startswith("two rounds")
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_a_written_selection_is_verified_by_its_own_recipe(tmp_path):
    data, out = str(tmp_path / "x.parquet"), str(tmp_path / "o.parquet")
    table = big(3_000)
    pq.write_table(table, data, row_group_size=700)
    selection = kofn.select(data, 12, method="facility", label="label", features=["x", "city"])
    selection.save(out, data)
    again = kofn.verify(out, data, rerun=True)
    assert again.passed, str(again)
    assert "2 columns, fitted again, become the same features" in str(again)
    selection.provenance["data"]["features"]["columns"][0]["mean"] += 1e-9
    selection.save(out, data, force=True)
    assert "recipe of column 'x'" in str(kofn.verify(out, data, rerun=True))


def test_wine_is_better_represented_by_features_than_by_raw_columns_and_by_chance():
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True)
    kind, raw = wine.target.to_numpy(), wine.data.to_numpy()
    items = kofn.open(wine.frame, features="auto", label="target")

    def same(selection):
        return (kind[selection.represented_by(items)] == kind).mean()

    shares = np.array(
        [
            [
                same(kofn.select(wine.frame, 12, method="kmeans", label="target", seed=seed)),
                same(kofn.select(raw, 12, method="kmeans", seed=seed)),
                same(kofn.select(wine.frame, 12, method="uniform", seed=seed)),
            ]
            for seed in range(20)
        ]
    ).mean(axis=0)
    assert shares[0] > shares[1] + 0.01
    assert shares[0] > shares[2] + 0.01
    assert same(kofn.select(wine.frame, 12, label="target")) > 0.94


def test_files_and_tables_say_the_same_of_their_columns(tmp_path):
    table = table_of_everything()
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=37)
    dataset = Dataset.open(str(tmp_path / "x.parquet"))
    assert fit_features(dataset, None, {}, np.arange(400)).recipe() == fit(table).recipe()


def test_a_label_given_as_an_array_or_series_does_not_leak_into_the_vectors():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "kind": rng.choice(["x", "y"], 300), "loss": rng.random(300)})
    named = kofn.select(frame, 9, method="kmeans", label="kind", features="auto")
    assert [each["name"] for each in named.provenance["data"]["features"]["columns"]] == ["a", "loss"]
    for label in (frame.kind, frame.kind.to_numpy(), frame.kind.tolist()):
        given = kofn.select(frame, 9, method="kmeans", label=label, features="auto")
        assert given.provenance["data"]["features"] == named.provenance["data"]["features"]
        assert "left out: kind (the label)" in str(given)
    scored = kofn.select(frame, 9, method="sensitivity", score=frame.loss.to_numpy(), features="auto")
    assert [each["name"] for each in scored.provenance["data"]["features"]["columns"]] == ["a", "kind"]


def test_a_label_with_nulls_of_pandas_is_known_by_its_values_and_others_are_not_mistaken_for_it():
    rng = np.random.default_rng(1)
    kind = pd.Series(rng.choice(["x", "y"], 200), dtype="string").mask(np.arange(200) < 9)
    frame = pd.DataFrame({"a": rng.normal(size=200), "kind": kind, "b": rng.choice(["x", "y"], 200)})
    given = kofn.select(frame, 5, method="kmeans", label=kind.rename(None), features="auto")
    assert [each["name"] for each in given.provenance["data"]["features"]["columns"]] == ["a", "b"]
    counts = pd.Series(rng.integers(0, 3, 200)).astype("float32")
    frame = frame.assign(count=counts.astype("int64"))
    scored = kofn.select(frame, 5, method="sensitivity", score=counts.to_numpy(), features="auto")
    assert "count" not in [each["name"] for each in scored.provenance["data"]["features"]["columns"]]

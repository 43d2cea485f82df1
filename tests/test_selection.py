"""The answer: which rows, how much each counts, and how to get it again."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn import Items, KofnError, Selection

LINE = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [20.0]], np.float32)


def picks(*rows, **more):
    return Selection(indices=np.array(rows), weights=np.ones(len(rows)), **more)


def test_every_row_is_represented_by_its_nearest_pick():
    items = Items(LINE)
    assert picks(4, 0).represented_by(items).tolist() == [0, 0, 0, 4, 4, 4]
    assert picks(4, 0).weights_from(items).tolist() == [3, 3]
    assert picks(4, 0).weights_from(Items(LINE, weights=[1, 2, 3, 4, 5, 6])).tolist() == [15, 6]


def test_have_rows_represent_theirs():
    items = Items(LINE, have=[5, 3])
    assert picks(1, 4).represented_by(items).tolist() == [1, 1, 1, 3, 4, 5]
    assert picks(1, 4).weights_from(items).tolist() == [3, 1]


def test_a_row_between_two_picks_goes_to_the_first_of_them():
    x = np.array([[0.0], [1.0], [2.0]])
    assert picks(0, 2).represented_by(Items(x)).tolist() == [0, 0, 2]
    assert picks(2, 0).represented_by(Items(x)).tolist() == [0, 2, 2]


def test_a_pick_stands_for_itself_even_where_another_is_its_duplicate():
    x = np.array([[0.0], [0.0], [0.0], [5.0]])
    selection = picks(0, 2, 3)
    assert selection.represented_by(Items(x)).tolist() == [0, 0, 2, 3]
    assert selection.weights_from(Items(x)).tolist() == [2, 1, 1]


def test_represented_by_follows_the_metric_of_the_method():
    x = np.array([[1.0, 0.0], [9.0, 1.0], [0.0, 2.0], [0.0, 90.0]], np.float32)
    selection = picks(0, 2, provenance={"parameters": {"metric": "cosine"}})
    assert selection.represented_by(Items(x)).tolist() == [0, 0, 2, 2]
    assert selection.represented_by(Items(x), metric="euclidean").tolist() == [0, 0, 2, 2]
    far = np.array([[1.0, 0.0], [0.0, 9.0], [50.0, 51.0]], np.float32)
    assert picks(0, 1).represented_by(Items(far)).tolist() == [0, 1, 1]


def test_other_items_are_refused():
    with pytest.raises(KofnError, match="among 7 rows"):
        picks(0, provenance={"n": 7}).represented_by(Items(LINE))
    with pytest.raises(KofnError, match="among 7 rows"):
        picks(0, provenance={"n": 7}).take(LINE)


def test_an_estimate_of_a_simple_sample_is_the_textbooks():
    """n = 10, k = 4, values 1, 2, 3, 6: mean 3, s^2 = 14 / 3, standard error sqrt((1 - 0.4) s^2 / 4) = sqrt(0.7)."""
    selection = picks(
        0, 1, 2, 3, inclusion=np.full(4, 0.4), provenance={"design": {"kind": "simple", "population": 10}}
    )
    estimate = selection.estimate([1, 2, 3, 6])
    assert estimate.mean == pytest.approx(3)
    assert estimate.total == pytest.approx(30)
    assert estimate.standard_error == pytest.approx(0.7**0.5)
    low, high = estimate.interval
    assert low < 3 - 1.96 * 0.7**0.5 < 3 + 1.96 * 0.7**0.5 < high  # Student's t, three degrees of freedom
    assert "95 % interval" in str(estimate)
    assert selection.estimate(np.array([True, False, True, True])).mean == pytest.approx(0.75)


def test_an_estimate_of_a_stratified_sample_adds_up_its_strata():
    """Strata of 6 and 4 rows, two picks each: totals 6 * 2 and 4 * 5; variances 36 (2/3) 2 / 2 and 16 (1/2) 8 / 2."""
    selection = picks(
        0, 1, 2, 3, inclusion=np.array([1 / 3, 1 / 3, 0.5, 0.5]), strata=np.array([0, 0, 1, 1]),
        provenance={"design": {"kind": "simple", "population": 10}},
    )  # fmt: skip
    estimate = selection.estimate([1, 3, 3, 7])
    assert estimate.total == pytest.approx(32)
    assert estimate.standard_error == pytest.approx((24 + 32) ** 0.5 / 10)


def test_a_census_has_no_error():
    selection = kofn.select(LINE, 6, method="uniform")
    estimate = selection.estimate(LINE[selection.indices, 0])
    assert estimate.mean == pytest.approx(44 / 6)
    assert estimate.standard_error == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [([1.0], "shape"), ([[1.0, 2.0]], "shape"), ([1.0, np.nan], "NaN or infinity, the first at pick 1")],
)
def test_values_that_cannot_be_estimated_from_are_refused(values, words):
    selection = picks(0, 1, inclusion=np.ones(2), provenance={"design": {"kind": "simple", "population": 2}})
    with pytest.raises(KofnError, match=words):
        selection.estimate(values)


def test_picks_without_chances_estimate_nothing():
    with pytest.raises(KofnError, match="top chooses without known chances"):
        kofn.select(LINE, 2, method="top", score=[1, 2, 3, 4, 5, 6]).estimate([1, 2])


def test_take_gives_back_the_type_that_it_was_given():
    selection = picks(4, 1)
    assert selection.take(LINE).tolist() == [[11], [1]]
    assert selection.take(list("abcdef")) == ["e", "b"]
    assert selection.take(tuple("abcdef")) == ("e", "b")
    frame = pd.DataFrame({"v": range(6)}, index=list("uvwxyz"))
    taken = selection.take(frame)
    assert taken.index.tolist() == ["y", "v"]
    assert taken["v"].tolist() == [4, 1]
    assert selection.take(pl.DataFrame({"v": range(6)})).equals(pl.DataFrame({"v": [4, 1]}))
    assert selection.take(pa.table({"v": range(6)})).equals(pa.table({"v": [4, 1]}))


def test_the_arrow_table_holds_the_data_the_picks_and_their_provenance():
    data = pa.table({"word": list("abcdef"), "kofn_rank": range(6)})
    selection = kofn.select(data, 3, method="uniform", seed=5)
    table = selection.to_arrow(data)
    assert table.schema.names == ["word", "kofn_index", "kofn_rank", "kofn_weight", "kofn_inclusion"]
    assert table["word"].to_pylist() == [data["word"][int(row)].as_py() for row in selection.indices]
    assert table["kofn_rank"].to_pylist() == [0, 1, 2]
    assert table["kofn_weight"].to_pylist() == [2, 2, 2]
    stored = json.loads(table.schema.metadata[b"kofn"])
    assert (stored["method"], stored["seed"], stored["n"], stored["k"]) == ("uniform", 5, 6, 3)


def test_ids_are_kept_where_no_data_are_given():
    selection = kofn.select(LINE, 2, method="top", score=range(6), id=list("abcdef"))
    assert selection.to_arrow()["id"].to_pylist() == ["f", "e"]


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "jsonl", "npy"])
def test_equal_selections_save_equal_bytes(ending, tmp_path):
    for name in ("a", "b"):
        kofn.select(LINE, 3, method="uniform", seed=1).save(str(tmp_path / f"{name}.{ending}"))
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_a_saved_file_is_not_overwritten_unless_told(tmp_path):
    path = str(tmp_path / "picks.parquet")
    picks(1, 2).save(path)
    with pytest.raises(KofnError, match="--force"):
        picks(3).save(path)
    picks(3).save(path, force=True)
    assert pq.read_table(path)["kofn_index"].to_pylist() == [3]


def test_print_says_what_was_chosen_in_five_lines():
    lines = str(kofn.select(LINE, 3, method="uniform", seed=4)).splitlines()
    assert len(lines) == 5
    assert lines[0] == "Selection: 3 of 6 rows by uniform, seed 4"
    assert "sum 6" in lines[2]
    assert "design" in lines[3]
    assert "gains    6 first, 5 last, 11 in all" in str(kofn.select(LINE, 2, method="top", score=[1, 2, 3, 4, 5, 6]))

"""From a written selection and what was measured on its picks to a number about all rows."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import kofn
from kofn.conclusion import conclude, load
from kofn.errors import KofnError
from kofn.registry import registered
from kofn.selection import DESIGNS

N = 500


@pytest.fixture
def subset(tmp_path):
    """40 of 500 rows; `size` is the row number, `right` whether it is even, `half` 0 or 1 by the half of the table."""
    rows = np.arange(N)
    table = pa.table(
        {
            "size": rows.astype(float),
            "right": rows % 2 == 0,
            "half": (rows >= N // 2).astype(int),
            "name": [f"r{i}" for i in rows],
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    selection = kofn.select(str(tmp_path / "data.parquet"), 40, method="uniform", seed=3)
    selection.save(str(tmp_path / "subset.parquet"), str(tmp_path / "data.parquet"))
    return tmp_path / "subset.parquet", selection


def test_a_written_selection_is_read_back_as_it_was(subset):
    path, selection = subset
    again = load(str(path))
    for name in ("indices", "weights", "inclusion"):
        assert getattr(again, name).tobytes() == getattr(selection, name).tobytes()
    assert again.provenance["digests"] == selection.provenance["digests"]


def test_a_column_of_the_subset_is_estimated_as_the_selection_does(subset):
    path, selection = subset
    assert conclude(str(path), "size").overall == selection.estimate(selection.indices.astype(float))
    assert conclude(str(path), "right").overall == selection.estimate(selection.indices % 2 == 0)


def test_whole_numbers_of_zero_and_one_are_a_share_unless_a_mean_is_asked_for(subset):
    path, _ = subset
    assert conclude(str(path), "half").overall.of == "share"
    assert conclude(str(path), "half", of="mean").overall.of == "mean"
    assert conclude(str(path), "half", of="total").overall.value == pytest.approx(
        500 * conclude(str(path), "half").overall.value
    )


def test_measurements_on_a_shuffled_copy_are_joined_by_row_number(subset, tmp_path):
    path, selection = subset
    order = np.random.default_rng(0).permutation(40)
    rows = selection.indices[order]
    pa.csv.write_csv(pa.table({"kofn_index": rows, "loss": rows * 2.0}), tmp_path / "scored.csv")
    found = conclude(str(path), "loss", values=str(tmp_path / "scored.csv"))
    assert found.overall.value == pytest.approx(2 * conclude(str(path), "size").overall.value)


def test_the_order_of_rows_in_the_file_does_not_matter(subset, tmp_path):
    path, _ = subset
    table = pq.read_table(path)
    pq.write_table(table.take(np.arange(40)[::-1]), tmp_path / "turned.parquet")
    assert conclude(str(tmp_path / "turned.parquet"), "size") == conclude(str(path), "size")


def test_groups_are_estimated_one_by_one_and_small_ones_are_noted(subset):
    path, selection = subset
    found = conclude(str(path), "size", by="half")
    assert list(found.groups) == [0, 1]
    low = selection.indices[selection.indices < N // 2]
    assert found.groups[0].value == pytest.approx(low.mean())
    assert conclude(str(path), "size", by="name").notes == (
        "fewer than 10 picks in " + ", ".join(sorted(f"r{i}" for i in selection.indices)[:5]) + ", ...: read with care",
    )


def test_a_ratio_is_of_two_totals(subset):
    path, selection = subset
    found = conclude(str(path), "half", over="size").overall
    assert found.value == pytest.approx((selection.indices >= N // 2).sum() / selection.indices.sum())


def write(path, columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_what_cannot_be_concluded_is_refused_with_the_mend(subset, tmp_path):
    path, selection = subset
    rows = selection.indices
    most = {"kofn_index": rows[:-2], "loss": rows[:-2] * 1.0}
    with pytest.raises(KofnError, match="no row for 2 of the 40 picks"):
        conclude(str(path), "loss", values=write(tmp_path / "most.parquet", most))
    twice = {"kofn_index": np.r_[rows, rows[:1]], "loss": np.r_[rows, rows[:1]] * 1.0}
    with pytest.raises(KofnError, match=f"kofn_index {rows[0]} more than once"):
        conclude(str(path), "loss", values=write(tmp_path / "twice.parquet", twice))
    holes = {"kofn_index": rows, "loss": pa.array([None, *range(39)])}
    with pytest.raises(KofnError, match="null for 1 of 40 picks"):
        conclude(str(path), "loss", values=write(tmp_path / "holes.parquet", holes))
    with pytest.raises(KofnError, match="no column 'sise'; did you mean size"):
        conclude(str(path), "sise")
    with pytest.raises(KofnError, match="holds string, not numbers"):
        conclude(str(path), "name")
    with pytest.raises(KofnError, match="--values"):
        conclude(str(tmp_path / "scored.csv"), "size")
    with pytest.raises(KofnError, match="leave out --by"):
        conclude(str(path), "size", over="half", by="half")
    with pytest.raises(KofnError, match="level=95"):
        conclude(str(path), "size", level=95)


def test_the_error_names_every_method_with_chances():
    assert sorted(DESIGNS.split(", ")) == sorted(cls.name for cls in registered() if cls.weights == "design")


def test_the_command_prints_a_sentence_and_json(subset):
    path, _ = subset
    command = [sys.executable, "-m", "kofn", "estimate", str(path), "--value", "right"]
    done = subprocess.run([*command, "--by", "half"], capture_output=True, text=True, check=True)
    first, _, heading, *lines = done.stdout.splitlines()
    assert first.startswith("right: share 0.")
    assert first.endswith("from 40 of 500 rows (ratio of two estimated totals, Wilson's interval)")
    assert heading.split() == ["half", "share", "95", "%", "interval", "picks", "rows", "(estimated)"]
    assert len(lines) == 2
    answer = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert answer["low"] < answer["estimate"] < answer["high"]
    assert (answer["picks"], answer["rows"]) == (40, 500)


def test_rows_with_a_score_of_zero_are_said_to_be_left_out_and_the_rest_is_estimated(tmp_path):
    scores = np.r_[np.zeros(200), np.linspace(1, 3, 300)]
    pq.write_table(pa.table({"score": scores, "c": np.full(500, 3.0)}), tmp_path / "data.parquet")
    selection = kofn.select(str(tmp_path / "data.parquet"), 50, method="uniform", score="score")
    selection.save(str(tmp_path / "s.parquet"), str(tmp_path / "data.parquet"))
    found = conclude(str(tmp_path / "s.parquet"), "c")
    assert found.overall.n == 300
    assert found.overall.interval[0] <= 3 <= found.overall.interval[1]
    assert found.notes == ("200 rows have a score of 0 and cannot be drawn: estimates are about the others",)
    assert kofn.verify(str(tmp_path / "s.parquet"), str(tmp_path / "data.parquet")).failure is None


def test_one_pick_that_everything_is_fitted_to_knows_no_error():
    x = np.random.default_rng(0).normal(size=(200, 2))
    one = kofn.select(x, 1, method="uniform", score=np.linspace(1, 2, 200))
    assert one.estimate([4.0], calibrated=True).interval == (-np.inf, np.inf)


def test_groups_of_none_and_values_of_words_are_told_apart_or_refused():
    selection = kofn.select(np.zeros((30, 1)), 4, method="uniform")
    assert list(selection.estimate_by([1, 2, 3, 4], ["a", None, "a", "b"])) == ["(none)", "a", "b"]
    with pytest.raises(KofnError, match="values are not numbers"):
        selection.estimate(["a", "b", "c", "d"])

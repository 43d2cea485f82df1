"""kofn.compare: the same rows for all, uniform and all rows always there, nothing chosen from what is judged on."""

import importlib
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

import kofn
from kofn import pool as pooled
from kofn import trials
from kofn.errors import DataError, OutputError, UsageError
from kofn.method import Method
from kofn.represent import KCenter, KMeans
from kofn.rng import Rng
from kofn.selection import Selection


@pytest.fixture(scope="module")
def x():
    random = np.random.default_rng(0)
    return (random.normal(size=(6, 5))[np.arange(240) % 6] * 4 + random.normal(size=(240, 5))).astype(np.float32)


LABELS = np.arange(240) % 6
QUICK = {"seeds": 2, "apart": False}


class Witness:
    """A metric that remembers what it was shown."""

    __name__ = "witness"

    def __init__(self):
        self.seen = []

    def __call__(self, items, selection):
        self.seen.append((items, selection))
        return float(len(selection))

    def of(self, method, k, seed=0):
        return next(
            s for _, s in self.seen
            if s.provenance.get("method") == method and (len(s), s.provenance["seed"]) == (k, seed)
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class First(Method):
    """The first k rows."""

    name: ClassVar[str] = "first"
    summary: ClassVar[str] = "the first rows"
    random: ClassVar[bool] = False

    def select(self, items, k, rng):
        return Selection(np.arange(k), np.full(k, items.n / k))

    def bytes(self, n, d, k):
        return 8 * k

    def passes(self, n, d, k):
        return 0


def test_what_is_measured_is_what_select_gives(x):
    witness = Witness()
    kofn.compare(x, [5, 20], methods=["kmeans", "facility", "kcenter", "kmeans++"], metrics=[witness], **QUICK)
    for method in ("uniform", "kmeans", "facility", "kcenter", "kmeans++"):
        for k in (5, 20):
            alone, compared = kofn.select(x, k, method=method, seed=0), witness.of(method, k)
            assert compared.indices.tolist() == alone.indices.tolist()
            np.testing.assert_allclose(compared.weights, alone.weights, rtol=1e-12)


def test_in_two_rounds_every_k_is_run_for_the_beginning_of_the_largest_is_another_selection():
    @dataclass(frozen=True, kw_only=True)
    class Wide(KCenter):
        name: ClassVar[str] = "wide"

        def bytes(self, n, d, k):
            return n << 20  # 2 GiB hold 2,048 rows

    x, witness = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32), Witness()
    kofn.compare(x, [4, 9], methods=[Wide()], metrics=[witness], **QUICK)
    for k in (4, 9):
        alone = kofn.select(x, k, method=Wide())
        assert "part" in alone.provenance["run"]
        assert witness.of("wide", k).indices.tolist() == alone.indices.tolist()
        np.testing.assert_allclose(witness.of("wide", k).weights, alone.weights)
    assert kofn.select(x, 9, method=Wide()).indices[:4].tolist() != kofn.select(x, 4, method=Wide()).indices.tolist()


def test_prefix_methods_run_once_a_seed_also_for_many_k(x, monkeypatch):
    ran = []
    select = trials.select
    monkeypatch.setattr(trials, "select", lambda items, k, **given: ran.append(k) or select(items, k, **given))
    kofn.compare(x, [5, 10, 20], methods=["kcenter", "kmeans++"], metrics=["radius"], **QUICK)
    assert ran == [5, 10, 20] * 2 + [20] + [20] * 2  # uniform's weights are its design's; kcenter draws nothing


def test_uniform_and_all_rows_are_always_in_it_and_perfect_where_they_must_be(x):
    found = kofn.compare(x, [10], methods=["kcenter"], label=LABELS, **QUICK)
    assert found.methods == ["uniform", "kcenter"]
    assert found.reference("mean_distance") == found.reference("radius") == found.reference("label_shift") == 0.0
    assert found.reference("mmd") == 0.0
    assert found.reference("label_coverage") == 1.0
    assert found.reference("nearest_accuracy") > 0.9
    assert found.cell("uniform", 10, "radius").runs == 2
    assert found.cell("kcenter", 10, "radius").error is None


def test_rows_set_aside_are_neither_chosen_nor_looked_at(x):
    aside = Rng(0).rows(0, 240, "set aside") < 0.2
    witness = Witness()
    metrics = [witness, "mean_distance", "mmd", "label_shift", "nearest_accuracy"]
    found = kofn.compare(x, [10], methods=["kmeans", "facility"], label=LABELS, metrics=metrics, **QUICK)
    assert {items.n for items, _ in witness.seen} == {240 - aside.sum()}
    np.testing.assert_array_equal(witness.seen[0][0].embeddings, x[~aside])
    moved = np.where(aside[:, None], -x, x)
    again = kofn.compare(moved, [10], methods=["kmeans", "facility"], label=LABELS, metrics=metrics[1:], **QUICK)
    for name in ("mean_distance", "mmd", "label_shift"):
        assert [run for run in found.runs if run.metric == name] == [run for run in again.runs if run.metric == name]
    assert found.cell("facility", 10, "nearest_accuracy") != again.cell("facility", 10, "nearest_accuracy")


def test_without_probes_nothing_is_set_aside(x):
    assert kofn.compare(x, [10], methods=["kcenter"], **QUICK).facts["aside"] == 0
    asked = kofn.compare(x, [10], methods=["kcenter"], label=LABELS, metrics=["label_coverage"], **QUICK)
    assert asked.facts["pool"] == 240


def test_files_tables_and_arrays_give_the_same_runs(x, tmp_path):
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 5)
    table = pa.table({"emb": column, "kind": [f"kind {label}" for label in LABELS]})
    path = str(tmp_path / "x.parquet")
    pq.write_table(table, path, row_group_size=50)
    given = {"methods": ["kmeans", "kcenter"], **QUICK}
    runs = kofn.compare(x, [5, 10], label=LABELS, **given).runs
    assert kofn.compare(path, [5, 10], label="kind", **given).runs == runs
    assert kofn.compare(table, [5, 10], label="kind", **given).runs == runs
    assert kofn.compare(kofn.Items(embeddings=x, labels=LABELS), [5, 10], **given).runs == runs


def test_on_many_rows_a_hashed_sample_is_measured_and_the_footer_says_so(x, monkeypatch):
    monkeypatch.setattr(pooled, "MEASURED", 50)
    monkeypatch.setattr(pooled, "HELD", 50 * 20)
    monkeypatch.setattr(pooled, "LEAST", 10)
    found = kofn.compare(x, [10], methods=["kcenter"], **QUICK)
    assert found.facts["measured"] == 50
    assert "50 of the 240 rows, chosen by row hash" in str(found)
    assert next(run.k for run in found.runs if run.method == "all rows") == 50
    assert found.cell("kcenter", 10, "radius").mean < kofn.compare(x, [10], methods=["kcenter"], **{
        **QUICK, "metrics": ["radius"]}).cell("uniform", 10, "radius").mean  # fmt: skip


def test_a_method_that_cannot_run_is_listed_with_its_reason_and_the_others_go_on(x):
    @dataclass(frozen=True, kw_only=True)
    class Broken(First):
        name: ClassVar[str] = "broken"

        def select(self, items, k, rng):
            raise ZeroDivisionError("no such row")

    found = kofn.compare(x, [5, 10], methods=["top", Broken(), First()], metrics=["radius"], **QUICK)
    assert found.methods == ["uniform", "first"]
    reasons = {each.method: each.reason for each in found.failures}
    assert reasons["broken"] == "ZeroDivisionError: no such row"
    assert "top needs scores" in reasons["top"]
    assert "not run: broken, k = 5, 10: ZeroDivisionError" in str(found)


def test_a_method_without_weights_of_its_own_is_judged_with_voronoi_counts(x):
    witness, score = Witness(), np.arange(240.0)
    kofn.compare(x, [2, 4], methods=["top"], score=score, metrics=[witness], **QUICK)
    for k in (2, 4):
        top = witness.of("top", k)
        assert top.indices.tolist() == list(range(239, 239 - k, -1))
        nearest = ((x[:, None, :] - x[top.indices][None]) ** 2).sum(axis=2).argmin(axis=1)
        assert top.weights.tolist() == np.bincount(nearest, minlength=k).tolist()


def test_the_metric_reaches_methods_and_measures(x):
    found = kofn.compare(x, [10], methods=["kcenter"], metric="cosine", metrics=["radius"], **QUICK)
    units = x / np.linalg.norm(x, axis=1)[:, None]
    alone = kofn.select(x, 10, method="kcenter", metric="cosine")
    radius = np.sqrt(((units[:, None] - units[alone.indices]) ** 2).sum(axis=2).min(axis=1).max())
    assert found.cell("kcenter", 10, "radius").mean == pytest.approx(radius, rel=1e-5)


def test_methods_with_parameters_stand_beside_their_twins(x):
    found = kofn.compare(x, [10], methods=["kmeans", KMeans(rounds=1)], metrics=["radius"], **QUICK)
    assert found.methods == ["uniform", "kmeans", "kmeans(rounds=1)"]
    settings = {run.method: json.loads(run.parameters) for run in found.runs}
    assert settings["kmeans(rounds=1)"]["rounds"] == 1


def test_a_method_that_measures_otherwise_than_the_comparison_says_so(x):
    found = kofn.compare(x, [10], methods=["kcenter", KCenter()], metric="cosine", metrics=["radius"], **QUICK)
    assert found.methods == ["uniform", "kcenter", "kcenter(metric=euclidean)"]


def test_a_table_without_vectors_is_compared_by_its_features_the_label_not_among_them(x, tmp_path):
    path = str(tmp_path / "x.csv")
    columns = "a,b,c,d,e"
    np.savetxt(path, np.column_stack([x, LABELS]), delimiter=",", header=f"{columns},kind", comments="")
    given = {"methods": ["facility"], "label": "kind", "metrics": ["mean_distance", "nearest_accuracy"]}
    by_itself, asked = (
        kofn.compare(path, [10], **given, **QUICK),
        kofn.compare(path, [10], features=columns, **given, **QUICK),
    )
    assert by_itself.facts["d"] == 5
    assert by_itself.runs == asked.runs
    assert any("left out: kind (the label)" in note for note in by_itself.facts["notes"])


def test_progress_goes_through_every_run_and_ends(x):
    told = []
    kofn.compare(x, [5, 10], methods=["kmeans"], metrics=["radius"], progress=lambda *each: told.append(each), **QUICK)
    assert [each for each in told if each[0] == "running kmeans"] == [
        ("running kmeans", done, 8) for done in (4, 5, 6, 7, 8)
    ]


def test_sparse_rows_and_rows_without_vectors_can_be_compared(x):
    sparse = kofn.compare(csr_matrix(np.maximum(x, 0)), [10], methods=["facility"], metrics=["radius"], **QUICK)
    dense = kofn.compare(np.maximum(x, 0), [10], methods=["facility"], metrics=["radius"], **QUICK)
    assert sparse.cell("uniform", 10, "radius").mean == pytest.approx(dense.cell("uniform", 10, "radius").mean)
    found = kofn.compare(kofn.Items(rows=240, labels=LABELS), [10], methods=["facility"], **QUICK)
    assert [each.name for each in found.figures] == ["label_coverage", "label_shift"]
    assert found.methods == ["uniform"]


def test_invalid_rows_are_an_error_or_left_out(x):
    broken = x.copy()
    broken[[7, 30], 2] = np.nan
    with pytest.raises(DataError, match=r"2 of 240 rows .* the first at row 7"):
        kofn.compare(broken, [10], methods=["kcenter"], **QUICK)
    found = kofn.compare(broken, [10], methods=["kcenter"], metrics=["radius"], invalid="drop", **QUICK)
    sound = kofn.compare(np.delete(x, [7, 30], axis=0), [10], methods=["kcenter"], metrics=["radius"], **QUICK)
    assert found.runs == sound.runs
    assert "2 rows with NaN, infinity or null were left out" in str(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"k": []}, "k=\\[\\] asks for nothing"),
        ({"k": [241]}, "241"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": [1, 1]}, "holds one twice"),
        ({"methods": ["kmeans", "kmeans"]}, "kmeans is given twice"),
        ({"methods": ["kmeens"]}, "did you mean kmeans"),
        ({"methods": [3]}, "methods holds 3"),
        ({"metric": "manhattan"}, "manhattan"),
        ({"label": np.arange(240).astype(float)[:200]}, "label has shape"),
    ],
)
def test_what_cannot_be_compared_is_an_error_before_anything_is_run(x, given, said):
    with pytest.raises(UsageError, match=said):
        kofn.compare(x, **{"k": [10], "methods": ["kcenter"], **given}, apart=False)


def test_an_identifier_is_no_label(x, monkeypatch):
    with pytest.raises(
        DataError, match="240 different values in 240 rows, so it names no classes; name a column of labels"
    ):
        kofn.compare(x, [10], label=np.arange(240), **QUICK)
    monkeypatch.setattr(pooled, "MOST_LABELS", 100)
    with pytest.raises(DataError, match="120 different values, more than 100; name a column of labels"):
        kofn.compare(x, [10], label=np.arange(240) // 2, **QUICK)


def test_each_method_is_timed_in_a_process_of_its_own_also_one_that_only_the_caller_knows(x, monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Mine(First):
        name: ClassVar[str] = "mine"
        eager: ClassVar[int] = 40 << 20

        def select(self, items, k, rng):
            np.ones(self.eager, np.uint8)
            return super().select(items, k, rng)

    monkeypatch.setattr(First, "__module__", "__main__")  # as in a notebook: the other process cannot import it
    found = kofn.compare(x, [5, 10], methods=[Mine()], metrics=["radius"], seeds=1)
    assert not [note for note in found.facts["notes"] if note.startswith("No seconds")]
    peaks = {name: found.cell(name, 10, "peak_mib").mean for name in ("uniform", "mine")}
    assert peaks["mine"] > peaks["uniform"] + 20
    assert found.cell("mine", 5, "seconds").mean > 0
    assert found.best("seconds", 10) is None


def test_a_method_from_a_module_beside_the_script_is_timed_as_well(x, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text(
        "from kofn.represent import KCenter\n\n\nclass Beside(KCenter):\n    name = 'beside'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = kofn.compare(x, [5], methods=[importlib.import_module("beside").Beside()], metrics=["radius"], seeds=1)
    assert found.cell("beside", 5, "seconds").mean > 0


def test_runs_are_tidy_and_come_back_from_a_file(x, tmp_path):
    found = kofn.compare(x, [10], methods=["kcenter"], metrics=["radius", "vendi"], **QUICK)
    path = tmp_path / "runs.parquet"
    found.save(path)
    table = pq.read_table(path)
    assert table.column_names == ["method", "parameters", "k", "seed", "metric", "value"]
    assert len(table) == 2 * (2 + 1 + 1)
    assert json.loads(table.schema.metadata[b"kofn_comparison"])["n"] == 240
    assert found.to_pandas().query("method == 'all rows'")["seed"].isna().all()
    with pytest.raises(OutputError, match="exists"):
        found.save(path)
    with pytest.raises(OutputError, match="npy"):
        found.save(tmp_path / "runs.npy")


def test_the_page_holds_the_finding_the_tables_and_how_many_and_lets_nothing_out(x, tmp_path):
    given = {**QUICK, "methods": ["kcenter", "facility", "top"], "label": LABELS, "seeds": 6}
    found = kofn.compare(x, [5, 10, 40], **given)
    path = tmp_path / "page.html"
    found.report(path)
    page = path.read_text()
    assert len(page) < 5_000_000
    assert "default-src 'none'" in page
    assert "How many do I need?" in page
    assert "random rows (uniform): about" in page
    assert "What could not be run" in page
    assert "top needs scores" in page
    bests = [found.best("radius", k) or found.best("mean_distance", k) for k in (5, 10, 40)]
    assert any(f"<b>{best.mean:.4g}</b>" in page for best in bests if best is not None)
    assert page.count('role="img"') == len(found.figures)  # coverage is drawn once, where how many is answered
    found.report(path, force=True)
    assert path.read_text() == page
    with pytest.raises(OutputError, match="exists"):
        found.report(path)

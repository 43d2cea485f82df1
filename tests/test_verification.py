"""What `verify` accepts, and what it refuses although every stored digest was made anew."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn import KofnError, Method, Selection
from kofn.cli import main
from kofn.core.assign import cell_weights
from kofn.front import digest_of
from kofn.registry import registered

N, D, K = 400, 5, 12
EVERY = [pytest.param(method, id=repr(method)) for cls in registered() for method in cls.examples()]


def make_table(n=N, seed=3):
    draw = np.random.default_rng(seed)
    x = (draw.normal(size=(n, D)) + 3 * draw.integers(0, 6, (n, 1))).astype(np.float32)
    return pa.table(
        {
            "word": [f"word {row}" for row in range(n)],
            "emb": pa.FixedSizeListArray.from_arrays(x.reshape(-1), D),
            "score": draw.permutation(n) + 1.0,
            "group": draw.integers(0, 4, n),
            "stands_for": draw.integers(1, 5, n),
            "mine": draw.random(n) < 0.05,
        }
    )


def matrix(table):
    return np.stack(table.column("emb").to_numpy())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.parquet"
    pq.write_table(make_table(), path, row_group_size=90)
    return str(path)


def choose(data, out, method="uniform", *, k=K, order="rank", **given):
    """Select and write; the columns that the method cannot do without are named."""
    if isinstance(method, Method) and "scores" in method.needs:
        given["score"] = "score"
    selection = kofn.select(data, k, method=method, **given)
    table = selection.to_arrow(data)
    if order == "input":
        table = table.take(np.argsort(selection.indices))
    from kofn.blocks.write import write_table

    write_table(table, str(out), force=True)
    return str(out)


def tamper(source, target, change):
    """Change columns (as lists, rows in file order), then make every stored digest anew."""
    table = pq.read_table(source)
    columns = {name: table.column(name).to_pylist() for name in table.schema.names}
    provenance = json.loads(table.schema.metadata[b"kofn"])
    change(columns)
    order = np.argsort(columns["kofn_rank"], kind="stable")
    for name, column, kind in (("indices", "kofn_index", np.int64), ("weights", "kofn_weight", np.float64)):
        provenance["digests"][name] = digest_of(np.array(columns[column], kind)[order])
    arrays = {name: pa.array(values, table.schema.field(name).type) for name, values in columns.items()}
    pq.write_table(pa.table(arrays).replace_schema_metadata({b"kofn": json.dumps(provenance)}), target)
    return str(target)


def free_row(columns):
    return next(row for row in range(N) if row not in columns["kofn_index"])


def replace_an_index(columns):
    columns["kofn_index"][3] = free_row(columns)


def exchange_two_indices(columns):
    index = columns["kofn_index"]
    index[3], index[7] = index[7], index[3]


def repeat_an_index(columns):
    columns["kofn_index"][3] = columns["kofn_index"][7]


def point_beyond_the_data(columns):
    columns["kofn_index"][3] = N


def raise_a_weight(columns):
    columns["kofn_weight"][3] += 1.0


def raise_a_weight_a_little(columns):
    columns["kofn_weight"][3] *= 1 + 1e-6


def repeat_a_rank(columns):
    columns["kofn_rank"][3] = columns["kofn_rank"][7]


def rank_beyond_the_last(columns):
    columns["kofn_rank"][3] = K


def change_a_word(columns):
    columns["word"][3] = "another word"


def change_a_number_of_a_vector(columns):
    columns["emb"][3] = [*columns["emb"][3][:2], columns["emb"][3][2] + 1e-5, *columns["emb"][3][3:]]


def forget_a_row(columns):
    for values in columns.values():
        del values[3]


TAMPERED = {
    replace_an_index: ("rows", "contents"),
    exchange_two_indices: ("rows", "contents"),
    repeat_an_index: ("rows", "numbers"),
    point_beyond_the_data: ("rows", "numbers"),
    raise_a_weight: ("value", "weights"),
    raise_a_weight_a_little: ("value", "weights"),
    repeat_a_rank: ("rows", "ranks"),
    rank_beyond_the_last: ("rows", "ranks"),
    change_a_word: ("rows", "contents"),
    change_a_number_of_a_vector: ("rows", "contents"),
    forget_a_row: ("rows", "count"),
}


class TestEveryMethod:
    @pytest.mark.parametrize("method", EVERY)
    def test_what_was_written_is_accepted_in_either_format_and_order(self, method, data, tmp_path):
        for ending, order in ((".parquet", "rank"), (".arrow", "input")):
            verification = kofn.verify(choose(data, tmp_path / f"out{ending}", method, order=order), data, rerun=True)
            assert verification, str(verification)
            assert [level.passed for level in verification.levels] == [True, True, True]

    @pytest.mark.parametrize("method", EVERY)
    def test_it_is_accepted_beside_rows_one_has(self, method, data, tmp_path):
        out = choose(data, tmp_path / "out.parquet", method, have="mine")
        assert kofn.verify(out, data, rerun=True), str(kofn.verify(out, data, rerun=True))

    @pytest.mark.parametrize("method", EVERY)
    def test_it_is_accepted_with_rows_that_stand_for_several(self, method, data, tmp_path):
        out = choose(data, tmp_path / "out.parquet", method, weight="stands_for")
        assert kofn.verify(out, data, rerun=True), str(kofn.verify(out, data, rerun=True))

    @pytest.mark.parametrize("method", EVERY)
    def test_it_is_accepted_where_picks_are_duplicates(self, method, tmp_path):
        table = make_table(40)
        twice = pa.concat_tables([table.slice(0, 8)] * 5)
        out = tmp_path / "out.parquet"
        needs = {"score": "score"} if "scores" in method.needs else {}
        kofn.select(twice, K, method=method, **needs).save(str(out), twice)
        assert kofn.verify(str(out), twice, rerun=True), str(kofn.verify(str(out), twice, rerun=True))

    @pytest.mark.parametrize("method", EVERY)
    def test_each_change_is_refused_at_the_level_that_sees_it(self, method, data, tmp_path):
        out = choose(data, tmp_path / "out.parquet", method)
        for change, (level, check) in TAMPERED.items():
            verification = kofn.verify(tamper(out, tmp_path / "tampered.parquet", change), data)
            assert not verification, f"{change.__name__} was accepted"
            found, failure = verification.failure
            assert (found, failure.name) == (level, check), change.__name__
            assert f"expected {failure.expected}, found {failure.found}" in failure.sentence

    @pytest.mark.parametrize("method", EVERY)
    def test_exchanged_ranks_are_refused_by_the_rerun_at_the_latest(self, method, data, tmp_path):
        def exchange(columns):
            rank = columns["kofn_rank"]
            rank[3], rank[7] = rank[7], rank[3]

        out = tamper(choose(data, tmp_path / "out.parquet", method), tmp_path / "tampered.parquet", exchange)
        verification = kofn.verify(out, data, rerun=True)
        assert not verification
        assert verification.failure[0] in ("value", "rerun")

    @pytest.mark.parametrize("method", EVERY)
    def test_weight_moved_between_picks_is_refused_by_the_rerun_at_the_latest(self, method, data, tmp_path):
        def move(columns):
            columns["kofn_weight"][2] += 1.0
            columns["kofn_weight"][5] -= 0.5
            columns["kofn_weight"][6] -= 0.5

        out = tamper(choose(data, tmp_path / "out.parquet", method), tmp_path / "tampered.parquet", move)
        assert not kofn.verify(out, data, rerun=True)


def test_a_changed_content_is_named_with_its_row_and_both_values(data, tmp_path):
    out = choose(data, tmp_path / "out.parquet")
    row = pq.read_table(out).column("kofn_index")[3].as_py()
    level, check = kofn.verify(tamper(out, tmp_path / "t.parquet", change_a_word), data).failure
    assert (level, check.name, check.row) == ("rows", "contents", row)
    assert (check.expected, check.found) == (f"word {row}", "another word")
    assert check.sentence == f"word of row {row} at rank 3: expected word {row}, found another word"


def test_levels_after_a_refusal_are_not_run(data, tmp_path):
    out = tamper(choose(data, tmp_path / "out.parquet"), tmp_path / "t.parquet", change_a_word)
    assert [level.passed for level in kofn.verify(out, data, rerun=True).levels] == [False, None, None]


def test_a_stale_digest_is_refused(data, tmp_path):
    out = choose(data, tmp_path / "out.parquet")
    table = pq.read_table(out)
    provenance = json.loads(table.schema.metadata[b"kofn"])
    provenance["digests"]["weights"] = "0" * 32
    pq.write_table(table.replace_schema_metadata({b"kofn": json.dumps(provenance)}), tmp_path / "t.parquet")
    assert kofn.verify(str(tmp_path / "t.parquet"), data).failure[1].name == "digests"


def test_a_changed_seed_in_the_provenance_is_refused_by_the_rerun_alone(data, tmp_path):
    table = pq.read_table(choose(data, tmp_path / "out.parquet"))
    provenance = json.loads(table.schema.metadata[b"kofn"])
    provenance["seed"] = 1
    pq.write_table(table.replace_schema_metadata({b"kofn": json.dumps(provenance)}), tmp_path / "t.parquet")
    assert kofn.verify(str(tmp_path / "t.parquet"), data)
    level, check = kofn.verify(str(tmp_path / "t.parquet"), data, rerun=True).failure
    assert (level, check.name) == ("rerun", "picks")


def test_a_row_exchanged_for_its_duplicate_is_refused_by_the_rerun_alone(tmp_path):
    table = make_table(30)
    twice = pa.concat_tables([table, table])
    out = tmp_path / "out.parquet"
    kofn.select(twice, K, method="uniform").save(str(out), twice)

    def to_its_twin(columns):
        row = columns["kofn_index"][3]
        columns["kofn_index"][3] = row + 30 if row < 30 else row - 30

    tampered = tamper(out, tmp_path / "t.parquet", to_its_twin)
    assert kofn.verify(tampered, twice)
    assert not kofn.verify(tampered, twice, rerun=True)


def test_other_data_are_refused(data, tmp_path):
    out = choose(data, tmp_path / "out.parquet")
    longer = pa.concat_tables([make_table(), make_table(1)])
    assert kofn.verify(out, longer).failure[1].sentence == "rows of the data: expected 400, found 401"
    shuffled = make_table().take(np.random.default_rng(0).permutation(N))
    assert kofn.verify(out, shuffled).failure[1].name == "contents"
    without = make_table().drop_columns(["word"])
    assert kofn.verify(out, without).failure[1].sentence.startswith("columns of the data: expected word, found emb,")


def test_wide_answers_are_compared_in_portions(data, tmp_path, monkeypatch):
    monkeypatch.setattr("kofn.verification.PORTION", 100)  # less than any two columns, and than the vectors alone
    out = choose(data, tmp_path / "out.parquet")
    assert kofn.verify(out, data)

    def change_the_last_column(columns):
        columns["mine"][3] = not columns["mine"][3]

    check = kofn.verify(tamper(out, tmp_path / "t.parquet", change_the_last_column), data).failure[1]
    assert check.sentence.startswith("mine of row")


def test_the_same_rows_in_another_layout_are_accepted_and_the_change_is_said(data, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(4):
        pq.write_table(make_table().slice(100 * part, 100), folder / f"{part}.parquet")
    verification = kofn.verify(choose(data, tmp_path / "out.parquet", "kmeans"), str(folder), rerun=True)
    assert verification
    assert "the fingerprint has changed (it was data.parquet), so the contents decide" in str(verification)
    assert "with the fingerprint that was stored" in str(kofn.verify(str(tmp_path / "out.parquet"), data))


def test_a_column_added_to_the_data_since_is_said_and_accepted(data, tmp_path):
    wider = make_table().append_column("later", pa.array(range(N)))
    verification = kofn.verify(choose(data, tmp_path / "out.parquet"), wider)
    assert verification
    assert "not stored: later" in str(verification)


class TestMemory:
    @pytest.mark.parametrize("kind", ["numpy", "float16", "pandas", "arrow"])
    def test_data_in_memory_are_data_too(self, kind, tmp_path):
        table = make_table()
        given = {"numpy": matrix(table), "float16": matrix(table).astype(np.float16), "arrow": table}
        if kind == "pandas":
            given["pandas"] = table.drop_columns(["emb"]).to_pandas()
        method = "uniform" if kind == "pandas" else "kmeans"
        kofn.select(given[kind], K, method=method).save(str(tmp_path / "out.parquet"), given[kind])
        verification = kofn.verify(str(tmp_path / "out.parquet"), given[kind], rerun=True)
        assert verification, str(verification)
        assert "with the fingerprint that was stored" in str(verification)
        tampered = tamper(tmp_path / "out.parquet", tmp_path / "t.parquet", replace_an_index)
        assert kofn.verify(tampered, given[kind]).failure[1].name == "contents"

    def test_an_answer_may_be_a_selection_or_its_table(self):
        x = matrix(make_table())
        selection = kofn.select(x, K, method="kmeans")
        assert kofn.verify(selection, x, rerun=True)
        assert kofn.verify(selection.to_arrow(x), x)
        assert not kofn.verify(selection, x[:-1])

    def test_items_bring_their_own_columns(self):
        table = make_table()
        items = kofn.Items(embeddings=matrix(table), scores=table.column("score").to_numpy(), have=[1, 5])
        selection = kofn.select(items, K, method="top")
        assert kofn.verify(selection, items, rerun=True)
        others = kofn.Items(embeddings=matrix(table), scores=table.column("score").to_numpy(), have=[1, 6])
        assert kofn.verify(selection, others).failure[1].sentence.startswith("digest of the rows in `have`")

    def test_nan_and_null_equal_themselves(self, tmp_path):
        table = make_table().append_column("gap", pa.array([None if i % 3 else float("nan") for i in range(N)]))
        kofn.select(table, 40, method="uniform").save(str(tmp_path / "out.parquet"), table)
        assert kofn.verify(str(tmp_path / "out.parquet"), table)

    def test_columns_of_an_earlier_selection_are_not_taken_for_this_one(self, data, tmp_path):
        first = choose(data, tmp_path / "first.parquet", "uniform", k=100)
        second = choose(first, tmp_path / "second.parquet", "kmeans")
        assert "kofn_inclusion" not in pq.read_table(second).schema.names
        assert kofn.verify(second, first, rerun=True)


class TestColumns:
    def test_an_array_must_be_given_again(self, data, tmp_path):
        score = np.arange(N) % 97
        out = choose(data, tmp_path / "out.parquet", "top", score=score)
        with pytest.raises(KofnError, match="score was an array"):
            kofn.verify(out, data)
        assert kofn.verify(out, data, score=score, rerun=True)
        assert kofn.verify(out, data, score=-score).failure[1].name == "objective"

    def test_rows_one_had_must_be_given_again_where_they_were_an_array(self, data, tmp_path):
        out = choose(data, tmp_path / "out.parquet", "hierarchical", have=np.array([3, 9]))
        with pytest.raises(KofnError, match="have was an array"):
            kofn.verify(out, data)
        assert kofn.verify(out, data, have=[9, 3], rerun=True)
        assert "digest of the rows in `have`" in kofn.verify(out, data, have=[3, 10]).failure[1].sentence
        assert kofn.verify(out, data, have=[3]).failure[1].sentence == "rows in `have`: expected 2, found 1"

    def test_a_file_of_rows_that_has_moved_must_be_named(self, data, tmp_path):
        np.save(tmp_path / "had.npy", np.array([3, 9]))
        out = choose(data, tmp_path / "out.parquet", have=str(tmp_path / "had.npy"))
        assert kofn.verify(out, data, rerun=True)
        (tmp_path / "had.npy").rename(tmp_path / "moved.npy")
        with pytest.raises(KofnError, match="neither a column nor a file here"):
            kofn.verify(out, data)
        assert kofn.verify(out, data, have=str(tmp_path / "moved.npy"), rerun=True)

    def test_a_pick_among_the_rows_one_had_is_refused(self, tmp_path):
        table = make_table(30)
        twice = pa.concat_tables([table, table])
        kofn.select(twice, K, method="uniform", have=np.arange(30)).save(str(tmp_path / "out.parquet"), twice)

        def to_its_twin(columns):
            columns["kofn_index"][3] -= 30

        out = tamper(tmp_path / "out.parquet", tmp_path / "t.parquet", to_its_twin)
        assert kofn.verify(out, twice, have=np.arange(30)).failure[1].found == "a row of `have`"

    def test_ids_are_compared_where_nothing_else_was_stored(self, data):
        words = np.array(make_table().column("word").to_pylist())
        named = kofn.select(data, K, method="uniform", id="word")
        assert "the ids of 12 rows" in str(kofn.verify(named, data))
        given = kofn.select(matrix(make_table()), K, method="uniform", id=words)
        assert "give id= to compare" in str(kofn.verify(given, matrix(make_table())))
        assert kofn.verify(given, matrix(make_table()), id=words)
        assert kofn.verify(given, matrix(make_table()), id=words[::-1]).failure[1].sentence.startswith("id of row")

    def test_an_argument_that_was_not_used_is_an_error(self, data, tmp_path):
        with pytest.raises(KofnError, match="group was not used"):
            kofn.verify(choose(data, tmp_path / "out.parquet"), data, group="group")

    def test_strata_and_their_inclusion_are_counted_again(self, data, tmp_path):
        out = choose(data, tmp_path / "out.parquet", group="group")
        assert kofn.verify(out, data, rerun=True)

        def halve(columns):
            columns["kofn_inclusion"] = [p / 2 for p in columns["kofn_inclusion"]]

        def move(columns):
            columns["kofn_stratum"][3] = (columns["kofn_stratum"][3] + 1) % 4

        for change in (halve, move):
            assert kofn.verify(tamper(out, tmp_path / "t.parquet", change), data).failure[1].name == "inclusion"

    def test_a_score_that_is_not_among_the_highest_is_refused(self, data, tmp_path):
        out = choose(data, tmp_path / "out.parquet", "top", score="score")
        scores = make_table().column("score").to_numpy()
        low = int(np.argmin(scores))

        def take_the_lowest(columns):
            row = make_table().slice(low, 1).to_pylist()[0]
            for name, value in {**row, "kofn_index": low, "kofn_gain": scores[low]}.items():
                columns[name][K - 1] = value

        check = kofn.verify(tamper(out, tmp_path / "t.parquet", take_the_lowest), data).failure[1]
        assert (check.name, check.row, check.expected) == ("gains", low, int(np.argsort(-scores)[K - 1]))

    def test_rows_that_were_dropped_stay_dropped(self, tmp_path):
        x = matrix(make_table()).copy()
        x[[4, 70]] = np.nan
        selection = kofn.select(x, K, method="kmeans", invalid="drop")
        selection.save(str(tmp_path / "out.parquet"), x)
        assert kofn.verify(str(tmp_path / "out.parquet"), x, rerun=True)


class TestUnusable:
    def test_a_foreign_file_is_refused(self, data):
        with pytest.raises(KofnError, match="is no output of kofn"):
            kofn.verify(data, data)

    @pytest.mark.parametrize("ending", [".csv", ".jsonl", ".npy"])
    def test_a_format_without_provenance_is_an_error_that_says_so(self, ending, data, tmp_path):
        with pytest.raises(KofnError, match="carries no provenance"):
            kofn.verify(choose(data, tmp_path / f"out{ending}"), data)

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kofn": "0.1", "method": 3}'])
    def test_a_damaged_provenance_is_an_error(self, text, data, tmp_path):
        table = pq.read_table(choose(data, tmp_path / "out.parquet")).replace_schema_metadata({b"kofn": text})
        with pytest.raises(KofnError, match="provenance"):
            kofn.verify(table, data)

    def test_a_missing_or_wrong_column_of_ours_is_an_error(self, data, tmp_path):
        table = pq.read_table(choose(data, tmp_path / "out.parquet"))
        with pytest.raises(KofnError, match="no column kofn_weight"):
            kofn.verify(table.drop_columns(["kofn_weight"]), data)
        text = table.set_column(table.schema.names.index("kofn_rank"), "kofn_rank", pa.array(["a"] * K))
        with pytest.raises(KofnError, match=r"kofn_rank .* holds string"):
            kofn.verify(text, data)

    def test_what_a_method_chose_without_the_front_door_is_an_error(self):
        selection = Selection(indices=np.arange(3), weights=np.ones(3))
        with pytest.raises(KofnError, match="provenance"):
            kofn.verify(selection, np.eye(3))

    def test_threads_below_one_are_an_error(self, data, tmp_path):
        with pytest.raises(KofnError, match="threads=0"):
            kofn.verify(choose(data, tmp_path / "out.parquet"), data, threads=0)

    def test_files_that_cannot_be_read_are_errors(self, data, tmp_path):
        (tmp_path / "cut.parquet").write_bytes(b"PAR1 no more")
        for path in (tmp_path / "none.parquet", tmp_path / "cut.parquet"):
            with pytest.raises(KofnError):
                kofn.verify(str(path), data)


@dataclass(frozen=True, kw_only=True)
class FirstRows(Method):
    """A method of one's own: the first rows that may be picked. Its bound says that there are at most `most` picks."""

    most: int = kofn.param(100, "what the bound claims", low=0)

    name: ClassVar[str] = "first rows"
    summary: ClassVar[str] = "the first rows"
    random: ClassVar[bool] = False
    diminishing: ClassVar[bool] = True
    objective: ClassVar[str | None] = "mean_distance"
    lifts: ClassVar[str | None] = "nothing"

    def select(self, items, k, rng):
        free = np.setdiff1d(np.arange(items.n), items.have_rows)[:k]
        rows = np.concatenate([free, items.have_rows])
        blocks = items.blocks()
        weights = cell_weights(blocks, blocks.take(rows), items.weights, rows)[:k]
        return Selection(indices=free, weights=weights, gains=np.arange(k, 0.0, -1.0))

    def bound(self, items, selection):
        return "number of picks", float(len(selection)), float(self.most)

    def bytes(self, n, d, k):
        return 1000 * n

    def passes(self, n, d, k):
        return 1


class TestOwnMethod:
    def test_it_must_be_given_as_it_was(self, data, tmp_path):
        out = choose(data, tmp_path / "out.parquet", FirstRows())
        assert kofn.verify(out, data, method=FirstRows(), rerun=True)
        with pytest.raises(KofnError, match="none of kofn's methods"):
            kofn.verify(out, data)
        with pytest.raises(KofnError, match="not by FirstRows\\(most=99\\)"):
            kofn.verify(out, data, method=FirstRows(most=99))

    def test_a_bound_that_does_not_hold_is_refused(self, data, tmp_path):
        method = FirstRows(most=K - 1)
        check = kofn.verify(choose(data, tmp_path / "out.parquet", method), data, method=method).failure[1]
        assert (check.name, check.sentence) == ("bound", "number of picks: expected at most 11, found 12.0")

    def test_a_gain_larger_than_the_one_before_is_refused(self, data, tmp_path):
        def grow(columns):
            columns["kofn_gain"][5] = 100.0

        out = tamper(choose(data, tmp_path / "out.parquet", FirstRows()), tmp_path / "t.parquet", grow)
        assert kofn.verify(out, data, method=FirstRows()).failure[1].name == "gains"

    def test_what_any_method_chose_in_two_rounds_is_accepted(self, tmp_path):
        table = make_table(5000)
        lifted = [method for cls in registered() for method in cls.examples() if method.lifts is not None]
        for method in [FirstRows(), *lifted]:
            memory = method.bytes(5000, D, K) - 1
            selection = kofn.select(table, K, method=method, memory=memory)
            assert "part" in selection.provenance["run"]
            verification = kofn.verify(selection, table, method=method, rerun=True)
            assert verification, f"{method}: {verification}"

    def test_in_two_rounds_the_weights_are_counted_over_all_rows(self, tmp_path):
        table = make_table(5000)
        selection = kofn.select(table, K, method=FirstRows(), memory=2_500_000)
        assert "part" in selection.provenance["run"]
        selection.save(str(tmp_path / "out.parquet"), table)
        assert kofn.verify(str(tmp_path / "out.parquet"), table, method=FirstRows(), rerun=True)
        tampered = tamper(tmp_path / "out.parquet", tmp_path / "t.parquet", raise_a_weight)
        assert kofn.verify(tampered, table, method=FirstRows()).failure[1].name == "weights"

    def test_a_stored_objective_is_held_against_the_rows(self, data):
        selection = kofn.select(data, K, method=FirstRows())
        x = matrix(make_table()).astype(np.float64)
        distance = np.sqrt(((x[:, None] - x[None, :K]) ** 2).sum(2)).min(1).mean()
        for value, ends in ((distance, True), (distance * 1.01, False)):
            selection.provenance["objective"] = {"name": "mean_distance", "value": value}
            assert kofn.verify(selection, data, method=FirstRows()).passed is ends


class TestCommand:
    def test_it_prints_three_levels_and_exits_with_0(self, data, tmp_path, capsys):
        out = str(tmp_path / "out.parquet")
        assert main(["select", data, "-k", "12", "--method", "kmeans", "--order", "input", "--out", out]) == 0
        capsys.readouterr()
        assert main(["verify", out, data]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f"verified: {out} against data.parquet"
        assert [line.split()[:2] for line in lines if line[:5] in ("rows ", "value", "rerun")] == [
            ["rows", "pass:"],
            ["value", "pass:"],
            ["rerun", "not"],
        ]

    def test_a_refusal_names_level_row_expected_and_found_and_exits_with_2(self, data, tmp_path, capsys):
        out = tamper(choose(data, tmp_path / "out.parquet"), tmp_path / "t.parquet", change_a_word)
        assert main(["verify", out, data]) == 2
        said = capsys.readouterr()
        assert "REFUSED" in said.out
        assert "refused at level rows, contents: word of row" in said.err
        assert "found another word" in said.err

    def test_json_holds_every_check(self, data, tmp_path, capsys):
        out = tamper(choose(data, tmp_path / "out.parquet"), tmp_path / "t.parquet", raise_a_weight)
        assert main(["verify", out, data, "--json"]) == 2
        answer = json.loads(capsys.readouterr().out)
        assert answer["passed"] is False
        assert [level["passed"] for level in answer["levels"]] == [True, False, None]
        last = answer["levels"][1]["checks"][-1]
        assert (last["name"], last["passed"]) == ("weights", False)
        assert (last["expected"], last["found"]) == pytest.approx((N / K, N / K + 1))

    def test_a_file_without_provenance_exits_with_2(self, data, tmp_path, capsys):
        assert main(["verify", choose(data, tmp_path / "out.csv"), data]) == 2
        assert "carries no provenance" in capsys.readouterr().err

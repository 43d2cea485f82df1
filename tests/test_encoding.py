"""Texts as vectors: kept part by part, never computed twice, never mistaken for those of other texts."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kofn
from kofn import encoding
from kofn.blocks import Run
from kofn.blocks.dataset import Dataset
from kofn.encoding import BATCH, PART, Texts, embed_texts
from kofn.errors import KofnError, MissingExtra

WORDS = [f"word {i}" for i in range(PART + BATCH + 7)]


class Counting:
    """A model of two numbers a text: its length and its last character; counts its texts, fails when told to."""

    def __init__(self, fail_at=None):
        self.seen, self.fail_at = [], fail_at

    def __call__(self, texts):
        self.seen += list(texts)
        if self.fail_at is not None and len(self.seen) > self.fail_at:
            raise KeyboardInterrupt
        return np.array([[len(text), ord(text[-1]) if text else 0] for text in texts], np.float32)


def written(path, texts):
    pq.write_table(pa.table({"text": texts, "number": np.arange(len(texts))}), path)
    return Dataset.open(str(path))


def vectors(dataset):
    return np.array(dataset.column("embedding").to_pylist(), np.float32)


def test_every_text_gets_its_vector_in_its_place(tmp_path):
    made = embed_texts(
        written(tmp_path / "a.parquet", WORDS), Texts("text", "m", str(tmp_path / "c")), Run(), Counting()
    )
    assert vectors(made).tolist() == [[len(word), ord(word[-1])] for word in WORDS]
    assert made.schema.names == ["embedding"]


def test_what_is_kept_is_not_computed_again_and_needs_no_model(tmp_path):
    dataset, texts = written(tmp_path / "a.parquet", WORDS), Texts("text", "m", str(tmp_path / "c"))
    first = vectors(embed_texts(dataset, texts, Run(), Counting()))
    again = Counting()
    assert vectors(embed_texts(dataset, texts, Run(), again)).tobytes() == first.tobytes()
    assert again.seen == []


def test_a_run_that_was_stopped_goes_on_where_its_last_whole_part_ended(tmp_path):
    dataset, texts = written(tmp_path / "a.parquet", WORDS), Texts("text", "m", str(tmp_path / "c"))
    with pytest.raises(KeyboardInterrupt):
        embed_texts(dataset, texts, Run(), Counting(fail_at=PART + BATCH))
    rest = Counting()
    made = embed_texts(dataset, texts, Run(), rest)
    assert rest.seen == WORDS[PART:]
    assert vectors(made)[:, 0].tolist() == [len(word) for word in WORDS]


def test_a_damaged_part_is_made_again(tmp_path):
    dataset, texts = written(tmp_path / "a.parquet", WORDS[:10]), Texts("text", "m", str(tmp_path / "c"))
    embed_texts(dataset, texts, Run(), Counting())
    part = next((tmp_path / "c").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    again = Counting()
    embed_texts(dataset, texts, Run(), again)
    assert again.seen == WORDS[:10]


@pytest.mark.parametrize("what", ["texts", "column", "model"])
def test_vectors_of_other_texts_columns_or_models_are_never_used(tmp_path, what):
    cache = str(tmp_path / "c")
    table = pa.table({"text": WORDS[:10], "other": WORDS[10:20]})
    from kofn.blocks.tables import table_dataset

    embed_texts(table_dataset(table), Texts("text", "m", cache), Run(), Counting())
    changed = table.set_column(0, "text", pa.array([*WORDS[:5], "changed", *WORDS[6:10]]))
    again = Counting()
    dataset = table_dataset(changed if what == "texts" else table)
    texts = Texts("other" if what == "column" else "text", "n" if what == "model" else "m", cache)
    embed_texts(dataset, texts, Run(), again)
    assert len(again.seen) == 10


def test_a_model_in_a_folder_is_known_by_its_files(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"1")
    before = Texts("text", str(tmp_path / "model")).describe()["weights"]
    (tmp_path / "model" / "weights").write_bytes(b"2")
    assert Texts("text", str(tmp_path / "model")).describe()["weights"] != before


def test_null_texts_are_rows_without_a_vector(tmp_path):
    dataset = written(tmp_path / "a.parquet", ["a", None, "ccc"])
    made = vectors(embed_texts(dataset, Texts("text", "m", str(tmp_path / "c")), Run(), Counting()))
    assert np.isnan(made).all(axis=1).tolist() == [False, True, False]


def test_what_cannot_be_embedded_is_refused_with_the_mend(tmp_path):
    dataset = written(tmp_path / "a.parquet", ["a", "b"])
    with pytest.raises(KofnError, match=r"text='tex' is not a column .* did you mean text"):
        embed_texts(dataset, Texts("tex", "m", str(tmp_path / "c")), Run(), Counting())
    with pytest.raises(KofnError, match="holds int64, not texts"):
        embed_texts(dataset, Texts("number", "m", str(tmp_path / "c")), Run(), Counting())
    (tmp_path / "file").write_text("")
    with pytest.raises(KofnError, match="cannot be made"):
        embed_texts(dataset, Texts("text", "m", str(tmp_path / "file" / "c")), Run(), Counting())
    with pytest.raises(KofnError, match="both given"):
        kofn.select(str(tmp_path / "a.parquet"), 1, text="text", features="auto")
    with pytest.raises(KofnError, match="model is for texts"):
        kofn.select(str(tmp_path / "a.parquet"), 1, model="m")


def test_without_the_extra_the_error_is_the_pip_command(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    dataset = written(tmp_path / "a.parquet", ["a", "b"])
    with pytest.raises(MissingExtra, match=r"pip install 'kofn\[text\]'"):
        embed_texts(dataset, Texts("text", "m", str(tmp_path / "c")), Run())
    assert not (tmp_path / "c").exists()


def test_select_and_verify_go_through_texts(tmp_path, monkeypatch):
    model = Counting()
    monkeypatch.setattr(encoding, "_Model", lambda name: model)
    data, out = str(tmp_path / "a.parquet"), str(tmp_path / "subset.parquet")
    written(data, [f"{'x' * (i % 40)}{i % 10}" for i in range(300)])
    given = {"method": "kcenter", "text": "text", "model": "m", "cache": str(tmp_path / "c")}
    selection = kofn.select(data, 12, **given)
    selection.save(out, data)
    assert selection.provenance["data"]["texts"]["column"] == "text"
    x = np.array([[i % 40 + 1, ord(str(i % 10))] for i in range(300)], np.float32)
    assert selection.indices.tolist() == kofn.select(x, 12, method="kcenter").indices.tolist()
    verification = kofn.verify(out, data, rerun=True)
    assert verification.failure is None
    assert len(model.seen) == 300


@pytest.mark.parametrize("group", [1_000, PART, 3 * PART])
def test_the_column_is_read_in_one_pass_whatever_the_row_groups(tmp_path, monkeypatch, group):
    texts = [f"t{i}" for i in range(2 * PART + 5)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=group)
    dataset, passes, read = Dataset.open(str(tmp_path / "a.parquet")), [], Dataset.read
    monkeypatch.setattr(Dataset, "read", lambda *given: (passes.append(given), read(*given))[1])
    model = Counting()
    embed_texts(dataset, Texts("text", "m", str(tmp_path / "c")), Run(), model)
    assert model.seen == texts
    assert [given[1:3] for given in passes] == [(0, len(texts))]

from base64 import b64decode

import numpy as np
import pyarrow as pa
import pytest

from kofn.blocks.tables import table_dataset
from kofn.errors import KofnError
from kofn.page import faces as module
from kofn.page.faces import cut, find_show, meet
from kofn.page.pictures import png

NONE = np.zeros(0, np.int64)


def shown(columns, given=None, taken=(), features=(), rows=(0, 1)):
    table = pa.table(columns)
    show = find_show(table_dataset(table), given, list(taken), table.num_rows, features)
    return show, meet(show, np.array(rows), NONE)


def little(value):
    return png(np.full((2, 2), value, np.uint8))


def bytes_of(uri):
    return b64decode(uri.partition("base64,")[2])


def test_the_longest_texts_are_what_rows_are_known_by():
    columns = {
        "word": ["tea", "sea"],
        "gloss": ["a hot drink", "much water"],
        "note": ["x" * 40, "x" * 40],
        "n": [1, 2],
    }
    show, found = shown(columns, taken=["note"])
    assert show.title == "gloss"
    assert found.texts == {0: "a hot drink", 1: "much water"}


def test_texts_of_a_dictionary_count_as_texts():
    show, found = shown({"kind": pa.array(["low", "high"]).dictionary_encode()})
    assert (show.title, found.texts) == ("kind", {0: "low", 1: "high"})


def test_a_table_without_texts_is_known_by_its_values_but_not_by_its_vectors():
    _, found = shown({"n": [1, 2], "emb": [[1.0], [2.0]], "x": [0.5, 12345.678], "pca_0": [1.0, 2.0]}, taken=["pca_0"])
    assert found.texts == {0: "n 1, x 0.5", 1: "n 2, x 12345.7"}


def test_rows_that_are_vectors_alone_show_nothing():
    show, found = shown({"emb": [[1.0], [2.0]], "kofn_rank": [1, 0]})
    assert show is None
    assert found.texts == found.pictures == {}


def test_a_table_whose_columns_are_the_vectors_is_known_by_its_values():
    columns = {"age": [31.25, None], "job": ["nurse", "pilot"], "town": ["Ulm", "Bonn"]}
    _, found = shown(columns, taken=["town"], features=["age", "job"])
    assert found.texts == {0: "age 31.25, job nurse", 1: "age (none), job pilot"}


def test_texts_lose_their_line_breaks_and_end_at_200_characters():
    assert cut("one\n\n two") == "one two"
    assert cut("x" * 200) == "x" * 200
    assert cut("x" * 201) == "x" * 199 + "…"
    assert cut(None) == "(none)"


def test_bytes_paths_and_both_give_the_same_picture(tmp_path, monkeypatch):
    raw = [little(10), little(20)]
    monkeypatch.chdir(tmp_path)
    for at, each in enumerate(raw):
        (tmp_path / f"{at}.png").write_bytes(each)
    columns = {
        "raw": raw,
        "path": ["0.png", "1.png"],
        "both": [{"bytes": raw[0], "path": "gone.png"}, {"bytes": None, "path": "1.png"}],
    }
    for name in columns:
        _, found = shown(columns, name)
        assert [bytes_of(found.pictures[row]) for row in (0, 1)] == raw
        assert found.texts == {}
    assert shown(columns)[0].title == "both"  # found by itself


def test_what_is_no_picture_is_shown_as_text():
    _, found = shown({"url": ["https://example.org/a.png", "https://example.org/b.png"]}, "url")
    assert found.texts[0] == "https://example.org/a.png"
    _, found = shown({"raw": [b"no picture", None]}, "raw")
    assert (found.texts, found.pictures) == ({0: "10 bytes", 1: "(none)"}, {})
    _, found = shown({"path": ["gone.png", "gone.jpg"]}, "path")
    assert (found.texts, found.pictures) == ({0: "gone.png", 1: "gone.jpg"}, {})


def test_a_square_list_of_numbers_is_a_picture_on_one_scale():
    _, found = shown({"x": pa.array([[0.0, 1.0, 2.0, 4.0], [4.0, 4.0, 4.0, 4.0]])}, "x")
    assert bytes_of(found.pictures[0]) == png(np.array([[0, 64], [128, 255]], np.uint8))
    assert bytes_of(found.pictures[1]) == little(255)


def test_lists_that_fill_no_square_are_an_error():
    with pytest.raises(KofnError, match="lists of 3 numbers, which fill no square picture"):
        shown({"x": pa.array([[0.0, 1.0, 2.0], [4.0, 4.0, 4.0]])}, "x")


def test_arrays_are_texts_or_pictures():
    texts = find_show(None, np.array(["a", "b"]), [], 2)
    assert meet(texts, np.array([1]), NONE).texts == {1: "b"}
    drawn = find_show(None, np.array([[[0, 9], [9, 0]], [[9, 9], [0, 0]]]), [], 2)
    assert bytes_of(meet(drawn, np.array([0, 1]), NONE).pictures[1]) == png(np.array([[255, 255], [0, 0]], np.uint8))
    with pytest.raises(KofnError, match=r"show has shape \(3,\); give one value for each of the 2 rows"):
        find_show(None, np.arange(3), [], 2)
    with pytest.raises(KofnError, match="show='x' is a column's name, but the data is an array"):
        find_show(None, "x", [], 2)


def test_pictures_stop_where_there_is_no_more_room_those_named_first(monkeypatch):
    table = pa.table({"raw": [little(at) for at in range(40)]})
    show = find_show(table_dataset(table), "raw", [], 40)
    size = len(meet(show, np.array([7]), NONE).pictures[7])
    monkeypatch.setattr(module, "PICTURES", 10 * size)
    found = meet(show, np.array([39, 3, 39, 5]), np.arange(40))
    assert {39, 3, 5} <= set(found.pictures)
    assert 3 < len(found.pictures) <= 10
    assert sum(map(len, found.pictures.values())) <= 10 * size
    assert found.notes() == ["Not every point of the map has a picture: the page is kept small."]


def test_pictures_that_cannot_be_shown_are_counted():
    _, found = shown({"raw": [b"\x89PNG\r\n\x1a\n" + bytes(60_000), little(1)]}, "raw")
    assert list(found.pictures) == [1]
    assert found.notes()[0].startswith("1 of the pictures is too large or cannot be read")

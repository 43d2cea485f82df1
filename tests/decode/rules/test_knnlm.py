"""The datastore of kNN-LM: made of texts, kept in a file, asked for neighbors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decode.tiny import VOCABULARY, tiny_llama
from kofn.core.block import Floats
from kofn.decode import KNNLM, Datastore
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import DataError, ParameterError, UsageError


class Counting:
    """The hidden state of a token is (token, sum of the tokens so far); passes are counted."""

    vocabulary = 9

    def __init__(self) -> None:
        self.passes: list[int] = []

    def start_with_hidden(self, prompts: Any) -> tuple[Floats, tuple[Floats, ...], None]:
        self.passes.append(len(prompts))
        hidden = tuple(np.stack([prompt, np.cumsum(prompt)], axis=1).astype(np.float32) for prompt in prompts)
        return np.zeros((len(prompts), self.vocabulary), np.float32), hidden, None


def test_each_token_but_the_first_is_stored_under_the_state_before_it() -> None:
    store = Datastore.from_texts(Counting(), [[1, 2, 3], [4], [5, 6]])
    assert store.keys.tolist() == [[1, 1], [2, 3], [5, 5]]
    assert store.tokens.tolist() == [2, 3, 6]
    assert len(store) == 3
    assert store.vocabulary == 9


def test_the_batch_changes_the_passes_and_not_the_store() -> None:
    texts = [[1, 2, 3, 4], [5, 6], [7, 8, 0], [1, 1, 1, 1, 1]]
    one, many = Counting(), Counting()
    apart, together = Datastore.from_texts(one, texts, batch=1), Datastore.from_texts(many, texts, batch=3)
    assert (one.passes, many.passes) == ([1, 1, 1, 1], [3, 1])
    assert np.array_equal(apart.keys, together.keys)
    assert np.array_equal(apart.tokens, together.tokens)


def test_a_stored_text_read_again_finds_its_own_tokens() -> None:
    model = TransformersModel(tiny_llama())
    rng = np.random.default_rng(3)
    texts = [rng.integers(8, VOCABULARY, size).tolist() for size in (12, 7, 12, 9)]
    store = Datastore.from_texts(model, texts)
    logits, hidden, state = model.start_with_hidden([texts[0][:5], texts[2][:5]])
    states = np.stack([rows[-1] for rows in hidden])
    for place in (5, 6, 7):
        mixed = KNNLM(0.9)(logits, beside=store.logits(states, neighbors=1))
        following = np.array([texts[0][place], texts[2][place]])
        assert mixed.argmax(axis=1).tolist() == following.tolist()
        logits, states, state = model.next_with_hidden(following, state)


def test_a_file_brings_the_datastore_back(tmp_path: Path) -> None:
    store = Datastore(np.arange(8).reshape(4, 2), [3, 3, 1, 0], vocabulary=5)
    store.save(tmp_path / "store")
    again = Datastore.load(tmp_path / "store")
    query = np.array([[1.0, 2.0], [9.0, 9.0]])
    assert np.array_equal(again.logits(query, temperature=7.0), store.logits(query, temperature=7.0))
    assert again.vocabulary == 5


def test_a_file_that_is_no_datastore_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Datastore.load(tmp_path / "none")
    (tmp_path / "text").write_text("keys")
    np.savez(tmp_path / "other.npz", keys=np.zeros((2, 2)))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("text", "other.npz", "array.npy"):
        with pytest.raises(DataError, match="is no datastore"):
            Datastore.load(tmp_path / name)


def test_neighbors_beyond_the_nearest_vote_by_softmax_of_squared_distance() -> None:
    store = Datastore([[0.0], [1.0], [3.0], [3.0]], [2, 0, 2, 1], vocabulary=4)
    law = np.exp(store.logits([[0.0], [3.0]], neighbors=4, temperature=4.0).astype(np.float64))
    from_0, from_3 = np.exp(-np.array([0, 1, 9, 9]) / 4), np.exp(-np.array([9, 4, 0, 0]) / 4)
    for row, votes in zip(law, (from_0, from_3), strict=True):
        expected = np.array([votes[1], votes[3], votes[0] + votes[2], 0]) / votes.sum()
        assert row == pytest.approx(expected, abs=1e-7)
    nearest = np.exp(store.logits([[0.4]], neighbors=1))
    assert nearest.tolist() == [[0, 0, 1, 0]]


def test_the_nearest_are_those_of_all_differences_and_equally_far_keys_go_by_row() -> None:
    rng = np.random.default_rng(5)
    some = rng.normal(size=(60, 48)).astype(np.float32) * 3 + 40  # far from the origin: products round
    keys = np.concatenate([some] * 5)
    store = Datastore(keys, np.arange(300), vocabulary=300)
    queries = some[:20] + rng.normal(size=(20, 48)).astype(np.float32)
    together = store.logits(queries, neighbors=7, temperature=50.0)
    for query, row in zip(queries, together, strict=True):
        squared = ((keys.astype(np.float64) - query) ** 2).sum(axis=1)
        nearest = np.lexsort((np.arange(300), squared.round(9)))[:7]
        assert np.flatnonzero(np.isfinite(row)).tolist() == sorted(nearest.tolist())
        assert np.array_equal(store.logits(query[None], neighbors=7, temperature=50.0)[0], row)


def test_parts_of_a_long_list_of_queries_are_answered_like_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    store = Datastore(rng.normal(size=(90, 4)), rng.integers(0, 9, 90), vocabulary=9)
    queries = rng.normal(size=(11, 4))
    whole = store.logits(queries, neighbors=5)
    monkeypatch.setattr("kofn.decode.rules.knnlm._SCREENED", 200)
    assert np.array_equal(store.logits(queries, neighbors=5), whole)


def test_a_small_temperature_leaves_the_nearest_key_alone() -> None:
    store = Datastore([[0.0], [1.0]], [0, 1], vocabulary=2)
    cold = store.logits([[0.2]], temperature=1e-4)
    assert cold.tolist() == [[0.0, -np.inf]]
    warm = np.exp(store.logits([[0.2]], temperature=1e6))
    assert warm == pytest.approx(np.full((1, 2), 0.5), abs=1e-6)


def test_what_cannot_be_stored_or_asked_is_refused() -> None:
    store = Datastore(np.eye(3), [0, 1, 2], vocabulary=3)
    with pytest.raises(UsageError, match="token 3 of key 1"):
        Datastore(np.eye(2), [0, 3], vocabulary=3)
    with pytest.raises(UsageError, match="row 1 of the keys holds NaN"):
        Datastore([[0.0], [np.nan]], [0, 1], vocabulary=3)
    with pytest.raises(UsageError, match="shape"):
        Datastore([0.0, 1.0], [0, 1], vocabulary=3)
    with pytest.raises(UsageError, match="2 numbers for keys of 3"):
        store.logits(np.zeros((1, 2)))
    for wrong in (np.inf, np.nan, -1e30):
        with pytest.raises(UsageError, match="row 0 of the hidden states"):
            store.logits([[wrong, 0, 0]])
    with pytest.raises(UsageError, match="nothing to store"):
        Datastore.from_texts(Counting(), [[1], [2]])
    with pytest.raises(ParameterError, match="batch=0"):
        Datastore.from_texts(Counting(), [[1, 2]], batch=0)
    with pytest.raises(ParameterError, match="not above 0"):
        store.logits(np.eye(3), temperature=0.0)

"""Rules that compare two rows: KL-guided temperature and kNN-LM."""

import numpy as np
import pytest

from kofn.core.block import Floats
from kofn.decode import KNNLM, Datastore, KLGuidedTemperature, MinP, Temperature, TopK, TopP
from kofn.decode.rules.klguided import divergence
from kofn.errors import UsageError


def pair() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 200)).astype(np.float32) * 2, rng.normal(size=(3, 200)).astype(np.float32) * 2


def softmax(x: Floats) -> Floats:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_the_temperature_halves_with_each_half_life_of_divergence() -> None:
    x, y = pair()
    for a, b in zip(x, y, strict=True):
        p, q = softmax(a), softmax(b)
        kl = (p * np.log(p / q)).sum()
        assert divergence(a, b) == pytest.approx(kl, rel=1e-5)
        assert KLGuidedTemperature(1.5, half_life=0.7)(a, beside=b) == pytest.approx(
            a / (1.5 * 0.5 ** (kl / 0.7)), rel=1e-4
        )


def test_the_same_row_twice_gives_the_base_temperature_to_the_bit() -> None:
    x, _ = pair()
    assert np.array_equal(KLGuidedTemperature(1.3)(x, beside=x), Temperature(1.3)(x))


def test_a_large_divergence_tends_to_greedy() -> None:
    x, y = pair()
    law = softmax(KLGuidedTemperature(1.0, half_life=0.02)(x, beside=30 * y))
    assert (law.max(1) > 0.999).all()
    y[:, x.argmax(1)] = -np.inf
    assert (softmax(KLGuidedTemperature(1.0)(x, beside=y)).max(1) > 0.999).all()


def test_knn_lm_mixes_two_laws() -> None:
    x, y = pair()
    y[:, ::2] = -np.inf
    mixed = softmax(KNNLM(0.25)(x, beside=y))
    assert mixed == pytest.approx(0.25 * softmax(y) + 0.75 * softmax(x), abs=1e-6)
    assert np.array_equal(KNNLM(0.0)(x, beside=y), x)
    assert softmax(KNNLM(1.0)(x, beside=y)) == pytest.approx(softmax(y), abs=1e-6)


def test_after_a_cut_both_laws_are_those_of_what_is_left() -> None:
    x, y = pair()
    out = softmax((TopK(20) | KNNLM(0.5))(x, beside=y))
    left = np.isfinite(TopK(20)(x))
    ours = softmax(np.where(left, x, -np.inf))
    theirs = softmax(np.where(left, y, -np.inf))
    assert out == pytest.approx(0.5 * ours + 0.5 * theirs, abs=1e-6)


def test_neighbors_bring_no_token_back_that_was_left_out() -> None:
    x, y = pair()
    x[:, 100:] = -np.inf
    assert not np.isfinite(KNNLM(0.5)(x, beside=y)[:, 100:]).any()
    wide = TopP(0.999)  # keeps nearly all, so those left out stay listed
    assert np.array_equal(np.isfinite((wide | KNNLM(0.5))(x, beside=y)), np.isfinite(wide(x)))
    flat = np.tile(np.linspace(0, 3, 4_000, dtype=np.float32), (1, 1))
    cut = MinP(0.5)
    assert np.array_equal(np.isfinite((cut | KNNLM(0.5))(flat, beside=-flat)), np.isfinite(cut(flat)))
    y[:, :100] = -np.inf
    assert np.array_equal(KNNLM(1.0)(x, beside=y), x)


def test_the_datastore_votes_by_distance() -> None:
    keys = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [50.0, 50.0]])
    store = Datastore(keys, [3, 3, 1, 0], vocabulary=5)
    law = np.exp(store.logits(np.array([[0.0, 0.0]]), neighbors=3, temperature=2.0)[0])
    votes = np.exp(-np.array([0.0, 1.0, 4.0]) / 2)
    assert law == pytest.approx([0, votes[2] / votes.sum(), 0, votes[:2].sum() / votes.sum(), 0], abs=1e-6)


def test_the_second_row_is_asked_for_by_name() -> None:
    x, y = pair()
    for rule in (KLGuidedTemperature(1.0), KNNLM(0.5)):
        with pytest.raises(UsageError, match="beside="):
            rule(x)
        with pytest.raises(UsageError, match="shape"):
            rule(x, beside=y[:, :-1])
    with pytest.raises(UsageError, match="one token for each key"):
        Datastore(np.zeros((3, 2)), [1, 2], 5)

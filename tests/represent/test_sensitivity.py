"""Sensitivity sampling."""

import numpy as np
import pytest

import kofn


def two_blobs():
    rng = np.random.default_rng(0)
    tight, wide = rng.normal(size=(900, 3)) * 0.1, rng.normal(size=(100, 3)) * 5 + 50
    return np.concatenate([tight, wide]).astype(np.float32)


def test_spread_out_rows_are_drawn_more_often():
    x = two_blobs()
    share = np.mean(
        [(kofn.select(x, 50, method="sensitivity", clusters=2, seed=s).indices >= 900).mean() for s in range(20)]
    )
    assert share > 0.4  # 10 % of the rows, nearly all of the cost: half the chance follows it


def test_chances_are_loss_plus_scaled_squared_distance():
    x = np.array([[0.0], [2.0], [4.0], [100.0]], np.float32)
    selection = kofn.select(x, 3, method="sensitivity", clusters=2, scale=0.25, rounds=20, sample=0, seed=1)
    center = 2.0
    sizes = {0: 1 + 0.25 * 4, 1: 1.0, 2: 1 + 0.25 * 4, 3: 1.0}
    tau = {sizes[row] / p for row, p in zip(selection.indices.tolist(), selection.inclusion) if p < 1}
    assert center == x[:3].mean()
    assert len({round(value, 9) for value in tau}) <= 1


@pytest.mark.parametrize("with_scores", [False, True])
def test_estimates_are_unbiased_and_their_intervals_cover(with_scores):
    x = two_blobs()
    values = np.abs(x).sum(axis=1)
    given = {"score": values} if with_scores else {}
    means, covered = [], 0
    for seed in range(300):
        selection = kofn.select(x, 60, method="sensitivity", clusters=5, seed=seed, **given)
        found = selection.estimate(values[selection.indices])
        means.append(found.mean)
        covered += found.interval[0] <= values.mean() <= found.interval[1]
    error = np.std(means) / np.sqrt(len(means))
    assert abs(np.mean(means) - values.mean()) < 5 * error
    assert covered > 240


def test_a_high_loss_raises_the_chance_of_its_whole_cluster():
    x = np.repeat(np.array([[0.0], [100.0]], np.float32), 500, axis=0)
    score = np.repeat([1.0, 9.0], 500)
    selection = kofn.select(x, 200, method="sensitivity", clusters=2, score=score)
    assert (selection.indices >= 500).mean() == pytest.approx(0.9, abs=0.1)


def test_a_negative_loss_is_refused():
    with pytest.raises(kofn.KofnError, match="negative"):
        kofn.select(np.eye(3), 1, method="sensitivity", score=[1.0, -2.0, 1.0])


def test_a_loss_of_zero_still_leaves_every_row_a_chance():
    x = np.repeat(np.array([[0.0], [9.0]], np.float32), 50, axis=0)
    selection = kofn.select(x, 100, method="sensitivity", clusters=2, score=np.repeat([0.0, 1.0], 50))
    assert sorted(selection.indices) == list(range(100))
    assert (selection.inclusion > 0).all()

"""The D^2 law, drawn by rejection: is it the law, whatever is stored, and the same picks however the rows lie?"""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from scipy.sparse import csr_matrix

from kofn import Rng
from kofn.blocks import FileBlocks, MemoryBlocks, Run
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.core import greedyseeding
from kofn.core.blas import one_blas_thread
from kofn.core.distance import Centers
from kofn.core.dsquared import DSquared
from kofn.core.seeding import draw_seeds, seed_rows
from kofn.errors import DataError

ALARM = 1e-7  # chance of a false alarm, for each of the statistical tests


def blobs(n: int = 200, d: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = 6.0 * rng.normal(size=(8, d))
    return (centers[rng.integers(0, 8, n)] + rng.normal(size=(n, d))).astype(np.float32)


def one_far_outlier() -> np.ndarray:
    x = blobs(seed=1)
    x[137] += 300.0
    return x


def duplicates() -> np.ndarray:
    x = blobs(seed=2)
    x[100:160] = x[40:100]
    x[160:180] = x[7]
    return x


WORLDS = {"blobs": blobs, "one far outlier": one_far_outlier, "duplicates": duplicates}


def true_law(x: np.ndarray, centers: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Chances of the next pick by brute force, float64."""
    gaps = x[:, None].astype(np.float64) - x[None, centers].astype(np.float64)
    mass = (gaps**2).sum(axis=2).min(axis=1) * (1.0 if weights is None else weights)
    return mass / mass.sum()


def state(x: np.ndarray, centers: np.ndarray, known: int, weights: np.ndarray | None = None) -> DSquared:
    """The law after these picks, the rows measured against the first `known` of them only."""
    law = DSquared(MemoryBlocks(x), x[centers[:known]], weights)
    law.add(x[centers[known:]])
    return law


def next_picks(law: DSquared, uniforms: np.ndarray) -> np.ndarray:
    """Independent draws of the pick that would come next: proposed, judged, never added."""
    rows, limits = law.propose(uniforms)
    kept = []
    for at in range(0, len(rows), 256):
        batch = slice(at, at + 256)
        kept.append(rows[batch][law.accepted(law.blocks.take(rows[batch]), limits[batch])])
    return np.concatenate(kept)


def uniform_proposals(law: DSquared, uniforms: np.ndarray) -> np.ndarray:
    """A wrong law: rows proposed uniformly, judged as if by the bound."""
    rows = (uniforms[:, 0] * law.blocks.n).astype(np.int64)
    return rows[law.accepted(law.blocks.take(rows), uniforms[:, 1] * law.bound[rows])]


def squared_norm_proposals(law: DSquared, uniforms: np.ndarray) -> np.ndarray:
    """A wrong law: rows proposed by their squared length, judged as if by the bound."""
    norms = (law.blocks.take(np.arange(law.blocks.n)).astype(np.float64) ** 2).sum(axis=1)
    rows = np.searchsorted(np.cumsum(norms) / norms.sum(), uniforms[:, 0])
    return rows[law.accepted(law.blocks.take(rows), uniforms[:, 1] * law.bound[rows])]


def p_value(counts: np.ndarray, chances: np.ndarray) -> float:
    """Chi-square against these chances; rows expected fewer than five times are put together."""
    expected = chances * counts.sum()
    assert counts[chances == 0].sum() == 0, "a row without chance was drawn"
    rare = expected < 5
    if expected[rare].sum() >= 5:
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    else:
        counts, expected = counts[~rare], expected[~rare] * counts[~rare].sum() / expected[~rare].sum()
    return float(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), len(counts) - 1))


@pytest.mark.parametrize("picked", [1, 5, 20])
@pytest.mark.parametrize("name", WORLDS)
def test_the_next_pick_follows_the_d2_law_and_wrong_laws_are_found_out(name, picked):
    x = WORLDS[name]()
    centers = np.random.default_rng(picked).choice(np.arange(1, 130), picked, replace=False)
    chances = true_law(x, centers)
    draws = 1_000_000 // 9  # times 3 data sets, times 3 states

    def counted(draw, known, seed):
        law, uniforms = state(x, centers, known), np.random.default_rng(seed)
        counts = np.zeros(len(x))
        while counts.sum() < draws:
            counts += np.bincount(draw(law, uniforms.random((65_536, 2))), minlength=len(x))
        return counts

    known = (picked + 1) // 2  # the other half has come since the rows were measured
    assert p_value(counted(next_picks, known, 10), chances) > ALARM
    for wrong in (uniform_proposals, squared_norm_proposals):
        law, uniforms = state(x, centers, known), np.random.default_rng(11)
        drawn = np.concatenate([wrong(law, uniforms.random((65_536, 2))) for _ in range(2)])
        counts = np.bincount(drawn, minlength=len(x))
        counts[chances == 0] = 0
        assert p_value(counts, chances) < 1e-12


@pytest.mark.parametrize("picked", [1, 5])
def test_the_law_holds_with_weights_and_far_from_the_origin(picked):
    x = (blobs(seed=4) + 10_000).astype(np.float32)
    weights = np.random.default_rng(0).integers(0, 4, len(x)).astype(np.float64)
    centers = np.arange(picked) * 7
    law = state(x, centers, 1, weights)
    counts = np.bincount(next_picks(law, np.random.default_rng(5).random((100_000, 2))), minlength=len(x))
    assert p_value(counts, true_law(x, centers, weights)) > ALARM
    assert p_value(counts, true_law(x, centers)) < 1e-12  # the weights matter


def test_a_whole_run_draws_every_sequence_as_often_as_brute_force_says():
    x = np.array([[0.0], [1.0], [3.0], [3.5], [10.0]], np.float32)
    weights = np.array([1.0, 2.0, 1.0, 3.0, 0.5])
    chances = {}
    for first, second, third in permutations(range(5), 3):
        chance = weights[first] / weights.sum()
        chance *= (
            true_law(x, np.array([first]), weights)[second] * true_law(x, np.array([first, second]), weights)[third]
        )
        chances[first, second, third] = chance
    assert sum(chances.values()) == pytest.approx(1.0)
    drawn = Counter(tuple(seed_rows(MemoryBlocks(x), 3, Rng(seed), weights=weights).tolist()) for seed in range(2_500))
    assert p_value(np.array([drawn[order] for order in chances]), np.array(list(chances.values()))) > ALARM


def test_have_is_where_distances_start_from_and_is_never_picked():
    x = np.array([[0.0], [1.0], [3.0], [3.5], [10.0]], np.float32)
    have = np.array([4, 0])
    chances = true_law(x, have)
    drawn = np.array([seed_rows(MemoryBlocks(x), 2, Rng(seed), have=have) for seed in range(1_500)])
    assert p_value(np.bincount(drawn[:, 0], minlength=5), chances) > ALARM
    assert not np.isin(drawn, have).any()


def greedy_twin(x, bound, weights, queue, candidates, wanted):
    """Picks of the greedy form from a queue of proposals, every distance measured."""
    bound, picks, at = bound.astype(np.float64), [], 0
    squared = ((x[queue.rows].astype(np.float64)[:, None] - x[None].astype(np.float64)) ** 2).sum(axis=2)
    while len(picks) < wanted:
        drawn = []
        while at < len(queue.rows) and len(drawn) < candidates:
            if bound[queue.rows[at]] >= queue.limits[at]:
                drawn.append(at)
            at += 1
        if len(drawn) < candidates:
            break
        best = max(drawn, key=lambda each: (weights * np.maximum(bound - squared[each], 0)).sum())
        picks.append(int(queue.rows[best]))
        bound = np.minimum(bound, squared[best])
    return picks, bound


def test_the_greedy_form_keeps_the_best_of_its_draws():
    x = blobs(n=70_000, d=5)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, len(x))
    law = DSquared(MemoryBlocks(x), x[:400], weights)
    queue = greedyseeding._Queue.empty(5).filled(law, 60, np.random.default_rng(0))
    before = law.bound.copy()
    expected, lowered = greedy_twin(x, before, weights, queue, 4, 99)
    picks, used, improved = greedyseeding._play(law, queue, 60, 4, 99)
    assert picks == expected
    assert 6 <= len(picks) <= 15
    assert used <= 60
    near = ((x[queue.rows[:5], None].astype(np.float64) - x[None]) ** 2).sum(axis=2) < before
    assert improved == pytest.approx(near.sum(axis=1).mean(), rel=1.0)
    np.testing.assert_allclose(law.bound, lowered, rtol=1e-6)
    assert law.total == pytest.approx((weights * lowered).sum())
    alone, _ = greedyseeding._best_of(DSquared(MemoryBlocks(x), x[:400], weights), queue, 4)
    assert alone == expected[:1]


@pytest.mark.parametrize(("tile", "share"), [(50, 2.0), (1 << 15, 0.05)])
def test_the_greedy_form_uses_fewer_candidates_where_pairs_crowd(monkeypatch, tile, share):
    x = blobs(n=70_000, d=5)
    law = DSquared(MemoryBlocks(x), x[:400])
    queue = greedyseeding._Queue.empty(5).filled(law, 60, np.random.default_rng(0))
    whole = greedyseeding._Held.collect(law, Centers(queue.x))
    monkeypatch.setattr(greedyseeding, "_TILE_PAIRS", tile)
    monkeypatch.setattr(greedyseeding, "PAIRS", share)
    fewer = greedyseeding._Held.collect(law, Centers(queue.x))
    usable = fewer.starts.shape[1] - 1
    assert 0 < usable < 60
    for slab in range(2):
        for each in range(usable):
            a, b = (pairs.starts[slab, each : each + 2] for pairs in (whole, fewer))
            np.testing.assert_array_equal(whole.offsets[slice(*a)], fewer.offsets[slice(*b)])
            np.testing.assert_array_equal(whole.squared[slice(*a)], fewer.squared[slice(*b)])


def test_the_second_greedy_pick_is_drawn_as_brute_force_says():
    x = np.array([[0.0], [1.0], [3.0], [3.5], [10.0]], np.float32)
    law = true_law(x, np.array([0]))
    bound = (x[:, 0] ** 2).astype(np.float64)
    drops = [np.maximum(bound - (x[:, 0] - x[row, 0]) ** 2, 0).sum() for row in range(5)]
    chances = np.zeros(5)
    for a in range(5):
        for b in range(5):
            chances[a if drops[a] >= drops[b] else b] += law[a] * law[b]
    have = np.array([0])
    drawn = [seed_rows(MemoryBlocks(x), 1, Rng(seed), have=have, candidates=2)[0] for seed in range(1_500)]
    assert p_value(np.bincount(drawn, minlength=5), chances) > ALARM
    assert p_value(np.bincount(drawn, minlength=5), law) < 1e-12  # one draw is another law


@pytest.mark.parametrize("candidates", [1, 5])
def test_stored_distances_are_those_to_the_nearest_center_after_a_refresh(candidates):
    x = blobs(n=5_000, seed=3)
    law = DSquared(MemoryBlocks(x), x[:1])
    for stop in (3, 40, 340):
        law.add(x[1:stop])
        law.refresh()
        gaps = (x[:, None].astype(np.float64) - x[None, :stop].astype(np.float64)) ** 2
        np.testing.assert_allclose(law.bound, gaps.sum(axis=2).min(axis=1), rtol=1e-6, atol=1e-12)
        assert law.total == pytest.approx(law.bound.sum(dtype=np.float64))


@pytest.mark.parametrize("candidates", [1, 4])
def test_picks_are_the_same_from_arrays_and_files_on_any_threads(tmp_path, candidates):
    x = blobs(n=70_000, d=4)
    x[::3] = np.round(x[::3])  # ties and duplicates
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 4)})
    doors = [MemoryBlocks(x, run=Run(threads)) for threads in (1, 4)]
    doors += [MemoryBlocks(np.asfortranarray(x.astype(np.float64)))]
    for size, threads in ((3_000, 1), (66_000, 4), (70_000, 2)):
        path = tmp_path / f"{size}.parquet"
        pq.write_table(table, path, row_group_size=size)
        dataset = Dataset.open(str(path))
        doors.append(FileBlocks(dataset, find_embedding(dataset, "v", None), run=Run(threads)))
    k = 300 // candidates
    with one_blas_thread():
        picks = [seed_rows(door, k, Rng(3), candidates=candidates) for door in doors]
        sparse = seed_rows(MemoryBlocks(csr_matrix(x)), k, Rng(3), candidates=candidates)
    for other in [*picks[1:], sparse]:
        np.testing.assert_array_equal(other, picks[0])
    assert len(np.unique(picks[0])) == k


@pytest.mark.parametrize("candidates", [1, 4])
def test_the_picks_for_a_smaller_k_come_first(candidates):
    blocks = MemoryBlocks(blobs(n=3_000))
    long, short = (seed_rows(blocks, k, Rng(1), candidates=candidates) for k in (200, 77))
    np.testing.assert_array_equal(long[:77], short)


@pytest.mark.parametrize("candidates", [1, 3])
def test_all_rows_can_be_asked_for(candidates):
    x = blobs(n=500)
    picks = draw_seeds(MemoryBlocks(x), 500, Rng(0), candidates=candidates)
    assert sorted(picks.rows) == list(range(500))
    assert picks.filled == 0


@pytest.mark.parametrize("candidates", [1, 3])
def test_where_rows_run_out_the_lowest_free_row_numbers_fill_up(candidates):
    x = np.zeros((40, 3), np.float32)
    x[10], x[20] = 1.0, 2.0
    picks = draw_seeds(MemoryBlocks(x), 6, Rng(0), have=np.array([1, 3]), candidates=candidates)
    assert sorted(picks.rows[:2]) == [10, 20]
    assert picks.rows[2:].tolist() == [0, 2, 4, 5]
    assert picks.filled == 4
    constant = draw_seeds(MemoryBlocks(np.ones((9, 2))), 9, Rng(0), candidates=candidates)
    assert sorted(constant.rows) == list(range(9))
    assert constant.filled == 8


def test_an_outlier_that_was_picked_does_not_stop_the_draws():
    x = np.random.default_rng(0).normal(size=(30_000, 8)).astype(np.float32)
    x[17] = 1e6
    blocks = MemoryBlocks(x)
    picks = seed_rows(blocks, 100, Rng(0))
    assert 17 in picks[:2]
    assert len(np.unique(picks)) == 100
    assert blocks.passes <= 5


def test_a_few_passes_are_enough():
    blocks = MemoryBlocks(blobs(n=50_000, d=8))
    seed_rows(blocks, 500, Rng(0))
    assert blocks.passes <= 10
    blocks = MemoryBlocks(blobs(n=50_000, d=8))
    seed_rows(blocks, 500, Rng(0), candidates=4)
    assert blocks.passes <= 150


def test_seeds_cost_what_those_of_a_plain_loop_cost():
    x = blobs(n=2_000, d=4)

    def loop(rng):
        bound = ((x - x[rng.integers(2_000)]) ** 2).sum(axis=1)
        for _ in range(29):
            bound = np.minimum(bound, ((x - x[rng.choice(2_000, p=bound / bound.sum())]) ** 2).sum(axis=1))
        return bound.sum()

    def cost(seed):
        picks = seed_rows(MemoryBlocks(x), 30, Rng(seed))
        return ((x[:, None] - x[picks]) ** 2).sum(axis=2).min(axis=1).sum()

    theirs = np.array([loop(np.random.default_rng(seed)) for seed in range(60)])
    ours = np.array([cost(seed) for seed in range(60)])
    assert stats.ttest_ind(np.log(ours), np.log(theirs)).pvalue > ALARM


def test_distances_too_large_for_float32_are_an_error():
    x = np.array([[0.0], [1e20], [3.0]], np.float32)
    with pytest.raises(DataError, match="float32"):
        seed_rows(MemoryBlocks(x), 2, Rng(0))

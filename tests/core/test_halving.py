"""Kernel halving against the paper's box in plain Python; greedy choices and swaps against all that could be."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from kofn.blocks.engine import run_tiles
from kofn.core.halving import Summary, halve, split
from kofn.core.kernels import kernel_of

GAUSSIAN = kernel_of("gaussian", 2)
FAILURE = 1e-4


def points(n, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32).T.copy()


def gram(x, form=GAUSSIAN):
    return form.values(x.T, x.T).astype(np.float64)


def plainly_halved(k, slots, uniforms, failure):
    """Kernel halving as the papers write it: sums over everything that was kept and left before."""
    kept, left, variance = [], [], 0.0
    for (a, b), u in zip(slots.reshape(-1, 2), uniforms, strict=True):
        gap = k[a, a] + k[b, b] - 2 * k[a, b]
        threshold = max(np.sqrt(gap * variance * 2 * np.log(2 / failure)), gap)
        variance += gap * max(0.0, 1 + (gap - 2 * threshold) * variance / threshold**2) if threshold else 0.0
        lean = sum(k[z, a] - k[z, b] for z in left) - sum(k[z, a] - k[z, b] for z in kept)
        swap = u < (min(1, max(0, 0.5 * (1 - lean / threshold))) if threshold else 0.5)
        kept.append(b if swap else a)
        left.append(a if swap else b)
    return kept, left


@pytest.mark.parametrize("pairs", [1, 2, 31, 32, 33, 100, 300])
def test_halving_is_the_papers_box(pairs):
    x = points(2 * pairs, seed=pairs)
    rng = np.random.default_rng(1)
    slots, uniforms = rng.permutation(2 * pairs).astype(np.int64), rng.random(pairs)
    kept, left = halve(x, slots, np.array([0, pairs]), uniforms, GAUSSIAN, FAILURE)
    expected = plainly_halved(gram(x), slots, uniforms, FAILURE)
    np.testing.assert_array_equal(kept, expected[0])
    np.testing.assert_array_equal(left, expected[1])


def test_a_block_is_halved_as_if_it_were_alone():
    x, cuts = points(800, seed=3), np.array([0, 1, 40, 340, 400])
    slots, uniforms = np.arange(800), np.random.default_rng(2).random(400)
    kept, _ = halve(x, slots, cuts, uniforms, GAUSSIAN, FAILURE)
    for a, b in pairwise(cuts):
        alone, _ = halve(x, slots[2 * a : 2 * b], np.array([0, b - a]), uniforms[a:b], GAUSSIAN, FAILURE)
        np.testing.assert_array_equal(kept[a:b], alone)


def test_threads_change_nothing():
    x, cuts = points(2_000, 5, seed=4), np.arange(41) * 25
    known = np.arange(2_000), cuts, np.random.default_rng(3).random(1_000), kernel_of("imq", 5), FAILURE
    for one, two in zip(halve(x, *known), halve(x, *known, partial(run_tiles, workers=2)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_every_slot_of_a_pair_is_kept_as_often_as_the_other():
    """4,000 halvings of 16 points: each is kept with chance 1/2, |z| < 5.5 for all 8 pairs (chance 3e-7)."""
    x, rng = points(16, seed=5), np.random.default_rng(4)
    kept = np.stack(
        [halve(x, np.arange(16), np.array([0, 8]), rng.random(8), GAUSSIAN, FAILURE)[0] % 2 for _ in range(4_000)]
    )
    z = (kept.mean(axis=0) - 0.5) / (0.5 / np.sqrt(4_000))
    assert np.abs(z).max() < 5.5


def test_two_copies_in_a_pair_are_settled_by_a_fair_coin_and_disturb_nothing():
    x = points(20, seed=6)
    slots = np.array([0, 1, 2, 2, 3, 4, 5, 5, 6, 7])
    u = np.array([0.3, 0.49, 0.7, 0.51, 0.2])
    kept, _ = halve(x, slots, np.array([0, 5]), u, GAUSSIAN, FAILURE)
    without, _ = halve(x, slots[[0, 1, 4, 5, 8, 9]], np.array([0, 3]), u[[0, 2, 4]], GAUSSIAN, FAILURE)
    np.testing.assert_array_equal(kept[[0, 2, 4]], without)


def test_halves_are_nearer_to_the_whole_than_random_halves():
    """Of 2,048 points in two dimensions, over 20 draws each: less than 0.6 of the distance (measured: 0.41)."""
    x, rng = points(2_048, seed=7), np.random.default_rng(5)
    k = gram(x)

    def mmd(kept):
        w = np.full(2_048, -1 / 2_048)
        w[kept] += 1 / 1_024
        return np.sqrt(w @ k @ w)

    chance = np.mean([mmd(rng.permutation(2_048)[:1_024]) for _ in range(20)])
    halves = [halve(x, np.arange(2_048), np.array([0, 1_024]), rng.random(1_024), GAUSSIAN, 1e-3) for _ in range(20)]
    assert np.mean([mmd(kept) for kept, _ in halves]) < 0.6 * chance
    for kept, left in halves:
        assert mmd(left) == pytest.approx(mmd(kept), abs=1e-6)


def test_a_split_is_a_halving_of_each_half():
    x, rng = points(96, seed=8), np.random.default_rng(6)
    coins = [rng.random(48) for _ in range(3)]
    coresets = split(x, np.arange(96), coins, GAUSSIAN, lambda pairs: FAILURE / pairs)
    assert coresets.shape == (8, 12)
    np.testing.assert_array_equal(np.sort(coresets.reshape(-1)), np.arange(96))
    k, level = gram(x), [np.arange(96)]
    for each in coins:
        parts = each.reshape(len(level), -1)
        halves = [plainly_halved(k, s, u, FAILURE / len(u)) for s, u in zip(level, parts, strict=True)]
        level = [np.array(half) for pair in halves for half in pair]
    np.testing.assert_array_equal(coresets, level)


def test_no_rounds_leave_all_slots():
    np.testing.assert_array_equal(split(points(7), np.arange(7), [], GAUSSIAN, lambda pairs: 0.1), [np.arange(7)])


def summary(n=60, seed=9, have=(), form=GAUSSIAN):
    """A summary of the candidates, `have` among them; its Gram matrix and mean embedding by brute force."""
    x = points(n, seed=seed)
    k = gram(x, form)
    w = np.random.default_rng(seed).uniform(0.5, 2, n)
    mean, barred = k @ (w / w.sum()), np.isin(np.arange(n), have)
    return Summary(x, mean, k[:, barred].sum(axis=1), len(have), barred, form), k, mean


def loss(k, mean, chosen, have=()):
    """MMD^2 to the rows, less what no choice changes."""
    rows = [*chosen, *have]
    return k[np.ix_(rows, rows)].mean() - 2 * mean[rows].mean()


@pytest.mark.parametrize("have", [(), (4, 17, 33)])
def test_herding_takes_what_brings_the_mean_nearest(have):
    made, k, mean = summary(have=have)
    chosen = np.zeros(12, np.int64)
    made.grow(chosen, 0, growing=True)
    for at in range(12):
        free = np.setdiff1d(np.arange(60), [*chosen[:at], *have])
        losses = [loss(k, mean, [*chosen[:at], z], have) for z in free]
        assert chosen[at] == free[int(np.argmin(losses))]


@pytest.mark.parametrize("have", [(), (4, 17, 33)])
def test_every_swap_is_the_best_for_its_place(have):
    made, k, mean = summary(have=have)
    free = np.setdiff1d(np.arange(60), have)
    chosen = made.begin(free[:9], 9)
    expected = free[:9].copy()
    changes = 0
    for at in range(9):
        others = np.delete(expected, at)
        could = np.setdiff1d(free, others)
        best = could[int(np.argmin([loss(k, mean, [*others, z], have) for z in could]))]
        changes += best != expected[at]
        expected[at] = best
    assert made.swap(chosen) == changes > 3
    np.testing.assert_array_equal(chosen, expected)


def test_swaps_end_where_no_single_swap_helps():
    made, k, mean = summary(seed=10)
    chosen = made.begin(np.arange(6), 6)
    while made.swap(chosen):
        pass
    reached = loss(k, mean, chosen)
    for at in range(6):
        for z in np.setdiff1d(np.arange(60), chosen):
            assert loss(k, mean, [*np.delete(chosen, at), z]) > reached - 1e-7


def test_a_start_with_repeats_is_completed_by_what_fits_best():
    made, k, mean = summary(seed=11)
    chosen = made.begin(np.array([5, 5, 9, 5, 20]), 5)
    np.testing.assert_array_equal(chosen[:3], [5, 9, 20])
    assert len(set(chosen.tolist())) == 5
    fourth = np.setdiff1d(np.arange(60), [5, 9, 20])
    scores = k[np.ix_(fourth, [5, 9, 20])].sum(axis=1) - 5 * mean[fourth]  # weighed as one of five
    assert chosen[3] == fourth[int(np.argmin(scores))]


@pytest.mark.parametrize("have", [(), (1, 2)])
def test_the_discrepancy_orders_sets_as_their_mmd_does(have):
    made, k, mean = summary(seed=12, have=have)
    rng = np.random.default_rng(7)
    sets = [np.setdiff1d(rng.permutation(60), have)[:8] for _ in range(5)]
    m = 8 + len(have)
    found = [made.discrepancy(each) for each in sets]
    expected = [m**2 * loss(k, mean, each, have) for each in sets]
    np.testing.assert_allclose(np.diff(found), np.diff(expected), atol=1e-3)


def test_ties_go_to_the_first_candidate():
    x = np.concatenate([points(20, seed=13)] * 2, axis=1)
    mean = gram(x).mean(axis=1)
    made = Summary(x, mean, np.zeros(40), 0, np.zeros(40, bool), GAUSSIAN)
    chosen = np.zeros(1, np.int64)
    made.grow(chosen, 0, growing=True)
    assert chosen[0] < 20


WIDE = kernel_of("gaussian", 24)


def wide_points(n, seed=0):
    return points(n, 24, seed) / 6


@pytest.mark.parametrize("pairs", [1, 127, 128, 129, 700])
def test_halving_wide_rows_is_the_papers_box(pairs):
    """From products, of which kernel values are within 1e-5: a coin that near to its lean is not among these."""
    x = wide_points(2 * pairs, seed=pairs)
    rng = np.random.default_rng(8)
    slots, uniforms = rng.permutation(2 * pairs).astype(np.int64), rng.random(pairs)
    kept, left = halve(x, slots, np.array([0, pairs]), uniforms, WIDE, FAILURE)
    expected = plainly_halved(gram(x, WIDE), slots, uniforms, FAILURE)
    np.testing.assert_array_equal(kept, expected[0])
    np.testing.assert_array_equal(left, expected[1])


@pytest.mark.parametrize("cuts", [[0, 2_000], [0, 300, 301, 1_100, 2_000]], ids=len)
def test_neither_threads_nor_the_order_in_memory_change_the_halves_of_wide_rows(cuts):
    x, cuts = wide_points(4_000, seed=14), np.array(cuts)
    known = np.arange(4_000), cuts, np.random.default_rng(9).random(2_000), WIDE, FAILURE
    two = halve(np.asfortranarray(x), *known, partial(run_tiles, workers=2))
    for one, other in zip(halve(x, *known), two, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [6, 40])
def test_a_summary_of_wide_rows_grows_and_swaps_to_where_no_swap_helps(k):
    """With room for the rows of the kernel of 6 of 60 picks, and without it for those of 40."""
    x = wide_points(60, seed=15)
    known = gram(x, WIDE), gram(x, WIDE).mean(axis=1)
    made = Summary(x, known[1], np.zeros(60), 0, np.zeros(60, bool), WIDE)
    chosen = np.zeros(k, np.int64)
    made.grow(chosen, 0, growing=True)
    for at in range(k):
        free = np.setdiff1d(np.arange(60), chosen[:at])
        assert chosen[at] == free[int(np.argmin([loss(*known, [*chosen[:at], z]) for z in free]))]
    while made.swap(chosen):
        pass
    reached = loss(*known, chosen)
    assert len(set(chosen.tolist())) == k
    for at in range(k):
        for z in np.setdiff1d(np.arange(60), chosen):
            assert loss(*known, [*np.delete(chosen, at), z]) > reached - 1e-6
    again = Summary(x, known[1], np.zeros(60), 0, np.zeros(60, bool), WIDE)
    assert again.discrepancy(chosen) == pytest.approx(k**2 * reached, abs=1e-2)

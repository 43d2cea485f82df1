from itertools import pairwise

import numpy as np
import pytest

from kofn.core.draw import StrataDraw, inclusion_of, pivotal, scale_of, systematic

DRAWS = 20_000


def z_scores(draw, chances, claimed):
    """How many standard errors the share of draws that hold each row is from its claimed chance."""
    rng = np.random.default_rng(11)
    count = np.zeros(len(chances))
    for _ in range(DRAWS):
        picks = draw(rng)
        assert len(picks) == len(set(picks.tolist())) == round(chances.sum())
        count[picks] += 1
    at = chances < 1
    assert (count[~at] == DRAWS).all()
    return (count / DRAWS - claimed)[at] / np.sqrt(chances[at] * (1 - chances[at]) / DRAWS)


CHANCES = inclusion_of(np.random.default_rng(0).uniform(0.2, 3.0, 60) ** 2, 17)
ORDER = np.random.default_rng(1).permutation(60)
DEPTH = np.random.default_rng(2).integers(0, 9, 60).astype(np.uint8)
STRATA = np.random.default_rng(3).integers(0, 6, 60).astype(np.int32)


def drawn_in_parts(rng, cuts, strata=STRATA, chances=CHANCES, count=6):
    uniforms, last = rng.random(len(chances)), rng.random(count)
    parts = ((a, strata[a:b], chances[a:b], uniforms[a:b]) for a, b in pairwise(cuts))
    return StrataDraw(count, round(chances.sum())).draw(parts, last)


DRAWN_BY = {
    "pivotal": lambda rng: pivotal(CHANCES, rng.random(60)),
    "pivotal in an order": lambda rng: pivotal(CHANCES, rng.random(60), ORDER),
    "pivotal on a ragged tree": lambda rng: pivotal(CHANCES, rng.random(60), ORDER, DEPTH),
    "pivotal within strata": lambda rng: drawn_in_parts(rng, [0, 60]),
    "pivotal within strata, in parts": lambda rng: drawn_in_parts(rng, [0, 1, 23, 40, 60]),
    "systematic": lambda rng: systematic(CHANCES, rng.random(), ORDER),
}


@pytest.mark.parametrize("name", DRAWN_BY)
def test_each_row_has_its_chance_and_a_bias_of_2_percent_would_be_seen(name):
    scores = z_scores(DRAWN_BY[name], CHANCES, CHANCES)
    assert np.abs(scores).max() < 5
    biased = scores + 0.02 * CHANCES[CHANCES < 1] / np.sqrt((CHANCES * (1 - CHANCES))[CHANCES < 1] / DRAWS)
    assert np.abs(biased).max() > 5


def test_shares_above_one_become_sure_and_the_rest_share_what_is_left():
    np.testing.assert_allclose(inclusion_of(np.array([1.0, 8.0, 2.0, 1.0]), 2), [0.25, 1.0, 0.5, 0.25])
    np.testing.assert_allclose(inclusion_of(np.array([1.0, 100.0, 10.0, 1.0]), 3), [0.5, 1.0, 1.0, 0.5])
    np.testing.assert_allclose(inclusion_of(np.array([0.0, 1.0, 5.0]), 2), [0.0, 1.0, 1.0])


def test_chances_are_those_of_making_too_large_ones_sure_round_by_round():
    rng = np.random.default_rng(0)
    for sizes in (rng.pareto(0.5, 500), rng.random(500), np.ones(500), np.repeat([0.0, 1.0], 250)):
        for k in (1, 2, 100, 249, 250):
            sure = np.zeros(500, bool)
            while True:
                chances = np.where(sure, 1.0, sizes * (k - sure.sum()) / max(sizes[~sure].sum(), 1e-300))
                if not (chances > 1).any():
                    break
                sure |= chances > 1
            np.testing.assert_allclose(inclusion_of(sizes, k), chances, rtol=1e-12)


def test_chances_add_up_to_k_also_for_sizes_of_many_magnitudes():
    sizes = 10.0 ** np.random.default_rng(3).uniform(-12, 12, 5_000)
    for k in (1, 30, 4_000, 5_000):
        chances = inclusion_of(sizes, k)
        assert abs(chances.sum() - k) < 1e-9 * k
        assert chances.max() <= 1
        assert (np.diff(chances[np.argsort(sizes)]) >= 0).all()
        assert len(systematic(chances, 0.5)) == k
        assert len(pivotal(chances, np.random.default_rng(k).random(5_000))) == k


def test_neighbours_with_half_a_chance_are_never_drawn_together():
    """The joint chances that vanish: siblings of the tree, and rows less than one unit apart in the systematic order."""
    half = np.full(64, 0.5)
    rng = np.random.default_rng(5)
    for _ in range(500):
        assert (np.bincount(pivotal(half, rng.random(64)) // 2, minlength=32) == 1).all()
        assert (np.bincount(systematic(half, rng.random()) // 2, minlength=32) == 1).all()


def test_every_subtree_gets_its_share_up_to_one_row():
    """Chances within any half, quarter, eighth ... of the order add up to what is drawn there, rounded down or up."""
    rng = np.random.default_rng(6)
    chances = inclusion_of(rng.uniform(0.1, 1.0, 256), 37)
    for _ in range(200):
        hit = np.zeros(256)
        hit[pivotal(chances, rng.random(256))] = 1
        for width in (2, 4, 8, 16, 32, 64, 128):
            drawn, due = hit.reshape(-1, width).sum(axis=1), chances.reshape(-1, width).sum(axis=1)
            assert (np.abs(drawn - due) < 1).all()


def test_a_duel_between_two_rows_goes_as_their_chances_go():
    """Chances 0.3 and 0.7: the uniform number decides at 0.3."""
    chances = np.array([0.3, 0.7])
    assert pivotal(chances, np.array([0.9, 0.29])).tolist() == [0]
    assert pivotal(chances, np.array([0.1, 0.31])).tolist() == [1]


def test_rows_that_are_sure_or_impossible_take_no_part_in_a_duel():
    chances = np.array([1.0, 0.0, 0.5, 0.0, 1.0, 0.5, 0.0])
    drawn = {tuple(pivotal(chances, u).tolist()) for u in np.random.default_rng(7).random((40, 7))}
    assert drawn == {(0, 2, 4), (0, 4, 5)}


def test_a_million_rows_of_one_depth_need_no_room_for_a_stack():
    n = 1_000_000
    flat = np.zeros(n, np.uint8)
    assert len(pivotal(np.full(n, 1e-3), np.random.default_rng(8).random(n), depth=flat)) == 1_000


def test_parts_of_a_stratified_draw_change_nothing():
    for seed in range(50):
        whole = drawn_in_parts(np.random.default_rng(seed), [0, 60])
        cut = drawn_in_parts(np.random.default_rng(seed), [0, 7, 8, 33, 60])
        assert whole.tolist() == cut.tolist()


def test_every_stratum_gets_its_share_up_to_one_row():
    rng = np.random.default_rng(9)
    due = np.bincount(STRATA, CHANCES, 6)
    for _ in range(300):
        drawn = np.bincount(STRATA[drawn_in_parts(rng, [0, 20, 60])], minlength=6)
        assert (np.abs(drawn - due) < 1).all()


def test_strata_without_a_chance_take_no_part():
    chances = np.array([0.5, 0.0, 0.5, 1.0, 0.0])
    strata = np.array([0, 1, 0, 2, 1], np.int32)
    drawn = {tuple(sorted(drawn_in_parts(np.random.default_rng(s), [0, 5], strata, chances, 4))) for s in range(40)}
    assert drawn == {(0, 3), (2, 3)}


def test_the_scale_of_sizes_in_parts_is_that_of_all_at_once():
    rng = np.random.default_rng(10)
    for sizes in (rng.pareto(0.4, 700), np.ones(700), np.repeat([0.0, 1.0], 350)):
        for k in (1, 40, 349):
            scale = scale_of(np.array_split(sizes, 9), k)
            np.testing.assert_allclose(np.minimum(1, scale * sizes), inclusion_of(sizes, k), rtol=1e-12)
    assert scale_of([np.array([0.0, 2.0]), np.array([3.0])], 2) == np.inf

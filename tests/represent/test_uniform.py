"""Rows at random: simple, stratified, in proportion to a score."""

import numpy as np
import pytest

from kofn import Items, KofnError, Rng
from kofn.represent import Uniform

SEEDS = 1_000


def draws(items, k, method=None, seeds=SEEDS):
    return [(method or Uniform()).select(items, k, Rng(seed)) for seed in range(seeds)]


def test_the_picks_are_the_rows_with_the_smallest_numbers():
    u = Rng(9).rows(0, 100, "draw")
    assert Uniform().select(Items(rows=100), 7, Rng(9)).indices.tolist() == np.argsort(u)[:7].tolist()
    have = np.argsort(u)[:5]
    assert Uniform().select(Items(rows=100, have=have), 7, Rng(9)).indices.tolist() == np.argsort(u)[5:12].tolist()


def test_every_row_is_picked_equally_often():
    """Chi-square with 11 degrees over 1,000 draws of 3 from 12; counts within a draw repel, which only lowers it."""
    counts = np.bincount(np.concatenate([s.indices for s in draws(Items(rows=12), 3)]), minlength=12)
    expected = SEEDS * 3 / 12
    assert ((counts - expected) ** 2 / expected).sum() < 52  # chance 3e-7


def test_every_pair_is_picked_equally_often():
    pairs = [tuple(sorted(s.indices.tolist())) for s in draws(Items(rows=6), 2)]
    counts = np.array([pairs.count((a, b)) for a in range(6) for b in range(a + 1, 6)])
    expected = SEEDS / 15
    assert ((counts - expected) ** 2 / expected).sum() < 59  # 14 degrees: chance 2e-7


def test_inclusion_and_weights_of_a_simple_sample():
    selection = Uniform().select(Items(rows=20, have=[0, 1, 2, 3]), 4, Rng(0))
    assert selection.inclusion.tolist() == [0.25] * 4
    assert selection.weights.tolist() == [4.0] * 4
    assert selection.provenance["design"] == {"kind": "simple", "population": 16}


def test_weights_of_weighted_rows_share_out_the_whole():
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    selection = Uniform().select(Items(rows=6, weights=weights, have=[5]), 3, Rng(1))
    chosen = weights[selection.indices]
    np.testing.assert_allclose(selection.weights, chosen * 15 / chosen.sum())


@pytest.mark.parametrize(
    ("sizes", "k", "seats"),
    [
        ((6, 3, 1), 10, (6, 3, 1)),
        ((60, 30, 10), 10, (6, 3, 1)),
        ((53, 24, 23), 7, (3, 2, 2)),  # quotients 53 17.7 10.6 7.6 | 24 8 | 23 7.7: 53 24 23 17.7 10.6 8 7.67
        ((98, 1, 1), 3, (3, 0, 0)),
    ],
)
def test_seats_are_shared_by_websters_rule(sizes, k, seats):
    groups = np.random.default_rng(0).permutation(np.repeat(["a", "b", "c"], sizes))
    selection = Uniform().select(Items(groups=groups), k, Rng(3))
    assert tuple((groups[selection.indices] == name).sum() for name in "abc") == seats
    empty = sum(seat == 0 for seat in seats)
    said = {1: "1 group has", 2: "2 groups have"}
    covered = sum(size for size, seat in zip(sizes, seats, strict=True) if seat)
    assert selection.provenance["design"]["population"] == covered
    assert selection.provenance["notes"] == (
        [f"{said[empty]} no pick: estimates are about the {covered:,} rows of the others; ask for more rows"]
        if empty
        else []
    )


def test_rows_without_a_chance_are_no_part_of_what_estimates_are_about():
    scores = np.array([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    selection = Uniform().select(Items(scores=scores, have=np.array([7])), 3, Rng(0))
    assert selection.provenance["design"]["population"] == 4
    assert selection.provenance["notes"] == [
        "3 rows have a score of 0 and cannot be drawn: estimates are about the others"
    ]
    assert selection.estimate(np.full(3, 3.0), calibrated=True).mean == pytest.approx(3)


def test_equal_allocation_takes_turns_until_a_group_is_used_up():
    groups = np.repeat(["a", "b", "c"], [50, 20, 2])
    selection = Uniform(allocation="equal").select(Items(groups=groups), 12, Rng(0))
    assert [int((groups[selection.indices] == name).sum()) for name in "abc"] == [5, 5, 2]
    for name, chance in (("a", 5 / 50), ("b", 5 / 20), ("c", 1.0)):
        assert selection.inclusion[groups[selection.indices] == name] == pytest.approx(chance)
    assert selection.weights.sum() == pytest.approx(72)


def test_within_a_group_every_row_is_picked_equally_often():
    groups = np.repeat([0, 1], [6, 9])
    counts = np.bincount(np.concatenate([s.indices for s in draws(Items(groups=groups), 5)]), minlength=15)
    assert counts.sum() == 5 * SEEDS
    for rows, seats in ((slice(0, 6), 2), (slice(6, 15), 3)):
        expected = SEEDS * seats / len(counts[rows])
        assert counts[rows].sum() == SEEDS * seats
        assert ((counts[rows] - expected) ** 2 / expected).sum() < 46  # 5 and 8 degrees: chance below 3e-7


@pytest.mark.parametrize("allocation", ["proportional", "equal"])
@pytest.mark.parametrize("scored", [False, True])
def test_seats_given_one_by_one_lead_to_the_same_picks(allocation, scored):
    rng = np.random.default_rng(8)
    for seed in range(40):
        n = int(rng.integers(20, 80)) if seed else 70_000  # once more than a slab
        groups = rng.choice(list("abcdefg")[: 1 + seed % 7], n)
        scores = np.maximum(rng.normal(0.5, 1.0, n), 0.0) if scored else None
        items = Items(groups=groups, scores=scores, have=rng.choice(n, n // 5, replace=False))
        k = int(rng.integers(1, 7 if scored else n - n // 5))
        selection = Uniform(allocation=allocation).select(items, k, Rng(seed))
        picks, inclusion = one_by_one(items, k, Rng(seed), allocation)
        assert selection.indices.tolist() == picks
        np.testing.assert_allclose(selection.inclusion, inclusion, rtol=1e-12)


def one_by_one(items, k, rng, allocation):
    """The next seat goes to the group whose next turn is first, on ties to that with the smaller key; as the text says it."""
    scores = np.ones(items.n) if items.scores is None else items.scores
    keys = rng.rows(0, items.n, "draw") / np.maximum(scores, 1e-300)
    queues = {name: [] for name in np.unique(items.groups)}
    for row in sorted(np.flatnonzero((scores > 0) & ~items.have), key=lambda row: keys[row]):
        queues[items.groups[row]].append(int(row))
    sizes = {name: len(queue) for name, queue in queues.items()}
    seats, picks = dict.fromkeys(queues, 0), []
    for _ in range(k):
        turns = {
            name: (
                seats[name] if allocation == "equal" else (2 * seats[name] + 1) / sizes[name],
                keys[queue[seats[name]]],
            )
            for name, queue in queues.items()
            if seats[name] < sizes[name]
        }
        name = min(turns, key=turns.get)
        picks.append(queues[name][seats[name]])
        seats[name] += 1

    def chance(row):
        name = items.groups[row]
        if items.scores is None:
            return seats[name] / sizes[name]
        return 1.0 if seats[name] == sizes[name] else min(1.0, scores[row] * keys[queues[name][seats[name]]])

    return picks, [chance(row) for row in picks]


def test_have_rows_take_no_seat_of_their_group():
    groups = np.repeat(["a", "b"], [10, 10])
    selection = Uniform().select(Items(groups=groups, have=range(8)), 6, Rng(0))
    assert sorted(groups[selection.indices].tolist()) == ["a"] + ["b"] * 5
    assert selection.weights.sum() == pytest.approx(12)


def test_scores_draw_rows_in_proportion():
    """One pick of four rows: priority sampling picks row i with chance P(s_i / u_i is the largest)."""
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    counts = np.bincount([int(s.indices[0]) for s in draws(Items(scores=scores), 1)], minlength=4)
    expected = SEEDS * chance_of_the_largest_priority(scores)
    assert ((counts - expected) ** 2 / expected).sum() < 33  # 3 degrees: chance 3e-7


def chance_of_the_largest_priority(scores):
    """By integration over u_i: s_j / u_j stays below s_i / u_i with chance 1 - min(1, s_j u_i / s_i)."""
    u = (np.arange(100_000) + 0.5) / 100_000
    chances = [
        np.mean(np.prod([1 - np.minimum(1, s * u / score) for j, s in enumerate(scores) if j != i], axis=0))
        for i, score in enumerate(scores)
    ]
    return np.array(chances)


def test_a_row_without_score_is_never_drawn_in_proportion():
    scores = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    for selection in draws(Items(scores=scores), 3, seeds=50):
        assert sorted(selection.indices.tolist()) == [1, 3, 4]
        assert selection.inclusion.tolist() == [1, 1, 1]


def test_a_row_without_score_takes_no_seat_of_its_group():
    """Of ten rows in a, one can be drawn: counted as ten, the group would get seats for rows that have no chance."""
    scores = np.r_[1.0, np.zeros(9), np.ones(5)]
    groups = np.repeat(["a", "b"], [10, 5])
    for selection in draws(Items(scores=scores, groups=groups), 4, seeds=50):
        assert (scores[selection.indices] > 0).all()
        assert (selection.inclusion > 0).all()
        assert np.isfinite(selection.weights).all()
        assert selection.weights.sum() == pytest.approx(15)


def test_the_largest_score_is_certain_when_it_outweighs_the_rest():
    scores = np.r_[1e9, np.ones(99)]
    selection = Uniform().select(Items(scores=scores), 10, Rng(0))
    assert selection.indices[0] == 0
    assert selection.inclusion[0] == 1
    assert (selection.inclusion[1:] < 0.5).all()


@pytest.mark.parametrize(
    ("scores", "k", "words"),
    [
        ([1.0, -2.0, 3.0], 1, r"-2 of row 1 is negative"),
        ([0.0, 0.0, 0.0], 1, "all scores are 0"),
        ([0.0, 1.0, 0.0], 2, "only 1 rows"),
    ],
)
def test_scores_that_cannot_be_chances_are_an_error(scores, k, words):
    with pytest.raises(KofnError, match=words):
        Uniform().select(Items(scores=scores), k, Rng(0))


def test_an_unknown_allocation_is_an_error():
    with pytest.raises(KofnError, match="allocation='fair' is unknown; use one of: proportional, equal"):
        Uniform(allocation="fair")

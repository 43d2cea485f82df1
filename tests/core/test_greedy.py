"""Lazy greedy against greedy that computes every gain, and the coverage objective against its definition."""

from itertools import combinations

import numpy as np
import pytest

from kofn.core.greedy import TIE, Coverage, Far, lazy_greedy, upper_bound
from kofn.core.neighbors import Points, pairs_within


class Sets:
    """How much weight a family of sets covers: submodular, and small enough to count by hand. Counts its looks."""

    def __init__(self, members, weights, *, error=0.0):
        self.members, self.weights = members.astype(bool), np.asarray(weights, float)
        self.left = np.ones(members.shape[1], bool)
        self.bounds = np.full(len(members), np.inf)
        self.fresh = np.zeros(len(members), bool)
        self.slack, self.looks = error, 0
        self.blur = np.random.default_rng(0)

    def exact(self, candidates):
        return (self.members[candidates] & self.left) @ self.weights

    def refresh(self, candidates):
        self.looks += len(candidates)
        off = self.slack * self.blur.uniform(-1, 1, len(candidates))
        self.bounds[candidates] = self.exact(candidates) + off

    def commit(self, pick):
        gain = float(self.exact(np.array([pick]))[0])
        self.left &= ~self.members[pick]
        self.fresh[:] = False
        return gain


def plain_greedy(members, weights, k, closed=()):
    left, picks, gains = np.ones(members.shape[1], bool), [], []
    for _ in range(k):
        gain = (members.astype(bool) & left) @ np.asarray(weights, float)
        gain[[*picks, *closed]] = -1.0
        pick = int(np.argmax(gain >= gain.max() * (1 - TIE)))
        picks.append(pick)
        gains.append(gain[pick])
        left &= ~members[pick].astype(bool)
    return picks, gains


def everything(n):
    return np.ones(n, bool)


@pytest.mark.parametrize("error", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_lazy_greedy_picks_what_plain_greedy_picks_even_when_looks_are_blurred(seed, error):
    rng = np.random.default_rng(seed)
    members, weights = rng.random((300, 400)) < 0.05, rng.uniform(0.5, 1.5, 400)
    found = lazy_greedy(Sets(members, weights, error=error), 25, everything(300))
    picks, gains = plain_greedy(members, weights, 25)
    assert found.picks.tolist() == picks
    np.testing.assert_allclose(found.gains, gains)


def test_most_gains_are_never_computed():
    rng = np.random.default_rng(1)
    members = rng.random((2000, 3000)) < rng.uniform(0.001, 0.05, (2000, 1))
    objective = Sets(members, np.ones(3000))
    lazy_greedy(objective, 40, everything(2000))
    assert objective.looks < 0.2 * 2000 * 40


def test_equal_gains_go_to_the_lowest_row_number():
    members = np.eye(6)[[5, 1, 1, 0, 5, 2]]
    assert lazy_greedy(Sets(members, np.ones(6)), 4, everything(6)).picks.tolist() == [0, 1, 3, 5]


def test_gains_that_agree_to_the_ninth_digit_are_equal():
    assert lazy_greedy(Sets(np.eye(2), [1.0, 1.0 + 1e-12]), 1, everything(2)).picks.tolist() == [0]
    assert lazy_greedy(Sets(np.eye(2), [1.0, 1.0 + 1e-6]), 1, everything(2)).picks.tolist() == [1]


def test_what_gains_nothing_is_filled_in_by_row_number_and_counted():
    members = np.array([[0, 0], [1, 1], [0, 1], [0, 0]])
    found = lazy_greedy(Sets(members, [1, 1]), 3, everything(4))
    assert found.picks.tolist() == [1, 0, 2]
    assert found.gains.tolist() == [2, 0, 0]
    assert found.idle == 2


def test_closed_rows_are_never_picked():
    members = np.eye(5)[[0, 1, 2, 3, 4]] * [5, 4, 3, 2, 1] > 0
    open_rows = np.array([False, True, False, True, True])
    found = lazy_greedy(Sets(members, [5, 4, 3, 2, 1]), 3, open_rows)
    assert found.picks.tolist() == [1, 3, 4]
    assert open_rows.tolist() == [False, True, False, True, True]


def test_a_constraint_closes_rows_as_picks_come_in():
    groups = np.array([0, 0, 1, 1, 2])
    found = lazy_greedy(
        Sets(np.eye(5), [5, 4, 3, 2, 1]),
        4,
        everything(5),
        closes=lambda pick: np.flatnonzero(groups == groups[pick]),
    )
    assert found.picks.tolist() == [0, 2, 4]  # one of each group, then none is left


def test_progress_is_told_up_to_the_last_pick():
    told = []
    lazy_greedy(Sets(np.eye(40), np.ones(40)), 35, everything(40), tell=lambda *what: told.append(what))
    assert told == [("pick", 16, 35), ("pick", 32, 35), ("pick", 35, 35)]


def test_the_upper_bound_holds_for_the_best_of_all_subsets():
    rng = np.random.default_rng(3)
    members, weights = rng.random((12, 30)) < 0.2, rng.uniform(0.5, 1.5, 30)
    best = max(float(members[list(each)].any(axis=0) @ weights) for each in combinations(range(12), 3))
    assert upper_bound(0.0, Sets(members, weights).exact(np.arange(12)), 3) >= best
    objective = Sets(members, weights)
    value = lazy_greedy(objective, 3, everything(12)).gains.sum()
    bound = upper_bound(value, objective.exact(np.arange(12)), 3)
    assert best <= bound < 1.5 * best


def test_the_upper_bound_of_hand_made_gains():
    assert upper_bound(10.0, np.array([1.0, 5.0, 3.0, -2.0]), 2) == 18.0
    assert upper_bound(10.0, np.array([1.0, -5.0]), 9) == 11.0


def coverage_of(*, n, d, radius, seed=0):
    rng = np.random.default_rng(seed)
    points = Points(rng.normal(size=(n, d)).astype(np.float32))
    weights = rng.uniform(0.2, 1.0, n)
    radii = np.full(n, radius, np.float32)
    radii[::7] = 0.0
    graph = pairs_within(points, radii, limit=n * n)
    return points, weights, Coverage(points, weights, np.full(n, 9, np.float32), radii, graph)


def gains_by_definition(points, weights, covering):
    x = points.rows.astype(np.float64)
    apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    reach = np.minimum(9, apart[covering].min(axis=0)) if covering else np.full(len(x), 9.0)
    return weights @ np.maximum(reach[:, None] - apart, 0)


@pytest.mark.parametrize("radius", [0.0, 0.8, 3.0, 20.0])
def test_gains_of_coverage_are_those_of_its_definition_after_every_pick(radius):
    points, weights, coverage = coverage_of(n=150, d=3, radius=radius)
    rows = np.arange(150)
    for at, pick in enumerate([3, 70, 7, 149, 20]):
        expected = gains_by_definition(points, weights, [3, 70, 7, 149, 20][:at])
        np.testing.assert_allclose(coverage.exact(rows), expected, rtol=1e-6)
        assert (coverage.bounds >= expected - coverage.slack).all()
        coverage.refresh(rows)
        assert np.abs(coverage.bounds - expected).max() <= coverage.slack + 1e-6 * expected.max()
        assert coverage.exact(np.array([pick]))[0] == coverage.commit(pick)


def test_products_are_off_by_less_than_their_slack():
    points = Points((100 * np.random.default_rng(0).normal(size=(900, 40))).astype(np.float32))
    reach, radii = np.full(900, 1200, np.float32), np.full(900, 50, np.float32)
    far = Far(points, np.arange(900), np.ones(900), reach, radii)
    gains = far.gains(np.arange(50), lambda fn, calls: [fn(*call) for call in calls])
    x = points.rows.astype(np.float64)
    apart = np.sqrt(((x[:, None] - x[None, :50]) ** 2).sum(axis=2))
    expected = np.maximum(reach[:, None] - np.maximum(apart, radii[:, None]), 0).sum(axis=0)
    assert np.abs(gains - expected).max() < far.slack
    assert far.slack < 1e-4 * expected.max()


def test_once_all_rows_are_within_their_radius_no_look_is_needed():
    _, _, coverage = coverage_of(n=60, d=2, radius=30.0)
    for pick in range(0, 60, 7):
        coverage.commit(pick)  # the rows of radius 0 cover themselves
    assert len(coverage.far.rows) == 0
    assert coverage.fresh.all()
    assert coverage.slack < 1e-9


def test_a_foreseen_pick_leaves_every_gain_known_and_another_one_does_not():
    for foreseen, fresh in ((5, True), (6, False)):
        _, _, coverage = coverage_of(n=80, d=2, radius=0.5)
        coverage.know(np.full(80, 1e6), (foreseen, np.full(80, 1e5)))
        coverage.commit(5)
        assert bool(coverage.fresh.all()) is fresh
        assert coverage.beyond[0] == (1e5 if fresh else 1e6)

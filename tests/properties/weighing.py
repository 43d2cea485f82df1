"""Laws 4 and 8: weights, chances, estimates, and the gain that a method promises."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np

from kofn import Items, Method
from kofn.represent import Uniform
from properties.laws import covers, merit
from properties.worlds import World, blobs, choose, column_sets, gaussian, three_islands

SEEDS = 256


def law_4_weights_sum_to_what_they_stand_for(method: Method) -> None:
    w = gaussian(150)
    for columns in column_sets(method):
        items = w.items(method, columns)
        for k in (1, 5, 40):
            selection = choose(method, items, k)
            assert (selection.weights > 0).all()
            np.testing.assert_allclose(selection.weights.sum(), items.row_weights.sum(), rtol=1e-6)
            if method.weights == "equal":
                np.testing.assert_allclose(selection.weights, selection.weights[0], rtol=1e-9)
            if method.weights == "count":
                np.testing.assert_allclose(selection.weights, np.round(selection.weights), atol=1e-6)
            assert (selection.inclusion is not None) == (method.weights == "design")
            if selection.inclusion is not None:
                assert selection.inclusion.min() > 0
                assert selection.inclusion.max() <= 1
                raw = items.row_weights[selection.indices] / selection.inclusion
                np.testing.assert_allclose(selection.weights / selection.weights.sum(), raw / raw.sum(), rtol=1e-6)


def law_4_weights_leave_out_what_have_stands_for(method: Method) -> None:
    w = gaussian(150)
    have = np.arange(3, 150, 10)
    for columns in column_sets(method):
        items = w.items(method, columns, have=have)
        selection = choose(method, items, 20)
        total, held = items.row_weights.sum(), items.row_weights[have].sum()
        if method.weights == "count":
            assert selection.weights.sum() < total - held
            if method.cells:
                np.testing.assert_allclose(
                    selection.weights, selection.weights_from(items, metric=getattr(method, "metric", None)), rtol=1e-6
                )
        else:
            np.testing.assert_allclose(selection.weights.sum(), total - held, rtol=1e-6)


def law_4_counts_are_the_sizes_of_islands(method: Method) -> None:
    """Where clusters cannot be mistaken, every way to count agrees: Voronoi cells and clusters alike."""
    if method.weights != "count":
        return
    w, island = three_islands()
    have = np.flatnonzero(island == 0)[::6]
    for columns in column_sets(method):
        sizes = np.bincount(island, w.items(method, columns).row_weights)
        for k, had in ((3, have[:0]), (9, have[:0]), (2, have)):
            selection = choose(method, w.items(method, columns, have=had), k)
            counted = np.bincount(island[selection.indices], selection.weights, 3)
            reached = set(island[selection.indices]) | set(island[had])
            assert reached == {0, 1, 2} or not covers(method), "an island has no pick"
            if reached == {0, 1, 2}:
                missing = np.setdiff1d(island[had], island[selection.indices])
                np.testing.assert_allclose(counted, np.where(np.isin([0, 1, 2], missing), 0, sizes), rtol=1e-6)


@cache
def surveyed() -> tuple[World, Any]:
    """Rows, and a value of each with a trend along scores, groups, row numbers and vectors, so that any bias shows."""
    w = gaussian(300, 3, seed=4)
    w = dataclasses.replace(w, scores=w.scores**0.3)
    rising = np.linspace(-0.2, 0.2, w.n)[np.argsort(np.argsort(w.x[:, 0]))]
    values = 1.0 + 0.3 * (w.scores - 1) + rising + np.linspace(-0.1, 0.1, w.n) + 0.1 * (w.groups > 12)
    return w, values


def law_4_estimates_are_unbiased_and_their_errors_honest(method: Method) -> None:
    """Over seeds, the mean of the estimates is within its Monte Carlo error (5.3 sd: chance 1e-7) of the truth, small enough
    that 2 % would be seen; their spread is what they say; the 95 % interval holds the truth about as often."""
    if method.weights != "design":
        return
    held = np.arange(0, 300, 11)
    sets = column_sets(method)
    for columns, have, k in [(sets[0], held, 240), *((each, None, 240) for each in sets[1:]), (sets[0], None, 40)]:
        try:
            check_estimates(method, columns, have, k)
        except AssertionError as error:
            raise AssertionError(
                f"{sorted(columns)}, {0 if have is None else len(have)} rows had, k={k}: {error}"
            ) from error


def check_estimates(method: Method, columns: frozenset[str], have: Any, k: int) -> None:
    w, values = surveyed()
    items = w.items(method, columns, have=have)
    answers = [choose(method, items, k, seed) for seed in range(SEEDS)]
    estimates = [answer.estimate(values[answer.indices]) for answer in answers]
    means = np.array([estimate.mean for estimate in estimates])
    errors = np.array([estimate.standard_error for estimate in estimates])
    truth = float(np.delete(values, [] if have is None else have).mean())
    spread = float(means.std(ddof=1))
    noise = spread / np.sqrt(SEEDS)
    assert k < 100 or 0.02 * truth > 7 * noise, f"too noisy to see a bias of 2 %: {noise / truth:.2%} a mean"
    assert abs(means.mean() - truth) < 5.3 * noise, f"biased by {means.mean() / truth - 1:.2%}"
    ratio = float(np.sqrt((errors**2).mean()) / spread)
    # Differences of neighbours judge a draw that spreads its picks too harshly where neighbours are alike, as they are here.
    most = 1.5 if answers[0].provenance["design"]["kind"] == "pivotal" else 1.25
    assert 0.8 < ratio < most, f"standard errors are {ratio:.2f} of the spread"
    hits = np.mean([low <= truth <= high for low, high in (estimate.interval for estimate in estimates)])
    assert hits > 0.88, f"the 95 % interval holds the truth in {hits:.0%} of draws"


def law_8_the_objective_beats_uniform_where_it_must(method: Method) -> None:
    """Well-separated clusters, 20 seeds: better than uniform rows in every pair (chance 1e-6 for a method that is no better)."""
    if method.objective is None:
        return
    columns = column_sets(method)[0]
    gains = []
    for seed in range(20):
        w = blobs(20, 600, 8, seed)
        picks = choose(method, w.items(method, columns), 20, seed).indices
        uniform = choose(Uniform(), Items(rows=w.n), 20, seed).indices
        gains.append(merit(method, w, picks) - merit(method, w, uniform))
    assert min(gains) > 0, f"no better than uniform rows in {sum(gain <= 0 for gain in gains)} of 20 pairs"


def law_8_gains_add_up_and_bounds_hold(method: Method) -> None:
    """Gains sum to a score objective at every prefix; those that are said to diminish do; the class's own bound holds."""
    w = gaussian(120, 4)
    for columns in column_sets(method):
        items = w.items(method, columns)
        selection = choose(method, items, 12)
        gains = selection.gains
        if gains is not None:
            assert np.isfinite(gains).all()
            if method.objective is not None and not covers(method):
                worth = [merit(method, w, selection.indices[:k]) for k in range(1, 13)]
                np.testing.assert_allclose(np.cumsum(gains), worth, rtol=1e-9)
            if method.diminishing:
                assert (np.diff(gains) <= 1e-9 * gains[0]).all(), "a gain is larger than the one before"
        assert gains is not None or not method.diminishing
        if hasattr(method, "bound"):
            found = method.bound(items, selection)
            assert found is None or found[1] <= found[2] * (1 + 1e-6), f"the bound is broken: {found}"


LAWS = [value for name, value in list(globals().items()) if name.startswith("law_")]

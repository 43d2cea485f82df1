"""Sizes of coresets and counts of queries."""

import math

import pytest

import kofn
from kofn.represent.coreset_sizes import BOUNDS, coreset_queries, coreset_size

ALMOST_ONE = 1 - 1e-15  # chance of failing: nothing is added for it


def bare(clusters, epsilon, **more):
    return coreset_size(clusters, epsilon, delta=ALMOST_ONE, **more)


def test_sizes_are_those_of_the_formulas():
    assert bare(16, 0.1) == 16 * 100 * 4  # sqrt(16) is less than 1 / 0.1^2
    assert bare(10_000, 0.5) == 10_000 * 4 * 4  # 1 / 0.5^2 is less than sqrt(10,000)
    assert bare(27, 0.1, cost="k-median") == 27 * 100 * 3  # the cube root of 27
    assert bare(1000, 0.25, cost="k-median") == 1000 * 16 * 4
    assert bare(50, 0.1, bound="stable") == 5000
    assert bare(50, 0.1, bound="framework", d=7) == 5000 * 7
    assert bare(50, 0.1, bound="framework", d=700) == 5000 * 100
    assert bare(50, 0.1, bound="feldman-langberg", d=3) == 3 * 50 * 10_000
    assert bare(50, 0.1, bound="feldman-langberg", d=3, cost="k-median") == 3 * 50 * 100
    assert bare(8, 0.5, bound="practical", d=2) == math.ceil(2 * 512 * math.log(8) * 4)
    assert bare(1, 0.01, bound="line", d=1, cost="k-median") == 10
    assert bare(1, 0.001, bound="line", d=2, cost="k-median") == 100
    assert bare(2, 0.01, bound="line", d=1, cost="k-median") == 200


def test_a_smaller_chance_of_failing_adds_its_logarithm_over_epsilon_squared():
    assert coreset_size(50, 0.1, bound="stable", delta=math.exp(-7)) == 5000 + 700
    assert coreset_size(2, 0.1, bound="line", d=1, cost="k-median", delta=1e-9) == 20


def test_the_constant_multiplies_and_the_number_of_rows_caps():
    assert bare(50, 0.1, bound="stable", constant=0.5) == 2500
    assert bare(50, 0.1, bound="stable", n=1797) == 1797
    assert bare(50, 0.9, bound="stable", constant=1e-9) == 50  # never fewer points than clusters


def test_every_bound_names_its_source_and_shrinks_as_epsilon_grows():
    for name, bound in BOUNDS.items():
        assert any(year in bound.source for year in map(str, range(2005, 2025))), name
        sizes = [bare(4, epsilon, bound=name, cost=bound.costs[-1], d=1) for epsilon in (0.01, 0.1, 0.5)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > sizes[-1]


def test_quantum_queries_are_a_square_root_of_the_rows():
    small, large = coreset_queries(10_000, 25, 16), coreset_queries(1_000_000, 25, 16)
    assert (small.classical, small.quantum, small.lower_bound) == (4_000_000, 500 * 64, 500)
    assert large.classical == 100 * small.classical
    assert large.quantum == 10 * small.quantum
    assert large.lower_bound == 10 * small.lower_bound


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": 1.0}, "epsilon=1.0"),
        ({"epsilon": math.nan}, "epsilon=nan"),
        ({"clusters": 0}, "clusters=0"),
        ({"clusters": 2.5}, "clusters=2.5"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"constant": 0.0}, "constant=0.0"),
        ({"n": 0}, "n=0"),
        ({"cost": "k-mode"}, "k-mode.*k-means, k-median"),
        ({"bound": "best"}, "best.*near-optimal"),
        ({"bound": "framework"}, "give d"),
        ({"bound": "framework", "d": 0}, "d=0"),
        ({"bound": "line", "d": 1}, "k-median, not k-means"),
        ({"bound": "line", "d": 2, "cost": "k-median"}, "d=2"),
    ],
)
def test_what_cannot_be_is_an_error_with_its_value(how, words):
    with pytest.raises(kofn.KofnError, match=words):
        coreset_size(**({"clusters": 5, "epsilon": 0.1} | how))
    with pytest.raises(kofn.KofnError, match="d=0"):
        coreset_queries(10, 10, 0)

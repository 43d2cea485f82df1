"""Stein thinning: the kernel's mean is zero under the target, the picks are those of the plain loop and mend biased samples."""

import numpy as np
import pytest

from kofn import KofnError, Selection
from kofn.represent.stein import stein_kernel, stein_thinning


def by_differences(x, of_x, y, of_y, length, step=1e-4):
    """The Stein operator on both arguments of the inverse multiquadric, derivatives by central differences."""

    def k(a, b):
        return (1 + ((a - b) ** 2).sum() / length**2) ** -0.5

    e = np.eye(len(x)) * step
    to_x = np.array([k(x + s, y) - k(x - s, y) for s in e]) / (2 * step)
    to_y = np.array([k(x, y + s) - k(x, y - s) for s in e]) / (2 * step)
    mixed = sum(k(x + s, y + s) - k(x + s, y - s) - k(x - s, y + s) + k(x - s, y - s) for s in e) / (4 * step**2)
    return mixed + to_x @ of_y + to_y @ of_x + k(x, y) * of_x @ of_y


def test_the_kernel_is_the_stein_operator_on_both_sides():
    rng = np.random.default_rng(0)
    x, of_x, y, of_y = rng.normal(size=(4, 6, 3))
    found = stein_kernel(x, of_x, y, of_y, bandwidth=1.7)
    expected = [
        [by_differences(a, s, b, t, 1.7) for b, t in zip(y, of_y, strict=True)] for a, s in zip(x, of_x, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("at", [-2.0, 0.0, 0.7])
def test_the_kernels_mean_under_the_target_is_zero(at):
    """A mixture of two normals on the line, integrated on a grid."""
    line = np.linspace(-15, 15, 30_001)[:, None]

    def parts(x):
        return 0.3 * np.exp(-((x + 2) ** 2) / 2), 0.7 * np.exp(-((x - 1) ** 2) / (2 * 0.25)) / 0.5

    def slope(x):
        a, b = parts(x)
        return (-(x + 2) * a - (x - 1) / 0.25 * b) / (a + b)

    density = sum(parts(line))[:, 0]
    point = np.array([[at]])
    values = stein_kernel(point, slope(point), line, slope(line), bandwidth=1.3)[0]
    assert abs(values @ density / density.sum()) < 1e-8 * np.abs(values).max() + 1e-9


def test_the_picks_are_those_of_the_plain_loop():
    x = np.random.default_rng(1).normal(size=(300, 2))
    k = stein_kernel(x, -x, x, -x, bandwidth=1.5)
    chosen = []
    for _ in range(25):
        score = 0.5 * np.diag(k) + k[:, chosen].sum(axis=1)
        score[chosen] = np.inf
        chosen.append(int(np.argmin(score)))
    found = stein_thinning(x, -x, 25, bandwidth=1.5)
    assert isinstance(found, Selection)
    np.testing.assert_array_equal(found.indices, chosen)
    np.testing.assert_allclose(found.weights, 300 / 25)
    assert found.provenance["discrepancy"] == pytest.approx(np.sqrt(k[np.ix_(chosen, chosen)].mean()), rel=1e-9)


def test_a_smaller_k_is_a_prefix_and_picks_are_distinct():
    x = np.repeat(np.random.default_rng(2).normal(size=(50, 2)), 3, axis=0)
    longest = stein_thinning(x, -x, 150).indices
    assert len(set(longest.tolist())) == 150
    np.testing.assert_array_equal(stein_thinning(x, -x, 20).indices, longest[:20])
    assert (longest[:10] % 3 == 0).all(), "ties go to the lowest row"


def test_a_biased_sample_is_mended():
    """Points of a normal with mean 1 and twice the spread, thinned to a standard normal: mean and spread become its own."""
    x = 1 + 2 * np.random.default_rng(3).normal(size=(4_000, 2))
    found = x[stein_thinning(x, -x, 100).indices]
    assert np.abs(x.mean(axis=0)).min() > 0.9
    assert np.abs(found.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(found.std(axis=0), 1, atol=0.15)


def test_the_first_pick_is_near_the_mode():
    x = np.array([[3.0], [0.2], [-1.0]])
    assert stein_thinning(x, -x, 1, bandwidth=1.0).indices.tolist() == [1]


@pytest.mark.parametrize(
    ("x", "gradients", "k", "more", "words"),
    [
        (np.ones((3, 2)), np.ones((3, 1)), 1, {}, "shape"),
        (np.ones(3), np.ones(3), 1, {}, "shape"),
        (np.ones((3, 1)), np.ones((3, 1)), 4, {}, "k=4 of 3"),
        (np.ones((3, 1)), np.ones((3, 1)), 0, {}, "k=0 of 3"),
        (np.ones((3, 1)), np.ones((3, 1)), True, {}, "k=True"),
        (np.ones((3, 1)), np.ones((3, 1)), 1, {"bandwidth": -1.0}, "bandwidth=-1"),
        (np.ones((3, 1)), np.ones((3, 1)), 1, {"bandwidth": np.nan}, "bandwidth=nan"),
        (np.array([[1.0], [np.nan], [np.inf]]), np.ones((3, 1)), 1, {}, "2 of 3 rows, the first at row 1"),
        ([["a"]], [["b"]], 1, {}, "not numbers"),
    ],
)
def test_a_callers_mistake_is_named(x, gradients, k, more, words):
    with pytest.raises(KofnError, match=words):
        stein_thinning(x, gradients, k, **more)

"""Kernels against their closed forms in float64, their roots by convolution, and sums against the plain double loop."""

from functools import partial

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import gamma, kv

from kofn.blocks.engine import run_tiles
from kofn.core.kernels import (
    KERNELS,
    kernel_of,
    lengths,
    mean_embedding,
    median_distance,
    product_tile,
    rows_of,
    scale,
    scaled,
    squared_mmd,
    taken,
)  # fmt: skip
from kofn.errors import ParameterError


def matern(r, smoothness, speed):
    z = np.maximum(speed * r, 1e-12)
    return 2 ** (1 - smoothness) / gamma(smoothness) * z**smoothness * kv(smoothness, z)


def spline(z):
    """The cubic B-spline with its peak at 1: support from -2 to 2."""
    z = np.abs(z)
    return np.where(z < 1, 1 - 1.5 * z**2 + 0.75 * z**3, 0.25 * np.maximum(0, 2 - z) ** 3)


def apart(a, b):
    return a[:, None].astype(np.float64) - b[None].astype(np.float64)


def radial(profile):
    return lambda a, b: profile(np.sqrt((apart(a, b) ** 2).sum(axis=2)))


def product(profile):
    return lambda a, b: profile(apart(a, b)).prod(axis=2)


FORMS = {
    ("gaussian", "target"): radial(lambda r: np.exp(-(r**2) / 2)),
    ("laplace", "target"): radial(lambda r: np.exp(-r)),
    ("matern32", "target"): radial(lambda r: matern(r, 1.5, np.sqrt(3))),
    ("matern52", "target"): radial(lambda r: matern(r, 2.5, np.sqrt(5))),
    ("imq", "target"): radial(lambda r: (1 + r**2) ** -0.5),
    ("sinc", "target"): product(lambda z: np.sinc(z / np.pi)),
    ("bspline", "target"): product(spline),
    ("gaussian", "root"): radial(lambda r: np.exp(-(r**2))),  # the bandwidth over sqrt(2)
    ("matern32", "root"): radial(lambda r: matern(r, 0.25, np.sqrt(3))),  # in two dimensions: 3/4 - 2/4
    ("matern52", "root"): radial(lambda r: matern(r, 0.75, np.sqrt(5))),
    ("imq", "root"): radial(lambda r: (1 + (r / 0.45) ** 2) ** -0.75),
    ("sinc", "root"): product(lambda z: np.sinc(z / np.pi)),
    ("bspline", "root"): product(lambda z: np.maximum(0, 1 - np.abs(z))),
    ("laplace", "power"): radial(lambda r: matern(r, 0.25, 1.0)),
    ("matern32", "power"): radial(lambda r: np.exp(-np.sqrt(3) * r)),
    ("matern52", "power"): radial(lambda r: matern(r, 1.5, np.sqrt(5))),
}


def points(n, d, seed=0, spread=1.0):
    return (spread * np.random.default_rng(seed).normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize(("name", "power"), FORMS, ids=str)
@pytest.mark.parametrize("spread", [0.1, 1.0, 20.0])
def test_values_are_those_of_the_closed_form(name, power, spread):
    a, b = points(60, 2, 1, spread), points(700, 2, 2, spread)
    a[0] = b[5]
    found = kernel_of(name, 2, power).values(a, b)
    np.testing.assert_allclose(found, FORMS[name, power](a, b), rtol=0, atol=1e-6)
    assert found[0, 5] == pytest.approx(1, abs=2e-7)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 7, 9])
@pytest.mark.parametrize("name", KERNELS)
def test_every_number_of_dimensions_counts_each_coordinate(name, d):
    a, b = points(30, d, 3), points(40, d, 4)
    np.testing.assert_allclose(kernel_of(name, d).values(a, b), FORMS[name, "target"](a, b), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_plus_is_the_mean_of_the_kernel_and_its_power(name):
    a, b = points(20, 3, 5), points(30, 3, 6)
    parts = [kernel_of(name, 3, power).values(a, b) for power in ("target", "power")]
    np.testing.assert_allclose(kernel_of(name, 3, "plus").values(a, b), (parts[0] + parts[1]) / 2, rtol=0, atol=3e-7)


ROOTLESS = {("laplace", 1), ("laplace", 2), ("laplace", 3), ("matern32", 3)}


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_and_what_they_are_built_from_are_positive_definite(name, d):
    x = points(150, d, 7)
    for power in ("target", "power", "plus", *(() if (name, d) in ROOTLESS else ("root",))):
        least = np.linalg.eigvalsh(kernel_of(name, d, power).values(x, x).astype(np.float64)).min()
        assert least > -2e-5, power


@pytest.mark.parametrize("name", ["gaussian", "matern32", "matern52", "bspline", "sinc"])
def test_a_root_convolved_with_itself_is_the_kernel(name):
    """On the line, up to a factor; the tails of the sinc, which fall as 1/z only, are cut off."""
    line = np.arange(-400, 400, 0.02, dtype=np.float32)[:, None]
    at = np.linspace(0, 3, 13, dtype=np.float32)[:, None]
    root = kernel_of(name, 1, "root")
    convolved = root.values(at, line).astype(np.float64) @ root.values(line, np.zeros((1, 1), np.float32))[:, 0]
    expected = kernel_of(name, 1).values(at, np.zeros((1, 1), np.float32))[:, 0]
    tolerance = 2e-3 if name in ("sinc", "matern32") else 3e-4  # of the sum over a grid
    np.testing.assert_allclose(convolved / convolved[0], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 100])
def test_the_squared_spectrum_of_the_multiquadrics_root_dominates_its_own(d):
    """(c^2 + r^2)^-p has the spectral density (w / c)^(p - d/2) K_(d/2 - p)(c w), up to a factor."""

    def log_density(w, c, p):
        return (p - d / 2) * np.log(w / c) + np.log(kv(d / 2 - p, c * w))

    _, by, exponent, _ = kernel_of("imq", d, "root").terms[0]
    w = np.geomspace(1e-2, 300, 400)
    ratio = 2 * log_density(w, 1 / by, exponent) - log_density(w, 1.0, 0.5)
    at_one = float(np.interp(1.0, w, ratio))
    assert np.isfinite(ratio).all()
    assert (ratio - at_one).min() > -0.3 * d - 1, "falls away from a constant"
    assert ratio[-1] > ratio[-50], "falls behind at high frequencies"
    assert ratio[0] > ratio[20] - 0.05, "falls behind at low frequencies"


@pytest.mark.parametrize(("name", "d"), [("laplace", 1), ("matern32", 3), ("matern52", 5)])
def test_a_kernel_without_a_square_root_says_what_can_be_used(name, d):
    with pytest.raises(
        ParameterError, match=f"{name} kernel has no square root in {d} dimensions.*target, power or plus"
    ):
        kernel_of(name, d, "root")


def test_the_median_is_of_distances_between_different_rows():
    assert median_distance(np.array([[0.0], [1.0], [3.0]], np.float32)) == 2.0  # 1, 2, 3
    assert median_distance(np.array([[0.0], [0.0], [4.0]], np.float32)) == 4.0
    assert median_distance(np.ones((5, 2), np.float32)) == 1.0


def test_the_median_of_many_rows_is_that_of_rows_at_equal_steps():
    x = np.repeat(np.arange(1_000, dtype=np.float32), 3)[:, None]
    assert median_distance(x) == median_distance(x[::3])


def test_scaled_points_do_not_mind_an_offset():
    x = points(500, 3) * 8
    near, far = scaled(np.round(x), 2.0), scaled(np.round(x) + np.float32(1e5), 2.0)
    np.testing.assert_array_equal(near, far)
    np.testing.assert_allclose(near, ((np.round(x) - np.round(x).mean(axis=0)) / 2).T, atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "sinc"])
def test_a_mean_embedding_is_the_weighted_double_sum(name):
    x, t = points(1_700, 3, 8), points(1_300, 3, 9)
    w = np.random.default_rng(1).uniform(-1, 1, len(x))
    found = mean_embedding(x.T.copy(), w, t.T.copy(), kernel_of(name, 3))
    np.testing.assert_allclose(found, w @ FORMS[name, "target"](x, t), rtol=0, atol=2e-5)


def test_threads_change_no_bit_of_a_mean_embedding():
    x, w = points(3_000, 5, 10).T.copy(), np.random.default_rng(2).uniform(size=3_000)
    one = mean_embedding(x, w, x, kernel_of("matern52", 5, "plus"))
    two = mean_embedding(x, w, x, kernel_of("matern52", 5, "plus"), partial(run_tiles, workers=2), lambda *done: None)
    assert one.tobytes() == two.tobytes()


def test_a_squared_mmd_is_that_of_the_double_sum():
    x = points(400, 2, 11)
    w = np.full(400, 1 / 400)
    w[:20] -= 1 / 20
    expected = w @ FORMS["gaussian", "target"](x, x) @ w
    assert squared_mmd(x.T.copy(), w, kernel_of("gaussian", 2)) == pytest.approx(expected, abs=1e-8)


CROWDS = {
    "normal": lambda rng, d: rng.normal(size=(500, d)),
    "far clusters": lambda rng, d: 30 * rng.normal(size=(5, d))[rng.integers(0, 5, 500)] + rng.normal(size=(500, d)),
    "pixels": lambda rng, d: 255 * np.maximum(0, rng.normal(size=(500, 1)) + rng.normal(size=(500, d))),
    "outliers": lambda rng, d: rng.normal(size=(500, d)) * np.exp(3 * rng.normal(size=(500, 1))),
}


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("d", [16, 100, 784])
def test_values_from_products_are_those_by_differences_even_where_rows_are_close(crowd, d):
    x = CROWDS[crowd](np.random.default_rng(d), d).astype(np.float32)
    x[5], x[9] = x[77], x[88] * np.float32(1.0001)
    rows = rows_of(scaled(x, median_distance(x)))
    for name in ("gaussian", "laplace", "matern32", "matern52", "imq"):
        for power in ("target", "plus"):
            found, form = np.empty((500, 500), np.float32), kernel_of(name, d, power)
            product_tile(rows, lengths(rows), rows, lengths(rows), form, found)
            np.testing.assert_allclose(found, form.values(rows, rows), rtol=0, atol=1e-5)
            assert found[5, 77] == found[77, 5] == pytest.approx(1, abs=2e-7)


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_takes_as_many_coordinates_as_there_are(name):
    """From 16 on radial kernels are computed from products, those over coordinates as before."""
    for d in (15, 16, 17):
        x, t = 0.3 * points(600, d, 12), 0.3 * points(90, d, 13)
        w = np.random.default_rng(3).uniform(-1, 1, len(x))
        form = kernel_of(name, d)
        assert form.by_products(d) == (d >= 16 and name not in ("sinc", "bspline"))
        found = mean_embedding(x.T.copy(), w, t.T.copy(), form)
        np.testing.assert_allclose(found, w @ FORMS[name, "target"](x, t), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [1, 511, 513, 2_600])
def test_a_mean_embedding_of_wide_rows_at_themselves_is_that_at_a_copy_of_them(n):
    x, w = points(n, 20, 14).T.copy(), np.random.default_rng(4).uniform(-1, 1, n)
    form = kernel_of("gaussian", 20)
    x /= 5
    among = mean_embedding(x, w, x, form)
    np.testing.assert_allclose(among, mean_embedding(x, w, x.copy(), form), rtol=0, atol=1e-4)
    np.testing.assert_allclose(among[:50], w @ FORMS["gaussian", "target"](x.T, x.T[:50]), rtol=0, atol=1e-4)


def test_neither_threads_nor_the_order_in_memory_change_a_bit_of_a_mean_embedding_of_wide_rows():
    x, w = points(5_000, 32, 15).T.copy() / 6, np.random.default_rng(5).uniform(size=5_000)
    form, t = kernel_of("laplace", 32), taken(x, np.arange(0, 5_000, 2))
    two, lying = partial(run_tiles, workers=2), np.asfortranarray(x)
    some = taken(lying, np.arange(0, 5_000, 2))
    assert some.flags.f_contiguous
    assert t.flags.c_contiguous
    assert mean_embedding(x, w, t, form).tobytes() == mean_embedding(lying, w, some, form, two).tobytes()
    told = mean_embedding(lying, w, lying, form, two, lambda *done: None)
    assert mean_embedding(x, w, x, form).tobytes() == told.tobytes()


def test_scaling_does_not_mind_how_points_lie_in_memory():
    x = points(300, 7, 16).T
    one, other = np.array(x, order="C"), np.array(x, order="F")
    for columns in (one, other):
        scale(columns, 3.0)
    np.testing.assert_array_equal(one, other)


def test_the_median_is_numpy_s_for_even_and_odd_numbers_of_distances():
    for n in (2, 3, 4, 5, 8, 30, 999):
        x = points(n, 3, n)
        assert median_distance(x) == np.median(pdist(x.astype(np.float64)))
        twice = np.concatenate([x, x[: n // 2]])[:1_000]
        apart = pdist(twice.astype(np.float64))
        assert median_distance(twice) == np.median(apart[apart > 0])

"""Kernel thinning: its MMD beside random rows, equal steps and the authors' package; any k, weights, rows that are had."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from kofn import Items, KofnError, Rng
from kofn.blocks import Run
from kofn.core.kernels import KERNELS, kernel_of
from kofn.represent import thinning as module
from kofn.represent.thinning import Thinning, resampled


def gaussian_rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


class Truth:
    """MMD to all rows under the Gaussian kernel with the median bandwidth, by the double sum in float64."""

    def __init__(self, x, weights=None):
        self.x = x.astype(np.float64)
        apart = pdist(self.x[np.arange(min(1_000, len(x))) * len(x) // min(1_000, len(x))])
        self.bandwidth = np.median(apart[apart > 0])
        w = np.ones(len(x)) if weights is None else weights
        self.mean = np.concatenate([self.values(part, self.x) @ (w / w.sum()) for part in np.array_split(self.x, 8)])
        self.own = self.mean @ (w / w.sum())

    def values(self, a, b):
        return np.exp(-cdist(a, b, "sqeuclidean") / (2 * self.bandwidth**2))

    def mmd(self, rows):
        p = self.x[rows]
        return np.sqrt(max(0, self.own - 2 * self.mean[rows].mean() + self.values(p, p).mean()))


def picks(x, k, seed=0, weights=None, have=None, threads=1, **parameters):
    items = Items(embeddings=x, weights=weights, have=have, run=Run(threads))
    return Thinning(**parameters).select(items, k, Rng(seed))


@pytest.fixture(scope="module", params=[2, 10])
def paper(request):
    """4,096 Gaussian rows in two and in ten dimensions, as in the paper's first figures."""
    d = request.param
    return d, gaussian_rows(4_096, d), Truth(gaussian_rows(4_096, d))


def test_64_of_4096_gaussian_rows_are_far_nearer_than_random_rows_and_rows_at_equal_steps(paper):
    d, x, truth = paper
    rng = np.random.default_rng(1)
    thinned = np.mean([truth.mmd(picks(x, 64, seed).indices) for seed in range(5)])
    chance = np.mean([truth.mmd(rng.choice(4_096, 64, replace=False)) for _ in range(20)])
    steps = np.mean([truth.mmd(np.arange(start, 4_096, 64)) for start in range(0, 64, 4)])
    limit = 0.6 if d == 2 else 1.0
    assert thinned < limit * min(chance, steps)


GOODPOINTS = {2: 0.005230, 10: 0.019395}
"""Mean MMD of kt.thin_K of goodpoints 0.6.3 (numpy 2, seeds 0 to 29, m=6, delta=0.5, unique=True) on `gaussian_rows(4096, d)`
with this kernel and bandwidth. Standard errors: 0.00018 and 0.00016."""


def test_the_mmd_is_that_of_the_authors_package_with_one_pass_of_swaps_and_less_with_more(paper):
    """Over 20 seeds ours has a standard error of 4 % (2 % in ten dimensions), so one pass is held to 20 %, all to 5 %."""
    d, x, truth = paper
    once = np.mean([truth.mmd(picks(x, 64, seed, rounds=1).indices) for seed in range(20)])
    more = np.mean([truth.mmd(picks(x, 64, seed).indices) for seed in range(10)])
    assert once < 1.2 * GOODPOINTS[d]
    assert more < 1.05 * GOODPOINTS[d]


def slope(sizes, mmds):
    return np.polyfit(np.log(sizes), np.log(mmds), 1)[0]


def test_the_mmd_in_two_dimensions_falls_faster_than_the_size_to_the_three_quarters():
    """k^2 rows to k, with swaps and for the split alone. Random rows have a slope of -1/2."""
    sizes, swapped, split = (8, 16, 32, 48), [], []
    for k in sizes:
        data = [gaussian_rows(k * k, 2, seed) for seed in range(3)]
        truths = [Truth(x) for x in data]
        for mmds, rounds in ((swapped, 10), (split, 0)):
            found = [
                t.mmd(picks(x, k, s, rounds=rounds).indices)
                for x, t in zip(data, truths, strict=True)
                for s in range(6)
            ]
            mmds.append(np.mean(found))
    assert slope(sizes, swapped) < -0.75, swapped
    assert slope(sizes, split) < -0.6, split


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_s_own_mmd_falls_faster_than_by_chance(kernel):
    """k^2 rows in two dimensions to k; KT+ for those without a smooth square root."""
    rough = kernel in ("laplace", "matern32", "matern52")
    mmds, chance = [], []
    for k in (12, 24, 48):
        found, random = [], []
        for seed in range(2):
            x = gaussian_rows(k * k, 2, seed)
            points = ((x - x.mean(axis=0)) / Truth(x[:1_000]).bandwidth).astype(np.float32)
            gram = kernel_of(kernel, 2).values(points, points).astype(np.float64)

            def mmd(rows, gram=gram):
                w = np.full(len(gram), -1 / len(gram))
                w[rows] += 1 / len(rows)
                return np.sqrt(max(0, w @ gram @ w))

            parameters = {
                "kernel": kernel,
                "algorithm": "plus" if rough else "target",
                "bandwidth": Truth(x[:1_000]).bandwidth,
            }
            found.append(mmd(picks(x, k, seed, **parameters).indices))
            random.append(mmd(np.random.default_rng(seed).permutation(k * k)[:k]))
        mmds.append(np.mean(found))
        chance.append(np.mean(random))
    assert slope((12, 24, 48), mmds) < -0.6, mmds
    assert mmds[-1] < 0.6 * chance[-1]


@pytest.mark.parametrize("algorithm", ["target", "root", "power", "plus"])
def test_every_algorithm_thins_alone_better_than_chance(algorithm):
    x = gaussian_rows(4_096, 2)
    truth = Truth(x)
    found = np.mean([truth.mmd(picks(x, 64, seed, algorithm=algorithm, rounds=0).indices) for seed in range(6)])
    assert found < 0.75 / np.sqrt(64)


def test_the_algorithm_and_the_kernel_matter():
    x = gaussian_rows(600, 3)
    answers = [picks(x, 30, algorithm=a, kernel=k, rounds=0).indices.tobytes()
               for k in ("matern52", "imq") for a in ("target", "power", "plus")]  # fmt: skip
    assert len(set(answers)) == 6


def test_blocks_first_lose_little_and_threads_change_nothing():
    """9,216 rows to 96: within twice the plain form's MMD, for swaps have fewer candidates; a fifth of random rows'."""
    x = gaussian_rows(9_216, 2)
    truth = Truth(x)
    plain = truth.mmd(picks(x, 96, compress="never", threads=2).indices)
    blocks = [picks(x, 96, s, compress="always", oversampling=3, threads=2).indices for s in range(3)]
    found = np.mean([truth.mmd(each) for each in blocks])
    assert found < 2 * plain
    assert found < 0.2 * 0.75 / np.sqrt(96)
    np.testing.assert_array_equal(picks(x, 96, 0, compress="always", oversampling=3).indices, blocks[0])


def test_more_oversampling_brings_the_halving_nearer():
    x = gaussian_rows(4_096, 2)
    truth = Truth(x)
    few, many = (
        np.mean([truth.mmd(picks(x, 64, s, compress="always", oversampling=g, rounds=0).indices) for s in range(12)])
        for g in (0, 4)
    )
    assert many < few


@pytest.mark.parametrize("compress", ["never", "always"])
@pytest.mark.parametrize("k", [1, 7, 63, 65, 500, 999])
def test_any_k_gives_distinct_rows_nearer_than_equal_steps(k, compress):
    x = gaussian_rows(1_000, 2)
    truth = Truth(x)
    found = picks(x, k, compress=compress, oversampling=1)
    assert len(set(found.indices.tolist())) == k
    assert truth.mmd(found.indices) < truth.mmd((2 * np.arange(k) + 1) * 1_000 // (2 * k))


def test_weights_say_what_the_picks_shall_stand_for():
    """Left rows count nine times: the picks follow the weighted rows, not the rows."""
    x = gaussian_rows(3_000, 2)
    weights = np.where(x[:, 0] < 0, 9.0, 1.0)
    found = picks(x, 100, weights=weights)
    assert (x[found.indices, 0] < 0).mean() == pytest.approx(0.9, abs=0.02)
    np.testing.assert_allclose(found.weights, weights.sum() / 100)
    truth = Truth(x, weights)
    assert truth.mmd(found.indices) < 0.02


def test_rows_that_are_had_are_completed():
    """All of the left half is there: picks go to the right until both together are as the rows."""
    x = gaussian_rows(1_000, 2)
    left = np.flatnonzero(x[:, 0] < 0)
    had = left[:: len(left) // 50][:50]
    found = picks(x, 50, have=had)
    assert (x[found.indices, 0] > 0).sum() > 45
    assert not np.isin(found.indices, had).any()
    together = Truth(x).mmd(np.concatenate([found.indices, had]))
    assert together < 0.25 * Truth(x).mmd(np.concatenate([picks(x, 50, seed=1).indices, had]))


def test_slots_are_shared_out_in_proportion_to_weight():
    weights = np.array([1.0, 2.0, 0.5, 4.5])
    for seed in range(50):
        counts = np.bincount(resampled(np.arange(4), weights, 16, Rng(seed)), minlength=4)
        np.testing.assert_array_equal(counts, [2, 4, 1, 9])
    counts = np.mean(
        [np.bincount(resampled(np.arange(4), weights, 5, Rng(s)), minlength=4) for s in range(2_000)], axis=0
    )
    np.testing.assert_allclose(counts, weights * 5 / 8, atol=5.5 * 0.5 / np.sqrt(2_000))


def test_slots_of_equal_rows_are_all_rows_where_they_divide():
    np.testing.assert_array_equal(resampled(np.arange(3, 11), np.ones(20), 16, Rng(5)), np.repeat(np.arange(3, 11), 2))


@pytest.mark.parametrize(
    ("k", "rounds", "thin", "oversampling"), [(256, 8, 5, 4), (10, 14, 1, 0), (3_000, 5, 2, 1), (20_000, 2, 0, 4)]
)
def test_blocks_hold_every_pair_once_and_are_never_too_large(k, rounds, thin, oversampling):
    plan = module.Plan(k, rounds, thin, oversampling, whole=False)
    cuts = plan.cuts()
    assert len(cuts) == rounds - thin
    for at, each in enumerate(cuts):
        assert each[0] == 0
        assert each[-1] == k << (rounds - at - 1)
        assert (np.diff(each) > 0).all()
        assert np.diff(each).max() <= module.WIDEST // 2


def test_blocks_of_65536_rows_thinned_to_256_are_those_of_the_paper():
    """Oversampling 4: 65,536 slots in 64 blocks of 1,024, then 16 of 2,048 and 4 of 4,096; 8,192 are split as a whole."""
    plan = Thinning(compress="always")._plan(65_536, 2, 256)
    assert [len(cuts) - 1 for cuts in plan.cuts()] == [64, 16, 4]
    assert plan.k << plan.thin == 8_192


def test_the_bandwidth_is_the_median_distance_unless_it_is_given():
    x = gaussian_rows(900, 3)
    assert picks(x, 10).provenance["bandwidth"] == pytest.approx(Truth(x).bandwidth, rel=1e-12)
    given = Thinning(bandwidth=float(Truth(x).bandwidth)).select(Items(embeddings=x), 10, Rng(0))
    np.testing.assert_array_equal(given.indices, picks(x, 10).indices)
    assert (picks(x, 10, bandwidth=0.1).indices != given.indices).any()


def test_scale_and_place_of_the_rows_do_not_matter():
    x = np.round(gaussian_rows(500, 3) * 64) / 64
    moved = (x + np.float32(512)) * np.float32(4)
    np.testing.assert_array_equal(picks(x, 20).indices, picks(moved, 20).indices)


def test_cosine_thins_directions():
    x = gaussian_rows(800, 4)
    longer = x * np.exp2(np.random.default_rng(0).integers(-3, 4, (800, 1))).astype(np.float32)
    np.testing.assert_array_equal(picks(x, 25, metric="cosine").indices, picks(longer, 25, metric="cosine").indices)


def test_a_kernel_without_a_root_is_an_error_that_says_which_algorithms_work():
    with pytest.raises(KofnError, match=r"laplace kernel has no square root.*target, power or plus"):
        Thinning(kernel="laplace", algorithm="root")
    with pytest.raises(KofnError, match="matern32 kernel has no square root in 3 dimensions"):
        picks(gaussian_rows(50, 3), 5, kernel="matern32", algorithm="root")
    assert len(picks(gaussian_rows(50, 2), 5, kernel="matern32", algorithm="root")) == 5


def test_swaps_never_raise_the_mmd():
    x = gaussian_rows(2_000, 5)
    truth = Truth(x)
    for compress in ("never", "always"):
        mmds = [truth.mmd(picks(x, 40, rounds=r, compress=compress).indices) for r in (1, 2, 5, 50)]
        assert (np.diff(mmds) <= 1e-7).all()


def test_delta_sets_how_wary_the_coins_are():
    method = Thinning()
    x = gaussian_rows(1_000, 2)
    wary = replace(method, delta=1e-9, rounds=0).select(Items(embeddings=x), 31, Rng(0))
    bold = replace(method, delta=1.0, rounds=0).select(Items(embeddings=x), 31, Rng(0))
    assert (wary.indices != bold.indices).any()


@pytest.mark.parametrize("parameters", [{}, {"compress": "always", "oversampling": 1, "kernel": "laplace"}], ids=str)
def test_rows_of_many_columns_are_thinned_alike_by_any_number_of_threads(parameters):
    """4,500 rows in 40 columns, three quarters of whose spread is in two of them; weights, and rows that are had."""
    x = gaussian_rows(4_500, 40)
    x[:, 2:] *= 0.1
    rng, have = np.random.default_rng(3), np.arange(4_500) % 500 == 0
    w = rng.uniform(0.5, 2, 4_500)
    one = picks(x, 64, 1, weights=w, have=have, **parameters).indices
    np.testing.assert_array_equal(picks(x, 64, 1, weights=w, have=have, threads=2, **parameters).indices, one)
    assert not have[one].any()
    truth = Truth(x, w)
    rows = np.concatenate([one, np.flatnonzero(have)])
    chance = [truth.mmd(rng.choice(4_500, len(rows), replace=False)) for _ in range(10)]
    assert truth.mmd(rows) < 0.6 * np.mean(chance)

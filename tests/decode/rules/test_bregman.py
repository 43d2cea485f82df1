"""Bregman decoding against brute force over all supports, and its closed forms."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from kofn.core.block import Doubles
from kofn.decode import Bregman, TopK
from kofn.decode.rules.nearest_law import best_length, divergence, renormalized
from kofn.errors import ParameterError

CASES = [
    (1.0, False),
    (1.5, False),
    (2.0, False),
    (3.0, False),
    (0.5, False),
    (1.3, True),
    (1.5, True),
    (2.0, True),
    (3.5, True),
]


def laws(count: int, size: int) -> list[Doubles]:
    rng = np.random.default_rng(2)
    return [np.sort(rng.dirichlet(np.full(size, 0.5)) + 1e-12)[::-1] for _ in range(count)]


def objective(p: Doubles, support: list[int], alpha: float, dual: bool, penalty: float) -> float:
    q = np.zeros_like(p)
    q[support] = renormalized(p[support] / p.sum(), alpha, dual)
    p = p / p.sum()
    return (divergence(p, q, alpha) if dual else divergence(q, p, alpha)) + penalty * len(support)


@pytest.mark.parametrize(("alpha", "dual"), CASES)
@pytest.mark.parametrize("penalty", [1e-4, 0.01, 0.1])
def test_a_prefix_of_the_length_found_is_the_best_of_all_supports(alpha: float, dual: bool, penalty: float) -> None:
    for p in laws(3, 8):
        p = p / p.sum()
        best = min(
            objective(p, list(some), alpha, dual, penalty)
            for size in range(1, 9)
            for some in combinations(range(8), size)
        )
        k = best_length(p, penalty, alpha, dual)
        assert objective(p, list(range(k)), alpha, dual, penalty) - best < 1e-9


@pytest.mark.parametrize(("alpha", "dual"), CASES)
def test_the_loss_is_discretely_convex_in_k(alpha: float, dual: bool) -> None:
    for p in laws(5, 30):
        losses = np.array([objective(p, list(range(k)), alpha, dual, 0.0) for k in range(1, 31)])
        assert (np.diff(losses, 2) > -1e-10).all()


@pytest.mark.parametrize(("alpha", "dual"), CASES)
def test_no_other_law_on_the_tokens_is_nearer(alpha: float, dual: bool) -> None:
    for p in laws(4, 6):
        p = (p / p.sum())[:4]
        q = renormalized(p, alpha, dual)
        assert q.sum() == pytest.approx(1, abs=1e-12)
        assert (np.diff(q) <= 1e-12).all()  # keeps the order of p

        def loss(z: Doubles, p: Doubles = p) -> float:
            other = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            return divergence(p, other, alpha) if dual else divergence(other, p, alpha)

        found = minimize(
            loss, np.log(q), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
        )
        assert loss(np.log(q)) <= found.fun + 1e-9


def test_kl_is_renormalised_top_k_and_other_alphas_are_not() -> None:
    x = (np.random.default_rng(0).normal(size=(20, 400)) * 3).astype(np.float32)
    for row in x:
        kl, top = Bregman(k=7, alpha=1.0)(row), TopK(7)(row)
        kept = np.isfinite(top)
        assert np.array_equal(np.isfinite(kl), kept)
        e = np.exp(top[kept] - top.max())
        q = np.exp(kl[kept]) / np.exp(kl[kept]).sum()
        assert q == pytest.approx(e / e.sum(), abs=1e-6)
        flat = np.exp(Bregman(k=7, alpha=3.0)(row)[kept])
        steep = np.exp(Bregman(k=7, alpha=0.5)(row)[kept])
        best = int(np.argmax(e))
        assert flat[best] / flat.sum() < q[best] < steep[best] / steep.sum()


def test_a_dearer_token_means_fewer_of_them() -> None:
    row = (np.random.default_rng(1).normal(size=30_000) * 1.5).astype(np.float32)
    sizes = [int(np.isfinite(Bregman(price, alpha=1.2)(row)).sum()) for price in (1e-5, 1e-4, 1e-3, 1e-1)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1_024
    assert sizes[-1] <= 5


def test_a_long_row_gives_the_same_k_as_all_its_probabilities_at_once() -> None:
    row = (np.random.default_rng(1).normal(size=3_000) * 1.5).astype(np.float32)
    p = np.exp(row.astype(np.float64) - row.max())
    p = np.sort(p / p.sum())[::-1]
    for alpha, dual, penalty in [(1.0, False, 1e-3), (1.5, True, 1e-6), (2.5, False, 1e-7)]:
        expected = best_length(p, penalty, alpha, dual)
        assert int(np.isfinite(Bregman(penalty, alpha=alpha, dual=dual)(row)).sum()) == expected


def test_wrong_parameters_are_errors() -> None:
    for wrong in (
        {},
        {"penalty": 1e-3, "k": 5},
        {"penalty": 0},
        {"k": 0},
        {"k": 5, "alpha": 0},
        {"k": 5, "alpha": 1, "dual": True},
    ):
        with pytest.raises(ParameterError, match="Bregman"):
            Bregman(**wrong)  # type: ignore[arg-type]

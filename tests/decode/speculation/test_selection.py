"""The importance-weighted choice among several drafts."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from kofn.decode.speculation.program import program_acceptance, recursive_rejection_acceptance
from kofn.decode.speculation.selection import DraftChoice, best_acceptance, choose_token
from kofn.errors import KofnError, UsageError


def pairs(count: int, seed: int = 0):
    """Laws of a target and of drafts, flat and peaked, some with tokens that cannot be."""
    rng = np.random.default_rng(seed)
    for trial in range(count):
        size = int(rng.integers(2, 7))
        p, q = (rng.dirichlet(np.full(size, rng.choice([0.2, 1, 5]))) for _ in range(2))
        if trial % 5 == 0:
            q[rng.integers(size)] = 0
        if trial % 7 == 0:
            p[rng.integers(size)] = 0
        yield p / p.sum(), q / q.sum()


def least_over_all_sets(p, q, drafts):
    sets = (list(s) for r in range(len(p) + 1) for s in combinations(range(len(p)), r))
    return min(1 + p[s].sum() - q[s].sum() ** drafts for s in sets)


@pytest.mark.parametrize("drafts", [1, 2, 3])
def test_choice_and_closed_form_and_linear_program_and_all_subsets_agree(drafts):
    for p, q in pairs(40, drafts):
        best = program_acceptance(p, [q] * drafts)
        assert least_over_all_sets(p, q, drafts) == pytest.approx(best, abs=1e-8)
        assert best_acceptance(p, q, drafts) == pytest.approx(best, abs=1e-8)
        assert np.minimum(p, DraftChoice(p, q, drafts).intermediate).sum() == pytest.approx(best, abs=1e-8)


def test_two_drafts_are_always_accepted_exactly_if_no_set_is_drafted_too_often():
    seen = set()
    for p, q in pairs(300, 5):
        sets = [list(s) for r in range(len(p) + 1) for s in combinations(range(len(p)), r)]
        holds = all(p[s].sum() >= q[s].sum() ** 2 - 1e-12 for s in sets)
        assert (best_acceptance(p, q, 2) > 1 - 1e-9) == holds
        seen.add(holds)
    assert seen == {True, False}


def test_two_coins_by_hand():
    # q(head)^2 = 0.64 of the pairs show heads twice and p(head) = 0.5: 0.14 must be refused
    p, q = np.array([0.5, 0.5]), np.array([0.8, 0.2])
    assert best_acceptance(p, q, 2) == pytest.approx(0.86)
    assert DraftChoice(p, q, 2).intermediate == pytest.approx([0.64, 0.36])
    assert recursive_rejection_acceptance(p, q, 2) == pytest.approx(0.7 + 0.3 * 0.2)


def test_recursive_rejection_is_never_better_and_sometimes_worse():
    gains = [
        best_acceptance(p, q, k) - recursive_rejection_acceptance(p, q, k) for k in (2, 3) for p, q in pairs(300, 9)
    ]
    assert min(gains) > -1e-12
    assert np.mean(gains) > 0.01


@pytest.mark.parametrize("drafts", [2, 3])
def test_the_pick_has_the_intermediate_law(drafts):
    rng = np.random.default_rng(drafts)
    p, q = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
    choice = DraftChoice(p, q, drafts)
    drafted = rng.choice(8, size=(5_000, drafts), p=q)
    picks = [row[choice.pick(row, u)] for row, u in zip(drafted, rng.random((5_000, drafts, 2)), strict=True)]
    assert stats.chisquare(np.bincount(picks, minlength=8), 5_000 * choice.intermediate).pvalue > 1e-6
    assert choice.intermediate.sum() == pytest.approx(1)


def test_a_hundred_thousand_tokens_from_two_drafts_have_the_law_of_the_target():
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
    choice = DraftChoice(p, q, 2)
    drafted = rng.choice(8, size=(100_000, 2), p=q).tolist()
    u = rng.random((100_000, 6))
    found = [choice.emit(row, v[2:].reshape(2, 2), v[0], v[1]) for row, v in zip(drafted, u, strict=True)]
    counts = np.bincount([token for token, _ in found], minlength=8)
    assert stats.chisquare(counts, 100_000 * p).pvalue > 1e-6
    assert 0.5 * np.abs(counts / 100_000 - p).sum() < 0.01
    assert np.mean([kept for _, kept in found]) == pytest.approx(best_acceptance(p, q, 2), abs=0.01)


@pytest.mark.parametrize("pair", [(3, 2), (11, 2), (4, 3)])
def test_the_chosen_token_has_the_law_of_the_target(pair):
    seed, drafts = pair
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
    drafted = rng.choice(8, size=(2_000, drafts), p=q)
    u = rng.random((2_000, 2 * drafts + 2))
    found = [choose_token(p, q, row, v[2:].reshape(-1, 2), v[0], v[1]) for row, v in zip(drafted, u, strict=True)]
    tokens, accepted = np.array([token for token, _ in found]), np.array([kept for _, kept in found])
    assert stats.chisquare(np.bincount(tokens, minlength=8), 2_000 * p).pvalue > 1e-6
    assert all(token in row for token, kept, row in zip(tokens, accepted, drafted, strict=True) if kept)
    expected = best_acceptance(p, q, drafts)
    assert abs(accepted.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / 2_000) + 1e-9


def test_one_draft_is_plain_speculative_sampling():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    assert DraftChoice(p, q, 1).intermediate == pytest.approx(q)
    assert choose_token(p, q, [2], np.array([[0.3, 0.3]]), 0.2 / 0.6 - 1e-9, 0.5) == (2, True)
    # (p - q)+ = (0.3, 0.1, 0)
    assert choose_token(p, q, [2], np.array([[0.3, 0.3]]), 0.2 / 0.6 + 1e-9, 0.74) == (0, False)
    assert choose_token(p, q, [2], np.array([[0.3, 0.3]]), 0.2 / 0.6 + 1e-9, 0.76) == (1, False)


def test_equal_drafts_are_picked_whatever_the_uniforms_say():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    for u in product((0.01, 0.5, 0.99), repeat=4):
        assert DraftChoice(p, q, 2).pick([1, 1], np.array(u).reshape(2, 2)) in (0, 1)


def test_wrong_calls_are_told():
    p = np.array([0.5, 0.5])
    with pytest.raises(UsageError, match="no mass"):
        DraftChoice(p, np.zeros(2), 2)
    with pytest.raises(UsageError, match="1 drafted tokens"):
        DraftChoice(p, p, 2).pick([0], np.ones((1, 2)) / 2)
    for wrong in (0, 1.5, True):
        with pytest.raises(KofnError, match="drafts="):
            DraftChoice(p, p, wrong)
        with pytest.raises(KofnError, match="drafts="):
            best_acceptance(p, p, wrong)

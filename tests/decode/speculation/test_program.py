"""References for several drafts: the linear program, and recursive rejection."""

import numpy as np
import pytest

from kofn.decode.speculation.program import program_acceptance, recursive_rejection_acceptance
from kofn.errors import BudgetError, ParameterError, UsageError


def test_recursive_rejection_is_what_two_rounds_of_rejection_do():
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.2, 0.6])
    first = 0.2 + 0.2 + 0.1
    left = np.array([0.4, 0.1, 0.0]) / 0.5
    assert recursive_rejection_acceptance(p, q, 2) == pytest.approx(first + (1 - first) * np.minimum(left, q).sum())
    assert recursive_rejection_acceptance(p, p, 1) == pytest.approx(1)


def test_laws_that_differ_go_into_the_program():
    # two drafts that always bring tokens 0 and 1 together serve any law on them
    p = np.array([0.3, 0.7])
    assert program_acceptance(p, [np.array([1.0, 0.0]), np.array([0.0, 1.0])]) == pytest.approx(1)
    assert program_acceptance(p, [np.array([1.0, 0.0])] * 2) == pytest.approx(0.3)


def test_one_draft_reaches_one_less_total_variation():
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.2, 0.6])
    assert program_acceptance(p, [q]) == pytest.approx(0.5)


def test_wrong_calls_are_told():
    p = np.array([0.5, 0.5])
    with pytest.raises(BudgetError, match="tuples of drafts"):
        program_acceptance(np.full(100, 0.01), [np.full(100, 0.01)] * 3)
    for laws in ([], [np.ones(3) / 3]):
        with pytest.raises(UsageError, match="vocabulary of p"):
            program_acceptance(p, laws)
    with pytest.raises(ParameterError, match="drafts=0"):
        recursive_rejection_acceptance(p, p, 0)

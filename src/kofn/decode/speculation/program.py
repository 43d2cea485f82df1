"""What several drafts can reach at best, by linear program, and what recursive rejection reaches: references."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from kofn.core.block import Doubles
from kofn.decode.speculation.policy import checked_whole
from kofn.errors import BudgetError, UsageError

MOST_TUPLES = 200_000


def program_acceptance(p: Doubles, laws: Sequence[Doubles]) -> float:
    """The largest chance that one of independent drafts, one from each law, can be emitted while the output keeps law p.

    A transport of the drafts' joint law to p: tuple x may send its mass to the tokens that it holds, token y takes at most
    p(y). As much as can be sent is the answer (Sun et al., "SpecTr: Fast Speculative Decoding via Optimal Transport", 2023;
    Khisti et al., "Multi-Draft Speculative Sampling: Canonical Architectures and Theoretical Limits", 2024). HiGHS solves
    it; V ** K tuples: for small vocabularies. The laws may differ.

    Raises
    ------
    UsageError
        No law, or laws over another vocabulary than p's.
    BudgetError
        More than 200,000 tuples.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix, vstack

    p = np.asarray(p, np.float64)
    listed = [np.asarray(law, np.float64) for law in laws]
    if not listed or any(law.shape != p.shape for law in listed):
        raise UsageError("give one law at least, each over the vocabulary of p")
    if len(p) ** len(listed) > MOST_TUPLES:
        raise BudgetError(
            f"{len(p)} ** {len(listed)} tuples of drafts are more than {MOST_TUPLES:,}; use best_acceptance, or fewer drafts"
        )
    masses, tuples, tokens = [], [], []
    for number, drafted in enumerate(product(range(len(p)), repeat=len(listed))):
        masses.append(float(np.prod([law[token] for law, token in zip(listed, drafted, strict=True)])))
        for token in sorted(set(drafted)):
            tuples.append(number)
            tokens.append(token)
    columns = np.arange(len(tokens))
    ones = np.ones(len(tokens))
    sent = csr_matrix((ones, (tuples, columns)), shape=(len(masses), len(tokens)))
    taken = csr_matrix((ones, (tokens, columns)), shape=(len(p), len(tokens)))
    solved = linprog(-ones, A_ub=vstack([sent, taken]), b_ub=np.concatenate([masses, p]), method="highs")
    return float(-solved.fun)


def recursive_rejection_acceptance(p: Doubles, q: Doubles, drafts: int) -> float:
    """The chance that recursive rejection emits one of K independent drafts of law q.

    Drafts are tried in turn: the first against p, each next one against the law (p - q)+ that the refusal before it left
    (Miao et al., "SpecInfer: Accelerating Large Language Model Serving with Tree-based Speculative Inference and
    Verification", 2024). For comparison; `DraftChoice` is never below it. O(V K).
    """
    checked_whole("drafts", drafts)
    rest, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    refused = 1.0
    for _ in range(drafts):
        accepted = float(np.minimum(rest, q).sum())
        refused *= max(1 - accepted, 0.0)
        left = np.maximum(rest - q, 0.0)
        if left.sum() <= 0:
            return 1.0
        rest = left / left.sum()
    return 1 - refused

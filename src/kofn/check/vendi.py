"""Vendi score: how many different things the picks are."""

from __future__ import annotations

import numpy as np

from kofn.check.context import Context
from kofn.check.metric import EMBEDDINGS, Metric
from kofn.core.block import Doubles, Floats
from kofn.items import Items
from kofn.selection import Selection

BLOCK = 4_096


def vendi(items: Items, selection: Selection, context: Context) -> float:
    """exp of the entropy of the eigenvalues of K / k, K being the cosine similarities of the picks, weights left aside.

    k for picks at right angles, 1 for copies of one (Friedman and Dieng, "The Vendi score", TMLR 2023). The eigenvalues are
    those of the d x d Gram matrix where d < k, else of the k x k one. Zero vectors are alike among themselves, and at right
    angles to the others. O(k d min(k, d)) time.
    """
    units = _units(context.picks(selection))
    k, d = units.shape
    gram = _gram(units) if d < k else units @ units.T
    values = np.linalg.eigvalsh(gram) / k
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def _units(x: Floats) -> Doubles:
    """Rows of length one, float64; zero rows share a dimension of their own."""
    rows = x.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    zero = norms == 0
    rows /= np.where(zero, 1.0, norms)[:, None]
    return np.column_stack([rows, zero.astype(np.float64)]) if zero.any() else rows


def _gram(units: Doubles) -> Doubles:
    total = np.zeros((units.shape[1], units.shape[1]))
    for at in range(0, len(units), BLOCK):
        part = units[at : at + BLOCK]
        total += part.T @ part
    return total


VENDI = Metric(
    name="vendi",
    title="Vendi score: how many different picks there are in effect",
    higher_is_better=True,
    about="exp of the entropy of the eigenvalues of K / k, K the cosine similarities of the picks (Friedman and Dieng 2023)",
    needs=frozenset({EMBEDDINGS}),
    measured=vendi,
)

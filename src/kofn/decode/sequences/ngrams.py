"""An n-gram model in sorted arrays: how often tokens followed contexts of one to five tokens in a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kofn.core.block import Doubles
from kofn.core.numbers import is_whole
from kofn.decode.model import Tokens
from kofn.errors import DataError, ParameterError, UsageError

WEIGHTS = (0.01, 0.04, 0.15, 0.18, 0.12)
"""Interpolation weights of orders 2 to 6 in Superposed Decoding's published settings."""

_LOWEST, _HIGHEST = 2, 6


@dataclass(frozen=True, eq=False)
class _Order:
    """Distinct n-grams of one order, sorted by (context's number, last token)."""

    keys: NDArray[np.int64]  # context's number * V + last token
    counts: NDArray[np.uint32]
    totals: NDArray[np.uint32]  # of each context's number: its n-grams' counts together


class NGramModel:
    """Counts of n-grams of orders 2 to `order` in a corpus, and probabilities from them.

    An n-gram's number is its place among the distinct n-grams of its order. It is found by binary search for (number of
    its first n - 1 tokens, last token), one order after another, so lookups are exact: nothing is hashed.

    Parameters
    ----------
    corpus : iterable of int arrays
        Token sequences; n-grams do not run from one into the next.
    vocabulary : int
        V; tokens are 0..V-1.
    order : int
        Highest order, 2 to 6: contexts of 1 to order - 1 tokens.
    weights : sequence of float, optional
        Of orders 2..order in `interpolated`, non-negative; by default the first of `WEIGHTS`.

    Attributes
    ----------
    vocabulary, order : int
        As given.
    weights : tuple of float
        As given, or the default.

    Raises
    ------
    ParameterError
        For orders outside 2..6 and weights that are negative or not one an order.
    DataError
        When the corpus holds no token, or one outside the vocabulary.

    Notes
    -----
    Cost: building sorts the corpus once an order, O(order T log T) time and some 50 bytes a token meanwhile. Kept are 12
    bytes a distinct n-gram and 4 a distinct context (`nbytes`). A lookup of C candidates after B contexts takes
    O(order^2 B log T + order B C log T).

    Examples
    --------
    >>> model = NGramModel([[0, 1, 0, 1, 0, 2]], 3, order=2, weights=[1.0])
    >>> model.interpolated([[0]], [[0, 1, 2]]).round(3).tolist()
    [[0.0, 0.667, 0.333]]
    """

    def __init__(
        self,
        corpus: Iterable[ArrayLike],
        vocabulary: int,
        *,
        order: int = _HIGHEST,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not is_whole(order, _LOWEST, _HIGHEST):
            raise ParameterError(f"order={order!r} is not a whole number from {_LOWEST} to {_HIGHEST}")
        self.weights = tuple(float(w) for w in (WEIGHTS[: order - 1] if weights is None else weights))
        if len(self.weights) != order - 1:
            raise ParameterError(f"{len(self.weights)} weights for orders 2 to {order}; give {order - 1}")
        if not all(0 <= w < np.inf for w in self.weights):
            raise ParameterError(f"weights={self.weights} must be finite and not negative")
        self.vocabulary = vocabulary
        self.order = order
        tokens, places = _joined(corpus, vocabulary)
        self._orders: list[_Order] = []
        numbers, contexts = tokens, vocabulary
        for n in range(_LOWEST, order + 1):
            last = np.flatnonzero(places >= n - 1)
            keys, number, counts = np.unique(
                numbers[last - 1] * vocabulary + tokens[last], return_inverse=True, return_counts=True
            )
            totals = np.bincount(keys // vocabulary, weights=counts, minlength=contexts).astype(np.uint32)
            self._orders.append(_Order(keys, counts.astype(np.uint32), totals))
            numbers, contexts = np.zeros(len(tokens), np.int64), len(keys)
            numbers[last] = number

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return sum(each.keys.nbytes + each.counts.nbytes + each.totals.nbytes for each in self._orders)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Distinct n-grams of orders 2..order."""
        return tuple(len(each.keys) for each in self._orders)

    def probabilities(self, contexts: ArrayLike, candidates: ArrayLike) -> Doubles:
        """Share of each candidate among what followed the whole context, float64 (B, C); 0 where the context is new.

        Parameters
        ----------
        contexts : int (B, m)
            Last tokens, the latest last; 1 <= m <= order - 1.
        candidates : int (B, C)
            Tokens asked for.
        """
        before, asked = self._checked(contexts, candidates)
        if not 1 <= before.shape[1] < self.order:
            raise UsageError(
                f"contexts of {before.shape[1]} tokens; this model knows contexts of 1 to {self.order - 1}"
            )
        number, known = before[:, 0], np.ones(len(before), np.bool_)
        for token, table in zip(before[:, 1:].T, self._orders, strict=False):
            number, found = _found(table.keys, number * self.vocabulary + token)
            known &= found
        table = self._orders[before.shape[1] - 1]
        place, found = _found(table.keys, number[:, None] * self.vocabulary + asked)
        hits = np.where(found & known[:, None], table.counts[place], 0) if len(table.keys) else np.zeros(asked.shape)
        totals = table.totals[number] if len(table.totals) else np.zeros(len(number))
        shares: Doubles = hits / np.maximum(totals, 1)[:, None]
        return shares

    def interpolated(self, contexts: ArrayLike, candidates: ArrayLike) -> Doubles:
        """Sum over orders of weight * `probabilities`, float64 (B, C).

        A context that the corpus does not have adds nothing, and the weights need not sum to one, so rows are a
        law only up to a factor.

        Parameters
        ----------
        contexts : int (B, m)
            Last tokens, the latest last, m >= 1; orders that need more than m, and tokens before the last order - 1, are
            left out.
        candidates : int (B, C)
            Tokens asked for.
        """
        before, asked = self._checked(contexts, candidates)
        out = np.zeros(asked.shape)
        for length, weight in enumerate(self.weights, start=1):
            if length <= before.shape[1]:
                out += weight * self.probabilities(before[:, before.shape[1] - length :], asked)
        return out

    def _checked(self, contexts: ArrayLike, candidates: ArrayLike) -> tuple[Tokens, Tokens]:
        before, asked = np.asarray(contexts, np.int64), np.asarray(candidates, np.int64)
        if before.ndim != 2 or asked.ndim != 2 or len(before) != len(asked) or not before.shape[1]:
            raise UsageError(f"contexts {before.shape} and candidates {asked.shape}; give (B, m >= 1) and (B, C)")
        for name, tokens in (("context", before), ("candidate", asked)):
            wrong = tokens[(tokens < 0) | (tokens >= self.vocabulary)]
            if len(wrong):
                raise UsageError(f"{name} token {wrong[0]} is outside the vocabulary 0..{self.vocabulary - 1}")
        return before, asked


def _joined(corpus: Iterable[ArrayLike], vocabulary: int) -> tuple[Tokens, Tokens]:
    """All tokens one after another, and each one's place in its own sequence."""
    parts = [np.asarray(each, np.int64).ravel() for each in corpus]
    tokens = np.concatenate(parts) if parts else np.empty(0, np.int64)
    if not len(tokens):
        raise DataError("the corpus has no token; give sequences of tokens")
    wrong = np.flatnonzero((tokens < 0) | (tokens >= vocabulary))
    if len(wrong):
        raise DataError(f"token {tokens[wrong[0]]} of the corpus is outside the vocabulary 0..{vocabulary - 1}")
    return tokens, np.concatenate([np.arange(len(each)) for each in parts])


def _found(keys: NDArray[np.int64], wanted: Tokens) -> tuple[Tokens, NDArray[np.bool_]]:
    """Where each wanted key is among the sorted ones, 0 where it is not, and whether it is."""
    if not len(keys):
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, np.bool_)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = keys[place] == wanted
    return np.where(found, place, 0), found

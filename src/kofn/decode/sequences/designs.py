"""Conditional Poisson sampling of k of n by weight, its inclusion probabilities, and estimates from sampled sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kofn.core.block import Doubles
from kofn.core.jit import kernel
from kofn.core.numbers import is_whole
from kofn.core.uniforms import child_seeds, uniform_rows
from kofn.decode.model import Generations, checked_seed
from kofn.errors import DataError, InvalidRows, ParameterError, UsageError

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Draw:
    """k of n items.

    Attributes
    ----------
    indices : int64 (k,)
        Which, ascending.
    inclusion : float64 (k,)
        The probability with which each of them is among the k.
    """

    indices: Rows
    inclusion: Doubles


def conditional_poisson(weights: ArrayLike, k: int, *, seed: int = 0) -> Draw:
    """Draw k of n: a set S has probability proportional to the product of its weights.

    The design of greatest entropy among those with its inclusion probabilities: independent coins of odds w_i,
    conditioned on k heads (Hajek, Asymptotic theory of rejective sampling, 1964).

    Parameters
    ----------
    weights : (n,)
        Non-negative and finite; at least k of them positive. Their scale does not matter.
    k : int
        How many.
    seed : int
        Items have one uniform each, of the seed and their place.

    Raises
    ------
    InvalidRows
        For a weight that is negative, NaN or infinite.
    ParameterError
        For k below 1 or above the number of positive weights, and for a seed that is no whole number in 0..2**64 - 1.

    Notes
    -----
    Exact: from the last item to the first, with r still to be drawn, item i is taken with probability
    w_i e_{r-1}(w_1..w_{i-1}) / e_r(w_1..w_i), e_r the elementary symmetric polynomial of degree r. O(n k) time and
    memory, in logarithms.

    Examples
    --------
    >>> conditional_poisson([1.0, 1.0, 1.0], 3).indices.tolist()
    [0, 1, 2]
    """
    log_weights = _checked_logs(weights, k)
    table = prefix_polynomials(log_weights, no_items(k))
    uniforms = uniform_rows(child_seeds(checked_seed(seed), 0, 1), 0, len(log_weights))[0]
    indices, _ = draw_backward(log_weights, table, uniforms)
    return Draw(indices, np.minimum(np.exp(log_inclusion(log_weights, table, indices)), 1.0))


def inclusion_probabilities(weights: ArrayLike, k: int) -> Doubles:
    """Probability of each of n items to be among the k that `conditional_poisson` draws; float64 (n,), their sum is k.

    pi_i = w_i e_{k-1}(all but w_i) / e_k(all), by the polynomials of the items before i and of those after it (Chen,
    Dempster, Liu, Weighted finite population sampling to maximize entropy, 1994, by another recursion). No differences
    are taken, so weights of any spread keep all their digits. O(n k) time and memory.

    Parameters and errors are those of `conditional_poisson`.

    Examples
    --------
    >>> inclusion_probabilities([1.0, 1.0, 2.0], 2).round(3).tolist()
    [0.6, 0.6, 0.8]
    """
    log_weights = _checked_logs(weights, k)
    table = prefix_polynomials(log_weights, no_items(k))
    every = np.arange(len(log_weights))
    return np.minimum(np.exp(log_inclusion(log_weights, table, every)), 1.0)


def expectation(generations: Generations, values: ArrayLike, *, normalized: bool = False) -> float:
    """Estimate of E f(y) over the law, from sequences that a sampling design has drawn.

    sum f(y) p(y) / inclusion(y): Horvitz and Thompson, A generalization of sampling without replacement from a finite
    universe (1952). Unbiased. `normalized` divides by sum p(y) / inclusion(y): biased, consistent, and exact for
    constant f.

    Parameters
    ----------
    generations : Generations
        Of `StochasticBeam` or `ConditionalPoissonBeam`.
    values : (n,)
        f of each sequence.
    normalized : bool

    Raises
    ------
    UsageError
        For generations without inclusion probabilities.
    DataError
        When the number of values is not that of the sequences.
    """
    if generations.inclusion is None:
        raise UsageError(
            "these generations have no inclusion probabilities; draw them by StochasticBeam or ConditionalPoissonBeam"
        )
    f = np.asarray(values, np.float64)
    if f.shape != generations.logprobs.shape:
        raise DataError(f"values of shape {f.shape} for {len(generations)} sequences; give one value a sequence")
    weights = np.exp(generations.logprobs - generations.details["log_inclusion"])
    total = float(weights @ f)
    return total / float(weights.sum()) if normalized else total


def no_items(k: int) -> Doubles:
    """log e_0..e_k of no items: e_0 is 1, the others are 0."""
    first = np.full(k + 1, -np.inf)
    first[0] = 0.0
    return first


def prefix_polynomials(log_weights: Doubles, first: Doubles) -> Doubles:
    """table[i, r] = log e_r of the first i items and of others whose log e_0..e_k are `first`; float64 (n + 1, k + 1)."""
    table = np.empty((len(log_weights) + 1, len(first)))
    table[0] = first
    _prefixes(log_weights, table)
    return table


def draw_backward(log_weights: Doubles, table: Doubles, uniforms: Doubles) -> tuple[Rows, int]:
    """The items drawn, ascending, and how many are left to be drawn from the others that the table began with."""
    taken = np.zeros(len(log_weights), np.bool_)
    left = _draw(log_weights, table, uniforms, taken)
    return np.flatnonzero(taken), int(left)


def log_inclusion(log_weights: Doubles, table: Doubles, items: Rows) -> Doubles:
    """Log inclusion probability of the given items, ascending; float64 (len(items),)."""
    out = np.empty(len(items))
    _inclusions(log_weights, table, items, out)
    return out


def _checked_logs(weights: ArrayLike, k: int) -> Doubles:
    w = np.asarray(weights, np.float64)
    if w.ndim != 1:
        raise DataError(f"weights of shape {w.shape}; give one row of numbers")
    wrong = np.flatnonzero(~np.isfinite(w) | (w < 0))
    if len(wrong):
        raise InvalidRows(f"weight {wrong[0]} is {w[wrong[0]]}; weights are finite and not negative", int(wrong[0]))
    positive = int(np.count_nonzero(w))
    if not is_whole(k, 1, positive):
        raise ParameterError(
            f"k={k!r} of {len(w)} items, {positive} of positive weight; give a whole number from 1 to {positive}"
        )
    with np.errstate(divide="ignore"):
        return np.log(w)


@kernel
def _log_add(a: Any, b: Any) -> Any:
    if a < b:
        a, b = b, a
    if b == -np.inf:
        return a
    return a + np.log1p(np.exp(b - a))


@kernel
def _prefixes(log_weights: Any, table: Any) -> Any:
    for i in range(len(log_weights)):
        table[i + 1, 0] = table[i, 0]
        for r in range(1, table.shape[1]):
            table[i + 1, r] = _log_add(table[i, r], table[i, r - 1] + log_weights[i])


@kernel
def _draw(log_weights: Any, table: Any, uniforms: Any, taken: Any) -> Any:
    left = table.shape[1] - 1
    for i in range(len(log_weights) - 1, -1, -1):
        if left == 0:
            break
        needed = table[i, left] == -np.inf and log_weights[i] > -np.inf  # the items before cannot fill what is left
        if needed or np.log(uniforms[i]) < log_weights[i] + table[i, left - 1] - table[i + 1, left]:
            taken[i] = True
            left -= 1
    return left


@kernel
def _inclusions(log_weights: Any, table: Any, items: Any, out: Any) -> Any:
    k = table.shape[1] - 1
    n = len(log_weights)
    after = np.full(k, -np.inf)
    after[0] = 0.0
    at = len(items) - 1
    for i in range(n - 1, -1, -1):
        if at < 0:
            break
        if items[at] == i:
            without = -np.inf
            for r in range(k):
                without = _log_add(without, table[i, k - 1 - r] + after[r])
            out[at] = log_weights[i] + without - table[n, k]
            at -= 1
        for r in range(k - 1, 0, -1):
            after[r] = _log_add(after[r], after[r - 1] + log_weights[i])

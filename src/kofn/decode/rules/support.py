"""The tokens of one step that may still be emitted, and the ways in which rules narrow them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Doubles, Floats
from kofn.core.logits import (
    count_above,
    distance_masses,
    drawn_place,
    entropy,
    kept_above,
    split_by_bin,
    tokens_above,
    tokens_near,
    top_of,
    total,
)

Tokens = NDArray[np.int64]

_LOWEST = float(np.finfo(np.float32).min)
_LARGE = 1e37
_REACHES = (3.0, 6.0, 12.0, -_LOWEST)
"""How far, in nats, a prefix reaches before the next, longer one is tried; the last takes every finite logit."""

_MANY = 16  # candidates for each place, above which they are not gathered
_DENSE = 8  # of so many tokens one is left: then all stay listed, those left out at -inf
_STRETCH = 4_096
_SETS, _DEEP = 2_048, 16  # sets of tokens whose maxima bound the k-th largest logit, and the fewest tokens of one

_LONG = 8_192
"""Tokens above which a prefix is not sorted, where a histogram can do."""

_COUNTS = (64, 512)
"""Best tokens that are tried before prefixes by reach; block maxima help to find as many."""


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """One row of logits, whole or narrowed. Rules make new ones; nothing is written on.

    Attributes
    ----------
    values : float32 (m,)
        Logits. The law is softmax(values); a token at -inf is left out like one that is not listed.
    tokens : int64 (m,) or None
        Which tokens they are, ascending. None: all V of them.
    beside : float32 (V,) or None
        The row that two-input rules compare with.
    known_top : float or None
        The largest logit, where it has been looked for already.
    """

    values: Floats
    tokens: Tokens | None = None
    beside: Floats | None = None
    known_top: float | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def top(self) -> float:
        """The largest logit."""
        return top_of(self.values) if self.known_top is None else self.known_top

    def ids(self) -> Tokens:
        """Which tokens, int64 (m,), ascending."""
        return np.arange(len(self.values)) if self.tokens is None else self.tokens

    def kept(self) -> Tokens:
        """The tokens that are possible, int64, ascending."""
        possible = np.flatnonzero(self.values > -np.inf)
        return possible if self.tokens is None else self.tokens[possible]

    def log_total(self) -> float:
        """log sum exp(values)."""
        top = self.top
        return top + math.log(total(self.values, top))

    def entropy(self) -> float:
        """Entropy of the law, in nats."""
        return entropy(self.values, self.top)

    def probabilities(self) -> Doubles:
        """The law, float64 (m,)."""
        e = np.exp(self.values.astype(np.float64) - self.top)
        return e / e.sum()

    def cooled(self, temperature: float) -> Support:
        """All logits divided by a temperature; the largest is taken off first where the quotient would be none."""
        shift = 0.0 if abs(self.top) / temperature < _LARGE else self.top
        values = self.values if shift == 0 else self.values - np.float32(shift)
        with np.errstate(over="ignore"):  # what is far below the top becomes -inf
            return self.revalued(values / np.float32(temperature))

    def revalued(self, values: Floats) -> Support:
        """The same tokens with other logits."""
        return replace(self, values=values, known_top=None)

    def at(self, places: Tokens) -> Support:
        """These places of the support, ascending, and no others."""
        tokens = places if self.tokens is None else self.tokens[places]
        return replace(self, values=self.values[places], tokens=tokens, known_top=None)

    def above(self, cut: float, min_keep: int) -> Support:
        """Tokens whose logit is at least `cut`, or the `min_keep` best if these are more."""
        rounded = np.float32(cut)
        if rounded < cut:  # so that x >= rounded holds for just those float32 x with x >= cut
            rounded = np.nextafter(rounded, np.float32(np.inf))
        reached = max(float(rounded), _LOWEST)
        count = count_above(self.values, reached)
        if count < min_keep:
            return self.best(min_keep)
        if count == len(self):
            return self
        if count * _DENSE > len(self):
            return replace(self, values=kept_above(self.values, reached))
        return self.at(tokens_above(self.values, reached))

    def best(self, k: int) -> Support:
        """The k tokens with the largest logits, ties to the lowest token; all that are possible if these are fewer."""
        x = self.values
        cut = max(_at_most_kth_largest(x, k), _LOWEST)
        if count_above(x, cut) > max(_MANY * k, len(x) // _DENSE):  # ties, or a flat row
            if count_above(x, _next(cut)) >= k:
                cut = max(float(np.partition(x, len(x) - k)[len(x) - k]), _LOWEST)
            sure = tokens_above(x, _next(cut))
            ties = _first_equal(x, cut, k - len(sure))
            return self.at(np.sort(np.concatenate([sure, ties])))
        places = tokens_above(x, cut)
        if len(places) > k:
            kth = np.partition(x[places], len(places) - k)[len(places) - k]
            sure = places[x[places] > kth]
            ties = places[x[places] == kth][: k - len(sure)]
            places = np.sort(np.concatenate([sure, ties]))
        return self.at(places)

    def leading(self, enough: Callable[[Floats], int | None]) -> Support:
        """The first tokens by falling logit, ties to the lowest token.

        `enough` sees logits in that order and says how many to keep, or None where it must see more to tell. It is
        shown longer and longer prefixes, at last all tokens that are possible; then None means all.
        """
        for size in (*_COUNTS, _LONG):
            if size < len(self):
                head = self.best(size)
                count = enough(np.sort(head.values)[::-1])
                if count is not None:
                    return head.best(count)
        return self.closest(self.top, enough, reaches=_REACHES[-2:])

    def closest(
        self, center: float, enough: Callable[[Floats], int | None], reaches: tuple[float, ...] = _REACHES
    ) -> Support:
        """The first tokens by distance of their logit to `center`, ties to the lowest token; `enough` as in `leading`."""
        x = self.values
        for reach in reaches:
            places = tokens_near(x, center, reach)
            ranked = _by_distance(x, places, center)
            count = enough(x[ranked])
            if count is not None:
                return self.at(np.sort(ranked[:count]))
        return self.at(places)

    def holding(self, mass: float, center: float, min_keep: int) -> Support:
        """As few of the tokens closest to `center` as have sum exp(x - top) >= mass, and at least `min_keep`.

        Short prefixes are sorted; where these do not hold the mass, a histogram of distances finds the bin in which it is
        reached, and only this bin is sorted.
        """
        x, top = self.values, self.top
        enough = reaching(mass, top, min_keep)
        first = self._short(center, enough)
        if first is not None:
            return first
        held = np.cumsum(distance_masses(x, top, center))
        if held[-1] < mass:
            return self.closest(center, enough, reaches=_REACHES[-1:])
        last = int(np.searchsorted(held, mass))
        values, before, inside = split_by_bin(x, center, last)
        ranked = _by_distance(x, inside, center)
        needed = reaching(mass - (held[last - 1] if last else 0.0), top, 1)(x[ranked]) or len(ranked)
        needed = max(needed, min_keep - before)
        if needed > len(ranked):  # the floor reaches beyond the bin
            return self.closest(center, enough, reaches=_REACHES[-1:])
        values[ranked[:needed]] = x[ranked[:needed]]
        return self.revalued(values)

    def _short(self, center: float, enough: Callable[[Floats], int | None]) -> Support | None:
        """The answer from a short prefix, None where it takes a longer one."""
        x = self.values
        if center >= self.top:
            for size in _COUNTS:
                head = self.best(size)
                count = enough(np.sort(head.values)[::-1])
                if count is not None:
                    return head.best(count)
            return None
        for reach in _REACHES[:2]:
            places = tokens_near(x, center, reach)
            if len(places) > _LONG:
                return None
            ranked = _by_distance(x, places, center)
            count = enough(x[ranked])
            if count is not None:
                return self.at(np.sort(ranked[:count]))
        return None

    def drawn(self, u: float) -> int:
        """The token at which the cumulative law, in token order, first exceeds u in (0, 1)."""
        place = drawn_place(self.values, self.top, u)
        return place if self.tokens is None else int(self.tokens[place])


def _by_distance(x: Floats, places: Tokens, center: float) -> Tokens:
    """Places by rising distance of their logit to `center`, ties by number."""
    distance = np.abs(x[places] - np.float32(center))
    # one sort of whole numbers does both: bits of floats >= 0 ascend with them
    order = np.sort(distance.view(np.uint32).astype(np.uint64) << np.uint64(32) | places.astype(np.uint64))
    return (order & np.uint64(0xFFFFFFFF)).astype(np.int64)


def reaching(mass: float, top: float, min_keep: int) -> Callable[[Floats], int | None]:
    """For `Support.closest`: as few tokens as have sum exp(x - top) >= mass, and at least `min_keep`."""

    def enough(ranked: Floats) -> int | None:
        held = np.cumsum(np.exp(ranked.astype(np.float64) - top))
        if not len(held) or held[-1] < mass or len(ranked) < min_keep:
            return None
        return max(int(np.searchsorted(held, mass)) + 1, min_keep)

    return enough


def _next(value: float) -> float:
    """The next larger float32."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


def _first_equal(x: Floats, value: float, count: int) -> Tokens:
    """The first `count` places at which x has this value."""
    found: list[Tokens] = []
    missing = count
    for start in range(0, len(x), _STRETCH):
        places = start + np.flatnonzero(x[start : start + _STRETCH] == np.float32(value))[:missing]
        found.append(places)
        missing -= len(places)
        if not missing:
            break
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _at_most_kth_largest(x: Floats, k: int) -> float:
    """A value that at least min(k, len(x)) numbers reach, and few more."""
    if k >= len(x):
        return -math.inf
    sets = min(_SETS, len(x) // _DEEP)
    if k > sets:
        return float(np.partition(x, len(x) - k)[len(x) - k])
    # k sets have a maximum that is no smaller than the k-th largest maximum; strided sets are what vectorises
    maxima = x[: len(x) // sets * sets].reshape(-1, sets).max(axis=0)
    return float(np.partition(maxima, sets - k)[sets - k])

"""One token from several drafts: the importance-weighted choice among them, then one speculative step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kofn.core.block import Doubles
from kofn.core.logits import place_of
from kofn.decode.model import Tokens
from kofn.decode.speculation.policy import checked_whole
from kofn.errors import UsageError

_STEPS = 100
_NEAR = 1e-15


class DraftChoice:
    """The choice among K drafts, drawn independently from one law q, that serves a target law p best.

    A choice may look at the K drafts only. The laws p_I that it can give its pick are those with p_I(S) >= q(S)^K for
    every set S of tokens, because K drafts inside S leave no other pick. A speculative step then accepts the pick with
    chance sum min(p, p_I), at most min over S of 1 + p(S) - q(S)^K. Here that bound is reached:

    - the least S is a set of tokens with the smallest p / q, so a sort finds it;
    - p_I = q clip(p / q, c, C), the floor c inside S and the ceiling C outside it, both levels from the masses
      p_I(S) = q(S)^K and 1 - q(S)^K;
    - each drafted token gets a key, uniform in [0, 1] over all tokens, with E[K key^(K-1) | token] = p_I / q, and the
      draft with the largest key is the pick. Tokens in the order of p / q fill [0, 1] with their q; a key is a uniform
      point t of its token's interval, or, with the chance that makes the mean right, the point that t is paired with.

    Parameters
    ----------
    p, q : float64 (V,)
        Laws of the target and of the drafts. p may sum to less than 1, where q is zero on the rest.
    drafts : int
        K >= 1.

    Attributes
    ----------
    intermediate : float64 (V,)
        p_I, the law of the pick.

    Notes
    -----
    Khisti, Ebrahimi, Dbouk, Behboodi, Memisevic and Louizos, "Multi-Draft Speculative Sampling: Canonical Architectures and
    Theoretical Limits", 2024: every optimal scheme is such a choice followed by a speculative step (theorem 1), weights by
    linear program, and for K = 2 the bound above (theorem 3). The weights in closed form rest on convex order: such keys
    exist because p_I / q is a mean-preserving contraction of K u^(K-1) for uniform u (Strassen, 1965), and the pairing is
    the inverse transform martingale coupling (Jourdain and Margheriti, 2020). Cost: O(V log V) time, O(V) memory.
    """

    def __init__(self, p: Doubles, q: Doubles, drafts: int) -> None:
        checked_whole("drafts", drafts)
        self._count = int(drafts)
        self._p, self._q = np.asarray(p, np.float64), np.asarray(q, np.float64)
        support = np.flatnonzero(self._q > 0)
        if not len(support):
            raise UsageError("q has no mass; give the law that the drafts were drawn from")
        q_here, p_here = self._q[support], self._p[support]
        order = _ascending(p_here / q_here)
        self._tokens = support[order]
        mass = q_here[order] / q_here.sum()
        self._bounds = np.concatenate([[0.0], np.cumsum(mass)])
        self._bounds[-1] = 1.0
        self._ratio = _served(p_here[order], mass, self._count)
        self.intermediate: Doubles = np.zeros(len(self._q))
        self.intermediate[self._tokens] = mass * self._ratio
        self._rank = np.empty(len(self._q), np.int64)
        self._rank[self._tokens] = np.arange(len(self._tokens))
        if self._count > 1:
            self._pair()

    def pick(self, drafted: Sequence[int] | Tokens, uniforms: Doubles) -> int:
        """Which of the K drafted tokens: its number among them. Uniforms in (0, 1), float64 (K, 2)."""
        if len(drafted) != self._count:
            raise UsageError(f"{len(drafted)} drafted tokens for a choice among {self._count}; give one for each draft")
        if self._count == 1:
            return 0
        keys = [self.key(int(token), float(a), float(b)) for token, (a, b) in zip(drafted, uniforms, strict=True)]
        return int(np.argmax(keys))

    def emit(
        self, drafted: Sequence[int] | Tokens, uniforms: Doubles, accept: float, correct: float
    ) -> tuple[int, bool]:
        """The pick, then a speculative step: a token with the law p, and whether it is a drafted one. See `choose_token`."""
        token = int(drafted[self.pick(drafted, uniforms)])
        reach = np.cumsum(np.maximum(self._p - self.intermediate, 0.0))
        if accept * self.intermediate[token] < self._p[token] or reach[-1] <= 0:  # nothing is left: p_I is p
            return token, True
        return place_of(reach, correct), False

    def key(self, token: int, place: float, swap: float) -> float:
        """The key of a drafted token, from two uniforms: where it stands in its interval, and whether it is moved."""
        rank, power = int(self._rank[token]), self._count
        low, high, ratio, turn = self._bounds[rank], self._bounds[rank + 1], self._ratio[rank], self._turn[rank]
        t = float(low + place * (high - low))
        slope = power * t ** (power - 1)
        if t < turn:  # slope < ratio: the mean is raised by a later point
            paired = self._later(float(self._over[rank] + ratio * (t - low) - (t**power - low**power)))
        else:
            paired = self._earlier(float(self._under[rank] + (t**power - turn**power) - ratio * (t - turn)))
        other = power * paired ** (power - 1)
        return paired if swap * abs(other - slope) < abs(ratio - slope) else t

    def _pair(self) -> None:
        """Cumulated gaps between p_I / q and the slope K t^(K-1): first above it, past `turn` below it."""
        low, high, power = self._bounds[:-1], self._bounds[1:], self._count
        turn = np.clip((self._ratio / power) ** (1 / (power - 1)), low, high)
        over = self._ratio * (turn - low) - (turn**power - low**power)
        under = (high**power - turn**power) - self._ratio * (high - turn)
        self._turn = turn
        self._over = np.concatenate([[0.0], np.cumsum(np.maximum(over, 0.0))])
        self._under = np.concatenate([[0.0], np.cumsum(np.maximum(under, 0.0))])

    def _later(self, gap: float) -> float:
        """The point up to which so much has been below the slope."""
        rank = _interval(self._under, gap)
        ends = float(self._turn[rank]), float(self._bounds[rank + 1])
        return _reached(gap - float(self._under[rank]), float(self._ratio[rank]), self._count, *ends, 1.0)

    def _earlier(self, gap: float) -> float:
        """The point up to which so much has been above the slope."""
        rank = _interval(self._over, gap)
        ends = float(self._bounds[rank]), float(self._turn[rank])
        return _reached(gap - float(self._over[rank]), float(self._ratio[rank]), self._count, *ends, -1.0)


def choose_token(
    p: Doubles, q: Doubles, drafted: Sequence[int] | Tokens, uniforms: Doubles, accept: float, correct: float
) -> tuple[int, bool]:
    """One token with the law p from K drafts of law q, and whether it is one of them.

    Parameters
    ----------
    p, q : float64 (V,)
        Laws of the target and of each draft.
    drafted : sequence of int (K,)
        Drawn independently from q.
    uniforms : float64 (K, 2)
        In (0, 1): of the choice among them.
    accept, correct : float
        In (0, 1): of the speculative step, and of the token that is drawn where the pick is refused.

    See `DraftChoice` for the sources. O(V log V).
    """
    return DraftChoice(p, q, len(drafted)).emit(drafted, uniforms, accept, correct)


def best_acceptance(p: Doubles, q: Doubles, drafts: int) -> float:
    """The largest chance that one of K independent drafts of law q can be emitted: min over S of 1 + p(S) - q(S)^K.

    p(S) - q(S)^K is concave in (p(S), q(S)), so its least value lies at a corner of what sets can reach: at a set of the
    tokens with the smallest p / q. It is 1 exactly when q(S)^K <= p(S) for every S. O(V log V).

    Khisti et al., "Multi-Draft Speculative Sampling: Canonical Architectures and Theoretical Limits", 2024, theorems 2 and 3
    for two drafts; Hu et al., "Towards Optimal Multi-draft Speculative Decoding", 2025, for more.
    """
    checked_whole("drafts", drafts)
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    support = q > 0
    p_here, q_here = p[support], q[support]
    order = _ascending(p_here / q_here)
    gaps = np.cumsum(p_here[order]) - np.cumsum(q_here[order]) ** drafts
    return float(1 + min(0.0, gaps.min()))


def _ascending(ratio: Doubles) -> Tokens:
    """The order of the ratios, ties by the lowest token: a fast sort, and then each run of ties. Stable sorts are slow."""
    order = np.argsort(ratio)
    ordered = ratio[order]
    run = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
    found: Tokens = np.sort(run * len(order) + order) % len(order)
    return found


def _served(p: Doubles, q: Doubles, drafts: int) -> Doubles:
    """p_I / q of tokens in the order of p / q."""
    ratio = p / q
    reach_p, reach_q = np.concatenate([[0.0], np.cumsum(p)]), np.concatenate([[0.0], np.cumsum(q)])
    reach_q[-1] = 1.0
    cut = int(np.argmin(reach_p - reach_q**drafts))
    forced = reach_q[cut] ** drafts
    served = ratio.copy()
    if cut:
        # the mass below a floor at each token's own ratio, all of S: the first that is too much tells where the floor ends
        filled = reach_q[:cut] * ratio[:cut] + (reach_p[cut] - reach_p[:cut])
        below = int(np.searchsorted(filled, forced, side="right"))
        if below:
            served[:cut] = np.maximum(ratio[:cut], (forced - (reach_p[cut] - reach_p[below])) / reach_q[below])
    if cut < len(q):
        tail = np.cumsum(q[::-1])[::-1]
        capped = (reach_p[cut:-1] - reach_p[cut]) + tail[cut:] * ratio[cut:]
        above = cut + int(np.searchsorted(capped, 1 - forced, side="left"))
        if above < len(q):
            level = (1 - forced - (reach_p[above] - reach_p[cut])) / tail[above]
            served[cut:] = np.minimum(ratio[cut:], level)
    return served


def _interval(reach: Doubles, gap: float) -> int:
    """The interval in which a cumulated gap is reached; never one where it does not grow."""
    gap = min(max(gap, 0.0), float(reach[-1]))
    return max(int(np.searchsorted(reach, gap, side="left")) - 1, 0)


def _reached(goal: float, ratio: float, power: int, low: float, high: float, sign: float) -> float:
    """x in [low, high] where sign (x^K - low^K - ratio (x - low)), which rises, is the goal: Newton's steps, halving beyond."""
    first, x = low, high
    base = low**power - ratio * low
    for _ in range(_STEPS):
        miss = sign * (x**power - ratio * x - base) - goal
        low, high = (x, high) if miss < 0 else (low, x)
        slope = sign * (power * x ** (power - 1) - ratio)
        then = x - miss / slope if slope > 0 else first
        then = then if low < then < high else (low + high) / 2
        if abs(then - x) <= _NEAR:
            break
        x = then
    return then

"""The many candidates of small weight, drawn from as one: their power sums, polynomials, and draws by rejection."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count as count_up
from typing import Any

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.core.jit import kernel, one_form
from kofn.core.logits import BLOCK, LANES, exp_block, lane_sum, place_of
from kofn.decode.sequences.search import Candidates

_POWERS = 12  # power sums that are taken at most; those left out change nothing in the 14th digit, see `even_for`
_EVEN = 16.0
_SMALL, _MIDDLE = np.float32(2.0**-30), np.float32(2.0**-10)  # their 4th and 12th powers are float32 still


@dataclass(frozen=True, eq=False)
class Rest:
    """All candidates whose logits are at most their beam's cut, weighted by the odds of their share of the probability.

    Attributes
    ----------
    logits : float32 (B, V)
    offsets : float64 (B,)
        A candidate's score is logits[b, v] + offsets[b].
    cuts : float32 (B,)
    mass : float64
        log of the probability of all candidates, these and others.
    top : float64
        The largest score among these; -inf where there is none.
    powers : float64 (m,)
        Sums of w, w**2, ..., w relative to exp(top - mass); enough of them for the polynomials that are asked for.
    blocks : float64 (B, blocks)
        The sum of w in each block of tokens.
    log_share : float64
        log of their part of the probability.
    """

    logits: Floats
    offsets: Doubles
    cuts: Floats
    mass: float
    top: float
    powers: Doubles
    blocks: Doubles
    log_share: float

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return self.top == -math.inf

    def even_for(self, k: int) -> bool:
        """Whether k of these can be treated as one: none of them has more than 1 / (16 k) of their weight.

        Then the j-th power sum is below (16 k)**(1 - j) of the first's j-th power, its term in the polynomials of degree
        up to k below 16**(1 - j), and k independent draws are distinct with probability above 0.9.
        """
        return self.empty or bool(self.powers[0] >= _EVEN * k)

    def log_polynomials(self, k: int, without: float | None = None) -> Doubles:
        """log e_0..e_k of their weights, float64 (k + 1,); `without` leaves out one, given by its log weight.

        Newton's identities, for g_c = c! e_c / p_1**c, which is near 1: g_c = sum over j of
        (-1)**(j - 1) (c - 1) ... (c - j + 1) g_(c - j) p_j / p_1**j.
        """
        logs = np.full(k + 1, -np.inf)
        logs[0] = 0.0
        if self.empty:
            return logs
        powers = self.powers
        if without is not None:
            powers = powers - np.exp(without - self._log_unit) ** np.arange(1, len(powers) + 1)
        ratios = powers / powers[0] ** np.arange(1, len(powers) + 1)
        g = np.ones(k + 1)
        for c in range(1, k + 1):
            falling, total = 1.0, 0.0
            for j in range(1, min(c, len(powers)) + 1):
                total += (-1.0) ** (j - 1) * falling * g[c - j] * ratios[j - 1]
                falling *= c - j
            g[c] = total
            logs[c] = c * (self._log_unit + math.log(powers[0])) + math.log(total) - math.lgamma(c + 1)
        return logs

    def log_weights(self, drawn: Candidates) -> Doubles:
        """Log odds of candidates among these."""
        shares = drawn.scores - self.mass
        return shares - np.log1p(-np.exp(shares))

    def draw(self, count: int, uniforms: Callable[[int, int], Doubles]) -> Candidates:
        """`count` of these, a set with probability proportional to the product of its weights.

        Independent draws by weight until they are distinct. `uniforms(count, purpose)` gives numbers in (0, 1).
        """
        chosen = np.zeros(0, np.int64)
        for attempt in count_up(1) if count else ():
            u = uniforms(2 * count, attempt)
            chosen = np.unique([self._one(*pair) for pair in u.reshape(count, 2)])
            if len(chosen) == count:
                break
        beams, tokens = np.divmod(chosen, self.logits.shape[1])
        return Candidates(beams, tokens, self.logits[beams, tokens] + self.offsets[beams])

    def _one(self, u: float, within: float) -> int:
        """Beam times V plus token of one draw by weight."""
        block = place_of(self._cumulated, u)
        beam, start = block // self.blocks.shape[1], block % self.blocks.shape[1] * BLOCK
        x = self.logits[beam, start : start + BLOCK]
        e = np.exp(np.minimum(x + self.offsets[beam] - self.top, 0.0))
        weights = np.cumsum(np.where(x <= self.cuts[beam], e / (1.0 - math.exp(self._log_unit) * e), 0.0))
        token = start + place_of(weights, within)
        return beam * self.logits.shape[1] + token

    @property
    def _log_unit(self) -> float:
        return self.top - self.mass

    @cached_property
    def _cumulated(self) -> Doubles:
        return np.cumsum(self.blocks)


def rest_below(logits: Floats, offsets: Doubles, cuts: Floats, mass: float, k: int) -> Rest:
    """The candidates with logits[b, v] <= cuts[b], for draws of at most k; `mass` is the log probability of all.

    Two scans of the logits, the second with min(k, 12) powers.
    """
    tops = (
        np.array([_largest_below(one_form(x), cut) for x, cut in zip(logits, cuts, strict=True)], np.float64) + offsets
    )
    top = float(tops.max())
    powers = np.zeros(min(k, _POWERS))
    blocks = np.zeros((len(logits), (logits.shape[1] + BLOCK - 1) // BLOCK))
    share = 0.0
    for row, x in enumerate(logits):
        # what is 60 below the largest of all is 1e-26 of it, and V of that still nothing
        if tops[row] > -math.inf and tops[row] > top - 60.0:
            unit = np.float32(math.exp(top - mass))
            share += _sums(one_form(x), cuts[row], np.float32(top - offsets[row]), unit, powers, blocks[row])
    log_share = top - mass + math.log(share) if share > 0 else -math.inf
    return Rest(logits, offsets, cuts, mass, top, powers, blocks, log_share)


@kernel
def _largest_below(x: Any, cut: Any) -> Any:
    lanes = np.full(LANES, np.float32(-np.inf))
    whole = len(x) // LANES
    for i in range(whole):
        row = x[i * LANES : i * LANES + LANES]
        for j in range(LANES):
            value = row[j] if row[j] <= cut else np.float32(-np.inf)
            lanes[j] = value if value > lanes[j] else lanes[j]
    for i in range(whole * LANES, len(x)):
        if x[i] <= cut and x[i] > lanes[0]:
            lanes[0] = x[i]
    return lanes.max()


@kernel
def _sums(x: Any, cut: Any, top: Any, unit: Any, powers: Any, blocks: Any) -> Any:
    """Adds to `powers`, fills `blocks`, returns the sum of exp(x - top): all over x <= cut."""
    e, high, lanes = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(LANES, np.float32)
    one = np.float32(1)
    total = 0.0
    for b in range(len(blocks)):
        block = x[b * BLOCK : b * BLOCK + BLOCK]
        part = e[: len(block)]
        exp_block(block, top, part)
        for i in range(len(block)):
            part[i] = part[i] if block[i] <= cut else np.float32(0)
        total += lane_sum(part, lanes)
        for i in range(len(block)):
            z = unit * part[i]
            # 1 / (1 - z) for z <= 1/16, as `even_for` wants it: a division would not be vectorised, squares would underflow
            odds = one + z * (one + z * (one + z * (one + z * (one + z * (one + z)))))
            part[i] = part[i] * odds
        blocks[b] = lane_sum(part, lanes)
        powers[0] += blocks[b]
        if blocks[b] > _SMALL:
            _add_powers(part, high[: len(block)], lanes, powers)
    return total


@kernel
def _add_powers(w: Any, high: Any, lanes: Any, powers: Any) -> Any:
    """Sums of w**2, w**3, ... Numbers that would underflow on the way count as 0; they are nothing beside the sum of w."""
    for i in range(len(w)):
        high[i] = w[i] if w[i] > _SMALL else np.float32(0)
    for j in range(1, len(powers)):
        if j == 4:
            for i in range(len(w)):
                high[i] = high[i] if w[i] > _MIDDLE else np.float32(0)
        for i in range(len(w)):
            high[i] *= w[i]
        powers[j] += lane_sum(high, lanes)

"""KL-divergence guided temperature."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from kofn.core.block import Floats
from kofn.core.logits import top_of, total
from kofn.decode.rules.rule import Interval, Rule
from kofn.decode.rules.support import Support
from kofn.errors import UsageError


@dataclass(frozen=True)
class KLGuidedTemperature(Rule):
    """A temperature that falls where the source matters (Chang et al., KL-divergence guided temperature sampling, 2023).

    Two rows are compared: p, of the prompt with its source document, and q, of the prompt without it (`beside`). The
    temperature is t 2 ** (-KL(p || q) / half_life): t itself where the source changes nothing, greedy in the limit.
    Both rows must follow the same emitted tokens: read two prompts, and give each drawn token to both states.

    The formula and the half-life (the paper's sigma, `kl_bandwidth` of its code) are those of the authors' code, with
    two differences below what text shows: that code clips every probability at 1e-7 before the divergence, which bounds
    it and shifts it on large vocabularies, and it never goes below a temperature of 1e-4; here the divergence is exact,
    and the floor is 1e-6.

    Parameters
    ----------
    temperature : float
        t > 0.
    half_life : float
        Nats of divergence that halve the temperature, > 0.

    Cost: five passes over two rows. O(V) time.
    """

    temperature: float
    _: KW_ONLY
    half_life: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "half_life"):
            Interval(0, math.inf, True, True).checked(
                "KLGuidedTemperature", name, getattr(self, name), "KLGuidedTemperature(1.0, half_life=1.0)"
            )

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        if support.beside is None:
            raise UsageError("KLGuidedTemperature compares two rows: give the logits without the source as beside=")
        other = support.beside if support.tokens is None else support.beside[support.tokens]
        temperature = self.temperature * 2.0 ** (-divergence(support.values, other) / self.half_life)
        # below this only ties of the best have chances that float32 can tell from 0
        return support.cooled(max(temperature, min(self.temperature, 1e-6)))


def divergence(x: Floats, y: Floats) -> float:
    """KL(softmax(x) || softmax(y)) in nats; infinite where y lacks a token that x has."""
    x_top, y_top = top_of(x), top_of(y)
    if y_top == -math.inf:
        return math.inf
    e = np.exp(x - np.float32(x_top), dtype=np.float32)
    possible = np.flatnonzero(e)
    z = float(e.sum(dtype=np.float64))
    gap = (x[possible] - np.float32(x_top)).astype(np.float64) - (y[possible] - np.float32(y_top))
    return max(float(e[possible] @ gap) / z - math.log(z) + math.log(total(y, y_top)), 0.0)

"""Temperature."""

from __future__ import annotations

from dataclasses import dataclass

from kofn.decode.rules.rule import Interval, Rule
from kofn.decode.rules.support import Support


@dataclass(frozen=True)
class Temperature(Rule):
    """Divide logits by a temperature (Ackley, Hinton, Sejnowski, A learning algorithm for Boltzmann machines, 1985).

    Below 1 the law is sharpened, above 1 flattened. Before a truncation it changes what TopP, Typical, MinP, Epsilon,
    Eta and TopH keep; after one it only changes the chances of what is kept.

    Parameters
    ----------
    temperature : float
        > 0. For the limit 0 take TopK(1).

    Cost: one pass over what is left of the row.
    """

    temperature: float

    def __post_init__(self) -> None:
        example = "Temperature(0.8), or TopK(1) for greedy decoding"
        Interval(0, float("inf"), True, True).checked("Temperature", "temperature", self.temperature, example)

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        return support if self.temperature == 1 else support.cooled(self.temperature)

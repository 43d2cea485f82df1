"""Measures of next-token laws: how uncertain a model is, and what a rule leaves of its law."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.block import Doubles
from kofn.core.logits import total_and_moment
from kofn.decode.model import checked_rule
from kofn.decode.rules.rows import rows_of
from kofn.decode.rules.rule import Interval, Rule, entries, whole
from kofn.decode.rules.support import Support
from kofn.errors import ParameterError, UsageError


class Measure(ABC):
    """A number for each row of logits."""

    @abstractmethod
    def of(self, support: Support) -> float:
        """The number of one row."""

    def __call__(self, logits: Any) -> Any:
        """Logits (..., V), NumPy or torch, to numbers (...), float64, of the same kind."""
        rows = rows_of(logits)
        return rows.numbers(np.array([self.of(support) for support in entries(rows, None)], np.float64))


@dataclass(frozen=True)
class Entropy(Measure):
    """Shannon entropy in nats, 0 to log V."""

    def of(self, support: Support) -> float:
        """See `Measure`."""
        return support.entropy()


@dataclass(frozen=True)
class TopKEntropy(Measure):
    """Entropy in nats of the k best tokens' renormalised law, 0 to log k: uncertainty that a long tail does not hide."""

    k: int = 10

    def __post_init__(self) -> None:
        whole("TopKEntropy", "k", self.k, "TopKEntropy(10)")

    def of(self, support: Support) -> float:
        """See `Measure`."""
        return support.best(self.k).entropy()


@dataclass(frozen=True)
class Perplexity(Measure):
    """exp of the entropy: how many equally likely tokens would be as uncertain, 1 to V."""

    def of(self, support: Support) -> float:
        """See `Measure`."""
        return math.exp(support.entropy())


@dataclass(frozen=True)
class RenyiEntropy(Measure):
    """log(sum p ** alpha) / (1 - alpha) in nats (Rényi, On measures of entropy and information, 1961).

    alpha = 2 is the collision entropy, whose exp(-H) is the chance that two draws agree; large alphas look at the best
    token only (min-entropy is -log max p).
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        Interval(0, math.inf, True, True).checked("RenyiEntropy", "alpha", self.alpha, "RenyiEntropy(2.0)")

    def of(self, support: Support) -> float:
        """See `Measure`."""
        if self.alpha == 1:
            return support.entropy()
        powered = support.revalued(support.values * np.float32(self.alpha)).log_total()
        return (powered - self.alpha * support.log_total()) / (1 - self.alpha)


@dataclass(frozen=True)
class Varentropy(Measure):
    """Variance of the surprise -log p, in squared nats: 0 for laws that are uniform on their support."""

    def of(self, support: Support) -> float:
        """See `Measure`."""
        top = support.top
        z, moment = total_and_moment(support.values, top)
        below = support.values.astype(np.float64) - top
        e = np.exp(below)
        off = np.where(e > 0, below, 0.0) - moment / z
        return float((e * off * off).sum() / e.sum())


@dataclass(frozen=True)
class LeastConfidence(Measure):
    """1 - max p."""

    def of(self, support: Support) -> float:
        """See `Measure`."""
        return -math.expm1(support.top - support.log_total())


@dataclass(frozen=True)
class Margin(Measure):
    """Probability of the best token less that of the second; 1 where there is no second. Small: the model wavers."""

    def of(self, support: Support) -> float:
        """See `Measure`."""
        best = np.sort(support.best(2).values.astype(np.float64))[::-1]
        log_total = support.log_total()
        return float(np.exp(best[0] - log_total) - (np.exp(best[1] - log_total) if len(best) > 1 else 0.0))


@dataclass(frozen=True)
class KeptSize(Measure):
    """How many tokens a rule leaves; the rule must be a `Rule`, which has no memory."""

    rule: Rule

    def __post_init__(self) -> None:
        _checked(self)

    def of(self, support: Support) -> float:
        """See `Measure`."""
        return float(len(self.rule.narrow(support).kept()))


@dataclass(frozen=True)
class KeptMass(Measure):
    """Share of the row's own law that the tokens hold that a rule leaves, 0 to 1; the rule as in `KeptSize`."""

    rule: Rule

    def __post_init__(self) -> None:
        _checked(self)

    def of(self, support: Support) -> float:
        """See `Measure`."""
        return math.exp(LogKeptMass(self.rule).of(support))


@dataclass(frozen=True)
class LogKeptMass(Measure):
    """log of the kept mass: the local normalisation distortion of one step (Kempton, Burrell, Local normalization
    distortion and the thermodynamic formalism of decoding strategies for large language models, 2024).

    A truncation rule divides by the kept mass M_t at each step, so a sequence that passed through steps of small mass is
    more probable than the model's law, restricted to the sequences that the rule allows and normalised once, would have
    it: log(local / global) = -sum log M_t + constant. `correction_weights` undoes it. The rule as in `KeptSize`.
    """

    rule: Rule

    def __post_init__(self) -> None:
        _checked(self)

    def of(self, support: Support) -> float:
        """See `Measure`."""
        kept = self.rule.narrow(support).kept()
        return min(Support(support.values[kept]).log_total() - support.log_total(), 0.0)


def _checked(measure: KeptSize | KeptMass | LogKeptMass) -> None:
    """Errors for a measure of what is no rule, or of one that remembers: its answer depends on more than the row."""
    name, rule = type(measure).__name__, measure.rule
    checked_rule(name, rule)
    if not isinstance(rule, Rule):
        raise ParameterError(
            f"{name}: rule={rule!r} is no Rule; give one of kofn.decode, for example {name}(MinP(0.1))"
        )


def correction_weights(log_masses: Any) -> Doubles:
    """Weights that turn sequences drawn under a truncation rule into a sample of the globally normalised law.

    Parameters
    ----------
    log_masses : array (n, steps)
        `LogKeptMass` of each step of each sequence; 0 after its end.

    Returns
    -------
    float64 (n,)
        Proportional to the product of the kept masses, summing to 1. Self-normalised importance weights: averages
        with them are consistent as n grows; their effective number is 1 / sum w ** 2.
    """
    logs = np.asarray(log_masses, np.float64)
    if logs.ndim != 2 or not len(logs):
        raise UsageError(f"log_masses have shape {logs.shape}; give (n, steps), a row for each sequence")
    total = logs.sum(axis=1)
    weights = np.exp(total - total.max())
    return weights / weights.sum()

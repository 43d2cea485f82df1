"""Tiltings of a base law: best-of-n, the exponential tilt of the rank, the tilt by reward; and the BoNBoN loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kofn.decode.answers.best_of import best_of_n_kl_bound, best_of_n_law
from kofn.decode.answers.laws import Doubles, check_law, finite, kl_divergence, positive, ranked, whole
from kofn.errors import DataError, ParameterError


@dataclass(frozen=True)
class BestOfNTilt:
    """The base law times n u^(n - 1), where u is the share of base draws that an answer beats.

    Parameters
    ----------
    n : int
        Draws, at least 1.

    Notes
    -----
    Gui, Garbacea and Veitch, "BoNBoN Alignment for Large Language Models and the Sweetness of Best-of-n Sampling", 2024.
    """

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", whole(self.n, "n"))

    def density(self, u: ArrayLike) -> Doubles:
        """Density of the rank u in [0, 1] relative to the base law."""
        return np.asarray(self.n * np.asarray(u, np.float64) ** (self.n - 1))

    @property
    def win_rate(self) -> float:
        """Against the base law, for a continuous reward: n / (n + 1)."""
        return self.n / (self.n + 1)

    @property
    def kl(self) -> float:
        """From the base law, for a continuous reward: log n - (n - 1) / n."""
        return best_of_n_kl_bound(self.n)

    def law(self, p: ArrayLike, rewards: ArrayLike) -> Doubles:
        """The tilt of a discrete law, float64 (V,): each level gets the density's integral over its ranks."""
        return best_of_n_law(p, rewards, self.n)


@dataclass(frozen=True)
class ExponentialTilt:
    """The base law times exp(rate u), normalised: of all tiltings of one KL that of highest win rate.

    Parameters
    ----------
    rate : float
        At least 0; 0 is the base law.

    Notes
    -----
    Gui, Garbacea and Veitch 2024: the optimum that best-of-n is "essentially" equal to. For a continuous reward its win
    rate at the KL of best-of-n is higher by 0.0092 at n = 2, by 0.0040 at n = 4 and by less than 0.001 from n = 8 on.
    """

    rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", positive(self.rate, "rate", zero=True))

    @classmethod
    def at_kl(cls, kl: float) -> ExponentialTilt:
        """The exponential tilt that is `kl` nats away from the base law of a continuous reward."""
        from scipy.optimize import brentq

        wanted = positive(kl, "kl", zero=True)
        if wanted == 0:
            return cls(0.0)
        # KL grows with the rate, is below rate^2 / 24 and, for large rates, above log(rate) - 1.
        low, high = np.sqrt(12 * wanted), max(np.exp(wanted + 2), 10 * np.sqrt(wanted))
        return cls(float(brentq(lambda rate: cls(rate).kl - wanted, low, high, xtol=1e-14, rtol=1e-14)))

    def density(self, u: ArrayLike) -> Doubles:
        """Density of the rank u in [0, 1] relative to the base law."""
        rank, c = np.asarray(u, np.float64), self.rate
        return np.asarray(np.ones_like(rank) if c == 0 else c * np.exp(c * (rank - 1)) / -np.expm1(-c))

    @property
    def win_rate(self) -> float:
        """Against the base law, for a continuous reward: 1 / (1 - exp(-rate)) - 1 / rate."""
        c = self.rate
        if c < 0.02:  # the difference would lose digits; the series is exact to 1e-15
            return 0.5 + c / 12 - c**3 / 720
        return float(-1 / np.expm1(-c) - 1 / c)

    @property
    def kl(self) -> float:
        """From the base law, for a continuous reward, in nats."""
        c = self.rate
        if c < 0.02:
            return c**2 / 24 - c**4 / 960
        return float(c * (self.win_rate - 1) - np.log(-np.expm1(-c) / c))

    def law(self, p: ArrayLike, rewards: ArrayLike) -> Doubles:
        """The tilt of a discrete law, float64 (V,): each level gets the density's integral over its ranks."""
        law, c = ranked(p, rewards), self.rate
        level = law.mass if c == 0 else np.exp(-c * law.above) * np.expm1(-c * law.mass) / np.expm1(-c)
        return law.spread(level)


@dataclass(frozen=True, eq=False)
class RewardTilt:
    """The base law times exp(reward / temperature): what reward maximisation under a KL penalty leads to.

    Attributes
    ----------
    law : float64 (V,)
        The tilted law.
    temperature : float
        The penalty's coefficient, often written beta.
    kl : float
        KL(law || base) in nats.
    """

    law: Doubles
    temperature: float
    kl: float


def reward_tilt(p: ArrayLike, rewards: ArrayLike, temperature: float) -> RewardTilt:
    """p exp(rewards / temperature) / Z: the optimum of RLHF and DPO, the limit of soft best-of-n and of Q-probe."""
    base, values = check_law(p), finite(rewards, "rewards")
    if base.shape != values.shape:
        raise DataError(f"p has {len(base)} outcomes and rewards {len(values)}; give one reward an outcome")
    beta = positive(temperature, "temperature")
    exponent = (values - values[base > 0].max()) / beta
    weight = base * np.exp(np.minimum(exponent, 0.0))
    law = weight / weight.sum()
    return RewardTilt(law=law, temperature=beta, kl=kl_divergence(law, base))


def reward_tilt_at_kl(p: ArrayLike, rewards: ArrayLike, kl: float) -> RewardTilt:
    """The tilt by reward that is `kl` nats away from the base law; the temperature is found by bisection.

    Raises
    ------
    ParameterError
        When no temperature reaches `kl`: the limit is -log of the probability of the highest reward.
    """
    from scipy.optimize import brentq

    wanted, law = positive(kl, "kl"), ranked(p, rewards)
    most = -float(np.log(law.mass[-1]))
    if wanted >= most:
        raise ParameterError(
            f"kl={wanted:g} is out of reach: every tilt by reward stays below {most:g} nats; ask for less"
        )
    spread = float(law.rewards[-1] - law.rewards[0])

    def excess(log_strength: float) -> float:
        return reward_tilt(p, rewards, spread / np.exp(log_strength)).kl - wanted

    low, high = -1.0, 1.0
    while excess(low) > 0:
        low -= 2
    while excess(high) < 0:
        high += 1
    root = float(brentq(excess, low, high, xtol=1e-13, rtol=1e-13))
    return reward_tilt(p, rewards, spread / np.exp(root))


@dataclass(frozen=True, eq=False)
class BoNBoNLoss:
    """The loss and its gradient.

    Attributes
    ----------
    value : float
        alpha sft + (1 - alpha) ipo.
    sft : float
        Minus the mean log-probability of the best answers.
    ipo : float
        Mean squared distance of the log-ratio gap from its target.
    best_gradient, worst_gradient : float64 (m,)
        Derivative of the value by the policy's log-probability of each best and each worst answer.
    """

    value: float
    sft: float
    ipo: float
    best_gradient: Doubles
    worst_gradient: Doubles


@dataclass(frozen=True, kw_only=True)
class BoNBoN:
    """Teach a policy to answer as best-of-n does: fit the best of n draws, and its contrast to the worst.

    The supervised part is -log pi(best). The contrastive part is IPO's square with the coefficient at which best-of-n
    meets the target on average: under best-of-n, log(pi / base) of the best less that of the worst has the mean
    (n - 1) (1 + 1/2 + ... + 1/(n - 1)) for a continuous reward.

    The supervised part alone has best-of-n as its only optimum. The contrastive part alone has not (its optimum on a
    full table is close to an exponential tilt of the rank), so alpha matters; see docs/decode/answers.md for figures.

    Parameters
    ----------
    n : int
        Draws that best and worst were chosen from, at least 2.
    alpha : float in [0, 1]
        Weight of the supervised part; the paper's experiments use 0.005.

    Notes
    -----
    Gui, Garbacea and Veitch, "BoNBoN Alignment for Large Language Models and the Sweetness of Best-of-n Sampling", 2024.
    """

    n: int
    alpha: float = 0.005

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", whole(self.n, "n", least=2))
        if positive(self.alpha, "alpha", zero=True) > 1:
            raise ParameterError(f"alpha={self.alpha!r} is above 1; give a share from 0 to 1, for example alpha=0.005")

    @property
    def target(self) -> float:
        """The gap of log-ratios, 1 / (2 beta_n) = (n - 1) (1 + 1/2 + ... + 1/(n - 1))."""
        return float((self.n - 1) * np.sum(1.0 / np.arange(1, self.n)))

    def loss(
        self, best: ArrayLike, worst: ArrayLike, base_best: ArrayLike, base_worst: ArrayLike, weights: Any = None
    ) -> BoNBoNLoss:
        """Loss of pairs, from log-probabilities of whole answers. O(m) time.

        Parameters
        ----------
        best, worst : (m,)
            The policy's log-probability of the best and of the worst of n draws.
        base_best, base_worst : (m,)
            The base law's.
        weights : (m,), optional
            How much each pair counts; scaled to sum to one. Default: all alike.
        """
        high, low = finite(best, "best"), finite(worst, "worst")
        base_high, base_low = finite(base_best, "base_best"), finite(base_worst, "base_worst")
        share = np.ones(len(high)) if weights is None else finite(weights, "weights")
        if not len(high) == len(low) == len(base_high) == len(base_low) == len(share):
            lengths = [len(each) for each in (high, low, base_high, base_low, share)]
            raise DataError(f"best, worst, base_best, base_worst and weights have lengths {lengths}; give one a pair")
        if (share < 0).any() or share.sum() == 0:
            raise DataError("weights are negative or all 0; give each pair a weight of at least 0, and one above")
        share = share / share.sum()
        gap = high - low - (base_high - base_low) - self.target
        sft, ipo = float(-share @ high), float(share @ gap**2)
        pull = 2 * (1 - self.alpha) * share * gap
        return BoNBoNLoss(
            value=self.alpha * sft + (1 - self.alpha) * ipo,
            sft=sft,
            ipo=ipo,
            best_gradient=pull - self.alpha * share,
            worst_gradient=-pull,
        )

    def bandit_loss(
        self, logits: ArrayLike, p: ArrayLike, best: ArrayLike, worst: ArrayLike, weights: Any = None
    ) -> tuple[float, Doubles]:
        """Loss and gradient by the logits of a softmax policy over V outcomes.

        Parameters
        ----------
        logits : (V,)
            The policy is softmax(logits).
        p : (V,)
            The base law.
        best, worst : int (m,)
            Outcomes: the best and the worst of each n draws.
        weights : (m,), optional
            How much each pair counts.

        Returns
        -------
        value : float
        gradient : float64 (V,)
        """
        scores, base = finite(logits, "logits"), check_law(p)
        high, low = _outcomes(best, "best", len(scores)), _outcomes(worst, "worst", len(scores))
        if len(base) != len(scores):
            raise DataError(f"p has {len(base)} outcomes and logits {len(scores)}; give one logit an outcome")
        log_pi = scores - scores.max()
        log_pi = log_pi - np.log(np.exp(log_pi).sum())
        with np.errstate(divide="ignore"):  # an outcome that the base law never draws is refused by name in `loss`
            log_base = np.log(base)
        loss = self.loss(log_pi[high], log_pi[low], log_base[high], log_base[low], weights)
        pull = np.bincount(high, loss.best_gradient, len(scores)) + np.bincount(low, loss.worst_gradient, len(scores))
        return loss.value, pull - pull.sum() * np.exp(log_pi)


def _outcomes(values: ArrayLike, name: str, size: int) -> Any:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 1 or (array < 0).any() or (array >= size).any():
        raise DataError(f"{name} is not a row of outcomes; give whole numbers from 0 to {size - 1}")
    return array

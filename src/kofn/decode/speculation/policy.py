"""How many tokens to draft: a number, or a policy that looks at what was drafted so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from kofn.core.block import Doubles
from kofn.core.numbers import is_whole
from kofn.decode.speculation.law import Law
from kofn.errors import ParameterError, UsageError


class Draft(NamedTuple):
    """A drafted token and what the drafter says of it.

    Attributes
    ----------
    token : int
    depth : int
        0 for the first of its block.
    probability : float
        q(token).
    confidence : float
        The largest probability of q.
    entropy : float
        Of q, in nats.

    The law q of these figures is the drafter's before its rule, where it has one.
    """

    token: int
    depth: int
    probability: float
    confidence: float
    entropy: float

    @classmethod
    def of(cls, law: Law, token: int, depth: int) -> Draft:
        """The token and its law's figures. O(V)."""
        law = law if law.before is None else law.before
        return cls(token, depth, law.probability(token), math.exp(law.top - law.normalizer), law.entropy())

    def features(self) -> tuple[float, float, float, float]:
        """What an acceptance head sees: depth, log q(token), log of the largest probability, entropy."""
        floor = 1e-30
        return (
            float(self.depth),
            math.log(max(self.probability, floor)),
            math.log(max(self.confidence, floor)),
            self.entropy,
        )


@runtime_checkable
class Policy(Protocol):
    """When a draft ends."""

    @property
    def limit(self) -> int:
        """Most tokens of a draft."""

    def stops(self, drafts: Sequence[Draft]) -> bool:
        """Whether the block ends after these tokens (one at least). It must see nothing else: then the law is kept."""


@dataclass(frozen=True)
class Fixed:
    """Always as many."""

    limit: int

    def stops(self, drafts: Sequence[Draft]) -> bool:
        """Never before the limit."""
        return False


def confidence(draft: Draft) -> float:
    """The drafter's largest probability, as if it were the chance of acceptance."""
    return draft.confidence


@dataclass(frozen=True)
class Threshold:
    """Stop drafting once a rejection has become too probable: when 1 - product of predicted acceptances > h.

    Parameters
    ----------
    h : float
        In [0, 1]. 0 stops at the first token that is not certain, 1 goes on to the limit.
    limit : int
        Most tokens of a draft.
    predictor : callable
        `Draft` -> chance that the target accepts it, given that it accepted those before it: `confidence`, a fitted
        `AcceptanceHead`, or your own.

    Notes
    -----
    Huang, Guo and Wang, "SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths", 2025. Drafting is a
    Markov decision process: a draft costs c1, a target pass c2. Where acceptances are a_1, a_2, ... i.i.d. and known once
    drafted, one more draft is worth its cost as long as g P E[a] > c1, with P the product so far and g the cost of a token
    under the best policy. P only falls, so looking one step ahead is optimal, and the policy is the threshold
    h = 1 - c1 / (g E[a]). The output's law does not depend on the policy: it sees drafts, never the target.
    """

    h: float
    _: KW_ONLY
    limit: int = 16
    predictor: Callable[[Draft], float] = confidence

    def __post_init__(self) -> None:
        if isinstance(self.h, bool) or not isinstance(self.h, int | float | np.number) or not 0 <= self.h <= 1:
            raise ParameterError(f"h={self.h!r} is not a probability; give a number from 0 to 1, for example h=0.5")
        checked_whole("limit", self.limit)

    def stops(self, drafts: Sequence[Draft]) -> bool:
        """See `Policy`."""
        return 1 - math.prod(self.predictor(draft) for draft in drafts) > self.h


@dataclass(frozen=True)
class AcceptanceHead:
    """A logistic regression on the drafter's figures that predicts whether the target accepts.

    SpecDec++ trains a small network on the draft model's hidden states; four figures that every drafter has, and a linear
    model, stand here for it. The labels are the paper's: the chances min(1, p/q) themselves, not coin flips.

    Attributes
    ----------
    weights : tuple of float
        Of `Draft.features`.
    bias : float
    """

    weights: tuple[float, ...]
    bias: float

    @classmethod
    def fit(cls, features: Doubles, chances: Doubles, *, rejection_weight: float = 1.0) -> AcceptanceHead:
        """Fit to logged rounds: `details["features"]` and `details["chances"]` of a decoder's answer.

        Parameters
        ----------
        features : float64 (m, 4)
        chances : float64 (m,)
            Chances of acceptance, in [0, 1].
        rejection_weight : float
            How much a rejection counts beside an acceptance; the paper weighs it 6, because rejections are rare.
            Probabilities are calibrated at 1.
        """
        from sklearn.linear_model import LogisticRegression

        x, y = np.asarray(features, np.float64), np.asarray(chances, np.float64)
        if x.ndim != 2 or len(x) != len(y) or not len(x):
            raise UsageError(
                f"features of shape {x.shape} for chances of shape {y.shape}; give one row for each chance"
            )
        if not y.min() < 1 or not y.max() > 0:
            raise UsageError("all chances are 0, or all are 1: there is nothing to learn; log more rounds")
        if rejection_weight <= 0:
            raise ParameterError(f"rejection_weight={rejection_weight} is not positive; give for example 1 or 6")
        middle, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
        # a soft label is an accepted and a rejected row, weighted
        rows = np.concatenate([x, x])
        weight = np.concatenate([y, rejection_weight * (1 - y)])
        label = np.repeat([1, 0], len(x))
        model: Any = LogisticRegression(C=100.0, max_iter=1_000).fit(
            (rows - middle) / scale, label, sample_weight=weight
        )
        slopes = model.coef_[0] / scale
        return cls(tuple(float(w) for w in slopes), float(model.intercept_[0] - slopes @ middle))

    def __call__(self, draft: Draft) -> float:
        """The predicted chance."""
        score = self.bias + sum(w * x for w, x in zip(self.weights, draft.features(), strict=True))
        return 1 / (1 + math.exp(-score)) if score > -700 else 0.0


def policy_of(length: int | Policy) -> Policy:
    """A number of tokens as a policy; a policy as it is."""
    if isinstance(length, Policy):
        return length
    checked_whole("length", length)
    return Fixed(length)


def checked_whole(name: str, value: object) -> None:
    """An error for what is no whole number >= 1."""
    if not is_whole(value, 1):
        raise ParameterError(f"{name}={value!r} is not a whole number >= 1; give one, for example {name}=4")

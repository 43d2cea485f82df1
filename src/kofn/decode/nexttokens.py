"""The next-token table: the best tokens of a law, and where each rule cuts it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.block import Floats
from kofn.decode.rules.rows import rows_of
from kofn.decode.rules.rule import Rule, entries
from kofn.decode.rules.stateful import Stateful
from kofn.decode.rules.support import Support, Tokens


@dataclass(frozen=True, eq=False)
class Cut:
    """What one rule makes of one law.

    Attributes
    ----------
    size : int
        Tokens kept.
    mass : float
        Their share of the law that came in.
    chances : dict of int to float
        Of the tokens shown: token to probability after the rule; those left out are absent.
    last : int
        Number of shown tokens up to and with the last that is kept; a rule cuts a prefix where `last` of them are kept.
    """

    size: int
    mass: float
    chances: dict[int, float]
    last: int


@dataclass(frozen=True, eq=False)
class NextTokens:
    """The best tokens of one law, and each rule's cut.

    Attributes
    ----------
    temperature : float
        The logits were divided by it before anything else.
    tokens : int64 (shown,)
        By falling probability, ties by number.
    probabilities : tuple of float
        Of these tokens, before the rules.
    entropy : float
        In nats, before the rules.
    cuts : tuple of Cut
        One for each rule.
    """

    temperature: float
    tokens: Tokens
    probabilities: tuple[float, ...]
    entropy: float
    cuts: tuple[Cut, ...]

    def as_dict(self, decode: Callable[[int], str], names: Sequence[str]) -> dict[str, Any]:
        """For JSON."""
        return {
            "temperature": self.temperature,
            "entropy": self.entropy,
            "tokens": [
                {
                    "token": int(token),
                    "text": decode(int(token)),
                    "probability": p,
                    "after": {
                        name: cut.chances.get(int(token), 0.0) for name, cut in zip(names, self.cuts, strict=True)
                    },
                }
                for token, p in zip(self.tokens, self.probabilities, strict=True)
            ],
            "rules": {name: {"kept": cut.size, "mass": cut.mass} for name, cut in zip(names, self.cuts, strict=True)},
        }


def next_tokens(
    logits: Floats, rules: Sequence[Rule | Stateful], *, temperature: float = 1.0, shown: int = 20
) -> NextTokens:
    """The `shown` best tokens of one row of logits (V,) at a temperature, and what each rule makes of the law.

    O(V) time a rule. A rule that remembers is shown as at its first step.
    """
    from kofn.decode.rules.temperature import Temperature

    (whole,) = entries(rows_of(logits), None)
    whole = Temperature(temperature).narrow(whole)
    head = whole.best(min(shown, len(whole)))
    order = np.argsort(-head.values, kind="stable")
    tokens = head.ids()[order]
    log_total = whole.log_total()
    return NextTokens(
        temperature=temperature,
        tokens=tokens,
        probabilities=tuple(math.exp(value - log_total) for value in head.values[order].tolist()),
        entropy=whole.entropy(),
        cuts=tuple(_cut(whole, rule, tokens, log_total) for rule in rules),
    )


def _cut(whole: Support, rule: Rule | Stateful, tokens: Tokens, log_total: float) -> Cut:
    kept = rule.narrow(whole) if isinstance(rule, Rule) else rule.narrow(whole, rule.memory())[0]
    ids = kept.kept()
    own = Support(whole.values[ids])
    values = kept.values[kept.values > -np.inf]
    after = kept.log_total()
    places = np.searchsorted(ids, tokens)
    chances = {
        int(token): math.exp(float(values[place]) - after)
        for token, place in zip(tokens, places.tolist(), strict=True)
        if place < len(ids) and ids[place] == token
    }
    last = max((rank for rank, token in enumerate(tokens.tolist(), 1) if token in chances), default=0)
    return Cut(len(ids), min(math.exp(own.log_total() - log_total), 1.0), chances, last)

"""Several rules, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kofn.decode.rules.rule import Rule
from kofn.decode.rules.stateful import Stateful
from kofn.decode.rules.support import Support
from kofn.errors import UsageError


@dataclass(frozen=True)
class Chain(Rule):
    """Rules from left to right, each on what the one before left: what `|` makes."""

    rules: tuple[Rule, ...]

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        for rule in self.rules:
            support = rule.narrow(support)
        return support


@dataclass(frozen=True)
class StatefulChain(Stateful):
    """Rules from left to right, of which some remember."""

    rules: tuple[Rule | Stateful, ...]

    def memory(self) -> Any:
        """A memory of each rule; None of those that have none."""
        return tuple(rule.memory() if isinstance(rule, Stateful) else None for rule in self.rules)

    def narrow(self, support: Support, memory: Any) -> tuple[Support, Any]:
        """See `Stateful`."""
        after = []
        for rule, own in zip(self.rules, memory, strict=True):
            if isinstance(rule, Stateful):
                support, own = rule.narrow(support, own)
            else:
                support = rule.narrow(support)
            after.append(own)
        return support, tuple(after)

    def learned(self, token: int, memory: Any) -> Any:
        """See `Stateful`."""
        pairs = zip(self.rules, memory, strict=True)
        return tuple(rule.learned(token, own) if isinstance(rule, Stateful) else None for rule, own in pairs)


def chained(*parts: Any) -> Chain | StatefulChain:
    """One flat chain of these rules and chains."""
    rules: list[Any] = []
    for part in parts:
        if not isinstance(part, Rule | Stateful):
            raise UsageError(f"{part!r} is no rule; compose rules as TopK(50) | MinP(0.05) | Temperature(0.8)")
        rules.extend(part.rules if isinstance(part, Chain | StatefulChain) else [part])
    if any(isinstance(rule, Stateful) for rule in rules):
        return StatefulChain(tuple(rules))
    return Chain(tuple(rules))

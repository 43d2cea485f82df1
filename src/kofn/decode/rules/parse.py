"""Rules as words: `topp=0.9|temp=1.5`."""

from __future__ import annotations

import inspect
from typing import Any

from kofn.decode.rules.chain import chained
from kofn.decode.table import rule_class
from kofn.errors import ParameterError

EXAMPLES = {
    "topk": "topk=50",
    "topp": "topp=0.9",
    "minp": "minp=0.1",
    "typical": "typical=0.9",
    "epsilon": "epsilon=9e-4",
    "eta": "eta=9e-4",
    "topnsigma": "topnsigma=1",
    "toph": "toph=0.4",
    "bregman": "bregman=1e-3,alpha=1.5",
    "temp": "temp=0.8",
    "klguided": "klguided=1,half_life=2",
    "knnlm": "knnlm=0.25",
    "mirostat": "mirostat=3",
    "selfterminating": "selfterminating=0.001,end=1",
}
"""How each is written, with the values that papers use."""


def parse_rule(text: str) -> Any:
    """The rule that `text` spells: words with values, composed by |.

    Parameters
    ----------
    text : str
        `name=value`, further parameters after commas, rules from left to right: `topk=50|minp=0.05,min_keep=2|temp=0.8`.

    Returns
    -------
    Rule or Stateful

    Raises
    ------
    UsageError, ParameterError
        An unknown word, or a value that the rule does not take.

    Examples
    --------
    >>> parse_rule("topp=0.9")
    TopP(p=0.9, min_keep=1)
    """
    rules = [_one(part.strip()) for part in text.split("|")]
    return rules[0] if len(rules) == 1 else chained(*rules)


def _one(part: str) -> Any:
    first, *rest = (piece.strip() for piece in part.split(","))
    word, equals, value = (each.strip() for each in first.partition("="))
    word = word.lower()
    cls = rule_class(word)
    example = EXAMPLES[word]
    names = list(inspect.signature(cls).parameters)
    given: dict[str, Any] = {names[0]: _value(value, first, example)} if equals else {}
    for piece in rest:
        name, equals, value = (each.strip() for each in piece.partition("="))
        if not equals or name not in names:
            raise ParameterError(
                f"{word} has no parameter {name!r}; it takes {', '.join(names)}: for example {example}"
            )
        if name in given:
            raise ParameterError(f"{part!r} gives {name} twice; write for example {example}")
        given[name] = _value(value, piece, example)
    try:
        return cls(**given)
    except TypeError:
        raise ParameterError(f"{part!r} lacks a value; write for example {example}") from None


def value_of(text: str) -> Any:
    """A number, a truth value, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text == "true" if text in ("true", "false") else text


def _value(text: str, piece: str, example: str) -> Any:
    value = value_of(text)
    if isinstance(value, str):
        raise ParameterError(f"{piece!r}: {text!r} is not a number; write for example {example}")
    return value
